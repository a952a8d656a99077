"""Write docs/options.md from the registry: `python -m tools.options > docs/options.md`."""

import sys

from containerdns.settings import OPTIONS, Option

HEAD = """\
# Options

<!-- Made by `python -m tools.options > docs/options.md`; a test compares. -->

The options of `containerdns serve`, and of `containerdns check`. Each can be given in three ways;
flags beat the environment, and that beats the file of `--config` (or `CONTAINERDNS_CONFIG`):

| flag | environment | TOML file |
| --- | --- | --- |
| `--ttl 5` | `CONTAINERDNS_TTL=5` | `ttl = 5` |
| `--domain a --domain b` | `CONTAINERDNS_DOMAIN="a b"` or `a,b` | `domain = ["a", "b"]` |
| `--wildcard`, `--no-wildcard` | `CONTAINERDNS_WILDCARD=true` | `wildcard = true` |

The values of one source replace those of a weaker one and the default; they are not added to them.
A list is emptied by one empty flag (`--search-domain ''`) or an empty array, while an empty
variable counts as none. On and off are also `true` and `false`, `yes` and `no`, `1` and `0`.

A value that cannot be used stops the start with exit status 2 and one line:

```console
$ containerdns serve --ttl 5s
containerdns: --ttl='5s': expected seconds, 0 to 3600
```

SIGHUP reads environment and file again. Some settings take effect at the next start only:
`docker`, `docker-tls`, `listen`, `http`, `workers`, `state`, `query-history` and `rate-limit`; the
log says so if one of them changed.

| option | default | in short |
| --- | --- | --- |
"""


def page() -> str:
    """Give the whole page."""
    return HEAD + "".join(map(_row, OPTIONS)) + "".join(map(_section, OPTIONS))


def _row(option: Option) -> str:
    usage = _usage(option).replace("|", "\\|")  # else the cell would end there
    return f"| [`{usage}`](#{option.key}) | {_default(option)} | {_short(option)} |\n"


def _section(option: Option) -> str:
    return (
        f"\n## {option.key}\n\n"
        f"{option.meaning}\n\n"
        f"- Flag: `{_usage(option)}`{', may be given several times' * option.is_repeatable}\n"
        f"- Environment: `{option.variable}`{_separated(option)}\n"
        f"- Default: {_default(option)}\n"
        f"- Expected: {option.expected}\n\n"
        f"Why: {option.why}\n"
    )


def _usage(option: Option) -> str:
    if option.is_switch:
        return f"{option.flag}`, `--no-{option.key}"
    return f"{option.flag} {option.metavar}"


def _default(option: Option) -> str:
    if option.default_text:
        return option.default_text
    if option.is_switch:
        return "on" if option.default == ("true",) else "off"
    return ", ".join(f"`{text}`" for text in option.default) or "none"


def _short(option: Option) -> str:
    """The first sentence."""
    head, _, _ = option.meaning.partition(". ")
    return head.rstrip(".").partition(";")[0]


def _separated(option: Option) -> str:
    if not option.is_repeatable:
        return ""
    if option.separator == "spaces":
        return ", separated by spaces"
    return ", separated by spaces or commas"


if __name__ == "__main__":
    sys.stdout.write(page())

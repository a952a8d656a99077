"""The documents that come from the code; `make docs` writes them, a test compares them."""

from collections.abc import Iterator
from pathlib import Path

from containerdns.settings import OPTIONS, Option

DOCS = Path(__file__).parent.parent / "docs"

HEAD = """\
# Options

Every option of `containerdns serve` is a flag, an environment variable and a key of a TOML file,
which `--config FILE` or `CONTAINERDNS_CONFIG` names. Flags beat environment beats file. In an
environment variable several values are separated by spaces or commas, but where it says
otherwise; an empty variable is one that is not set. Switches take `true`, `1`, `yes`, `on` and
their opposites. A wrong value stops the start with one line and exit status 2; a key that no
option has is wrong too, an environment variable that no option has is told and ignored.

```toml
domain = ["docker", "corp.example"]
ttl = 5
bare-names = true
```

What one source gives replaces what a weaker one or the default gives; nothing is added to it. One
empty flag (`--search-domain ''`) or an empty array leaves a list empty.

SIGHUP reads environment and file again. `docker`, `docker-tls`, `listen`, `http`, `workers`,
`state`, `query-history` and `rate-limit` take effect at the next start only; the log says so if
one of them changed.

<!-- `make docs` writes this page from containerdns/settings.py. -->
"""

SEPARATORS = {
    "spaces": "In the environment, several are separated by spaces, as commas are part of one.",
    "templates": "In the environment, spaces and commas inside braces separate nothing.",
}


def options_page() -> str:
    """Give docs/options.md."""
    return "\n".join([HEAD, *(line for option in OPTIONS for line in _section(option))])


def _section(option: Option) -> Iterator[str]:
    yield f"## `{_usage(option)}`"
    yield ""
    yield f"{option.meaning}{' May be given several times.' if option.is_repeatable else ''}"
    if option.separator in SEPARATORS:
        yield SEPARATORS[option.separator]
    yield ""
    yield f"Why: {option.why}"
    yield ""
    yield f"- Default: {_default(option)}"
    yield f"- Expected: {option.expected}"
    yield f"- Environment: `{option.variable}`; in the file: `{option.key}`"
    yield ""


def _usage(option: Option) -> str:
    if option.is_switch:
        return f"{option.flag}` / `--no-{option.key}"
    return f"{option.flag} {option.metavar}"


def _default(option: Option) -> str:
    if option.default_text:
        return option.default_text
    if option.is_switch:
        return "on" if option.default == ("true",) else "off"
    return ", ".join(f"`{text}`" for text in option.default) or "none"


def main() -> None:
    """Write them all."""
    DOCS.mkdir(exist_ok=True)
    (DOCS / "options.md").write_text(options_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Generate documents from the code: `make docs` writes them, a test compares them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from containerdns.config.settings import OPTIONS, Option
from containerdns.core.counters import Counters
from containerdns.core.zone.docker_labels import LABELS
from containerdns.web.metrics import Metrics
from containerdns.web.state import Gauges
from tools import rooms

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OPENAPI = ROOT / "containerdns/web/static/openapi.json"

HEAD = """\
# Options

Every option of `containerdns serve` is a flag, an environment variable and a key of a TOML file,
named by `--config FILE` or `CONTAINERDNS_CONFIG`. Flags override the environment, which overrides
the file. Several values in an environment variable are separated by spaces or commas unless stated
otherwise; an empty variable counts as unset. Switches take `true`, `1`, `yes`, `on` or their
opposites. An invalid value or an unknown key in the file is reported in one line, and the server
exits with status 2; an unknown environment variable is reported and ignored.

```toml
domain = ["docker", "corp.example"]
ttl = 5
bare-names = true
```

The values of one source replace those of a lower one and the default; lists are not merged. An
empty flag (`--search-domain ''`) or an empty array makes a list empty.

SIGHUP makes the server read the environment, the file and the files named in them again. Changes
take effect at once, except for {needing_restart}: the log says that these
wait for the next start.

<!-- `make docs` writes this page from containerdns/config/settings.py. -->
"""


# All that metrics need to show what they are.
NOTHING = Gauges("", {}, 0, 0, 0, 0, {}, {}, {}, {}, {}, 0, {}, None, {}, 0)

SEPARATORS = {
    "forwards": "In the environment, the next `DOMAIN=` begins another value.",
    "templates": "In the environment, spaces and commas inside braces do not separate values.",
}


def options_page() -> str:
    """Return the text of docs/options.md."""
    needing = [f"`{option.key}`" for option in OPTIONS if option.needs_restart]
    head = HEAD.replace("{needing_restart}", f"{', '.join(needing[:-1])} and {needing[-1]}")
    return "\n".join([head, *(line for option in OPTIONS for line in _section(option))])


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


def labels_page() -> str:
    """Return docs/labels.md with its table of labels regenerated."""
    text = (DOCS / "labels.md").read_text(encoding="utf-8")
    return _with_block(text, "labels", _labels_table())


def _labels_table() -> Iterator[str]:
    yield "| label | effect | limits | example |"
    yield "| --- | --- | --- | --- |"
    for label in LABELS:
        shown = "<br>".join(f"`containerdns.{key}={value}`" for key, value in label.examples)
        yield f"| `containerdns.{label.key}` | {label.meaning} | {label.limits} | {shown} |"


def http_page() -> str:
    """Return docs/http.md with its tables of paths and metrics regenerated."""
    text = (DOCS / "http.md").read_text(encoding="utf-8")
    text = _with_block(text, "paths", _paths_table())
    return _with_block(text, "metrics", _metrics_table())


def architecture_page() -> str:
    """Return ARCHITECTURE.md with its diagram of the rooms regenerated."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    return _with_block(text, "rooms", rooms.diagram())


def _with_block(text: str, block: str, lines: Iterator[str]) -> str:
    """Replace the lines between the comments that begin and end a block."""
    pattern = rf"(<!-- {block}: [^\n]*-->\n).*?(<!-- end -->)"
    inner = "\n".join(["", *lines, "", ""])
    made, count = re.subn(pattern, lambda found: found[1] + inner + found[2], text, flags=re.DOTALL)
    assert count == 1, f"one block of {block}, not {count}"
    return made


def _paths_table() -> Iterator[str]:
    yield "| path | response | parameters |"
    yield "| --- | --- | --- |"
    for path, item in json.loads(OPENAPI.read_text(encoding="utf-8"))["paths"].items():
        told = item["get"]
        found = [f"`{p['name']}`" for p in told.get("parameters", ()) if p.get("in") == "query"]
        first = re.split(r"(?<=\.)\s", told.get("description", ""))[0].rstrip(".")
        told_of_it = ". ".join(filter(None, (told["summary"], first)))
        yield f"| `{path}` | {told_of_it}. | {', '.join(found)} |"


def _metrics_table() -> Iterator[str]:
    yield "| metric | labels | meaning |"
    yield "| --- | --- | --- |"
    for metric in filter(None, Metrics(Counters(), lambda: iter((NOTHING,))).collect()):
        name = metric.name + ("_total" if metric.type == "counter" else "")
        labels = vars(metric)[
            "_labelnames"
        ]  # the only place where a family without samples has its label names
        kind = " A histogram." if metric.type == "histogram" else ""
        shown = ", ".join(f"`{label}`" for label in labels)
        yield f"| `{name}` | {shown} | {metric.documentation}{kind} |"


def main() -> None:
    """Write all documents."""
    (DOCS / "options.md").write_text(options_page(), encoding="utf-8")
    (DOCS / "labels.md").write_text(labels_page(), encoding="utf-8")
    (DOCS / "http.md").write_text(http_page(), encoding="utf-8")
    (ROOT / "ARCHITECTURE.md").write_text(architecture_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

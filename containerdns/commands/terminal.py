"""Output of the commands for people: tables, colours, explanations."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from containerdns.core.protocol import explanation_text
from containerdns.core.protocol.explanation_text import plain

MIN_WIDTH = 40  # columns; narrower tables are unreadable anyway
MIN_COLUMN = 8  # characters that are left of a truncated column
GAP = "  "
ELLIPSIS = "…"

RECORD_COLUMNS = ("name", "ttl", "type", "data", "container", "network", "rule")
CONTAINER_COLUMNS = ("container", "name", "addresses", "aliases")
MAX_ALIASES = 4  # further names of a container in a row; --all has the others
SHOWN_TYPES = ("A", "AAAA", "CNAME")
_UNINTERESTING = {"container id": 2, "container name, hyphens": 1}  # rules of names shown last
QUERY_COLUMNS = ("time", "client", "name", "type", "rcode", "source", "upstream", "ms")

_COLOUR_OF_RCODE = {"NOERROR": "green", "NXDOMAIN": "yellow"}
_COLOUR_OF_STYLE = {
    explanation_text.GOOD: "green",
    explanation_text.EMPTY: "yellow",
    explanation_text.BAD: "red",
}
_COLOUR_OF_LEVEL = {"ok": "green", "warning": "yellow", "error": "red"}


def wants_colour() -> bool:
    """Return whether standard output is a terminal and NO_COLOR is not set."""
    return _is_terminal() and not os.environ.get("NO_COLOR")


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()  # None if it was closed by `>&-`


def show(text: str) -> None:
    """Print a line, without colours unless they are wanted."""
    click.echo(text, color=wants_colour())


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table; on a terminal, the widest columns are truncated to fit."""
    cells = [[plain(row.get(column)) for column in columns] for row in rows]
    widths = [
        max(len(column), *(len(row[at]) for row in cells)) if cells else len(column)
        for at, column in enumerate(columns)
    ]
    if _is_terminal():
        _shrink(widths, max(MIN_WIDTH, shutil.get_terminal_size().columns))
    yield click.style(_line([column.upper() for column in columns], widths), bold=True)
    for row in cells:
        yield _line(row, widths)


def _shrink(widths: list[int], available: int) -> None:
    while sum(widths) + len(GAP) * (len(widths) - 1) > available and max(widths) > MIN_COLUMN:
        widths[widths.index(max(widths))] -= 1


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [
        cell if len(cell) <= width else cell[: width - 1] + ELLIPSIS
        for cell, width in zip(cells, widths, strict=True)
    ]
    padded = [cell.ljust(width) for cell, width in zip(fitted, widths, strict=True)]
    return GAP.join(padded).rstrip()


def zone(
    document: Mapping[str, Any],
    *,
    is_whole: bool = False,
    rtype: str | None = None,
    name: str | None = None,
) -> Iterator[str]:
    """Yield the zone: Engines, containers or records, and what is wrong.

    Args:
        document: As `/zone` returns it.
        is_whole: Each record has a row, instead of each container.
        rtype: Only records of this type, each with a row.
        name: What is wrong and remembered is shown of this name only.
    """
    yield from _engines(document)
    zones = ", ".join(plain(z["apex"]) for z in document.get("zones", ()))
    yield f"serial {document.get('serial')}: {zones}"
    yield ""
    shows_records = is_whole or rtype is not None
    columns = RECORD_COLUMNS if shows_records else CONTAINER_COLUMNS
    rows = records(document, rtype) if shows_records else container_rows(document)
    yield from table(columns, rows) if rows else ()
    if rtype is not None:
        return
    yield from _wrong(document, name)
    known = document.get("remembered", ())
    remembered = [plain(entry["name"]) for entry in known if is_about(name, entry["name"])]
    if remembered:
        yield ""
        yield f"remembered, never forwarded: {', '.join(remembered)}"


def _engines(document: Mapping[str, Any]) -> Iterator[str]:
    for engine in document.get("engines", ()):
        error = f": {plain(engine['error'])}" if engine.get("error") else ""
        state = "connected" if engine["connected"] else f"not connected{error}"
        listed = f", listed {plain(engine['last_sync'])}" if engine.get("last_sync") else ""
        colour = "green" if engine["connected"] else "red"
        out = ", left out of answers that have others" if engine.get("left_out") else ""
        yield f"{plain(engine['url'])}: {click.style(state, fg=colour)}{listed}{out}"


def _wrong(document: Mapping[str, Any], name: str | None) -> Iterator[str]:
    """Yield skipped containers, those without an address, invalid names, and lost names."""
    lost = [
        {**loss, "to": loss["winner"] or loss.get("held_for") or "nobody, as several have it"}
        for loss in document.get("losses", ())
    ]
    for title, columns, found in (
        ("Skipped containers", ("container", "reason"), document.get("skipped", ())),
        (
            "Containers without an address",
            ("container", "reason"),
            document.get("without_address", ()),
        ),
        ("Invalid names and labels", ("container", "text", "reason"), document.get("faults", ())),
        ("Names that others have", ("owner", "loser", "to", "rule"), lost),
    ):
        rows = [row for row in found if is_about(name, *(row.get(key) for key in _NAMING))]
        if rows:
            yield ""
            yield f"{title}:"
            yield from table(columns, rows)


_NAMING = ("container", "owner", "loser")  # columns with names


def is_about(name: str | None, *named: str | None) -> bool:
    """Return whether a name was given for one of these, possibly below a suffix; or none was."""
    asked = f"{name or ''}.".lower()
    return name is None or any(asked.startswith(f"{one.rstrip('.')}.") for one in named if one)


def records(document: Mapping[str, Any], rtype: str | None = None) -> list[Mapping[str, Any]]:
    """Return the records of the zone, or those of one type."""
    found: Iterable[Mapping[str, Any]] = document.get("records", ())
    return [r for r in found if rtype is None or r["type"] == rtype.upper()]


def master_file(text: str, rtype: str | None) -> list[str]:
    """Return the lines of a master file; with a type, without the records of others."""
    types = (None, rtype.upper()) if rtype else ()
    return [line for line in text.splitlines(keepends=True) if not types or _type_of(line) in types]


def is_record(line: str) -> bool:
    """Return whether a line of a master file is a record."""
    return line.strip() != "" and line[0] not in ";$"


def _type_of(line: str) -> str | None:
    """Return the type of a record; the server separates owner, TTL, class and type by tabs."""
    return line.split("\t")[3] if is_record(line) else None


def container_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each container that has records: first name, addresses, further names.

    Names are those below the first domain, or of the zone that was asked for; the same name
    below another suffix is not shown again.
    """
    kept = [r for r in document.get("records", ()) if r.get("container")]
    apexes = [z["apex"] for z in document.get("zones", ())][:1]
    below = [r for r in kept if any(r["name"].endswith(f".{apex}") for apex in apexes)]
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in below or kept:
        if record["type"] in SHOWN_TYPES:
            found.setdefault((record["container"], record.get("id") or ""), []).append(record)
    return [_container_row(container, own) for (container, _), own in sorted(found.items())]


def _container_row(container: str, own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ranked = sorted(own, key=lambda r: (_UNINTERESTING.get(r["rule"], 0), len(r["name"])))
    is_named = [r["name"] for r in ranked if (r["rule"] or "").endswith("container name")]
    every = list(dict.fromkeys([*is_named, *(r["name"] for r in ranked)]))
    name, aliases = every[0], every[1:]
    domain = name.partition(".")[2]
    spelled = [alias.removesuffix(f".{domain}").removesuffix(".") for alias in aliases]
    more = len(spelled) - MAX_ALIASES
    shown = ", ".join(spelled[:MAX_ALIASES]) + (f" +{more}" if more > 0 else "")
    data = dict.fromkeys(r["data"] for r in own)
    return {"container": container, "name": name, "addresses": ", ".join(data), "aliases": shown}


def explanation(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the outcome of each query, why, and what the client does next."""
    return explanation_text.lines(document, _painted)


def _painted(text: str, style: str) -> str:
    if style == explanation_text.BOLD:
        return click.style(text, bold=True)
    return click.style(text, fg=_COLOUR_OF_STYLE[style])


def queries(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of past queries."""
    yield from table(QUERY_COLUMNS, rows)


def query_line(query: Mapping[str, Any]) -> str:
    """Return the line for one query, with fixed column widths."""
    rcode = plain(query["rcode"])
    coloured = click.style(rcode.ljust(8), fg=_COLOUR_OF_RCODE.get(rcode, "red"))
    source = plain(query["source"])
    by = f" {plain(query['upstream'])}" if query.get("upstream") else ""
    asked = f"{plain(query['name'])} {plain(query['type'])}"
    client = plain(query["client"]).ljust(15)
    return f"{plain(query['time'])}  {client}  {coloured}  {asked}  {source}{by}  {query['ms']} ms"


def change_line(change: Mapping[str, Any]) -> str:
    """Return the line for one change of a container."""
    return f"{plain(change['time'])}  {plain(change['text'])}"


def check(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what `check` found, the remedies, and the names that would be served."""
    for finding in document["findings"]:
        mark = click.style(f"{finding['level']}:", fg=_COLOUR_OF_LEVEL[finding["level"]])
        yield f"{mark} {plain(finding['text'])}"
        if finding["remedy"]:
            yield f"    {plain(finding['remedy'])}"
    for container, served in document["names"].items():
        yield f"{plain(container)}: {plain(', '.join(served))}"
    errors, warnings = document["errors"], document["warnings"]
    yield f"{count_of(errors, 'error')}, {count_of(warnings, 'warning')}"


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, "1 error" or "2 errors"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""What the commands print for people: tables, colours, explanations."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

from containerdns.core.protocol import explanation_text
from containerdns.core.protocol.explanation_text import plain

WIDTH_LEAST = 40  # columns; below, a table is unreadable anyway
COLUMN_LEAST = 8  # characters that stay of a column that is cut
GAP = "  "
ELLIPSIS = "…"

RECORD_COLUMNS = ("name", "ttl", "type", "data", "container", "network", "rule")
QUERY_COLUMNS = ("time", "client", "name", "type", "rcode", "source", "upstream", "ms")

_COLOUR_OF_RCODE = {"NOERROR": "green", "NXDOMAIN": "yellow"}
_COLOUR_OF_STYLE = {
    explanation_text.GOOD: "green",
    explanation_text.EMPTY: "yellow",
    explanation_text.BAD: "red",
}
_COLOUR_OF_LEVEL = {"ok": "green", "warning": "yellow", "error": "red"}


def wants_colour() -> bool:
    """Return whether standard output is a terminal whose owner did not refuse (NO_COLOR)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def show(text: str) -> None:
    """Print a line, without its colours where they are not wanted."""
    click.echo(text, color=wants_colour())


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lay out rows; on a terminal the widest columns are cut until a line fits."""
    cells = [[plain(row.get(column)) for column in columns] for row in rows]
    widths = [
        max(len(column), *(len(row[at]) for row in cells)) if cells else len(column)
        for at, column in enumerate(columns)
    ]
    if sys.stdout.isatty():
        _shrink(widths, max(WIDTH_LEAST, shutil.get_terminal_size().columns))
    yield click.style(_line([column.upper() for column in columns], widths), bold=True)
    for row in cells:
        yield _line(row, widths)


def _shrink(widths: list[int], available: int) -> None:
    while sum(widths) + len(GAP) * (len(widths) - 1) > available and max(widths) > COLUMN_LEAST:
        widths[widths.index(max(widths))] -= 1


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [
        cell if len(cell) <= width else cell[: width - 1] + ELLIPSIS
        for cell, width in zip(cells, widths, strict=True)
    ]
    padded = [cell.ljust(width) for cell, width in zip(fitted, widths, strict=True)]
    return GAP.join(padded).rstrip()


def zone(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the zone: Engines, records, what was skipped, what is remembered."""
    for engine in document.get("engines", ()):
        state = "connected" if engine["connected"] else "not connected"
        listed = f", listed {plain(engine['last_sync'])}" if engine.get("last_sync") else ""
        colour = "green" if engine["connected"] else "red"
        out = ", left out of answers that have others" if engine.get("left_out") else ""
        yield f"{plain(engine['url'])}: {click.style(state, fg=colour)}{listed}{out}"
    zones = ", ".join(plain(z["apex"]) for z in document.get("zones", ()))
    yield f"serial {document.get('serial')}: {zones}"
    yield ""
    yield from table(RECORD_COLUMNS, document.get("records", ()))
    skipped = document.get("skipped", ())
    if skipped:
        yield ""
        yield from table(("container", "reason"), skipped)
    remembered = [plain(entry["name"]) for entry in document.get("remembered", ())]
    if remembered:
        yield ""
        yield f"remembered, never forwarded: {', '.join(remembered)}"


def changes(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield which records went and which came."""
    old = {_record_line(record): None for record in before}
    new = {_record_line(record): None for record in after}
    for line in old:
        if line not in new:
            yield click.style(f"- {line}", fg="red")
    for line in new:
        if line not in old:
            yield click.style(f"+ {line}", fg="green")


def _record_line(record: Mapping[str, Any]) -> str:
    return GAP.join(plain(record.get(column)) for column in RECORD_COLUMNS)


def explanation(document: Mapping[str, Any]) -> Iterator[str]:
    """Show what becomes of each query, why, and what the client does next."""
    return explanation_text.lines(document, _painted)


def _painted(text: str, style: str) -> str:
    if style == explanation_text.BOLD:
        return click.style(text, bold=True)
    return click.style(text, fg=_COLOUR_OF_STYLE[style])


def queries(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lay out past queries."""
    yield from table(QUERY_COLUMNS, rows)


def query_line(query: Mapping[str, Any]) -> str:
    """Return one query as it comes, in columns that need not be known beforehand."""
    rcode = plain(query["rcode"])
    coloured = click.style(rcode.ljust(8), fg=_COLOUR_OF_RCODE.get(rcode, "red"))
    source = plain(query["source"])
    by = f" {plain(query['upstream'])}" if query.get("upstream") else ""
    asked = f"{plain(query['name'])} {plain(query['type'])}"
    client = plain(query["client"]).ljust(15)
    return f"{plain(query['time'])}  {client}  {coloured}  {asked}  {source}{by}  {query['ms']} ms"


def change_line(change: Mapping[str, Any]) -> str:
    """Show one change of a container."""
    return f"{plain(change['time'])}  {plain(change['text'])}"


def check(document: Mapping[str, Any]) -> Iterator[str]:
    """Show what `check` found, what to do about it, and the names that would be served."""
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

"""What the commands print for people: tables, colours, explanations."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

WIDTH_LEAST = 40  # columns; below, a table is unreadable anyway
COLUMN_LEAST = 8  # characters that stay of a column that is cut
GAP = "  "
ELLIPSIS = "…"

RECORD_COLUMNS = ("name", "ttl", "type", "data", "container", "network", "rule")
QUERY_COLUMNS = ("time", "client", "name", "type", "rcode", "source", "upstream", "ms")

_COLOUR_OF_RCODE = {"NOERROR": "green", "NXDOMAIN": "yellow"}
_COLOUR_OF_LEVEL = {"ok": "green", "warning": "yellow", "error": "red"}


def wants_colour() -> bool:
    """Return whether standard output is a terminal whose owner did not refuse (NO_COLOR)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def plain(text: object) -> str:
    """Make one value safe to print: control characters that others chose become "?"."""
    if text is None:
        return ""
    return "".join(c if c.isprintable() else "?" for c in str(text))


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


def explanation(queries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield each query in turn: what becomes of it, why, and what the client does next."""
    for number, query in enumerate(queries, 1):
        outcome = _outcome(query)
        colour = _COLOUR_OF_RCODE.get(query["rcode"] or "NOERROR", "red")
        asked = click.style(f"{plain(query['name'])} {plain(query['type'])}", bold=True)
        by = f" of {plain(query['upstream'])}" if query.get("upstream") else ""
        decision = f"{plain(query['decision'])}{by}"
        yield f"{number}. {asked}: {click.style(outcome, fg=colour)} ({decision})"
        yield f"   why:  {_why(query)}"
        for record in query["records"]:
            yield f"         {_explained(record, query)}"
        yield f"   next: {_next(query, is_last=number == len(queries))}"


def _why(query: Mapping[str, Any]) -> str:
    """Return rule and reason, but not twice the same."""
    rule, reason = plain(query["rule"]), plain(query["reason"])
    return reason if rule in reason else f"{rule}: {reason}"


def _outcome(query: Mapping[str, Any]) -> str:
    if query["rcode"] is None:
        return "what the upstream says"
    if query["rcode"] == "NOERROR" and not query["records"]:
        return "NODATA"
    if query["rcode"] == "NOERROR":
        found = ", ".join(plain(record["data"]) for record in query["records"])
        return f"{found}, TTL {query['ttl']}"
    return plain(query["rcode"])


def _explained(record: Mapping[str, Any], query: Mapping[str, Any]) -> str:
    parts = [f"{plain(query['ttl'])} {plain(record['type'])} {plain(record['data'])}"]
    if record.get("container"):
        parts.append(f"container {plain(record['container'])}")
    if record.get("network"):
        parts.append(f"network {plain(record['network'])}")
    return ", ".join(parts)


def _next(query: Mapping[str, Any], *, is_last: bool) -> str:
    if query["rcode"] is None:
        return f"with an answer the client stops, else it {'fails' if is_last else 'goes on'}"
    if query["rcode"] == "NOERROR" and query["records"]:
        return "the client has its answer and stops"
    if query["rcode"] == "NOERROR":
        other = "the client's other type (A or AAAA) may have data"
        return other if is_last else f"{other}; else most go on with the next name, musl stops"
    if query["rcode"] == "NXDOMAIN":
        return "nothing is left to try: the client fails" if is_last else "the client goes on"
    return "the client asks again, or its next server"


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

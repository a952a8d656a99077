"""An explanation as text, for the terminal and for HTTP.

It is generated from the document of `/explain`, so that the command can show the response of a
server of another version.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

Paint = Callable[[str, str], str]  # a text and its style, to the text with its control sequences

GOOD, EMPTY, BAD, BOLD = "good", "empty", "bad", "bold"  # styles
_STYLES = {"NOERROR": GOOD, "NXDOMAIN": EMPTY}
ADDRESSES = ("A", "AAAA")


def plain(text: object) -> str:
    """Return a value safe to print: control characters become "?"."""
    if text is None:
        return ""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def unpainted(text: str, _style: str) -> str:
    """Return the text unchanged."""
    return text


def lines(document: Mapping[str, Any], paint: Paint = unpainted) -> Iterator[str]:
    """Yield the lines of an explanation: each query, its outcome, why, and what follows.

    Args:
        document: As `/explain` returns it.
        paint: Adds colours.
    """
    for remark in document.get("remarks", ()):
        yield plain(remark)
    groups = [list(group) for _, group in groupby(document["queries"], key=_likeness)]
    found = {query["name"]: query["type"] for query in document["queries"] if has_data(query)}
    for number, group in enumerate(groups, 1):
        is_last = group[0]["name"] == groups[-1][0]["name"]
        follows = _next(group, found.get(group[0]["name"], ""), is_last=is_last)
        yield from _query(number, group, paint, follows)


def _likeness(query: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what must be equal for queries to be shown as one."""
    keys = ("name", "decision", "rule", "rcode", "upstream", "reason", "sent")
    shown = tuple(query.get(key) for key in keys)
    return (*shown, query["type"]) if query["records"] else shown


def _query(
    number: int, group: Sequence[Mapping[str, Any]], paint: Paint, follows: str
) -> Iterator[str]:
    query = group[0]
    types = ", ".join(plain(one["type"]) for one in group)
    asked = paint(f"{plain(query['name'])} {types}", BOLD)
    by = f" of {plain(query['upstream'])}" if query.get("upstream") else ""
    outcome = paint(_outcome(query), _STYLES.get(query["rcode"] or "NOERROR", BAD))
    if not query.get("sent", True):
        yield f"{number}. {asked}: not sent, as an earlier answer ended the search"
        yield f"   else: {_outcome(query)} ({plain(query['decision'])}{by})"
        yield f"   why:  {_why(query)}"
        return
    yield f"{number}. {asked}: {outcome} ({plain(query['decision'])}{by})"
    yield f"   why:  {_why(query)}"
    for record in query["records"]:
        yield f"         {_record(record, query)}"
    yield f"   next: {follows}"


def _why(query: Mapping[str, Any]) -> str:
    """Return rule and reason, without repetition."""
    rule, reason = plain(query["rule"]), plain(query["reason"])
    return reason if rule in reason else f"{rule}: {reason}"


def has_data(query: Mapping[str, Any]) -> bool:
    """Return whether a query has the records it asked for; a dangling alias is not enough."""
    types = {record["type"] for record in query["records"]}
    return query["rcode"] == "NOERROR" and bool(types) and query["type"] in {*types, "ANY"}


def _outcome(query: Mapping[str, Any]) -> str:
    if query["rcode"] is None:
        return "the upstream's answer"
    if query["rcode"] != "NOERROR":
        return plain(query["rcode"])
    found = ", ".join(plain(record["data"]) for record in query["records"])
    if not found:
        return "NODATA"
    if not has_data(query):
        return f"an alias without {plain(query['type'])} ({found})"
    return f"{found}, TTL {query['ttl']}"


def _record(record: Mapping[str, Any], query: Mapping[str, Any]) -> str:
    parts = [f"{plain(query['ttl'])} {plain(record['type'])} {plain(record['data'])}"]
    if record.get("container"):
        parts.append(f"container {plain(record['container'])}")
    if record.get("network"):
        parts.append(f"network {plain(record['network'])}")
    return ", ".join(parts)


def _next(group: Sequence[Mapping[str, Any]], found: str, *, is_last: bool) -> str:
    """Return what a client does after an outcome.

    Args:
        group: The queries that had it: of one type, or of A and AAAA alike.
        found: A type of which the same name has data; "" if it has none.
        is_last: No further name is tried.
    """
    query = group[0]
    if query["rcode"] is None:
        return f"the client stops if there is data, else it {'fails' if is_last else 'goes on'}"
    if has_data(query):
        return "the client has its answer and stops"
    if query["rcode"] == "NOERROR":
        return _after_nodata([plain(one["type"]) for one in group], plain(found), is_last=is_last)
    if query["rcode"] == "NXDOMAIN":
        return _FAILS if is_last else "the client goes on"
    return "the client asks again, or its next server"


_FAILS = "nothing is left to try: the client fails"


def _after_nodata(types: Sequence[str], found: str, *, is_last: bool) -> str:
    if found:
        return f"the client has the {found} record and stops"
    if len(types) == 1 and types[0] in ADDRESSES:
        (other,) = set(ADDRESSES) - set(types)
        return f"the client's other type, {other}, may have data"
    if set(types) <= {*ADDRESSES, "PTR"}:
        return _FAILS if is_last else "glibc goes on with the next name, musl stops"
    return "the client does without"

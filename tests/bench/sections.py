"""The sections of docs/performance.md: what one measure found, as text and a table."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from tests.bench.conditions import CONTROL

Row = Mapping[str, Any]
Lines = Iterator[str]
CHURN_TEXT: Final = "While 100 containers a second come and go:"
Cell = Callable[[Row], object]  # what a column shows of a row
ROW_HEIGHT, BAR_WIDTH, LEFT, TOP = 22, 420, 190, 34  # pixels of the plot


def _plain(key: str) -> Cell:
    return lambda row: row[key]


def _count(key: str) -> Cell:
    return lambda row: f"{row[key]:,}"


def _time(key: str) -> Cell:
    return lambda row: f"{row[key]:.2f}"


def _ratio(median: str, spread: str) -> Cell:
    return lambda row: _with_spread(row[median], row[spread])


def _milliseconds(*keys: str) -> dict[str, Cell]:
    return {f"{key}, ms": _time(key) for key in keys}


ANSWERS: Final[dict[str, Cell]] = {
    "answers": _count("asked"),
    "lost": _plain("lost"),
    **_milliseconds("p50", "p99", "p99.9"),
}


def _throughput(rows: Sequence[Row]) -> Lines:
    yield "## Queries per second"
    yield ""
    yield "*Ours beside it* is the median, over the turns, of our figure divided by that"
    yield "server's; in brackets, between which ratios the middle half of the turns lies. The"
    yield "names of *random* (below a domain), *lengths* (the same, of many lengths), *special*"
    yield "(below a special name) and *single* (at the root) are never asked twice. *edns*,"
    yield "*mixed*, *cookie* and *options* (DO and a client subnet) have EDNS."
    yield ""
    yield from _throughput_table(rows)
    yield ""
    yield "Resident memory after these queries, with 1,000 names:"
    yield ""
    memory = {row["server"]: row["resident_mb"] for row in rows if "resident_mb" in row}
    yield from _table(["server", "MB"], memory.items())


def _sizes(rows: Sequence[Row]) -> Lines:
    yield "With fewer and with more names:"
    yield ""
    yield from _throughput_table(rows)


def _churn(rows: Sequence[Row]) -> Lines:
    yield CHURN_TEXT
    yield ""
    yield from _throughput_table(rows)


def _throughput_table(rows: Sequence[Row]) -> Lines:
    heads = ["question", "names", "server", "queries/s", "CPU, µs", "turns"]
    yield _line([*heads, "ours beside it: queries", "CPU"])
    yield _line(["---"] * 8)
    for row in rows:
        begin = [row["case"], f"{row['names']:,}", row["server"]]
        if "unable" in row:
            yield _line([*begin, row["unable"], "", "", "", ""])
            continue
        figures = [f"{row['queries']:,}", f"{row['cpu_us']:.1f}", row["turns"]]
        yield _line([*begin, *figures, *_ours(row)])


def _ours(row: Row) -> tuple[str, str]:
    """How we compare with a server, unless it is ours."""
    if row["server"] == "containerdns":
        return "", ""
    queries = _with_spread(row["our_queries_ratio"], row["our_queries_spread"])
    return queries, _with_spread(row["our_cpu_ratio"], row["our_cpu_spread"])


def _conditions(rows: Sequence[Row]) -> Lines:
    yield "## What is asked, and what happens meanwhile"
    yield ""
    yield "Each beside a plain query for one of 1,000 names in the same turn, which has EDNS too if"
    yield "that is what the row is about. The control is plain queries beside themselves: what it"
    yield "differs from 1 by is noise. Redeploys are beside the same server without any, and their"
    yield "CPU is shared out to as many queries as come then: the Engine takes part of the client's"
    yield "core. What dnsperf cannot send (RD off, CD, NSID, other sizes) a slower client sends, so"
    yield "that of these rows the CPU counts."
    yield ""
    yield from _columns(
        rows,
        {
            "what": lambda row: f"*{row['what']}*" if row["what"] == CONTROL else row["what"],
            "queries/s": _count("queries"),
            "turns": _plain("turns"),
            "beside the plain one: queries": _ratio("queries_ratio", "queries_spread"),
            "CPU": _ratio("cpu_ratio", "cpu_spread"),
        },
    )


def _forward(rows: Sequence[Row]) -> Lines:
    yield "## Forwarded misses"
    yield ""
    yield "Every name is new, 2,000 in a turn; an Unbound with local data is the upstream of all."
    yield "dnsmasq begins each turn with an empty cache, as a full one makes its misses dearer."
    yield ""
    yield from _forward_table(rows)


def _forward_aliases(rows: Sequence[Row]) -> Lines:
    yield "The same where every name is a CNAME, as those of content delivery networks are:"
    yield ""
    yield from _forward_table(rows)


def _forward_tls(rows: Sequence[Row]) -> Lines:
    yield "The same over TLS, of which dnsmasq has none:"
    yield ""
    yield from _forward_table(rows)


def _forward_table(rows: Sequence[Row]) -> Lines:
    yield from _columns(
        rows,
        {
            "server": _plain("server"),
            "misses/s": _count("queries"),
            "CPU, µs": _plain("cpu_us"),
            "added p50, ms": _plain("added_p50"),
            "turns": _plain("turns"),
            "ours beside it: misses": lambda row: _ours(row)[0],
            "CPU": lambda row: _ours(row)[1],
        },
    )


def _events(rows: Sequence[Row]) -> Lines:
    yield "## From event to answer"
    yield ""
    yield "On a real Engine, from its own time of the event. A bare follower passes our own stream"
    yield "on and does nothing else: what it is late by is the Engine's and the machine's. *Beyond"
    yield "it* is, for each event, from its arrival there to the right answer. Another follower, on"
    yield "a stream of its own, is earlier or later by what its row says: the Engine writes to one"
    yield "stream after the other, and works in between. The Engine has a core of its own, as"
    yield "Docker occupies one for 13 ms, in one system call, when a container ends."
    yield ""
    yield from _columns(
        rows,
        {
            "what": _plain("what"),
            "containers": _plain("count"),
            **_milliseconds("p50", "p95", "p99"),
        },
    )


def _scale(rows: Sequence[Row]) -> Lines:
    yield "## Many containers"
    yield ""
    yield "With a simulated Engine, whose documents are those of a real one."
    yield ""
    whats = list(dict.fromkeys(what for row in rows for what in row if what != "containers"))
    yield from _table(
        ["what", *(f"{row['containers']:,}" for row in rows)],
        ([what, *(row.get(what, "") for row in rows)] for what in whats),
    )


def _fairness(rows: Sequence[Row]) -> Lines:
    yield "## Others at full load"
    yield ""
    yield "dnsperf sends as many queries over UDP as it can, from the other core. A miss, and the"
    yield "query for a started container, wait behind these as a plain query does. *Machine* is the"
    yield "p99 of a bare echo that goes before the server on its core, and is asked at the same"
    yield "time: what delays it delays the server too. *Waited* is how much of the time the server"
    yield "was ready to run, but others, that echo among them, had its core. A bare asyncio server"
    yield "and other servers, under the same load, show what a request takes at least. A bare"
    yield "follower inspects a container that starts, and then knows no more than its name. The"
    yield "Engine is simulated, in the process that measures: its share and that of the client,"
    yield "who asks every 0.3 ms, is in all figures of a start."
    yield ""
    yield from _columns(
        rows,
        {
            "what": _plain("what"),
            "load": _plain("load"),
            "samples": _plain("samples"),
            **_milliseconds("p50", "p99"),
            "longest, ms": _time("max"),
            "machine, ms": _time("machine"),
            "waited": lambda row: f"{row['waited']:.1%}",
        },
    )


def _workers(rows: Sequence[Row]) -> Lines:
    yield "## Workers"
    yield ""
    yield "With `--workers 3`, whose processes get a client's queries at random: from its first"
    yield "right answer about a change to its last wrong one. The same of bare processes, which are"
    yield "told over the same kind of socket and do nothing else, is the machine's."
    yield ""
    times = [row for row in rows if "share" not in row]
    yield from _columns(
        times,
        {
            "what": _plain("what"),
            "changes": _plain("count"),
            **_milliseconds("p50", "p99"),
            "longest, ms": _time("max"),
        },
    )
    for row in rows:
        if "share" in row:
            yield ""
            yield f"Of {row['what'].partition(' of ')[2]}, the process that gets fewest of the"
            yield f"{row['processes']} gets {row['share']:.2f}, by its CPU."


def _transfers(rows: Sequence[Row]) -> Lines:
    yield "## While secondaries copy"
    yield ""
    yield "10,000 containers; a client sends 1,000 queries a second while four secondaries copy the"
    yield "zone again and again. A bare echo, without copies, and other servers, which have one"
    yield "address for each container, are measured in the same turns. *Machine* is the p99.9 of an"
    yield "echo that goes before the server on its core, and is asked at the same time. Medians of"
    yield "the turns."
    yield ""
    yield from _columns(
        rows,
        {
            "server": _plain("server"),
            "secondaries": _plain("secondaries"),
            "turns": _plain("turns"),
            "copies": _count("transfers"),
            **_milliseconds("p50", "p99"),
            "p99.9, ms": _ratio("p99.9", "p99.9_spread"),
            "machine": _time("machine p99.9"),
            "longest": _time("max"),
        },
    )


def _secondaries(rows: Sequence[Row]) -> Lines:
    yield "The same with real secondaries, while 10 containers a second come or go:"
    yield ""
    whose = {"machine": _time("machine p99.9"), "longest": _time("max")}
    yield from _columns(rows, {"what": _plain("what"), **ANSWERS, **whose})
    for row in rows:
        if "transfers" in row:
            made = ", ".join(f"{count} {kind}" for kind, count in sorted(row["transfers"].items()))
            behind = ", ".join(f"{name} {count}" for name, count in row["behind"].items())
            yield ""
            yield f"Transfers while they followed: {made}. Serials behind at the end: {behind}."


def _attacks(rows: Sequence[Row]) -> Lines:
    yield "## During attacks"
    yield ""
    yield "What a client that sends 1,000 queries a second notices while others try to stall a"
    yield "server of 10,000 names. The server has one core; the attackers share the other with the"
    yield "client, which goes first there. *Machine* is the p99.9 of a bare echo that goes before"
    yield "the server on its core, and is asked at the same time: what delays it delays the server"
    yield "too."
    yield ""
    yield from _columns(
        rows,
        {
            "attack": _plain("attack"),
            **ANSWERS,
            "machine": _time("machine p99.9"),
            "longest": _time("max"),
            "MB": _plain("MB after"),
        },
    )


def plot(rows: Sequence[Row]) -> Lines:
    """Yield the lines of an SVG of bars: queries per second with 1,000 names."""
    shown = [row for row in rows if row["names"] == 1000 and "unable" not in row]
    highest = max(row["queries"] for row in shown)
    height = TOP + ROW_HEIGHT * len(shown) + 10
    width = LEFT + BAR_WIDTH + 90
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13" fill="#555">'
    )
    yield '<text x="8" y="20">Queries per second, 1,000 names</text>'
    for place, row in enumerate(shown):
        y = TOP + place * ROW_HEIGHT
        length = row["queries"] / highest * BAR_WIDTH
        colour = "#1f6feb" if row["server"] == "containerdns" else "#b3bac2"
        yield f'<text x="8" y="{y + 13}">{row["case"]}, {row["server"]}</text>'
        yield f'<rect x="{LEFT}" y="{y}" width="{length:.0f}" height="16" fill="{colour}"/>'
        yield f'<text x="{LEFT + length + 6:.0f}" y="{y + 13}">{row["queries"]:,}</text>'
    yield "</svg>"


def _with_spread(median: float, spread: Sequence[float]) -> str:
    return f"{median:.2f} ({spread[0]:.2f} to {spread[1]:.2f})"


def _columns(rows: Iterable[Row], columns: Mapping[str, Cell]) -> Lines:
    """A table whose columns have these heads, and show these parts of each row."""
    return _table(list(columns), ([cell(row) for cell in columns.values()] for row in rows))


def _table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> Lines:
    yield _line(heads)
    yield _line(["---"] * len(heads))
    yield from map(_line, rows)


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


SECTIONS: Final[dict[str, Callable[[Sequence[Row]], Lines]]] = {
    "throughput": _throughput,
    "sizes": _sizes,
    "churn": _churn,
    "conditions": _conditions,
    "forward": _forward,
    "forward-aliases": _forward_aliases,
    "forward-tls": _forward_tls,
    "events": _events,
    "fairness": _fairness,
    "workers": _workers,
    "transfers": _transfers,
    "secondaries": _secondaries,
    "attacks": _attacks,
    "scale": _scale,
}

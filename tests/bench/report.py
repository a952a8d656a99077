"""Run all measures and write them down: a table on the screen, JSON, and docs/performance.md.

    python -m tests.bench.report [--quick] [--write] [--only MEASURE]...

`--quick` takes a quarter of an hour instead of a whole one; `--write` replaces the page and
its plot; `--only` measures some again, and keeps the results of the others.  Needs root for
the private Engine, and the peers from Debian.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "images" / "performance.svg"
PEERS = {
    "dnsmasq": ("dnsmasq", "--version"),
    "knot": ("knotd", "--version"),
    "nsd": ("nsd", "-v"),
    "unbound": ("unbound", "-V"),
    "aardvark-dns": ("/usr/lib/podman/aardvark-dns", "--version"),
}
OF_DNSMASQ = {"random": 1.0, "lengths": 1.0, "special": 0.9, "single": 0.9, "public": 1.05}
ROW_HEIGHT, BAR_WIDTH, LEFT, TOP = 22, 420, 190, 34  # pixels of the plot


def main() -> None:
    """Measure, and write the page if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="keep the others")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    for name, words in _measures(options.quick).items():
        if name in (options.only or [name]):
            _run(name, *words)
    found = {path.stem: json.loads(path.read_text()) for path in BUILD.glob("*.json")}
    if options.write:
        PAGE.write_text("\n".join(page(found, is_quick=options.quick)) + "\n")
        PLOT.parent.mkdir(exist_ok=True)
        PLOT.write_text("\n".join(plot(found["throughput"])) + "\n")


def _measures(is_quick: bool) -> dict[str, list[str]]:
    """What is measured, and with which options."""
    turns, names = ("3", ("1000",)) if is_quick else ("5", ("100", "1000", "10000"))
    sizes = [word for count in names for word in ("--names", count)]
    length = ["--turns", turns, "--seconds", "0.6" if is_quick else "1.5"]
    forwarded = ["--turns", turns, "--queries", "5000"]
    return {
        "throughput": [*sizes, *length],
        "churn": ["--names", "1000", "--case", "positive", "--churn", "100", *length],
        "conditions": [],
        "forward": forwarded,
        "forward-tls": ["--tls", *forwarded],
        "events": [],
        "scale": [],
        "transfers": [],
        "fairness": [],
        "workers": [],
    }


def _run(name: str, *options: str) -> None:
    """Run one measure in a process of its own; its JSON goes to build/bench."""
    module = {"churn": "throughput", "forward-tls": "forward"}.get(name, name)
    command = [sys.executable, "-m", f"tests.bench.{module}", *options]
    print(f"# {' '.join(command[1:])}", flush=True)
    subprocess.run([*command, "--json", str(BUILD / f"{name}.json")], check=True, cwd=ROOT)


def page(found: dict[str, Any], *, is_quick: bool) -> Iterator[str]:
    """The lines of docs/performance.md."""
    yield from _head(is_quick)
    yield ""
    yield from _aims(found)
    if missing := [name for name in SECTIONS if name not in found]:
        yield ""
        yield f"Not measured in this run: {', '.join(missing)}."
    for name, section in SECTIONS.items():
        yield ""
        if name in found:
            yield from section(found[name])


def _head(is_quick: bool) -> Iterator[str]:
    yield "# Performance"
    yield ""
    yield from (
        "Written by `make bench`, on the machine named below, and by nothing else. Machines",
        "differ and are noisy: compare the columns of one run, not figures of different days.",
        "Queries are sent by dnsperf on one core to servers on the other, in turns; the figures",
        "are medians.",
    )
    yield ""
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    yield f"- {datetime.now(UTC):%Y-%m-%d}, {_processor()}, {system}"
    yield f"- CPython {platform.python_version()}; {', '.join(_versions())}"
    yield "- `make bench`: installs the others and runs `tests.bench.report`"
    load, cores = os.getloadavg()[2], os.cpu_count() or 1
    yield f"- load average of the last 15 minutes {load:.1f} on {cores} cores"
    if load > 2 * cores:
        yield "- so other work had much of the machine: only ratios within a turn mean anything;"
        yield "  times in milliseconds are mostly those of waiting for a core"
    if is_quick:
        yield "- shortened: fewer names and turns than that"
    yield ""
    yield "![Queries per second beside others](images/performance.svg)"


def _throughput(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Queries per second"
    yield ""
    yield "*Ours beside it* is the median, over the turns, of our figure divided by that server's."
    yield "The names of *random* (below a domain), *lengths* (the same, of many lengths), *special*"
    yield "(below a special name) and *single* (at the root) are never asked twice."
    yield ""
    yield from _throughput_table(rows)


def _churn(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "While 100 containers a second come and go:"
    yield ""
    yield from _throughput_table(rows)


def _events(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## From event to answer"
    yield ""
    yield "On a real Engine, from its own time of the event. A bare follower reads the same stream"
    yield "in the same run and does nothing: what it is late by is the Engine's and the machine's."
    yield "*Beyond it* is, for each event, from its arrival there to the right answer."
    yield ""
    yield "| what | containers | p50, ms | p95, ms | p99, ms |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        yield "| {what} | {count} | {p50:.2f} | {p95:.2f} | {p99:.2f} |".format(**row)


def _scale(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Many containers"
    yield ""
    yield "With a simulated Engine, whose documents are those of a real one."
    yield ""
    yield "| what | " + " | ".join(f"{row['containers']:,}" for row in rows) + " |"
    yield "| --- " * (len(rows) + 1) + "|"
    for what in rows[0]:
        if what != "containers":
            yield f"| {what} | " + " | ".join(str(row[what]) for row in rows) + " |"


def _fairness(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Others at full load"
    yield ""
    yield "dnsperf keeps the UDP socket full, on the other core. *Waited* is how much of the time"
    yield "the server was ready to run, but other work of the machine had its core."
    yield ""
    yield "| what | load | p50, ms | p99, ms | longest, ms | waited |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        yield (
            "| {what} | {load} | {p50:.2f} | {p99:.2f} | {max:.2f} | {waited:.1%} |".format(**row)
        )


def _workers(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Workers"
    yield ""
    yield "With `--workers 3`, whose processes get a client's queries at random: from its first"
    yield "right answer about a change to its last wrong one."
    yield ""
    yield "| what | p50, ms | p99, ms | longest, ms |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        yield "| {what} | {p50:.2f} | {p99:.2f} | {max:.2f} |".format(**row)


def _aims(found: dict[str, Any]) -> Iterator[str]:
    """The aims of the project beside what was measured, whether they are reached or not."""
    yield "## The aims"
    yield ""
    yield "| what | beside | measured | aim | reached |"
    yield "| --- | --- | --- | --- | --- |"
    for what, beside, measured, sign, aim in _measured(found):
        is_reached = measured >= aim if sign == ">=" else measured <= aim
        shown = "at least" if sign == ">=" else "at most"
        answer = "yes" if is_reached else "**no**"
        yield f"| {what} | {beside} | {measured:.2f} | {shown} {aim:g} | {answer} |"


def _measured(found: dict[str, Any]) -> Iterator[tuple[str, str, float, str, float]]:
    """Each aim that was measured: what, beside what, the figure, and its bound."""
    for row in found.get("conditions", ()):
        if "redeploys" in row["what"]:
            yield f"CPU, {row['what']}", "quiet", row["cpu_ratio"], "<=", 1.05
        else:
            yield f"queries/s, {row['what']}", "plain", row["queries_ratio"], ">=", 0.9
    for row in found.get("throughput", ()):
        if row["server"] == "dnsmasq" and row["names"] == 1000 and row["case"] in OF_DNSMASQ:
            aim = OF_DNSMASQ[row["case"]]
            yield f"queries/s, {row['case']}", "dnsmasq", row["our_queries_ratio"], ">=", aim
    for name, over, peer in (("forward", "UDP", "dnsmasq"), ("forward-tls", "TLS", "unbound")):
        for row in found.get(name, ()):
            if row["server"] == peer:
                what = f"forwarded misses over {over}"
                yield what, peer, row["our_queries_ratio"], ">=", 0.9
    yield from _measured_times(found)


def _measured_times(found: dict[str, Any]) -> Iterator[tuple[str, str, float, str, float]]:
    for row in found.get("events", ()):
        if row["what"] == "die to withdrawal, beyond it":
            yield "die to withdrawal, p50, ms", "a bare follower", row["p50"], "<=", 1.0
            yield "die to withdrawal, p95, ms", "a bare follower", row["p95"], "<=", 3.0
    for row in found.get("fairness", ()):
        if row["load"] == "full":
            yield f"{row['what']} at full load, p99, ms", "", row["p99"], "<=", 3.0
    for row in found.get("workers", ()):
        yield f"{row['what']}, p99, ms", "", row["p99"], "<=", 2.0
    for row in found.get("transfers", ())[1:]:
        yield "answers while four secondaries copy, p99.9, ms", "", row["p99.9"], "<=", 5.0
    for row, aim in zip(found.get("scale", ()), (60, 110), strict=False):
        yield f"MB for {row['containers']:,} containers", "", row["resident, MB"], "<=", aim


def _conditions(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "## What is asked, and what happens meanwhile"
    yield ""
    yield "Each beside a plain query for one of 1,000 names in the same turn, which has EDNS too if"
    yield "that is what the row is about."
    yield ""
    yield "| what | queries/s | beside the plain one: queries | CPU |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        yield "| {what} | {queries:,} | {queries_ratio} | {cpu_ratio} |".format(**row)


def _forward(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "## Forwarded misses"
    yield ""
    yield "Every name is new; an Unbound with local data is the upstream of all."
    yield ""
    yield from _forward_table(rows)


def _forward_tls(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "The same over TLS, of which dnsmasq has none:"
    yield ""
    yield from _forward_table(rows)


def _forward_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| server | queries/s | CPU, µs | added p50, ms | ours beside it: queries | CPU |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        ratios = row["our_queries_ratio"], row["our_cpu_ratio"]
        ours = ("", "") if row["server"] == "containerdns" else ratios
        yield (
            f"| {row['server']} | {row['queries']:,} | {row['cpu_us']} "
            f"| {row['added_p50']} | {ours[0]} | {ours[1]} |"
        )


def _transfers(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "## While secondaries copy"
    yield ""
    yield "10,000 containers; a client sends 1,000 queries a second meanwhile."
    yield ""
    yield "| secondaries | transfers | p50, ms | p99, ms | p99.9, ms | longest, ms |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in rows:
        yield (
            f"| {row['secondaries']} | {row['transfers']} | {row['p50']} | {row['p99']} "
            f"| {row['p99.9']} | {row['max']} |"
        )


def _throughput_table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield "| question | names | server | queries/s | CPU, µs | ours beside it: queries | CPU |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        if "unable" in row:
            yield f"| {row['case']} | {row['names']:,} | {row['server']} | {row['unable']} | | | |"
            continue
        ours = row["server"] == "containerdns"
        ratios = ("", "") if ours else (row["our_queries_ratio"], row["our_cpu_ratio"])
        yield (
            f"| {row['case']} | {row['names']:,} | {row['server']} | {row['queries']:,} "
            f"| {row['cpu_us']:.1f} | {ratios[0]} | {ratios[1]} |"
        )


def plot(rows: list[dict[str, Any]]) -> Iterator[str]:
    """An SVG of bars: queries per second with 1,000 names."""
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


def _versions() -> Iterator[str]:
    for name, command in PEERS.items():
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        words = (done.stdout + done.stderr).split()
        number = next((w.strip(",") for w in words if w[:1].isdigit() and "." in w), "")
        yield f"{name} {number}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cores = len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
            return f"{line.partition(':')[2].strip()}, {cores} cores"
    return platform.machine()


SECTIONS = {
    "throughput": _throughput,
    "churn": _churn,
    "conditions": _conditions,
    "forward": _forward,
    "forward-tls": _forward_tls,
    "events": _events,
    "scale": _scale,
    "transfers": _transfers,
    "fairness": _fairness,
    "workers": _workers,
}


if __name__ == "__main__":
    main()

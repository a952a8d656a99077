"""How our own rate changes: with EDNS variants, with many names, and under redeploys.

    python -m tests.bench.conditions [--turns N] [--seconds N] [--json FILE]

Each condition is measured in many short turns with the plain one, so that other work on the
machine troubles both alike; the result is the median of the ratios of each turn.  Needs dnsperf,
which sends no empty option, such as that of NSID.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.bench import peers
from tests.bench.peers import Server
from tests.bench.throughput import OPTIONS, load, questions

FEW, SOME, MANY = 100, 1_000, 10_000  # containers
REDEPLOYS = 100.0  # a second
COOKIE = "10:0123456789abcdef"
VARIANTS = {
    "a DNS cookie": ["-E", COOKIE],
    "DO": ["-D"],
    "DO and a DNS cookie": ["-D", "-E", COOKIE],
    "a client subnet": ["-E", "8:000118000a0000"],
    "padding": ["-E", f"12:{'00' * 64}"],
    "an unknown option": ["-E", "65001:abcd"],
}


class Load(NamedTuple):
    """A server, what it is asked, and with which options: a key of `throughput.OPTIONS`."""

    server: Server
    queries: Path
    options: str


class Ours(NamedTuple):
    """A server of ours, and a file that asks each of its names once."""

    server: Server
    folder: Path

    def asked(self, options: str = "positive") -> Load:
        """Return a load of queries for its names."""
        case = "case" if options == "case" else "positive"
        return Load(self.server, self.folder / case, options)


def main() -> None:
    """Measure all conditions and print how they compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    OPTIONS.update(VARIANTS)
    rows = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        few, some, many, changing = (
            _start(stack, Path(folder), count, churn)
            for count, churn in ((FEW, 0), (SOME, 0), (MANY, 0), (SOME, REDEPLOYS))
        )
        pairs = {what: (some.asked(what), some.asked("edns")) for what in (*VARIANTS, "edns")}
        pairs["mixed case"] = some.asked("case"), some.asked()
        pairs[f"{MANY:,} names, beside {FEW}"] = many.asked(), few.asked()
        pairs[f"{REDEPLOYS:.0f} redeploys/s"] = changing.asked(), some.asked()
        for what, (one, plain) in pairs.items():
            rows.append(_measure(what, one, plain, options.turns, options.seconds))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _start(stack: contextlib.ExitStack, folder: Path, count: int, churn: float) -> Ours:
    """Start a server over so many containers, of which some are replaced each second."""
    own = folder / f"{count}-{churn:.0f}"
    own.mkdir()
    for case in ("positive", "case"):
        (own / case).write_text("".join(f"{line}\n" for line in questions(case, count)))
    engine = stack.enter_context(peers.simulated_engine(own, count, churn))
    program = peers.containerdns(engine, 9, f"{sys.executable} -m containerdns serve")
    server = stack.enter_context(peers.running(program, 1.0 if churn else 0.05))
    return Ours(server, own)


def _measure(what: str, one: Load, plain: Load, turns: int, seconds: float) -> dict[str, object]:
    """Measure a condition and the plain one in turns."""
    ratios, cpu_ratios, rates = [], [], []
    for turn in range(turns):
        order = (one, plain) if turn % 2 else (plain, one)
        first, second = (load(*each, ["-l", str(seconds)]) for each in order)
        mine, other = (first, second) if turn % 2 else (second, first)
        if not (mine.queries and other.queries and mine.cpu_us and other.cpu_us):
            continue  # dnsperf had no CPU, or the server less than a tick of it
        rates.append(mine.queries)
        ratios.append(mine.queries / other.queries)
        cpu_ratios.append(mine.cpu_us / other.cpu_us)
    row: dict[str, object] = {
        "what": what,
        "queries": round(statistics.median(rates)),
        "queries_ratio": round(statistics.median(ratios), 2),
        "cpu_ratio": round(statistics.median(cpu_ratios), 2),
    }
    print(
        f"{what:28} {row['queries']:8}/s   {row['queries_ratio']:5} times the queries,"
        f" {row['cpu_ratio']:5} times the CPU",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()

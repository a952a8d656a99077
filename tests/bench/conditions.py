"""How our own rate changes: with EDNS variants, with names never asked for, and under redeploys.

    python -m tests.bench.conditions [--turns N] [--seconds N] [--json FILE]

Each condition is measured in many short turns with the plain one, so that other work on the
machine troubles both alike; the result is the median of the ratios of each turn.  Containers are
replaced in their own turns only, as that takes a good part of a core.  Needs dnsperf.
What dnsperf cannot send (NSID, other sizes and flags) a loop here sends, which is slower than the
server: of these, the CPU tells.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from tests.bench import peers
from tests.bench.peers import Server
from tests.bench.throughput import OPTIONS, Measure, load, questions, spread


def opt(options: bytes = b"", octets: int = 1232) -> bytes:
    """Encode an OPT record with encoded options."""
    return b"\0" + struct.pack("!HHIH", messages.OPT, octets, 0, len(options)) + options


FEW, SOME, MANY = 100, 1_000, 10_000  # containers
REDEPLOYS = 100.0  # a second
A_IN = b"\0\1\0\1"
COOKIE = "10:0123456789abcdef"
ONE_PASS = 2_500  # names never asked for in one turn
CHURN_ENDS = 0.4  # seconds; the redeploys that have begun take 0.3
OUTSTANDING = 50  # queries of the loop here
RD, CD = 0x0100, 0x0010
PLAIN = (RD, b"")  # flags, and the OPT record
OF_LOOP = {
    "RD off": (0, b""),
    "CD": (RD | CD, b""),
    "NSID": (RD, opt(messages.NSID_OPTION.to_bytes(2) + bytes(2))),
    "a payload size of 1,111": (RD, opt(octets=1111)),
    "a payload size of 4,096": (RD, opt(octets=4096)),
}
CONTROL = "plain, the control"  # beside itself: what this differs from 1 by is noise
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
    """A server of ours, a file that asks each of its names once, and the Engine's process."""

    server: Server
    folder: Path
    engine_pid: int

    def pause_or_resume(self) -> None:
        """Let no container be replaced, or let them again."""
        os.kill(self.engine_pid, signal.SIGUSR1)
        time.sleep(CHURN_ENDS)

    def asked(self, options: str = "positive") -> Load:
        """Return a load of queries for its names."""
        case = "case" if options == "case" else "positive"
        return Load(self.server, self.folder / case, options)


def main() -> None:
    """Measure all conditions and print how they compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    OPTIONS.update(VARIANTS)
    rows = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        few, some, many, changing = (
            _start(stack, Path(folder), count, churn)
            for count, churn in ((FEW, 0), (SOME, 0), (MANY, 0), (SOME, REDEPLOYS))
        )
        changing.pause_or_resume()
        pairs = {what: (some.asked(what), some.asked("edns")) for what in VARIANTS}
        pairs["EDNS"] = some.asked("edns"), some.asked()
        pairs["mixed case"] = some.asked("case"), some.asked()
        pairs |= {CONTROL: (some.asked(), some.asked())}
        for what, (one, plain) in pairs.items():
            rows.append(_measure(what, one, plain, options.turns, options.seconds))
        rows.append(_measure_redeploys(changing, options.turns, options.seconds))
        for what, (flags, record) in OF_LOOP.items():
            turns = [
                [_ask(some.server, *each, options.seconds) for each in ((flags, record), PLAIN)]
                for _ in range(options.turns)
            ]
            rows.append(_row(what, turns) | {"by_cpu": True})
        rows.append(_row(f"{MANY:,} names, never asked for", list(_first_queries(many, few))))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _start(stack: contextlib.ExitStack, folder: Path, count: int, churn: float) -> Ours:
    """Start a server over so many containers, of which some are replaced each second."""
    own = folder / f"{count}-{churn:.0f}"
    own.mkdir()
    for case in ("positive", "case"):
        (own / case).write_text("".join(f"{line}\n" for line in questions(case, count)))
    engine, engine_pid = stack.enter_context(peers.engine_process(own, count, churn))
    program = peers.containerdns(engine, 9, f"{sys.executable} -m containerdns serve")
    server = stack.enter_context(peers.running(program, 1.0 if churn else 0.05))
    return Ours(server, own, engine_pid)


def _measure(what: str, one: Load, plain: Load, turns: int, seconds: float) -> dict[str, object]:
    """Measure a condition and the plain one in turns, with all responses cached before."""
    for each in (one, plain):
        load(*each, ["-n", "3"])  # the first query for a name is answered without being cached
    found = []
    for turn in range(turns):
        order = (one, plain) if turn % 2 else (plain, one)
        both = [load(*each, ["-l", str(seconds)]) for each in order]
        found.append(both if turn % 2 else both[::-1])
    return _row(what, found)


def _measure_redeploys(ours: Ours, turns: int, seconds: float) -> dict[str, object]:
    """Measure a server while containers are replaced, and while none is, in turns."""
    load(*ours.asked(), ["-n", "3"])
    found = []
    for _ in range(turns):
        plain = load(*ours.asked(), ["-l", str(seconds)])
        ours.pause_or_resume()
        changing = load(*ours.asked(), ["-l", str(seconds)])
        found.append([_at_rate_of(plain, changing), plain])
        ours.pause_or_resume()
    return _row(f"{REDEPLOYS:.0f} redeploys/s", found)


def _at_rate_of(plain: Measure, changing: Measure) -> Measure:
    """Return what a query would cost if as many came as without redeploys.

    The Engine shares the client's core, so that fewer come, and each would bear more of what the
    redeploys cost.
    """
    if not plain.queries:
        return plain
    redeploys = (changing.cpu_us - plain.cpu_us) * changing.queries  # in a second
    return replace(changing, cpu_us=plain.cpu_us + redeploys / plain.queries)


def _first_queries(many: Ours, few: Ours) -> Iterator[list[Measure]]:
    """Ask for each name once, in small parts, between passes over those asked for again."""
    for case in ("nodata", "positive"):
        lines = [f"{line}\n" for line in questions(case, MANY)]
        learnt, asked = many.folder / "learnt", many.folder / "part"
        learnt.write_text("".join(lines[10**digits - 1] for digits in range(1, 5)))
        load(many.server, learnt, "positive", ["-n", "1"])  # one of each length
        for start in range(0, MANY - 1, ONE_PASS):
            asked.write_text("".join(lines[start : start + ONE_PASS]))
            again = [str(ONE_PASS // FEW)]
            yield [
                load(many.server, asked, "positive", ["-n", "1"]),
                load(few.server, few.folder / "positive", "positive", ["-n", *again]),
            ]


def _ask(server: Server, flags: int, record: bytes, seconds: float) -> Measure:
    """Ask for few names again and again, with some flags and an OPT record."""
    asked = [
        messages.query(number, flags, names.to_wire(f"web-{number}.docker.") + A_IN, record)
        for number in range(OUTSTANDING)
    ]
    answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1.0)
        client.connect(("127.0.0.1", server.port))
        cpu, begun = peers.cpu_seconds(server.pid), time.monotonic()
        while (took := time.monotonic() - begun) < seconds:
            for query in asked:
                client.send(query)
            for _ in asked:
                client.recv(4096)
            answered += OUTSTANDING
    return Measure(answered / took, (peers.cpu_seconds(server.pid) - cpu) / answered * 1e6, 0)


def _row(what: str, turns: list[list[Measure]]) -> dict[str, object]:
    """Print and return how the first of two measures compares with the second."""
    ratios, cpu_ratios, rates = [], [], []
    for mine, other in turns:
        if not (mine.queries and other.queries and mine.cpu_us and other.cpu_us):
            continue  # dnsperf had no CPU, or the server less than a tick of it
        rates.append(mine.queries)
        ratios.append(mine.queries / other.queries)
        cpu_ratios.append(mine.cpu_us / other.cpu_us)
    row: dict[str, object] = {
        "what": what,
        "queries": round(statistics.median(rates)),
        "queries_ratio": round(statistics.median(ratios), 2),
        "queries_spread": spread(ratios),
        "cpu_ratio": round(statistics.median(cpu_ratios), 2),
        "cpu_spread": spread(cpu_ratios),
        "turns": len(rates),
    }
    print(
        f"{what:28} {row['queries']:8}/s   {row['queries_ratio']:5} times the queries,"
        f" {row['cpu_ratio']:5} times the CPU",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()

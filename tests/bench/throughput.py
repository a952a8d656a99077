"""How many queries we answer, beside others with the same names.

    python -m tests.bench.throughput [--names N]... [--case CASE]... [--json FILE]

Needs dnsperf, and those peers that are to be measured.  Our names come from a simulated
Engine.  Servers and dnsperf have a CPU each; the servers are asked in turns, and what
is told is the median of the ratios of each turn, as other work on the machine then
troubles all alike.
"""

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import peers
from tests.bench.peers import PUBLIC_NAMES, Server

CASES = (
    *("positive", "edns", "cookie", "options", "case", "nodata", "nxdomain", "mixed", "public"),
    *("random", "lengths", "special", "single"),
)
OPTIONS = {
    "mixed": ["-e"],
    "edns": ["-e"],
    "cookie": ["-E", "10:0123456789abcdef"],
    "options": ["-D", "-E", "8:000118000a0000"],  # DO, and a client subnet
}
NEVER_ASKED = {"random", "lengths", "special", "single"}  # no name of these comes twice
OF_DNSMASQ = {"special", "single"}  # names that others would forward, or have no setting for
RANDOM_NAMES = 200_000
HAS_NO_CACHE = {
    "knot": "forwards nothing",
    "nsd": "forwards nothing",
    "aardvark-dns": "keeps no cache",
}


@dataclass(frozen=True)
class Measure:
    """One turn of one server.

    Attributes:
        queries: Answered per second.
        cpu_us: Microseconds of CPU per query.
        lost: Queries without an answer.
    """

    queries: float
    cpu_us: float
    lost: int


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, action="append", help="containers; default 1000")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--peer", action="append", help="default: all that are installed")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--churn", type=float, default=0.0, help="containers that come and go, /s")
    parser.add_argument("--ours", default=f"{sys.executable} -m containerdns serve")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told = []
    for count in options.names or [1000]:
        with tempfile.TemporaryDirectory() as folder:
            told += measure_all(count, Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def measure_all(count: int, folder: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure all cases with so many names."""
    told: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(peers.simulated_engine(folder, count, options.churn))
        upstream = stack.enter_context(peers.public_upstream(folder))
        programs = [peers.containerdns(engine, upstream.port, options.ours)]
        programs += [
            peer
            for peer in peers.others(folder, count, upstream.port)
            if peer.is_installed and peer.name in (options.peer or [peer.name])
        ]
        quiet = 1.0 if options.churn else 0.05  # seconds of CPU in a second
        servers = [stack.enter_context(peers.running(program, quiet)) for program in programs]
        for case in options.case or CASES:
            queries = folder / case
            queries.write_text("".join(f"{line}\n" for line in questions(case, count)))
            unable = HAS_NO_CACHE if case == "public" else {}
            if case in OF_DNSMASQ:
                others = {server.name for server in servers} - {"containerdns", "dnsmasq"}
                unable = dict.fromkeys(others, "would forward them")
            asked = [server for server in servers if server.name not in unable]
            for server in asked if case not in NEVER_ASKED else ():  # every name once, to warm up
                load(server, queries, case, ["-n", "1"])
            length = ["-l", str(options.seconds)]
            turns = []
            for turn in range(options.turns):
                if case in NEVER_ASKED:
                    lines = (f"t{turn}{line}\n" for line in questions(case, count))
                    queries.write_text("".join(lines))
                turns.append({s.name: load(s, queries, case, length) for s in asked})
            told += [tell(case, count, server, turns) for server in asked]
            told += [
                {"case": case, "names": count, "server": server.name, "unable": unable[server.name]}
                for server in servers
                if server.name in unable
            ]
    return told


def tell(
    case: str, count: int, server: Server, turns: list[dict[str, Measure]]
) -> dict[str, object]:
    """Print what a server came to, and how we compare."""
    name = server.name
    both = ("containerdns", name)  # dnsperf may have had no CPU
    turns = [turn for turn in turns if all(turn[each].queries >= 1 for each in both)]
    mine = [turn[name] for turn in turns]
    ratios = [turn["containerdns"].queries / turn[name].queries for turn in turns]
    cpu_ratios = [turn["containerdns"].cpu_us / turn[name].cpu_us for turn in turns]
    result = {
        "case": case,
        "names": count,
        "server": name,
        "queries": round(statistics.median(turn.queries for turn in mine)),
        "cpu_us": round(statistics.median(turn.cpu_us for turn in mine), 2),
        "lost": sum(turn.lost for turn in mine),
        "resident_mb": round(peers.resident_mb(server.pid), 1),
        "our_queries_ratio": round(statistics.median(ratios), 2),
        "our_queries_spread": spread(ratios),
        "our_cpu_ratio": round(statistics.median(cpu_ratios), 2),
        "our_cpu_spread": spread(cpu_ratios),
        "turns": len(mine),
    }
    print(
        f"{case:9} {count:6} {name:13} {result['queries']:8}/s {result['cpu_us']:7} us"
        f"   ours: {result['our_queries_ratio']:5} times the queries,"
        f" {result['our_cpu_ratio']:5} times the CPU"
        + (f"   LOST {result['lost']}" if result["lost"] else ""),
        flush=True,
    )
    return result


def spread(ratios: Sequence[float]) -> list[float]:
    """Return between which ratios the middle half of them lies."""
    if len(ratios) < 2:
        return [round(ratio, 2) for ratio in (*ratios, *ratios)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return [round(low, 2), round(high, 2)]


def questions(case: str, count: int) -> Iterator[str]:
    """What dnsperf asks, line by line."""
    match case:
        case "positive" | "edns" | "cookie" | "options":
            yield from (f"web-{n}.docker A" for n in range(count))
        case "case":
            yield from (f"wEb-{n}.DocKer A" for n in range(count))
        case "nodata":
            yield from (f"web-{n}.docker AAAA" for n in range(count))
        case "nxdomain":
            yield from (f"missing-{n}.docker A" for n in range(1000))
        case "mixed":
            for n in range(count):
                yield from (f"web-{n}.docker A", f"web-{n}.docker AAAA")
                if n % 10 == 0:
                    yield f"missing-{n % 1000}.docker A"
        case "public":
            yield from (f"www{n}.example A" for n in range(PUBLIC_NAMES))
        case "random":
            yield from (f"x{n:x}.docker A" for n in range(RANDOM_NAMES))
        case "lengths":
            yield from (f"x{n:x}{'y' * (n % 40)}.docker A" for n in range(RANDOM_NAMES))
        case "special":
            yield from (f"x{n:x}.localdomain A" for n in range(RANDOM_NAMES))
        case "single":
            yield from (f"x{n:x} A" for n in range(RANDOM_NAMES))


def load(server: Server, queries: Path, case: str, length: list[str]) -> Measure:
    """Ask a server with eight clients, for as long as dnsperf's options tell."""
    before = peers.cpu_seconds(server.pid)
    command = [
        "taskset",
        "-c",
        peers.CLIENT_CPU,
        "dnsperf",
        "-s",
        "127.0.0.1",
        "-p",
        str(server.port),
    ]
    command += ["-d", str(queries), "-c", "8", "-T", "1", *length]
    command += OPTIONS.get(case, [])
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = peers.cpu_seconds(server.pid) - before
    completed = int(_found(r"Queries completed:\s+(\d+)", done))
    return Measure(
        float(_found(r"per second:\s+([\d.]+)", done)),
        used / max(completed, 1) * 1e6,
        int(_found(r"Queries lost:\s+(\d+)", done)),
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else "nan"


if __name__ == "__main__":
    main()

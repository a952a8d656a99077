"""How long answers take while four secondaries copy a large zone, all at once.

    python -m tests.bench.transfers [--containers N] [--seconds N] [--turns N] [--json FILE]

Four clients copy the zone by AXFR, again and again, while another one sends 1,000 queries a
second over UDP (`tests.bench.steady`).  NSD and Knot, with an address for each container, are
copied in the same way, and a bare echo is asked without any copy.  An echo that goes before the
server on its core is asked at the same time: what it takes is the machine's.  All are measured in
turns; the figures are medians over these.  The containers are simulated; see
`tests.engine.simulated`.
"""

import argparse
import contextlib
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from dnslib import DNSRecord

from tests.bench import peers, steady
from tests.bench.peers import CLIENT_CPU, Server
from tests.bench.scale import engine, settle
from tests.bench.throughput import spread
from tests.engine.running import Running

SECONDARIES: Final = 4
YIELDING: Final = 10  # niceness of the secondaries, which are other machines in earnest
READ_OCTETS: Final = 1 << 18
QUERY: Final = bytes(DNSRecord.question("docker", "AXFR").pack())
SOA: Final = b"\0\6\0\1\0\0\0\5"  # type, class and TTL; the zone's begins and ends a transfer
STOP_PATIENCE: Final = 10.0  # seconds
FIGURES: Final = ("p50", "p99", "p99.9", "machine p99.9", "max")


class Case(NamedTuple):
    """A server, and whether it is copied meanwhile."""

    server: Server
    is_copied: bool


def main() -> None:
    """Measure in turns with and without transfers, and print how long answers took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--copy", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.copy:
        _copy_until_told(options.copy)
        return
    with contextlib.ExitStack() as stack:
        cases = list(_cases(stack, options.containers))
        turns = [[_measure(case, options.seconds) for case in cases] for _ in range(options.turns)]
    rows = [_row(case, [turn[place] for turn in turns]) for place, case in enumerate(cases)]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _cases(stack: contextlib.ExitStack, containers: int) -> Iterator[Case]:
    """Start all servers, and yield what is measured of each."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    yield Case(stack.enter_context(steady.echo()), is_copied=False)
    for program in peers.others(folder, containers, 0):
        if program.is_installed and program.name in ("nsd", "knot"):
            server = stack.enter_context(peers.running(program))
            peers.give_core(server.pid)
            yield Case(server, is_copied=True)
    url = stack.enter_context(engine(folder, containers, 0))
    ours = stack.enter_context(Running("--host-address", "192.0.2.1", docker=url))
    settle(ours.pid)
    peers.give_core(ours.pid)
    server = Server("containerdns", ours.port, ours.pid)
    yield Case(server, is_copied=False)
    yield Case(server, is_copied=True)


def _measure(case: Case, seconds: float) -> dict[str, float]:
    """Ask for a turn; the transfers run from before it to its end."""
    copies = Copies(case.server.port) if case.is_copied else None
    cpu = peers.cpu_seconds(case.server.pid)
    taken, machine = steady.measured_beside(case.server.port, seconds)
    cpu = peers.cpu_seconds(case.server.pid) - cpu
    copied = copies.finish() if copies else 0
    of_machine = steady.summary(machine)["p99.9"]
    more = {"transfers": copied, "cpu": cpu / seconds, "machine p99.9": of_machine}
    return steady.summary(taken) | more


def _row(case: Case, turns: list[dict[str, float]]) -> dict[str, Any]:
    return {
        "server": case.server.name,
        "secondaries": SECONDARIES * case.is_copied,
        "transfers": sum(turn["transfers"] for turn in turns),
        "turns": len(turns),
        "answers": sum(turn["asked"] for turn in turns),
        "lost": sum(turn["lost"] for turn in turns),
        **{name: round(statistics.median(turn[name] for turn in turns), 2) for name in FIGURES},
        "p99.9_spread": spread([turn["p99.9"] for turn in turns]),
        "cpu": round(statistics.median(turn["cpu"] for turn in turns), 2),
    }


class Copies:
    """Four secondaries in a process of their own, seen from the one that measures."""

    def __init__(self, port: int) -> None:
        command = ["taskset", "-c", CLIENT_CPU, sys.executable, "-m", "tests.bench.transfers"]
        self._process = subprocess.Popen(
            [*command, "--copy", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # all transfers have begun

    def finish(self) -> int:
        """Stop it; return how many copies were completed."""
        written, _ = self._process.communicate(timeout=STOP_PATIENCE)
        return int(written)


class Secondary:
    """One client, which asks for the whole zone again when it has it.

    Attributes:
        completed: How often it had the zone.
    """

    def __init__(self, port: int) -> None:
        self.completed = 0
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._rest = b""
        self._begin()

    def fileno(self) -> int:
        """Return its socket's file descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()

    def read(self) -> None:
        """Read what has arrived; the zone's SOA comes twice."""
        octets = self._socket.recv(READ_OCTETS)
        if not octets:
            raise SystemExit("the server ended a transfer")
        self._ends += (self._rest + octets).count(SOA)
        self._rest = octets[1 - len(SOA) :]
        if self._ends == 2:
            self.completed += 1
            self._begin()

    def _begin(self) -> None:
        self._ends = 0
        self._socket.sendall(len(QUERY).to_bytes(2) + QUERY)


def _copy_until_told(port: int) -> None:
    """Copy until the input ends; write how many copies were completed."""
    os.nice(YIELDING)
    secondaries = [Secondary(port) for _ in range(SECONDARIES)]
    with selectors.DefaultSelector() as selector:
        for secondary in secondaries:
            selector.register(secondary, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print("ready", flush=True)
        is_told = False
        while not is_told:
            for key, _ in selector.select():
                if isinstance(key.fileobj, Secondary):
                    key.fileobj.read()
                else:
                    is_told = True
    for secondary in secondaries:
        secondary.close()
    print(sum(secondary.completed for secondary in secondaries))


if __name__ == "__main__":
    main()

"""A client that asks at a steady rate, in a process of its own, and how long answers take.

    python -m tests.bench.steady PORT
    python -m tests.bench.steady --echo [--first]

Asks from the start until its input ends, and then writes how long each answer took, as JSON.  It
never waits for an answer before it asks again.  A time ends when the kernel received the
answer, so that it does not matter when this process gets a core to read it; it goes before
others on its core where the system lets it.

The second form is a server that returns each datagram with the bit of a response: what it is
late by is the client's and the machine's, the floor of every other figure.  With `--first` it goes
before the measured server on the same core, and is asked at the same time: what delays it then
(interrupts, the machine's host, this client) delays the measured server at least as much.
"""

import argparse
import contextlib
import gc
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from dnslib import DNSRecord

from tests.bench.peers import CLIENT_CPU, SERVER_CPU, Server

RATE: Final = 1000  # queries a second
LOST: Final = 1.0  # seconds until a query counts as lost
QUERY: Final = bytes(DNSRecord.question("web-1.docker").pack())
SO_TIMESTAMPNS: Final = 35  # Linux; the socket module has no name for it
STAMP_OCTETS: Final = 16  # struct timespec
SHARES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


class Client:
    """That process, seen from the one that measures."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "tests.bench.steady", str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has started

    def stop(self) -> None:
        """Stop it, if it is still running."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def finish(self) -> list[float]:
        """Stop it; return the milliseconds of each answer, the longest last."""
        written, _ = self._process.communicate()
        return sorted(json.loads(written))


def measured(port: int, seconds: float) -> list[float]:
    """Ask for some time; return the milliseconds of each answer, the longest last."""
    client = Client(port)
    time.sleep(seconds)
    return client.finish()


def measured_beside(port: int, seconds: float) -> tuple[list[float], list[float]]:
    """Do the same, and at the same time for an echo that goes before the server on its core.

    Returns:
        The milliseconds of the server's answers, and of the echo's, which are the machine's.
    """
    with machine() as finish:
        taken = measured(port, seconds)
        return taken, finish()


@contextlib.contextmanager
def machine() -> Iterator[Callable[[], list[float]]]:
    """Ask an echo that goes before the measured server on its core; yield what ends that."""
    with echo(goes_first=True) as server:
        client = Client(server.port)
        try:
            yield client.finish
        finally:
            client.stop()


def summary(ordered: list[float]) -> dict[str, float]:
    """Return how long answers took, in milliseconds, and how many queries were lost."""
    last = len(ordered) - 1
    row = {
        what: round(ordered[min(int(len(ordered) * share), last)], 2)
        for what, share in SHARES.items()
    }
    return {"asked": len(ordered), "lost": sum(ms >= LOST * 1000 for ms in ordered), **row}


@contextlib.contextmanager
def echo(*, goes_first: bool = False) -> Iterator[Server]:
    """Run the server that only returns what it gets, where the others run."""
    command = ["taskset", "-c", SERVER_CPU, sys.executable, "-m", "tests.bench.steady", "--echo"]
    command += ["--first"] * goes_first
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Server("echo", int(process.stdout.readline()), process.pid)
        finally:
            process.terminate()


def main() -> None:
    """Be the client or the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, nargs="?")
    parser.add_argument("--echo", action="store_true")
    parser.add_argument("--first", action="store_true")
    options = parser.parse_args()
    gc.disable()
    if options.first or not options.echo:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    if options.echo:
        _return_all()
    os.sched_setaffinity(0, {int(CLIENT_CPU)})
    print("ready", flush=True)
    print(json.dumps(_ask(options.port)))


def _return_all() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
        print(ours.getsockname()[1], flush=True)
        while True:
            octets, client = ours.recvfrom(4096)
            ours.sendto(octets[:2] + b"\x84" + octets[3:], client)


def _ask(port: int) -> list[float]:
    sent: list[int] = []  # nanoseconds of the system's clock
    found: dict[int, int] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        asking.connect(("127.0.0.1", port))
        asking.setblocking(False)
        due = time.perf_counter()
        while not select.select([sys.stdin], [], [], 0)[0]:
            _take(asking, found, len(sent))
            sent.append(time.time_ns())
            with contextlib.suppress(OSError):
                asking.send((len(sent) - 1 & 0xFFFF).to_bytes(2) + QUERY[2:])
            due += 1 / RATE
            time.sleep(max(due - time.perf_counter(), 0))
        until = time.perf_counter() + LOST
        while len(found) < len(sent) and time.perf_counter() < until:
            time.sleep(0.01)
            _take(asking, found, len(sent))
    late = LOST * 1000
    return [(found[n] - at) / 1e6 if n in found else late for n, at in enumerate(sent)]


def _take(asking: socket.socket, found: dict[int, int], asked: int) -> None:
    """Note when the answers arrived that have."""
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while True:
            octets, controls, *_ = asking.recvmsg(4096, socket.CMSG_SPACE(STAMP_OCTETS))
            number = int.from_bytes(octets[:2])
            number += (asked - 1 - number) >> 16 << 16  # of the last such number that was sent
            found[number] = arrival(controls)


def arrival(controls: list[tuple[int, int, bytes]]) -> int:
    """Return when the kernel received a message, in nanoseconds of the system's clock."""
    for _, kind, data in controls:
        if kind == SO_TIMESTAMPNS:
            seconds, nanoseconds = struct.unpack("qq", data)
            return int(seconds * 1_000_000_000 + nanoseconds)
    return time.time_ns()


if __name__ == "__main__":
    main()

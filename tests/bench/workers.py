"""How much later than the process that watches Docker each worker answers with a change.

    python -m tests.bench.workers [--containers N] [--json FILE]

The system gives each client's socket to one process, always the same.  Which one is found
by stopping each process for a moment: who gets no answer then, asks that one.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from dnslib import DNSRecord

from tests.bench.peers import descendants
from tests.engine.running import Running
from tests.engine.simulated import SimulatedEngine

WORKERS = 3  # the process that watches is one of them
CLIENTS = 32  # sockets; enough that each process has one
BEFORE = 100  # containers that run already
UNANSWERED = 0.03  # seconds
POLL = 0.0001  # seconds
PAUSE = 0.05  # seconds between two containers
PATIENCE = 5.0  # seconds


def main() -> None:
    """Measure, print a table, and write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measure(options.containers))
    for row in found:
        print("{what:50} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   max {max:6.2f} ms".format(**row))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


async def measure(count: int) -> list[dict[str, Any]]:
    """Start and end so many containers, one after the other."""
    started: list[float] = []
    ended: list[float] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        async with SimulatedEngine(Path(folder) / "docker.sock", BEFORE) as engine:
            options = ("--workers", str(WORKERS), "--upstream", "127.0.0.1:9")
            server = await asyncio.to_thread(Running, *options, docker=engine.url)
            stack.callback(server.stop)
            clients = [stack.enter_context(_client(server.port)) for _ in range(CLIENTS)]
            watching, *workers = clients_of(_processes(server.pid), clients)
            for number in range(count):
                query = bytes(DNSRecord.question(f"new-{number}.docker").pack())
                container = engine.add(f"new-{number}")
                started += await _later(watching, workers, query, there=True)
                await asyncio.sleep(PAUSE)
                engine.remove(container)
                ended += await _later(watching, workers, query, there=False)
                await asyncio.sleep(PAUSE)
    return [
        _row("start, a worker after the process that watches", started),
        _row("end, a worker after the process that watches", ended),
    ]


def _processes(pid: int) -> list[int]:
    """The server's, the one that watches first, when all workers live."""
    ends = time.monotonic() + PATIENCE
    while len(found := descendants(pid)) < WORKERS and time.monotonic() < ends:
        time.sleep(0.05)
    time.sleep(1.0)  # until they listen
    return found


def clients_of(pids: Iterable[int], clients: Iterable[socket.socket]) -> list[socket.socket]:
    """For each process a client that it answers."""
    query = bytes(DNSRecord.question("web-1.docker").pack())
    left = list(clients)
    found = []
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        try:
            silent = [client for client in left if not _is_answered(client, query)]
        finally:
            os.kill(pid, signal.SIGCONT)
        found.append(silent[0])
        left = [client for client in left if client not in silent]
    for client in found:  # of what was asked meanwhile
        client.settimeout(UNANSWERED)
        with suppress(TimeoutError):
            while client.recv(4096):
                pass
        client.setblocking(False)
    return found


def _is_answered(client: socket.socket, query: bytes) -> bool:
    client.settimeout(UNANSWERED)
    client.send(query)
    try:
        return bool(client.recv(4096))
    except TimeoutError:
        return False


async def _later(
    watching: socket.socket, workers: Iterable[socket.socket], query: bytes, there: bool
) -> list[float]:
    """Seconds from the right answer of the process that watches to each worker's."""
    asking = (_until(client, query, there) for client in (watching, *workers))
    first, *others = await asyncio.wait_for(asyncio.gather(*asking), PATIENCE)
    return [max(other - first, 0.0) for other in others]


async def _until(client: socket.socket, query: bytes, there: bool) -> float:
    loop = asyncio.get_running_loop()
    while True:
        await loop.sock_sendall(client, query)
        if ((await loop.sock_recv(client, 4096))[7] > 0) is there:
            return time.perf_counter()
        await asyncio.sleep(POLL)


@contextmanager
def _client(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        yield client


def _row(what: str, times: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds * 1000 for seconds in times)
    return {
        "what": what,
        "p50": statistics.median(ordered),
        "p99": ordered[len(ordered) * 99 // 100],
        "max": ordered[-1],
    }


if __name__ == "__main__":
    main()

"""How much later than the first process the last one answers with a change.

    python -m tests.bench.workers [--containers N] [--json FILE]

The system gives each query to any process, so that a client that goes on asking hears from all.
From its first right answer to its last wrong one, by when the kernel received them, some processes
are behind.  The same of bare processes that are told over the same kind of socket
(`tests.bench.bare`) is the machine's.  Also how the queries of this one client, which has one
socket, were shared out.
"""

import argparse
import asyncio
import gc
import json
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from dnslib import DNSRecord

from tests.bench import bare, peers, steady
from tests.bench.peers import cpu_seconds, descendants
from tests.engine.running import Running
from tests.engine.simulated import SimulatedEngine

WORKERS = 3  # the process that watches is one of them
BEFORE = 100  # containers that run already
SURE = 20_000_000  # nanoseconds of right answers, after which no process is thought to be behind
PAUSE = 0.05  # seconds between two containers
SHARING = 2  # seconds of one client's queries
PATIENCE = 5.0  # seconds
BARE = ", bare processes"  # end of what is measured of these
CONTROL_OCTETS = socket.CMSG_SPACE(steady.STAMP_OCTETS)


def main() -> None:
    """Measure, print a table, and write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measure(options.containers))
    for row in found:
        if "share" in row:
            print("{what:50} least {share:.2f} of {processes}".format(**row))
            continue
        print("{what:60} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   max {max:6.2f} ms".format(**row))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


async def measure(count: int) -> list[dict[str, Any]]:
    """Start and end so many containers, one after the other, and tell bare processes as often."""
    gc.freeze()
    gc.disable()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        async with SimulatedEngine(Path(folder) / "docker.sock", BEFORE) as engine:
            options = ("--workers", str(WORKERS), "--upstream", "127.0.0.1:9")
            server = await asyncio.to_thread(Running, *options, docker=engine.url)
            stack.callback(server.stop)
            _wait_for_workers(server.pid)
            peers.go_first(server.pid)
            shares = await asyncio.to_thread(_shares, server, Path(folder))
            rows += await _changes(server.port, count, partial(_start_or_end, engine))
    with bare.processes(WORKERS) as (port, tell):
        floor = await _changes(port, count, lambda _, there: tell(there))
    for row in floor:
        row["what"] += BARE
    share = {"what": "share of one client's queries", "processes": len(shares), "share": shares[0]}
    return [*rows, *floor, share]


def _start_or_end(engine: SimulatedEngine, number: int, there: bool) -> None:
    """Start a container, or remove the one that was started last."""
    if there:
        engine.add(f"new-{number}")
    else:
        engine.remove(engine.ids()[-1])


async def _changes(
    port: int, count: int, change: Callable[[int, bool], None]
) -> list[dict[str, Any]]:
    """Make so many changes and undo each; return how far processes were behind."""
    started: list[float] = []
    ended: list[float] = []
    with _client(port) as client:
        for number in range(count):
            query = bytes(DNSRecord.question(f"new-{number}.docker").pack())
            for there, behind in ((True, started), (False, ended)):
                change(number, there)
                behind.append(await _behind(client, query, there))
                await asyncio.sleep(PAUSE)
    return [
        _row("start, the last process after the first", started),
        _row("end, the last process after the first", ended),
    ]


def _wait_for_workers(pid: int) -> None:
    ends = time.monotonic() + PATIENCE
    while len(descendants(pid)) < WORKERS and time.monotonic() < ends:
        time.sleep(0.05)
    time.sleep(1.0)  # until they listen


def _shares(server: Running, folder: Path) -> list[float]:
    """Each process's share of the CPU that one client's queries take, the least first."""
    asked = folder / "names"
    asked.write_text("".join(f"web-{number}.docker A\n" for number in range(BEFORE)))
    command = f"dnsperf -s 127.0.0.1 -p {server.port} -d {asked} -c 1 -q 50 -l {SHARING}"
    before = {pid: cpu_seconds(pid) for pid in descendants(server.pid)}
    subprocess.run(command.split(), stdout=subprocess.DEVNULL, check=True)
    used = sorted(cpu_seconds(pid) - cpu for pid, cpu in before.items())
    return [round(seconds / sum(used), 2) for seconds in used]


async def _behind(client: socket.socket, query: bytes, there: bool) -> float:
    """Seconds from the first right answer to the last wrong one."""
    loop = asyncio.get_running_loop()
    first = last = arrived = 0
    async with asyncio.timeout(PATIENCE):
        while not first or arrived < max(first, last) + SURE:
            client.send(query)
            octets, arrived = await _answer(loop, client)
            is_right = (octets[7] > 0) is there
            if is_right:
                first = first or arrived
            elif first:
                last = arrived
            await asyncio.sleep(0)  # the Engine's turn, even if the response was already there
    return max(last - first, 0) / 1e9


async def _answer(loop: asyncio.AbstractEventLoop, client: socket.socket) -> tuple[bytes, int]:
    """Receive an answer; return it, and when it arrived."""
    while True:
        try:
            octets, controls, *_ = client.recvmsg(4096, CONTROL_OCTETS)
        except BlockingIOError:
            await _readable(loop, client)
        else:
            return octets, steady.arrival(controls)


async def _readable(loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_reader(client, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(client)


@contextmanager
def _client(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, steady.SO_TIMESTAMPNS, 1)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        yield client


def _row(what: str, times: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds * 1000 for seconds in times)
    return {
        "what": what,
        "count": len(ordered),
        "p50": statistics.median(ordered),
        "p99": ordered[len(ordered) * 99 // 100],
        "max": ordered[-1],
    }


if __name__ == "__main__":
    main()

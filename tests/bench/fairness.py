"""How long others than UDP clients wait for us, without load and at full load.

    python -m tests.bench.fairness [--samples N] [--json FILE]

Full load is dnsperf, which keeps the socket full.  The server has one CPU, all else the
other; who measures goes before dnsperf, where the system lets it.  He is client, upstream
and Engine at once, so that of a forwarded miss only what we add is measured.  Queries over UDP wait
behind those of dnsperf, and so do a miss and the one for a started container; how long, the row of
plain ones shows.

At the same time a bare echo that goes before the server on its CPU is asked (`tests.bench.steady`):
what it takes is the machine's.  A bare asyncio server (`tests.bench.bare`) and other servers
under the same load show what a request takes at least.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from dnslib import RR, A, DNSRecord

from tests.bench import bare, peers, steady
from tests.bench.peers import CLIENT_CPU
from tests.engine.running import Running
from tests.engine.simulated import SimulatedEngine

CONTAINERS = 100
OUTSTANDING = 150  # queries of dnsperf at once; ours over UDP wait behind them, 1 ms
WARM_UP = 1.0  # seconds
PAUSE = 0.005  # seconds between two measures
POLL = 0.0003  # seconds between two questions for a container that starts
PATIENCE = 5.0  # seconds
PLAIN = "plain query over UDP"
EVENT = "start of a container to answer"
QUERY = bytes(DNSRecord.question("web-1.docker").pack())
WITH_TCP = ("dnsmasq", "unbound", "knot", "nsd")

Measure = Callable[[], Awaitable[float]]  # seconds


class Witness:
    """Asks one server, and is its upstream and its Engine."""

    def __init__(self, server: Running, engine: SimulatedEngine, upstream: socket.socket) -> None:
        self._server = server
        self._engine = engine
        self._upstream = upstream
        self._asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._asking.setblocking(False)
        self._asking.connect(("127.0.0.1", server.port))
        self._made = 0

    def close(self) -> None:
        """Ask no more."""
        self._asking.close()

    def measures(self) -> dict[str, Measure]:
        """What it can measure, each by its name."""
        return {
            "GET /healthz": partial(healthz, int(self._server.url.rpartition(":")[2])),
            "query over TCP": partial(over_tcp, self._server.port),
            PLAIN: self.udp,
            "forwarded miss, what we add": self.miss,
            EVENT: partial(start, self._engine, self._server.port),
        }

    async def udp(self) -> float:
        """Seconds of a plain query."""
        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        await loop.sock_sendall(self._asking, QUERY)
        await loop.sock_recv(self._asking, 4096)
        return time.perf_counter() - begun

    async def miss(self) -> float:
        """Seconds that we add to a question for an upstream: there, and back again."""
        self._made += 1
        asked = f"miss-{self._made}.example."
        loop = asyncio.get_running_loop()
        begun = time.perf_counter()
        await loop.sock_sendall(self._asking, _query(asked))
        while True:
            octets, address = await loop.sock_recvfrom(self._upstream, 4096)
            there = time.perf_counter()
            query = DNSRecord.parse(octets)
            if str(query.q.qname).lower() == asked:  # and no probe of the server's own
                break
        response = query.reply()
        response.add_answer(RR(query.q.qname, rdata=A("192.0.2.1"), ttl=60))
        packed = bytes(response.pack())
        answered = time.perf_counter()
        await loop.sock_sendto(self._upstream, packed, address)
        await loop.sock_recv(self._asking, 4096)
        return there - begun + time.perf_counter() - answered


async def start(engine: SimulatedEngine, port: int) -> float:
    """Seconds from the start of a container to its address.

    It is asked for regularly, without waiting for an answer before the next question.
    """
    name = f"new-{time.monotonic_ns()}"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect(("127.0.0.1", port))
        begun = time.perf_counter()
        container = engine.add(name)
        going_on = asyncio.create_task(_ask_regularly(asking, _query(f"{name}.docker")))
        while not (await asyncio.get_running_loop().sock_recv(asking, 4096))[7]:
            pass
        taken = time.perf_counter() - begun
        going_on.cancel()
    engine.remove(container)
    return taken


async def _ask_regularly(asking: socket.socket, query: bytes) -> None:
    while True:
        with contextlib.suppress(OSError):
            asking.send(query)
        await asyncio.sleep(POLL)


async def healthz(port: int) -> float:
    """Seconds of GET /healthz, on a connection of its own."""
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b" 200 " in await reader.readline()
    taken = time.perf_counter() - begun
    writer.close()
    return taken


async def over_tcp(port: int) -> float:
    """Seconds of a query over TCP, on a connection of its own."""
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(len(QUERY).to_bytes(2) + QUERY)
    await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
    taken = time.perf_counter() - begun
    writer.close()
    return taken


def main() -> None:
    """Measure, print a table, and write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measure(options.samples))
    for row in found:
        print(
            "{what:34} load {load:4}   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   max {max:6.2f} ms"
            "   the machine {machine:6.2f} ms   waited for its CPU {waited:.1%}".format(**row)
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


async def measure(samples: int) -> list[dict[str, Any]]:
    """All measures without load, then with it."""
    gc.freeze()
    gc.disable()
    os.sched_setaffinity(0, {int(CLIENT_CPU)})  # those that are started later inherit it
    with contextlib.suppress(PermissionError):
        first = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, first, os.sched_param(1))
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream,
    ):
        upstream.bind(("127.0.0.1", 0))
        upstream.setblocking(False)
        public = f"127.0.0.1:{upstream.getsockname()[1]}"
        async with SimulatedEngine(Path(folder) / "docker.sock", CONTAINERS) as engine:
            server = await asyncio.to_thread(Running, "--upstream", public, docker=engine.url)
            peers.give_core(server.pid)
            witness = Witness(server, engine, upstream)
            measured = partial(_rows, server.pid, witness.measures(), samples)
            try:
                rows = await measured("none")
                with full_load(server.port, Path(folder)):
                    await asyncio.sleep(WARM_UP)
                    rows += await measured("full")
            finally:
                witness.close()
                await asyncio.to_thread(server.stop)
        rows += await _of_bare(Path(folder), samples)
        return rows + await _of_others(Path(folder), samples)


async def _of_bare(folder: Path, samples: int) -> list[dict[str, Any]]:
    """What the same costs of a bare asyncio server, without load and with it."""
    engine_socket = folder / "bare.sock"
    async with SimulatedEngine(engine_socket, CONTAINERS) as engine:
        return await _of_bare_server(folder, samples, engine, engine_socket)


async def _of_bare_server(
    folder: Path, samples: int, engine: SimulatedEngine, engine_socket: Path
) -> list[dict[str, Any]]:
    with bare.running(engine_socket) as server:
        peers.give_core(server.pid)
        measures: dict[str, Measure] = {
            "GET /healthz to a bare aiohttp": partial(healthz, server.http),
            "query over TCP to a bare echo": partial(over_tcp, server.dns),
            f"{EVENT} to a bare follower with an inspect": partial(start, engine, server.dns),
        }
        measured = partial(_rows, server.pid, measures, samples)
        rows = await measured("none")
        with full_load(server.dns, folder):
            await asyncio.sleep(WARM_UP)
            return rows + await measured("full")


async def _of_others(folder: Path, samples: int) -> list[dict[str, Any]]:
    """Queries over TCP to other servers at full load."""
    rows = []
    for program in peers.others(folder, CONTAINERS, 0):
        if not program.is_installed or program.name not in WITH_TCP:
            continue
        with peers.running(program) as server, full_load(server.port, folder):
            peers.give_core(server.pid)
            await asyncio.sleep(WARM_UP)
            what = f"query over TCP to {server.name}"
            once: dict[str, Measure] = {what: partial(over_tcp, server.port)}
            rows += await _rows(server.pid, once, samples, "full")
    return rows


@contextlib.contextmanager
def full_load(port: int, folder: Path) -> Iterator[None]:
    """Ask for all names, as fast as they are answered, until the end of the block."""
    names = folder / "names"
    names.write_text("".join(f"web-{n}.docker A\n" for n in range(CONTAINERS)))
    command = f"dnsperf -s 127.0.0.1 -p {port} -d {names} -c 8 -T 1 -q {OUTSTANDING} -l 600"
    process = subprocess.Popen(command.split(), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def _rows(
    pid: int, measures: dict[str, Measure], samples: int, load: str
) -> list[dict[str, Any]]:
    taken: dict[str, list[float]] = {what: [] for what in measures}
    with steady.machine() as finish:
        before, begun = waited(pid), time.perf_counter()
        for _ in range(samples):
            for what, once in measures.items():
                taken[what].append(await asyncio.wait_for(once(), PATIENCE))
                await asyncio.sleep(PAUSE)
        share = (waited(pid) - before) / (time.perf_counter() - begun)
        of_machine = await asyncio.to_thread(finish)
    more = {"load": load, "waited": share, "machine": steady.summary(of_machine)["p99"]}
    return [_row(what, sorted(times)) | more for what, times in taken.items()]


def waited(pid: int) -> float:
    """Seconds that a process's threads were ready to run, but others had its CPU."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[1]) for thread in threads) / 1e9


def _row(what: str, ordered: list[float]) -> dict[str, Any]:
    return {
        "what": what,
        "samples": len(ordered),
        "p50": statistics.median(ordered) * 1000,
        "p99": ordered[len(ordered) * 99 // 100] * 1000,
        "max": ordered[-1] * 1000,
    }


def _query(name: str) -> bytes:
    return bytes(DNSRecord.question(name).pack())


if __name__ == "__main__":
    main()

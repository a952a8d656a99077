"""How NSD, Knot and BIND follow a large zone that changes, and how long others wait.

    python -m tests.bench.secondaries [--containers N] [--events PER_SECOND] [--seconds N]

Each of the three copies the domain and a reverse zone, and is notified.  Meanwhile a client
sends 1,000 queries a second over UDP.  The containers are simulated; see `tests.engine.simulated`.
"""

import argparse
import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from dnslib import DNSRecord

from tests.bench.scale import settle
from tests.engine.running import Running, free_port
from tests.engine.simulated import SimulatedEngine
from tests.server import secondaries

RATE = 1000  # queries a second
ZONES = ("docker", "200.31.172.in-addr.arpa")
PATIENCE = 240.0  # seconds for a secondary to have a zone
TRANSFER = re.compile(r"(AXFR|IXFR) of (\S+)\. to \S+: ([a-z ]+), ")


class Asking(asyncio.DatagramProtocol):
    """A client that sends at a steady rate and notes how long each answer took, in seconds."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.sent = 0
        self._at: dict[int, float] = {}
        self._query = bytes(DNSRecord.question("web-1.docker").pack())[2:]
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.taken.append(time.perf_counter() - self._at.pop(int.from_bytes(data[:2])))

    async def run(self) -> None:
        """Ask until cancelled."""
        due = time.perf_counter()
        while True:
            while due <= time.perf_counter():
                number = self.sent & 0xFFFF
                self.sent += 1
                self._at[number] = due  # a late query counts from when it was due
                assert self._transport is not None
                self._transport.sendto(number.to_bytes(2) + self._query)
                due += 1 / RATE
            await asyncio.sleep(0.0005)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=10_000)
    parser.add_argument("--events", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    asyncio.run(measure(options.containers, options.events, options.seconds))


async def measure(containers: int, events: float, seconds: float) -> None:
    """Let secondaries come one after the other while the zone changes; print what happened."""
    names = [name for name in sorted(secondaries.COMMANDS) if shutil.which(name)]
    ports = {name: free_port() for name in names}
    notify = [word for port in ports.values() for word in ("--notify", f"127.0.0.1:{port}")]
    with tempfile.TemporaryDirectory() as folder, engine(Path(folder), containers, events) as url:
        options = ("--host-address", "192.0.2.1", "--rate-limit", "0", *notify)
        server = await asyncio.to_thread(Running, *options, docker=url)
        try:
            await _measure(server, ports, Path(folder), seconds)
        finally:
            await asyncio.to_thread(server.stop)


async def _measure(server: Running, ports: dict[str, int], folder: Path, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    remote = ("127.0.0.1", server.port)
    transport, asking = await loop.create_datagram_endpoint(Asking, remote_addr=remote)
    task = asyncio.create_task(asking.run())
    await asyncio.to_thread(settle, server.pid)
    asking.taken.clear()
    await asyncio.sleep(5)
    report("nobody copies", asking)
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            stack.enter_context(secondary(name, folder, port, server.port))
            await asyncio.to_thread(wait_for, port)
        await asyncio.sleep(2)
        report("they copy all", asking)
        _, begun = transfers(server)
        await asyncio.sleep(seconds)
        report("they follow", asking)
        task.cancel()
        seen, _ = transfers(server, begun)
        for kind, count in sorted(seen.items()):
            print(f"{count:6} {kind}")
        for name, port in ports.items():
            print(f"{name}: {serial(server.port) - serial(port)} serials behind")
    transport.close()


def report(what: str, asking: Asking) -> None:
    """Print how long answers took, and start over."""
    taken, asking.taken = sorted(asking.taken), []
    shown = "   ".join(
        f"{text} {taken[min(int(len(taken) * share), len(taken) - 1)] * 1000:6.2f} ms"
        for text, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
    )
    print(f"{what:14} {len(taken):6} answers   {shown}")


def transfers(server: Running, after: int = 0) -> tuple[Counter[str], int]:
    """The transfers in a server's log, by kind, from a place in it; and where it ends."""
    log = server.log()
    found = TRANSFER.finditer(log, after)
    return Counter(f"{m[1]} of {m[2]}: {m[3]}" for m in found), len(log)


def serial(port: int) -> int:
    """The serial of the domain at a server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1.0)
        client.connect(("127.0.0.1", port))
        client.send(bytes(DNSRecord.question("docker", "SOA").pack()))
        answer = DNSRecord.parse(client.recv(4096)).rr
    return int(answer[0].rdata.times[0]) if answer else 0


def wait_for(port: int) -> None:
    """Wait until a secondary has the domain."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if serial(port):
                return
        time.sleep(0.1)
    raise AssertionError("the secondary does not have the zone")


@contextlib.contextmanager
def secondary(name: str, folder: Path, port: int, primary: int) -> Iterator[None]:
    """Run one of the others' servers."""
    own = folder / name
    own.mkdir()
    command = secondaries.COMMANDS[name](own, port, primary, False, ZONES)
    with running(command):
        yield


@contextlib.contextmanager
def engine(folder: Path, containers: int, events: float) -> Iterator[str]:
    """Run a simulated Engine in a process of its own; its URL."""
    path = folder / "docker.sock"
    program = [sys.executable, "-m", "tests.engine.simulated", str(path)]
    with running([*program, "--containers", str(containers), "--churn", str(events / 2)]):
        while not path.exists():
            time.sleep(0.05)
        yield SimulatedEngine(path).url


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[None]:
    """Run a program until the end of the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

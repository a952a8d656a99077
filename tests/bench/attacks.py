"""What a bystander notices while others try to stall the server, and the memory that it costs.

    python -m tests.bench.attacks [--names-held N] [--seconds N] [--json FILE] [NAME...]

Each attack is a process of its own against a server of its own, on loopback, for some
seconds.  Meanwhile a bystander asks 1,000 questions a second over UDP (`tests.bench.steady`).  The
server has one CPU, all else the other, where the bystander goes first.  At the same time another
one asks a bare echo that goes before the server on its CPU: what that one notices is the machine's.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from dnslib import DNSRecord

from containerdns.server.udp import leaving_from
from tests.bench import peers, steady
from tests.bench.peers import CLIENT_CPU, resident_mb
from tests.bench.scale import QUESTION, engine, settle
from tests.engine.running import Running, free_port
from tests.fuzz.searching import long_names, worst_queries

CLIENTS: Final = 8  # addresses of 127.0.1.0/24 that attack
ANSWER_RECORDS: Final = 200  # of 250 octets, in answers of the attacks' own upstream
DESCRIPTORS: Final = 4096
LATE: Final = 1.0  # seconds until the upstream answers questions for names below late.example
ATTACKED: Final = "ATTACKED"  # environment variable with the server's process id
YIELDING: Final = 10  # niceness of the attackers, which are other machines in earnest
Address = tuple[str, int]


async def zone(_: Address, http: Address) -> None:
    """64 clients at once read /zone, again and again."""
    await _together(64, http, "/zone?format=json")


async def explain(_: Address, http: Address) -> None:
    """8 clients have a name of 100 labels explained with 16 search domains."""
    name = ".".join("a" * 100)
    search = "&".join(f"search=s{n}.example" for n in range(16))
    await _together(8, http, f"/explain?name={name}&{search}")


async def explain_600(_: Address, http: Address) -> None:
    """One client has a name of 100 labels explained with 600 search domains."""
    name = ".".join("a" * 100)
    search = "&".join(f"search=s{n}" for n in range(600))
    await _together(1, http, f"/explain?name={name}&{search}")


async def requests(_: Address, http: Address) -> None:
    """128 connections send requests without waiting for answers."""
    await _pump(http, 128, b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n" * 100)


async def streams(_: Address, http: Address) -> None:
    """16 streams of all queries."""

    async def follow(_: int) -> None:
        reader, writer = await asyncio.open_connection(*http)
        writer.write(b"GET /queries HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
        while await reader.read(1 << 16):
            pass

    await _many(16, follow)


async def metrics(dns: Address, http: Address) -> None:
    """Questions of all types, while 4 clients scrape."""

    async def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect(dns)
            while True:
                for _step in range(2):
                    name = b"\x04none\x06docker\0"
                    header = struct.pack("!6H", random.randrange(1 << 16), 256, 1, 0, 0, 0)
                    with contextlib.suppress(OSError):
                        asking.send(
                            header + name + struct.pack("!HH", random.randrange(1 << 16), 1)
                        )
                await asyncio.sleep(0.002)

    await asyncio.gather(ask(), _together(4, http, "/metrics"))


async def frames(dns: Address, _: Address) -> None:
    """8 TCP connections pump frames of 64 KB, full of records."""
    record = b"\0" + struct.pack("!HHIH", 16, 1, 0, 1) + b"\0"
    count = 65000 // len(record)
    query = struct.pack("!6H", 1, 256, 1, 0, 0, count) + b"\x03web\x06docker\0\0\1\0\1"
    message = query + record * count
    await _pump(dns, 8, len(message).to_bytes(2) + message)


async def small_frames(dns: Address, _: Address) -> None:
    """64 TCP connections pump small queries."""
    query = bytes(DNSRecord.question("web-1.docker").pack())
    await _pump(dns, 64, (len(query).to_bytes(2) + query) * 500)


async def connects(dns: Address, _: Address) -> None:
    """Connections over TCP, opened and closed as fast as can be."""

    async def connect(number: int) -> None:
        while True:
            _, writer = await _connect(dns, number)
            writer.transport.abort()

    await _many(128, connect)


async def unread(dns: Address, _: Address) -> None:
    """256 TCP connections ask for large forwarded answers, and read nothing."""

    async def ask(number: int) -> None:
        _, writer = await _connect(dns, number)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for n in range(1000):
            query = bytes(DNSRecord.question(f"n{n}-{number}.example", "TXT").pack())
            writer.write(len(query).to_bytes(2) + query)
        await asyncio.sleep(60)

    await _many(256, ask)


async def pointers(dns: Address, _: Address) -> None:
    """200 queries a second of 2.1 KB of compression pointers, over UDP."""
    await _at_a_rate(dns, 200, worst_queries(2112))


async def pointer_frames(dns: Address, _: Address) -> None:
    """2 TCP connections pump frames of 64 KB of compression pointers."""
    frame, *_rest = worst_queries(65000)
    await _pump(dns, 2, len(frame).to_bytes(2) + frame)


async def labels(dns: Address, _: Address) -> None:
    """300 queries a second for names of as many labels as there can be, over UDP."""
    await _at_a_rate(dns, 300, list(long_names()))


async def _at_a_rate(dns: Address, rate: int, queries: list[bytes], at_once: int = 1) -> None:
    """Send queries in turn, so many together, at so many times a second."""
    cycle = itertools.cycle(queries)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(dns)
        while True:
            for query in itertools.islice(cycle, at_once):
                with contextlib.suppress(OSError):
                    asking.send(query)
            await asyncio.sleep(1 / rate)


async def locals_(dns: Address, _: Address) -> None:
    """Questions at 300,000 addresses of this machine."""
    asked, port = 0, dns[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        while asked < 300_000:
            for _step in range(50):
                asked += 1
                host = f"127.{asked >> 16 & 255}.{asked >> 8 & 255}.{asked & 255}"
                asking.sendto(QUESTION, (host, port))
            await asyncio.sleep(0.001)


async def sources(dns: Address, _: Address) -> None:
    """First questions of 300,000 clients, 5,000 a second, over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for number in range(300_000):
            source = bytes((127, 64 | number >> 16, number >> 8 & 255, number & 255))
            with contextlib.suppress(OSError):
                asking.sendmsg([QUESTION], leaving_from(source), 0, dns)
            if number % 10 == 0:
                await asyncio.sleep(0.002)


async def one_name(_: Address, http: Address) -> None:
    """8 clients ask /zone for a name that does not exist."""
    await _together(8, http, "/zone?format=json&name=nosuch")


async def slow_headers(_: Address, http: Address) -> None:
    """256 connections send a request a few octets at a time, and never end it."""

    async def trickle(number: int) -> None:
        _, writer = await _connect(http, number)
        writer.write(b"GET /status HTTP/1.1\r\nHost: a\r\n")
        while not writer.is_closing():
            writer.write(b"A: b\r\n")
            await asyncio.sleep(0.05)

    await _many(256, trickle)


async def kept_alive(_: Address, http: Address) -> None:
    """64 connections ask for /healthz again as soon as it was answered."""

    async def ask(number: int) -> None:
        reader, writer = await _connect(http, number)
        while not writer.is_closing():
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            if not await reader.read(4096):
                break

    await _many(64, ask)


async def octets(dns: Address, _: Address) -> None:
    """64 TCP connections send queries in segments of one octet."""
    query = bytes(DNSRecord.question("web-1.docker").pack())
    frame = len(query).to_bytes(2) + query

    async def drip(number: int) -> None:
        reader, writer = await _connect(dns, number)
        connected = writer.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            for octet in frame:
                writer.write(bytes([octet]))
                await asyncio.sleep(0)
            await reader.read(4096)

    await _many(64, drip)


async def notifies(dns: Address, _: Address) -> None:
    """5,000 messages a second, of the opcodes NOTIFY and UPDATE."""
    soa = b"\x06docker\0\0\6\0\1"
    both = [b"\0\1" + bytes([opcode << 3, 0]) + b"\0\1\0\0\0\0\0\0" + soa for opcode in (4, 5)]
    await _at_a_rate(dns, 500, [*both * 5], at_once=10)


async def signed(dns: Address, _: Address) -> None:
    """2,000 queries a second with TSIG records of unknown keys, and as many AXFR over TCP."""
    question = b"\x06docker\0\0\xfc\0\1"
    algorithm = b"\x0bhmac-sha256\0"
    rdata = algorithm + bytes(6) + b"\1\x2c\0\x20" + bytes(32) + b"\0\1\0\0\0\0"
    record = b"\3key\0" + struct.pack("!HHIH", 250, 255, 0, len(rdata)) + rdata
    query = b"\0\1\0\0\0\1\0\0\0\0\0\1" + question + record
    await asyncio.gather(
        _at_a_rate(dns, 200, [query] * 10, at_once=10),
        _pump(dns, 8, len(query).to_bytes(2) + query),
    )


async def copies(dns: Address, _: Address) -> None:
    """16 clients that may transfer copy the zone, each over a new connection when it has it."""
    query = bytes(DNSRecord.question("docker", "AXFR").pack())

    async def copy(_: int) -> None:
        reader, writer = await asyncio.open_connection(*dns)
        writer.write(len(query).to_bytes(2) + query)
        ends = 0
        while ends < 2 and (read := await reader.read(1 << 18)):
            ends += read.count(b"\0\6\0\1\0\0\0\5")  # SOA; it begins and ends a transfer
        writer.transport.abort()

    await _many(16, copy)


async def reloads(_: Address, __: Address) -> None:
    """SIGHUP, five times a second."""
    while True:
        os.kill(int(os.environ[ATTACKED]), signal.SIGHUP)
        await asyncio.sleep(0.2)


async def late(dns: Address, _: Address) -> None:
    """2,000 questions a second, each of which the upstream answers after a second."""
    names = (f"n{number}.late.example" for number in itertools.count())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(dns)
        while True:
            for name in itertools.islice(names, 10):
                with contextlib.suppress(OSError):
                    asking.send(bytes(DNSRecord.question(name).pack()))
            await asyncio.sleep(0.005)


ATTACKS: Final[dict[str, Callable[[Address, Address], Awaitable[None]]]] = {
    "zone": zone,
    "explain": explain,
    "explain-600": explain_600,
    "requests": requests,
    "streams": streams,
    "metrics": metrics,
    "frames": frames,
    "small-frames": small_frames,
    "connects": connects,
    "unread": unread,
    "locals": locals_,
    "sources": sources,
    "one-name": one_name,
    "pointers": pointers,
    "pointer-frames": pointer_frames,
    "labels": labels,
    "slow-headers": slow_headers,
    "kept-alive": kept_alive,
    "octets": octets,
    "notifies": notifies,
    "signed": signed,
    "copies": copies,
    "reloads": reloads,
    "late": late,
}


async def _connect(
    where: Address, number: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*where, local_addr=(f"127.0.1.{number % CLIENTS}", 0))


async def _many(count: int, one: Callable[[int], Awaitable[None]]) -> None:
    async def again(number: int) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await one(number)
            await asyncio.sleep(0.01)

    await asyncio.gather(*(again(number) for number in range(count)))


async def _together(count: int, http: Address, path: str) -> None:
    """Some connections ask for a path, again and again."""

    async def get(number: int) -> None:
        reader, writer = await _connect(http, number)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        while await reader.read(1 << 16):
            pass
        writer.close()

    await _many(count, get)


async def _pump(where: Address, count: int, octets: bytes) -> None:
    """Some connections send the same octets until cancelled, and read what comes."""

    async def pump(number: int) -> None:
        reader, writer = await _connect(where, number)

        async def write() -> None:
            while True:
                writer.write(octets)
                await writer.drain()

        writing = asyncio.ensure_future(write())
        try:
            while await reader.read(1 << 16):
                pass
        finally:
            writing.cancel()

    await _many(count, pump)


class LargeAnswers(asyncio.Protocol):
    """The TCP side of an upstream with long texts."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2])
            if len(self._buffer) < end:
                return
            query, self._buffer = self._buffer[2:end], self._buffer[end:]
            stop = query.index(b"\0", 12) + 5
            record = b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 60, 250) + b"\xf9" + b"x" * 249
            head = query[:2] + struct.pack("!5H", 0x8180, 1, ANSWER_RECORDS, 0, 0)
            message = head + query[12:stop] + record * ANSWER_RECORDS
            self._transport.write(len(message).to_bytes(2) + message)


class Truncated(asyncio.DatagramProtocol):
    """Its UDP side: ask again over TCP."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        stop = data.index(b"\0", 12) + 5
        head = struct.pack("!5H", 0x8380, 1, 0, 0, 0)
        reply = data[:2] + head + data[12:stop], addr
        if b"\4late" in data.lower():
            asyncio.get_running_loop().call_later(LATE, self._transport.sendto, *reply)
        else:
            self._transport.sendto(*reply)


async def _be_upstream(port: int) -> None:
    loop = asyncio.get_running_loop()
    where = ("127.0.0.1", port)
    await loop.create_datagram_endpoint(Truncated, local_addr=where)
    await loop.create_server(LargeAnswers, *where)
    print("ready", flush=True)
    await asyncio.sleep(3600)


def _measure(name: str | None, names: int, seconds: float) -> dict[str, Any]:
    """Start a server, have it attacked, and ask it meanwhile."""
    upstream = free_port()
    this = [sys.executable, "-m", "tests.bench.attacks"]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(engine(folder, 10, 0))
        hosts = folder / "hosts"
        hosts.write_text("".join(f"10.{n >> 8}.{n & 255}.7 host{n}\n" for n in range(names)))
        answering = stack.enter_context(
            subprocess.Popen([*this, "--upstream", str(upstream)], stdout=subprocess.PIPE)
        )
        stack.callback(answering.kill)
        assert answering.stdout is not None
        answering.stdout.readline()
        port = free_port()
        listen, upstreams = f"0.0.0.0:{port}", f"127.0.0.1:{upstream}"
        options = ("--listen", listen, "--upstream", upstreams, "--hosts", str(hosts))
        server = stack.enter_context(_listening(port, options, url))
        settle(server.pid)
        peers.give_core(server.pid)
        before = resident_mb(server.pid)
        if name is not None:
            http = server.url.rpartition(":")[2]
            attacking = subprocess.Popen(
                [*this, "--attack", name, str(port), http],
                env=os.environ | {ATTACKED: str(server.pid)},
                stderr=subprocess.DEVNULL,  # asyncio's warnings of closed connections
            )
            stack.callback(attacking.wait)
            stack.callback(attacking.kill)
            time.sleep(1.0)
        taken, machine = steady.measured_beside(port, seconds)
        return {
            "attack": name or "none",
            **steady.summary(taken),
            "machine p99.9": steady.summary(machine)["p99.9"],
            "MB before": round(before, 1),
            "MB after": round(resident_mb(server.pid), 1),
        }


@contextlib.contextmanager
def _listening(port: int, options: tuple[str, ...], url: str) -> Iterator[Running]:
    """Run a server whose port is known beforehand."""
    server = Running(*options, docker=url, ready=False)
    try:
        server.port = port
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                server.get("/readyz")
                break
            time.sleep(0.05)
        yield server
    finally:
        server.stop()


def main() -> None:
    """Attack and measure, print a table, and write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(ATTACKS))
    parser.add_argument("--names-held", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--attack", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        asyncio.run(_be_upstream(options.upstream))
    elif options.attack:
        name, dns, http = options.attack
        os.nice(YIELDING)
        os.sched_setaffinity(0, {int(CLIENT_CPU)})
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        asyncio.run(_attack(ATTACKS[name], int(dns), int(http)))
    else:
        rows = []
        for name in [None, *(options.names or ATTACKS)]:
            rows.append(_measure(name, options.names_held, options.seconds))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))


async def _attack(
    attack: Callable[[Address, Address], Awaitable[None]], dns: int, http: int
) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(120):
            await attack(("127.0.0.1", dns), ("127.0.0.1", http))
            await asyncio.sleep(60)


if __name__ == "__main__":
    main()

"""A bare asyncio server: what a request costs others than us at least, on this machine.

    python -m tests.bench.bare [--engine SOCKET]
    python -m tests.bench.bare --processes N

It returns datagrams with the bit of a response, many per pass, and frames over TCP, and answers
GET /healthz with aiohttp.  It writes its two ports, and runs until it is terminated.  With an
Engine, it follows the events, inspects what starts, and from then on claims to have a record for
that name; it does nothing else with it.

The second form is so many processes on one port, whose answers have a record or none.  The first
reads an octet from the input for each change, and sends it to the others over socket pairs.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from containerdns.core.endpoints import Endpoint
from containerdns.server.sockets import open_all, spread
from tests.bench.peers import SERVER_CPU

AT_ONCE = 64  # datagrams in a pass
STARTS = "%7B%22event%22%3A%5B%22start%22%5D%7D"  # {"event":["start"]}
REQUEST = b"GET %s HTTP/1.1\r\nHost: docker\r\n\r\n"


class Bare(NamedTuple):
    """The running server."""

    pid: int
    dns: int
    http: int


class _Frames(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class _Following(asyncio.Protocol):
    """The stream of an Engine's events; each that starts is inspected."""

    def __init__(self, inspecting: "_Inspecting") -> None:
        self._inspecting = inspecting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(REQUEST % f"/events?filters={STARTS}".encode())

    def data_received(self, data: bytes) -> None:
        for line in data.splitlines():  # the Engine sends an event in one piece
            if line.startswith(b"{") and b'"start"' in line:
                self._inspecting.inspect(json.loads(line)["Actor"]["ID"])


class _Inspecting(asyncio.Protocol):
    """A connection for inspects, of one at a time.

    Attributes:
        names: Of what was inspected.
    """

    def __init__(self) -> None:
        self.names: set[bytes] = set()
        self._octets = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def inspect(self, container_id: str) -> None:
        self._transport.write(REQUEST % f"/containers/{container_id}/json".encode())

    def data_received(self, data: bytes) -> None:
        self._octets += data
        head, _, body = self._octets.partition(b"\r\n\r\n")
        length = head.rpartition(b"Content-Length: ")[2]
        if body and len(body) >= int(length):
            self._octets = b""
            self.names.add(json.loads(body)["Name"].removeprefix("/").encode())


@contextlib.contextmanager
def running(engine_socket: Path | None = None) -> Iterator[Bare]:
    """Run it where servers run, until the end of the block."""
    command = ["taskset", "-c", SERVER_CPU, sys.executable, "-m", "tests.bench.bare"]
    command += ["--engine", str(engine_socket)] if engine_socket is not None else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            dns, http = process.stdout.readline().split()
            yield Bare(process.pid, int(dns), int(http))
        finally:
            process.terminate()


@contextlib.contextmanager
def processes(count: int) -> Iterator[tuple[int, Callable[[bool], None]]]:
    """Run so many processes until the end of the block.

    Yields:
        Their port, and what has all answer with a record, or without one.
    """
    command = [sys.executable, "-m", "tests.bench.bare", "--processes", str(count)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told = process.stdin.fileno()
        try:
            yield int(process.stdout.readline()), lambda there: _write(told, there)
        finally:
            process.stdin.close()


def _write(descriptor: int, has_record: bool) -> None:
    os.write(descriptor, bytes([has_record]))


def _share_port(count: int) -> None:
    """Be the first of so many processes, and start the others."""
    endpoint = Endpoint("127.0.0.1", 0)
    listener = open_all((endpoint,), shared=True)[0]
    others = []
    for _ in range(count - 1):
        ours, theirs = socket.socketpair()
        if not os.fork():
            ours.close()
            own = open_all((listener.endpoint,), shared=True)[0]
            _answer(own.udp, theirs.fileno(), [])
        theirs.close()
        others.append(ours)
    spread([listener], count)
    print(listener.endpoint.port, flush=True)
    _answer(listener.udp, sys.stdin.fileno(), others)


def _answer(datagrams: socket.socket, told: int, others: list[socket.socket]) -> None:
    """Answer, and follow changes, until the source of these is closed."""
    record = b"\0"
    with selectors.DefaultSelector() as selector:
        selector.register(datagrams, selectors.EVENT_READ)
        selector.register(told, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == told:
                    if not (record := os.read(told, 1)):
                        os._exit(0)
                    for other in others:
                        other.send(record)
                else:
                    octets, client = datagrams.recvfrom(4096)
                    datagrams.sendto(octets[:2] + b"\x84\0\0\1\0" + record + octets[8:], client)


def _return_some(datagrams: socket.socket, names: set[bytes]) -> None:
    with contextlib.suppress(BlockingIOError):
        for _ in range(AT_ONCE):
            octets, client = datagrams.recvfrom(4096)
            records = b"\1" if octets[13 : 13 + octets[12]] in names else b"\0"
            datagrams.sendto(octets[:2] + b"\x84" + octets[3:7] + records + octets[8:], client)


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _serve(engine_socket: Path | None) -> None:
    loop = asyncio.get_running_loop()
    inspecting = _Inspecting()
    if engine_socket is not None:
        await loop.create_unix_connection(lambda: inspecting, str(engine_socket))
        await loop.create_unix_connection(lambda: _Following(inspecting), str(engine_socket))
    app = web.Application()
    app.router.add_get("/healthz", _healthz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    frames = await loop.create_server(_Frames, "127.0.0.1", 0)
    dns = frames.sockets[0].getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", dns))
        datagrams.setblocking(False)
        loop.add_reader(datagrams, _return_some, datagrams, inspecting.names)
        print(dns, runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--engine", type=Path)
    options = parser.parse_args()
    gc.disable()
    if options.processes:
        _share_port(options.processes)
    asyncio.run(_serve(options.engine))


if __name__ == "__main__":
    main()

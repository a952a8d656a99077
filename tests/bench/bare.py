"""A bare asyncio server: what a request costs others than us at least, on this machine.

    python -m tests.bench.bare

It returns datagrams with the bit of a response, many per pass, and frames over TCP, and answers
GET /healthz with aiohttp.  It writes its two ports, and runs until it is terminated.
"""

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from aiohttp import web

from tests.bench.peers import SERVER_CPU

AT_ONCE = 64  # datagrams in a pass


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


@contextlib.contextmanager
def running() -> Iterator[Bare]:
    """Run it where servers run, until the end of the block."""
    command = ["taskset", "-c", SERVER_CPU, sys.executable, "-m", "tests.bench.bare"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            dns, http = process.stdout.readline().split()
            yield Bare(process.pid, int(dns), int(http))
        finally:
            process.terminate()


def _return_some(datagrams: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        for _ in range(AT_ONCE):
            octets, client = datagrams.recvfrom(4096)
            datagrams.sendto(octets[:2] + b"\x84" + octets[3:], client)


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _serve() -> None:
    loop = asyncio.get_running_loop()
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
        loop.add_reader(datagrams, _return_some, datagrams)
        print(dns, runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    gc.disable()
    asyncio.run(_serve())

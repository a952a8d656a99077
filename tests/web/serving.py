"""A real HTTP server on port 0 of loopback, and what it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from containerdns.core.connections.places import Limits
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.web.http import HTTPServer
from containerdns.web.stream import Rates
from tests.timing import MAX_WAIT
from tests.web.fake import FakeState


@dataclass
class Got:
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Site:
    """A server that is answering."""

    url: str
    port: int
    state: FakeState
    counters: Counters
    session: aiohttp.ClientSession
    rates: Rates

    async def get(self, path: str, method: str = "GET", **headers: str) -> Got:
        """Ask, with underscores in the names of headers for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, self.url + path, headers=named) as response:
            return Got(response.status, response.headers.copy(), await response.read())

    async def json(self, path: str, **headers: str) -> Any:
        async with self.session.get(self.url + path, headers=headers) as response:
            return await response.json()


@asynccontextmanager
async def running_site(
    state: FakeState | None = None,
    counters: Counters | None = None,
    hosts: tuple[str, ...] = (),
    limits: Limits | None = None,
) -> AsyncIterator[Site]:
    """Run a server for the length of the block."""
    fake, counts = state or FakeState(), counters or Counters()
    server = HTTPServer(Endpoint("127.0.0.1", 0), fake, counts, hosts=hosts, limits=limits)
    task = asyncio.create_task(server.run())
    try:
        async with aiohttp.ClientSession() as session:
            port = server.endpoint.port
            yield Site(f"http://127.0.0.1:{port}", port, fake, counts, session, server.rates)
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=MAX_WAIT)
        assert task.cancelled()


def with_site(
    test: Callable[[Site], Awaitable[None]],
    state: FakeState | None = None,
    counters: Counters | None = None,
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
) -> None:
    """Run a coroutine beside a server, outside an event loop; `run` has one."""

    async def beside() -> None:
        async with running_site(state, counters) as site:
            await test(site)

    run(beside())

"""A sink that remembers what a watcher tells, and lets tests wait for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from containerdns.core.zone.containers import Container, Network
from containerdns.engine.watcher import Timing, Watcher

MAX_WAIT = 60.0  # seconds


class Recorder:
    """What a watcher told.

    Attributes:
        calls: Each call: its name, its arguments without the engine, the time of arrival.
        containers: As told last, by id; a death leaves the container with state "exited".
        unreadable: Reasons by id.
        networks: As told last.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], float]] = []
        self.containers: dict[str, Container] = {}
        self.unreadable: dict[str, str] = {}
        self.networks: tuple[Network, ...] = ()
        self._news = asyncio.Event()

    def container_changed(
        self, engine: str, container: Container, event_time: float | None
    ) -> None:
        self.containers[container.id] = container
        self.unreadable.pop(container.id, None)
        self._note("container_changed", container, event_time)

    def container_died(
        self,
        engine: str,
        container_id: str,
        event_time: float | None,
        exit_status: int | None = None,
    ) -> None:
        self._note("container_died", container_id, event_time)

    def container_removed(self, engine: str, container_id: str, event_time: float | None) -> None:
        self.containers.pop(container_id, None)
        self.unreadable.pop(container_id, None)
        self._note("container_removed", container_id, event_time)

    def container_unreadable(
        self, engine: str, container_id: str, container_name: str, reason: str
    ) -> None:
        self.unreadable[container_id] = reason
        self._note("container_unreadable", container_id, container_name, reason)

    def networks_changed(self, engine: str, networks: tuple[Network, ...]) -> None:
        self.networks = networks
        self._note("networks_changed", networks)

    def incomplete(self, engine: str) -> None:
        self._note("incomplete")

    def listed(self, engine: str) -> None:
        self._note("listed")

    def connected(self, engine: str) -> None:
        self._note("connected")

    def disconnected(self, engine: str, cause: str) -> None:
        self._note("disconnected", cause)

    def event_seen(self, engine: str, action: str) -> None:
        self._note("event_seen", action)

    def resynced(self, engine: str, reason: str) -> None:
        self._note("resynced", reason)

    def list_failed(self, engine: str, cause: str) -> None:
        self._note("list_failed", cause)

    # What tests ask.

    def count(self, call: str, *arguments: Any) -> int:
        """How often a call came; with arguments, only those that begin with them."""
        return len(self.arrivals(call, *arguments))

    def arrivals(self, call: str, *arguments: Any) -> list[float]:
        """When a call came, on the system's clock."""
        return [
            when
            for name, given, when in self.calls
            if name == call and given[: len(arguments)] == arguments
        ]

    def running(self) -> dict[str, Container]:
        """Those that run, by container name, deaths taken into account."""
        alive: dict[str, Container] = {}
        for name, given, _ in self.calls:
            if name == "container_changed" and given[0].is_running:
                alive[given[0].id] = given[0]
            elif name == "container_changed":
                alive.pop(given[0].id, None)
            elif name in ("container_died", "container_removed"):
                alive.pop(given[0], None)
        return {container.container_name: container for container in alive.values()}

    async def until(self, condition: Callable[[], Any], within: float = MAX_WAIT) -> float:
        """Wait until something is true after a call; give the seconds that it took."""
        begun = time.monotonic()
        async with asyncio.timeout(within):
            while not condition():
                self._news.clear()
                await self._news.wait()
        return time.monotonic() - begun

    async def until_listed(self) -> None:
        """Wait for one more listing."""
        before = self.count("listed")
        await self.until(lambda: self.count("listed") > before)

    async def until_compared(self) -> None:
        """Wait for a listing that began after this call: the second, as one may be under way."""
        await self.until_listed()
        await self.until_listed()

    def _note(self, call: str, *arguments: Any) -> None:
        self.calls.append((call, arguments, time.time()))
        self._news.set()


@asynccontextmanager
async def watching(
    url: str, tls: Path | None = None, **timing: float
) -> AsyncIterator[tuple[Recorder, Watcher]]:
    """Run a watcher with a recorder."""
    recorder = Recorder()
    watcher = Watcher(url, tls, recorder, Timing(**timing))
    task = asyncio.create_task(watcher.run())
    try:
        yield recorder, watcher
        if task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

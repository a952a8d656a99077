"""Simulated Engines for servers of a fleet, each on a loop of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tests.engine.running import Running
from tests.engine.simulated import SimulatedEngine
from tests.fleet.cluster import Cluster

LEASE = 6  # seconds, which a busy machine renews in time

T = TypeVar("T")


class Engine:
    """A simulated Engine that a test may call from its own thread.

    Attributes:
        url: What `--docker` takes.
    """

    def __init__(self, engine: SimulatedEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self.url = engine.url

    def add(self, name: str, at: str | None = None, **labels: str) -> str:
        """Run a container with some address of the network, and give its id."""
        docker_labels = {f"containerdns.{key}": value for key, value in labels.items()} or None
        return self._do(lambda: self._engine.add(name, address=at, docker_labels=docker_labels))

    def die(self, container_id: str) -> None:
        """End a container; it still exists."""
        self._do(lambda: self._engine.die(container_id))

    def start_again(self, container_id: str, address: str) -> None:
        """Start a container that died."""
        self._do(lambda: self._engine.start_again(container_id, address))

    def remove(self, container_id: str) -> None:
        """Remove a container."""
        self._do(lambda: self._engine.remove(container_id))

    def set_health(self, container_id: str, health: str) -> None:
        """Set the outcome of a container's health check."""
        self._do(lambda: self._engine.set_health(container_id, health))

    def event_time(self, action: str) -> float:
        """When the last event of this kind happened, as the Engine says."""
        return self._do(lambda: self._engine.event_time(action))

    def vanish(self) -> None:
        """Close the socket with all connections, as a killed Engine."""
        asyncio.run_coroutine_threadsafe(self._engine.stop(), self._loop).result(10)

    def come_back(self) -> None:
        """Listen again."""
        asyncio.run_coroutine_threadsafe(self._engine.start(), self._loop).result(10)

    def _do(self, act: Callable[[], T]) -> T:
        async def do() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(10)


@contextlib.contextmanager
def simulated(folder: Path, name: str = "quiet") -> Iterator[Engine]:
    """An Engine without containers, at a socket in a folder."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    engine = Engine(SimulatedEngine(folder / f"{name}.sock"), loop)
    engine.come_back()
    try:
        yield engine
    finally:
        engine.vanish()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextlib.contextmanager
def quiet_engine(folder: Path) -> Iterator[str]:
    """An Engine that has nothing; its URL."""
    with simulated(folder) as engine:
        yield engine.url


def of_fleet(cluster: Cluster, host: str, *more: str) -> tuple[str, ...]:
    """The options of a host, "a" or "b", with an address of its own."""
    number = str(ord(host) - ord("a") + 1)
    options = ("--fleet-lease", str(LEASE), "--handover", "0")
    address = ("--host-address", f"192.0.2.{number}")
    return ("--fleet", cluster.url, "--fleet-host", host, *options, *address, *more)


def has(server: Running, name: str, *addresses: str) -> bool:
    """Return whether a name below the domain has exactly these addresses."""
    return server.addresses(f"{name}.docker") == sorted(addresses)

"""One look at an Engine, for `check`: whether we could serve it, and what."""

from collections.abc import Iterable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

from containerdns.core.containers import (
    Container,
    Network,
    container_from_inspect,
    container_from_list,
    network_from_document,
)
from containerdns.engine.client import EngineClient
from containerdns.errors import BadDocument


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What `check` shows of one Engine.

    Attributes:
        url: As configured.
        version: "20.10.24"; "" if the Engine does not tell.
        api_version: "1.41"; "" likewise.
        containers: All, running or not.
        networks: All; None if a socket proxy forbids to list them.
    """

    url: str
    version: str
    api_version: str
    containers: tuple[Container, ...]
    networks: tuple[Network, ...] | None

    @property
    def running(self) -> int:
        """How many of them run."""
        return sum(container.is_running for container in self.containers)


async def probe(url: str, tls: Path | None) -> EngineReport:
    """Ask an Engine once for all that we would serve, inspecting each container.

    Raises:
        EngineUnavailable: It cannot be reached, or refuses.
    """
    client = EngineClient(url, tls)
    try:
        version = await client.negotiate()
        async with client.events():
            pass  # whether a socket proxy allows it
        documents = await client.networks()
        networks = None if documents is None else tuple(_readable_networks(documents, url))
        found = []
        async with aclosing(client.containers()) as listed:
            async for item in listed:
                with suppress(BadDocument):
                    document = await client.inspect(container_from_list(item, url).id)
                    if document is not None:
                        found.append(container_from_inspect(document, url))
    finally:
        client.close()
    return EngineReport(url, version.engine, version.api, tuple(found), networks)


def _readable_networks(documents: Iterable[object], url: str) -> Iterator[Network]:
    for document in documents:
        with suppress(BadDocument):
            yield network_from_document(document, url)

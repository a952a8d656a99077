"""One batch loop over a real socket, and a client."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from containerdns.core.endpoints import Endpoint
from containerdns.server.batch import BatchLoop
from containerdns.server.sockets import Listener
from containerdns.server.udp import Datagrams

LOOPBACK = "127.0.0.1"
MAX_OCTETS = 4096
MAX_PASSES = 200  # of the event loop, until a query without a reply has none


class Batches:
    """A client and a batch loop."""

    def __init__(self, datagrams: Datagrams, client: socket.socket, server: socket.socket) -> None:
        self._client = client
        endpoint = Endpoint(LOOPBACK, server.getsockname()[1])
        local = socket.inet_aton(LOOPBACK)
        self._loop = BatchLoop(Listener(endpoint, server, server, local), datagrams)

    async def ask(self, *queries: bytes) -> list[bytes | None]:
        """Send queries at once; return the reply to each of them, None for none.

        They are sent with other IDs, by which their replies are recognised.
        """
        for number, data in enumerate(queries):
            self._client.send(number.to_bytes(2)[: len(data)] + data[2:])
        found: dict[int, bytes] = {}
        self._loop.on_readable()
        for _ in range(MAX_PASSES):
            found |= {int.from_bytes(reply[:2]): reply for reply in self._replies()}
            if len(found) == len(queries):
                break
            await asyncio.sleep(0)
        return [
            data[:2] + found[number][2:] if number in found else None
            for number, data in enumerate(queries)
        ]

    def _replies(self) -> Iterator[bytes]:
        while True:
            try:
                yield self._client.recv(MAX_OCTETS)
            except BlockingIOError:
                return


@contextmanager
def batches(datagrams: Datagrams) -> Iterator[Batches]:
    """Connect a client to a batch loop on loopback."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
    ):
        server.bind((LOOPBACK, 0))
        client.connect(server.getsockname())
        for each in (client, server):
            each.setblocking(False)
        yield Batches(datagrams, client, server)

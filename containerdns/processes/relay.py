"""Zone transfers that a worker's clients ask for, made by the first process.

A secondary opens a connection for each transfer, and any process may get it.  One process alone
keeps copies of the zones and their differences, so that all answer IXFR from the same journal.
The messages of a transfer go to the worker over the socket pair; a few are on their way at a
time, so that a secondary that reads slowly fills no memory.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from itertools import count
from typing import Final, NamedTuple

from containerdns.core.counters import Counters
from containerdns.core.protocol.respond import Peer, Transfer
from containerdns.server.tcp import Connection
from containerdns.server.transfer import Transfers
from containerdns.tasks.parts import Contained

MAX_ON_THEIR_WAY: Final = 8  # messages of one transfer, each of about 4,000 octets
METHOD: Final = "transferred"  # how the first process names messages among the changes

Write = Callable[[object], None]


class Asked(NamedTuple):
    """A worker wants a transfer.

    Attributes:
        number: The worker's own.
        transfer: What the client asked for.
        address: The octets of the client's address.
    """

    number: int
    transfer: Transfer
    address: bytes


class Taken(NamedTuple):
    """A message of a transfer was sent to the client."""

    number: int


class Ended(NamedTuple):
    """A transfer is complete, or its client is gone."""

    number: int


Request = Asked | Taken | Ended


class Transferred(NamedTuple):
    """A message of a transfer.

    Attributes:
        number: The worker's.
        octets: The message; b"" at the end, None if there was an internal error.
    """

    number: int
    octets: bytes | None


class RelayedTransfers:
    """A worker's transfers: as `Transfers`, but each message comes from the first process."""

    def __init__(self, write: Write) -> None:
        """Initialise.

        Args:
            write: Sends a request to the first process.
        """
        self._write = write
        self._numbers = count()
        self._arrived: dict[int, asyncio.Queue[bytes | None]] = {}

    async def send(self, transfer: Transfer, peer: Peer, connection: Connection) -> None:
        """Send a transfer message by message, as fast as the client reads.

        Raises:
            ConnectionResetError: The client disconnected, or the first process failed.
        """
        number = next(self._numbers)
        arrived = self._arrived[number] = asyncio.Queue()
        self._write(Asked(number, transfer, peer.address))
        try:
            while octets := await arrived.get():
                await connection.drain()
                connection.send(octets)
                self._write(Taken(number))
            if octets is None:
                raise ConnectionResetError
        finally:
            del self._arrived[number]
            self._write(Ended(number))

    def arrived(self, message: Transferred) -> None:
        """Hand over a message; it may be late, as the client may be gone."""
        queue = self._arrived.get(message.number)
        if queue is not None:
            queue.put_nowait(message.octets)


class Relay:
    """The transfers that one worker wants, in the first process."""

    def __init__(self, transfers: Transfers, counters: Counters, write: Write) -> None:
        """Initialise.

        Args:
            transfers: Makes them.
            counters: Internal errors are counted here.
            write: Sends a method and its arguments to the worker.
        """
        self._transfers = transfers
        self._counters = counters
        self._write = write
        self._running: dict[int, asyncio.Task[None]] = {}
        self._room: dict[int, asyncio.Semaphore] = {}

    def take(self, request: Request) -> None:
        """Process a request of the worker."""
        match request:
            case Asked():
                room = self._room[request.number] = asyncio.Semaphore(MAX_ON_THEIR_WAY)
                task = asyncio.get_running_loop().create_task(self._make(request, room))
                self._running[request.number] = task
            case Taken():
                self._room[request.number].release()
            case Ended():
                del self._room[request.number]
                self._running.pop(request.number).cancel()

    def close(self) -> None:
        """End all transfers, as the worker is gone."""
        for task in self._running.values():
            task.cancel()

    async def _make(self, asked: Asked, room: asyncio.Semaphore) -> None:
        with Contained(self._counters, "a zone transfer"):
            async with aclosing(self._transfers.messages(asked.transfer, asked.address)) as made:
                async for octets in made:
                    await room.acquire()
                    self._write((METHOD, (Transferred(asked.number, octets),)))
            self._write((METHOD, (Transferred(asked.number, b""),)))
            return
        self._write((METHOD, (Transferred(asked.number, None),)))

"""Worker processes on the same port, which receive each change and are replaced when they die.

The first process watches Docker and has the replica; it sends a snapshot and then every change
to each worker, pickled, over a socket pair, and receives the workers' counts.
"""

import asyncio
import logging
import pickle
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from containerdns.core.counters import Counters
from containerdns.core.protocol.query_history import Row
from containerdns.processes.components import Components, Secrets
from containerdns.processes.relay import Relay
from containerdns.state.replica import Replica
from containerdns.tasks.parts import Contained, Parts, Pauses

LENGTH_OCTETS = 4
MAX_UNREAD = 256 << 20  # octets of changes; a worker that lags further behind is restarted
RESTART_PAUSE = 0.2  # seconds before a dead worker is replaced; increases if it keeps dying
MAX_ROWS = 1000  # queries of the history in one report

log = logging.getLogger(__name__)


class Report(NamedTuple):
    """The counts and queries of a worker since its last report.

    Attributes:
        pid: Of its process.
        counted: As `Counters.take` returns them.
        rows: As `History.rows_since` returns them.
    """

    pid: int
    counted: Counters
    rows: list[Row]


class Workers:
    """The other processes, controlled by the one that has the replica."""

    def __init__(
        self,
        replica: Replica,
        rooms: Components,
        secrets: Secrets,
        parts: Parts,
    ) -> None:
        """Initialise without starting any.

        Args:
            replica: Its changes are replayed by the workers, whose counts are added to its own.
            rooms: Those of this process: its sockets are open, its history gets the queries of
                the workers, and its transfers serve their clients.
            secrets: Shared by all processes.
            parts: Runs the connection to each worker.
        """
        self._replica = replica
        self._counters = replica.counters
        self._history = rooms.history
        self._history.is_shared = True
        self._transfers = rooms.transfers
        self._secrets = secrets
        self._endpoints = tuple(rooms.servers.endpoints)
        self._parts = parts
        self._writers: set[asyncio.StreamWriter] = set()

    async def run(self, count: int) -> None:
        """Keep a number of workers alive until cancelled."""
        if self._replay not in self._replica.mirrors:
            self._replica.mirrors.append(self._replay)
        async with asyncio.TaskGroup() as tasks:
            for number in range(1, count + 1):
                name = f"worker {number}"
                tasks.create_task(self._parts.keep(name, partial(self._keep, number)))

    def _replay(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Send a change to all workers; what they have not read yet is buffered here.

        If a change cannot be sent, the workers are restarted to get it anyway.
        """
        if not self._writers:
            return
        message = b""
        with Contained(self._counters, "sending a change to the workers"):
            message = framed((method, arguments))
        for writer in list(self._writers):
            if not message or writer.transport.get_write_buffer_size() > MAX_UNREAD:
                self._writers.discard(writer)
                writer.transport.abort()
            else:
                writer.write(message)

    async def _keep(self, number: int) -> None:
        pauses = Pauses(RESTART_PAUSE)
        while True:
            begun = time.monotonic()
            ours, theirs = socket.socketpair()
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "containerdns.processes.worker",
                    str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),),
                )
            reader, writer = await asyncio.open_connection(sock=ours)
            relay = Relay(self._transfers, self._counters, partial(_write, writer))
            try:
                first = (self._replica.snapshot(), self._secrets, self._endpoints)
                writer.write(framed(first))
                self._writers.add(writer)  # in the same step, so that no change is lost in between
                await self._follow(reader, relay)
            finally:
                relay.close()
                self._writers.discard(writer)
                writer.close()
                with suppress(ProcessLookupError):
                    process.kill()
                status = await process.wait()
                self._counters.workers.pop(process.pid, None)
            log.warning("worker %d exited with status %d; starting another one", number, status)
            await asyncio.sleep(pauses.after(time.monotonic() - begun))

    async def _follow(self, reader: asyncio.StreamReader, relay: Relay) -> None:
        """Take reports and requests for transfers until the worker closes the connection."""
        while True:
            try:
                message = await read_frame(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            if isinstance(message, Report):
                self._counters.add(message.counted)
                self._counters.workers[message.pid] = message.counted
                self._history.extend(message.rows)
            else:
                relay.take(message)


def _write(writer: asyncio.StreamWriter, message: object) -> None:
    writer.write(framed(message))


def framed(message: object) -> bytes:
    """Return a message prefixed with its length."""
    octets = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(octets).to_bytes(LENGTH_OCTETS) + octets


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Read the next message; it is trusted, since only our own processes have the socket."""
    length = int.from_bytes(await reader.readexactly(LENGTH_OCTETS))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - our own process

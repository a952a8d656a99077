"""More processes that answer on the same port, fed with each change, replaced when they die.

The first process watches Docker and holds the replica; it sends each worker a snapshot and then
every change, pickled, over a socket pair, and takes back what they counted.
"""

import asyncio
import logging
import pickle
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol.query_history import History, Row
from containerdns.processes.components import Secrets
from containerdns.state.replica import Replica
from containerdns.tasks.parts import Parts, Pauses, contained

LENGTH_OCTETS = 4
MAX_UNREAD = 256 << 20  # octets of changes; a worker that is so far behind is started anew
RESTART_PAUSE = 0.2  # seconds before a dead worker is replaced; longer if it keeps dying
MAX_ROWS = 1000  # of the history in one report

log = logging.getLogger(__name__)


class Workers:
    """The other processes, fed by the one that holds the replica."""

    def __init__(
        self,
        replica: Replica,
        counters: Counters,
        history: History,
        secrets: Secrets,
        endpoints: Sequence[Endpoint],
        parts: Parts,
    ) -> None:
        """Take what is told to them, and where their reports go.

        Args:
            replica: Whose changes they replay.
            counters: Their counts are added here.
            history: Their queries are added here.
            secrets: What they share with us.
            endpoints: What they listen on, as it was bound here.
            parts: Runs the connection to each of them.
        """
        self._replica = replica
        self._counters = counters
        self._history = history
        history.is_shared = True
        self._secrets = secrets
        self._endpoints = tuple(endpoints)
        self._parts = parts
        self._writers: set[asyncio.StreamWriter] = set()

    async def run(self, count: int) -> None:
        """Keep some of them alive until cancelled."""
        if self._replay not in self._replica.mirrors:
            self._replica.mirrors.append(self._replay)
        async with asyncio.TaskGroup() as tasks:
            for number in range(1, count + 1):
                name = f"worker {number}"
                tasks.create_task(self._parts.keep(name, partial(self._keep, number)))

    def _replay(self, method: str, arguments: tuple[Any, ...]) -> None:
        """Send a change to all; what they have not read yet waits in this process.

        A change that cannot be sent must reach them all the same: they are started anew.
        """
        if not self._writers:
            return
        message = b""
        with contained(self._counters, "sending a change to the workers"):
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
            try:
                first = (self._replica.snapshot(), self._secrets, self._endpoints)
                writer.write(framed(first))
                self._writers.add(writer)  # in the same step: no change is lost in between
                await self._take_reports(reader)
            finally:
                self._writers.discard(writer)
                writer.close()
                with suppress(ProcessLookupError):
                    process.terminate()
                status = await process.wait()
                self._counters.workers.pop(process.pid, None)
            log.warning("worker %d ended with status %d; it is replaced", number, status)
            await asyncio.sleep(pauses.after(time.monotonic() - begun))

    async def _take_reports(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                pid, counted, rows = await read_frame(reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            self._counters.add(counted)
            self._counters.workers[pid] = counted
            self._history.extend(rows)


def framed(message: object) -> bytes:
    """A message with its length in front."""
    octets = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(octets).to_bytes(LENGTH_OCTETS) + octets


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """The next message; it comes from a process of ours, over a socket nobody else has."""
    length = int.from_bytes(await reader.readexactly(LENGTH_OCTETS))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - our own process


Report = tuple[int, Counters, list[Row]]  # process id, counts since the last report, queries

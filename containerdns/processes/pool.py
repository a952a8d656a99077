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
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol.query_history import History
from containerdns.processes.components import Secrets
from containerdns.state.replica import Replica
from containerdns.tasks.parts import Parts, Pauses, contained

LENGTH_OCTETS = 4
MAX_UNREAD = 256 << 20  # octets of changes; a worker that lags further behind is restarted
RESTART_PAUSE = 0.2  # seconds before a dead worker is replaced; increases if it keeps dying
MAX_ROWS = 1000  # queries of the history in one report

log = logging.getLogger(__name__)


class Workers:
    """The other processes, controlled by the one that has the replica."""

    def __init__(
        self,
        replica: Replica,
        history: History,
        secrets: Secrets,
        endpoints: Sequence[Endpoint],
        parts: Parts,
    ) -> None:
        """Initialise without starting any.

        Args:
            replica: Its changes are replayed by the workers, whose counts are added to its own.
            history: Their queries are added here.
            secrets: Shared by all processes.
            endpoints: The addresses bound by this process.
            parts: Runs the connection to each worker.
        """
        self._replica = replica
        self._counters = replica.counters
        self._history = history
        history.is_shared = True
        self._secrets = secrets
        self._endpoints = tuple(endpoints)
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
                self._writers.add(writer)  # in the same step, so that no change is lost in between
                await self._take_reports(reader)
            finally:
                self._writers.discard(writer)
                writer.close()
                with suppress(ProcessLookupError):
                    process.terminate()
                status = await process.wait()
                self._counters.workers.pop(process.pid, None)
            log.warning("worker %d exited with status %d; starting another one", number, status)
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
    """Return a message prefixed with its length."""
    octets = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(octets).to_bytes(LENGTH_OCTETS) + octets


async def read_frame(reader: asyncio.StreamReader) -> Any:
    """Read the next message; it is trusted, since only our own processes have the socket."""
    length = int.from_bytes(await reader.readexactly(LENGTH_OCTETS))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - our own process

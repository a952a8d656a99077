"""A worker process: answers queries, and replays the changes made by the first process.

`pool` starts it with the file descriptor of a socket pair as its only argument.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import Any

from containerdns import logs
from containerdns.config.top_level_domains import top_level_domains
from containerdns.core.counters import Counters
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.processes.components import Components
from containerdns.processes.pool import MAX_ROWS, Report, framed, read_frame
from containerdns.processes.relay import METHOD, RelayedTransfers
from containerdns.server.transfer import read_keys
from containerdns.state.replica import Replica
from containerdns.state.state_file import SavedState
from containerdns.tasks import event_loop
from containerdns.tasks.parts import Parts
from containerdns.tasks.turns import turns

# Sent to all processes of a service or terminal at once; only the first process acts on them.
NOT_FOR_WORKERS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
REPORT_EVERY = 0.1  # seconds between reports of the counters


def main(descriptor: int) -> None:
    """Answer queries until the first process closes the connection."""
    for number in NOT_FOR_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    with (
        suppress(asyncio.CancelledError),
        asyncio.Runner(loop_factory=event_loop.new) as runner,
    ):
        runner.run(_run(socket.socket(fileno=descriptor)))


async def _run(connection: socket.socket) -> None:
    reader, writer = await asyncio.open_connection(sock=connection)
    snapshot, secrets, endpoints = await read_frame(reader)
    settings = snapshot.settings
    logs.configure(settings.logs.level, settings.logs.format)
    counters = Counters()
    asyncio.get_running_loop().set_exception_handler(logs.LoopFaults(counters))
    packet_cache = PacketCache(counters)
    saved = SavedState(snapshot.serial)
    replica = Replica(settings, counters, packet_cache, top_level_domains(), saved)
    replica.restore(snapshot)
    transfers = RelayedTransfers(lambda request: writer.write(framed(request)))
    rooms = Components(replica, packet_cache, counters, secrets, transfers)
    rooms.open(endpoints)
    gc.freeze()
    async with asyncio.TaskGroup() as tasks:
        parts = Parts(counters)
        rooms.begin(tasks, parts)
        reporting = tasks.create_task(
            parts.keep("reporting to the first process", partial(_report, writer, rooms, counters))
        )
        following = tasks.create_task(_follow(reader, replica, rooms, transfers))
        following.add_done_callback(lambda _: reporting.cancel())
        await following
        raise asyncio.CancelledError  # the first process is gone


async def _follow(
    reader: asyncio.StreamReader, replica: Replica, rooms: Components, transfers: RelayedTransfers
) -> None:
    """Replay changes until the connection is closed."""
    while True:
        try:
            method, arguments = await read_frame(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        if method == METHOD:
            transfers.arrived(*arguments)
            continue
        _replay(replica, method, arguments)
        if method == "use":
            logs.configure(replica.settings.logs.level, replica.settings.logs.format)
            rooms.follow(read_keys(replica.settings.transfer.keys))


def _replay(replica: Replica, method: str, arguments: tuple[Any, ...]) -> None:
    match method, arguments:
        case "change", (changes, now, is_part, hands_over):
            replica.change(changes, now, is_part, hands_over)
        case "enter", (changes, now):
            replica.enter(changes, now)
        case "settle" | "tick" | "expire" | "end_handovers", (now,):
            getattr(replica, method)(now)
        case "set_networks", (networks, own, now):
            replica.set_networks(networks, own, now)
        case "share", (step,):
            replica.share(step)
        case "set_machine", (addresses,):
            replica.set_machine(addresses)
        case "set_lost_engines", (lost_engines, now):
            replica.set_lost_engines(lost_engines, now)
        case "set_listing", (listing,):
            replica.set_listing(listing)
        case "use", (settings, now):
            replica.use(settings, now)
        case _:
            raise AssertionError(method)


async def _report(writer: asyncio.StreamWriter, rooms: Components, counters: Counters) -> None:
    """Return the counts and queries since the last report."""
    seen = 0
    while True:
        await asyncio.sleep(REPORT_EVERY)
        for _ in rooms.servers.tally_in_pieces():
            await turns().offer("counting")
        rows, seen = rooms.history.rows_since(seen, MAX_ROWS)
        writer.write(framed(Report(os.getpid(), counters.take(), rows)))
        with suppress(ConnectionError):  # `_follow` notices the end of the connection too
            await writer.drain()


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""One host of a fleet: it writes what its own Engines have, and reads what the others wrote.

Keys, below the prefix and the version of the documents:

    HOST/host          what the host says of itself
    HOST/c/CONTAINER   one publication
    serial             the base of the zone's serial, to which the revision is added

All keys of a host go with its lease.  So a host that dies, or is cut off, takes its names
along, and nobody else ever writes or deletes a key of it.  A host whose name is taken by a
living one does not write.

A session is: get a lease, take the host's key, write everything, list everything, then follow.
When etcd is lost, what is known stands; what a new session does not find has one lease of grace,
as its host may be about to write it again.

The revision of the last change is not known from a listing.  So the host's key is written once
more after it, and when that comes back, everything is known as of its revision.
"""

import asyncio
import json
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import Final, NamedTuple

from containerdns.config.machine import main_address
from containerdns.core.zone.fleet import Host, base_document, base_for, document_of
from containerdns.core.zone.policy import Publication
from containerdns.errors import FleetUnavailable
from containerdns.fleet.etcd import Etcd, Value
from containerdns.fleet.reader import SERIAL_KEY, Reader
from containerdns.fleet.sink import FleetSink

RENEWALS: Final = 3  # of a lease in its time
FIRST_PAUSE, MAX_PAUSE = 0.25, 2.0  # seconds before another session; doubled each time
MIN_OBSERVED: Final = 6  # seconds of a lease; etcd tells what is left in whole ones
EXPIRY: Final = 1.5  # seconds that etcd may take to notice the end of a lease
TRY_EVERY: Final = 0.2  # seconds
SILENCE: Final = 0.5  # seconds of a watch without news, after which deadlines are looked at

log = logging.getLogger(__name__)

Published = Mapping[str, tuple[int, ...]]


class Rules(NamedTuple):
    """How this host takes part.

    Attributes:
        host: Its name.
        lease: Seconds.
        prefix: Of all keys of the fleet, with its final slash.
        publish: "auto", "container" or "host".
        addresses: Where others reach this host; () for the address towards etcd.
    """

    host: str
    lease: int
    prefix: str
    publish: str
    addresses: tuple[str, ...]


class OwnHost(NamedTuple):
    """What this host has beside containers.

    Attributes:
        subnets: Of its bridges.
        overlays: Of its overlay networks.
        is_lost: All its Engines are lost, for `--engine-grace` seconds.
    """

    subnets: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    is_lost: bool = False


class Member:
    """Takes part in a fleet; `run` is its whole life."""

    def __init__(
        self, etcd: Etcd, rules: Rules, sink: FleetSink, look: Callable[[], OwnHost]
    ) -> None:
        """Take whom to ask, and who is told.

        Args:
            etcd: The cluster.
            rules: How this host takes part.
            sink: Called with the other hosts.
            look: Returns what this host has now.
        """
        self._etcd = etcd
        self._rules = rules
        self._sink = sink
        self._look = look
        self._instance = secrets.token_hex(8)
        own = Host(rules.host, (), (), self._instance)
        self._reader = Reader(rules.prefix, own, rules.lease, rules.publish, sink)
        self._base = self._reader.base
        self._own: dict[str, str] = {}  # documents by container
        self._unwritten: dict[str, None] = {}
        self._has_unwritten = asyncio.Event()
        self._written_host = ""
        self._may_differ = True  # the host's document, from the one written
        self._is_refused = False

    # -- what others call ---------------------------------------------------------------

    def own_changed(
        self, changes: Iterable[tuple[str, Publication | None, Published | None]]
    ) -> None:
        """Own containers publish this now, with these published ports; None takes one away."""
        for container_id, publication, published in changes:
            document = None
            if publication is not None:
                document = json.dumps(document_of(publication, published))
            if document == self._own.get(container_id):
                continue  # as after each full listing
            if document is None:
                del self._own[container_id]
            else:
                self._own[container_id] = document
            self._unwritten[container_id] = None
            self._has_unwritten.set()

    def host_changed(self) -> None:
        """The networks of own Engines have changed, or whether these are lost."""
        self._may_differ = True
        self._has_unwritten.set()
        self._reader.set_own(Host(self._rules.host, (), self._look().subnets))

    def settings_changed(self) -> None:
        """The zone is another one without a change of containers: let its serial grow."""
        self._written_host = ""
        self._may_differ = True
        self._has_unwritten.set()

    async def run(self) -> None:
        """Take part until cancelled."""
        pause = FIRST_PAUSE
        try:
            while True:
                started = asyncio.get_running_loop().time()
                cause = await self._session()
                if asyncio.get_running_loop().time() - started > self._rules.lease:
                    pause = FIRST_PAUSE
                self._sink.fleet_disconnected(cause)
                await self._etcd.close()
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)
        finally:
            await self._etcd.close()

    # -- a session ------------------------------------------------------------------------

    async def _session(self) -> str:
        """Take part until the cluster is lost, and return the cause."""
        try:
            lease = await self._etcd.grant(self._rules.lease)
            is_writing = await self._take_host(lease)
            if is_writing:
                await self._write_all(lease)
            await self._read_all(lease, is_writing=is_writing)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._keep(lease) if is_writing else self._wait_for_name(lease))
        except FleetUnavailable as fault:
            return fault.cause
        except ExceptionGroup as faults:
            lost, others = faults.split(FleetUnavailable)
            if others is not None or lost is None:
                raise
            return str(lost.exceptions[0])
        return "the session has ended"

    async def _take_host(self, lease: int) -> bool:
        """Acquire the key of this host; return False if a living server of its name has it.

        A server that was killed leaves the key behind for the rest of its lease.  A living one
        renews that: where the lease is long enough to see it, its key is taken over before
        anything is withdrawn; else its end is waited for.
        """
        key = f"{self._base}{self._rules.host}/host"
        document = self._host_document()
        self._may_differ = True  # it is made before some waiting
        is_ours = await self._etcd.create(key, document, lease)
        if not is_ours:
            found = await self._etcd.get(key)
            if found is None:  # it has gone in between
                return await self._take_host(lease)
            if self._instance in (found.value or ""):
                await self._etcd.put(key, document, lease)
                is_ours = True
            elif self._rules.lease < MIN_OBSERVED:
                is_ours = await self._outlive(key, document, lease)
            elif await self._is_left(found, lease):
                is_ours = await self._etcd.replace(key, document, lease, found.revision)
        if is_ours:
            self._written_host = document
        elif not self._is_refused:
            log.warning(
                "fleet: another server already has the name %s and writes under it; this one"
                " does not: --fleet-host names it otherwise",
                self._rules.host,
            )
        self._is_refused = not is_ours
        self._reader.read_namesake(is_read=not is_ours)
        return is_ours

    async def _is_left(self, found: Value, lease: int) -> bool:
        """Return whether two renewals of a key's lease are overdue; False once it is renewed."""
        left = await self._etcd.time_to_live(found.lease)
        while left > self._rules.lease / RENEWALS:
            await asyncio.sleep(TRY_EVERY)
            await self._etcd.renew(lease)
            before, left = left, await self._etcd.time_to_live(found.lease)
            if left > before:
                return False
        return True

    async def _outlive(self, key: str, document: str, lease: int) -> bool:
        """Acquire a key as soon as the lease of its owner ends; return False if it does not end."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._rules.lease + EXPIRY
        while clock() < until:
            await asyncio.sleep(TRY_EVERY)
            await self._etcd.renew(lease)
            if await self._etcd.create(key, document, lease):
                return True
        return False

    async def _wait_for_name(self, lease: int) -> None:
        """Try to take the host's key again now and then."""
        while not await self._take_host(lease):
            pass
        log.info("fleet: the name %s is ours now", self._rules.host)
        await self._write_all(lease)
        await self._keep(lease)

    async def _write_all(self, lease: int) -> None:
        """Write all own documents, and delete those of a former life."""
        base = f"{self._base}{self._rules.host}/c/"
        listing = await self._etcd.list(base)
        self._unwritten.update(dict.fromkeys(self._own))
        known = {value.key.removeprefix(base) for value in listing.values}
        self._unwritten.update(dict.fromkeys(known - self._own.keys()))
        await self._write(lease)

    async def _read_all(self, lease: int, *, is_writing: bool) -> None:
        """List everything, see to it that there is a serial, and mark the revision."""
        listing = await self._etcd.list(self._base)
        await self._reader.read(listing)
        if not is_writing:
            return
        last = self._sink.fleet_serial()
        if self._reader.lacks_serial(last):
            key, found = self._base + SERIAL_KEY, self._reader.serial_base
            base = json.dumps(base_document(base_for(last, time.time(), listing.revision)))
            if found is None:
                await self._etcd.create(key, base, 0)
            else:
                await self._etcd.replace(key, base, 0, found.revision)
        host_key = f"{self._base}{self._rules.host}/host"
        await self._etcd.put(host_key, self._host_document(), lease)

    async def _follow(self) -> None:
        """Apply what all hosts write, own one included, until the watch ends."""
        after = self._reader.revision + 1
        async for changes in self._etcd.watch(self._base, after, SILENCE):
            await self._reader.apply(changes)

    async def _write(self, lease: int) -> None:
        if self._may_differ:
            self._may_differ = False
            document = self._host_document()
            if document != self._written_host:
                await self._etcd.put(f"{self._base}{self._rules.host}/host", document, lease)
                self._written_host = document
        base = f"{self._base}{self._rules.host}/c/"
        while self._unwritten:
            batch = list(self._unwritten)[: self._etcd.MAX_BATCH]
            await self._etcd.write({base + i: self._own.get(i) for i in batch}, lease)
            for container_id in batch:
                self._unwritten.pop(container_id, None)

    async def _keep(self, lease: int) -> None:
        """Write what changes, and renew the lease."""
        loop = asyncio.get_running_loop()
        interval = self._rules.lease / RENEWALS
        due = loop.time() + interval
        while True:
            try:
                async with asyncio.timeout(max(due - loop.time(), 0.0)):
                    await self._has_unwritten.wait()
            except TimeoutError:
                if not await self._etcd.renew(lease):
                    raise FleetUnavailable("the lease of this host has ended") from None
                due = loop.time() + interval
                continue
            self._has_unwritten.clear()
            await self._write(lease)

    def _host_document(self) -> str:
        own = self._look()
        host = Host(
            self._rules.host,
            self._rules.addresses or self._addresses(),
            own.subnets,
            self._instance,
            own.overlays,
            own.is_lost,
        )
        return json.dumps(host.document())

    def _addresses(self) -> tuple[str, ...]:
        """Return the address of this host towards etcd; where that is here, towards the world."""
        towards = self._etcd.local_address
        if towards and ip_address(towards).is_loopback:
            towards = main_address(socket.AF_INET) or main_address(socket.AF_INET6) or towards
        return (towards,) if towards else ()

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
import itertools
import json
import logging
import math
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, NamedTuple

from containerdns.config.machine import main_address
from containerdns.core.zone.fleet import Host, base_document, base_for, document_of
from containerdns.core.zone.policy import Publication
from containerdns.errors import FleetRefused, FleetUnavailable
from containerdns.fleet.etcd import Etcd, Value
from containerdns.fleet.reader import SERIAL_KEY, Reader
from containerdns.fleet.sink import FleetSink
from containerdns.tasks.own_task import in_own_task

RENEWALS: Final = 3  # of a lease in its time
FIRST_PAUSE, MAX_PAUSE = 0.25, 2.0  # seconds before another session; doubled each time
MIN_OBSERVED: Final = 6  # seconds of a lease; etcd tells what is left in whole ones
EXPIRY: Final = 1.5  # seconds that etcd may take to notice the end of a lease
MAX_DOCUMENT: Final = 1_500_000  # octets of a container; etcd takes 1.5 MiB by default
TRY_EVERY: Final = 0.2  # seconds
TRY_AGAIN: Final = 1.0  # seconds until a server that may not write tries again
CHECK_EVERY: Final = 30.0  # seconds between questions whether a silent watch missed something
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
        engines: The URLs of its Engines.
    """

    host: str
    lease: int
    prefix: str
    publish: str
    engines: tuple[str, ...]

    def number(self, engine: str) -> str:
        """Return the number of an Engine, "1" and on; "0" for an unknown one."""
        return str(self.engines.index(engine) + 1 if engine in self.engines else 0)


class OwnHost(NamedTuple):
    """What this host has beside containers.

    Attributes:
        addresses: Where others reach this host; () for the address towards etcd.
        subnets: Of its bridges.
        overlays: Of its overlay networks.
        lost: The URLs of Engines that are lost, for `--engine-grace` seconds.
    """

    addresses: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    lost: frozenset[str] = frozenset()


class Member:
    """Takes part in a fleet; `run` is its whole life."""

    def __init__(
        self, etcd: Etcd, rules: Rules, sink: FleetSink, look: Callable[[], OwnHost]
    ) -> None:
        """Initialise with the cluster and the sink; `run` connects.

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
        self._left_out: set[str] = set()  # containers that are too large, as logged
        self._has_unwritten = asyncio.Event()
        self._written_host = ""
        self._may_differ = True  # the host's document, from the one written
        self._is_refused = False
        self._refusal = ""  # why etcd takes no writes, as logged last
        self._lease = 0  # under which this host writes; 0 while it does not
        self._renew_at = math.inf  # when that lease is due, by the loop's clock
        self._written_at: dict[str, int] = {}  # revisions, by container; "" is the host itself
        self._reader.own_seen = self._look_at_own
        self._checked_at = 0.0
        self._behind = 0  # the revision of etcd when the lease was renewed last

    # -- what others call ---------------------------------------------------------------

    def own_changed(
        self, changes: Iterable[tuple[str, Publication | None, Published | None]]
    ) -> None:
        """Own containers publish this now, with these published ports; None takes one away."""
        for container_id, publication, published in changes:
            document = None
            if publication is not None:
                engine = self._rules.number(publication.engine)
                document = json.dumps(document_of(publication, published, engine))
                if len(document) > MAX_DOCUMENT:
                    document = None
                    self._leave_out(publication)
            if publication is None:
                self._left_out.discard(container_id)
            if document == self._own.get(container_id):
                continue  # as after each full listing
            if document is None:
                del self._own[container_id]
            else:
                self._own[container_id] = document
            self._unwritten[container_id] = None
            self._has_unwritten.set()

    def _leave_out(self, publication: Publication) -> None:
        """Log, once, that a container is too large for etcd."""
        if publication.id not in self._left_out:
            self._left_out.add(publication.id)
            log.warning(
                "fleet: container %s: its texts and names are too large for etcd; other hosts do "
                "not get them",
                publication.container_name,
            )

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
                cause = await in_own_task(self._session())
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
            self._lease = 0
            lease = await self._join()
            await self._read_all(lease)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow())
                tasks.create_task(self._keep(lease) if lease else self._wait_to_join())
        except FleetUnavailable as fault:
            return fault.cause
        except ExceptionGroup as faults:
            lost, others = faults.split(FleetUnavailable)
            if others is not None or lost is None:
                raise
            return str(lost.exceptions[0])
        return "the session has ended"

    async def _join(self) -> int:
        """Acquire the name of this host, and write what it has.

        Returns:
            The lease; 0 if another server has the name, or etcd takes no writes of this one,
            as with a full disk or a user who may only read.  What others have is read anyway.
        """
        try:
            lease = await self._etcd.grant(self._rules.lease)
            self._renew_later()
            if not await self._take_host(lease):
                return 0
            await self._write_all(lease)
        except FleetRefused as refusal:
            self._reader.read_namesake(is_read=False)
            self._report_refusal(refusal)
            return 0
        return lease

    async def _wait_to_join(self) -> None:
        """Try again now and then to take the host's name; from then on, write."""
        lease = 0
        while not lease:
            await asyncio.sleep(TRY_AGAIN)
            lease = await self._join()
        log.info("fleet: the name %s is ours now", self._rules.host)
        await self._keep(lease)

    def _report_refusal(self, refusal: FleetRefused) -> None:
        """Log why etcd takes no writes, once."""
        if refusal.cause != self._refusal:
            self._refusal = refusal.cause
            log.warning(
                "fleet: %s; what this host has is not written, what others have is read",
                refusal.cause,
            )

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
                is_ours = await self._etcd.replace(key, document, lease, found.revision)
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
        left = await self._etcd.time_to_live(found.lease)  # in whole seconds, up to one more
        while left + 1 > self._rules.lease / RENEWALS:
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

    async def _write_all(self, lease: int) -> None:
        """Write all own documents, and delete those of a former life; `_keep` does what is left."""
        base = f"{self._base}{self._rules.host}/c/"
        listing = await self._etcd.list(base)
        self._unwritten.update(dict.fromkeys(self._own))
        known = {value.key.removeprefix(base) for value in listing.values}
        self._unwritten.update(dict.fromkeys(known - self._own.keys()))
        self._written_at.clear()
        self._lease = lease
        await self._write(lease)

    async def _read_all(self, lease: int) -> None:
        """List everything, see to it that there is a serial, and mark the revision."""
        listing = await self._etcd.list(self._base)
        await self._reader.read(listing)
        if not lease:
            return
        last = self._sink.fleet_serial()
        if self._reader.lacks_serial(last):
            key, found = self._base + SERIAL_KEY, self._reader.serial_base
            base = json.dumps(base_document(base_for(last, time.time(), listing.revision)))
            if found is None:
                await self._etcd.create(key, base, 0)
            else:
                await self._etcd.replace(key, base, 0, found.revision)
        await self._put_host(self._host_document(), lease)

    async def _put_host(self, document: str, lease: int) -> None:
        """Set the key of this host again.

        Not after another server took it over, which this one may not know yet: it may have been
        suspended for most of its lease, with this request under way.

        Raises:
            FleetUnavailable: Another server did.
        """
        key = f"{self._base}{self._rules.host}/host"
        revision = await self._etcd.put_again(key, document, lease)
        if not revision:  # changed or deleted, by a server or by an operator
            found = await self._etcd.get(key)
            if found is not None:
                self._reader.look_for_namesake(found)
            revision = await self._etcd.put(key, document, lease)
        self._written_at[""] = revision

    async def _follow(self) -> None:
        """Apply what all hosts write, own one included, until the watch ends."""
        after = self._reader.revision + 1
        async for changes in self._etcd.watch(self._base, after, SILENCE):
            await self._reader.apply(changes)

    async def _write(self, lease: int) -> None:
        """Write what differs, until the lease is to be renewed, as changes may never end."""
        if self._may_differ:
            self._may_differ = False
            document = self._host_document()
            if document != self._written_host:
                self._written_host = document  # before the watch brings it
                await self._put_host(document, lease)
        base = f"{self._base}{self._rules.host}/c/"
        clock = asyncio.get_running_loop().time
        while self._unwritten and clock() < self._renew_at:
            batch = self._next_batch()
            values = {base + container_id: text for container_id, text in batch.items()}
            revision = await self._etcd.write(values, lease)
            for container_id, text in batch.items():
                self._written_at[container_id] = revision
                if self._own.get(container_id) == text:
                    self._unwritten.pop(container_id, None)
                if text is None:
                    del self._written_at[container_id]

    def _next_batch(self) -> dict[str, str | None]:
        """Return documents to write, by container; as many as one request may have."""
        batch: dict[str, str | None] = {}
        octets = 0
        for container_id in itertools.islice(self._unwritten, self._etcd.MAX_BATCH):
            text = self._own.get(container_id)
            octets += len(text or "")
            if batch and octets > self._etcd.MAX_OCTETS:
                break
            batch[container_id] = text
        return batch

    def _look_at_own(self, value: Value) -> None:
        """Write a key of this host again if it was changed or deleted by another client."""
        if not self._lease:
            return
        own = f"{self._base}{self._rules.host}/"
        if value.key != f"{own}host" and not value.key.startswith(f"{own}c/"):
            return  # neither the host nor a container
        container_id = value.key.removeprefix(f"{own}c/") if value.key != f"{own}host" else ""
        if value.revision <= self._written_at.get(container_id, 0):
            return  # as it was written, or before that
        text = self._own.get(container_id) if container_id else self._written_host
        if (value.value, value.lease if value.value is not None else 0) == (
            text,
            self._lease if text is not None else 0,
        ):
            return
        if container_id:
            self._unwritten[container_id] = None
        else:
            self._written_host, self._may_differ = "", True
        self._has_unwritten.set()

    async def _keep(self, lease: int) -> None:
        """Write what changes, and renew the lease."""
        loop = asyncio.get_running_loop()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(self._renew_at - loop.time(), 0.0)):
                    await self._has_unwritten.wait()
            if loop.time() >= self._renew_at:
                await self._renew(lease)
                await self._look_at_watch()
            self._has_unwritten.clear()
            try:
                await self._write(lease)  # also what etcd refused before
                if self._refusal:
                    log.info("fleet: etcd takes what this host has again")
                self._refusal = ""
            except FleetRefused as refusal:  # the lease is renewed all the same
                self._written_host, self._may_differ = "", True
                self._report_refusal(refusal)

    async def _renew(self, lease: int) -> None:
        if not await self._etcd.renew(lease):
            raise FleetUnavailable("the lease of this host has ended")
        self._renew_later()

    def _renew_later(self) -> None:
        interval = self._rules.lease / RENEWALS
        self._renew_at = asyncio.get_running_loop().time() + interval

    async def _look_at_watch(self) -> None:
        """Check that the watch brings changes, as a proxy may hold them back forever.

        Raises:
            FleetUnavailable: There have been changes that it did not bring.
        """
        now, behind = asyncio.get_running_loop().time(), self._behind
        self._behind = self._etcd.revision
        if behind <= self._reader.followed or now - self._checked_at < CHECK_EVERY:
            return
        self._checked_at = now
        revision, count = self._reader.revision, self._reader.count
        if await self._etcd.differs(self._base, revision, count) and (
            (revision, count) == (self._reader.revision, self._reader.count)
        ):
            raise FleetUnavailable("the watch of etcd is silent, although there are changes")

    def _host_document(self) -> str:
        own = self._look()
        host = Host(
            self._rules.host,
            own.addresses or self._addresses(),
            own.subnets,
            self._instance,
            own.overlays,
            tuple(map(self._rules.number, self._rules.engines)),
            tuple(map(self._rules.number, sorted(own.lost))),
        )
        return json.dumps(host.document())

    def _addresses(self) -> tuple[str, ...]:
        """Return the address of this host towards etcd; where that is here, towards the world."""
        towards = self._etcd.local_address
        if towards and ip_address(towards).is_loopback:
            towards = main_address(socket.AF_INET) or main_address(socket.AF_INET6) or towards
        return (towards,) if towards else ()

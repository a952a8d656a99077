"""One host of a fleet: it writes what its own Engines have, and reads what the others wrote.

Keys, below the prefix and the version of the documents:

    HOST/host          what the host says of itself
    HOST/c/CONTAINER   one publication

All keys of a host go with its lease.  So a host that dies, or is cut off, takes its names
along, and nobody else ever writes or deletes a key of it.  A host whose name is taken by a
living one does not write.

A session is: get a lease, take the host's key, write everything, list everything, then follow.
When etcd is lost, what is known stands; what a new session does not find has one lease of grace,
as its host may be about to write it again.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from containerdns.core.zone.fleet import (
    ENGINE_PREFIX,
    VERSION,
    Host,
    Remote,
    document_of,
    host_of,
    placed,
    remote_of,
    shared_subnets,
)
from containerdns.core.zone.policy import Publication
from containerdns.errors import BadDocument, FleetUnavailable
from containerdns.fleet.etcd import Etcd, Value
from containerdns.fleet.sink import Change, FleetSink
from containerdns.tasks.turns import turns

RENEWALS: Final = 3  # of a lease in its time
FIRST_PAUSE, MAX_PAUSE = 0.25, 2.0  # seconds before another session; doubled each time
MIN_OBSERVED: Final = 6  # seconds of a lease; etcd tells what is left in whole ones
EXPIRY: Final = 1.5  # seconds that etcd may take to notice the end of a lease
TRY_EVERY: Final = 0.2  # seconds
SILENCE: Final = 1.0  # seconds of a watch without news, after which deadlines are looked at

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


class Member:
    """Takes part in a fleet; `run` is its whole life."""

    def __init__(
        self, etcd: Etcd, rules: Rules, sink: FleetSink, subnets: Callable[[], tuple[str, ...]]
    ) -> None:
        """Take whom to ask, and who is told.

        Args:
            etcd: The cluster.
            rules: How this host takes part.
            sink: Called with the other hosts.
            subnets: Returns those of this host's bridges.
        """
        self._etcd = etcd
        self._rules = rules
        self._sink = sink
        self._subnets = subnets
        self._base = f"{rules.prefix}v{VERSION}/"
        self._instance = secrets.token_hex(8)
        self._own: dict[str, str] = {}  # documents by container
        self._unwritten: dict[str, None] = {}
        self._has_unwritten = asyncio.Event()
        self._hosts: dict[str, Host] = {}  # the others
        self._remotes: dict[str, dict[str, Remote]] = {}
        self._due: dict[tuple[str, str], float] = {}  # what a session did not find; "" is the host
        self._shared: tuple[str, ...] = ()
        self._written_host = ""
        self._cluster = ""
        self._is_refused = False
        self._revision = 0

    # -- what others call ---------------------------------------------------------------

    def own_changed(
        self, changes: Iterable[tuple[str, Publication | None, Published | None]]
    ) -> None:
        """Own containers publish this now, with these published ports; None takes one away."""
        for container_id, publication, published in changes:
            if publication is None:
                self._own.pop(container_id, None)
            else:
                self._own[container_id] = json.dumps(document_of(publication, published))
            self._unwritten[container_id] = None
        self._has_unwritten.set()

    def networks_changed(self) -> None:
        """The networks of own Engines have changed: the subnets that others must not share."""
        self._has_unwritten.set()
        self._place_again()

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
            await self._list()
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
        """Take the key of this host; return False if a living server of its name has it.

        A server that was killed leaves the key behind for the rest of its lease.  A living one
        renews that: where the lease is long enough to see it, its key is taken over before
        anything is withdrawn; else its end is waited for.
        """
        key = f"{self._base}{self._rules.host}/host"
        document = self._host_document()
        is_ours = await self._etcd.create(key, document, lease)
        if not is_ours and (found := await self._etcd.get(key)) is not None:
            if self._instance in (found.value or ""):
                await self._etcd.put(key, document, lease)
                is_ours = True
            elif self._rules.lease >= MIN_OBSERVED and await self._is_left(found, lease):
                is_ours = await self._etcd.replace(key, document, lease, found.revision)
        is_ours = is_ours or await self._outlive(key, document, lease)
        if is_ours:
            self._written_host = document
        elif not self._is_refused:
            log.warning(
                "fleet: another server already has the name %s and writes under it; this one"
                " does not: --fleet-host names it otherwise",
                self._rules.host,
            )
        self._is_refused = not is_ours
        return is_ours

    async def _is_left(self, found: Value, lease: int) -> bool:
        """Return whether the lease of a key is renewed no more."""
        before = await self._etcd.time_to_live(found.lease)
        await asyncio.sleep(self._rules.lease / 2)
        await self._etcd.renew(lease)
        return await self._etcd.time_to_live(found.lease) < before - self._rules.lease / 4

    async def _outlive(self, key: str, document: str, lease: int) -> bool:
        """Take a key as soon as the lease of its owner ends; return False if it does not end."""
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

    async def _write(self, lease: int) -> None:
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
        addresses = self._rules.addresses or tuple(filter(None, (self._etcd.local_address,)))
        host = Host(self._rules.host, addresses, self._subnets(), self._instance)
        return json.dumps(host.document())

    # -- the other hosts ----------------------------------------------------------------------

    async def _list(self) -> None:
        """Read everything; what is missing has one lease of grace."""
        listing = await self._etcd.list(self._base)
        if self._cluster and listing.cluster != self._cluster:
            log.warning("fleet: this is another cluster of etcd; its hosts are read anew")
        self._cluster = listing.cluster
        missing = {(host, i) for host, found in self._remotes.items() for i in found}
        missing |= {(host, "") for host in self._hosts}
        for value in listing.values:
            place = self._place_of(value.key)
            missing.discard(place)
            self._due.pop(place, None)
            self._take(*place, value.value)
            await turns().offer("the fleet")
        until = asyncio.get_running_loop().time() + self._rules.lease
        self._due.update((place, until) for place in missing if place not in self._due)
        self._place_again()
        self._revision = listing.revision
        self._sink.fleet_connected()
        self._sink.fleet_listed(listing.revision)
        self._tell()

    async def _follow(self) -> None:
        revision = self._revision + 1
        async for changes in self._etcd.watch(self._base, revision, SILENCE):
            for value in changes.values:
                place = self._place_of(value.key)
                self._due.pop(place, None)
                self._take(*place, value.value)
                await turns().offer("the fleet")
            self._revision = max(self._revision, changes.revision)
            self._end_grace()
            self._tell()

    def _end_grace(self) -> None:
        """Withdraw what did not come back in time."""
        now = asyncio.get_running_loop().time()
        for place, until in list(self._due.items()):
            if until <= now:
                del self._due[place]
                self._take(*place, None)

    def _place_of(self, key: str) -> tuple[str, str]:
        """Return the host and the container of a key; "" for the host's own."""
        host, _, rest = key.removeprefix(self._base).partition("/")
        return host, rest.removeprefix("c/") if rest.startswith("c/") else ""

    def _take(self, host: str, container_id: str, document: str | None) -> None:
        """Apply the present value of a key."""
        if host == self._rules.host or not host:
            return
        if not container_id:
            self._take_over_host(host, document)
            return
        remotes = self._remotes.setdefault(host, {})
        remote = None
        if document is not None:
            try:
                remote = remote_of(host, container_id, json.loads(document))
            except (BadDocument, ValueError) as fault:
                log.warning("fleet: host %s: %s; it is left out", host, fault)
        if remote is None:
            remotes.pop(container_id, None)
            self._sink.remote_changed([(f"{ENGINE_PREFIX}{host}/{container_id}", None)])
        else:
            remotes[container_id] = remote
            if host in self._hosts:
                self._sink.remote_changed([self._placed(host, remote)])

    def _take_over_host(self, name: str, document: str | None) -> None:
        """A host is like this now; None for gone, with everything that it had."""
        found = None
        if document is not None:
            try:
                found = host_of(name, json.loads(document))
            except (BadDocument, ValueError) as fault:
                log.warning("fleet: host %s: %s; its names are left out", name, fault)
        if found is None:
            self._hosts.pop(name, None)
            gone = self._remotes.pop(name, {})
            self._sink.remote_changed([(r.publication.id, None) for r in gone.values()])
            log.info("fleet: host %s is gone, with %d containers", name, len(gone))
        elif found != self._hosts.get(name):
            if name not in self._hosts:
                log.info("fleet: host %s", name)
            self._hosts[name] = found
        else:
            return
        self._place_again(name)

    def _placed(self, host: str, remote: Remote) -> Change:
        publication = placed(remote, self._hosts[host], self._shared, self._rules.publish)
        return publication.id, publication

    def _place_again(self, changed: str = "") -> None:
        """Decide anew which addresses lead anywhere, after a host or a subnet came or went."""
        own = Host(self._rules.host, (), self._subnets())
        shared = shared_subnets((own, *self._hosts.values()))
        is_same, self._shared = shared == self._shared, shared
        hosts = [changed] if is_same and changed else list(self._hosts)
        for host in hosts:
            if host in self._hosts:
                remotes = self._remotes.get(host, {}).values()
                self._sink.remote_changed([self._placed(host, r) for r in remotes])

    def _tell(self) -> None:
        states = dict.fromkeys(self._hosts, "alive")
        states |= {host: "late" for host, i in self._due if not i and host in self._hosts}
        states[self._rules.host] = "own"
        self._sink.fleet_moved(self._revision, states)

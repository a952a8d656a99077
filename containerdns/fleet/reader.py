"""What all hosts of a fleet wrote: read, placed, and reported to the zone.

There are two pictures of it.  *Others* is for the answers of this server: without its own host,
and with hosts that have a lease of grace after etcd was lost.  *Everybody* is exactly what etcd
has at one revision, own host included; it is what secondaries get, the same from every server.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Final, NamedTuple

from containerdns.core.zone.fleet import (
    VERSION,
    Change,
    Host,
    Placement,
    Remote,
    Step,
    Together,
    base_of,
    engines_of,
    host_of,
    lost_engines_of,
    remote_of,
    serial_at,
)
from containerdns.core.zone.journal import is_newer
from containerdns.errors import BadDocument, FleetUnavailable
from containerdns.fleet.etcd import Changes, Listing, Value
from containerdns.fleet.sink import FleetSink
from containerdns.tasks.turns import turns

SERIAL_KEY: Final = "serial"  # no host's key, as those have a slash

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """What a key is about.

    Attributes:
        host: A host's name.
        container: A container's id; "" for the host itself.
    """

    host: str
    container: str


class Reader:
    """Applies the documents of all hosts.

    Attributes:
        revision: Up to which everything was read.
        followed: Up to which changes would have come, also of other keys.
        count: How many keys there are.
        own_seen: Called with each change of a key of this host, unless another server has them.
        serial_base: The key of the serial as it was listed; None if there is none.
    """

    def __init__(self, prefix: str, own: Host, lease: float, publish: str, sink: FleetSink) -> None:
        """Begin without anything.

        Args:
            prefix: Of all keys of the fleet, with its final slash.
            own: This host, as far as other hosts' addresses depend on it.
            lease: Seconds.
            publish: "auto", "container" or "host".
            sink: Called with the other hosts.
        """
        self.base = f"{prefix}v{VERSION}/"
        self.revision = self.followed = self.count = 0
        self.own_seen: Callable[[Value], None] = _ignore  # called with changes of own keys
        self._is_namesake_read = False
        self.serial_base: Value | None = None
        self._own, self._instance = own.name, own.instance
        self._lease = lease
        self._sink = sink
        self._others = Placement(publish, own)
        self._everybody = Placement(publish)
        self._due: dict[Place, float] = {}  # what the last listing did not have
        self._bad: dict[Place, str] = {}  # documents that cannot be read, and why
        self._cluster = ""
        self._base: int | None = None
        self._is_exact = False  # everybody is what etcd had at the revision
        self._unshared: list[Change] = []
        self._together: Together | None = None  # None: to be computed again
        self._states: dict[str, str] | None = None  # likewise

    def set_own(self, own: Host) -> None:
        """Look at other subnets of this host from now on."""
        self._sink.remote_changed(self._others.set_own(own))

    def read_namesake(self, *, is_read: bool) -> None:
        """Read what another server wrote under the name of this host as another host's, or not."""
        if self._is_namesake_read and not is_read:
            for place in [p for p in _places_of(self._others) if p.host == self._own]:
                self._due.pop(place, None)
                self._sink.remote_changed(self._withdrawn(place))
        self._is_namesake_read = is_read

    async def read(self, listing: Listing) -> None:
        """Read all keys again; those missing have one lease of grace."""
        if self._cluster and listing.cluster != self._cluster:
            log.warning("fleet: this is another etcd cluster; its hosts are read again")
        self._cluster = listing.cluster
        self._is_exact, self._base, self.serial_base = False, None, None
        self._take_hosts(listing.values)
        found = await self._take_all(listing.values)
        self._bad = {place: cause for place, cause in self._bad.items() if place in found}
        for place in _places_of(self._everybody) - found:
            self._unshared += _removed(self._everybody, place)
        until = asyncio.get_running_loop().time() + self._lease
        for place in _places_of(self._others) - found:
            self._due.setdefault(place, until)
        self._together = self._states = None
        self.revision = self.followed = listing.revision
        self.count = len(listing.values)
        self._sink.fleet_connected()
        self._sink.fleet_listed(listing.revision)
        self._report()

    async def apply(self, changes: Changes) -> None:
        """Apply what a message of the watch has; without changes, look at the time alone."""
        for revision, values in groupby(changes.values, key=lambda value: value.revision):
            had_base = self._base is not None
            for value in values:
                self.count += value.is_new - (value.value is None)
                self._take(value)
                await turns().offer("the fleet")
            if had_base and self._base is None:
                raise FleetUnavailable("the serial of the fleet was deleted")
            self.revision = max(self.revision, revision)
            self._is_exact = True
            self._share()
        self.followed = max(self.followed, self.revision, changes.revision)
        self._end_grace()
        self._report()

    async def _take_all(self, values: Iterable[Value]) -> set[Place]:
        """Apply a listing, as many at once as a turn has time for; return what is there."""
        places: set[Place] = set()
        changes: list[Change] = []
        for value in values:
            if value.key == self.base + SERIAL_KEY:
                self.serial_base = value
            read = self._read(value)
            if read is not None:
                places.add(read[0])
                changes += self._changes_of_others(*read)
                self._note_for_everybody(*read)
            if turns().is_over():
                self._sink.remote_changed(changes)
                changes = []
                await turns().take("the fleet")
        self._sink.remote_changed(changes)
        return places

    def lacks_serial(self, last: int) -> bool:
        """Return whether the base is missing, or would let the serial go back.

        Args:
            last: The serial that was in use last; 0 if there was none.
        """
        if self._base is None:
            return True
        serial = serial_at(self._base, self.revision)
        return bool(last) and serial != last and not is_newer(serial, last)

    def _share(self) -> None:
        """Hand secondaries what etcd has now, under its serial.

        After a listing the revision of the last change is unknown until the next one; and while
        hosts have a lease of grace, secondaries keep what they have.
        """
        if self._base is None or not self._is_exact or self._due:
            return
        serial, last = serial_at(self._base, self.revision), self._sink.fleet_serial()
        if serial == last and not self._unshared:
            return
        if last and not is_newer(serial, last):
            raise FleetUnavailable("the serial of the fleet went back")
        changes, self._unshared = tuple(self._unshared), []
        if self._together is None:
            self._together = Together.of(self._everybody.hosts.values())
        self._sink.fleet_shared(Step(serial, changes, self._together))

    def _end_grace(self) -> None:
        """Withdraw what did not come back in time."""
        if not self._due:
            return
        now = asyncio.get_running_loop().time()
        for place in [place for place, until in self._due.items() if until <= now]:
            del self._due[place]
            self._states = None
            self._sink.remote_changed(self._withdrawn(place))
        self._share()

    # -- documents ------------------------------------------------------------------------

    def _place_of(self, key: str) -> Place:
        host, _, rest = key.removeprefix(self.base).partition("/")
        return Place(host, rest.removeprefix("c/") if rest.startswith("c/") else "")

    def _take(self, value: Value) -> None:
        """Apply the present value of a key: to the answers first, as queries wait for it."""
        read = self._read(value)
        if read is not None:
            self._sink.remote_changed(self._changes_of_others(*read))
            self._note_for_everybody(*read)

    def _read(self, value: Value) -> tuple[Place, Host | Remote | None] | None:
        """Return what a key is about and what it has; None for the serial, which is applied."""
        if value.key == self.base + SERIAL_KEY:
            self._take_base(value)
            return None
        place = self._place_of(value.key)
        self._due.pop(place, None)
        if not place.container:
            self._together = self._states = None
        found = None
        if value.value is None:
            self._bad.pop(place, None)
        else:
            found = self._parsed(place, value.value)
        if place.host == self._own and not self._is_namesake_read:
            self._look_for_namesake(found)  # whose documents are not to be written over
            self.own_seen(value)
        return place, found

    def _changes_of_others(self, place: Place, found: Host | Remote | None) -> Iterable[Change]:
        """Apply a document to the others, and return what they publish now."""
        if place.host == self._own and not self._is_namesake_read:
            return ()
        if found is None:
            return self._withdrawn(place)
        if not place.container and not self._others.has_host(place.host):
            log.info("fleet: host %s", place.host)
        return _put(self._others, place, found)

    def _note_for_everybody(self, place: Place, found: Host | Remote | None) -> None:
        if found is None:
            self._unshared += _removed(self._everybody, place)
            return
        self._unshared += _put(self._everybody, place, found)

    def _take_hosts(self, values: Iterable[Value]) -> None:
        """Apply the documents of many hosts at once, before those of their containers."""
        hosts = []
        for value in values:
            place = self._place_of(value.key)
            if not place.container and value.value is not None and value.key.endswith("/host"):
                found = self._parsed(place, value.value)
                if isinstance(found, Host):
                    hosts.append(found)
        self._unshared += self._everybody.set_hosts(hosts)
        new = [h for h in hosts if h.name != self._own or self._is_namesake_read]
        for host in new:
            if not self._others.has_host(host.name):
                log.info("fleet: host %s", host.name)
        self._sink.remote_changed(self._others.set_hosts(new))

    def look_for_namesake(self, value: Value) -> None:
        """Look whether another server wrote the key of this host.

        Raises:
            FleetUnavailable: Another one did, and this one is not to write over that.
        """
        if value.value is not None:
            self._look_for_namesake(self._parsed(self._place_of(value.key), value.value))

    def _look_for_namesake(self, found: Host | Remote | None) -> None:
        """Stop writing if another server took over the name of this host.

        That may be right: this one was silent for so long that it was taken for dead.
        """
        if isinstance(found, Host) and found.instance != self._instance:
            raise FleetUnavailable(f"another server took over the name {self._own}")

    def _parsed(self, place: Place, text: str) -> Host | Remote | None:
        """Read a document; one that cannot be read costs what it is about, and one line."""
        try:
            document = json.loads(text)
            if place.container:
                found: Host | Remote = remote_of(place.host, place.container, document)
            else:
                found = host_of(place.host, document)
        except (BadDocument, ValueError, RecursionError) as fault:
            if self._bad.get(place) != str(fault):
                log.warning("fleet: host %s: %s; it is left out", place.host, fault)
            self._bad[place] = str(fault)
            return None
        self._bad.pop(place, None)
        return found

    def _withdrawn(self, place: Place) -> Iterable[Change]:
        """Remove something of the others, and return what they publish now."""
        is_host = not place.container and self._others.has_host(place.host)
        changes = _removed(self._others, place)
        if is_host:
            gone = sum(publication is None for _, publication in changes)
            noun = "container" if gone == 1 else "containers"
            log.info("fleet: host %s is gone, with %d %s", place.host, gone, noun)
        return changes

    def _take_base(self, value: Value) -> None:
        self._base = None
        try:
            self._base = base_of(json.loads(value.value or ""))
        except (BadDocument, ValueError) as fault:
            log.warning("fleet: the serial in etcd cannot be read (%s); it is written again", fault)

    def _report(self) -> None:
        self._sink.fleet_moved(self.revision)
        if self._states is not None:
            return
        hosts = self._others.hosts
        lost = (name for name, host in hosts.items() if host.is_lost)
        late = (place.host for place in self._due if not place.container)
        self._states = dict.fromkeys(hosts, "alive") | dict.fromkeys(lost, "lost")
        self._states |= dict.fromkeys(late, "late") | {self._own: "own"}
        known = hosts.values()
        self._sink.fleet_hosts(self._states, engines_of(known), lost_engines_of(known))


def _ignore(value: Value) -> None:
    """Do nothing."""


def _places_of(placement: Placement) -> set[Place]:
    containers = {Place(host, container) for host, container in placement.containers()}
    return containers | {Place(name, "") for name in placement.hosts}


def _put(placement: Placement, place: Place, found: Host | Remote) -> list[Change]:
    if isinstance(found, Host):
        return placement.set_hosts((found,))
    return placement.set(place.host, place.container, found)


def _removed(placement: Placement, place: Place) -> Iterable[Change]:
    if place.container:
        return placement.remove(place.host, place.container)
    return placement.remove_host(place.host)

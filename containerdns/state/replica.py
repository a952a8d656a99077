"""The state that a process answers from: zone, rules and views, changed together.

The writer makes the changes.  With `--workers`, each change is replayed in the other
processes by the same methods with the same arguments, including times, so that all
processes have the same state.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from containerdns.config.groups import Settings
from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone.containers import Network
from containerdns.core.zone.handover import Departure
from containerdns.core.zone.ownership import Listing, Ownership
from containerdns.core.zone.policy import Publication
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import NO_CONTAINER, Own, View, Views
from containerdns.core.zone.zone import MAX_ENDED, Zone, next_serial
from containerdns.errors import BadName
from containerdns.state.secondaries import Feed
from containerdns.tasks.parts import contained

Changes = Sequence[tuple[str, Publication | None]]
Mirror = Callable[[str, tuple[Any, ...]], None]  # a method of `Replica`, and its arguments


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The complete state of a replica, for a new process.

    Attributes:
        settings: The settings in effect.
        serial: The zone's serial.
        publications: All of them.
        remembered: Owners and their expiry times.
        networks: All networks.
        own: This server itself as a container.
        machine: The addresses of this machine.
        listing: How far the Engines have been listed.
        departures: Departed holders of names that are held back, by owner.
        lost_engines: URLs of Engines whose grace period is over.
    """

    settings: Settings
    serial: int
    publications: tuple[Publication, ...]
    remembered: tuple[tuple[str, float], ...]
    networks: tuple[Network, ...]
    own: Own
    machine: frozenset[str]
    listing: Listing
    departures: tuple[tuple[str, Departure], ...]
    lost_engines: frozenset[str]


class Replica:
    """Zone, rules and views of one process.

    Attributes:
        settings: The settings in effect.
        counters: `zone_changes` is counted here.
        zone: The names and records.
        ownership: Decides which names are ours.
        views: The views of clients.
        feed: The feed of secondaries, if any.
        mirrors: Those that replay our changes in other processes.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        packet_cache: PacketCache,
        top_level_domains: frozenset[str],
        serial: int,
        remembered: Iterable[tuple[str, float]] = (),
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.feed: Feed | None = None
        self.mirrors: list[Mirror] = []
        self._packet_cache = packet_cache
        self._top_level_domains = top_level_domains
        self._networks: tuple[Network, ...] = ()
        self._own = NO_CONTAINER
        self._machine: frozenset[str] = frozenset()
        memory = RememberedNames(settings.state.remember)
        for owner, until in remembered:
            memory.put(owner, until)
        self.zone = Zone(settings.zone, serial, memory)
        self.views = Views(settings.rights)
        self.ownership = self._make_ownership(Listing.PENDING)
        packet_cache.set_serial(self.zone.serial)

    @property
    def listing(self) -> Listing:
        """How far the Engines have been listed."""
        return self.ownership.listing

    def neutral_view(self, endpoints: Iterable[Endpoint]) -> View:
        """Return the view of no particular client: all addresses, and the host's if known.

        Args:
            endpoints: The addresses listened on, except for wildcards.
        """
        listening = tuple(
            dict.fromkeys(e.host for e in endpoints if e.host not in ("0.0.0.0", "::"))
        )
        host = self.views.host_addresses(b"")
        server = self.views.server_addresses(b"", host)
        if not self._own.networks:
            host, server = host or listening, listening or host
        return View(True, True, True, False, frozenset(), host, server)

    def change(
        self, changes: Changes, now: float, is_part: bool = False, hands_over: bool = True
    ) -> set[str]:
        """Replace publications by id; None removes one.

        Args:
            changes: By id.
            now: Seconds since the epoch.
            is_part: The change is part of an Engine's first listing or of a reload, which
                increases the serial once, at its end (`settle`): a serial that counted
                containers would run ahead of the clock, and might decrease at a restart.
            hands_over: Hold back names that lose their holders; False if the change is due to
                new rules.

        Returns:
            The names whose answers may have changed; they were removed from the packet cache.
        """
        changed: set[str] = set()
        serial = self.zone.serial
        for publication_id, publication in changes:
            changed |= self.zone.replace(publication_id, publication, now, hands_over=hands_over)
        if is_part:
            self.zone.serial = serial
        self._forget(changed)
        if self.zone.serial != serial:
            self.counters.zone_changes += 1
            self._packet_cache.set_serial(self.zone.serial)
        self._mirror("change", changes, now, is_part, hands_over)
        return changed

    def settle(self, now: float) -> None:
        """Increase the serial once for changes that were parts of one."""
        self._grow(now)
        self.counters.zone_changes += 1
        self._mirror("settle", now)

    def owners_in(self, changes: Changes) -> set[str]:
        """Return the owners that some changes affect, before or after them."""
        touched = [p for i, new in changes for p in (self.zone.publication(i), new) if p]
        return {claim.owner for publication in touched for claim in publication.claims}

    def set_machine(self, addresses: frozenset[str]) -> None:
        """Set the addresses of this machine, which are allowed by default."""
        if addresses != self._machine:
            self._machine = addresses
            self.views.set_machine(addresses)
            self._packet_cache.forget_views()
            self._mirror("set_machine", addresses)

    def set_networks(self, networks: tuple[Network, ...], own: Own, now: float) -> None:
        """Set all networks, and this server itself as a container.

        Both affect records: which zones exist, and which of several addresses is returned.
        """
        if (networks, own) == (self._networks, self._own):
            return
        epoch, had, seen = self.views.epoch, self.zone.reverse.apexes(), self.neutral_view(())
        self._own = own
        self._networks = networks
        self.views.set_networks(networks, own)
        self.zone.reverse.set_networks(networks)
        has_other_zones = self.zone.reverse.apexes() != had
        has_moved = own.networks != self.zone.own_networks or self.neutral_view(()) != seen
        self.zone.own_networks = own.networks
        if has_moved or has_other_zones:
            self._grow(now)
        if self.feed is not None:
            with contained(self.counters, "recording new networks for secondaries"):
                if has_other_zones:
                    self.feed.regrouped()
                if has_moved:
                    self.feed.look_again()
                    self.feed.changed(self.zone.names_with_choice())
        if self.views.epoch != epoch or has_moved or has_other_zones:
            self._packet_cache.forget_views()
            self.views.epoch += self.views.epoch == epoch
        self._mirror("set_networks", networks, own, now)

    def set_listing(self, listing: Listing) -> None:
        """Set how far the Engines have been listed."""
        if listing is not self.ownership.listing:
            self.ownership.listing = listing
            self._packet_cache.forget_all()
            self._mirror("set_listing", listing)

    def set_lost_engines(self, lost_engines: frozenset[str], now: float) -> bool:
        """Set the Engines whose grace period is over; return whether that is a change."""
        if lost_engines == self.zone.lost_engines:
            return False
        self.zone.lost_engines = lost_engines
        self._grow(now)
        self._packet_cache.forget_all()
        if self.feed is not None:
            with contained(self.counters, "recording a lost Engine for secondaries"):
                self.feed.renewed()
        self._mirror("set_lost_engines", lost_engines, now)
        return True

    def expire(self, now: float) -> bool:
        """Forget some remembered names that have expired; return whether there were any."""
        over = self.zone.remembered.expire(now)
        if not over:
            return False
        self._packet_cache.forget({name for owner in over for name in self.zone.names_of(owner)})
        if any(owner.startswith("*") for owner in over):
            self._packet_cache.forget_absent()
        self._mirror("expire", now)
        return True

    def end_handovers(self, now: float) -> bool:
        """Release some names whose handover is over; return whether there may be more.

        Args:
            now: Seconds since the epoch.
        """
        owners = self.zone.handovers.due(now, MAX_ENDED)
        if not owners:
            return False
        changed = self.zone.end_handovers(owners, now)
        if changed:
            self._forget(changed)
            self.counters.zone_changes += 1
            self._packet_cache.set_serial(self.zone.serial)
        self._mirror("end_handovers", now)
        return True

    def snapshot(self) -> Snapshot:
        """Return the complete state, for another process."""
        return Snapshot(
            self.settings,
            self.zone.serial,
            tuple(self.zone.publications()),
            tuple(self.zone.remembered.items()),
            self._networks,
            self._own,
            self._machine,
            self.listing,
            tuple(self.zone.handovers.items()),
            self.zone.lost_engines,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Load the state of another process; must be called once, before anything else."""
        for publication in snapshot.publications:
            self.zone.replace(publication.id, publication, 0.0, hands_over=False)
        for owner, departure in snapshot.departures:
            self.zone.handovers.add(owner, departure)
        for owner, until in snapshot.remembered:
            self.zone.remembered.put(owner, until)
        self.set_networks(snapshot.networks, snapshot.own, 0.0)
        self.set_machine(snapshot.machine)
        self.set_listing(snapshot.listing)
        self.set_lost_engines(snapshot.lost_engines, 0.0)
        self.zone.serial = snapshot.serial
        self._packet_cache.set_serial(snapshot.serial)

    def use(self, settings: Settings, now: float) -> None:
        """Use new settings from now on, without changing publications."""
        self.settings = settings
        had = self.zone.shape
        self.zone.reshape(settings.zone)
        self._grow(now)
        self.zone.remembered.lifetime = settings.state.remember
        self.ownership = self._make_ownership(self.listing)
        self.views.set_rights(settings.rights)
        self._packet_cache.forget_views()
        if self.feed is not None and self.zone.shape != had:
            self.feed.renewed()
        self._mirror("use", settings, now)

    def _make_ownership(self, listing: Listing) -> Ownership:
        made = Ownership(
            self.zone,
            top_level_domains=self._top_level_domains,
            forwards=frozenset(apex for apex, _ in self.settings.upstream.forwards),
            doh_canary=self.settings.dns.doh_canary,
            engine_hosts=frozenset(engine_hosts(self.settings)),
        )
        made.listing = listing
        return made

    def _forget(self, changed: set[str]) -> None:
        """Remove changed names from the packet cache, and record them for secondaries."""
        self._packet_cache.forget(changed)
        if self.feed is not None:
            with contained(self.counters, "recording a change for secondaries"):
                self.feed.changed(changed)

    def _grow(self, now: float) -> None:
        """Increase the serial after a change of records."""
        self.zone.serial = next_serial(self.zone.serial, now)
        self._packet_cache.set_serial(self.zone.serial)
        if self.feed is not None:
            with contained(self.counters, "recording a serial for secondaries"):
                self.feed.grown()

    def _mirror(self, method: str, *arguments: Any) -> None:
        for mirror in self.mirrors:
            mirror(method, arguments)


def engine_hosts(settings: Settings) -> Iterator[str]:
    """Yield the host names of Engines that are below our search domains."""
    for url in settings.engines.urls:
        host = urlsplit(url).hostname or ""
        with suppress(BadName):
            name = names.canonical(host)
            yield name
            for search in settings.zone.search_domains:
                yield names.join(name[:-1], search)

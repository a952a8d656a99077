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
from containerdns.core.zone.fleet import Step
from containerdns.core.zone.handover import Departure
from containerdns.core.zone.ownership import Listing, Ownership
from containerdns.core.zone.policy import Publication, PublicationChange
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import NO_CONTAINER, Own, View, Views
from containerdns.core.zone.zone import MAX_ENDED, Zone
from containerdns.errors import BadName
from containerdns.state.fleet_secondaries import FleetFeed, Steps
from containerdns.state.secondaries import Feed
from containerdns.state.state_file import SavedState
from containerdns.tasks.parts import Contained

Changes = Sequence[PublicationChange]
Mirror = Callable[[str, tuple[Any, ...]], None]  # a method of `Replica`, and its arguments


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The complete state of a replica, for a new process.

    Attributes:
        settings: The settings in effect.
        serial: The zone's serial.
        is_ahead: Whether the zone is ahead of it.
        publications: All of them.
        remembered: Owners and their expiry times.
        networks: All networks.
        own: This server itself as a container.
        machine: The addresses of this machine.
        listing: How far the Engines have been listed.
        departures: Departed holders of names that are held back, by owner.
        lost_engines: URLs of Engines whose grace period is over.
        steps: Of a fleet, what secondaries get.
    """

    settings: Settings
    serial: int
    is_ahead: bool
    publications: tuple[Publication, ...]
    remembered: tuple[tuple[str, float], ...]
    networks: tuple[Network, ...]
    own: Own
    machine: frozenset[str]
    listing: Listing
    departures: tuple[tuple[str, Departure], ...]
    lost_engines: frozenset[str]
    steps: Steps


class Replica:
    """Zone, rules and views of one process.

    Attributes:
        settings: The settings in effect.
        counters: `zone_changes` is counted here.
        zone: The names and records.
        ownership: Decides which names are ours.
        views: The views of clients.
        feed: The feed of secondaries, if any.
        steps: Of a fleet, what secondaries get.
        mirrors: Those that replay our changes in other processes.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        packet_cache: PacketCache,
        top_level_domains: frozenset[str],
        last: SavedState,
    ) -> None:
        self.settings = settings
        self.counters = counters
        self.feed: Feed | FleetFeed | None = None
        self.steps = Steps()
        self.mirrors: list[Mirror] = []
        self._packet_cache = packet_cache
        self._top_level_domains = top_level_domains
        self._networks: tuple[Network, ...] = ()
        self._own = NO_CONTAINER
        self._machine: frozenset[str] = frozenset()
        memory = RememberedNames(settings.state.remember)
        for owner, until in last.remembered:
            memory.put(owner, until)
        self.zone = Zone(settings.zone, last.serial, memory)
        self.zone.follows_clock = not settings.fleet.urls
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
        listening = tuple(dict.fromkeys(e.host for e in endpoints if not e.is_wildcard))
        host = self.views.host_addresses(b"")
        server = self.views.server_addresses(b"", host)
        if not self._own.networks:
            host, server = host or listening, listening or host
        return View(True, True, True, False, frozenset(), host, server)

    def change(
        self, changes: Changes, now: float, is_part: bool = False, hands_over: bool = True
    ) -> set[str]:
        """Replace publications by id; None removes one.

        The other processes get it first, so that they apply it while this one does.

        Args:
            changes: By id.
            now: Seconds since the epoch.
            is_part: The change is part of an Engine's first listing or of a reload, which is
                counted as one change, at its end (`settle`).
            hands_over: Hold back names that lose their holders; False if the change is due to
                new rules.

        Returns:
            The names whose answers may have changed; they were removed from the packet cache.
        """
        self._mirror("change", changes, now, is_part, hands_over)
        changed: set[str] = set()
        was_ahead, self.zone.is_ahead = self.zone.is_ahead, False
        for publication_id, publication in changes:
            changed |= self.zone.replace(publication_id, publication, now, hands_over=hands_over)
        has_changed = self.zone.is_ahead
        self.zone.is_ahead |= was_ahead
        self._noted(changed, now)
        if has_changed and not is_part:
            self.counters.zone_changes += 1
        return changed

    def enter(self, changes: Changes, now: float) -> None:
        """Replace publications that are part of a first listing of very many.

        It costs half of `change`: which answers may change is not worked out, all are removed
        from the packet cache.  `settle` has to follow in the end.
        """
        for publication_id, publication in changes:
            self.zone.replace(publication_id, publication, now, wants_names=False)
        self._packet_cache.forget_all()
        self._mirror("enter", changes, now)

    def settle(self, now: float) -> None:
        """Count changes that were parts of one as a single change."""
        self._grow(now)
        self.counters.zone_changes += 1
        self._mirror("settle", now)

    def tick(self, now: float) -> None:
        """Assign a serial to the changes that have none; called once a second.

        The first change in a second gets that second's serial immediately, the others share
        the next one.  So serials never run ahead of the clock, and none is used twice, not
        even after a restart without `--state`.
        """
        if self.zone.is_ahead and self.zone.grow(now, is_tick=True):
            self._has_grown()
            self._mirror("tick", now)

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
        self.zone.reverse.set_networks((*networks, *self.steps.together.networks))
        has_other_zones = self.zone.reverse.apexes() != had
        has_moved = own.networks != self.zone.own_networks or self.neutral_view(()) != seen
        self.zone.own_networks = own.networks
        if has_moved or has_other_zones:
            self._grow(now)
        if has_other_zones:
            self._notify_feed("noting other reverse zones", lambda feed: feed.regrouped())
        if has_moved:
            self._notify_feed(
                "noting other addresses of this server", lambda feed: feed.look_again()
            )
            moved = self.zone.names_with_choice()
            self._notify_feed("noting other addresses", lambda feed: feed.changed(moved))
        if self.views.epoch != epoch or has_moved or has_other_zones:
            self._packet_cache.forget_views()
            if self.views.epoch == epoch:
                self.views.epoch += 1
        self._mirror("set_networks", networks, own, now)

    def share(self, step: Step) -> None:
        """Apply a step: from now on, secondaries of a fleet get it under its serial."""
        had = [self.steps.published.get(publication_id) for publication_id, _ in step.changes]
        networks = self.steps.together.networks
        self.steps.add(step)
        self.zone.serial = step.serial
        self._packet_cache.set_serial(step.serial)
        if step.together.networks != networks:
            self.zone.reverse.set_networks((*self._networks, *step.together.networks))
            self._packet_cache.forget_views()
            self.views.epoch += 1
        feed = self.feed
        if isinstance(feed, FleetFeed):
            self._notify_feed(
                "noting a revision for secondaries", lambda _: feed.stepped(step, had)
            )
        self._mirror("share", step)

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
        self._notify_feed("notifying secondaries of a lost Engine", lambda feed: feed.renewed())
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
            self._noted(changed, now)
            self.counters.zone_changes += 1
        self._mirror("end_handovers", now)
        return True

    def snapshot(self) -> Snapshot:
        """Return the complete state, for another process."""
        return Snapshot(
            self.settings,
            self.zone.serial,
            self.zone.is_ahead,
            tuple(self.zone.publications()),
            tuple(filter(None, self.zone.remembered.items())),
            self._networks,
            self._own,
            self._machine,
            self.listing,
            tuple(self.zone.handovers.items()),
            self.zone.lost_engines,
            self.steps,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Load the state of another process; must be called once, before anything else."""
        self.steps = snapshot.steps
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
        self.zone.serial, self.zone.is_ahead = snapshot.serial, snapshot.is_ahead
        self._packet_cache.set_serial(snapshot.serial)

    def use(self, settings: Settings, now: float) -> None:
        """Use new settings from now on, without changing publications.

        Those that change no record change no serial, and secondaries are not notified.
        """
        had, seen = self.zone.shape, self.neutral_view(())
        if settings != self.settings:
            self.settings = settings
            self.zone.reshape(settings.zone)
        self.zone.remembered.lifetime = settings.state.remember
        self.ownership = self._make_ownership(self.listing)
        self.views.set_rights(settings.rights)
        self._packet_cache.forget_views()
        if self.zone.shape != had or self.neutral_view(()) != seen:
            self._grow(now)
        if self.zone.shape != had:
            self._notify_feed("notifying secondaries of a reload", lambda feed: feed.renewed())
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

    def _noted(self, changed: set[str], now: float) -> None:
        """Remove changed names from the packet cache, and record them for secondaries."""
        has_grown = self.zone.is_ahead and self.zone.grow(now)
        self._packet_cache.forget(changed)
        self._notify_feed("noting a change for secondaries", lambda feed: feed.changed(changed))
        if has_grown:
            self._has_grown()

    def _grow(self, now: float) -> None:
        """Increase the serial after a change of records in any zone."""
        self.zone.is_ahead = True
        has_grown = self.zone.grow(now)
        self._notify_feed("noting a change for all secondaries", lambda feed: feed.all_changed())
        if has_grown:
            self._has_grown()

    def _has_grown(self) -> None:
        self._packet_cache.set_serial(self.zone.serial)
        self._notify_feed("noting a serial for secondaries", lambda feed: feed.grown())

    def _notify_feed(self, what: str, notify: Callable[[Feed | FleetFeed], None]) -> None:
        """Report a change to the feed; after an internal error, all zones are copied again."""
        if self.feed is None:
            return
        with Contained(self.counters, what):
            notify(self.feed)
            return
        with Contained(self.counters, "having zones copied again"):
            self.feed.renewed()

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

"""The only writer of the zone, which turns events and file changes into zone changes.

Everything runs on the event loop, one complete change after the other, so that no reader ever
sees a partial change.
"""

import asyncio
import gc
import logging
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from typing import Protocol

from containerdns.config.groups import Settings
from containerdns.config.machine import own_addresses
from containerdns.core.counters import Counters
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone.change_history import MAX_KEPT, ChangeHistory, line
from containerdns.core.zone.containers import Container, Network
from containerdns.core.zone.fleet import Step
from containerdns.core.zone.inventory import Inventory, lender_of
from containerdns.core.zone.ownership import Listing
from containerdns.core.zone.policy import (
    SERVICE_ID,
    UNPUBLISHED_NETWORKS,
    Publication,
    PublicationChange,
    published_addresses,
)
from containerdns.core.zone.views import NO_CONTAINER, Own
from containerdns.core.zone.zone import next_serial
from containerdns.state import state_file
from containerdns.state.hosts_files import HostsFiles, Loaded
from containerdns.state.replica import Replica
from containerdns.tasks.parts import Contained
from containerdns.tasks.threads import in_thread
from containerdns.tasks.turns import turns

MAX_LINES = 20  # single changes logged per second; of a burst, only the number is logged
LISTING_PATIENCE = 10.0  # seconds for an Engine's first listing, contract section 4
MACHINE_EVERY = 5.0  # seconds between checks of this machine's addresses
TICK_MARGIN = 0.005  # seconds, as a timer may fire a little early
HOUSEKEEPING = 1.0  # seconds between checks of files and expiry times
RELOAD_SLICE = 0.001  # seconds of republishing between queries
STATE_EVERY = 5.0  # minimum number of seconds between two writes of the state file
HOSTS_AT_ONCE = 8  # names from hosts files that change in one step, within half a millisecond
FREEZES = 2  # gc.freeze: after the first listing, and after its refinement
UNKNOWN_SERIAL = 1  # until the fleet has one; lower than any other
FLEET = "fleet"  # in place of an Engine: other hosts

log = logging.getLogger(__name__)


@dataclass(slots=True)
class EngineStatus:
    """The status of one Engine.

    Attributes:
        url: As configured.
        is_connected: Its events are being followed.
        last_sync: When a full listing was last applied, seconds since the epoch; 0 if never.
        cause: Why it is not connected; "" if it is.
        lag: Seconds from the last event to its change of the zone.
        incomplete_since: Since when some names of its containers are unknown, by the monotonic
            clock; 0 if all are known.
        lost_at: When the connection was lost (monotonic seconds); None once listed again.
    """

    url: str
    is_connected: bool = False
    last_sync: float = 0.0
    cause: str = ""
    lag: float | None = None
    incomplete_since: float = 0.0
    lost_at: float | None = None

    def has_been_lost_for(self, seconds: float) -> bool:
        """Return whether it was lost that long ago and has not been listed since."""
        return self.lost_at is not None and time.monotonic() - self.lost_at >= seconds


@dataclass(slots=True)
class FleetStatus:
    """The status of the fleet, as far as this host knows.

    Attributes:
        is_connected: etcd responds, and its changes are being followed.
        has_listed: All other hosts have been read once.
        cause: Why it is not connected; "" if it is.
        revision: The revision of etcd that the zone reflects.
        hosts: By name, "alive", "late", "lost" or "own".
        engines: Of the other hosts.
        lost_engines: Those of them that are lost.
    """

    is_connected: bool = False
    has_listed: bool = False
    cause: str = ""
    revision: int = 0
    hosts: Mapping[str, str] = field(default_factory=dict)
    engines: frozenset[str] = frozenset()
    lost_engines: frozenset[str] = frozenset()


OwnChanges = Iterable[tuple[str, Publication | None, Mapping[str, tuple[int, ...]] | None]]


class OwnListener(Protocol):
    """Publishes this host's containers to other hosts."""

    def own_changed(self, changes: OwnChanges) -> None:
        """Publications of own containers changed, with published ports; None removes one."""

    def host_changed(self) -> None:
        """The networks of own Engines have changed, or whether these are lost."""

    def settings_changed(self) -> None:
        """The zone is another one without a change of containers."""


class ZoneWriter(Replica):
    """The replica that receives changes from Engines and files; the watchers' sink.

    Attributes:
        inventory: The containers behind the zone.
        engines: By URL.
        changes: The history of changes of containers.
        revision: Increases with every change that the status page shows.
    """

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        packet_cache: PacketCache,
        top_level_domains: frozenset[str],
    ) -> None:
        now = time.time()
        last = state_file.SavedState()
        if settings.state.file is not None:
            last = state_file.read(settings.state.file, now, settings.state.remember)
        serial = next_serial(last.serial, now)
        if settings.fleet.urls:  # its serial comes from etcd
            serial = last.serial or UNKNOWN_SERIAL
        last = last._replace(serial=serial)
        super().__init__(settings, counters, packet_cache, top_level_domains, last)
        self.zone.is_ahead = True  # the previous process may have had other records at that serial
        self.revision = 0
        self.changes = ChangeHistory()
        self._changes_logged = 0
        self.engines = {url: EngineStatus(url) for url in settings.engines.urls}
        self.inventory = Inventory(settings.policy, self.zone.publication)
        self.fleet = FleetStatus() if settings.fleet.urls else None
        self.listener: OwnListener | None = None  # of the fleet
        self.own_lost_engines: frozenset[str] = frozenset()  # whose grace period is over
        self._started = time.monotonic()
        self._warned: dict[str, set[str]] = {}  # by publication id, the faults already logged
        self._names_before = 0
        self._touched: set[str] = set()  # owners, since the last log line
        self._logged_generation = 0  # of the zone
        self._waits_for_serial = False
        self._hosts = HostsFiles()
        self._hosts_lock = asyncio.Lock()
        self._state_lock = threading.Lock()
        self._state_written = (0, 0.0)
        self._own_container = _own_container_id()
        self._machine_again_at = 0.0
        self._freezes_left = FREEZES

    # -- status ------------------------------------------------

    def readiness(self) -> tuple[bool, str]:
        """Return whether every Engine was listed, or another one was and 10 s have passed."""
        missing = [e for e in self.engines.values() if not e.last_sync]
        is_overdue = time.monotonic() - self._started >= LISTING_PATIENCE
        if self.fleet is not None and not self.fleet.has_listed and not is_overdue:
            return False, "the fleet has not been read yet"
        if not missing:
            return True, "every Engine has been listed"
        if is_overdue and len(missing) < len(self.engines):
            return True, f"without {', '.join(e.url for e in missing)}, tried for 10 s"
        return False, f"not listed yet: {', '.join(e.url for e in missing)}"

    # -- the watchers' sink -----------------------------------------------------------

    def container_changed(
        self, engine: str, container: Container, event_time: float | None
    ) -> None:
        """A container, running or not, was created or changed.

        An internal error affects the names of this container only.
        """
        with Contained(self.counters, f"publishing the container {container.container_name}"):
            self._publish(engine, container, event_time)
            return
        reason = "internal error; see the log"
        self.container_unreadable(engine, container.id, container.container_name, reason)

    def _publish(self, engine: str, container: Container, event_time: float | None) -> None:
        was_unreadable = container.id in self.inventory.unreadable
        shows_network = self.inventory.has_unknown_gateway(container)
        shows_network |= self._is_on_unlisted_network(container.id)
        publications = self.inventory.put(container)
        if was_unreadable:
            self.revision += 1
        if publications:
            if shows_network or self.inventory.has_unlisted_network(container):
                self._networks_changed()
            self._apply(((p.id, p) for p in publications), engine, event_time)
            self._notice_own(container.id)

    def container_died(
        self,
        engine: str,
        container_id: str,
        event_time: float | None,
        exit_status: int | None = None,
    ) -> None:
        """A container stopped running but still exists."""
        with Contained(self.counters, f"withdrawing the container {container_id[:12]}"):
            publications = self.inventory.die(container_id, event_time, exit_status)
            self._apply(((p.id, p) for p in publications), engine, event_time)
            self._notice_own(container_id)

    def container_removed(self, engine: str, container_id: str, event_time: float | None) -> None:
        """A container was removed."""
        with Contained(self.counters, f"removing the container {container_id[:12]}"):
            was_on_unlisted = self._is_on_unlisted_network(container_id)
            changes: list[PublicationChange] = [(container_id, None)]
            changes += [(p.id, p) for p in self.inventory.remove(container_id)]
            self._apply(changes, engine, event_time)
            if was_on_unlisted or container_id == self._own_container:
                self._networks_changed()
            self._notice_own(container_id)

    def container_unreadable(
        self, engine: str, container_id: str, container_name: str, reason: str
    ) -> None:
        """A container exists, but not all of its documents can be read."""
        self.counters.bad_documents += 1
        self.inventory.unreadable[container_id] = (container_name, reason)
        self.revision += 1
        self._warn_once(container_id, "document", f"container {container_name}: {reason}")

    def networks_changed(self, engine: str, networks: tuple[Network, ...]) -> None:
        """The networks of an Engine changed; these are all of them."""
        self.inventory.set_networks(engine, networks)
        self._networks_changed()
        self._warn_of_networks()

    def incomplete(self, engine: str) -> None:
        """A listing found containers whose names are not all known, until `listed`."""
        self.engines[engine].incomplete_since = time.monotonic()
        self._look_at_listings()

    def listed(self, engine: str) -> None:
        """A full listing has been applied."""
        status = self.engines[engine]
        is_first = not status.last_sync
        was_incomplete, status.incomplete_since = status.incomplete_since, 0.0
        status.last_sync = time.time()
        status.lost_at = None
        self.revision += 1
        self._look_at_lost_engines()
        if is_first:
            self._look_at_listings()
            self.settle(status.last_sync)
            count = sum(1 for c in self.inventory if c.engine == engine)
            noun = "container" if count == 1 else "containers"
            log.info("Docker %s: listed, %d %s", engine, count, noun)
            self._warn_of_networks()
        elif was_incomplete:
            self._look_at_listings()
        if self.listing is Listing.COMPLETE and self._freezes_left:
            self._freezes_left -= 1
            gc.freeze()  # a full collection over a large zone takes tens of milliseconds

    def connected(self, engine: str) -> None:
        """The Engine responds, and its events are being followed."""
        status = self.engines[engine]
        if not status.is_connected:
            log.info("Docker %s: connected", engine)
        status.is_connected, status.cause = True, ""
        self.revision += 1

    def disconnected(self, engine: str, cause: str) -> None:
        """The connection to the Engine was lost or could not be made."""
        status = self.engines[engine]
        if status.is_connected or status.cause != cause:
            kept = (
                "the last known zone is kept" if status.last_sync else "no containers are known yet"
            )
            log.warning("Docker %s: %s; retrying, %s", engine, cause, kept)
        status.is_connected, status.cause = False, cause
        status.incomplete_since = 0.0  # the last known zone is kept
        if status.lost_at is None:
            status.lost_at = time.monotonic()
        self.revision += 1

    def event_seen(self, engine: str, action: str) -> None:
        """An event arrived."""
        self.counters.engine_events[engine, action] += 1

    def resynced(self, engine: str, reason: str) -> None:
        """A full listing was compared."""
        self.counters.resyncs[engine, reason] += 1
        log.debug("Docker %s: full listing compared (%s)", engine, reason)

    def list_failed(self, engine: str, cause: str) -> None:
        """A full listing failed."""
        log.debug("Docker %s: no listing: %s", engine, cause)

    # -- the fleet's sink ---------------------------------------------------------------

    def remote_changed(self, changes: Iterable[PublicationChange]) -> None:
        """Publications of other hosts changed; None removes one."""
        with Contained(self.counters, "publishing containers of other hosts"):
            is_first = self.fleet is not None and not self.fleet.has_listed
            known = self.zone.publication
            new = [(i, p) for i, p in changes if p is not None or known(i) is not None]
            if new:
                self._apply(new, FLEET, None, is_part=is_first)

    def fleet_listed(self, revision: int) -> None:
        """All other hosts have been read."""
        assert self.fleet is not None
        self.fleet.revision = revision
        if not self.fleet.has_listed:
            self.fleet.has_listed = True
            self._look_at_listings()
            self.settle(time.time())

    def fleet_moved(self, revision: int) -> None:
        """The fleet is at a revision."""
        assert self.fleet is not None
        self.fleet.revision = revision

    def fleet_hosts(
        self, hosts: Mapping[str, str], engines: frozenset[str], lost: frozenset[str]
    ) -> None:
        """The fleet has these hosts, with these Engines."""
        assert self.fleet is not None
        self.fleet.hosts, self.fleet.engines, self.fleet.lost_engines = hosts, engines, lost
        self.revision += 1
        self._look_at_lost_engines()

    def fleet_shared(self, step: Step) -> None:
        """Secondaries get this from now on."""
        with Contained(self.counters, "sharing a revision of the fleet"):
            self.share(step)

    def fleet_serial(self) -> int:
        """Return the serial that secondaries have got last; 0 if there was none."""
        return 0 if self.zone.serial == UNKNOWN_SERIAL else self.zone.serial

    def fleet_connected(self) -> None:
        """The etcd cluster responds."""
        assert self.fleet is not None
        if not self.fleet.is_connected:
            log.info("fleet: connected to etcd")
        self.fleet.is_connected, self.fleet.cause = True, ""
        self.revision += 1

    def fleet_disconnected(self, cause: str) -> None:
        """The etcd cluster was lost, or could not be reached at all."""
        assert self.fleet is not None
        if self.fleet.is_connected or self.fleet.cause != cause:
            log.warning("fleet: %s; retrying, and the last known hosts stay in the zone", cause)
        self.fleet.is_connected, self.fleet.cause = False, cause
        self.revision += 1

    # -- periodic work -----------------------------------------------------------------------

    async def run(self) -> None:
        """Handle expiry times and files until cancelled; save the state at the end."""
        try:
            while True:
                await self.follow_hosts()
                self._look_at_listings()
                self._look_at_machine()
                self._look_at_lost_engines()
                while self.expire(time.time()):
                    self.revision += 1
                    await turns().offer("forgetting expired names")
                await self._end_handovers()
                self._log_zone()
                await self._warn_of_losses()
                await self._save_state_if_due()
                await asyncio.sleep(HOUSEKEEPING)
        finally:
            self._save_state(state_file.pieces(self.zone))

    async def keep_time(self) -> None:
        """Let the serial follow the clock until cancelled, a moment after each whole second."""
        while True:
            await asyncio.sleep(1 - time.time() % 1 + TICK_MARGIN)
            self.tick(time.time())

    async def _end_handovers(self) -> None:
        """Release names whose handover is over, some at a time."""
        while self.end_handovers(time.time()):
            self.revision += 1
            await turns().offer("ending handovers")

    async def publish_anew(self) -> None:
        """Republish everything with the current settings, a few containers between queries."""
        self.revision += 1
        await self.follow_hosts(all_of_them=True)
        policy = self.settings.policy
        if policy == self.inventory.policy:
            return
        self.inventory.policy = policy
        has_changed = False
        until = time.perf_counter() + RELOAD_SLICE
        for container in list(self.inventory):
            new = self.inventory.publication(container.id)
            if new is not None and new != self.zone.publication(container.id):
                self._apply([(container.id, new)], "", None, is_part=True, is_redeploy=False)
                has_changed = True
            if time.perf_counter() > until:
                gc.freeze()  # a collection over all new objects would delay queries
                await asyncio.sleep(0)
                until = time.perf_counter() + RELOAD_SLICE
        if has_changed:
            self.settle(time.time())
        self._warn_of_networks()

    def read_hosts(self) -> None:
        """Read the hosts files that changed, without yielding to queries."""
        for _ in self._publish_hosts(self._hosts.load(self.settings.state.hosts)):
            pass

    async def follow_hosts(self, *, all_of_them: bool = False) -> None:
        """Read the hosts files that changed, or all, a few lines between queries.

        A reload waits for a reading under way: two at once would count the same lines twice.
        """
        async with self._hosts_lock:
            paths = self.settings.state.hosts
            loaded = []
            if paths:
                loaded = await in_thread(partial(self._hosts.load, paths, all_of_them=all_of_them))
            for is_applied in self._publish_hosts(loaded):
                if is_applied:
                    gc.freeze()  # a collection over all new objects would delay queries
                await turns().offer("hosts files")

    def _publish_hosts(self, loaded: Loaded) -> Iterator[bool]:
        """Publish the contents of hosts files; yield after each unit whether it was applied."""
        changes: list[PublicationChange] = []
        is_large = False
        for change in self._hosts.changes(
            loaded, self.settings.state.hosts, self.settings.zone.ttl
        ):
            if change is not None:
                changes.append(change)
            is_full = len(changes) >= HOSTS_AT_ONCE
            if is_full:
                is_large = True
                self._apply(changes, "", None, is_part=True, is_redeploy=False)
                changes = []
            yield is_full
        if changes:
            self._apply(changes, "", None, is_part=is_large, is_redeploy=False)
        if is_large:
            self.settle(time.time())

    # -- changes ------------------------------------------------------------------------

    def _apply(
        self,
        changes: Iterable[PublicationChange],
        engine: str,
        event_time: float | None,
        *,
        is_part: bool = False,
        is_redeploy: bool = True,
    ) -> None:
        """Apply publications to the zone, and remove their names from the packet cache.

        Unless this may be a redeploy, names that lose their holders pass on immediately.
        """
        listed = list(changes)
        self._touched |= self.owners_in(listed)
        is_part = is_part or self._is_listing(engine)
        now = time.time()
        had = [self.zone.publication(publication_id) for publication_id, _ in listed]
        if is_part and engine == FLEET:
            self.enter(listed, now)
        else:
            self.change(listed, now, is_part, hands_over=is_redeploy)
        if engine and not is_part:
            for old, (_, publication) in zip(had, listed, strict=True):
                self.changes.note(old, publication, now)
        if self.listener is not None and engine != FLEET:
            own = [(i, p, self.inventory.published_ports(i)) for i, p in listed if _is_own(i)]
            self.listener.own_changed(own)
        for publication_id, publication in listed:
            if publication is None:
                self._warned.pop(publication_id, None)
            elif publication.faults:
                self._warn_of_faults(publication)
        self.revision += 1
        if event_time is not None:
            lag = max(time.time() - event_time, 0.0)
            self.counters.event_lag.add(lag)
            if engine in self.engines:
                self.engines[engine].lag = lag

    def _is_listing(self, engine: str) -> bool:
        """Return whether the first listing of an Engine is not complete yet."""
        return engine in self.engines and not self.engines[engine].last_sync

    def _networks_changed(self) -> None:
        self.set_networks(self.inventory.networks(), self._as_container(), time.time())
        if self.listener is not None:
            self.listener.host_changed()
        self.revision += 1

    def _is_on_unlisted_network(self, container_id: str) -> bool:
        """Return whether a container is on a network that no listing has shown yet."""
        container = self.inventory.get(container_id)
        return container is not None and self.inventory.has_unlisted_network(container)

    def _notice_own(self, container_id: str) -> None:
        """Update the networks of our own container, if they may have changed."""
        if not self._own_container:
            return
        own = self.inventory.get(self._own_container)
        if own is not None and container_id in (own.id, lender_of(own)):
            self._networks_changed()

    def _as_container(self) -> Own:
        """Return this server as a container; it may use another container's network."""
        own = self.inventory.get(self._own_container)
        if own is None:
            return NO_CONTAINER
        home = self.inventory.get(lender_of(own)) or own
        ports = {endpoint.port for endpoint in self.settings.dns.listen}
        attached = [a for a in home.attachments if a.network not in UNPUBLISHED_NETWORKS]
        return Own(
            frozenset(a.network_id for a in attached if a.addresses),
            tuple(text for a in attached for text in a.addresses),
            published_addresses(home, ports),
        )

    def _look_at_machine(self) -> None:
        """Update the addresses of this machine periodically, if they matter."""
        now = time.monotonic()
        if not self.settings.rights.ask_own or now < self._machine_again_at:
            return
        self._machine_again_at = now + MACHINE_EVERY
        found = (ip_address(text) for text in own_addresses())
        others = (a for a in found if not any(a in network for network in self.settings.rights.ask))
        self.set_machine(frozenset(map(str, others)))

    def _look_at_listings(self) -> None:
        """Decide how unknown names are answered while Engines are not listed yet."""
        now = time.monotonic()
        unknown_since = [self._started for e in self.engines.values() if not e.last_sync]
        if self.fleet is not None and not self.fleet.has_listed:
            unknown_since.append(self._started)
        unknown_since += [e.incomplete_since for e in self.engines.values() if e.incomplete_since]
        listing = Listing.COMPLETE
        if unknown_since:
            is_pending = now - max(unknown_since) < LISTING_PATIENCE
            listing = Listing.PENDING if is_pending else Listing.OVERDUE
        if listing is not Listing.PENDING and not gc.isenabled():
            gc.freeze()  # before the first collection, which would look at all of the zone
            gc.enable()
        self.set_listing(listing)

    def _log_changes(self) -> None:
        """Log a line for each container that changed; of a burst, the first lines."""
        changes, total = self.changes.since(self._changes_logged)
        for change in islice(changes, MAX_LINES):
            log.info("%s", line(change))
        more = total - self._changes_logged - MAX_LINES
        if more > 0:
            log.info("and %d more changes; see /changes for the last %d", more, MAX_KEPT)
        self._changes_logged = total

    def _look_at_lost_engines(self) -> None:
        """Leave out the addresses of Engines whose grace period is over, but not those of all."""
        lost = frozenset(self._lost_engines())
        known_lost, self.own_lost_engines = self.own_lost_engines, lost
        if self.listener is not None and lost != known_lost:
            self.listener.host_changed()
        others: frozenset[str] = frozenset()
        if self.fleet is not None:
            others = self.fleet.engines
            lost |= self.fleet.lost_engines
        if lost >= self.engines.keys() | others:
            lost = frozenset()  # there are no better addresses
        had = self.zone.lost_engines
        if not self.set_lost_engines(lost, time.time()):
            return
        self.revision += 1
        for url in sorted(lost - had):
            log.warning(
                "Docker %s: unreachable for %d s; its addresses are left out of answers that have "
                "others",
                url,
                self.settings.engines.grace,
            )
        for url in sorted(had - lost):
            log.info("Docker %s: its addresses are included in all answers again", url)

    def _lost_engines(self) -> Iterator[str]:
        """Yield the URLs of own Engines whose grace period is over."""
        grace = self.settings.engines.grace
        return (e.url for e in self.engines.values() if e.has_been_lost_for(grace))

    def _log_zone(self) -> None:
        """Log the changes since the last time in one line, with the serial that includes them.

        That is the next second's, or a later one's while changes go on.
        """
        self._log_changes()
        names, generation = len(self.zone), self.zone.generation
        if generation == self._logged_generation:
            return
        self._waits_for_serial = self.zone.is_ahead and not self._waits_for_serial
        if self._waits_for_serial:
            return
        log.info(
            "zone %s serial %d: %d %s, %+d",
            self.zone.shape.domains[0],
            self.zone.serial,
            names,
            "name" if names == 1 else "names",
            names - self._names_before,
        )
        self._logged_generation, self._names_before = generation, names

    async def _warn_of_losses(self) -> None:
        """Log the names that containers lost since the last time, some at a time."""
        touched, self._touched = self._touched, set()
        for loss in self.zone.losses_in_pieces(touched):
            if loss is not None and not loss.held_for:  # that is temporary; /zone shows it
                winner = loss.winner or "nobody, since several projects claim it"
                self._warn_once(
                    loss.loser_id,
                    f"{loss.owner} {loss.winner}",
                    f"{loss.loser} does not get the name {loss.owner}: "
                    f"{loss.owner} belongs to {winner}",
                )
            await turns().offer("warning of lost names")

    def _warn_of_faults(self, publication: Publication) -> None:
        for text, reason in publication.faults:
            if self._warn_once(
                publication.id, text, f"container {publication.container_name}: {text}: {reason}"
            ):
                self.counters.bad_names += 1

    def _warn_of_networks(self) -> None:
        """Report each `--network` that no Engine has; containers on other networks have no address.

        It may be created later.  Where networks cannot be listed, those of containers are known.
        """
        if not self.settings.policy.networks:
            return  # to gather them takes milliseconds if there are very many containers
        known = {network.name for network in self.inventory.networks()}
        is_known = bool(known) and all(engine.last_sync for engine in self.engines.values())
        for name in self.settings.policy.networks if is_known else ():
            if name not in known:
                text = f"--network {name}: no Engine has a network of this name"
                self._warn_once("--network", name, text)

    def _warn_once(self, who: str, what: str, text: str) -> bool:
        said = self._warned.setdefault(who, set())
        if what in said:
            return False
        said.add(what)
        log.warning("%s", text)
        return True

    # -- the state file ---------------------------------------------------------------------

    async def _save_state_if_due(self) -> None:
        serial, written = self._state_written
        is_due = time.monotonic() - written >= STATE_EVERY
        if self.settings.state.file is None or serial == self.revision or not is_due:
            return
        self._state_written = (self.revision, time.monotonic())
        pieces = []
        for piece in state_file.pieces(self.zone):
            pieces.append(piece)
            await turns().offer("the state file")
        await in_thread(partial(self._save_state, pieces))

    def _save_state(self, document: Iterable[bytes]) -> None:
        """Write the state file; at the end, after a thread that is still writing it."""
        if (path := self.settings.state.file) is None:
            return
        try:
            with self._state_lock:
                state_file.write(path, document)
        except OSError as error:
            self._warn_once("state", str(error), f"--state {path}: {error.strerror}, not saved")


def _is_own(publication_id: str) -> bool:
    """Return whether a publication is of an own container or swarm service."""
    return ":" not in publication_id or publication_id.startswith(SERVICE_ID)


def _own_container_id() -> str:
    """Return the id of the container that this process runs in; "" if it does not."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return container_id_in(mounts)


def container_id_in(mounts: str) -> str:
    """Return the id of the container that has these mounts; "" if there is none.

    Docker mounts `.../containers/ID/hostname`, and Podman
    `.../overlay-containers/ID/userdata/hostname`.

    Args:
        mounts: In the format of /proc/self/mountinfo; the fourth field is the path that is
            mounted, the fifth the mount point (proc(5)).
    """
    pattern = r"/(?:\w+-)?containers/([0-9a-f]{64})/\S+ /etc/(?:hostname|hosts|resolv\.conf) "
    found = re.search(pattern, mounts)
    return found[1] if found else ""

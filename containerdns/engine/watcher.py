"""The watcher of one Engine: subscribe, list, compare and follow, forever.

It reports every change to a `Sink` on the event loop, once and in the order of the Engine's
events.  Nothing delays reading the stream.  The tracker holds the state of each container and
sends inspects; the sink turns changes into names.
"""

import asyncio
import logging
import random
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

from containerdns.core.zone.containers import Container, Network, network_from_document
from containerdns.core.zone.tracking import ContainerEvent, Happening
from containerdns.engine.client import ACTIONS, EngineClient, Event, EventStream, Version
from containerdns.engine.sink import Sink
from containerdns.engine.swarm import Swarm
from containerdns.engine.tracker import Tracker
from containerdns.engine.watchdog import Watchdog
from containerdns.errors import BadDocument, EngineUnavailable
from containerdns.tasks.own_task import in_own_task
from containerdns.tasks.turns import MAX_SLICE, turns

MAX_RETRY_NEAR = 1.0  # seconds; on a local socket, and while a zone is known
CANCEL_AGAIN_AFTER = 0.05  # seconds
STABLE_AFTER = 2.0  # seconds; a session that lasted longer is retried immediately
PATIENCE = 2.0  # seconds to wait for networks and services, which Engines list in milliseconds
MAX_UNREPORTED = 200  # containers of a listing that wait for an inspect before they are reported
MAX_COMPARING = 128  # containers waited for concurrently; the tracker limits their inspects
REPORT_AFTER = 0.3  # seconds that inspects may take before containers are reported from the list

MAX_STATUS_DIGITS = 3  # of an exit status, 0 to 255

HAPPENINGS = {
    "create": Happening.CREATED,
    "die": Happening.DIED,
    "died": Happening.DIED,  # Podman's
    "start": Happening.STARTED,
    "rename": Happening.RENAMED,
    "connect": Happening.CONNECTED,
    "disconnect": Happening.DISCONNECTED,
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """The intervals of a watcher, in seconds.

    Attributes:
        compare_every: Between full listings.
        listen_check_every: Between checks of the event stream.
        first_retry: Before the second attempt to connect; doubled each time.
        max_retry: The upper limit of that.
    """

    compare_every: float = 60.0
    listen_check_every: float = 1.5
    first_retry: float = 0.5
    max_retry: float = 30.0


DEFAULT_TIMING = Timing()


class Watcher:
    """Follows one Engine and reports to a sink."""

    def __init__(
        self,
        url: str,
        tls: Path | None,
        sink: Sink,
        timing: Timing = DEFAULT_TIMING,
        *,
        verifies: bool = True,
    ) -> None:
        self.url = url
        self._sink = sink
        self._client = EngineClient(url, tls, verifies=verifies)
        self._timing = timing
        self._tracker = Tracker(self._client, url, sink)
        self._networks: tuple[Network, ...] | None = None
        self._reason = "start"  # for the next full listing
        self._list_networks_now = asyncio.Event()
        self._has_networks = (
            asyncio.Event()
        )  # listed, or known to be impossible, in this comparison
        self._watchdog = Watchdog(self._client, url, timing.listen_check_every, self._deaf)
        self._swarm = Swarm(self._client, url, sink)
        self._is_connected = False
        self._is_synced = False  # a listing was applied in this session
        self._has_listed = False  # a listing was applied in any session
        self._is_complete = True  # unset while a listing with unknown containers is under way
        self._surprises = 0  # changes found by a listing without an event
        self._cause = ""
        self._has_warned_of_networks = False

    async def run(self) -> None:
        """Watch until cancelled.

        It runs in a task of its own, which is cancelled repeatedly until it ends: a TaskGroup
        of Python 3.11 that fails while it is being cancelled loses the cancellation.
        """
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.shield(watching)
        finally:
            while not watching.done():
                watching.cancel()
                await asyncio.wait((watching,), timeout=CANCEL_AGAIN_AFTER)

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        delay = self._timing.first_retry
        try:
            while True:
                begun = clock()
                self._lost(await in_own_task(self._session()))
                if self._is_synced and clock() - begun > STABLE_AFTER:
                    delay = self._timing.first_retry
                    continue  # it worked until now, so retry immediately
                near = self._client.address.is_local or self._has_listed
                delay = min(delay, MAX_RETRY_NEAR if near else self._timing.max_retry)
                await asyncio.sleep(delay * random.uniform(0.75, 1.0))  # noqa: S311 - no secret
                delay *= 2
        finally:
            await self._client.close()

    # A session, from subscribing until the Engine is lost.

    async def _session(self) -> str:
        """Follow the Engine until it is lost, and return the cause."""
        self._is_synced = False
        await self._client.close()
        try:
            await self._follow()
        except EngineUnavailable as fault:
            return fault.cause
        except ExceptionGroup as faults:
            lost, others = faults.split(EngineUnavailable)
            if others is not None:
                raise others from None
            assert lost is not None
            return str(_first(lost))
        return "the event stream ended"

    async def _follow(self) -> None:
        """Subscribe, then list, then follow.

        The other order would lose events in between.  The stream starts a second in the past,
        because Engines respond slightly before the subscription is in effect.
        """
        version = await self._client.negotiate()
        since = None if version.clock is None else version.clock - 1
        async with self._client.events(since) as stream:
            self._found(version)
            async with asyncio.TaskGroup() as tasks:
                self._tracker.begin(tasks)
                tasks.create_task(self._read(stream))
                tasks.create_task(self._keep_comparing())
                tasks.create_task(self._keep_networks())
                tasks.create_task(self._swarm.follow(self._network_names))
                tasks.create_task(self._watchdog.watch(stream))

    def _found(self, version: Version) -> None:
        log.debug("Docker %s: Engine %s, API %s", self.url, version.engine, version.api)
        self._is_connected = True
        self._cause = ""
        self._sink.connected(self.url)

    def _lost(self, cause: str) -> None:
        if self._is_connected or cause != self._cause:
            self._sink.disconnected(self.url, cause)
        self._is_connected = False
        self._cause = cause
        if self._reason != "watchdog":
            self._reason = "reconnect" if self._has_listed else "start"

    # Following the stream.

    async def _read(self, stream: EventStream) -> None:
        subscribed_ns = int((stream.clock or 0) * 1e9)  # older events do not measure our lag
        while events := await stream.next():
            begun = perf_counter()
            for number, event in enumerate(events):
                if number and perf_counter() - begun > MAX_SLICE:  # a few need no turn
                    await turns().offer(f"events of {self.url}")
                if self._watchdog.is_new(event):
                    self._sink.event_seen(
                        self.url, event.action if event.action in ACTIONS else "other"
                    )
                    self._apply(_undated(event) if event.time_ns < subscribed_ns else event)
        raise EngineUnavailable("the event stream ended")

    def _apply(self, event: Event) -> None:
        match event.kind, event.action:
            case "container", "destroy" | "remove":
                self._tracker.touched.add(event.actor_id)
                self._tracker.removed(event.actor_id, event.time)
            case "container", action if event.actor_id:
                happening = HAPPENINGS.get(action, Happening.CHANGED)
                name = event.attributes.get("name", "").removeprefix("/")
                is_new = happening is Happening.CREATED and self._is_synced
                labels = _docker_labels(event) if is_new else None
                status = _exit_status(event) if happening is Happening.DIED else None
                happened = ContainerEvent(happening, event.time, name, status, labels)
                self._tracker.happened(event.actor_id, happened)
            case "network", "connect" | "disconnect" if event.container_id:
                happened = ContainerEvent(HAPPENINGS[event.action], event.time)
                self._tracker.happened(event.container_id, happened)
            case "network", _:
                self._list_networks_now.set()
            case "service" | "node", _:
                self._swarm.ask_soon(is_about_nodes=event.kind == "node")

    # Comparing with a full listing.

    async def _keep_comparing(self) -> None:
        while True:
            reason, self._reason = self._reason, "periodic"
            try:
                await self._compare(reason)
            except EngineUnavailable as fault:
                self._sink.list_failed(self.url, fault.cause)
                raise
            except ExceptionGroup as faults:
                self._sink.list_failed(self.url, str(_first(faults)))
                raise
            await asyncio.sleep(self._timing.compare_every)

    async def _compare(self, reason: str) -> None:
        """List everything, and report the differences from the known state.

        A container that differs is inspected before the listing counts as applied, so that all
        its names are known by then, unless the inspect times out.  If that takes long,
        containers are reported from the list first, which lacks aliases and host names.
        """
        await self._expect(self._listed_networks())
        self._tracker.touched.clear()
        self._surprises = 0
        self._is_complete = True
        missing = set(self._tracker)
        doubtful: list[str] = []
        items: dict[str, Any] = {}
        async with aclosing(self._client.containers()) as listed:
            async for item in listed:
                container_id, is_doubtful = self._tracker.examine(item)
                missing.discard(container_id)
                if not is_doubtful:
                    continue
                self._doubt(container_id, reason)
                doubtful.append(container_id)
                items[container_id] = item
                if len(doubtful) > MAX_UNREPORTED or self._tracker.is_hanging(container_id):
                    await self._report_from_list(items)
        await self._check_missing(missing - self._tracker.touched)
        await self._settle(doubtful, items)
        if not self._has_listed:
            await self._expect(self._swarm.is_known.wait())
        self._applied(reason)

    async def _expect(self, something: Coroutine[Any, Any, Any]) -> None:
        """Wait a limited time for something that should be known first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await something

    def _doubt(self, container_id: str, reason: str) -> None:
        """Report that not all names are known yet, if that is so."""
        tracked = self._tracker.get(container_id)
        is_new = tracked is not None and tracked.container is None
        if self._is_complete and (is_new or reason != "periodic"):
            self._is_complete = False
            self._sink.incomplete(self.url)

    async def _report_from_list(self, items: dict[str, Any]) -> None:
        """Report listed containers without an inspect, and clear the items."""
        while items:
            container_id, item = items.popitem()
            await turns().offer(self.url)
            self._tracker.report_item(container_id, item)

    async def _check_missing(self, container_ids: set[str]) -> None:
        """Remove containers that the list lacks; an inspect decides, as lists are snapshots."""
        if len(container_ids) <= MAX_UNREPORTED:
            await self._settle(list(container_ids), {})
            return
        for container_id in container_ids:
            self._surprises += 1
            self._tracker.removed(container_id, None)
            await turns().offer(self.url)

    async def _settle(self, container_ids: list[str], items: dict[str, Any]) -> None:
        """Inspect containers concurrently; report them from the list if that takes long."""
        before = [(i, t.container) for i in container_ids if (t := self._tracker.get(i))]
        waiting = iter(container_ids)

        async def settle_next() -> None:
            for container_id in waiting:
                await turns().offer(self.url)
                await self._tracker.settle(container_id)
                items.pop(container_id, None)  # the inspect is newer

        async with asyncio.TaskGroup() as tasks:
            settling = [tasks.create_task(settle_next()) for _ in range(MAX_COMPARING)]
            await asyncio.wait(settling, timeout=REPORT_AFTER)
            await self._report_from_list(items)
        while before:  # thousands of containers are not to be freed at once
            await turns().offer(self.url)
            container_id, was = before.pop()
            tracked = self._tracker.get(container_id)
            differs = _visibly(was, None if tracked is None else tracked.container)
            self._surprises += differs and container_id not in self._tracker.touched

    def _applied(self, reason: str) -> None:
        """Report that a listing was applied, unless it shows that the stream missed events."""
        self._is_synced = self._has_listed = True
        log.debug("Docker %s: %d containers (%s)", self.url, len(self._tracker), reason)
        self._sink.listed(self.url)
        self._sink.resynced(self.url, reason)
        if reason == "periodic" and self._surprises:
            self._deaf(f"changes that only the listing shows: {self._surprises}")

    # Networks.

    async def _keep_networks(self) -> None:
        while True:
            await self._list_networks_now.wait()
            await self._list_networks()
            self._has_networks.set()

    async def _listed_networks(self) -> None:
        """List the networks, and wait for the result."""
        self._has_networks.clear()
        self._list_networks_now.set()
        await self._has_networks.wait()

    async def _list_networks(self) -> None:
        """List the networks; without them, free addresses and empty networks are unknown."""
        self._list_networks_now.clear()
        try:
            documents = await self._client.networks()
        except EngineUnavailable as fault:
            self._warn_of_networks(fault.cause)
            return
        if documents is None:
            self._warn_of_networks("the Engine, or its socket proxy, does not list networks")
            return
        networks = []
        for document in documents:
            try:
                networks.append(network_from_document(document, self.url))
            except BadDocument as fault:
                self._warn_of_networks(f"network {fault}")
        found = tuple(sorted(networks, key=lambda network: (network.name, network.id)))
        if found != self._networks:
            self._networks = found
            self._sink.networks_changed(self.url, found)
            self._swarm.networks_changed()

    def _warn_of_networks(self, cause: str) -> None:
        if not self._has_warned_of_networks:
            self._has_warned_of_networks = True
            log.warning("Docker %s: %s; continuing without them", self.url, cause)

    def _network_names(self) -> dict[str, str]:
        return {network.id: network.name for network in self._networks or ()}

    def _deaf(self, evidence: str) -> NoReturn:
        self._reason = "watchdog"
        raise EngineUnavailable(f"the event stream missed events: {evidence}")


def _exit_status(event: Event) -> int | None:
    """Return the exit status of a container, if the event has it."""
    text = event.attributes.get("exitCode", "")
    return int(text) if text.isdecimal() and len(text) <= MAX_STATUS_DIGITS else None


def _docker_labels(event: Event) -> dict[str, str]:
    """Return the labels in an event of a container, which has them beside other attributes."""
    others = ("name", "image")
    return {key: text for key, text in event.attributes.items() if key not in others}


def _undated(event: Event) -> Event:
    return event._replace(time_ns=0)


def _visibly(before: Container | None, after: Container | None) -> bool:
    """Return whether two states of a container differ in a way that events report."""
    if before is None or after is None:
        return before is not after
    if (before.container_name, before.is_running) != (after.container_name, after.is_running):
        return True
    return after.is_running and before.attachments != after.attachments


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    fault: BaseException = faults
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault

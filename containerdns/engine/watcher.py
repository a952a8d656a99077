"""The watcher of one Engine: subscribe, list, compare, follow; for ever.

It tells a `Sink` what it learns, on the event loop, each thing once and in the
order of the Engine's events.  Nothing holds up the reading of the stream:
inspects run beside it, at most one per container, and a result that a `die`
has overtaken never brings a name back.  It holds what it told of each
container, to tell changes only; what that means for names is not its affair.
"""

import asyncio
import logging
import random
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from containerdns.core.containers import (
    Container,
    Network,
    container_from_inspect,
    container_from_list,
    fingerprint,
    network_from_document,
    with_details_of,
)
from containerdns.engine.client import ACTIONS, EngineClient, Event, EventStream, Turn, Version
from containerdns.engine.sink import Sink
from containerdns.engine.swarm import Swarm
from containerdns.engine.watchdog import Watchdog
from containerdns.errors import BadDocument, EngineUnavailable

RETRY_LONGEST_NEAR = 1.0  # seconds; on a local socket, and while a zone stands
CANCEL_AGAIN_AFTER = 0.05  # seconds
STABLE_AFTER = 2.0  # seconds of a session, after whose end the first retry is immediate
SWARM_PATIENCE = 2.0  # seconds that the first listing waits for a swarm's services

INSPECTS_MOST = 64  # at once because of events; each is a connection
INSPECTS_MOST_OVER_SSH = 4  # each is a process
EARLY_INSPECTS_MOST = 16  # that wait, each in the Engine, for their container to start
COMPARING_INSPECTS_MOST = 4  # beside the stream, to complete or compare
WHOLE_AT_FIRST = 200  # containers that are all inspected before the first zone counts
SETTLE_LONGEST = 1.0  # seconds that a listing waits for what events have had asked
INSPECT_AGAIN_AFTER = 0.2  # seconds, once, after a document that cannot be read

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a watcher acts by itself; seconds.

    Attributes:
        compare_every: Between full listings.
        listen_check_every: Between checks that the stream is not deaf.
        retry_first: Before the second attempt to connect; doubled each time.
        retry_longest: The most that comes to.
    """

    compare_every: float = 60.0
    listen_check_every: float = 1.5
    retry_first: float = 0.5
    retry_longest: float = 30.0


DEFAULT_TIMING = Timing()


@dataclass(slots=True)
class _Record:
    """What is known and under way of one container.

    Attributes:
        id: Of the container.
        container: As told to the sink last; None if it never was.
        is_whole: An inspect told it, or that it is unreadable; not only a list.
        likeness: `fingerprint` of the document it was made of.
        deaths: `die` events so far; a result of before the last one proves no life.
        is_asking: An inspect is under way.
        task: That was begun for it last, if because of an event.
        ask_again: Something happened since that inspect was sent.
        is_starting: A `start` came; the inspect under way counts only if it shows life.
        event_time: Of the last event that needs an inspect.
        listed_name: What a list called it, for when nothing else can be read.
    """

    id: str
    container: Container | None = None
    is_whole: bool = False
    likeness: int = 0
    deaths: int = 0
    is_asking: bool = False
    task: asyncio.Task[None] | None = None
    ask_again: bool = False
    is_starting: bool = False
    event_time: float | None = None
    listed_name: str = ""

    @property
    def is_running(self) -> bool:
        return self.container is not None and self.container.is_running


class Watcher:
    """Follows one Engine and tells a sink; `run` is its whole life."""

    def __init__(
        self, url: str, tls: Path | None, sink: Sink, timing: Timing = DEFAULT_TIMING
    ) -> None:
        self.url = url
        self._sink = sink
        self._client = EngineClient(url, tls)
        self._timing = timing
        over_ssh = self._client.address.scheme == "ssh"
        self._slots = asyncio.Semaphore(INSPECTS_MOST_OVER_SSH if over_ssh else INSPECTS_MOST)
        self._early_slots = asyncio.Semaphore(1 if over_ssh else EARLY_INSPECTS_MOST)
        self._comparing_slots = asyncio.Semaphore(1 if over_ssh else COMPARING_INSPECTS_MOST)
        self._records: dict[str, _Record] = {}
        self._networks: tuple[Network, ...] | None = None
        self._touched: set[str] = set()  # by events since the listing under way was asked for
        self._reason = "start"  # of the next full listing
        self._compare_now = asyncio.Event()
        self._list_networks_now = asyncio.Event()
        self._watchdog = Watchdog(self._client, url, timing.listen_check_every, self._deaf)
        self._swarm = Swarm(self._client, url, sink)
        self._is_connected = False
        self._is_synced = False  # a listing of this session has been applied
        self._has_listed = False  # one of any session has: a zone stands
        self._surprises = 0  # changes that a listing found and no event had told
        self._cause = ""
        self._has_warned_of_networks = False

    def compare_soon(self, reason: str = "reload") -> None:
        """Compare with a full listing now, not only when it is time."""
        self._reason = reason
        self._compare_now.set()

    async def run(self) -> None:
        """Watch for ever; stopping is cancelling.

        It is done by a task of its own, which is cancelled until it ends: a TaskGroup of
        Python 3.11 that fails at the moment of its cancellation loses that.
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
        delay = self._timing.retry_first
        try:
            while True:
                begun = clock()
                self._lost(await self._session())
                if self._is_synced and clock() - begun > STABLE_AFTER:
                    delay = self._timing.retry_first
                    continue  # it worked until now: the first retry does not wait
                near = self._client.address.is_local or self._has_listed
                delay = min(delay, RETRY_LONGEST_NEAR if near else self._timing.retry_longest)
                await asyncio.sleep(delay * random.uniform(0.75, 1.0))  # noqa: S311 - no secret
                delay *= 2
        finally:
            self._client.close()

    # A session: from subscribing until the Engine is lost.

    async def _session(self) -> str:
        """Follow until the Engine is lost, and give the cause."""
        self._is_synced = False
        self._client.close()
        self._forget_asking()
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
        return f"{self.url} ended the event stream"

    async def _follow(self) -> None:
        """Subscribe, then list, then follow.

        The other order would lose what happens in between.  The stream begins a second
        before we asked, as Engines answer a little before they have subscribed us.
        """
        version = await self._client.negotiate()
        since = None if version.clock is None else version.clock - 1
        async with self._client.events(since) as stream:
            self._found(version)
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._read(stream))
                tasks.create_task(self._keep_comparing())
                tasks.create_task(self._keep_networks())
                tasks.create_task(self._swarm.follow(self._network_names))
                tasks.create_task(self._watchdog.watch(stream))

    def _forget_asking(self) -> None:
        """Have the next listing settle what the session before had begun to ask."""
        for record in self._records.values():
            if record.is_asking:
                record.is_asking = record.is_starting = False
                record.task = None
                record.likeness = 0

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
        subscribed_ns = int((stream.clock or 0) * 1e9)  # what is older tells nothing of our lag
        while events := await stream.next():
            for event in events:
                if self._watchdog.is_new(event):
                    self._sink.event_seen(
                        self.url, event.action if event.action in ACTIONS else "other"
                    )
                    self._apply(_undated(event) if event.time_ns < subscribed_ns else event)
        raise EngineUnavailable(f"{self.url} ended the event stream")

    def _apply(self, event: Event) -> None:
        if event.kind == "container" and not event.actor_id:
            return
        match event.kind, event.action:
            case "container", "die" | "died":
                self._die(event)
            case "container", "destroy" | "remove":
                self._touched.add(event.actor_id)
                self._remove(event.actor_id, event.time)
            case "container", "start":
                self._start(event)
            case "container", "rename":
                self._rename(event)
            case "container", _:
                self._ask_soon(self._record(event.actor_id), event.time)
            case "network", "connect":
                self._connect(event)
            case "network", "disconnect":
                self._disconnect(event)
            case "network", _:
                self._list_networks_now.set()
            case "service" | "node", _:
                self._swarm.ask_soon(is_about_nodes=event.kind == "node")

    def _die(self, event: Event) -> None:
        """Withdraw at once; there is nothing to ask."""
        self._touched.add(event.actor_id)
        record = self._records.get(event.actor_id)
        if record is None:
            return
        record.deaths += 1
        record.is_starting = False
        record.likeness = 0
        if record.container is not None:
            record.container = replace(record.container, state="exited")
        self._sink.container_died(self.url, event.actor_id, event.time)

    def _rename(self, event: Event) -> None:
        """Take the new name from the event; an inspect then tells whether more has changed."""
        record = self._record(event.actor_id)
        name = event.attributes.get("name", "").removeprefix("/")
        event_time: float | None = event.time
        if record.container is not None and name:
            self._tell(record, replace(record.container, container_name=name), event_time)
            record.likeness = 0  # of a document with the former name
            event_time = None  # of the change that was just told
        self._ask_soon(record, event_time)

    def _start(self, event: Event) -> None:
        record = self._record(event.actor_id)
        if record.is_asking:
            record.is_starting = True
            record.event_time = event.time
        elif not (record.is_whole and record.is_running):  # else an early inspect told it
            self._ask_soon(record, event.time)

    def _connect(self, event: Event) -> None:
        if not event.container_id:
            return
        record = self._record(event.container_id)
        if record.is_running:
            self._ask_soon(record, event.time)
        elif record.is_asking:
            record.ask_again = True
        elif not self._early_slots.locked():
            # Most likely it is starting: the Engine answers the moment it has started,
            # or failed to.  Without a slot, its `start` will do.
            self._ask_soon(record, None, self._early_slots)

    def _disconnect(self, event: Event) -> None:
        if not event.container_id:
            return
        record = self._record(event.container_id)
        if record.is_running or record.is_asking:
            self._ask_soon(record, event.time)
        else:
            record.likeness = 0  # nothing that is answered now; the next comparison reads it

    def _record(self, container_id: str) -> _Record:
        self._touched.add(container_id)
        record = self._records.get(container_id)
        if record is None:
            record = self._records[container_id] = _Record(container_id)
        return record

    def _remove(self, container_id: str, event_time: float | None) -> None:
        record = self._records.pop(container_id, None)
        if record is not None and (record.container is not None or record.is_whole):
            self._sink.container_removed(self.url, container_id, event_time)

    # Asking about one container.

    def _ask_soon(
        self, record: _Record, event_time: float | None, slots: asyncio.Semaphore | None = None
    ) -> None:
        """Inspect beside the stream; if that is under way already, once more after it."""
        record.event_time = event_time
        if record.is_asking:
            record.ask_again = True
        elif record.id:
            record.is_asking = True
            record.task = self._tasks.create_task(self._ask(record, slots or self._slots))

    async def _ask(self, record: _Record, slots: asyncio.Semaphore) -> None:
        """Inspect a container until nothing has happened to it meanwhile."""
        record.is_asking = record.ask_again = True
        try:
            while record.ask_again and self._records.get(record.id) is record:
                record.ask_again = False
                deaths = record.deaths
                async with slots:
                    document = await self._inspect(record.id)
                if self._records.get(record.id) is record:  # else it was destroyed meanwhile
                    self._learn(record, document, deaths)
        finally:
            record.is_asking = False
            record.task = None

    async def _inspect(self, container_id: str) -> dict[str, Any] | BadDocument | None:
        """Inspect; what cannot be read may be so for a moment only, as of a busy proxy."""
        try:
            return await self._client.inspect(container_id)
        except BadDocument:
            await asyncio.sleep(INSPECT_AGAIN_AFTER)
        try:
            return await self._client.inspect(container_id)
        except BadDocument as fault:
            return fault

    def _learn(
        self, record: _Record, document: dict[str, Any] | BadDocument | None, deaths: int
    ) -> None:
        """Take in what an inspect said that was sent when there were so many deaths."""
        if document is None:
            self._remove(record.id, None)
            return
        try:
            if isinstance(document, BadDocument):
                raise document
            container = container_from_inspect(document, self.url)
        except BadDocument as fault:
            self._unreadable(record, document, fault)
            return
        record.likeness = fingerprint(document)
        if container.is_running and deaths != record.deaths:
            container = replace(container, state="exited")  # it died after it was inspected
            record.likeness = 0
        event_time, record.event_time = record.event_time, None
        if record.is_starting and not container.is_running:
            record.ask_again = True  # it was inspected before it had started
            record.event_time = event_time
        record.is_starting = False
        record.is_whole = True
        self._tell(record, container, event_time)

    def _unreadable(self, record: _Record, document: object, fault: BadDocument) -> None:
        known = record.listed_name if record.container is None else record.container.container_name
        name = document.get("Name") if isinstance(document, dict) else None
        record.container = None
        record.is_whole = True
        record.likeness = fingerprint(document)
        self._sink.container_unreadable(
            self.url,
            record.id,
            name.removeprefix("/") if isinstance(name, str) else known,
            str(fault),
        )

    def _tell(self, record: _Record, container: Container, event_time: float | None) -> None:
        """Tell the sink of a container if that says anything new."""
        if container != record.container:
            record.container = container
            self._sink.container_changed(self.url, container, event_time)

    # Comparing with a full listing.

    async def _keep_comparing(self) -> None:
        while True:
            reason, self._reason = self._reason, "periodic"
            self._compare_now.clear()
            try:
                await self._compare(reason)
            except EngineUnavailable as fault:
                self._sink.list_failed(self.url, fault.cause)
                raise
            except ExceptionGroup as faults:
                self._sink.list_failed(self.url, str(_first(faults)))
                raise
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timing.compare_every):
                    await self._compare_now.wait()

    async def _compare(self, reason: str) -> None:
        """List everything, and tell what differs from what is known.

        Few differences are inspected before the listing counts as applied.  Many are
        told from the list, which lacks aliases and host names, and inspected afterwards:
        10,000 inspects take longer than anyone waits for a first answer.
        """
        await self._list_networks()
        self._touched = set()
        self._surprises = 0
        known = set(self._records)
        doubtful: list[_Record] = []
        items: dict[str, Any] = {}
        awaited: dict[str, Any] = {}
        async with aclosing(self._client.containers()) as listed:
            async for item in listed:
                record = self._differing(item, known)
                if record is None:
                    continue
                if record.is_asking:
                    if record.container is None:
                        awaited[record.id] = item
                    continue  # the answer comes anyway
                doubtful.append(record)
                items[record.id] = item
                if len(doubtful) > WHOLE_AT_FIRST:
                    await self._tell_from_list(items)
        await self._check_missing(known - self._touched)
        if len(doubtful) <= WHOLE_AT_FIRST:
            await self._inspect_all(doubtful)
        await self._settle(awaited)
        await self._await_swarm()
        self._applied(reason)
        if len(doubtful) > WHOLE_AT_FIRST:
            await self._inspect_all(doubtful, running=True)  # those are asked for
            await self._inspect_all(doubtful, running=False)

    def _differing(self, item: object, unseen: set[str]) -> _Record | None:
        """Give the record of an item of the list if an inspect may tell more of it."""
        container_id = item.get("Id") if isinstance(item, dict) else None
        if not isinstance(container_id, str) or not container_id:
            self._sink.container_unreadable(self.url, "?", "", "an item of the list has no id")
            return None
        unseen.discard(container_id)
        record = self._records.get(container_id)
        if record is None and container_id in self._touched:
            return None  # destroyed since the list was asked for
        if record is None:
            record = self._records[container_id] = _Record(container_id)
            record.listed_name = _listed_name(item)
        likeness = fingerprint(item)
        is_same = record.is_whole and likeness != 0 and likeness == record.likeness
        return None if is_same else record

    async def _tell_from_list(self, items: dict[str, Any]) -> None:
        """Tell of listed containers without an inspect; empties the items."""
        turn = Turn()
        while items:
            container_id, item = items.popitem()
            await turn.offer()
            record = self._records.get(container_id)
            if record is not None and not record.is_asking and container_id not in self._touched:
                self._tell_item(record, item)  # else events know better than the list

    def _tell_item(self, record: _Record, item: Any) -> None:
        record.is_whole = False
        try:
            container = container_from_list(item, self.url)
        except BadDocument as fault:
            self._unreadable(record, item, fault)
            return
        if record.container is not None:
            container = with_details_of(container, record.container)
        self._tell(record, container, None)

    async def _check_missing(self, container_ids: set[str]) -> None:
        """Remove what the list lacks; an inspect has the last word, as lists read a snapshot."""
        if len(container_ids) <= WHOLE_AT_FIRST:
            missing = [self._records[key] for key in container_ids if key in self._records]
            await self._inspect_all(missing)
            return
        turn = Turn()
        for container_id in container_ids:
            self._surprises += 1
            self._remove(container_id, None)
            await turn.offer()

    async def _settle(self, items: dict[str, Any]) -> None:
        """Wait for what events have had asked of containers that were never told of.

        If that takes long, as while one starts, they are told from the list: a name
        that is in use must not be denied.
        """
        records = [self._records[key] for key in items if key in self._records]
        tasks = [record.task for record in records if record.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=SETTLE_LONGEST)
        for record in records:
            is_known = self._records.get(record.id) is record
            if is_known and record.container is None and record.is_asking and not record.deaths:
                self._tell_item(record, items[record.id])

    async def _inspect_all(self, records: list[_Record], running: bool | None = None) -> None:
        """Inspect those that no event has taken care of, some at once; if asked, only a part."""
        waiting = iter(records)

        async def inspect_next() -> None:
            turn = Turn()
            for record in waiting:
                await turn.offer()
                if running is not None and record.is_running != running:
                    continue
                if self._records.get(record.id) is record and not record.is_asking:
                    before = record.container
                    await self._ask(record, self._comparing_slots)
                    is_gone = self._records.get(record.id) is not record
                    differs = is_gone or _visibly(before, record.container)
                    if differs and record.id not in self._touched:
                        self._surprises += 1

        async with asyncio.TaskGroup() as tasks:
            for _ in range(COMPARING_INSPECTS_MOST):
                tasks.create_task(inspect_next())

    async def _await_swarm(self) -> None:
        """Give the names of services a moment to be known before others are denied."""
        if not self._has_listed:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWARM_PATIENCE):
                    await self._swarm.is_known.wait()

    def _applied(self, reason: str) -> None:
        """Tell that a listing is applied, unless it shows that the stream is deaf."""
        self._is_synced = self._has_listed = True
        log.debug("Docker %s: %d containers (%s)", self.url, len(self._records), reason)
        self._sink.listed(self.url)
        self._sink.resynced(self.url, reason)
        if reason == "periodic" and self._surprises:
            self._deaf(f"the list shows {self._surprises} changes")

    # Networks.

    async def _keep_networks(self) -> None:
        while True:
            await self._list_networks_now.wait()
            await self._list_networks()

    async def _list_networks(self) -> None:
        """List the networks; without them, only free addresses and empty networks are unknown."""
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

    def _warn_of_networks(self, cause: str) -> None:
        if not self._has_warned_of_networks:
            self._has_warned_of_networks = True
            log.warning("Docker %s: %s; going on without", self.url, cause)

    def _network_names(self) -> dict[str, str]:
        return {network.id: network.name for network in self._networks or ()}

    def _deaf(self, evidence: str) -> NoReturn:
        self._reason = "watchdog"
        raise EngineUnavailable(f"the event stream of {self.url} is silent: {evidence}")


def _undated(event: Event) -> Event:
    return replace(event, time_ns=0)


def _visibly(before: Container | None, after: Container | None) -> bool:
    """Whether two states of a container differ in what events would have told."""
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


def _listed_name(item: Any) -> str:
    """What an item of the list calls its container; "" if it says nothing that is a name."""
    names = item.get("Names")
    name = names[0] if isinstance(names, list) and names else ""
    return name.removeprefix("/") if isinstance(name, str) else ""

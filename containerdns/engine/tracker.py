"""The containers of one Engine: performs what `core/zone/tracking` decides.

Inspects run concurrently with the event stream, at most one per container.  One that fails or
times out delays nothing else: the container is taken from the list, which the Engine reads
from a snapshot, and refined when the response does arrive.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from containerdns.core.zone import tracking
from containerdns.core.zone.containers import (
    container_from_inspect,
    container_from_list,
    fingerprint,
)
from containerdns.core.zone.tracking import (
    Ask,
    AskLater,
    ContainerEvent,
    Happening,
    Phase,
    Step,
    Tracked,
    Urgency,
)
from containerdns.engine.client import CALL_TIMEOUT, INSPECT_TIMEOUT, EngineClient
from containerdns.engine.decoding import SkippedItem
from containerdns.engine.sink import Sink
from containerdns.errors import BadDocument, EngineUnavailable
from containerdns.tasks.later import Later
from containerdns.tasks.turns import turns

INSPECT_PATIENCE = 1.5  # seconds; an inspect takes milliseconds, while a container starts 0.25 s
QUICK = (
    0.2  # seconds that an inspect holds its slot while another one hangs; most take milliseconds
)
HANGING = f"no answer within {INSPECT_PATIENCE} s"
NEW_FOR = 0.25  # seconds after its creation in which a container usually starts
INSPECT_AGAIN_AFTER = 0.2  # seconds, once, after a document that cannot be parsed
UNFINISHED = frozenset({"created", "removing"})  # states in which an inspect may well fail
MAX_HANGING = 128  # inspects waited for after their timeout; each holds a connection
MAX_INSPECTS = {  # concurrent inspects before their timeout; each holds a connection
    Urgency.EVENT: 64,
    Urgency.EARLY: 16,  # concurrent inspects that the Engine delays until a container has started
    Urgency.COMPARISON: 16,
}
MAX_INSPECTS_OVER_SSH = {Urgency.EVENT: 4, Urgency.EARLY: 1, Urgency.COMPARISON: 1}  # processes


class Tracker:
    """The state of each container of one Engine, reported to a sink.

    Attributes:
        touched: Ids for which events arrived; cleared before a listing, as events are newer than
            a listing that was requested before.
    """

    def __init__(self, client: EngineClient, url: str, sink: Sink) -> None:
        self.touched: set[str] = set()
        self._client = client
        self._url = url
        self._sink = sink
        over_ssh = client.address.scheme == "ssh"
        limits = MAX_INSPECTS_OVER_SSH if over_ssh else MAX_INSPECTS
        self._slots = {urgency: asyncio.Semaphore(limits[urgency]) for urgency in Urgency}
        self._tracked: dict[str, Tracked] = {}
        self._asks: dict[
            str, asyncio.Event
        ] = {}  # by id, while under way; set when no longer waited for
        self._hanging: dict[str, _Waiting] = {}  # by id
        self._patience = Later(INSPECT_PATIENCE, self._wait_longer, _Waiting.has_ended)
        self._quick = Later(QUICK, _Waiting.release, _Waiting.has_ended)
        self._new: deque[tuple[float, str]] = deque()  # when to look at them, and their ids
        self._tasks: asyncio.TaskGroup

    def __len__(self) -> int:
        return len(self._tracked)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tracked)

    def get(self, container_id: str) -> Tracked | None:
        """Return the state of a container."""
        return self._tracked.get(container_id)

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Begin a session, with a new group of tasks."""
        self._tasks = tasks
        self._asks.clear()
        self._hanging.clear()
        self._new.clear()
        for tracked in [t for t in self._tracked.values() if t.phase is not Phase.IDLE]:
            self._tracked[tracked.id] = tracking.on_new_session(tracked)

    # Events and listings.

    def happened(self, container_id: str, event: ContainerEvent) -> None:
        """Process an event."""
        self.touched.add(container_id)
        tracked = self._tracked.get(container_id)
        if event.happening is not Happening.DIED:
            tracked = tracked or Tracked(container_id, self._url)
            if hanging := self._hanging.get(container_id):
                hanging.news.set()
        if tracked is not None:
            may_ask_early = (
                event.happening is not Happening.CONNECTED
                or not self._slots[Urgency.EARLY].locked()
            )
            self._take(tracking.on_event(tracked, event, may_ask_early=may_ask_early))

    def _note_new(self, container_id: str) -> None:
        """Look at a container again a moment after its creation, in a task of the session."""
        due = asyncio.get_running_loop().time() + NEW_FOR
        self._new.append((due, container_id))
        if len(self._new) == 1:
            self._tasks.create_task(self._look_at_new())

    async def _look_at_new(self) -> None:
        """Inspect the containers that are not started within a moment of their creation.

        Most have started before, so that one wait is for many.
        """
        while self._new:
            due, container_id = self._new[0]
            tracked = self._tracked.get(container_id)
            if tracked is not None and tracking.is_still_new(tracked):
                if (left := due - asyncio.get_running_loop().time()) > 0:
                    await asyncio.sleep(left)
                    continue
                self._take(tracking.on_still_new(tracked))
            self._new.popleft()

    def is_hanging(self, container_id: str) -> bool:
        """Return whether an inspect is under way but no longer waited for."""
        return container_id in self._hanging

    def removed(self, container_id: str, event_time: float | None) -> None:
        """Process the removal of a container."""
        tracked = self._tracked.pop(container_id, None)
        if tracked is not None and tracked.was_reported:
            self._sink.container_removed(self._url, container_id, event_time)

    def examine(self, item: object) -> tuple[str, bool]:
        """Process an item of a listing.

        Returns:
            The id of its container, or "", and whether an inspect may provide more.
        """
        fields = item.fields if isinstance(item, SkippedItem) else item
        container_id = fields.get("Id") if isinstance(fields, dict) else None
        if not isinstance(container_id, str) or not container_id:
            self._sink.container_unreadable(self._url, "?", "", "a list item has no id")
            return "", False
        tracked = self._tracked.get(container_id)
        if tracked is None and container_id in self.touched:
            return container_id, False  # destroyed since the list was requested
        if tracked is None:
            tracked = self._tracked[container_id] = Tracked(container_id, self._url)
        if isinstance(item, SkippedItem):
            self._take(tracking.on_unreadable_item(tracked, _listed_name(item), item.reason))
            return container_id, False
        likeness = fingerprint(item)
        is_same = tracked.is_whole and likeness != 0 and likeness == tracked.likeness
        return container_id, not is_same

    def report_item(self, container_id: str, item: Any) -> None:
        """Report a container as listed, unless something newer is known.

        One that is known to have stopped waits for its inspect: the Engine lists it as running for
        a while after its `die`.
        """
        tracked = self._tracked.get(container_id)
        if tracked is None or container_id in self.touched:
            return
        if tracked.container is None or tracked.is_running:
            self._take_item(tracked, tracked.mark, item, "")

    # Inspects.

    async def settle(self, container_id: str) -> None:
        """Inspect a container; return when that has ended or timed out."""
        tracked = self._tracked.get(container_id)
        if tracked is not None and container_id not in self._asks:
            self._take(tracking.on_difference(tracked))
        if asked := self._asks.get(container_id):
            await asked.wait()

    async def _ask(self, container_id: str, settled: asyncio.Event, urgency: Urgency) -> None:
        """Inspect a container, again if something happened to it meanwhile."""
        try:
            while self._is_asking(container_id):
                await self._ask_once(container_id, settled, urgency)
        finally:
            settled.set()
            if self._asks.get(container_id) is settled:
                del self._asks[container_id]

    def _is_asking(self, container_id: str) -> bool:
        tracked = self._tracked.get(container_id)
        return tracked is not None and tracked.phase is not Phase.IDLE

    async def _ask_once(self, container_id: str, settled: asyncio.Event, urgency: Urgency) -> None:
        """Send one inspect; its slot is released at the timeout at the latest."""
        async with _Slot(self._slots[urgency]) as slot:
            tracked = self._tracked.get(container_id)
            if tracked is None:
                return
            tracked = self._tracked[container_id] = tracking.on_sent(tracked)
            may_start = tracked.container is not None and not tracked.is_running
            waiting = _Waiting(container_id, slot, settled, may_start)
            self._patience.add(waiting)
            if self._hanging:
                self._quick.add(waiting)
            try:
                async with waiting.limit:
                    await self._inspect(container_id, tracked.mark, urgency)
            except TimeoutError:
                self._failed(container_id)
            finally:
                self._end_waiting(container_id, waiting)

    def _wait_longer(self, waiting: "_Waiting") -> None:
        """Use the list while an inspect hangs; it ends by itself within a minute."""
        waiting.slot.release()
        self._hanging[waiting.container_id] = waiting
        waiting.bridging = self._tasks.create_task(self._bridge(waiting.container_id, waiting))

    def _end_waiting(self, container_id: str, waiting: "_Waiting") -> None:
        waiting.is_over = True
        if waiting.bridging is not None:
            waiting.bridging.cancel()
            del self._hanging[container_id]

    async def _bridge(self, container_id: str, hanging: "_Waiting") -> None:
        """Use the list while an inspect hangs, now and after each event.

        It is a fault only if nothing happened of late: the Engine answers an inspect of a
        container that starts when it has started, which takes seconds on a busy machine.
        """
        reason = "" if hanging.may_start else HANGING
        while True:
            hanging.news.clear()
            await self._do_without(container_id, reason, hanging)
            hanging.settled.set()
            if len(self._hanging) > MAX_HANGING:
                hanging.limit.reschedule(0.0)
            try:
                async with asyncio.timeout(None if reason else INSPECT_PATIENCE):
                    await hanging.news.wait()
                reason = ""
            except TimeoutError:
                reason = HANGING

    async def _inspect(self, container_id: str, mark: tracking.Mark, urgency: Urgency) -> None:
        """Inspect a container, and apply the result, at once if an event asked for it."""
        document = await self._document_of(container_id)
        if urgency is Urgency.COMPARISON:  # many arrive together, a millisecond's work each
            await turns().offer(self._url)
        if self._tracked.get(container_id) is None:
            return  # destroyed meanwhile
        if isinstance(document, _Gone):
            self.removed(container_id, None)
        elif document is None:
            self._failed(container_id)
        else:
            await self._learn(container_id, mark, document)

    async def _document_of(
        self, container_id: str
    ) -> "dict[str, Any] | BadDocument | _Gone | None":
        """Inspect, and retry once if the document cannot be parsed, as from a busy proxy.

        Returns:
            None if there was no response; the event stream notices if the Engine is gone.
        """
        try:
            try:
                return _existing(await self._client.inspect(container_id))
            except BadDocument:
                await asyncio.sleep(INSPECT_AGAIN_AFTER)
            try:
                return _existing(await self._client.inspect(container_id))
            except BadDocument as fault:
                return fault
        except EngineUnavailable as fault:
            await self._do_without(container_id, fault.cause)
            return None

    def _failed(self, container_id: str) -> None:
        if tracked := self._tracked.get(container_id):
            self._take(tracking.on_failed_inspect(tracked))

    async def _learn(
        self, container_id: str, mark: tracking.Mark, document: dict[str, Any] | BadDocument
    ) -> None:
        """Apply the result of an inspect, or do without it."""
        try:
            if isinstance(document, BadDocument):
                raise document
            container = container_from_inspect(document, self._url)
        except BadDocument as fault:
            await self._do_without(container_id, str(fault))
            self._failed(container_id)
            return
        tracked = self._tracked[container_id]
        self._take(tracking.on_inspect(tracked, mark, container, fingerprint(document)))

    async def _do_without(
        self, container_id: str, reason: str, hanging: "_Waiting | None" = None
    ) -> None:
        """Use the list item of a container whose inspect failed, or is `hanging` still."""
        tracked = self._tracked.get(container_id)
        if tracked is None or (hanging and hanging.is_over):
            return
        mark = tracked.mark
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                item = await self._client.listed(container_id)
        except (EngineUnavailable, TimeoutError):
            return  # nothing new
        tracked = self._tracked.get(container_id)
        if tracked is None or (hanging and hanging.is_over):
            return  # the answer is newer than the list
        if item is None:
            self.removed(container_id, None)
        else:
            self._take_item(tracked, mark, item, f"inspect: {reason}" if reason else "")

    def _take_item(self, tracked: Tracked, mark: tracking.Mark, item: Any, fault: str) -> None:
        """Apply a list item; what is being made, started or removed is no fault."""
        try:
            if isinstance(item, SkippedItem):
                listed, unread = None, item.reason
            else:
                listed, unread = container_from_list(item, self._url), ""
        except BadDocument as bad:
            listed, unread = None, str(bad)
        if listed is None:
            name = _listed_name(item)
            self._take(tracking.on_unreadable_item(tracked, name, fault or unread))
            return
        is_waiting = fault.endswith(HANGING) and not listed.is_running
        fault = "" if is_waiting or listed.state in UNFINISHED else fault
        self._take(tracking.on_item(tracked, mark, listed, fault))

    def _take(self, step: Step) -> None:
        """Store the new state, then perform the effects."""
        tracked, effects = step
        self._tracked[tracked.id] = tracked
        for effect in effects:
            match effect:
                case Ask(urgency):
                    if tracked.id not in self._asks:  # otherwise its task continues by itself
                        settled = self._asks[tracked.id] = asyncio.Event()
                        self._tasks.create_task(self._ask(tracked.id, settled, urgency))
                case AskLater():
                    self._note_new(tracked.id)
                case tracking.Report(container, event_time):
                    self._sink.container_changed(self._url, container, event_time)
                case tracking.ReportDeath(event_time, status):
                    self._sink.container_died(self._url, tracked.id, event_time, status)
                case tracking.ReportFault(name, reason):
                    self._sink.container_unreadable(self._url, tracked.id, name, reason)


class _Slot:
    """A place among the inspects under way, which may be released before the inspect ends."""

    __slots__ = ("_is_held", "_slots")

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = False

    async def __aenter__(self) -> Self:
        await self._slots.acquire()
        self._is_held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let another inspect begin, if that has not been done."""
        if self._is_held:
            self._is_held = False
            self._slots.release()


@dataclass(slots=True, eq=False)
class _Waiting:
    """An inspect that is under way, in the task that waits for it.

    Attributes:
        container_id: Of the container.
        slot: Its place.
        settled: Set once the list was used instead.
        may_start: The container was not running when the inspect was sent.
        is_over: It has ended.
        bridging: The task that uses the list, once it hangs.
        limit: Ends it, at once if very many hang.
        news: Set by each event of the container.
    """

    container_id: str
    slot: _Slot
    settled: asyncio.Event
    may_start: bool
    is_over: bool = False
    bridging: "asyncio.Task[None] | None" = None
    limit: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(INSPECT_TIMEOUT))
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def has_ended(self) -> bool:
        """Return whether it has ended, for timers."""
        return self.is_over

    def release(self) -> None:
        """Let another inspect begin."""
        self.slot.release()


class _Gone:
    """The response that the container no longer exists."""


def _existing(document: dict[str, Any] | None) -> dict[str, Any] | _Gone:
    return _Gone() if document is None else document


def _listed_name(item: Any) -> str:
    """Return the name of the container in a list item; "" if it has none."""
    fields = item.fields if isinstance(item, SkippedItem) else item
    names = fields.get("Names") if isinstance(fields, dict) else None
    name = names[0] if isinstance(names, list) and names else ""
    return name.removeprefix("/") if isinstance(name, str) else ""

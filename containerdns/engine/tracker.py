"""The containers of one Engine: does what `core.tracking` decides about each.

Inspects run beside the stream of events, at most one for a container.  One that fails, or
does not answer in time, holds up nobody: the list, which the Engine answers from a snapshot,
says what it can about that container, and the answer refines it whenever it comes.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from containerdns.core.zone import tracking
from containerdns.core.zone.containers import (
    container_from_inspect,
    container_from_list,
    fingerprint,
)
from containerdns.core.zone.tracking import Ask, Happening, Phase, Step, Tracked, Urgency
from containerdns.engine.client import CALL_TIMEOUT, EngineClient
from containerdns.engine.decoding import SkippedItem
from containerdns.engine.sink import Sink
from containerdns.errors import BadDocument, EngineUnavailable

INSPECT_PATIENCE = 1.5  # seconds; an inspect takes milliseconds, while a container starts 0.25 s
HANGING = f"no answer within {INSPECT_PATIENCE} s"
INSPECT_AGAIN_AFTER = 0.2  # seconds, once, after a document that cannot be read
MAX_HANGING = 128  # inspects that are waited for beyond that; each is a connection
MAX_INSPECTS = {  # at once, until their time is up; each is a connection
    Urgency.EVENT: 64,
    Urgency.EARLY: 16,  # each waits, in the Engine, for its container to start
    Urgency.COMPARISON: 16,
}
MAX_INSPECTS_OVER_SSH = {Urgency.EVENT: 4, Urgency.EARLY: 1, Urgency.COMPARISON: 1}  # processes


class Tracker:
    """What is known of each container of one Engine, and told to a sink.

    Attributes:
        touched: Ids that events have said something about; cleared by who lists, as a listing
            that was asked for before knows less than they.
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
        self._asks: dict[str, asyncio.Event] = {}  # by id, under way; set when no more waited for
        self._hanging = 0
        self._tasks: asyncio.TaskGroup

    def __len__(self) -> int:
        return len(self._tracked)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tracked)

    def get(self, container_id: str) -> Tracked | None:
        """What is known of a container."""
        return self._tracked.get(container_id)

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Begin a session, whose tasks are not those of the one before."""
        self._tasks = tasks
        self._asks.clear()
        self._hanging = 0
        for container_id, tracked in self._tracked.items():
            self._tracked[container_id] = tracking.on_new_session(tracked)

    # News.

    def happened(
        self,
        container_id: str,
        happening: Happening,
        event_time: float | None,
        name: str = "",
        exit_status: int | None = None,
    ) -> None:
        """Take in an event."""
        self.touched.add(container_id)
        tracked = self._tracked.get(container_id)
        if tracked is None and happening is Happening.DIED:
            return
        may_ask_early = not self._slots[Urgency.EARLY].locked()
        if self.is_hanging(container_id) and happening is not Happening.DIED:
            self._tasks.create_task(self._do_without(container_id, HANGING))
        self._take(
            tracking.on_event(
                tracked or Tracked(container_id, self._url),
                happening,
                event_time,
                name,
                exit_status=exit_status,
                may_ask_early=may_ask_early,
            )
        )

    def is_hanging(self, container_id: str) -> bool:
        """Whether an inspect is under way that is not waited for any more."""
        asked = self._asks.get(container_id)
        return asked is not None and asked.is_set()

    def removed(self, container_id: str, event_time: float | None) -> None:
        """Take in that a container does not exist any more."""
        tracked = self._tracked.pop(container_id, None)
        if tracked is not None and tracked.is_told:
            self._sink.container_removed(self._url, container_id, event_time)

    def examine(self, item: object) -> tuple[str, bool]:
        """Look at an item of a listing.

        Returns:
            The id of its container, "" if it has none, and whether an inspect may say more.
        """
        fields = item.fields if isinstance(item, SkippedItem) else item
        container_id = fields.get("Id") if isinstance(fields, dict) else None
        if not isinstance(container_id, str) or not container_id:
            self._sink.container_unreadable(self._url, "?", "", "an item of the list has no id")
            return "", False
        tracked = self._tracked.get(container_id)
        if tracked is None and container_id in self.touched:
            return container_id, False  # destroyed since the list was asked for
        if tracked is None:
            tracked = self._tracked[container_id] = Tracked(container_id, self._url)
        if isinstance(item, SkippedItem):
            self._take(tracking.on_unreadable_item(tracked, _listed_name(item), item.reason))
            return container_id, False
        likeness = fingerprint(item)
        is_same = tracked.is_whole and likeness != 0 and likeness == tracked.likeness
        return container_id, not is_same

    def tell_item(self, container_id: str, item: Any) -> None:
        """Return what a listing says about a container, unless something knows better."""
        tracked = self._tracked.get(container_id)
        if tracked is not None and container_id not in self.touched:
            self._take_item(tracked, tracked.mark, item, "")

    # Inspects.

    async def settle(self, container_id: str) -> None:
        """Inspect a container; return when that has ended, or is not waited for any more."""
        tracked = self._tracked.get(container_id)
        if tracked is not None and container_id not in self._asks:
            self._take(tracking.on_difference(tracked))
        if asked := self._asks.get(container_id):
            await asked.wait()

    async def _ask(self, container_id: str, settled: asyncio.Event, urgency: Urgency) -> None:
        """Inspect a container until nothing has happened to it meanwhile."""
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
        """Send one inspect; its slot is free again when its time is up, whatever it does."""
        async with self._slots[urgency]:
            tracked = self._tracked.get(container_id)
            if tracked is None:
                return
            tracked = self._tracked[container_id] = tracking.on_sent(tracked)
            inspecting = self._tasks.create_task(self._inspect(container_id))
            await asyncio.wait((inspecting,), timeout=INSPECT_PATIENCE)
        try:
            if not inspecting.done():
                await self._do_without(container_id, HANGING)
                settled.set()
                await self._wait_longer(inspecting)
            document = None if inspecting.cancelled() else inspecting.result()
        finally:
            inspecting.cancel()
        if self._tracked.get(container_id) is None:
            return  # it was destroyed meanwhile
        if isinstance(document, _Gone):
            self.removed(container_id, None)
        elif document is None:
            self._take(tracking.on_failed_inspect(self._tracked[container_id]))
        else:
            await self._learn(container_id, tracked.mark, document)

    async def _wait_longer(self, inspecting: "asyncio.Task[Any]") -> None:
        """Wait for an inspect that hangs, unless very many do; it ends by itself in a minute."""
        if self._hanging >= MAX_HANGING:
            inspecting.cancel()
        self._hanging += 1
        try:
            await asyncio.wait((inspecting,))
        finally:
            self._hanging -= 1

    async def _inspect(self, container_id: str) -> "dict[str, Any] | BadDocument | _Gone | None":
        """Inspect; what cannot be read may be so for a moment only, as through a busy proxy.

        Returns:
            None if there was no answer: whether the Engine is gone, its stream knows.
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

    async def _learn(
        self, container_id: str, mark: tracking.Mark, document: dict[str, Any] | BadDocument
    ) -> None:
        """Take in the answer of an inspect, or do without it."""
        try:
            if isinstance(document, BadDocument):
                raise document
            container = container_from_inspect(document, self._url)
        except BadDocument as fault:
            await self._do_without(container_id, str(fault))
            if tracked := self._tracked.get(container_id):
                self._take(tracking.on_failed_inspect(tracked))
            return
        tracked = self._tracked[container_id]
        self._take(tracking.on_inspect(tracked, mark, container, fingerprint(document)))

    async def _do_without(self, container_id: str, reason: str) -> None:
        """Ask the list about a container whose inspect does not do."""
        tracked = self._tracked.get(container_id)
        if tracked is None:
            return
        mark = tracked.mark
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                item = await self._client.listed(container_id)
        except (EngineUnavailable, TimeoutError):
            return  # no news
        tracked = self._tracked.get(container_id)
        if tracked is None:
            return
        if item is None:
            self.removed(container_id, None)
        else:
            self._take_item(tracked, mark, item, f"its inspect: {reason}")

    def _take_item(self, tracked: Tracked, mark: tracking.Mark, item: Any, fault: str) -> None:
        """Take in an item of a list; a container that is being created has time to start."""
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
        fault = "" if listed.state == "created" else fault
        self._take(tracking.on_item(tracked, mark, listed, fault))

    def _take(self, step: Step) -> None:
        """Take over what is known now, then do what follows."""
        tracked, effects = step
        self._tracked[tracked.id] = tracked
        for effect in effects:
            match effect:
                case Ask(urgency):
                    if tracked.id not in self._asks:  # else its task goes on by itself
                        settled = self._asks[tracked.id] = asyncio.Event()
                        self._tasks.create_task(self._ask(tracked.id, settled, urgency))
                case tracking.Tell(container, event_time):
                    self._sink.container_changed(self._url, container, event_time)
                case tracking.TellDeath(event_time, status):
                    self._sink.container_died(self._url, tracked.id, event_time, status)
                case tracking.TellFault(name, reason):
                    self._sink.container_unreadable(self._url, tracked.id, name, reason)


class _Gone:
    """The answer that there is no such container any more."""


def _existing(document: dict[str, Any] | None) -> dict[str, Any] | _Gone:
    return _Gone() if document is None else document


def _listed_name(item: Any) -> str:
    """Return what an item of the list calls its container; "" if nothing there is a name."""
    fields = item.fields if isinstance(item, SkippedItem) else item
    names = fields.get("Names") if isinstance(fields, dict) else None
    name = names[0] if isinstance(names, list) and names else ""
    return name.removeprefix("/") if isinstance(name, str) else ""

"""The state of one container, and how events, inspects and listings change it.

An Engine reports about a container in three ways, which may contradict each other:

- *events* arrive in order and immediately, but contain little;
- an *inspect* has everything, but takes milliseconds to minutes, may fail, and may describe the
  state before an event that arrived while it was under way;
- an item of the *list* is always available, but lacks aliases and host names.

So events are applied at once as far as they go (a death, a new name), and cause an inspect for
the rest.  At most one is under way for a container (its `Phase`).  A result is applied except
where an event arrived after the request was sent (its `Mark`): no result brings back a dead
container or an old name.  If something happened meanwhile, the inspect is repeated.  If it fails
or times out, the list item is used instead; a late result refines it.

    phase      event           -> phase      inspect answered     -> phase
    IDLE       any             -> ASKING     (cannot happen)
    ASKING     start           -> STARTING   -> IDLE
    ASKING     death           -> ASKING     -> IDLE
    ASKING     any other       -> OVERTAKEN  -> IDLE
    STARTING   start           -> STARTING   it runs -> IDLE, else -> ASKING
    STARTING   death           -> ASKING
    STARTING   any other       -> OVERTAKEN
    OVERTAKEN  any             -> OVERTAKEN  -> ASKING

When idle, some events need no inspect: a death, the start of a container known to be running
(an inspect at its network's connect returned after the start), a disconnect of a stopped one.
The creation of a container has its name and labels, which are reported at once; it usually
starts within moments, and is inspected then, otherwise a little later (`AskLater`).

Everything here is a value; `engine/tracker` performs the effects.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from containerdns.core.values import with_fields
from containerdns.core.zone.containers import Container, stopped, with_details_of

NEW = "created"  # the state of a container that has never been started
UNREAD = "dead"  # the state of a container of which only the name is known


class Phase(Enum):
    """Whether an inspect is under way for a container, and what happened since."""

    IDLE = "nothing"
    ASKING = "an inspect, without events since it was sent"
    STARTING = (
        "an inspect, with a start since: the result counts only if it shows a running container"
    )
    OVERTAKEN = "an inspect, with other events since: it will be repeated"


class Happening(Enum):
    """The kind of an event; a removal ends the tracking and is not among them."""

    CREATED = "create"
    DIED = "die"
    STARTED = "start"
    RENAMED = "rename"
    CONNECTED = "connect"
    DISCONNECTED = "disconnect"
    CHANGED = "any other"


class ContainerEvent(NamedTuple):
    """An event of one container.

    Attributes:
        happening: The kind of event.
        time: When it happened, by the Engine's clock.
        name: The container's name, if the event has it; of RENAMED, the new one.
        exit_status: Of DIED, if the event has it.
        docker_labels: Of CREATED; None if they are unknown, or other events may have followed.
    """

    happening: Happening
    time: float | None = None
    name: str = ""
    exit_status: int | None = None
    docker_labels: Mapping[str, str] | None = None


class Mark(NamedTuple):
    """The events up to a point, to know which ones are newer than a request."""

    deaths: int
    renames: int


NO_EVENTS = Mark(0, 0)


class Tracked(NamedTuple):
    """The state of one container.

    Attributes:
        id: Its id.
        engine: The URL of its Engine.
        container: As last reported; None if never.
        phase: What is under way.
        is_whole: It is from an inspect, not only from a list.
        likeness: `fingerprint` of the document it came from; 0 if there were events since.
        mark: The deaths and renames so far.
        name: The latest name from an event or a list; "" if none.
        event_time: Of the last event that still needs an inspect, seconds; or None.
        fault: Why its documents cannot be read, as last reported; "" if they can.
    """

    id: str
    engine: str
    container: Container | None = None
    phase: Phase = Phase.IDLE
    is_whole: bool = False
    likeness: int = 0
    mark: Mark = NO_EVENTS
    name: str = ""
    event_time: float | None = None
    fault: str = ""

    @property
    def is_running(self) -> bool:
        """Whether it is running, as last reported."""
        return self.container is not None and self.container.is_running

    @property
    def was_reported(self) -> bool:
        """Whether it was ever reported."""
        return self.container is not None or bool(self.fault)


class Urgency(Enum):
    """Why an inspect is sent, which determines how many may be under way."""

    EVENT = "something happened"
    EARLY = "it seems to be starting; the Engine answers when it has started"
    COMPARISON = "a listing differs"


class Ask(NamedTuple):
    """Inspect it."""

    urgency: Urgency = Urgency.EVENT


class AskLater(NamedTuple):
    """Call `on_still_new` in a moment."""


class Report(NamedTuple):
    """Report the container as it is now."""

    container: Container
    event_time: float | None = None


class ReportDeath(NamedTuple):
    """Report that it stopped running."""

    event_time: float | None = None
    exit_status: int | None = None


class ReportFault(NamedTuple):
    """Report that its documents cannot be read."""

    container_name: str
    reason: str


Effect = Ask | AskLater | Report | ReportDeath | ReportFault
Step = tuple[Tracked, tuple[Effect, ...]]


def on_event(tracked: Tracked, event: ContainerEvent, *, may_ask_early: bool = True) -> Step:
    """Apply an event.

    Args:
        tracked: The state before it.
        event: The event.
        may_ask_early: There is a slot for an inspect that waits for a start.
    """
    match event.happening:
        case Happening.CREATED if tracked.container is None and tracked.phase is Phase.IDLE:
            if event.name and event.docker_labels is not None:
                return _created(tracked, event)
        case Happening.DIED:
            return _died(tracked, event.time, event.exit_status)
        case Happening.RENAMED:
            return _renamed(tracked, event.name, event.time)
        case Happening.STARTED if tracked.phase in (Phase.ASKING, Phase.STARTING):
            return tracked._replace(phase=Phase.STARTING, event_time=event.time), ()
        case Happening.STARTED if tracked.phase is Phase.IDLE and tracked.is_running:
            if tracked.is_whole:
                return tracked, ()
        case Happening.CONNECTED if tracked.phase is Phase.IDLE and not tracked.is_running:
            if not may_ask_early:
                return tracked, ()  # its start event will follow
            return tracked._replace(phase=Phase.ASKING, event_time=None), (Ask(Urgency.EARLY),)
        case Happening.DISCONNECTED if tracked.phase is Phase.IDLE and not tracked.is_running:
            return tracked._replace(likeness=0), ()  # left to the next comparison
    return _asked(tracked._replace(event_time=event.time), Urgency.EVENT)


def on_difference(tracked: Tracked) -> Step:
    """Apply that a listing differs or lacks the container; an inspect decides."""
    if tracked.phase is Phase.IDLE:
        return _asked(tracked, Urgency.COMPARISON)
    return tracked, ()


def on_still_new(tracked: Tracked) -> Step:
    """Apply that a container was created a moment ago; inspect it unless that has happened."""
    if is_still_new(tracked):
        return _asked(tracked, Urgency.COMPARISON)
    return tracked, ()


def is_still_new(tracked: Tracked) -> bool:
    """Return whether `on_still_new` would inspect it."""
    return tracked.phase is Phase.IDLE and not tracked.is_whole


def on_sent(tracked: Tracked) -> Tracked:
    """Apply that the inspect is sent only now, so that its result includes all events so far."""
    return tracked._replace(phase=Phase.ASKING)


def on_inspect(tracked: Tracked, mark: Mark, container: Container, likeness: int) -> Step:
    """Apply an inspect result, except where events since the request are newer.

    Args:
        tracked: The state before it.
        mark: The mark of `tracked` when the inspect was sent.
        container: The result.
        likeness: `fingerprint` of its document.
    """
    container = _corrected(tracked, mark, container)
    again = tracked.phase is Phase.OVERTAKEN or (
        tracked.phase is Phase.STARTING and not container.is_running
    )
    if again and mark != tracked.mark and tracked.container is not None:
        container = tracked.container  # events since are newer than the whole result
    told: tuple[Effect, ...] = ()
    if container != tracked.container or tracked.fault:
        told = (Report(container, tracked.event_time),)
    after = tracked._replace(
        container=container,
        phase=Phase.ASKING if again else Phase.IDLE,
        is_whole=True,
        likeness=likeness if mark == tracked.mark else 0,
        name=container.container_name,
        event_time=tracked.event_time if again and not told else None,
        fault="",
    )
    return after, (*told, Ask()) if again else told


def on_failed_inspect(tracked: Tracked) -> Step:
    """Apply that an inspect failed; the next comparison or event sends another."""
    again = tracked.phase in (Phase.OVERTAKEN, Phase.STARTING)
    phase = Phase.ASKING if again else Phase.IDLE
    return tracked._replace(phase=phase, likeness=0), (Ask(),) if again else ()


def on_item(tracked: Tracked, mark: Mark, listed: Container, fault: str = "") -> Step:
    """Apply a list item, while an inspect is under way or has failed.

    Args:
        tracked: The state before it.
        mark: The mark of `tracked` when the list was requested.
        listed: The container in the list.
        fault: Why there is no inspect result; "" if it is just not sent yet.
    """
    if tracked.container is not None:
        listed = with_details_of(listed, tracked.container)
    listed = _corrected(tracked, mark, listed)
    return _reported_from_list(tracked, listed, fault)


def on_unreadable_item(tracked: Tracked, name: str, fault: str) -> Step:
    """Apply an unreadable list item: at least the name, if any, is kept from upstreams."""
    name = tracked.name or name
    container = tracked.container
    if container is None and name:
        container = Container(tracked.id, name, tracked.engine, UNREAD)
    return _reported_from_list(tracked._replace(name=name), container, fault)


def on_new_session(tracked: Tracked) -> Tracked:
    """Apply that the connections are closed, and with them any inspect."""
    if tracked.phase is Phase.IDLE:
        return tracked
    return tracked._replace(phase=Phase.IDLE, likeness=0, event_time=None)


def _created(tracked: Tracked, event: ContainerEvent) -> Step:
    """Report the name and the labels, so that its names are kept from upstreams at once."""
    container = Container(
        tracked.id, event.name, tracked.engine, NEW, docker_labels=event.docker_labels or {}
    )
    after = tracked._replace(container=container, name=event.name)
    return after, (Report(container, event.time), AskLater())


def _died(tracked: Tracked, event_time: float | None, exit_status: int | None) -> Step:
    """Withdraw at once; no inspect is needed."""
    container = tracked.container
    if container is not None:
        container = stopped(container, event_time, exit_status)
    phase = Phase.ASKING if tracked.phase is Phase.STARTING else tracked.phase
    mark = tracked.mark._replace(deaths=tracked.mark.deaths + 1)
    after = tracked._replace(container=container, phase=phase, likeness=0, mark=mark)
    return after, (ReportDeath(event_time, exit_status),)


def _renamed(tracked: Tracked, name: str, event_time: float | None) -> Step:
    """Apply the new name; an inspect then shows whether more has changed."""
    told: tuple[Effect, ...] = ()
    container = tracked.container
    if name:
        mark = tracked.mark._replace(renames=tracked.mark.renames + 1)
        tracked = tracked._replace(name=name, mark=mark, likeness=0)
    if name and container is not None and container.container_name != name:
        container = with_fields(container, container_name=name)
        told = _told(tracked, container, event_time)
        event_time = None  # of the change just reported
    tracked = tracked._replace(container=container, event_time=event_time)
    after, asked = _asked(tracked, Urgency.EVENT)
    return after, (*told, *asked)


def _asked(tracked: Tracked, urgency: Urgency) -> Step:
    """Inspect; if an inspect is already under way, repeat it afterwards."""
    if tracked.phase is Phase.IDLE:
        return tracked._replace(phase=Phase.ASKING), (Ask(urgency),)
    return tracked._replace(phase=Phase.OVERTAKEN), ()


def _corrected(tracked: Tracked, mark: Mark, container: Container) -> Container:
    """Correct a result by the events since its request."""
    if mark.deaths != tracked.mark.deaths and container.is_running:
        dead = tracked.container or container
        container = stopped(container, dead.finished_at, dead.exit_status)
    if mark.renames != tracked.mark.renames:
        container = with_fields(container, container_name=tracked.name)
    return container


def _told(tracked: Tracked, container: Container, event_time: float | None) -> tuple[Effect, ...]:
    """Report a container with a lasting fault; the order matters, as changes clear faults."""
    if tracked.fault:
        return Report(container, event_time), ReportFault(container.container_name, tracked.fault)
    return (Report(container, event_time),)


def _reported_from_list(tracked: Tracked, container: Container | None, fault: str) -> Step:
    """Report the differences from what was last reported."""
    had_fault = tracked.fault
    name = container.container_name if container is not None else tracked.name
    after = tracked._replace(
        container=container,
        is_whole=False,
        likeness=0,
        name=name,
        fault=fault or had_fault,
    )
    if container is not None and container != tracked.container:
        return after, _told(after, container, None)
    return after, (ReportFault(name, fault),) if fault and fault != had_fault else ()

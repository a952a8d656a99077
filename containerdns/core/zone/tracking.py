"""What is known of one container, and what each piece of news makes of it.

An Engine says things about a container in three ways, and they contradict each other:

- *events* come in order and at once, but say little;
- an *inspect* says everything, but takes milliseconds to minutes, may fail, and may describe a
  moment before an event that came while it was under way;
- an item of the *list* is always available, but lacks aliases and host names.

So events are believed at once in what they say (a death, a new name), and cause an inspect
for the rest.  At most one is under way for a container (its `Phase`).  An answer is believed
except in what an event has said since the question was sent (its `Mark`): no answer brings a
dead container or an old name back.  What happened meanwhile is asked once more.  If the inspect
fails or does not answer in time, the list has to do; an answer that comes late refines it.

    phase      event           -> phase      inspect answered     -> phase
    IDLE       any             -> ASKING     (cannot happen)
    ASKING     start           -> STARTING   -> IDLE
    ASKING     death           -> ASKING     -> IDLE
    ASKING     any other       -> OVERTAKEN  -> IDLE
    STARTING   start           -> STARTING   it runs -> IDLE, else -> ASKING
    STARTING   death           -> ASKING
    STARTING   any other       -> OVERTAKEN
    OVERTAKEN  any             -> OVERTAKEN  -> ASKING

Idle, some events ask nothing: a death, the start of what is known to run (an inspect at its
network's connect was answered when it had started), a disconnect of what does not run.

Everything here is a value; `engine/tracker` does what the effects say.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from containerdns.core.zone.containers import Container, stopped, with_details_of

UNREAD = "dead"  # the state of a container of which nothing but its name can be read


class Phase(Enum):
    """What is under way for a container."""

    IDLE = "nothing"
    ASKING = "an inspect, and nothing has happened since it was sent"
    STARTING = "an inspect, and a start has come since: it counts only if it shows life"
    OVERTAKEN = "an inspect, and something has happened since: it is sent once more"


class Happening(Enum):
    """What an event says; removal ends the tracking and is none of these."""

    DIED = "die"
    STARTED = "start"
    RENAMED = "rename"
    CONNECTED = "connect"
    DISCONNECTED = "disconnect"
    CHANGED = "any other"


class Mark(NamedTuple):
    """When a question was sent, in what events had said until then."""

    deaths: int
    renames: int


NO_EVENTS = Mark(0, 0)


@dataclass(frozen=True, slots=True)
class Tracked:
    """What is known of one container.

    Attributes:
        id: Its id.
        engine: The URL of its Engine.
        container: As told last; None if it never was.
        phase: What is under way.
        is_whole: An inspect told it; not only a list.
        likeness: `fingerprint` of the document it was made of; 0 if something has come since.
        mark: The deaths and renames so far.
        name: As an event or a list said last; "" if none did.
        event_time: Of the last event that an inspect has still to answer, seconds; or None.
        fault: Why its documents cannot be read, as told last; "" if they can.
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
        """Whether it runs, as far as was told."""
        return self.container is not None and self.container.is_running

    @property
    def is_told(self) -> bool:
        """Whether anybody knows of it."""
        return self.container is not None or bool(self.fault)


class Urgency(Enum):
    """Why an inspect is sent, which decides how many may be under way."""

    EVENT = "something happened"
    EARLY = "it seems to be starting; the Engine answers when it has started"
    COMPARISON = "a listing differs"


class Ask(NamedTuple):
    """Inspect it."""

    urgency: Urgency = Urgency.EVENT


class Tell(NamedTuple):
    """It exists like this now."""

    container: Container
    event_time: float | None = None


class TellDeath(NamedTuple):
    """It does not run any more."""

    event_time: float | None = None
    exit_status: int | None = None


class TellFault(NamedTuple):
    """Its documents cannot be read."""

    container_name: str
    reason: str


Effect = Ask | Tell | TellDeath | TellFault
Step = tuple[Tracked, tuple[Effect, ...]]


def on_event(
    tracked: Tracked,
    happening: Happening,
    event_time: float | None = None,
    name: str = "",
    *,
    exit_status: int | None = None,
    may_ask_early: bool = True,
) -> Step:
    """Take in an event.

    Args:
        tracked: The container before it.
        happening: What it says.
        event_time: When it happened, by the Engine's clock.
        name: Of RENAMED, the new one.
        exit_status: Of DIED, if the Engine says it.
        may_ask_early: There is a slot for an inspect that waits for a start.
    """
    match happening:
        case Happening.DIED:
            return _died(tracked, event_time, exit_status)
        case Happening.RENAMED:
            return _renamed(tracked, name, event_time)
        case Happening.STARTED if tracked.phase in (Phase.ASKING, Phase.STARTING):
            return replace(tracked, phase=Phase.STARTING, event_time=event_time), ()
        case Happening.STARTED if tracked.phase is Phase.IDLE and tracked.is_running:
            if tracked.is_whole:
                return tracked, ()
        case Happening.CONNECTED if tracked.phase is Phase.IDLE and not tracked.is_running:
            if not may_ask_early:
                return tracked, ()  # its start will do
            return replace(tracked, phase=Phase.ASKING, event_time=None), (Ask(Urgency.EARLY),)
        case Happening.DISCONNECTED if tracked.phase is Phase.IDLE and not tracked.is_running:
            return replace(tracked, likeness=0), ()  # the next comparison reads it
    return _asked(replace(tracked, event_time=event_time), Urgency.EVENT)


def on_difference(tracked: Tracked) -> Step:
    """Take in that a listing shows something else, or lacks it: an inspect has the last word."""
    if tracked.phase is Phase.IDLE:
        return _asked(tracked, Urgency.COMPARISON)
    return tracked, ()


def on_sent(tracked: Tracked) -> Tracked:
    """Take in that the inspect is sent only now: what happened until now is in its answer."""
    return replace(tracked, phase=Phase.ASKING)


def on_inspect(tracked: Tracked, mark: Mark, container: Container, likeness: int) -> Step:
    """Take in the answer of an inspect.

    Args:
        tracked: The container before it.
        mark: Of `tracked` when the inspect was sent.
        container: What it says.
        likeness: `fingerprint` of its document.
    """
    container = _corrected(tracked, mark, container)
    again = tracked.phase is Phase.OVERTAKEN or (
        tracked.phase is Phase.STARTING and not container.is_running
    )
    if again and mark != tracked.mark and tracked.container is not None:
        container = tracked.container  # what has come since is newer than all of the answer
    told: tuple[Effect, ...] = ()
    if container != tracked.container or tracked.fault:
        told = (Tell(container, tracked.event_time),)
    after = replace(
        tracked,
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
    """Take in that an inspect failed; the next comparison, or event, sends another."""
    again = tracked.phase in (Phase.OVERTAKEN, Phase.STARTING)
    phase = Phase.ASKING if again else Phase.IDLE
    return replace(tracked, phase=phase, likeness=0), (Ask(),) if again else ()


def on_item(tracked: Tracked, mark: Mark, listed: Container, fault: str = "") -> Step:
    """Take in what a list says, while an inspect is under way or failed.

    Args:
        tracked: The container before it.
        mark: Of `tracked` when the list was asked for.
        listed: What the list says.
        fault: Why the inspect does not do; "" if it is only not sent yet.
    """
    if tracked.container is not None:
        listed = with_details_of(listed, tracked.container)
    listed = _corrected(tracked, mark, listed)
    return _told_of_list(tracked, listed, fault)


def on_unreadable_item(tracked: Tracked, name: str, fault: str) -> Step:
    """Take in that the list says nothing but a name, if that: the name at least stays ours."""
    name = tracked.name or name
    container = tracked.container
    if container is None and name:
        container = Container(tracked.id, name, tracked.engine, UNREAD)
    return _told_of_list(replace(tracked, name=name), container, fault)


def on_new_session(tracked: Tracked) -> Tracked:
    """Take in that the connections are gone, and with them what was under way."""
    if tracked.phase is Phase.IDLE:
        return tracked
    return replace(tracked, phase=Phase.IDLE, likeness=0, event_time=None)


def _died(tracked: Tracked, event_time: float | None, exit_status: int | None) -> Step:
    """Withdraw at once; there is nothing to ask."""
    container = tracked.container
    if container is not None:
        container = stopped(container, event_time, exit_status)
    phase = Phase.ASKING if tracked.phase is Phase.STARTING else tracked.phase
    mark = tracked.mark._replace(deaths=tracked.mark.deaths + 1)
    after = replace(tracked, container=container, phase=phase, likeness=0, mark=mark)
    return after, (TellDeath(event_time, exit_status),)


def _renamed(tracked: Tracked, name: str, event_time: float | None) -> Step:
    """Believe the new name; an inspect then says whether more has changed."""
    told: tuple[Effect, ...] = ()
    container = tracked.container
    if name:
        mark = tracked.mark._replace(renames=tracked.mark.renames + 1)
        tracked = replace(tracked, name=name, mark=mark, likeness=0)
    if name and container is not None and container.container_name != name:
        container = replace(container, container_name=name)
        told = _told(tracked, container, event_time)
        event_time = None  # of the change that has just been told
    tracked = replace(tracked, container=container, event_time=event_time)
    after, asked = _asked(tracked, Urgency.EVENT)
    return after, (*told, *asked)


def _asked(tracked: Tracked, urgency: Urgency) -> Step:
    """Inspect; if that is under way already, once more after it."""
    if tracked.phase is Phase.IDLE:
        return replace(tracked, phase=Phase.ASKING), (Ask(urgency),)
    return replace(tracked, phase=Phase.OVERTAKEN), ()


def _corrected(tracked: Tracked, mark: Mark, container: Container) -> Container:
    """Correct an answer by what events have said since it was asked for."""
    if mark.deaths != tracked.mark.deaths and container.is_running:
        dead = tracked.container or container
        container = stopped(container, dead.finished_at, dead.exit_status)
    if mark.renames != tracked.mark.renames:
        container = replace(container, container_name=tracked.name)
    return container


def _told(tracked: Tracked, container: Container, event_time: float | None) -> tuple[Effect, ...]:
    """Tell of a container whose fault stays; in this order, as news of it end its faults."""
    if tracked.fault:
        return Tell(container, event_time), TellFault(container.container_name, tracked.fault)
    return (Tell(container, event_time),)


def _told_of_list(tracked: Tracked, container: Container | None, fault: str) -> Step:
    """Return what differs from what was told before."""
    had_fault = tracked.fault
    name = container.container_name if container is not None else tracked.name
    after = replace(
        tracked,
        container=container,
        is_whole=False,
        likeness=0,
        name=name,
        fault=fault or had_fault,
    )
    if container is not None and container != tracked.container:
        return after, _told(after, container, None)
    return after, (TellFault(name, fault),) if fault and fault != had_fault else ()

"""What is known of a container: each cell of the table, and a fuzz against a model."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core.zone import tracking
from containerdns.core.zone.containers import Attachment, Container, stopped
from containerdns.core.zone.tracking import (
    Ask,
    AskLater,
    ContainerEvent,
    Happening,
    Mark,
    Phase,
    Report,
    ReportDeath,
    ReportFault,
    Tracked,
    Urgency,
)

ENGINE = "unix:///engine.sock"
ID = "a" * 64
LIKENESS = 7
ALL = tuple(Happening)


def a_container(state: str = "running", name: str = "web", hostname: str = "search") -> Container:
    attachment = Attachment("frontend", "1" * 64, ("172.18.0.2",), aliases=("www",))
    return Container(ID, name, ENGINE, state, hostname=hostname, attachments=(attachment,))


def tracked(phase: Phase = Phase.IDLE, state: str | None = "running") -> Tracked:
    """A container that an inspect told, unless it has no state."""
    if state is None:
        return Tracked(ID, ENGINE, phase=phase)
    container = a_container(state)
    return Tracked(ID, ENGINE, container, phase, is_whole=True, likeness=LIKENESS, name="web")


AFTER = {
    Phase.ASKING: dict.fromkeys(ALL, Phase.OVERTAKEN)
    | {Happening.STARTED: Phase.STARTING, Happening.DIED: Phase.ASKING},
    Phase.STARTING: dict.fromkeys(ALL, Phase.OVERTAKEN)
    | {Happening.STARTED: Phase.STARTING, Happening.DIED: Phase.ASKING},
    Phase.OVERTAKEN: dict.fromkeys(ALL, Phase.OVERTAKEN),
}


@pytest.mark.parametrize("state", ["running", "exited", None])
@pytest.mark.parametrize("happening", ALL)
@pytest.mark.parametrize("phase", AFTER)
def test_event_while_an_inspect_is_under_way(
    phase: Phase, happening: Happening, state: str | None
) -> None:
    after, effects = tracking.on_event(
        tracked(phase, state), ContainerEvent(happening, 5.0, "shop")
    )
    assert after.phase is AFTER[phase][happening]
    assert not any(isinstance(effect, Ask) for effect in effects)


@pytest.mark.parametrize(
    ("state", "happening", "urgency"),
    [
        ("running", Happening.DIED, None),
        ("running", Happening.STARTED, None),  # an inspect at its connect has told that
        ("running", Happening.RENAMED, Urgency.EVENT),
        ("running", Happening.CONNECTED, Urgency.EVENT),
        ("running", Happening.DISCONNECTED, Urgency.EVENT),
        ("running", Happening.CHANGED, Urgency.EVENT),
        ("exited", Happening.DIED, None),
        ("exited", Happening.STARTED, Urgency.EVENT),
        ("exited", Happening.RENAMED, Urgency.EVENT),
        ("exited", Happening.CONNECTED, Urgency.EARLY),
        ("exited", Happening.DISCONNECTED, None),
        ("exited", Happening.CHANGED, Urgency.EVENT),
        (None, Happening.DIED, None),
        (None, Happening.STARTED, Urgency.EVENT),
        (None, Happening.RENAMED, Urgency.EVENT),
        (None, Happening.CONNECTED, Urgency.EARLY),
        (None, Happening.DISCONNECTED, None),
        (None, Happening.CHANGED, Urgency.EVENT),
        ("running", Happening.CREATED, Urgency.EVENT),
        ("exited", Happening.CREATED, Urgency.EVENT),
        (None, Happening.CREATED, Urgency.EVENT),
    ],
)
def test_event_while_nothing_is_under_way(
    state: str | None, happening: Happening, urgency: Urgency | None
) -> None:
    after, effects = tracking.on_event(
        tracked(Phase.IDLE, state), ContainerEvent(happening, 5.0, "shop")
    )
    asked = [effect.urgency for effect in effects if isinstance(effect, Ask)]
    assert asked == ([] if urgency is None else [urgency])
    assert after.phase is (Phase.IDLE if urgency is None else Phase.ASKING)


def test_creation_has_name_and_labels_and_is_inspected_only_if_nothing_follows() -> None:
    """A redeploy is then inspected once, when the new container has started."""
    labels = {"containerdns.names": "www"}
    event = ContainerEvent(Happening.CREATED, 5.0, "web", docker_labels=labels)
    new, effects = tracking.on_event(tracked(state=None), event)
    container = Container(ID, "web", ENGINE, "created", docker_labels=labels)
    assert effects == (Report(container, 5.0), AskLater())
    assert not new.is_whole
    assert tracking.on_still_new(new)[1] == (Ask(Urgency.COMPARISON),)
    connected, effects = tracking.on_event(new, ContainerEvent(Happening.CONNECTED, 6.0))
    assert effects == (Ask(Urgency.EARLY),)
    assert tracking.on_still_new(connected) == (connected, ())
    started, _ = tracking.on_inspect(connected, connected.mark, a_container(), LIKENESS)
    assert tracking.on_still_new(started) == (started, ())


@pytest.mark.parametrize(
    "event",
    [
        ContainerEvent(Happening.CREATED, 5.0, docker_labels={}),
        ContainerEvent(Happening.CREATED, 5.0, "web"),
    ],
    ids=["too long for a name", "before the listing"],
)
def test_creation_that_says_too_little_is_inspected_at_once(event: ContainerEvent) -> None:
    assert tracking.on_event(tracked(state=None), event)[1] == (Ask(),)


def test_connect_without_a_slot_leaves_it_to_the_start() -> None:
    before = tracked(state="created")
    assert tracking.on_event(
        before, ContainerEvent(Happening.CONNECTED, 5.0), may_ask_early=False
    ) == (before, ())


def test_start_of_what_only_a_list_told_is_inspected() -> None:
    before = tracked()._replace(is_whole=False)
    assert Ask() in tracking.on_event(before, ContainerEvent(Happening.STARTED, 5.0))[1]


def test_death_withdraws_at_once_and_is_compared_next_time() -> None:
    after, effects = tracking.on_event(tracked(), ContainerEvent(Happening.DIED, 5.0))
    assert effects == (ReportDeath(5.0),)
    assert (after.is_running, after.likeness) == (False, 0)


def test_rename_is_believed_at_once_and_no_longer_looks_the_same() -> None:
    """Renamed back while the stream is cut, the list looks as it did before."""
    after, effects = tracking.on_event(tracked(), ContainerEvent(Happening.RENAMED, 5.0, "shop"))
    assert effects == (Report(a_container(name="shop"), 5.0), Ask())
    assert after.likeness == 0


@pytest.mark.parametrize(
    ("phase", "state", "after"),
    [
        (Phase.ASKING, "running", Phase.IDLE),
        (Phase.ASKING, "exited", Phase.IDLE),
        (Phase.STARTING, "running", Phase.IDLE),
        (Phase.STARTING, "created", Phase.ASKING),
        (Phase.OVERTAKEN, "running", Phase.ASKING),
        (Phase.OVERTAKEN, "exited", Phase.ASKING),
    ],
)
def test_answer_of_an_inspect(phase: Phase, state: str, after: Phase) -> None:
    before = tracked(phase, None)
    step, effects = tracking.on_inspect(before, before.mark, a_container(state), LIKENESS)
    assert step.phase is after
    assert effects[0] == Report(a_container(state))
    assert (Ask() in effects) == (after is Phase.ASKING)
    assert step.is_whole
    assert step.likeness == LIKENESS


def test_answer_that_says_nothing_new_tells_nothing() -> None:
    before = tracked(Phase.ASKING)
    assert tracking.on_inspect(before, before.mark, a_container(), LIKENESS)[1] == ()


def test_answer_of_before_a_death_brings_nobody_back() -> None:
    sent = tracked(Phase.ASKING)
    dead, _ = tracking.on_event(sent, ContainerEvent(Happening.DIED, 5.0))
    after, effects = tracking.on_inspect(dead, sent.mark, a_container(), LIKENESS)
    assert not after.is_running
    assert after.likeness == 0
    assert effects == ()


def test_answer_of_before_a_rename_changes_nothing() -> None:
    sent = tracked(Phase.ASKING)
    renamed, _ = tracking.on_event(sent, ContainerEvent(Happening.RENAMED, 5.0, "shop"))
    after, effects = tracking.on_inspect(renamed, sent.mark, a_container(), LIKENESS)
    assert after.container == a_container(name="shop")
    assert effects == (Ask(),)


def test_answer_of_before_the_first_news_of_a_container_has_its_new_name() -> None:
    sent = tracked(Phase.ASKING, None)
    renamed, _ = tracking.on_event(sent, ContainerEvent(Happening.RENAMED, 5.0, "shop"))
    _, effects = tracking.on_inspect(renamed, sent.mark, a_container(), LIKENESS)
    assert effects == (Report(a_container(name="shop"), 5.0), Ask())


@pytest.mark.parametrize(
    ("phase", "after"),
    [
        (Phase.ASKING, Phase.IDLE),
        (Phase.STARTING, Phase.ASKING),
        (Phase.OVERTAKEN, Phase.ASKING),
    ],
)
def test_failed_inspect_withdraws_nothing(phase: Phase, after: Phase) -> None:
    step, effects = tracking.on_failed_inspect(tracked(phase))
    assert (step.phase, step.container, step.likeness) == (after, a_container(), 0)
    assert effects == ((Ask(),) if after is Phase.ASKING else ())


def test_list_does_for_a_failed_inspect_and_keeps_what_was_known() -> None:
    before = tracked(Phase.ASKING)
    moved = Attachment("frontend", "1" * 64, ("172.18.0.9",))
    listed = replace(a_container(hostname=""), attachments=(moved,))
    after, effects = tracking.on_item(before, before.mark, listed, "no answer")
    told = replace(a_container(), attachments=(replace(moved, aliases=("www",)),))
    assert effects == (Report(told), ReportFault("web", "no answer"))
    assert not after.is_whole
    assert tracking.on_item(after, after.mark, listed, "no answer")[1] == ()
    cured, effects = tracking.on_inspect(after, after.mark, told, LIKENESS)
    assert effects == (Report(told),)  # nothing new but that it can be read
    assert not cured.fault


def test_list_of_before_a_death_brings_nobody_back() -> None:
    sent = tracked(Phase.ASKING)
    dead, _ = tracking.on_event(sent, ContainerEvent(Happening.DIED, 5.0))
    assert not tracking.on_item(dead, sent.mark, a_container(), "no answer")[0].is_running


def test_name_of_what_cannot_be_read_is_kept() -> None:
    after, effects = tracking.on_unreadable_item(tracked(Phase.IDLE, None), "web", "too long")
    told, fault = effects
    assert isinstance(told, Report)
    assert (told.container.container_name, told.container.is_running) == ("web", False)
    assert fault == ReportFault("web", "too long")
    assert tracking.on_unreadable_item(after, "web", "too long")[1] == ()


def test_what_has_no_name_is_a_fault_alone() -> None:
    _, effects = tracking.on_unreadable_item(tracked(Phase.IDLE, None), "", "odd")
    assert effects == (ReportFault("", "odd"),)


def test_rename_of_what_cannot_be_read_keeps_its_fault() -> None:
    """News of a container end its former fault."""
    before = tracked()._replace(fault="odd")
    _, effects = tracking.on_event(before, ContainerEvent(Happening.RENAMED, 5.0, "shop"))
    assert effects[:2] == (Report(a_container(name="shop"), 5.0), ReportFault("shop", "odd"))


@pytest.mark.parametrize("phase", Phase)
def test_difference_is_inspected_unless_that_is_under_way(phase: Phase) -> None:
    after, effects = tracking.on_difference(tracked(phase))
    if phase is Phase.IDLE:
        assert (after.phase, effects) == (Phase.ASKING, (Ask(Urgency.COMPARISON),))
    else:
        assert (after.phase, effects) == (phase, ())


@pytest.mark.parametrize("phase", Phase)
def test_new_session_has_the_next_listing_settle_what_was_asked(phase: Phase) -> None:
    after = tracking.on_new_session(tracked(phase))
    assert after.phase is Phase.IDLE
    assert after.likeness == (LIKENESS if phase is Phase.IDLE else 0)


@dataclass
class Model:
    """An Engine with one container, and all that is on its way from there.

    Attributes:
        replica: The container as it is.
        events: That have not arrived yet, with the new name.
        answer: Of the inspect under way: the replica when the Engine looked; None before.
        told: What the sink knows.
    """

    replica: Container = field(default_factory=a_container)
    tracked: Tracked = field(default_factory=tracked)
    events: list[tuple[Happening, str]] = field(default_factory=list)
    mark: Mark | None = None
    answer: Container | None = None
    told: Container = field(default_factory=a_container)

    def change(self, what: str) -> None:
        """Let something happen in the Engine."""
        if what == "die" and self.replica.is_running:
            self.replica = stopped(self.replica, 5.0, 137)
            self.events.append((Happening.DIED, ""))
        elif what == "start" and not self.replica.is_running:
            self.replica = replace(self.replica, state="running")
            self.events.append((Happening.STARTED, ""))
        elif what in ("shop", "web") and self.replica.container_name != what:
            self.replica = replace(self.replica, container_name=what)
            self.events.append((Happening.RENAMED, what))

    def arrive(self, *, fails: bool = False) -> None:
        """Let the answer of the inspect arrive."""
        if self.mark is None:
            return
        self.look()
        assert self.answer is not None
        mark, answer, self.mark, self.answer = self.mark, self.answer, None, None
        if fails:
            self.take(tracking.on_item(self.tracked, self.tracked.mark, self.replica, "no answer"))
            self.take(tracking.on_failed_inspect(self.tracked))
        else:
            self.take(tracking.on_inspect(self.tracked, mark, answer, LIKENESS))

    def look(self) -> None:
        """Let the Engine look at the container for the inspect under way."""
        if self.mark is not None and self.answer is None:
            self.answer = self.replica

    def deliver(self) -> None:
        """Let the next event arrive."""
        if self.events:
            happening, name = self.events.pop(0)
            status = 137 if happening is Happening.DIED else None
            step = tracking.on_event(
                self.tracked, ContainerEvent(happening, 5.0, name, exit_status=status)
            )
            self.take(step)

    def take(self, step: tracking.Step) -> None:
        """Do what follows, as the shell does."""
        self.tracked, effects = step
        for effect in effects:
            match effect:
                case Report(container):
                    self.told = container
                case ReportDeath(event_time, exit_status):
                    self.told = stopped(self.told, event_time, exit_status)
        if self.mark is None and self.tracked.phase is not Phase.IDLE:
            self.tracked = tracking.on_sent(self.tracked)
            self.mark = self.tracked.mark


CHANGES = st.sampled_from(["die", "start", "shop", "web"])
STEPS = st.sampled_from(["deliver", "look", "arrive", "fail"])


@given(st.lists(st.one_of(CHANGES, STEPS), max_size=40))
def test_whatever_the_order_it_ends_in_the_truth(steps: list[str]) -> None:
    """Events are late, answers later; what was told follows events and ends in the replica."""
    model = Model()
    for step in steps:
        match step:
            case "deliver":
                model.deliver()
            case "look":
                model.look()
            case "arrive" | "fail":
                model.arrive(fails=step == "fail")
            case change:
                model.change(change)
        assert model.told == model.tracked.container
    while model.events:
        model.deliver()
    for _ in range(3):
        model.arrive()
    assert model.tracked.phase is Phase.IDLE
    assert model.told == model.replica


@given(st.lists(st.one_of(CHANGES, STEPS), max_size=40))
def test_no_answer_brings_back_what_events_have_ended(steps: list[str]) -> None:
    """Between a death and the next start that arrive, nothing is reported as running."""
    model = Model()
    is_dead = False
    for step in steps:
        if step == "deliver" and model.events:
            is_dead = {"die": True, "start": False}.get(model.events[0][0].value, is_dead)
            model.deliver()
        elif step in ("look", "arrive"):
            model.look() if step == "look" else model.arrive()
        elif step in ("die", "shop", "web"):
            model.change(step)
        if is_dead:
            assert not model.told.is_running

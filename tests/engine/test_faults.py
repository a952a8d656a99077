"""The watcher against an Engine that fails on demand."""

import asyncio
import gc
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from containerdns.engine import watcher as watcher_module
from containerdns.engine.client import EngineClient
from containerdns.engine.watchdog import RARE_CHECK_EVERY
from containerdns.errors import EngineUnavailable
from tests.engine.recorder import Recorder, watching
from tests.engine.simulated import SimulatedEngine
from tests.timing import assert_within, best_of_three, until

RARELY = 5.0  # seconds between listings: none comes while a test prepares what one meets


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


async def has_asked(engine: SimulatedEngine, container_id: str) -> None:
    """Return once a container's inspect is under way."""
    await until(lambda: engine.requests[f"/containers/{container_id}/json"])


def address_of(recorder: Recorder, container_name: str) -> str:
    return recorder.running()[container_name].attachments[0].addresses[0]


async def test_redeploy_is_inspected_once_and_known_by_name_from_its_creation(
    socket: Path,
) -> None:
    """Each inspect costs about a millisecond of CPU, whether or not the container has started."""
    async with SimulatedEngine(socket) as engine, watching(engine.url) as (recorder, _):
        old = engine.add("web", announce=False)
        engine.emit("container", "start", old)
        await recorder.until(lambda: "web" in recorder.running())
        await recorder.until_listed()
        new = await engine.redeploy(old)
        await recorder.until(lambda: new in recorder.containers and "web" in recorder.running())
        told = [given[0] for name, given, _ in recorder.calls if name == "container_changed"]
        states = [c.state for c in told if c.id == new]
        assert states == ["created", "running"]
        assert engine.requests[f"/containers/{new}/json"] == 1


async def test_stream_that_is_cut_is_subscribed_again(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        engine.cut()
        await recorder.until(lambda: recorder.count("resynced", "reconnect"))
        engine.add("late")
        await recorder.until(lambda: "late" in recorder.running())


@pytest.mark.slow
async def test_engine_that_does_not_answer_after_it_was_lost_is_tried_again(socket: Path) -> None:
    """Up to Python 3.11.2 the time-out ended the watcher: see `tasks/own_task`."""
    async with SimulatedEngine(socket, 3) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        engine.delays["/version"] = 3600.0
        engine.cut()
        await recorder.until(lambda: recorder.count("disconnected", "no answer from the Engine"))
        engine.delays.clear()
        engine.add("late")
        await recorder.until(lambda: "late" in recorder.running())


async def test_what_happened_while_the_stream_was_cut_is_found(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        gone, renamed, dead = list(recorder.containers)
        engine.cut()
        engine.remove(gone, announce=False)
        engine.rename(renamed, "renamed", announce=False)
        engine.die(dead, announce=False)
        engine.add("new", announce=False)
        await recorder.until(lambda: recorder.count("resynced", "reconnect"))
        assert set(recorder.running()) == {"renamed", "new"}
        assert recorder.count("container_removed", gone) == 1


async def test_events_that_come_at_once_are_handled_some_at_a_time(socket: Path) -> None:
    """Queries are answered in between, as when `docker compose down` ends hundreds."""
    told: list[int] = []
    async with SimulatedEngine(socket, 300) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()

        async def note_each_pass() -> None:
            while True:
                told.append(len(recorder.calls))
                await asyncio.sleep(0)

        noting = asyncio.create_task(note_each_pass())
        for container_id in engine.ids():
            engine.remove(container_id)
        await recorder.until(lambda: not recorder.containers)
        noting.cancel()
    most = max(after - before for before, after in pairwise(told))
    assert most < 300  # of 1,200 calls


@best_of_three
async def test_silent_stream_is_noticed_within_seconds(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        engine.is_deaf = True
        await asyncio.sleep(0.1)
        engine.add("late")
        took = await recorder.until(lambda: "late" in recorder.running())
        await recorder.until(lambda: recorder.count("resynced", "watchdog"))
    assert_within(took, 5)


@pytest.mark.parametrize("seconds", [-3600.0, -2.5, 3600.0], ids=["back", "a bit back", "on"])
async def test_silence_is_noticed_after_the_clock_was_set(socket: Path, seconds: float) -> None:
    """The watchdog asks about the Engine's time; comparisons are out of the way here.

    One that is a bit behind waits for the end of what was asked: that is no costly check.
    """
    async with (
        SimulatedEngine(socket, 3) as engine,
        watching(engine.url, compare_every=999, listen_check_every=0.2) as (recorder, _),
    ):
        await recorder.until_listed()
        engine.clock_ahead = seconds
        before = engine.requests["/events"]
        await until(lambda: engine.requests["/events"] > before + 1, RARE_CHECK_EVERY - 5)
        engine.is_deaf = True
        engine.add("late")
        await recorder.until(lambda: "late" in recorder.running(), within=30)
        assert recorder.count("resynced", "watchdog") <= 1


async def test_silence_is_noticed_after_a_stall(socket: Path) -> None:
    """An answer that does not come within 3 s ends the check, and not all that follow."""
    async with (
        SimulatedEngine(socket, 3) as engine,
        watching(engine.url, compare_every=999, listen_check_every=0.2) as (recorder, _),
    ):
        await recorder.until_listed()
        engine.delays["/events"] = 4.0
        before = engine.requests["/version"]
        await until(lambda: engine.requests["/version"] > before)  # asked after the time-out
        engine.delays.clear()
        engine.is_deaf = True
        engine.add("late")
        await recorder.until(lambda: recorder.count("resynced", "watchdog"), within=30)
        assert "late" in recorder.running()


async def test_silent_stream_is_noticed_by_comparison_if_the_past_is_untold(socket: Path) -> None:
    async with (
        SimulatedEngine(socket, 3) as engine,
        watching(engine.url, compare_every=0.5, listen_check_every=99) as (recorder, _),
    ):
        await recorder.until_listed()
        engine.is_deaf = True
        engine.add("late")
        await recorder.until(lambda: recorder.count("resynced", "watchdog"))
        assert "late" in recorder.running()


async def test_engine_that_works_hard_for_each_check_is_checked_seldom(socket: Path) -> None:
    """Podman reads all of its file of events for each question about the past."""
    async with (
        SimulatedEngine(socket, 3) as engine,
        watching(engine.url, compare_every=0.1, listen_check_every=0.05) as (recorder, _),
    ):
        await recorder.until_listed()
        engine.delays["/events"] = 0.1
        checks, compared = engine.requests["/events"], recorder.count("resynced", "periodic")
        await recorder.until(lambda: recorder.count("resynced", "periodic") > compared + 15)
        assert engine.requests["/events"] <= checks + 2


async def test_quiet_host_is_not_taken_for_a_silent_stream(socket: Path) -> None:
    async with (
        SimulatedEngine(socket, 3) as engine,
        watching(engine.url, compare_every=0.3, listen_check_every=0.1) as (recorder, _),
    ):
        await recorder.until_listed()
        dead = next(iter(recorder.containers))
        engine.die(dead)
        engine.add("web")
        await recorder.until(lambda: recorder.count("resynced", "periodic") > 3)
        assert recorder.count("disconnected") == 0


async def test_missed_changes_are_found_by_the_comparison(socket: Path) -> None:
    async with (
        SimulatedEngine(socket, 2) as engine,
        watching(engine.url, compare_every=0.3) as (recorder, _),
    ):
        await recorder.until_listed()
        moved, renamed = list(recorder.containers)
        engine.move(moved, "172.28.9.9", announce=False)
        engine.rename(renamed, "renamed", announce=False)
        await recorder.until(
            lambda: (
                "renamed" in recorder.running() and address_of(recorder, "web-0") == "172.28.9.9"
            )
        )


@pytest.mark.parametrize("action", ["connect", "disconnect"])
async def test_network_event_that_names_the_container_as_its_actor_is_followed(
    socket: Path, action: str
) -> None:
    """Podman: Actor.ID is the container's, and there are no attributes."""
    async with SimulatedEngine(socket, 2) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        moved = next(iter(recorder.containers))
        engine.move(moved, "172.28.9.9", announce=False)
        engine.emit("network", action, moved)
        await recorder.until(lambda: address_of(recorder, "web-0") == "172.28.9.9", within=20)


async def test_network_event_without_any_container_makes_none(socket: Path) -> None:
    async with (
        SimulatedEngine(socket, 2) as engine,
        watching(engine.url, compare_every=0.3) as (recorder, _),
    ):
        await recorder.until_listed()
        engine.emit("network", "disconnect", "")
        engine.emit("container", "update", "")
        engine.emit("network", "connect", "1" * 64)  # a network, as no container has this id
        engine.add("late")
        await recorder.until(lambda: "late" in recorder.running())
        await recorder.until_compared()
        assert recorder.count("container_unreadable") == 0
        assert len(recorder.containers) == 3


async def test_rename_and_back_over_a_cut_stream_ends_in_the_truth(socket: Path) -> None:
    """The inspect after the first rename never came, and the list looks as it did before."""
    async with SimulatedEngine(socket, 2) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        web = next(iter(recorder.containers))
        engine.slow[web] = 30.0
        engine.rename(web, "renamed", announce=False)
        engine.emit("container", "rename", web, name="renamed", oldName="/web-0")
        await recorder.until(lambda: "renamed" in recorder.running())
        engine.cut()
        engine.slow.clear()
        engine.rename(web, "web-0", announce=False)
        await recorder.until(lambda: recorder.count("resynced", "reconnect"))
        assert set(recorder.running()) == {"web-0", "web-1"}


@pytest.mark.parametrize(
    "document",
    ["", "{", "[]", "null", "{}", '{"Id": 5}', "[" * 100_000],
    ids=["nothing", "cut", "array", "null", "empty", "odd id", "deep"],
)
async def test_unreadable_document_costs_only_its_container(socket: Path, document: str) -> None:
    async with SimulatedEngine(socket, 3) as engine:
        bad = next(iter(engine.ids()))
        engine.garbage[bad] = document
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert set(recorder.unreadable) == {bad}
            told = [call[1] for call in recorder.calls if call[0] == "container_unreadable"]
            assert told[0][:2] == (bad, "web-0")  # as the list calls it
            assert len(recorder.running()) == 3
            assert recorder.running()["web-0"].hostname == ""  # the list does not have it
            del engine.garbage[bad]
            engine.emit("container", "update", bad)
            await recorder.until(lambda: not recorder.unreadable)
            assert recorder.running()["web-0"].hostname == "search"


async def test_networks_that_a_proxy_forbids_cost_only_themselves(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine:
        engine.statuses["/networks"] = 403
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert len(recorder.running()) == 3
            assert recorder.count("networks_changed") == 0


async def test_version_that_a_proxy_forbids_is_done_without(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine:
        engine.statuses["/version"] = 403
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert len(recorder.running()) == 3


async def test_forbidden_events_are_a_cause_that_names_the_path(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine:
        engine.statuses["/events"] = 403
        client = EngineClient(engine.url, None)
        await client.negotiate()
        with pytest.raises(EngineUnavailable, match=r"forbids GET /v1.41/events"):
            await client.events().__aenter__()
        await client.close()


@best_of_three
async def test_engine_that_comes_back_is_found_within_two_seconds(socket: Path) -> None:
    engine = SimulatedEngine(socket, 3)
    await engine.start()
    async with watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        await engine.stop()
        await recorder.until(lambda: recorder.count("disconnected"))
        await asyncio.sleep(5)
        await engine.start()
        took = await recorder.until(lambda: recorder.count("resynced", "reconnect"))
        await engine.stop()
    assert_within(took, 2)


@best_of_three
async def test_retries_of_a_standing_zone_are_at_most_a_second_apart(socket: Path) -> None:
    engine = SimulatedEngine(socket, 3)
    await engine.start()
    async with watching(engine.url, first_retry=8) as (recorder, _):
        await recorder.until_listed()
        await engine.stop()
        await recorder.until(lambda: recorder.count("disconnected"))
        await engine.start()
        took = await recorder.until(lambda: recorder.count("resynced", "reconnect"))
        await engine.stop()
    assert_within(took, 2)


async def test_failed_listing_is_told_and_tried_again(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine:
        engine.statuses["/containers/json"] = 500
        async with watching(engine.url) as (recorder, _):
            await recorder.until(lambda: recorder.count("list_failed"))
            assert recorder.count("listed") == 0
            engine.statuses.clear()
            await recorder.until(lambda: recorder.count("listed"))


async def test_death_overtakes_the_inspect_of_before(socket: Path) -> None:
    """An inspect that was answered late must not bring a dead container back."""
    async with SimulatedEngine(socket, 1) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        engine.inspect_delay = 1.0
        late = engine.add("late")
        await has_asked(engine, late)
        engine.emit("container", "die", late)  # its documents still say that it runs
        await recorder.until(lambda: late in recorder.containers)
        assert not recorder.containers[late].is_running
        assert "late" not in recorder.running()


async def test_destroyed_container_is_not_brought_back_by_an_inspect(socket: Path) -> None:
    async with SimulatedEngine(socket, 1) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        engine.inspect_delay = 0.5
        late = engine.add("late")
        await has_asked(engine, late)
        engine.emit("container", "destroy", late)
        await recorder.until(lambda: recorder.count("event_seen", "destroy"))
        await asyncio.sleep(0.7)
        assert late not in recorder.containers


async def test_slow_inspect_does_not_hold_up_the_death_of_another(socket: Path) -> None:
    async with SimulatedEngine(socket, 1) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        [web] = recorder.containers
        engine.inspect_delay = 30.0
        for number in range(100):
            engine.add(f"slow-{number}")
        engine.die(web)
        await recorder.until(lambda: recorder.count("container_died", web))
        assert set(recorder.containers) == {web}


async def test_event_just_before_the_listing_leaves_no_container_out(socket: Path) -> None:
    """The stream repeats the last second; what it has had asked must count, too."""
    async with SimulatedEngine(socket, 3) as engine:
        engine.inspect_delay = 0.1
        for container_id in engine.ids():
            engine.emit("container", "update", container_id)
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert len(recorder.running()) == 3
            assert all(container.hostname for container in recorder.running().values())


async def test_event_that_asks_nothing_leaves_no_container_out(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine:
        for container_id in engine.ids():
            engine.emit("network", "disconnect", "1" * 64, container=container_id)
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert len(recorder.running()) == 3


async def test_inspect_that_does_not_end_does_not_hold_up_the_listing(socket: Path) -> None:
    async with SimulatedEngine(socket, 2) as engine:
        [slow, _] = engine.ids()
        engine.slow[slow] = 30.0
        engine.emit("container", "update", slow)
        async with watching(engine.url) as (recorder, _):
            await recorder.until(lambda: recorder.count("listed"), within=20)
            assert len(recorder.running()) == 2


async def test_more_containers_than_are_inspected_at_first_are_told_from_the_list(
    socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "MAX_UNREPORTED", 10)
    async with SimulatedEngine(socket, 30) as engine:
        engine.inspect_delay = 0.5
        async with watching(engine.url) as (recorder, _):
            await recorder.until(lambda: len(recorder.running()) == 30)
            assert recorder.running()["web-0"].hostname == ""
            assert recorder.count("listed") == 0
            await recorder.until_listed()
            assert all(container.hostname for container in recorder.running().values())
            assert engine.inspects == 30


async def test_many_changes_told_from_the_list_keep_what_inspects_had_told(
    socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "MAX_UNREPORTED", 10)
    async with SimulatedEngine(socket, 30) as engine, watching(engine.url) as (recorder, _):
        await recorder.until(
            lambda: recorder.running() and all(c.hostname for c in recorder.running().values())
        )
        told = len(recorder.calls)
        engine.inspect_delay = 5.0
        for number, container_id in enumerate(engine.ids()):
            engine.move(container_id, f"172.28.99.{number}", announce=False)
        engine.cut()
        await recorder.until(lambda: recorder.count("resynced", "reconnect"))
        changed = [a[0] for name, a, _ in recorder.calls[told:] if name == "container_changed"]
        assert len(changed) == 30
        assert all(container.hostname == "search" for container in changed)
        assert all("www" in container.attachments[0].aliases for container in changed)


async def test_comparison_without_a_difference_inspects_nothing(socket: Path) -> None:
    async with (
        SimulatedEngine(socket, 30) as engine,
        watching(engine.url, compare_every=0.3) as (recorder, _),
    ):
        await recorder.until_listed()
        before = engine.inspects
        await recorder.until_compared()
        assert engine.inspects == before == 30


@best_of_three
@pytest.mark.parametrize("containers", [1_000])
async def test_large_listing_leaves_the_loop_free(socket: Path, containers: int) -> None:
    """No answer waits for a listing for more than 5 ms; 20 ms here, for slow machines.

    In our own time, as others may have the CPU meanwhile.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.engine.simulated", str(socket)),
        *("--containers", str(containers)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        gc.disable()  # a full collection of all that pytest holds takes longer
        async with watching(f"unix://{socket}") as (recorder, _):
            longest = 0.0
            while not recorder.count("listed"):
                before = time.process_time()
                await asyncio.sleep(0)
                longest = max(longest, time.process_time() - before)
            assert len(recorder.running()) == containers
        assert_within(longest, 0.02)
    finally:
        gc.enable()
        process.kill()
        await process.wait()


async def test_sick_container_is_served_by_the_list(socket: Path) -> None:
    """Its inspect hangs, as behind a dead NFS server; the list and other inspects answer."""
    async with SimulatedEngine(socket, 3) as engine:
        sick = engine.ids()[0]
        engine.slow[sick] = 3600.0
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert set(recorder.running()) == {"web-0", "web-1", "web-2"}
            assert set(recorder.unreadable) == {sick}
            assert "no answer" in recorder.unreadable[sick]
            assert recorder.count("disconnected") == 0


async def test_sick_container_is_followed_while_its_inspect_hangs(socket: Path) -> None:
    async with SimulatedEngine(socket, 2) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        sick = engine.ids()[0]
        engine.slow[sick] = 3600.0
        engine.emit("container", "update", sick)
        await recorder.until(lambda: sick in recorder.unreadable)
        engine.move(sick, "172.28.9.9")
        await recorder.until(lambda: address_of(recorder, "web-0") == "172.28.9.9", within=20)
        engine.emit("container", "rename", sick, name="renamed")
        await recorder.until(lambda: "renamed" in recorder.running(), within=20)
        engine.die(sick)
        await recorder.until(lambda: set(recorder.running()) == {"web-1"}, within=20)


async def test_late_answer_refines_what_the_list_told(socket: Path) -> None:
    async with SimulatedEngine(socket, 2) as engine:
        slow = engine.ids()[0]
        engine.slow[slow] = 3.0
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert recorder.running()["web-0"].hostname == ""
            await recorder.until(lambda: recorder.running()["web-0"].hostname == "search")
            assert not recorder.unreadable


async def test_container_that_takes_long_to_start_is_not_sick(socket: Path) -> None:
    """The Engine answers its inspect when it has started; on a busy machine, after seconds."""
    async with (
        SimulatedEngine(socket, 2) as engine,
        watching(engine.url, compare_every=RARELY) as (recorder, _),
    ):
        await recorder.until_listed()
        slow = engine.ids()[0]
        engine.die(slow)
        engine.hold_answers.add(slow)
        listings = engine.requests["/containers/json"]
        engine.emit("network", "connect", "1" * 64, container=slow)
        await until(lambda: engine.requests["/containers/json"] > listings)
        engine.start_again(slow, "172.28.9.9")
        await recorder.until(lambda: "web-0" in recorder.running())
        assert address_of(recorder, "web-0") == "172.28.9.9"
        engine.release(slow)
        await recorder.until_listed()
        assert recorder.count("container_unreadable") == 0


async def test_list_that_has_not_heard_of_a_death_revives_nobody(socket: Path) -> None:
    """After `die` an Engine lists a container as running until it has cleaned up."""
    async with (
        SimulatedEngine(socket, 2) as engine,
        watching(engine.url, compare_every=RARELY) as (recorder, _),
    ):
        await recorder.until_listed()
        dead = engine.ids()[0]
        engine.emit("container", "die", dead)
        await recorder.until(lambda: "web-0" not in recorder.running())
        engine.inspect_delay = 1.0
        engine.add("late", announce=False)
        await recorder.until(lambda: "late" in recorder.running())  # told from the list
        assert "web-0" not in recorder.running()
        engine.die(dead, announce=False)
        await recorder.until_listed()
        assert set(recorder.running()) == {"web-1", "late"}


async def test_list_that_comes_after_the_answer_changes_nothing(socket: Path) -> None:
    async with (
        SimulatedEngine(socket, 2) as engine,
        watching(engine.url, compare_every=RARELY) as (recorder, _),
    ):
        await recorder.until_listed()
        slow = engine.ids()[0]
        engine.hold_answers.add(slow)
        engine.delays["/containers/json"] = 1.0
        listings = engine.requests["/containers/json"]
        engine.emit("container", "update", slow)
        await until(lambda: engine.requests["/containers/json"] > listings)
        engine.release(slow)
        await recorder.until_listed()
        assert recorder.count("container_unreadable") == 0


async def test_container_that_is_being_removed_is_not_sick(socket: Path) -> None:
    """The Engine may answer 500 once its layer is gone."""
    async with (
        SimulatedEngine(socket, 2) as engine,
        watching(engine.url, compare_every=0.3) as (recorder, _),
    ):
        await recorder.until_listed()
        going = engine.ids()[0]
        engine.statuses[f"/containers/{going}/json"] = 500
        engine.die(going)
        engine.begin_removal(going)
        await recorder.until_compared()
        assert recorder.count("container_unreadable") == 0


async def test_many_sick_containers_do_not_hold_up_the_others(socket: Path) -> None:
    """More than there are slots for inspects, when they come and when they are listed."""
    async with SimulatedEngine(socket, 1) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        for number in range(100):
            engine.slow[engine.add(f"sick-{number}", announce=False)] = 3600.0
        for container_id in engine.ids()[1:]:
            engine.emit("container", "start", container_id)
        engine.add("web")
        await recorder.until(lambda: "web" in recorder.running(), within=30)
        await recorder.until(lambda: len(recorder.running()) == 102, within=30)
        engine.cut()
        await recorder.until(lambda: recorder.count("resynced", "reconnect"), within=40)


@best_of_three
async def test_hanging_inspects_share_the_time_of_the_first_listing(socket: Path) -> None:
    """A dead NFS server takes most containers along; 16 at a time were 18 times the patience."""
    async with SimulatedEngine(socket, 300) as engine:
        for sick in engine.ids()[:280]:
            engine.slow[sick] = 3600.0
        async with watching(engine.url) as (recorder, _):
            patience = await recorder.until(lambda: recorder.unreadable)
            rest = await recorder.until(lambda: recorder.count("listed"))
            assert len(recorder.running()) == 300
            assert len(recorder.unreadable) == 280
    assert_within(rest, 8 * patience)


async def test_storm_of_events_about_a_sick_container_is_a_few_lists(socket: Path) -> None:
    async with SimulatedEngine(socket, 2) as engine:
        sick = engine.ids()[0]
        engine.slow[sick] = 3600.0
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            listings = engine.requests["/containers/json"]
            for _ in range(1000):
                engine.emit("container", "health_status: healthy", sick)
            engine.move(sick, "172.28.9.9")
            await recorder.until(lambda: address_of(recorder, "web-0") == "172.28.9.9")
            assert engine.requests["/containers/json"] < listings + 100


async def test_container_whose_inspect_fails_is_served_by_the_list(socket: Path) -> None:
    """Status 500: "RWLayer of container ... is unexpectedly nil"."""
    async with SimulatedEngine(socket, 2) as engine:
        sick = engine.ids()[0]
        engine.statuses[f"/containers/{sick}/json"] = 500
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert address_of(recorder, "web-0") == "172.28.0.1"
            assert "status 500" in recorder.unreadable[sick]
            late = engine.add("late", announce=False)
            engine.statuses[f"/containers/{late}/json"] = 500
            engine.emit("container", "start", late)
            await recorder.until(lambda: "late" in recorder.running())


async def test_container_with_a_huge_label_keeps_its_name_alone(socket: Path) -> None:
    async with SimulatedEngine(socket, 2) as engine:
        big = engine.add("big", docker_labels={"text": "x" * (17 << 20)}, announce=False)
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert set(recorder.running()) == {"web-0", "web-1"}
            assert recorder.containers[big].container_name == "big"
            assert big in recorder.unreadable
            before = engine.inspects
            engine.emit("container", "start", big)
            engine.add("late")
            await recorder.until(lambda: "late" in recorder.running())
            await until(lambda: engine.inspects > before)
            assert not recorder.containers[big].is_running
            assert recorder.count("disconnected") == 0


async def test_all_inspects_are_done_before_the_first_listing_counts(socket: Path) -> None:
    """Host names and aliases are known by inspects alone."""
    async with SimulatedEngine(socket, 300) as engine:
        engine.inspect_delay = 0.03
        async with watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            assert len(recorder.running()) == 300
            assert all(container.hostname for container in recorder.running().values())


async def test_what_a_reconnect_finds_is_incomplete_until_it_is_inspected(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        told = len(recorder.calls)
        engine.cut()
        engine.inspect_delay = 0.2
        engine.add("new", announce=False)
        await recorder.until(lambda: recorder.count("resynced", "reconnect"))
        order = [
            name if name != "container_changed" else bool(given[0].hostname)
            for name, given, _ in recorder.calls[told:]
            if name in ("incomplete", "container_changed", "listed")
        ]
        assert order == ["incomplete", True, "listed"]


async def test_comparison_that_finds_nothing_new_is_never_incomplete(socket: Path) -> None:
    """A death and a sick container are looked at again, which is no reason for doubt."""
    async with (
        SimulatedEngine(socket, 3) as engine,
        watching(engine.url, compare_every=0.3) as (recorder, _),
    ):
        engine.slow[engine.ids()[0]] = 3600.0
        await recorder.until_listed()
        engine.die(engine.ids()[1])
        before = recorder.count("incomplete")
        seen = recorder.count("resynced", "periodic")
        await recorder.until(lambda: recorder.count("resynced", "periodic") > seen + 2)
        assert recorder.count("incomplete") == before


async def test_networks_that_hang_hold_up_no_listing(socket: Path) -> None:
    async with SimulatedEngine(socket, 3) as engine:
        engine.delays["/networks"] = 3600.0
        async with watching(engine.url) as (recorder, _):
            await recorder.until(lambda: recorder.count("listed"), within=8)
            assert len(recorder.running()) == 3


async def test_inspect_of_before_a_rename_changes_nothing(socket: Path) -> None:
    async with SimulatedEngine(socket, 2) as engine, watching(engine.url) as (recorder, _):
        await recorder.until_listed()
        web = engine.ids()[0]
        engine.hold_answers.add(web)
        engine.emit("container", "update", web)
        await until(lambda: engine.held[web])  # the Engine has read the old name
        engine.rename(web, "renamed", announce=False)
        engine.emit("container", "rename", web, name="renamed", oldName="/web-0")
        await recorder.until(lambda: "renamed" in recorder.running())
        told = len(recorder.calls)
        before = engine.inspects
        engine.release(web)
        await until(lambda: engine.inspects > before)  # asked once more
        engine.emit("container", "update", web)
        await recorder.until(lambda: recorder.count("event_seen", "update") == 2)
        changed = [
            given[0] for name, given, _ in recorder.calls[told:] if name == "container_changed"
        ]
        assert [container.container_name for container in changed] == []

"""The tracker, without an Engine: when it applies what it is answered."""

import asyncio
import json
import time
from contextlib import suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from containerdns.core.zone.containers import Container
from containerdns.core.zone.tracking import ContainerEvent, Happening
from containerdns.engine.tracker import NEW_FOR, Tracker
from containerdns.errors import EngineUnavailable
from containerdns.tasks.turns import MAX_SLICE
from tests.engine.recorder import Recorder
from tests.engine.simulated import GOLDEN, TEMPLATE

DOCUMENT = json.loads(GOLDEN.read_text())["inspect"][TEMPLATE]


class Client:
    """An Engine's client whose one inspect is answered when the test says so."""

    def __init__(self) -> None:
        self.address = SimpleNamespace(scheme="unix")
        self.asked = asyncio.Event()
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def inspect(self, container_id: str) -> dict[str, Any]:
        self.asked.set()
        return await self.answer


async def test_inspect_is_applied_in_the_pass_in_which_it_arrives() -> None:
    """Each further pass of the event loop may answer 64 queries first: four were 0.3 ms."""
    client, sink = Client(), Recorder()
    tracker = Tracker(client, "unix:///engine", sink)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        tracker.begin(tasks)
        tracker.happened(DOCUMENT["Id"], ContainerEvent(Happening.STARTED, 1.0))
        await client.asked.wait()
        client.answer.set_result(DOCUMENT)
        await asyncio.sleep(0)  # one pass
        assert DOCUMENT["Id"] in sink.containers


async def test_comparisons_that_are_answered_together_are_applied_in_turns() -> None:
    """In a listing of thousands; four in one pass delayed queries by up to 9 ms."""
    applied: list[str] = []

    class SlowSink(Recorder):
        def container_changed(
            self, engine: str, container: Container, event_time: float | None
        ) -> None:
            applied.append(container.id)
            ends = time.perf_counter() + 2 * MAX_SLICE
            while time.perf_counter() < ends:
                pass

    client = Client()
    tracker = Tracker(client, "unix:///engine", SlowSink())  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        tracker.begin(tasks)
        for number in range(4):
            container_id, _ = tracker.examine({"Id": f"{number:064x}"})
            tasks.create_task(tracker.settle(container_id))
        await client.asked.wait()
        client.answer.set_result(DOCUMENT)
        counts = [0]
        while counts[-1] < 4:
            await asyncio.sleep(0)
            counts.append(len(applied))
    assert all(after <= before + 1 for before, after in pairwise(counts))


async def test_event_right_after_an_answer_is_followed_by_another_inspect() -> None:
    """The task of the first one has not ended yet, and goes on."""
    client, sink = Client(), Recorder()
    tracker = Tracker(client, "unix:///engine", sink)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        tracker.begin(tasks)
        tracker.happened(DOCUMENT["Id"], ContainerEvent(Happening.STARTED, 1.0))
        await client.asked.wait()
        client.asked.clear()
        client.answer.set_result(DOCUMENT)
        await asyncio.sleep(0)
        tracker.happened(DOCUMENT["Id"], ContainerEvent(Happening.CHANGED, 2.0))
        async with asyncio.timeout(60):
            await client.asked.wait()


async def test_inspect_is_one_task() -> None:
    """Two, of which one waits for the other, cost more than the request itself."""
    client, sink = Client(), Recorder()
    tracker = Tracker(client, "unix:///engine", sink)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        tracker.begin(tasks)
        before = len(asyncio.all_tasks())
        tracker.happened(DOCUMENT["Id"], ContainerEvent(Happening.STARTED, 1.0))
        await client.asked.wait()
        assert len(asyncio.all_tasks()) == before + 1
        client.answer.set_result(DOCUMENT)


async def test_container_created_right_before_the_engine_was_lost_is_no_internal_error() -> None:
    """It was inspected a moment later, in the tasks of a session that had ended."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    tracker = Tracker(Client(), "unix:///engine", Recorder())  # type: ignore[arg-type]
    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            tracker.begin(tasks)
            created = ContainerEvent(Happening.CREATED, 1.0, "web", docker_labels={})
            tracker.happened(DOCUMENT["Id"], created)
            await asyncio.sleep(0)
            raise EngineUnavailable("lost")
    await asyncio.sleep(NEW_FOR + 0.05)
    assert not faults

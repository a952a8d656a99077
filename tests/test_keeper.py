"""The zone's writer: what it says about containers, and for how long."""

import asyncio
import logging
from contextlib import suppress

import pytest

from containerdns.core.containers import Attachment, Container
from containerdns.core.counters import Counters
from containerdns.core.wire import Wire
from containerdns.keeper import Keeper
from containerdns.settings import load

ENGINE = "unix:///engine.sock"


def a_keeper() -> Keeper:
    counters = Counters()
    return Keeper(load({"docker": [ENGINE]}, {}), counters, Wire(counters), frozenset())


def a_container(container_id: str, name: str, hostname: str = "") -> Container:
    """A running container on one network."""
    attachment = Attachment("frontend", "1" * 64, ("172.18.0.2",), ("172.18.0.0/16",))
    return Container(
        id=container_id,
        container_name=name,
        engine=ENGINE,
        state="running",
        hostname=hostname,
        attachments=(attachment,),
    )


async def look_once(keeper: Keeper) -> None:
    """Let the keeper do once what it does every second."""
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_lost_name_is_reported_once_for_each_container(caplog: pytest.LogCaptureFixture) -> None:
    """Jobs of one name follow each other; what was said about one goes with it."""

    async def run() -> list[int]:
        keeper = a_keeper()
        keeper.container_changed(ENGINE, a_container("a" * 64, "web"), None)
        keeper.listed(ENGINE)
        said = []
        for job in ("b" * 64, "c" * 64):
            for _ in range(2):  # not anew with each look
                keeper.container_changed(ENGINE, a_container(job, "job", "web"), None)
                await look_once(keeper)
            said.append(caplog.text.count("job does not get the name web"))
            keeper.container_removed(ENGINE, job, None)
        return said

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(run()) == [1, 2]

"""The watcher against a real Engine."""

import asyncio
import os
import signal
from typing import Any

import pytest

from containerdns.core.zone.containers import Container
from tests.engine.dockerd import Dockerd
from tests.engine.recorder import Recorder, watching
from tests.timing import assert_within, best_of_three

HEALTH = {"Test": ["CMD", "test", "-e", "/ok"], "Interval": 200_000_000, "Retries": 1}


def has_address(recorder: Recorder, name: str, network: str, address: str) -> bool:
    """Whether a container runs and has an address on a network, as far as was told."""
    container = recorder.running().get(name)
    return container is not None and address in [
        a for item in container.attachments if item.network == network for a in item.addresses
    ]


def networks_of(container: Container | None) -> list[str]:
    return [] if container is None else [item.network for item in container.attachments]


async def test_existing_containers_are_told_before_the_listing_counts(engine: Dockerd) -> None:
    engine.create_network("frontend")
    engine.run("web", network="frontend", aliases=["www"], labels={"key": "value"})
    engine.create("stopped")
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        told = [name for name, _, _ in recorder.calls if name in ("container_changed", "listed")]
        assert told == ["container_changed", "container_changed", "listed"]
        states = {c.container_name: c.state for c in recorder.containers.values()}
        assert states == {"web": "running", "stopped": "created"}
        [attachment] = recorder.running()["web"].attachments
        assert attachment.addresses == (engine.address("web"),)
        assert attachment.aliases == ("www",)
        assert {n.name for n in recorder.networks} >= {"frontend", "bridge", "host", "none"}


async def test_start_die_and_removal_are_followed(engine: Dockerd) -> None:
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        web = await asyncio.to_thread(engine.run, "web", hostname="search")
        await recorder.until(lambda: "web" in recorder.running())
        assert recorder.running()["web"].hostname == "search"
        await asyncio.to_thread(engine.kill_container, web)
        await recorder.until(lambda: recorder.count("container_died", web))
        assert recorder.count("container_removed", web) == 0
        await asyncio.to_thread(engine.remove, web)
        await recorder.until(lambda: recorder.count("container_removed", web))


async def test_restart_withdraws_and_brings_back(engine: Dockerd) -> None:
    web = engine.run("web")
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        await asyncio.to_thread(engine.restart_container, web)
        await recorder.until(
            lambda: recorder.count("container_died", web) and "web" in recorder.running()
        )


async def test_signal_that_does_not_kill_withdraws_nothing(engine: Dockerd) -> None:
    """A `kill` event is not a death."""
    web = engine.run("web", command=["sh", "-c", "trap : HUP; while :; do sleep 0.1; done"])
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        await asyncio.to_thread(engine.kill_container, web, "HUP")
        await asyncio.to_thread(engine.rename, web, "after")  # an event later than the signal's
        await recorder.until(lambda: "after" in recorder.running())
        assert recorder.count("container_died", web) == 0


async def test_rename_is_followed(engine: Dockerd) -> None:
    web = engine.run("web")
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        await asyncio.to_thread(engine.rename, web, "shop")
        await recorder.until(lambda: list(recorder.running()) == ["shop"])


async def test_paused_container_keeps_running(engine: Dockerd) -> None:
    web = engine.run("web")
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        await asyncio.to_thread(engine.pause, web)
        await recorder.until(lambda: recorder.containers[web].state == "paused")
        assert "web" in recorder.running()
        await asyncio.to_thread(engine.unpause, web)
        await recorder.until(lambda: recorder.containers[web].state == "running")


async def test_connect_and_disconnect_are_followed(engine: Dockerd) -> None:
    engine.create_network("frontend")
    engine.create_network("backend")
    web = engine.run("web", network="frontend")
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        await asyncio.to_thread(engine.connect, web, "backend", ["db"])
        address = engine.address("web", "backend")
        await recorder.until(lambda: has_address(recorder, "web", "backend", address))
        await asyncio.to_thread(engine.disconnect, web, "frontend")
        await recorder.until(lambda: networks_of(recorder.running().get("web")) == ["backend"])
        assert recorder.running()["web"].attachments[0].aliases == ("db",)


async def test_new_and_removed_networks_are_told(engine: Dockerd) -> None:
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        subnet = engine.subnet_of(1)
        await asyncio.to_thread(engine.create_network, "quiet", subnet)
        await recorder.until(lambda: subnet in [s for n in recorder.networks for s in n.subnets])
        await asyncio.to_thread(engine.remove_network, "quiet")
        await recorder.until(lambda: "quiet" not in [n.name for n in recorder.networks])


async def test_health_is_followed(engine: Dockerd) -> None:
    web = engine.run("web", healthcheck=HEALTH)
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        await recorder.until(lambda: recorder.containers[web].health == "unhealthy")
        await asyncio.to_thread(engine.execute, web, "touch", "/ok")
        await recorder.until(lambda: recorder.containers[web].health == "healthy")
        actions = {arguments[0] for name, arguments, _ in recorder.calls if name == "event_seen"}
        assert "health_status" in actions
        assert not any(action.startswith("exec") for action in actions)


async def test_container_that_cannot_start_is_never_told_as_running(engine: Dockerd) -> None:
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        broken = await asyncio.to_thread(engine.create, "broken", command=["/nothing"])
        with pytest.raises(Exception, match="nothing"):
            await asyncio.to_thread(engine.start_container, broken)
        await asyncio.to_thread(engine.run, "web")
        await recorder.until(lambda: "web" in recorder.running())
        told = [a[0] for name, a, _ in recorder.calls if name == "container_changed"]
        assert [c.state for c in told if c.id == broken and c.is_running] == []


async def test_odd_containers_are_told_like_others(engine: Dockerd) -> None:
    web = engine.run("web", hostname="search")
    engine.run("onhost", network="host")
    engine.run("sidecar", network=f"container:{web}")
    engine.run("alone", network="none")
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        running = recorder.running()
        assert set(running) == {"web", "onhost", "sidecar", "alone"}
        assert running["onhost"].network_mode == "host"
        assert running["sidecar"].network_mode == f"container:{web}"
        assert running["sidecar"].hostname == ""
        assert running["onhost"].hostname == ""
        assert running["alone"].network_mode == "none"
        assert [a for item in running["alone"].attachments for a in item.addresses] == []


async def test_container_with_a_huge_label_keeps_its_name_alone(engine: Dockerd) -> None:
    """Engines accept a label of 17 MiB, and repeat it in the list, the inspect and events."""
    big = engine.run("big", labels={"text": "x" * (17 << 20)})
    engine.run("web")
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        assert set(recorder.running()) == {"web"}
        assert recorder.containers[big].container_name == "big"
        await asyncio.to_thread(engine.restart_container, big)
        await asyncio.to_thread(engine.run, "late")
        await recorder.until(lambda: "late" in recorder.running())
        assert recorder.count("event_seen", "die") == 1
        assert recorder.count("disconnected") == 0


async def test_many_short_lives_end_in_the_truth(engine: Dockerd) -> None:
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        web = await asyncio.to_thread(engine.create, "web")
        for _ in range(5):
            await asyncio.to_thread(engine.start_container, web)
            await asyncio.to_thread(engine.kill_container, web)
        await recorder.until(lambda: recorder.count("container_died", web) == 5)
        await asyncio.sleep(0.1)
        assert recorder.running() == {}


async def test_comparison_without_a_difference_reports_nothing(engine: Dockerd) -> None:
    engine.create_network("frontend")
    web = engine.run("web", network="frontend", aliases=["www"], healthcheck=HEALTH)
    engine.create("stopped", network="frontend")
    async with watching(engine.socket_url, compare_every=1.0) as (recorder, _):
        await recorder.until_listed()
        await recorder.until(lambda: recorder.containers[web].health == "unhealthy")
        await recorder.until_compared()  # it may have found that before the event came
        before = recorder.count("container_changed"), recorder.count("networks_changed")
        await recorder.until_compared()
        assert recorder.count("resynced", "periodic") >= 2
        assert (recorder.count("container_changed"), recorder.count("networks_changed")) == before


@best_of_three
async def test_killed_engine_is_found_again_within_two_seconds(engine: Dockerd) -> None:
    engine.clear()
    async with watching(engine.socket_url) as (recorder, _):
        # The event of a start can outrun the first listing; without that, nothing is found again.
        await recorder.until_listed()
        web = await asyncio.to_thread(engine.run, "web", restart=True)
        await recorder.until(lambda: "web" in recorder.running())
        engine.kill()
        await recorder.until(lambda: recorder.count("disconnected"))
        await asyncio.sleep(2)
        assert recorder.count("container_removed", web) == 0
        assert recorder.count("container_died", web) == 0
        await asyncio.to_thread(engine.start)
        took = await recorder.until(lambda: recorder.count("resynced", "reconnect"))
        assert_within(took, 2)
        await recorder.until(
            lambda: has_address(recorder, "web", "bridge", engine.address(web) or "none yet")
        )


@best_of_three
async def test_engine_that_is_absent_at_the_start_is_found_when_it_comes(engine: Dockerd) -> None:
    engine.clear()
    engine.run("web", restart=True)
    engine.stop()
    try:
        async with watching(engine.socket_url) as (recorder, _):
            await recorder.until(lambda: recorder.count("disconnected"))
            [cause] = [a[0] for name, a, _ in recorder.calls if name == "disconnected"]
            assert "start Docker" in cause
            await asyncio.sleep(1.5)
            assert recorder.count("disconnected") == 1
            await asyncio.to_thread(engine.start)
            took = await recorder.until(lambda: recorder.count("resynced", "start"))
            await recorder.until(lambda: "web" in recorder.running())
            assert_within(took, 2)
    finally:
        if not engine.is_up:
            engine.start()


async def test_engine_that_was_stopped_for_a_while_goes_on(engine: Dockerd) -> None:
    """SIGSTOP: nothing is closed, nothing is answered."""
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
        os.kill(engine.pid, signal.SIGSTOP)
        await asyncio.sleep(3)
        os.kill(engine.pid, signal.SIGCONT)
        await asyncio.to_thread(engine.run, "web")
        await recorder.until(lambda: "web" in recorder.running())


async def test_cancelled_watcher_leaves_no_task_behind(engine: Dockerd) -> None:
    before: set[asyncio.Task[Any]] = asyncio.all_tasks()
    async with watching(engine.socket_url) as (recorder, _):
        await recorder.until_listed()
    assert asyncio.all_tasks() == before

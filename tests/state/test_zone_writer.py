"""The zone's writer: what it says about containers, and for how long."""

import asyncio
import logging
import time
from contextlib import suppress

import pytest

from containerdns.config.settings import load
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone.containers import Attachment, Container
from containerdns.core.zone.ownership import Act, Listing
from containerdns.core.zone.tracking import UNREAD
from containerdns.state.zone_writer import ZoneWriter, container_id_in

ENGINE = "unix:///engine.sock"


def a_keeper() -> ZoneWriter:
    counters = Counters()
    return ZoneWriter(load({"docker": [ENGINE]}, {}), counters, PacketCache(counters), frozenset())


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


def act(zone_writer: ZoneWriter, name: str) -> Act:
    """What is done about a name now."""
    return zone_writer.ownership.decide(name, messages.A, time.time()).act


def test_unknown_names_wait_while_a_listing_is_incomplete() -> None:
    """What a reconnect finds may have names that only its inspect tells."""
    zone_writer = a_keeper()
    zone_writer.container_changed(ENGINE, a_container("a" * 64, "web"), None)
    zone_writer.listed(ENGINE)
    unknown = ["alias.", "alias.docker.", "alias.localdomain."]
    assert Act.WAIT not in [act(zone_writer, name) for name in unknown]
    zone_writer.incomplete(ENGINE)
    assert [act(zone_writer, name) for name in unknown] == [Act.WAIT] * 3
    assert act(zone_writer, "web.localdomain.") is Act.ZONE
    assert act(zone_writer, "www.example.") is Act.FORWARD
    zone_writer.listed(ENGINE)
    assert Act.WAIT not in [act(zone_writer, name) for name in unknown]


def test_lost_engine_leaves_no_listing_incomplete() -> None:
    zone_writer = a_keeper()
    zone_writer.listed(ENGINE)
    zone_writer.incomplete(ENGINE)
    zone_writer.disconnected(ENGINE, "gone")
    asyncio.run(look_once(zone_writer))
    assert zone_writer.listing is Listing.COMPLETE


def test_name_of_an_unreadable_container_is_never_forwarded() -> None:
    zone_writer = a_keeper()
    unread = Container("a" * 64, "big", ENGINE, UNREAD)
    zone_writer.container_changed(ENGINE, unread, None)
    zone_writer.container_unreadable(ENGINE, unread.id, "big", "too long")
    zone_writer.listed(ENGINE)
    assert act(zone_writer, "big.localdomain.") is Act.NXDOMAIN
    assert zone_writer.inventory.unreadable[unread.id] == ("big", "too long")


async def look_once(zone_writer: ZoneWriter) -> None:
    """Let the zone_writer do once what it does every second."""
    task = asyncio.create_task(zone_writer.run())
    await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_lost_name_is_reported_once_for_each_container(caplog: pytest.LogCaptureFixture) -> None:
    """Jobs of one name follow each other; what was said about one goes with it."""

    async def run() -> list[int]:
        zone_writer = a_keeper()
        zone_writer.container_changed(ENGINE, a_container("a" * 64, "web"), None)
        zone_writer.listed(ENGINE)
        said = []
        for job in ("b" * 64, "c" * 64):
            for _ in range(2):  # not again with each look
                zone_writer.container_changed(ENGINE, a_container(job, "job", "web"), None)
                await look_once(zone_writer)
            said.append(caplog.text.count("job does not get the name web"))
            zone_writer.container_removed(ENGINE, job, None)
        return said

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(run()) == [1, 2]


CONTAINER_ID = "50dc7ca840c25797142914812def0c7b6f1dae8b2fd25e2fe7baea6deb3ec133"


async def test_change_is_logged_once_with_the_serial_that_includes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its names are in the zone at once, but a secondary gets them with the next serial."""
    caplog.set_level(logging.INFO)
    zone_writer = a_keeper()
    zone_writer.container_changed(ENGINE, a_container("a" * 64, "web"), None)
    assert zone_writer.zone.is_ahead
    await look_once(zone_writer)
    assert "zone docker." not in caplog.text
    zone_writer.tick(zone_writer.zone.serial + 1)
    for _ in range(3):
        await look_once(zone_writer)
    line = f"zone docker. serial {zone_writer.zone.serial}: 4 names, +4"
    assert [r.getMessage() for r in caplog.records if "zone docker." in r.getMessage()] == [line]


async def test_changes_that_go_on_are_logged_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A zone that is ahead of its serial whenever it is looked at."""
    caplog.set_level(logging.INFO)
    zone_writer = a_keeper()
    for number in range(4):
        zone_writer.container_changed(ENGINE, a_container(f"{number}" * 64, f"w{number}"), None)
        await look_once(zone_writer)
    assert caplog.text.count("zone docker. serial") == 2


@pytest.mark.parametrize(
    "mount",
    [
        "/docker/containers/{}/hostname /etc/hostname rw - ext4 /dev/vda1 rw",
        "/containers/storage/vfs-containers/{}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw",
        "/x/overlay-containers/{}/userdata/resolv.conf /etc/resolv.conf rw - tmpfs tmpfs rw",
    ],
    ids=["docker", "podman with vfs", "podman with overlay"],
)
def test_own_container_is_known_by_what_the_engine_mounts(mount: str) -> None:
    others = "24 1 254:1 / / rw - ext4 /dev/vda1 rw\n700 24 254:1 "
    assert container_id_in(others + mount.format(CONTAINER_ID)) == CONTAINER_ID


def test_mounts_of_other_containers_are_no_sign_of_our_own() -> None:
    """A server on the host sees the mounts of all containers."""
    folder = f"/run/containers/storage/vfs-containers/{CONTAINER_ID}/userdata/shm"
    assert container_id_in(f"9 1 0:44 / {folder} rw - tmpfs shm rw") == ""

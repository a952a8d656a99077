"""The files of --hosts: when they are read, and what one that cannot be read costs."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

from containerdns.config.settings import load
from containerdns.core.counters import Counters
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone.policy import Publication
from containerdns.state.hosts_files import MAX_FAULTS_LOGGED, HostsFiles
from containerdns.state.zone_writer import HOSTS_AT_ONCE, ZoneWriter


def read(files: HostsFiles, *paths: Path) -> dict[str, bool]:
    """What changes, by owner: True for what is there now."""
    loaded = files.load(paths)
    changes = [change for change in files.changes(loaded, paths, 5) if change]
    return {i.rpartition(":")[2]: isinstance(p, Publication) for i, p in changes}


def test_file_is_read_when_it_changes(tmp_path: Path) -> None:
    files, path = HostsFiles(), tmp_path / "hosts"
    path.write_text("192.0.2.1 a b\n")
    assert read(files, path) == {"a": True, "b": True}
    assert files.load((path,)) == []
    path.write_text("192.0.2.1 a\n192.0.2.2 c\n")
    changed = read(files, path)
    assert (changed["b"], changed["c"]) == (False, True)
    assert read(files) == {"a": False, "c": False}
    assert read(files, path) == {"a": True, "c": True}


def test_file_that_cannot_be_read_is_told_once_and_keeps_its_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, path = HostsFiles(), tmp_path / "hosts"
    path.write_text("192.0.2.1 a\n")
    read(files, path)
    aside = path.rename(tmp_path / "aside")
    assert (read(files, path), read(files, path)) == ({}, {})
    assert caplog.text.count("No such file or directory; keeping its previous records") == 1
    aside.rename(path)
    assert not any(read(files, path).values())  # as it was
    path.unlink()
    read(files, path)
    assert caplog.text.count("No such file") == 2


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_what_is_no_regular_file_is_not_read(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A FIFO without a writer, or /dev/zero, would never end."""
    path = tmp_path / kind
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            path = Path("/dev/zero")
    assert read(HostsFiles(), path) == {}
    assert "not a regular file; keeping its previous records" in caplog.text


def test_many_faults_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "hosts"
    path.write_text("no hosts file\n" * 1000)
    read(HostsFiles(), path)
    assert len(caplog.records) == MAX_FAULTS_LOGGED + 1
    assert caplog.records[-1].levelno == logging.WARNING
    assert "980 more errors" in caplog.text


def keeper_of(path: Path) -> ZoneWriter:
    options = {"docker": "unix:///run/docker.sock", "hosts": [str(path)]}
    return ZoneWriter(load(options, {}), Counters(), PacketCache(Counters()), frozenset())


def test_others_have_turns_while_a_large_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    lines = [f"10.0.{n >> 8}.{n & 255} host-{n}\n" for n in range(4000)]
    path.write_text("".join(lines))

    async def passes() -> int:
        reading = asyncio.ensure_future(zone_writer.follow_hosts())
        count = 0
        while not reading.done():
            await asyncio.sleep(0)
            count += 1
        return count

    zone_writer = keeper_of(path)
    changes = zone_writer.counters.zone_changes
    assert asyncio.run(passes()) > len(lines) / HOSTS_AT_ONCE / 4
    assert len(zone_writer.zone) == len(lines) + 1  # with the host's own name
    assert zone_writer.counters.zone_changes == changes + 1  # however many names it has


def test_a_small_change_is_told_to_secondaries_as_one(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.1 a\n")
    zone_writer = keeper_of(path)
    zone_writer.read_hosts()
    changes = zone_writer.counters.zone_changes
    path.write_text("192.0.2.1 a\n192.0.2.2 b\n192.0.2.3 c\n")
    asyncio.run(zone_writer.follow_hosts())
    assert zone_writer.counters.zone_changes == changes + 1


async def test_reload_while_a_file_is_being_read_reads_it_after_that(tmp_path: Path) -> None:
    """`systemctl reload` right after a change: the lines of both readings were counted."""
    path = tmp_path / "hosts"
    path.write_text("")
    zone_writer = keeper_of(path)
    zone_writer.read_hosts()
    last = f"hosts:{path}:host-1999"
    path.write_text("".join(f"192.0.2.1 host-{n}\n" for n in range(2000)))
    await asyncio.gather(zone_writer.follow_hosts(), zone_writer.publish_anew())
    assert zone_writer.zone.publication(last) is not None
    path.write_text("")
    await zone_writer.follow_hosts()
    assert zone_writer.zone.publication(last) is None

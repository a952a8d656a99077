"""Nothing but DNS can end DNS: a part that fails is logged, counted and restarted."""

import asyncio
import logging
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from containerdns.core.counters import Counters
from containerdns.errors import BadSettings
from containerdns.tasks.parts import (
    FIRST_PAUSE,
    MAX_PAUSE,
    STABLE_AFTER,
    Contained,
    Parts,
    Pauses,
)
from tests.engine.running import Client, free_port
from tests.timing import wait_until


class Broken:
    """A part that fails some times, then runs until it is cancelled."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.lives = 0
        self.works = asyncio.Event()

    async def run(self) -> None:
        self.lives += 1
        if self.lives <= self.failures:
            raise KeyError("web")
        self.works.set()
        await asyncio.get_running_loop().create_future()


def test_part_that_fails_is_restarted_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        counters = Counters()
        parts = Parts(counters, first_pause=0.001)
        part = Broken(2)
        keeping = asyncio.create_task(parts.keep("statistics", part.run))
        await asyncio.wait_for(part.works.wait(), 60)
        assert part.lives == 3
        assert counters.internal_errors == 2
        assert counters.part_restarts == {"statistics": 2}
        assert parts.failing == {"statistics": "KeyError: 'web'"}, "until it has run for a while"
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping

    asyncio.run(run())
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    assert "internal error in statistics; restarting it" in caplog.text


def test_group_of_tasks_that_fails_is_restarted() -> None:
    """A part may be a TaskGroup of its own, whose error is a group."""

    async def run() -> None:
        part = Broken(1)

        async def grouped() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(part.run())

        keeping = asyncio.create_task(Parts(Counters(), 0.001).keep("watcher", grouped))
        await asyncio.wait_for(part.works.wait(), 60)
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping

    asyncio.run(run())


def test_part_that_returns_is_not_restarted() -> None:
    async def run() -> None:
        lives = []

        async def once() -> None:
            lives.append(1)

        parts = Parts(Counters())
        await parts.keep("loop detection", once)
        assert (lives, parts.failing) == ([1], {})

    asyncio.run(run())


def test_fatal_error_is_raised() -> None:
    """An upstream that is ourselves stops the start."""

    async def loop() -> None:
        raise BadSettings("--upstream", "127.0.0.1", "another server")

    counters = Counters()
    with pytest.raises(BadSettings):
        asyncio.run(Parts(counters).keep("loop detection", loop, fatal=BadSettings))
    assert counters.internal_errors == 0


def test_pauses_grow_and_begin_anew_after_a_long_life() -> None:
    pauses = Pauses()
    given = [pauses.after(0.0) for _ in range(9)]
    assert given[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert given[-2:] == [MAX_PAUSE, MAX_PAUSE]
    assert pauses.after(STABLE_AFTER) == MAX_PAUSE, "it died each time within the last pause"
    assert pauses.after(MAX_PAUSE) == FIRST_PAUSE


def test_contained_error_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    with Contained(counters, "telling secondaries of a change"):
        raise ValueError("x")
    assert counters.internal_errors == 1
    assert caplog.records[0].levelno == logging.ERROR
    assert "internal error in telling secondaries of a change" in caplog.text


# On the whole server: a part of ours is replaced by one that fails.

BREAKAGES = {
    "statistics": "reports.Reports.count_on = broken",
    "housekeeping": "zone_writer.ZoneWriter.follow_hosts = broken",
    "systemd watchdog": "app.systemd.watchdog_interval = broken",
    "HTTP": "stream.Rates.run = broken_coroutine",
    "NOTIFY": "transfer.Notifier.run = broken_coroutine",
    "the watcher": "watcher.Watcher._watch = broken_coroutine",
    "a change for secondaries": "secondaries.Feed.changed = broken",
}
SERVER = """
    import sys
    from containerdns import app
    from containerdns.commands import cli
    from containerdns.state import reports, secondaries, zone_writer
    from containerdns.engine import watcher
    from containerdns.server import transfer
    from containerdns.web import stream

    def broken(*arguments, **more):
        raise KeyError("broken on purpose")

    async def broken_coroutine(*arguments, **more):
        raise KeyError("broken on purpose")

    {breakage}
    cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)
def test_server_answers_whatever_part_of_it_fails(breakage: str, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 printer\n")
    program = textwrap.dedent(SERVER).format(breakage=breakage)
    options = ["--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{free_port()}"]
    options += ["--docker", "unix:///nonexistent/socket", "--notify", "127.0.0.1:1"]
    options += ["--hosts", str(hosts)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", *options], stdout=errors, stderr=errors
        )
    try:
        wait_until(lambda: "broken on purpose" in log.read_text())
        client = Client(port)
        assert client.ask("docker", "SOA") is not None
        assert process.poll() is None, log.read_text()
        client.close()
    finally:
        process.terminate()
        process.wait(30)
    assert process.returncode == 0, log.read_text()

"""Calls in threads that nobody waits for at the end."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from containerdns.tasks.threads import in_thread
from tests.engine.running import Running
from tests.timing import wait_until

HANGS = """
import asyncio, threading
from containerdns.tasks.threads import in_thread

async def main():
    asyncio.create_task(in_thread(threading.Event().wait))
    await asyncio.sleep(0)

asyncio.run(main())
"""


async def test_call_returns_and_raises_where_it_is_waited_for() -> None:
    ours = threading.get_ident()
    assert await in_thread(threading.get_ident) != ours
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(lambda: int("x"))


async def test_call_that_is_waited_for_no_more_disturbs_nobody() -> None:
    may_end, ended = threading.Event(), threading.Event()

    def call() -> None:
        may_end.wait(30)
        ended.set()

    task = asyncio.create_task(in_thread(call))
    await asyncio.sleep(0)  # it begins
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_end.set()
    assert ended.wait(30)


def test_process_ends_while_a_call_hangs() -> None:
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=60)


def test_server_stops_while_its_configuration_cannot_be_read(tmp_path: Path) -> None:
    """It waited for the thread of the reload; a FIFO stands for a disk that hangs."""
    config = tmp_path / "containerdns.toml"
    config.write_text("ttl = 7\n")
    missing = f"unix://{tmp_path}/none.sock"
    with Running("--config", str(config), docker=missing, ready=False) as server:
        config.unlink()
        os.mkfifo(config)
        server.send_signal(signal.SIGHUP)
        threads = Path(f"/proc/{server.pid}/task")
        wait_until(lambda: len(list(threads.iterdir())) > 1)
        assert server.ask("ns.docker") is not None
        server.stop()

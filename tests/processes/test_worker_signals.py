"""Signals that a service manager or a terminal sends to all processes of a server."""

import os
import re
import signal
from pathlib import Path

from tests.engine.running import Running
from tests.timing import wait_until

WORKERS = 2


def ignored(pid: int) -> set[int]:
    """The signals that a process ignores."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^SigIgn:\s+(\w+)", status, re.MULTILINE)
    assert found is not None
    mask = int(found[1], 16)
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def workers_of(server: Running) -> list[int]:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def test_signals_to_all_processes_are_for_the_first_alone(tmp_path: Path) -> None:
    """`systemctl kill -s HUP` reloads, and drops no query of those that a worker has."""
    options = ("--workers", str(WORKERS), "--upstream", "127.0.0.1:9")
    with Running(*options, docker=f"unix://{tmp_path}/none.sock", ready=False) as server:
        wait_until(lambda: len(workers_of(server)) == WORKERS - 1)
        workers = workers_of(server)
        signals = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
        wait_until(lambda: all(signals <= ignored(pid) for pid in workers))
        for pid in workers:
            os.kill(pid, signal.SIGHUP)
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: "reload: done" in server.log())
        assert workers_of(server) == workers
        for pid in (*workers, server.pid):  # as Ctrl-C in a terminal
            os.kill(pid, signal.SIGINT)
        wait_until(lambda: "stopped" in server.log())
        assert "worker" not in server.log()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))

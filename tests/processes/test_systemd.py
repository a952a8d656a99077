"""What systemd is told (sd_notify(3)), by a server that runs as its unit runs it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engine.running import free_port

WATCHDOG = 0.4  # seconds
PATIENCE = 60.0  # seconds


@contextmanager
def serving(told: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """A server without Docker, whose supervisor listens on a socket."""
    command = [sys.executable, "-m", "containerdns", "serve", "--http", "off"]
    command += ["--listen", f"127.0.0.1:{free_port()}", "--docker", "unix:///nonexistent/socket"]
    environment = os.environ | {
        "NOTIFY_SOCKET": told.getsockname(),
        "WATCHDOG_USEC": str(int(WATCHDOG * 1e6)),
    }
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def test_systemd_hears_of_start_life_reload_and_stop(tmp_path: Path) -> None:
    """Ready before Docker is: names are SERVFAIL until then, others already work."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(PATIENCE)

        def until(wanted: str) -> list[str]:
            heard: list[str] = []
            while wanted not in heard:
                heard += told.recv(4096).decode().splitlines()
            return heard

        with serving(told) as process:
            assert "WATCHDOG=1" not in until("READY=1")
            for _ in range(3):
                until("WATCHDOG=1")
            process.send_signal(signal.SIGHUP)
            until("RELOADING=1")
            until("READY=1")
            process.send_signal(signal.SIGTERM)
            until("STOPPING=1")
            assert process.wait(PATIENCE) == 0

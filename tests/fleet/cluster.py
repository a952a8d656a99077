"""A real etcd for the tests, of one member."""

import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.clients.resolvers import lack
from tests.engine.running import free_port
from tests.timing import MAX_WAIT


class Cluster:
    """An etcd in a process of its own, with its data in a folder of its own.

    Attributes:
        url: What `--fleet` takes.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cdns-etcd-"))
        self._client, self._peer = free_port(), free_port()
        self.url = f"etcd://127.0.0.1:{self._client}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and return once it answers."""
        program = shutil.which("etcd") or lack("etcd is not installed")
        client, peer = f"http://127.0.0.1:{self._client}", f"http://127.0.0.1:{self._peer}"
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    *("--name", "one", "--data-dir", str(self._folder / "data")),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", f"one={peer}", "--logger", "zap"),
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + MAX_WAIT
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{client}/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text()[-2000:])

    def kill(self) -> None:
        """Kill it with SIGKILL; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

"""A bare follower of an Engine's events, in a process of its own.

    python -m tests.bench.following SOCKET

Writes "ready", then a line of "ACTION NAME HAPPENED ARRIVED" for each start and die: the
Engine's own time of it, and that of its arrival here, both in seconds since the epoch.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

FILTERS = quote(json.dumps({"type": ["container"], "event": ["start", "die"]}))
REQUEST = f"GET /events?filters={FILTERS} HTTP/1.1\r\nHost: docker\r\n\r\n".encode()
PATIENCE = 10.0  # seconds


@dataclass(frozen=True)
class Seen:
    """An event: what, of which container, when it happened and when it arrived."""

    action: str
    container_name: str
    happened: float
    arrived: float


class Follower:
    """That process, seen from the one that measures; what it writes waits in a file."""

    def __init__(self, engine_socket: Path) -> None:
        self._written = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        command = [sys.executable, "-m", "tests.bench.following", str(engine_socket)]
        self._process = subprocess.Popen(command, stdout=self._written)
        ends = time.monotonic() + PATIENCE
        while not self._lines() and time.monotonic() < ends:
            time.sleep(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._written.close()

    def seen(self) -> list[Seen]:
        """All that has arrived."""
        return [
            Seen(action, name, float(happened), float(arrived))
            for action, name, happened, arrived in map(str.split, self._lines()[1:])
        ]

    def _lines(self) -> list[str]:
        # By its number, as the file's place is that of the writer.
        return Path(f"/proc/self/fd/{self._written.fileno()}").read_text().splitlines()


def follow(engine_socket: str) -> Iterator[Seen]:
    """Give each event as it arrives."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(engine_socket)
        stream.sendall(REQUEST)
        rest = b""
        while octets := stream.recv(65536):
            arrived = time.time()
            *lines, rest = (rest + octets).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):  # the rest is the head, and the sizes of chunks
                    event = json.loads(line)
                    name = event["Actor"]["Attributes"]["name"]
                    yield Seen(event["Action"], name, event["timeNano"] / 1e9, arrived)


def main() -> None:
    """Follow until cancelled."""
    print("ready", flush=True)
    for seen in follow(sys.argv[1]):
        print(seen.action, seen.container_name, seen.happened, seen.arrived, flush=True)


if __name__ == "__main__":
    main()

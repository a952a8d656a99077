"""A bare follower of an Engine's events, in a process of its own.

    python -m tests.bench.following SOCKET [--relay SOCKET]

Writes "ready", then a line of "ACTION NAME HAPPENED ARRIVED" for each start and die: the
Engine's own time of it, and that of its arrival here, both in seconds since the epoch.

With `--relay` it stands between the Engine and its client, and passes everything on: it follows
the client's own stream.  An Engine writes an event to one stream after the other, and may do
other work in between.
"""

import argparse
import json
import selectors
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

ACTIONS = ["start", "die"]
FILTERS = quote(json.dumps({"type": ["container"], "event": ACTIONS}))
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

    def __init__(self, engine_socket: Path, relay_socket: Path | None = None) -> None:
        self._written = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        command = [sys.executable, "-m", "tests.bench.following", str(engine_socket)]
        command += ["--relay", str(relay_socket)] if relay_socket is not None else []
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
            yield from _seen_in(lines, arrived)


class Relay:
    """Passes on what clients of an Engine and the Engine say."""

    def __init__(self, engine_socket: str, relay_socket: str) -> None:
        self._engine_socket = engine_socket
        self._others: dict[socket.socket, socket.socket] = {}
        self._rest: dict[socket.socket, bytes] = {}  # of streams of events, by the Engine's side
        self._selector = selectors.DefaultSelector()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(relay_socket)
        self._listening.listen()
        self._selector.register(self._listening, selectors.EVENT_READ)

    def follow(self) -> Iterator[Seen]:
        """Give each event as it arrives, and pass it on."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listening:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._others:
                    yield from self._pass_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(self._engine_socket)
        self._others |= {client: engine, engine: client}
        for side in (client, engine):
            self._selector.register(side, selectors.EVENT_READ)

    def _pass_on(self, side: socket.socket) -> Iterator[Seen]:
        other = self._others[side]
        try:
            octets, arrived = side.recv(65536), time.time()
            other.sendall(octets)
        except ConnectionError:
            octets = b""
        if not octets:
            self._end(side, other)
        elif side in self._rest:
            *lines, self._rest[side] = (self._rest[side] + octets).split(b"\n")
            yield from _seen_in(lines, arrived)
        elif b"/events?" in octets and b"until=" not in octets:  # not a look at the past
            self._rest[other] = b""

    def _end(self, *sides: socket.socket) -> None:
        for side in sides:
            self._selector.unregister(side)
            del self._others[side]
            self._rest.pop(side, None)
            side.close()


def _seen_in(lines: list[bytes], arrived: float) -> Iterator[Seen]:
    for line in lines:
        event = json.loads(line) if line.startswith(b"{") else {}  # not a head or a chunk's size
        if event.get("Type") == "container" and event["Action"] in ACTIONS:
            name = event["Actor"]["Attributes"]["name"]
            yield Seen(event["Action"], name, event["timeNano"] / 1e9, arrived)


def main() -> None:
    """Follow until cancelled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("--relay")
    options = parser.parse_args()
    following = (
        Relay(options.socket, options.relay).follow() if options.relay else follow(options.socket)
    )
    print("ready", flush=True)
    for seen in following:
        print(seen.action, seen.container_name, seen.happened, seen.arrived, flush=True)


if __name__ == "__main__":
    main()

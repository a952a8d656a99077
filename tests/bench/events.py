"""From a Docker event to the right answer, on a real Engine, beside a bare follower.

    python -m tests.bench.events [--containers N] [--json FILE]

The follower reads the same stream and does nothing: what it is late by is the
Engine's and the machine's.  Times are from the Engine's own `timeNano`.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import docker
from dnslib import DNSRecord

from tests.engine.dockerd import Dockerd
from tests.engine.running import Client, RecordingUpstream, Running

POLL = 0.0002  # seconds between two questions
BURST = 50
PATIENCE = 30.0  # seconds


class Follower:
    """Reads the stream and notes when each event arrived, and when it says it was."""

    def __init__(self, url: str) -> None:
        self.happened: dict[tuple[str, str], float] = {}
        self.arrived: dict[tuple[str, str], float] = {}
        self._client = docker.APIClient(url, version="auto")
        filters = {"type": ["container"], "event": ["start", "die"]}
        self._stream = self._client.events(decode=True, filters=filters)
        threading.Thread(target=self._follow, daemon=True).start()

    def close(self) -> None:
        """Stop reading."""
        self._stream.close()
        self._client.close()

    def _follow(self) -> None:
        try:
            for event in self._stream:
                key = (event["Actor"]["Attributes"]["name"], event["Action"])
                self.arrived[key] = time.time()
                self.happened[key] = event["timeNano"] / 1e9
        except (OSError, ValueError):
            return


def main() -> None:
    """Measure, print a table, and write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.containers)
    for row in found:
        print("{what:28} p50 {p50:6.2f} ms   p95 {p95:6.2f} ms   p99 {p99:6.2f} ms".format(**row))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def measure(count: int) -> list[dict[str, Any]]:
    """One at a time, then a burst; each with what a bare follower sees."""
    engine, upstream = Dockerd(), RecordingUpstream()
    try:
        engine.set_up()
        engine.create_network("bench")
        follower = Follower(engine.socket_url)
        with Running(
            "--upstream", f"127.0.0.1:{upstream.port}", docker=engine.socket_url
        ) as server:
            rows = _one_at_a_time(engine, server, follower, count)
            rows += _burst(engine, server, follower)
        follower.close()
        return rows
    finally:
        upstream.close()
        engine.tear_down()


def _one_at_a_time(
    engine: Dockerd, server: Running, follower: Follower, count: int
) -> list[dict[str, Any]]:
    right: dict[str, float] = {}
    gone: dict[str, float] = {}
    for number in range(count):
        name = f"one-{number}"
        container = engine.create(name, network="bench")
        with _watching(server, name, True, right):
            engine.start_container(container)
        with _watching(server, name, False, gone):
            engine.remove(container)
    return [
        _row("start to answer", _late(right, follower.happened, "start")),
        _row("start, bare follower", _follower_late(follower, "one-", "start")),
        _row("die to withdrawal", _late(gone, follower.happened, "die")),
        _row("die, bare follower", _follower_late(follower, "one-", "die")),
    ]


def _burst(engine: Dockerd, server: Running, follower: Follower) -> list[dict[str, Any]]:
    right: dict[str, float] = {}
    names = [f"many-{number}" for number in range(BURST)]
    containers = [engine.create(name, network="bench") for name in names]
    starters = [
        threading.Thread(target=_start_some, args=(engine, containers[part::4]))
        for part in range(4)
    ]
    waiters = [_watching(server, name, True, right) for name in names]
    for waiter in waiters:
        waiter.__enter__()
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    for waiter in waiters:
        waiter.__exit__()
    return [
        _row(f"burst of {BURST}: start to answer", _late(right, follower.happened, "start")),
        _row("burst, bare follower", _follower_late(follower, "many-", "start")),
    ]


def _start_some(engine: Dockerd, containers: Iterable[str]) -> None:
    client = docker.APIClient(engine.socket_url, version="auto")
    for container in containers:
        client.start(container)
    client.close()


class _watching:  # noqa: N801 - read as a statement
    """Asks in a thread until a name is there, or is not, and notes when."""

    def __init__(self, server: Running, name: str, wanted: bool, noted: dict[str, float]) -> None:
        self._question = bytes(DNSRecord.question(f"{name}.docker").pack())
        self._client = Client(server.port)
        self._is_reached: Callable[[bytes], bool] = lambda r: (r[7] > 0) is wanted
        self._name, self._noted = name, noted
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._thread.join(PATIENCE)
        self._client.close()

    def _run(self) -> None:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._is_reached(self._client.ask_octets(self._question)):
                self._noted[self._name] = time.time()
                return
            time.sleep(POLL)


def _late(
    noted: dict[str, float], happened: dict[tuple[str, str], float], action: str
) -> list[float]:
    return [
        (when - happened[name, action]) * 1000
        for name, when in noted.items()
        if (name, action) in happened
    ]


def _follower_late(follower: Follower, prefix: str, action: str) -> list[float]:
    return [
        (when - follower.happened[key]) * 1000
        for key, when in follower.arrived.items()
        if key[0].startswith(prefix) and key[1] == action
    ]


def _row(what: str, times_ms: list[float]) -> dict[str, Any]:
    ordered = sorted(times_ms)
    place = [ordered[min(int(len(ordered) * part), len(ordered) - 1)] for part in (0.95, 0.99)]
    p50 = statistics.median(ordered)
    return {"what": what, "count": len(ordered), "p50": p50, "p95": place[0], "p99": place[1]}


if __name__ == "__main__":
    main()

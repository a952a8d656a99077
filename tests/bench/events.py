"""From a Docker event to the right answer, on a real Engine, beside a bare follower.

    python -m tests.bench.events [--containers N] [--json FILE]

The follower reads the same stream and does nothing: what it is late by is the
Engine's and the machine's.  Times are from the Engine's own `timeNano`.  Who asks and
who follows are processes of their own, as they would delay each other in one.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import docker

from tests import own_network
from tests.bench.asking import Asker
from tests.bench.following import Follower
from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running
from tests.left_behind import own_folder

BURST = 50
STARTERS = 4  # that start containers at once in a burst
CALM = 0.3  # seconds, in which the Engine ends what the last container left to do


def main() -> None:
    """Measure, print a table, and write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    own_network.enter()
    with own_folder():
        found = measure(options.containers)
    for row in found:
        print("{what:34} p50 {p50:6.2f} ms   p95 {p95:6.2f} ms   p99 {p99:6.2f} ms".format(**row))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def measure(count: int) -> list[dict[str, Any]]:
    """One at a time, then a burst; each with what a bare follower sees."""
    engine, upstream = Dockerd(), RecordingUpstream()
    try:
        engine.set_up()
        engine.create_network("bench")
        public = f"127.0.0.1:{upstream.port}"
        with (
            Running("--upstream", public, docker=engine.socket_url) as server,
            Follower(engine.socket) as follower,
            Asker(server.port) as asker,
        ):
            return [
                *_one_at_a_time(engine, asker, follower, count),
                *_burst(engine, asker, follower),
            ]
    finally:
        upstream.close()
        engine.tear_down()


def _one_at_a_time(
    engine: Dockerd, asker: Asker, follower: Follower, count: int
) -> list[dict[str, Any]]:
    right: dict[str, float] = {}
    gone: dict[str, float] = {}
    for number in range(count):
        name = f"one-{number}"
        container = engine.create(name, network="bench")
        asker.expect([name], there=True)
        engine.start_container(container)
        right |= asker.reached()
        time.sleep(CALM)
        asker.expect([name], there=False)
        engine.kill_container(container)
        gone |= asker.reached()
        engine.remove(container)
    return [
        *_rows("start", "start to answer", right, follower),
        *_rows("die", "die to withdrawal", gone, follower),
    ]


def _burst(engine: Dockerd, asker: Asker, follower: Follower) -> list[dict[str, Any]]:
    names = [f"many-{number}" for number in range(BURST)]
    containers = [engine.create(name, network="bench") for name in names]
    starters = [
        threading.Thread(target=_start_some, args=(engine, containers[part::STARTERS]))
        for part in range(STARTERS)
    ]
    asker.expect(names, there=True)
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    return _rows("start", f"burst of {BURST}: start to answer", asker.reached(), follower)


def _start_some(engine: Dockerd, containers: Iterable[str]) -> None:
    client = docker.APIClient(engine.socket_url, version="auto")
    for container in containers:
        client.start(container)
    client.close()


def _rows(
    action: str, what: str, reached: dict[str, float], follower: Follower
) -> list[dict[str, Any]]:
    """How late we were, how late the follower was, and how much later we were than it."""
    seen = [event for event in follower.seen() if event.action == action]
    events = [
        (event, reached[event.container_name]) for event in seen if event.container_name in reached
    ]
    return [
        _row(what, [when - event.happened for event, when in events]),
        _row(f"{what}, bare follower", [event.arrived - event.happened for event, _ in events]),
        _row(f"{what}, beyond it", [when - event.arrived for event, when in events]),
    ]


def _row(what: str, times: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds * 1000 for seconds in times)
    place = [ordered[min(int(len(ordered) * part), len(ordered) - 1)] for part in (0.95, 0.99)]
    p50 = statistics.median(ordered)
    return {"what": what, "count": len(ordered), "p50": p50, "p95": place[0], "p99": place[1]}


if __name__ == "__main__":
    main()

"""From a Docker event to the right answer, on a real Engine, beside a bare follower.

    python -m tests.bench.events [--containers N] [--json FILE]

The follower does nothing but pass on the server's own stream: what it is late by is the
Engine's and the machine's.  Another one has a stream of its own: by how much the two differ is
what an Engine makes of equal followers.  Times are from the Engine's own `timeNano`.  Who asks
and who follows are processes of their own, as they would delay each other in one.

The Engine has a core of its own.  When a container ends, Docker looks through the whole table of
tracked connections, in one system call that takes 13 ms with 262,144 buckets.  On a kernel
without preemption (PREEMPT_NONE) other processes on that core wait for its end, and Docker
itself, if it has no other core, has written the event to some streams before it and to others
after it.
"""

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import docker

from tests import own_network
from tests.bench.asking import Asker
from tests.bench.following import Follower, Seen
from tests.bench.peers import CLIENT_CPU, SERVER_CPU
from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running
from tests.left_behind import own_folder

BURST = 50
STARTERS = 4  # that start containers at once in a burst
Followers = tuple[Follower, Follower]
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
    """One at a time, then a burst; each with what bare followers see."""
    _run_on(CLIENT_CPU)  # those that are started inherit it
    engine, upstream = Dockerd(), RecordingUpstream()
    try:
        engine.set_up()
        engine.create_network("bench")
        public = f"127.0.0.1:{upstream.port}"
        _run_on(SERVER_CPU)
        relay = engine.root / "relay.sock"
        with (
            Follower(engine.socket, relay) as ours,
            Follower(engine.socket) as other,
            Running("--upstream", public, docker=f"unix://{relay}") as server,
            Asker(server.port) as asker,
        ):
            _run_on(CLIENT_CPU)
            followers = ours, other
            return [
                *_one_at_a_time(engine, asker, followers, count),
                *_burst(engine, asker, followers),
            ]
    finally:
        upstream.close()
        engine.tear_down()


def _run_on(cpu: str) -> None:
    """Run on one core from now on, if there are several."""
    if int(cpu) < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {int(cpu)})


def _one_at_a_time(
    engine: Dockerd, asker: Asker, followers: Followers, count: int
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
        *_rows("start", "start to answer", right, followers),
        *_rows("die", "die to withdrawal", gone, followers),
    ]


def _burst(engine: Dockerd, asker: Asker, followers: Followers) -> list[dict[str, Any]]:
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
    return _rows("start", f"burst of {BURST}: start to answer", asker.reached(), followers)


def _start_some(engine: Dockerd, containers: Iterable[str]) -> None:
    client = docker.APIClient(engine.socket_url, version="auto")
    for container in containers:
        client.start(container)
    client.close()


def _rows(
    action: str, what: str, reached: dict[str, float], followers: Followers
) -> list[dict[str, Any]]:
    """How late we were, how late a follower was, and how much later we and another were than it."""
    ours, other = (_seen(action, follower) for follower in followers)
    names = [name for name in ours if name in reached and name in other]
    return [
        _row(what, [reached[name] - ours[name].happened for name in names]),
        _row(f"{what}, bare follower", [_lateness(ours[name]) for name in names]),
        _row(f"{what}, beyond it", [reached[name] - ours[name].arrived for name in names]),
        _row(
            f"{what}, another follower beyond it",
            [abs(other[name].arrived - ours[name].arrived) for name in names],
        ),
    ]


def _seen(action: str, follower: Follower) -> dict[str, Seen]:
    """The events of one kind that a follower saw, by the container's name."""
    return {seen.container_name: seen for seen in follower.seen() if seen.action == action}


def _lateness(seen: Seen) -> float:
    return seen.arrived - seen.happened


def _row(what: str, times: list[float]) -> dict[str, Any]:
    ordered = sorted(seconds * 1000 for seconds in times)
    place = [ordered[min(int(len(ordered) * part), len(ordered) - 1)] for part in (0.95, 0.99)]
    p50 = statistics.median(ordered)
    return {"what": what, "count": len(ordered), "p50": p50, "p95": place[0], "p99": place[1]}


if __name__ == "__main__":
    main()

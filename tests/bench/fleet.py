"""A fleet on a real etcd: how soon hosts know of each other, and what it costs.

    python -m tests.bench.fleet [--hosts 100] [--json FILE]

Needs etcd and dnsperf.  Servers are real, their Engines simulated; further hosts are written to
etcd by this program, through the same gateway and with documents of the same kind.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from containerdns.core.zone.fleet import Host, document_of
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress, Rank
from containerdns.fleet.etcd import Etcd
from tests.bench.asking import Asker
from tests.bench.forward import Server, load
from tests.bench.peers import cpu_seconds
from tests.engine.running import RecordingUpstream, Running
from tests.fleet.cluster import Cluster
from tests.fleet.running import Engine, simulated

PREFIX = "/containerdns/v1/"
LEASE = 10  # seconds, the default
ROUNDS = 60
SECONDS = 20.0  # of load
AWAY = 60.0  # seconds that etcd is dead
CHANGES = 50  # a second
PATIENCE = 120.0  # seconds
PAGE = os.sysconf("SC_PAGE_SIZE")

Row = dict[str, Any]
Written = tuple[Etcd, list[int]]


def main() -> None:
    """Measure, print what was found, and write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(PARTS), action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [row for name in options.only or PARTS for row in PARTS[name]()]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def tell(what: str, **values: float | str) -> Row:
    """Print a row of what was found, and give it."""
    shown = (f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
    print(f"{what:52}", ", ".join(shown), flush=True)
    return {"what": what, **values}


def of_fleet(cluster: Cluster, host: str, *more: str) -> tuple[str, ...]:
    return ("--fleet", cluster.url, "--fleet-host", host, "--handover", "0", *more)


@contextlib.contextmanager
def two() -> Iterator[tuple[Cluster, Engine, Engine]]:
    """An etcd and two Engines."""
    with (
        tempfile.TemporaryDirectory() as name,
        Cluster() as cluster,
        simulated(Path(name), "a") as a,
        simulated(Path(name), "b") as b,
    ):
        yield cluster, a, b


def latency() -> Iterator[Row]:
    """From the Engine's own event time on one host to the answer of the other."""
    with (
        two() as (cluster, a, b),
        Running(*of_fleet(cluster, "a"), docker=a.url),
        Running(*of_fleet(cluster, "b"), docker=b.url) as second,
        Asker(second.port) as asker,
    ):
        start, die = [], []
        for number in range(ROUNDS):
            name = f"bench{number}"
            asker.expect([name], there=True)
            time.sleep(0.1)
            container = a.add(name, address=f"10.1.0.{number + 1}")
            start.append(asker.reached()[name] - a.event_time("start"))
            asker.expect([name], there=False)
            time.sleep(0.1)
            a.remove(container)
            die.append(asker.reached()[name] - a.event_time("die"))
        bare = asyncio.run(_bare(cluster))
    for what, times in (
        ("start on A, right at B", start),
        ("die on A, gone at B", die),
        ("a bare put, seen by a watch", bare),
    ):
        yield tell(what, p50_ms=share(times, 0.5) * 1e3, p95_ms=share(times, 0.95) * 1e3)


async def _bare(cluster: Cluster) -> list[float]:
    """What etcd and its gateway take of that: puts of a like document, until a watch sees them."""
    writing, reading = Etcd([cluster.url], None), Etcd([cluster.url], None)
    lease, (_, value) = await writing.grant(LEASE), publication(1, 1)
    seen: asyncio.Queue[float] = asyncio.Queue()

    async def watch(revision: int) -> None:
        async for changes in reading.watch("/bare/", revision, 1.0):
            if changes.values:
                seen.put_nowait(time.time())

    following = asyncio.create_task(watch((await reading.list("/bare/")).revision + 1))
    found = []
    for number in range(ROUNDS + 1):
        await asyncio.sleep(0.1)
        began = time.time()
        await writing.put(f"/bare/{number}", value, lease)
        found.append(await seen.get() - began)
    following.cancel()
    await asyncio.wait([following])
    await writing.close()
    await reading.close()
    return found[1:]  # the first one waits for connections


def share(times: list[float], part: float) -> float:
    return sorted(times)[min(int(part * len(times)), len(times) - 1)]


def killed() -> Iterator[Row]:
    """A host dies; and etcd dies for a minute."""
    upstream = RecordingUpstream()
    forwarding = ("--upstream", f"127.0.0.1:{upstream.port}")
    with (
        two() as (cluster, a, b),
        Running(*of_fleet(cluster, "b", *forwarding), docker=b.url) as second,
    ):
        a.add("web", address="10.1.0.1")
        b.add("own", address="10.2.0.1")
        with Running(*of_fleet(cluster, "a"), docker=a.url) as first:
            until(lambda: second.addresses("web.docker") == ["10.1.0.1"])
            yield from _without_etcd(cluster, a, b, second)
            first.kill()
            began = time.monotonic()
            until(lambda: second.rcode("web.localdomain") == "NXDOMAIN" and not _has(second, "web"))
            took = time.monotonic() - began
            leaked = sum("web" in name for name in upstream.names())
            yield tell("host killed, out of every answer", seconds=took, leaked=float(leaked))
    upstream.close()


def _has(server: Running, name: str) -> bool:
    return bool(server.addresses(f"{name}.docker"))


def _without_etcd(cluster: Cluster, a: Engine, b: Engine, second: Running) -> Iterator[Row]:
    cluster.kill()
    ends, wrong, asked, number = time.monotonic() + AWAY, 0, 0, 0
    while time.monotonic() < ends:
        number += 1
        container = b.add(f"own{number}", address="10.2.0.9")
        until(lambda n=number: _has(second, f"own{n}"))  # type: ignore[misc]
        b.remove(container)
        until(lambda n=number: not _has(second, f"own{n}"))  # type: ignore[misc]
        asked += 2
        wrong += not (_has(second, "web") and _has(second, "own"))
        time.sleep(0.2)
    a.add("late", address="10.1.0.2")
    cluster.start()
    began = time.monotonic()
    until(lambda: _has(second, "late"))
    took = time.monotonic() - began
    gone = second.log().count("is gone")
    yield tell(
        f"etcd dead for {AWAY:.0f} s", changes_of_own_host=float(asked), withdrawn=float(wrong),
        hosts_gone=float(gone), whole_after_s=took,
    )  # fmt: skip


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    ends = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.01)


# -- simulated hosts ------------------------------------------------------------------------------


def publication(host: int, number: int, turn: int = 0) -> tuple[str, str]:
    """The id and the document of a container."""
    container_id = f"{host:08x}{number:056x}"
    name = f"web{number}-{host}"
    owners = (name, container_id[:12], f"service{number}.project{host}", f"{name}.host{host}")
    made = Publication(
        container_id,
        name,
        claims=tuple(Claim(o, Rank.DERIVED, "container name", container_id) for o in owners),
        addresses=(
            PublishedAddress(f"10.{host % 250}.{number}.{turn % 250 + 1}", "front", f"n{host}"),
        ),
        pointers=(f"10.{host % 250}.{number}.{turn % 250 + 1}",),
    )
    return container_id, json.dumps(document_of(made, None))


@contextlib.asynccontextmanager
async def hosts(cluster: Cluster, count: int, containers: int) -> AsyncIterator[Written]:
    """Hosts with containers, whose leases are renewed: etcd, and the leases."""
    etcd = Etcd([cluster.url], None)
    leases: list[int] = []

    async def renew() -> None:
        while True:
            for lease in leases:
                await etcd.renew(lease)
                await asyncio.sleep(LEASE / 3 / count * 0.8)
            await asyncio.sleep(0.1)

    renewing = asyncio.create_task(renew())
    try:
        for number in range(count):
            lease = await etcd.grant(LEASE)
            leases.append(lease)
            base = f"{PREFIX}host{number}/"
            address = f"10.{number % 250}.0.1"
            host = Host(f"host{number}", (address,), (f"10.{number % 250}.{number // 250}.0/24",))
            documents = dict(publication(number, n) for n in range(containers))
            batch = {f"{base}c/{key}": value for key, value in documents.items()}
            await etcd.write({f"{base}host": json.dumps(host.document()), **batch}, lease)
        yield etcd, leases
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        await etcd.close()


def octets(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def busy() -> Iterator[Row]:
    """100 hosts of 50 containers, 50 changes a second, three servers."""
    with two() as (cluster, a, _), contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(Running(*of_fleet(cluster, host), docker=a.url)) for host in "abc"
        ]
        found = asyncio.run(_busy(cluster, servers))
        yield tell("100 hosts x 50, 50 changes/s: etcd", **found.pop(-1))
        for number, values in found.items():
            yield tell(f"100 hosts x 50, 50 changes/s: server {number + 1}", **values)


async def _busy(cluster: Cluster, servers: list[Running]) -> dict[int, Row]:
    async with hosts(cluster, 100, 50) as (etcd, leases):
        knows = [asyncio.to_thread(until, lambda s=s: _alive(s) >= 100) for s in servers]  # type: ignore[misc]
        await asyncio.gather(*knows)
        await asyncio.sleep(5)
        pids = {-1: cluster.pid} | {n: server.pid for n, server in enumerate(servers)}
        before = {n: cpu_seconds(pid) for n, pid in pids.items()}
        began = time.monotonic()
        turn = 0
        while (passed := time.monotonic() - began) < SECONDS:
            turn += 1
            host, number = random.randrange(100), random.randrange(50)
            key, value = publication(host, number, turn)
            await etcd.put(f"{PREFIX}host{host}/c/{key}", value, leases[host])
            await asyncio.sleep(max(turn / CHANGES - passed, 0))
        took = time.monotonic() - began
        return {
            n: {
                "cpu_percent": (cpu_seconds(pid) - before[n]) / took * 100,
                "megabytes": octets(pid) / 1e6,
                "changes_per_second": turn / took,
            }
            for n, pid in pids.items()
        }


def _alive(server: Running) -> float:
    return server.metric("fleet_hosts", state="alive")


def many() -> Iterator[Row]:
    """1,000 hosts of 20 containers: etcd's CPU, and how long a new server takes."""
    with two() as (cluster, a, _):
        yield from asyncio.run(_many(cluster, a))


async def _many(cluster: Cluster, a: Engine) -> list[Row]:
    async with hosts(cluster, 1000, 20):
        await asyncio.sleep(2)
        before, began = cpu_seconds(cluster.pid), time.monotonic()
        await asyncio.sleep(SECONDS)
        used = (cpu_seconds(cluster.pid) - before) / (time.monotonic() - began) * 100

        def start() -> tuple[float, int]:
            begun = time.monotonic()
            with Running(*of_fleet(cluster, "a"), docker=a.url, ready=False) as server:
                until(lambda: _has(server, "web19-999"))  # the last one; /metrics would cost much
                took = time.monotonic() - begun
                assert _alive(server) >= 1000
                return took, octets(server.pid)

        took, resident = await asyncio.to_thread(start)
        return [
            tell("1,000 hosts x 20, lease 10 s: etcd", cpu_percent=used),
            tell("a new server, complete after", seconds=took, megabytes=resident / 1e6),
        ]


def throughput() -> Iterator[Row]:
    """Queries per second for an own name, with 5,000 remote names beside and with none.

    Also queries per second of CPU, which tells the servers from what else the machine does.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Cluster() as full,
        Cluster() as empty,
        simulated(Path(folder), "x") as x,
        simulated(Path(folder), "y") as y,
        Running(*of_fleet(full, "a"), docker=x.url) as loaded,
        Running(*of_fleet(empty, "a"), docker=y.url) as bare,
    ):
        queries = Path(folder) / "queries"
        queries.write_text("web.docker A\n")
        for engine in (x, y):
            engine.add("web", address="10.9.9.9")

        async def measure() -> list[tuple[float, float]]:
            async with hosts(full, 100, 50):
                await asyncio.to_thread(until, lambda: _alive(loaded) >= 100)
                await asyncio.sleep(3)
                return await asyncio.to_thread(ratios)

        def ratios() -> list[tuple[float, float]]:
            found = []
            for turn in range(7):
                pair = (loaded, bare) if turn % 2 else (bare, loaded)
                rates = {
                    s.port: load(Server("ours", s.port, s.pid), queries, 100_000) for s in pair
                }
                (rate, cpu), (bare_rate, bare_cpu) = rates[loaded.port], rates[bare.port]
                found.append((rate / bare_rate, bare_cpu / cpu))
            return found

        ratio, of_cpu = map(statistics.median, zip(*asyncio.run(measure()), strict=True))
        yield tell("queries per second, 5,000 remote names beside 0", ratio=ratio, of_cpu=of_cpu)


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "latency": latency,
    "killed": killed,
    "busy": busy,
    "many": many,
    "throughput": throughput,
}


if __name__ == "__main__":
    main()

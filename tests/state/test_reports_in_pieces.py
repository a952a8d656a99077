"""What HTTP shows of a large zone is made in pieces, each so small that no query waits for it.

The steps of a piece are counted, not its time, so that a busy machine says the same.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol.query_history import History
from containerdns.core.zone import records, zone_dump
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress, Rank
from containerdns.core.zone.zone import Loss
from containerdns.state.reports import Reports
from containerdns.tasks.turns import Turns
from containerdns.upstream.forwarder import Forwarder, UpstreamStatus
from containerdns.web.metrics import Metrics
from containerdns.web.stream import json_pieces
from tests.fuzz.worlds import World
from tests.reading_zones import in_zone
from tests.steps import MAX_STEPS, most_steps

COUNT = 600  # containers
OPTIONS: dict[str, object] = {"search-domain": ["corp.example"], "domain": ["docker"]}


def container(number: int, **changes: Any) -> Publication:
    """One of many containers that share an alias, with names of its own."""
    own = f"{number:064x}"
    claims = (
        Claim(f"web{number}", Rank.CONTAINER, "container name", own, is_asked_for=True),
        Claim("many", Rank.DERIVED, "alias", own),
        Claim(f"{number}.many", Rank.DERIVED, "Compose", own),
    )
    address = PublishedAddress(f"10.0.{number >> 8}.{number & 255}", "net", "net")
    made = Publication(
        own,
        f"web{number}",
        claims=claims,
        addresses=(address,),
        texts={"key": (f"text {number}",)},
        services={"_http._tcp": (80,)},
    )
    return replace(made, **changes)


def put(world: World, *publications: Publication) -> None:
    world.writer.change([(p.id, p) for p in publications], time.time())


class Listening:
    """DNS sockets, none of which is open."""

    endpoints: Sequence[Endpoint] = ()

    def tally_in_pieces(self) -> Iterator[None]:
        return iter(())


@pytest.fixture(scope="module")
def world() -> World:
    made = World(**OPTIONS)
    put(made, *map(container, range(1, COUNT)))
    for number in range(3000):
        made.writer.zone.remembered.put(f"gone{number}", time.time() + 1000)
    return made


class Idle(Forwarder):
    """A forwarder that has not begun."""

    def status(self) -> list[UpstreamStatus]:
        return []


def reports_of(world: World) -> Reports:
    writer = world.writer
    forwarder = Idle(writer.settings.upstream, writer.counters, lambda _: False)
    return Reports(writer, forwarder, History(9), Listening(), {})


@pytest.fixture(scope="module")
def reports(world: World) -> Reports:
    return reports_of(world)


def test_no_piece_of_a_large_zone_takes_long(reports: Reports) -> None:
    lines = reports.zone_text(None, None)
    assert lines is not None
    assert most_steps(lines) < MAX_STEPS
    document = reports.zone_json(None, None)
    assert document is not None
    assert most_steps(json_pieces(document)) < MAX_STEPS


def test_status_is_made_without_a_look_at_each_container() -> None:
    """Each open page has it sent every second; this took 4 to 12 ms with 10,000 containers."""
    made = World(**OPTIONS)
    put(made, *map(container, range(1, COUNT)))
    put(made, container(COUNT, skipped="label", is_running=False))
    reports = reports_of(made)
    reports.status()  # looks up the version of the package, once
    assert most_steps(reports.status() for _ in range(3)) < COUNT
    assert reports.status()["counts"]["skipped"] == 1
    put(made, container(COUNT))
    assert reports.status()["counts"]["skipped"] == 0


@pytest.mark.parametrize("name", ["nosuch", "web7", "many", "key.many", "x.y.z.docker."])
def test_one_name_of_a_large_zone_is_looked_up(reports: Reports, name: str) -> None:
    """A request for a name that does not exist went through the whole zone in one piece."""
    document = reports.zone_json(None, name)
    assert document is not None
    assert most_steps(json_pieces(document)) < MAX_STEPS
    lines = reports.zone_text(None, name)
    assert lines is not None
    assert most_steps(lines) < MAX_STEPS


def test_containers_that_share_a_name_are_shown_in_small_pieces(reports: Reports) -> None:
    """Each of them was shown with a look at all others."""
    assert most_steps(json_pieces(reports.containers())) < MAX_STEPS


@pytest.mark.parametrize(
    "name", ["many", "key.many", "_http._tcp.many", "7.many", "web7", "docker."]
)
def test_dump_of_a_name_is_that_part_of_the_whole(world: World, name: str) -> None:
    zone, view = world.writer.zone, world.writer.neutral_view(())
    for suffix in reports_of(world)._suffixes():
        wanted = name if name.endswith(".") else suffix.name_of(name)
        whole = [r for r in zone_dump.dump(zone, suffix, view) if r and r.name == wanted]
        named = [r for r in zone_dump.dump_name(zone, wanted, suffix, view) if r]
        assert sorted(whole) == sorted(named)
        plain = [r for r in in_zone(zone, suffix, view) if r.name == wanted]
        assert {r.rr() for r in whole} == {r.rr() for r in plain}


def test_worse_and_equal_addresses_are_left_out_of_a_dump_as_of_answers() -> None:
    made = World(**OPTIONS)
    put(made, *(container(n, is_healthy=n % 2 == 0, ttl=5 + n % 7) for n in range(1, COUNT)))
    put(
        made, container(COUNT, addresses=container(2).addresses), container(COUNT + 1, cname="a.b.")
    )
    zone, view = made.writer.zone, made.writer.neutral_view(())
    for suffix in reports_of(made)._suffixes():
        dumped = [r.rr() for r in zone_dump.dump(zone, suffix, view) if r]
        assert len(dumped) == len(set(dumped))
        assert set(dumped) == {r.rr() for r in in_zone(zone, suffix, view)}


def test_master_file_has_as_many_records_of_a_name_as_bind_loads(reports: Reports) -> None:
    text = [line for line in reports.zone_text(None, None) or () if line]
    shared = [line for line in text if line.startswith("many.docker.\t") and "\tA\t" in line]
    assert len(shared) == records.MAX_OF_TYPE
    more = COUNT - 1 - records.MAX_OF_TYPE
    assert any(f"{more} more A records of many.docker." in line for line in text)


def test_zone_may_change_while_its_losses_are_listed() -> None:
    """Losers that go, and more that come, ended the response with an internal error."""
    made = World(**OPTIONS)
    put(made, *map(container, range(1, 60)))
    own = "f" * 64
    winner = Claim("many", Rank.CONTAINER, "container name", own, is_asked_for=True)
    put(made, Publication(own, "many", claims=(winner,)))
    listed = made.writer.zone.losses()
    assert next(listed) == Loss("many", "web1", "many", "alias", container(1).id)
    gone = container(2).id
    made.writer.change([(gone, None)], time.time())
    put(made, container(77))
    assert gone not in {loss.loser_id for loss in listed}


@pytest.mark.parametrize("change", ["comes", "goes", "winner goes"])
def test_change_of_one_of_many_that_share_a_name_costs_what_it_is(change: str) -> None:
    """Also while the name is held back from all of them, as its holder left (handover)."""

    def cost(count: int) -> int:
        made = World(**OPTIONS)
        put(made, *map(container, range(1, count)))
        own = "f" * 64
        winner = Claim("many", Rank.CONTAINER, "container name", own, is_asked_for=True)
        put(made, Publication(own, "many", claims=(winner,)))
        if change == "winner goes":
            return most_steps(_step(lambda: made.writer.change([(own, None)], time.time())))
        made.writer.change([(own, None)], time.time())
        assert made.writer.zone.handovers.of("many")
        changed = (
            [(container(9).id, None)]
            if change == "goes"
            else [(container(count).id, container(count))]
        )
        return most_steps(_step(lambda: made.writer.change(changed, time.time())))

    assert cost(1000) < cost(50) + 1000  # a look at each of them costs 5,000


def _step(call: Any) -> Iterator[None]:
    call()
    yield None


def test_metrics_of_many_containers_are_made_in_small_pieces(world: World) -> None:
    """A scrape counted everything and rendered it in one stretch of 3 to 8 ms."""
    made = reports_of(world)
    made._forwarder.status = list  # type: ignore[method-assign]  # it does not run
    pieces, _ = Metrics(Counters(), made.gauges).exposition("text/plain")
    assert most_steps(pieces) < MAX_STEPS


async def test_long_name_with_many_search_domains_is_explained_in_pieces(world: World) -> None:
    """All names of the search list were decoded in the first piece."""
    writer = world.writer
    forwarder = Forwarder(writer.settings.upstream, writer.counters, lambda _: False)
    running = asyncio.ensure_future(forwarder.run())
    await forwarder.has_started.wait()
    reports = Reports(writer, forwarder, History(9), Listening(), {})
    search = tuple(f"s{number}.example" for number in range(16))
    steps = [0]

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "call" and frame.f_code is Turns.offer.__code__:
            steps.append(0)
        steps[-1] += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        document = await reports.explain(".".join("a" * 100), "A", "127.0.0.1", search)
    finally:
        sys.settrace(before)
        running.cancel()
    assert len(document["queries"]) == len(search) + 1
    assert max(steps) < MAX_STEPS

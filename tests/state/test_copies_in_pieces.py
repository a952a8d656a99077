"""Copies of a large zone for secondaries are made in pieces, and are the same everywhere."""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from containerdns.core.protocol.messages import RR
from containerdns.core.zone import records
from containerdns.core.zone.policy import Publication, PublishedAddress
from containerdns.core.zone.secondary_copies import Copy, Seen
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Suffix, SuffixKind
from containerdns.state.secondaries import ZoneSource
from tests.fuzz.generating import ENGINE
from tests.fuzz.worlds import World
from tests.state.test_reports_in_pieces import COUNT, OPTIONS, container, put
from tests.steps import MAX_STEPS, most_steps

DOCKER = Suffix("docker.", SuffixKind.DOMAIN)
NOBODY = View(True, True, True, False, frozenset(), ("192.0.2.1",), ("192.0.2.1",))


def world_of(publications: Sequence[Publication]) -> World:
    world = World(**OPTIONS)
    put(world, *publications)
    return world


def copy_of(world: World) -> Copy:
    return Copy(ZoneSource(world.writer.zone, DOCKER, NOBODY))


def read(copy: Copy) -> Iterator[None]:
    """Bring a copy up to date, piece by piece."""
    while copy.advance():
        yield
    cut = copy.cut()
    yield
    if cut is not None:
        seen: dict[str, Seen] = {}
        yield from cut.work_out(seen)
        assert copy.paste(cut, seen)


def held(world: World) -> set[RR]:
    copy = copy_of(world)
    for _ in read(copy):
        pass
    return set(copy.records())


def test_no_piece_of_a_copy_takes_long() -> None:
    """Replicas have names below the one that they share: all were rendered in one stretch."""
    world = world_of([container(number) for number in range(1, COUNT)])
    assert records.is_large(world.writer.zone, "many.docker.", DOCKER)
    assert most_steps(read(copy_of(world))) < 2 * MAX_STEPS  # a hundred records at once


def sharing(number: int) -> Publication:
    """A container without a name below the one that all share."""
    made = container(number)
    return replace(made, claims=made.claims[:2])


def test_cut_costs_the_same_however_many_share_a_name() -> None:
    """It happens when the serial grows, in one stretch; each holder was looked at."""

    def cost(count: int) -> int:
        world = world_of([sharing(number) for number in range(1, count)])
        copy = copy_of(world)
        for _ in read(copy):
            pass
        put(world, sharing(count))
        while copy.advance():
            pass
        return most_steps(_step(copy.cut))

    assert cost(1500) < cost(150) + 500


def _step(call: Callable[[], object]) -> Iterator[None]:
    call()
    yield


def test_copy_is_the_zone_at_the_cut_whatever_happens_meanwhile() -> None:
    made = [container(number) for number in range(1, COUNT)]
    world = world_of(made)
    expected = held(world)
    copy = copy_of(world)
    while copy.advance():
        pass
    cut = copy.cut()
    assert cut is not None
    seen: dict[str, Seen] = {}
    for number, _ in enumerate(cut.work_out(seen), 1):
        world.writer.change([(container(number).id, None)], time.time())
        put(world, container(number + 3, texts={"key": ("other",)}))
    assert copy.paste(cut, seen)
    assert set(copy.records()) == expected


@pytest.mark.parametrize("count", [records.MANY_HOLDERS // 2 + 1, COUNT], ids=["some", "very many"])
def test_copy_does_not_depend_on_the_order_in_which_containers_came(count: int) -> None:
    """Workers and servers of a fleet learn of them in other orders, under the same serial."""
    made = [
        container(number, addresses=_two_addresses(container(number))) for number in range(1, count)
    ]
    expected = held(world_of(made))
    random.Random(7).shuffle(made)
    world = world_of([*made, container(count)])
    world.writer.change([(container(count).id, None)], time.time())
    assert held(world) == expected


def _two_addresses(publication: Publication) -> tuple[PublishedAddress, ...]:
    [address] = publication.addresses
    return address, address._replace(text=address.text.replace("10.0.", "10.1."))


def test_first_listing_is_followed_by_no_collection_over_the_whole_zone() -> None:
    """It held up all queries for 60 ms with 3,000 containers."""
    world = World(**OPTIONS)
    world.writer.engines[ENGINE].last_sync = 0.0
    collected: list[str] = []
    threshold = gc.get_threshold()
    gc.disable()
    gc.set_threshold(20_000, 20, 100)
    gc.callbacks.append(lambda phase, _: collected.append(phase))
    try:
        put(world, *(container(number) for number in range(1, 4 * COUNT)))
        assert gc.get_count()[0] > 20_000
        world.writer.listed(ENGINE)
        assert gc.isenabled()
    finally:
        del gc.callbacks[-1]
        gc.enable()
        gc.unfreeze()
        gc.set_threshold(*threshold)
    assert collected == []

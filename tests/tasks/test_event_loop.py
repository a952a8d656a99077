"""The event loop: DNS first, and a few events of other sockets in each pass."""

import asyncio
import gc
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from containerdns import app
from containerdns.tasks import event_loop
from containerdns.tasks.event_loop import (
    LONG_PASS,
    MANY_QUERIES,
    MAX_EVENTS,
    TURN_OF_OTHERS,
    EventLoop,
    Selector,
)

pytestmark = pytest.mark.skipif(not hasattr(selectors, "EpollSelector"), reason="needs epoll")

MANY = 200


class Clock:
    """A clock that passes of the loop move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@contextmanager
def selector(clock: Clock | None = None) -> Iterator[Selector]:
    opened = Selector(clock or Clock())
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def readable(count: int) -> Iterator[list[socket.socket]]:
    """Sockets with an octet to read."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            theirs.send(b"x")
            found.append(ours)
        yield found


def _taken(opened: Selector) -> list[socket.socket]:
    return [key.fileobj for key, _ in opened.select(0)]  # type: ignore[misc]


def test_a_pass_has_few_events_and_all_get_theirs_before_one_has_two() -> None:
    with selector() as opened, readable(MANY) as sockets:
        for each in sockets:
            opened.register(each, selectors.EVENT_READ)
        passes = [_taken(opened) for _ in range(-(-MANY // MAX_EVENTS))]
        assert max(map(len, passes)) <= MAX_EVENTS
        assert {each for taken in passes for each in taken} == set(sockets)


def test_preferred_sockets_come_first_in_every_pass() -> None:
    with selector() as opened, readable(MANY) as sockets, readable(1) as (dns,):
        for each in sockets:
            opened.register(each, selectors.EVENT_READ)
        opened.prefer(dns)
        opened.register(dns, selectors.EVENT_READ)
        for _ in range(20):
            assert _taken(opened)[0] is dns


def test_long_passes_have_fewer_events_until_they_are_short_again() -> None:
    clock = Clock()
    with selector(clock) as opened, readable(MANY) as sockets:
        for each in sockets:
            opened.register(each, selectors.EVENT_READ)
        for _ in range(10):
            last = len(_taken(opened))
            clock.now += LONG_PASS * 2
        assert last == 1
        assert max(len(_taken(opened)) for _ in range(3 * MAX_EVENTS)) == MAX_EVENTS


@contextmanager
def taking_turns(clock: Clock) -> Iterator[tuple[Selector, socket.socket, socket.socket]]:
    """A selector, a readable socket that takes turns with others, and one of those."""
    with selector(clock) as opened, readable(2) as (dns, other):
        opened.prefer(dns, in_turn=True)
        for each in (dns, other):
            opened.register(each, selectors.EVENT_READ)
        yield opened, dns, other


@pytest.mark.parametrize(
    ("took", "has_turn"), [(MANY_QUERIES * 0.9, False), (MANY_QUERIES * 1.1, True)]
)
def test_others_have_a_turn_after_many_queries(took: float, has_turn: bool) -> None:
    """A request over HTTP would wait for a batch of queries in each of its passes."""
    clock = Clock()
    with taking_turns(clock) as (opened, dns, other):
        assert _taken(opened) == [dns, other]
        opened.time_turn(clock.advance, took)
        assert _taken(opened) == ([other] if has_turn else [dns, other])


def test_the_turn_of_others_ends_after_a_short_time() -> None:
    clock = Clock()
    with taking_turns(clock) as (opened, dns, other):
        opened.time_turn(clock.advance, MANY_QUERIES)
        passes = 0
        while _taken(opened) == [other]:
            clock.now += TURN_OF_OTHERS / 4
            passes += 1
        assert passes == 4
        assert _taken(opened) == [dns, other]


def test_the_turn_of_others_ends_when_they_have_nothing_to_do() -> None:
    clock = Clock()
    with taking_turns(clock) as (opened, dns, other):
        opened.unregister(other)
        opened.time_turn(clock.advance, MANY_QUERIES)
        assert opened.select(0) == []  # the loop has callbacks to call
        for _ in range(2):
            assert [key.fileobj for key, _ in opened.select(None)] == [dns]


def test_preferred_sockets_that_take_no_turns_are_reported_once_in_one_of_others() -> None:
    """Answers of an upstream come many at a time, so that few calls read them."""
    clock = Clock()
    with taking_turns(clock) as (opened, _, other), readable(1) as (upstream,):
        opened.prefer(upstream)
        opened.register(upstream, selectors.EVENT_READ)
        opened.time_turn(clock.advance, MANY_QUERIES)
        assert _taken(opened) == [upstream, other]
        assert _taken(opened) == [other]


def test_a_socket_is_alone_if_nothing_else_is_ready() -> None:
    with taking_turns(Clock()) as (opened, dns, other):
        opened.select(None)
        assert not opened.is_alone(dns)  # the other's event comes in the same pass
        opened.unregister(other)
        opened.select(None)
        assert opened.is_alone(dns)
        opened.register(other, selectors.EVENT_READ)
        assert not opened.is_alone(dns)  # it has become ready since
        opened.unregister(other)
        opened.select(0)
        assert not opened.is_alone(dns)  # the loop has callbacks to call


def test_a_request_of_many_passes_waits_for_one_batch_of_queries() -> None:
    """As over HTTP: accepted, read, handled by a task, written."""
    passes, batches = 8, 0

    def answer_many() -> None:
        nonlocal batches
        batches += 1
        ends = time.perf_counter() + MANY_QUERIES
        while time.perf_counter() < ends:
            pass

    async def ask() -> int:
        loop = asyncio.get_running_loop()
        with readable(1) as (dns,):
            event_loop.prefer(dns, in_turn=True)
            loop.add_reader(dns, answer_many)
            for _ in range(3):
                await asyncio.sleep(0)
            before = batches
            for _ in range(passes):
                await asyncio.sleep(0)
            loop.remove_reader(dns)
            return batches - before

    with asyncio.Runner(loop_factory=event_loop.new) as runner:
        least = min(runner.run(ask()) for _ in range(20) if not (batches := 0))
    assert least <= 1


def test_queries_do_not_make_the_events_of_others_fewer() -> None:
    clock = Clock()
    with selector(clock) as opened, readable(MANY) as sockets:
        for each in sockets:
            opened.register(each, selectors.EVENT_READ)
        for _ in range(10):
            taken = len(_taken(opened))
            opened.time_preferred(clock.advance, LONG_PASS * 2)
            assert taken in (MAX_EVENTS, MANY % MAX_EVENTS)


def test_the_time_of_a_preferred_socket_is_measured() -> None:
    """Its callback gets what it was registered with, and others are called as they are."""

    async def read() -> list[str]:
        loop = asyncio.get_running_loop()
        called: list[str] = []
        with readable(2) as (dns, other):
            event_loop.prefer(dns)
            for each, name in ((dns, "dns"), (other, "other")):
                loop.add_reader(each, called.append, name)
            for _ in range(3):
                await asyncio.sleep(0)
            for each in (dns, other):
                loop.remove_reader(each)
        return called[:2]

    with asyncio.Runner(loop_factory=event_loop.new) as runner:
        assert runner.run(read()) == ["dns", "other"]


def test_an_event_is_not_reported_for_another_socket_with_the_same_descriptor() -> None:
    """An event of a closed socket must not tell a new one that it has connected."""
    with selector() as opened, readable(MAX_EVENTS + 1) as sockets, readable(1) as (other,):
        for each in sockets:
            opened.register(each, selectors.EVENT_READ)
        waiting = ({*sockets} - {*_taken(opened)}).pop()
        opened.unregister(waiting)
        opened.register(waiting.fileno(), selectors.EVENT_WRITE, "a new connection")
        opened.register(other, selectors.EVENT_READ)
        assert opened.select(0) == []  # what was left of the first look
        later = [*opened.select(0), *opened.select(0)]
        assert (waiting.fileno(), selectors.EVENT_WRITE) in [(key.fd, e) for key, e in later]


def test_files_are_found_and_changed_wherever_they_are() -> None:
    with selector() as opened, readable(2) as (dns, other):
        opened.prefer(dns)
        for each in (dns, other):
            opened.register(each, selectors.EVENT_READ, "reading")
            assert opened.get_key(each).data == "reading"
            opened.modify(each, selectors.EVENT_WRITE, "writing")
            assert opened.get_map()[each.fileno()].data == "writing"
            opened.unregister(each)
            assert each.fileno() not in opened.get_map()


def test_connections_that_send_at_once_are_read_a_few_in_each_pass() -> None:
    """asyncio's own loop reads all of them in the same pass."""

    async def count_reads() -> int:
        loop, reads = asyncio.get_running_loop(), [0]
        with readable(MANY) as sockets:
            for each in sockets:
                loop.add_reader(each, lambda: reads.append(reads.pop() + 1))
            most = 0
            for _ in range(20):
                await asyncio.sleep(0)
                most = max(most, reads.pop())
                reads.append(0)
            for each in sockets:
                loop.remove_reader(each)
        return most

    with asyncio.Runner(loop_factory=event_loop.new) as runner:
        assert isinstance(runner.get_loop(), EventLoop)
        assert 0 < runner.run(count_reads()) <= MAX_EVENTS
    with asyncio.Runner() as runner:
        assert runner.run(count_reads()) == MANY


def test_a_garbage_collection_looks_at_few_objects() -> None:
    """Of 20,000 new objects, one took 5 to 14 ms."""
    looked_at = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            generations = range(info["generation"] + 1)
            looked_at.append(sum(len(gc.get_objects(generation=n)) for n in generations))

    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*app.COLLECT_AFTER)
    gc.callbacks.append(note)
    try:
        kept = [[number] for number in range(100_000)]
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    assert len(kept) == 100_000
    assert 0 < max(looked_at) <= 2000

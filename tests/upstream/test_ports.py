"""The ports that upstreams are asked from: many, random, and no more than a share."""

import asyncio
import resource
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerdns.upstream import datagrams
from tests.timing import until
from tests.upstream.fakes import answer, upstream
from tests.upstream.forwarding import addresses, forwarder, local, question, settings
from tests.upstream.test_forwarder import is_silent, says

DESCRIPTORS = 256  # besides those of the tests before
QUESTIONS = 300
MANY = 150  # datagrams of one port
QUESTION = b"\3www\7example\0\0\x10\0\1"


class _NoPlain:
    """Takes the answers to plain questions, of which there are none."""

    def read(self, data: bytes, plain: object) -> None:
        raise AssertionError(data, plain)

    def take(self, answers: object) -> None:
        raise AssertionError(answers)

    def become_flight(self, question: object) -> None:
        raise AssertionError(question)


NO_PLAIN = _NoPlain()


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """Let this process open few more, and give its limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = open_descriptors() + DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_all_upstreams_together_take_their_share_and_ports_stay_random(
    few_descriptors: int,
) -> None:
    async with (
        upstream(says("192.0.2.1")) as one,
        upstream(says("192.0.2.2")) as two,
        forwarder(settings(one.port, forwards=(("corp.example.", (local(two.port),)),))) as forward,
    ):
        before = open_descriptors()
        for number in range(QUESTIONS):
            for apex in (None, "corp.example."):
                asked = question(f"n{number}.corp.example.", apex=apex)
                assert len(addresses(asked, await forward.resolve(asked))) == 1
        assert open_descriptors() - before <= few_descriptors // 4
        for fake in (one, two):
            assert len({port for _, port in fake.peers}) > QUESTIONS * 0.6, "each a fresh one"


async def test_more_questions_in_flight_than_ports_share_them(few_descriptors: int) -> None:
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        before = open_descriptors()
        many = [question(f"n{number}.example.") for number in range(200)]
        waiting = [asyncio.create_task(forward.resolve(asked)) for asked in many]
        await until(lambda: len(fake.asked) >= len(many))
        assert open_descriptors() - before <= few_descriptors // 4
        fake.script = says("192.0.2.1")
        for asked, one in zip(many, waiting, strict=True):
            assert addresses(asked, await one) == ["192.0.2.1"], "asked again after a second"


async def test_without_epoll_the_event_loop_watches_each_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(select, "epoll")
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        before = open_descriptors()
        for number in range(20):
            asked = question(f"n{number}.example.")
            assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.1"]
        assert open_descriptors() > before
    assert open_descriptors() < before


async def test_idle_ports_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "SWEEP_EVERY", 0.05)
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        before = open_descriptors()
        for number in range(50):
            await forward.resolve(question(f"n{number}.example."))
        await until(lambda: open_descriptors() <= before)


async def test_idle_ports_are_closed_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds that become idle together were closed in one piece of 6 ms."""
    monkeypatch.setattr(datagrams, "SWEEP_EVERY", 0.01)
    open_ports = datagrams.OpenPorts(MANY, asyncio.get_running_loop())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind(("127.0.0.1", 0))
        ours = datagrams.UpstreamDatagrams(theirs.getsockname(), open_ports, plain=NO_PLAIN)
        while len(open_ports) < 3 * datagrams.MAX_CLOSED:
            sent = ours.send(QUESTION, 0, b"", lambda _: None)
            assert sent is not None
            sent.forget()
        most, left = 0, len(open_ports)
        async with asyncio.timeout(30):
            while left:
                await asyncio.sleep(0)
                most, left = max(most, left - len(open_ports)), len(open_ports)
        assert most <= datagrams.MAX_CLOSED
        open_ports.close()


async def test_a_port_that_waits_is_not_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagrams, "SWEEP_EVERY", 0.01)
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        waiting = asyncio.create_task(forward.resolve(question("www.example.")))
        await until(lambda: len(fake.asked) >= 2)  # the second after many sweeps
        query, _ = fake.asked[0]
        fake.transport.sendto(answer(query, "@ 60 A 192.0.2.1"), fake.peers[0])
        assert addresses(question("www.example."), await waiting) == ["192.0.2.1"]


async def test_answers_that_take_long_are_read_fewer_at_a_time() -> None:
    """When all are truncated, each opens a connection; 64 of these took 6 ms in one pass."""
    loop = asyncio.get_running_loop()
    taken = 0

    def take_long(_: object) -> None:
        nonlocal taken
        taken += 1
        ends = time.perf_counter() + datagrams.LONG_READ / 4
        while time.perf_counter() < ends:
            pass

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind(("127.0.0.1", 0))
        open_ports = datagrams.OpenPorts(1, loop)
        ours = datagrams.UpstreamDatagrams(theirs.getsockname(), open_ports, plain=NO_PLAIN)
        for _ in range(MANY):
            assert ours.send(QUESTION, 0, b"", take_long)
            query, port = theirs.recvfrom(512)
            theirs.sendto(query[:2] + b"\x82\0\0\1\0\0\0\0\0\0" + QUESTION, port)  # truncated
        passes = []
        while taken < MANY:
            before = taken
            await asyncio.sleep(0)
            passes.append(taken - before)
        ours.close()
        open_ports.close()
    of_some = [count for count in passes if count]
    assert of_some[:4] == [64, 32, 16, 8]
    assert max(of_some[3:]) <= 8

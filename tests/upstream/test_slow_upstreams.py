"""Upstreams that are slow, as opposed to dead: asked once, and never marked down."""

import asyncio
import time

import pytest
from dnslib import DNSRecord

from containerdns.core.endpoints import UpstreamServer
from tests.timing import until
from tests.upstream.fakes import FakeUpstream, Reply, answer, truncated, upstream
from tests.upstream.forwarding import addresses, forwarder, local, question, settings
from tests.upstream.test_forwarder import is_silent, says

CLIENTS = 20
SLOW = question("slow.example.")


class Recursing:
    """The script of a server that knows "quick" by heart, and must ask others for other names.

    Attributes:
        waiting: The number of queries that it has not answered yet.
    """

    def __init__(self, fake: FakeUpstream, seconds: float) -> None:
        self.waiting = 0
        self._fake = fake
        self._seconds = seconds

    def __call__(self, query: DNSRecord, _: str) -> Reply:
        reply = answer(query, "@ 60 A 192.0.2.1")
        if str(query.q.qname).lower().startswith("quick"):
            return reply
        self.waiting += 1
        asyncio.get_running_loop().call_later(
            self._seconds, self._send, reply, self._fake.peers[-1]
        )
        return None

    def _send(self, reply: bytes, peer: tuple[str, int]) -> None:
        self._fake.transport.sendto(reply, peer)
        self.waiting -= 1


@pytest.mark.parametrize("is_measured", [True, False], ids=["measured", "unmeasured"])
@pytest.mark.parametrize("seconds", [0.4, 0.6])
async def test_a_slow_question_is_asked_once_for_all(seconds: float, is_measured: bool) -> None:
    """A timeout of 0.2 s says nothing about a name that no cache has; it is repeated after 1 s."""
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        fake.script = Recursing(fake, seconds)
        for number in range(20 if is_measured else 0):
            await forward.resolve(question(f"quick{number}.example."))
        waiting = [question("slow.example.", client=bytes([n])) for n in range(CLIENTS)]
        for resolution in await asyncio.gather(*map(forward.resolve, waiting)):
            assert addresses(SLOW, resolution) == ["192.0.2.1"]
        assert fake.names.count("slow.example.") == 1


@pytest.mark.parametrize("is_measured", [True, False], ids=["measured", "unmeasured"])
async def test_slow_questions_at_once_do_not_set_a_live_upstream_aside(is_measured: bool) -> None:
    """A page is loaded: a question every 50 ms, each of which takes 0.9 s."""
    async with (
        upstream(is_silent) as fake,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(fake.port, second.port)) as forward,
    ):
        fake.script = Recursing(fake, 0.9)
        for number in range(20 if is_measured else 0):
            await forward.resolve(question(f"quick{number}.example."))
        waiting = []
        for number in range(20):
            asked = question(f"slow{number}.example.")
            waiting.append(asyncio.create_task(forward.resolve(asked)))
            await asyncio.sleep(0.05)
            assert forward.status()[0].is_healthy
        for one in waiting:
            assert addresses(SLOW, await one) == ["192.0.2.1"]
        assert second.asked == []


@pytest.mark.parametrize("was", ["quick", "slow", "unmeasured", "over TLS"])
async def test_a_dead_first_costs_the_first_question_its_time_and_no_other(was: str) -> None:
    async with (
        upstream(is_silent) as fake,
        upstream(says("192.0.2.2")) as second,
    ):
        first = local(fake.port)
        if was == "over TLS":
            first = UpstreamServer("tls", "127.0.0.1", fake.port, "dead.example")
        wanted = settings(servers=(first, local(second.port)))
        async with forwarder(wanted) as forward:
            fake.script = recursing = Recursing(fake, 0.9)
            for number in range(3 if was in ("quick", "slow") else 0):
                await forward.resolve(question(f"{was}{number}.example."))
            await until(lambda: not recursing.waiting)  # an answer to a probe is a sign of life
            if was in ("quick", "slow"):  # once this is answered, all before it has been received
                await forward.resolve(question("quick-again.example."))
            fake.script = is_silent
            begun = time.monotonic()
            assert addresses(SLOW, await forward.resolve(SLOW)) == ["192.0.2.2"]
            took = time.monotonic() - begun
            assert took > 1.3
            # A slow server's probe may still be waited for when the question is passed on.
            await until(lambda: not forward.status()[0].is_healthy, 5.0)
            begun = time.monotonic()
            await forward.resolve(question("next.example."))
            assert time.monotonic() - begun < took / 2
            assert "next.example." not in fake.names


async def test_silence_over_tcp_costs_the_first_server_its_time_once() -> None:
    """It says that the answer is too long, and then nothing; that takes 2 s."""

    def cuts(query: DNSRecord, proto: str) -> Reply:
        return truncated(query) if proto == "udp" else None

    async with (
        upstream(cuts) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        assert addresses(SLOW, await forward.resolve(SLOW)) == ["192.0.2.2"]
        assert [proto for _, proto in first.asked] == ["udp", "tcp"]
        assert forward.status()[0].is_healthy, "it did say something"


async def test_a_lost_datagram_is_sent_again_after_a_second() -> None:
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        waiting = asyncio.create_task(forward.resolve(SLOW))
        begun = time.monotonic()
        await until(lambda: bool(fake.asked))
        fake.script = says("192.0.2.1")
        assert addresses(SLOW, await waiting) == ["192.0.2.1"]
        assert time.monotonic() - begun > 0.9
        assert fake.names.count("slow.example.") == 2

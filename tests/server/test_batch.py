"""What a batch answers by itself: with and without options, and what is counted."""

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest

from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import PacketCache, Table
from containerdns.core.protocol.query_history import History
from containerdns.core.protocol.respond import Reply
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.zone.views import Rights, Views
from containerdns.server import batch
from containerdns.server.answering import Answering
from containerdns.server.udp import Client, Datagrams
from tests.core.protocol.test_query_variants import opt
from tests.core.protocol.test_respond import publication, query, responder
from tests.server.batches import Batches, batches
from tests.server.serving import StubForwarder

LOCAL = bytes((127, 0, 0, 1))
COOKIE = (messages.COOKIE_OPTION, bytes(8))
pytestmark = pytest.mark.skipif(not batch.works(), reason="needs recvmmsg")


class Cached(StubForwarder):
    """Has an address for every name in its cache."""

    def cached(self, forward: Forward) -> Resolution | None:
        owner = forward.query.question[:-4]
        record = messages.RR(owner, messages.A, messages.IN, 60, bytes((192, 0, 2, 1)))
        body = messages.encode(owner, [record])
        return Resolution(messages.NOERROR, body=body, source="cache", fresh_for=60.0)


@dataclass
class Served:
    """A batch loop, and what it is made of."""

    batches: Batches
    datagrams: Datagrams
    cache: PacketCache
    counters: Counters
    answering: Answering

    def fresh(self, data: bytes) -> bytes | None:
        """What the slow path says."""
        reply = self.answering.begin(data, self.client.peer)
        return reply.octets if isinstance(reply, Reply) else None

    @property
    def client(self) -> Client:
        """The state of the client."""
        return self.datagrams.client(LOCAL, LOCAL)

    def durations(self) -> dict[str, int]:
        """The number of durations by source."""
        return {source: sum(d.counts) for source, d in self.counters.durations.items()}


@contextmanager
def serving() -> Iterator[Served]:
    counters = Counters()
    cache = PacketCache(counters)
    made = responder(publication("web", "192.0.2.7"), publication("db", "192.0.2.8"))
    answering = Answering(made, Cached(), History(100), counters)
    views = Views(Rights((ip_network("127.0.0.0/8"),), (), (), ask_own=False))
    datagrams = Datagrams(views, cache, answering)
    with batches(datagrams) as both:
        yield Served(both, datagrams, cache, counters, answering)


@pytest.mark.parametrize(
    "record",
    [b"", opt(), opt(COOKIE), opt(COOKIE, flags=0x8000), opt((3, b"")), opt((12, bytes(64)))],
    ids=["", "EDNS", "cookie", "DO and cookie", "NSID", "padding"],
)
@pytest.mark.parametrize(("name", "qtype"), [("web.docker.", 1), ("WEB.docker.", 65), ("no.", 1)])
async def test_ready_made_reply_is_that_of_the_slow_path(
    name: str, qtype: int, record: bytes
) -> None:
    """Type 65 is a letter, so that lower case alone does not recognise it."""
    with serving() as served:
        data = query(name, qtype, opt=record)
        expected = served.fresh(data)
        for _ in range(5):
            (reply,) = await served.batches.ask(data)
            assert _timeless(reply) == _timeless(expected)


async def test_queries_with_and_without_options_in_one_batch_have_their_own_replies() -> None:
    with serving() as served:
        records = [b"", opt(COOKIE), opt(), opt((12, bytes(9))), opt(COOKIE, flags=0x8000)]
        datas = [
            query(f"{n}.docker.", opt=record) for n in ("web", "db", "no") for record in records
        ]
        expected = [_timeless(served.fresh(data)) for data in datas]
        for _ in range(4):
            assert list(map(_timeless, await served.batches.ask(*datas))) == expected


async def test_types_that_are_one_letter_in_two_cases_are_kept_apart() -> None:
    for record in (b"", opt(), opt(COOKIE)):
        with serving() as served:
            for qtype in (97, 65, 97):
                data = query("web.docker.", qtype, opt=record)
                for _ in range(3):
                    (reply,) = await served.batches.ask(data)
                    assert _timeless(reply) == _timeless(served.fresh(data))


async def test_responses_with_and_without_do_are_kept_apart() -> None:
    with serving() as served:
        for flags in (0, 0x8000, 0, 0x8000):
            data = query("web.docker.", opt=opt(COOKIE, flags=flags))
            for _ in range(3):
                (reply,) = await served.batches.ask(data)
                assert _timeless(reply) == _timeless(served.fresh(data))


@pytest.mark.parametrize(
    "forget",
    [
        lambda cache: cache.forget(["web.docker."]),
        PacketCache.forget_all,
        PacketCache.forget_views,
    ],
    ids=["its name", "all", "all views"],
)
async def test_response_for_queries_with_options_is_forgotten_with_the_plain_one(
    forget: Callable[[PacketCache], None],
) -> None:
    with serving() as served:
        for flags in (0, 0x8000):
            data = query("web.docker.", opt=opt(COOKIE, flags=flags))
            for _ in range(3):
                await served.batches.ask(data)
        table = served.client.ready
        assert list(map(len, table.before_opt)) == [1, 1]
        forget(served.cache)
        assert (len(table), *map(len, table.before_opt)) == (0, 0, 0)
        (reply,) = await served.batches.ask(data)
        assert _timeless(reply) == _timeless(served.fresh(data))


async def test_client_with_another_table_has_its_responses_with_options_from_there() -> None:
    with serving() as served:
        data = query("web.docker.", opt=opt(COOKIE, flags=0x8000))
        await served.batches.ask(data)
        served.client.take(table := Table())
        assert served.client.before_opt is table.before_opt[1]


async def test_options_that_have_expired_are_made_anew() -> None:
    with serving() as served:
        data = query("web.docker.", opt=opt(COOKIE))
        for _ in range(3):
            await served.batches.ask(data)
        variant = served.client.latest
        assert variant is not None
        expired = replace(variant, until=time.monotonic(), octets=variant.octets[:-8] + bytes(8))
        served.client.variants[variant.sent] = expired
        served.client.expect(expired)
        (reply,) = await served.batches.ask(data)
        assert reply is not None
        assert not reply.endswith(bytes(8))


async def test_queries_with_options_are_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as served, caplog.at_level("INFO"):
        served.answering.use((), log_queries=True)
        served.datagrams.use(None, log_queries=True)
        for _ in range(4):
            await served.batches.ask(query("web.docker.", opt=opt(COOKIE)))
        assert sum("web.docker." in line for line in caplog.messages) == 4


async def test_query_that_ends_in_the_latest_options_within_others_is_another_query() -> None:
    with serving() as served:
        for _ in range(3):
            await served.batches.ask(query("web.docker.", opt=opt(COOKIE)))
        for record in (opt((65001, opt(COOKIE))), opt(flags=0x8000) + opt(COOKIE), opt(COOKIE)[1:]):
            data = query("web.docker.", opt=record)
            assert list(map(_timeless, await served.batches.ask(data))) == [
                _timeless(served.fresh(data))
            ]


@pytest.mark.parametrize("octets", [0, 1, 5, 11, 12, 20])
async def test_short_datagram_after_one_with_options_is_not_taken_for_it(octets: int) -> None:
    """The memory behind it still has the octets of the datagram before."""
    with serving() as served:
        data = query("web.docker.", opt=opt(COOKIE))
        for _ in range(3):
            await served.batches.ask(data, data)
        short, whole = await served.batches.ask(data[:octets], data)
        assert _timeless(whole) == _timeless(served.fresh(data))
        assert short == served.fresh(data[:octets])


async def test_durations_are_attributed_to_the_source_of_each_reply() -> None:
    with serving() as served:
        ours, special = query("web.docker."), query("x.invalid.")
        public = query("www.example.net.")
        for data in (ours, special, public):
            for _ in range(2):
                await served.batches.ask(data)
        before = served.durations()
        await served.batches.ask(ours, public, ours, special, public, ours)
        grown = {
            source: count - before.get(source, 0) for source, count in served.durations().items()
        }
        assert {source: count for source, count in grown.items() if count} == {
            "zone": 3,
            "cache": 2,
            "policy": 1,
        }
        before = served.durations()
        await served.batches.ask(ours)
        assert served.durations() == before | {"zone": before["zone"] + 1}


async def test_durations_of_names_never_asked_for_have_their_source() -> None:
    with serving() as served:
        for name in ("a.docker.", "a.invalid."):
            await served.batches.ask(query(name))
        before = served.durations()
        await served.batches.ask(query("b.docker."), query("b.invalid."), query("c.docker."))
        assert served.durations() == {"zone": before["zone"] + 2, "policy": before["policy"] + 1}


def _timeless(octets: bytes | None) -> bytes:
    """Blank the time and hash of a cookie, which depend on the clock."""
    assert octets is not None
    at = octets.find(struct.pack("!HH", messages.COOKIE_OPTION, 24))
    return octets if at < 0 else octets[: at + 12] + bytes(16) + octets[at + 28 :]

"""Plain questions from the client's datagram to the upstream and back, through everything."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network

import pytest
from dnslib import DNSRecord
from hypothesis import example, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from containerdns.core.counters import Counters
from containerdns.core.endpoints import IPNetwork
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import EMPTY_BODY, Body
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.query_history import History
from containerdns.core.upstream.plain_questions import PlainQuestions
from containerdns.core.upstream.scrub import is_referral
from containerdns.core.zone.views import Rights, Views
from containerdns.errors import BadMessage
from containerdns.server.answering import Answering
from containerdns.server.servers import Servers
from containerdns.server.tcp import Connections
from containerdns.server.udp import Datagrams
from containerdns.upstream.forwarder import Forwarder
from tests.core.protocol.test_respond import publication, query, responder
from tests.core.upstream.test_plain_answers import (
    CHAINS,
    DENIALS,
    PLAIN,
    QTYPES,
    Sent,
    meaning,
    responses,
)
from tests.server.serving import LOOPBACK, settings
from tests.timing import MAX_WAIT
from tests.upstream import forwarding
from tests.upstream.fakes import FakeUpstream, Reply, Script, answer, qtype, truncated, upstream


@dataclass
class Served:
    """A server over a real forwarder, and its upstream."""

    servers: Servers
    forwarder: Forwarder
    history: History
    counters: Counters
    fake: FakeUpstream
    cache: PacketCache

    async def ask(self, *queries: bytes, client_address: str = "127.0.0.1") -> list[bytes]:
        """Send queries from one socket, at once; return the responses in the same order."""
        loop = asyncio.get_running_loop()
        found: dict[bytes, bytes] = {}
        endpoint = self.servers.endpoints[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.bind((client_address, 0))
            client.connect((endpoint.host, endpoint.port))
            for data in queries:
                client.send(data)
            async with asyncio.timeout(MAX_WAIT):
                while len(found) < len(queries):
                    reply = await loop.sock_recv(client, 4096)
                    found[reply[:2]] = reply
        return [found[data[:2]] for data in queries]


def script(query: DNSRecord, proto: str) -> Reply:
    """What the upstream says, by the first label."""
    label = str(query.q.qname).lower().partition(".")[0]
    if label.startswith("absent"):
        return answer(query, rcode="NXDOMAIN", auth="example. 60 SOA ns. root. 1 2 3 4 60")
    if label.startswith("alias"):
        return answer(query, "@ 60 CNAME www.example.", "www.example. 60 A 192.0.2.1")
    if label.startswith("long") and proto == "udp":
        return truncated(query)
    if label.startswith("sick"):
        return answer(query, rcode="SERVFAIL")
    if qtype(query) == "AAAA":
        return answer(query, auth="example. 60 SOA ns. root. 1 2 3 4 60")
    return answer(query, "@ 60 A 192.0.2.1", "@ 60 A 192.0.2.2")


@asynccontextmanager
async def serving(
    *allowed: IPNetwork, says: Script = script, rebind_protection: bool = False
) -> AsyncIterator[Served]:
    """Run a server with the container "web", for clients of loopback or of some networks."""
    counters, history = Counters(), History(100)
    async with upstream(says) as fake:
        wanted = forwarding.settings(fake.port, rebind_protection=rebind_protection)
        made = Forwarder(wanted, counters, forwarding.is_below_docker)
        cache, views = PacketCache(counters), Views(Rights(allowed or LOOPBACK, ask_own=False))
        answering = Answering(
            responder(publication("web", "10.1.0.1"), counters=counters), made, history, counters
        )
        connections = Connections(views, cache, answering)
        servers = Servers(settings(), Datagrams(views, cache, answering), connections)
        servers.open()
        running = [asyncio.create_task(one.run()) for one in (made, servers)]
        await made.has_started.wait()
        try:
            yield Served(servers, made, history, counters, fake, cache)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


def numbered(name: str, number: int, *, opt: bytes = b"", rtype: int = messages.A) -> bytes:
    data = query(name, rtype, opt=opt)
    return number.to_bytes(2) + data[2:]


def said(reply: bytes) -> list[list[tuple[int, int, bytes]]]:
    """The records of a response, without their owners."""
    whole = messages.parse_response(reply)
    return [
        [(record.rtype, record.ttl, meaning(record).rdata) for record in section]
        for section in (whole.answer, whole.authority, whole.additional)
    ]


def changing(reply: bytes) -> bytes:
    """A response without what differs from name to name."""
    return reply[2:12] + reply[20:]


KINDS = {
    "addresses": ("www", messages.A),
    "no such type": ("www", messages.AAAA),
    "no such name": ("absent", messages.A),
    "an alias": ("alias", messages.A),
    "truncated": ("long", messages.A),
    "SERVFAIL": ("sick", messages.A),
}


@pytest.mark.parametrize("opt", [b"", messages.opt_record()], ids=["", "EDNS"])
@pytest.mark.parametrize(("label", "rtype"), KINDS.values(), ids=KINDS)
async def test_later_questions_are_answered_as_the_first(
    label: str, rtype: int, opt: bytes
) -> None:
    """The first of a form takes the slow path, and those after it are plain."""
    async with serving() as served:
        [first] = await served.ask(numbered(f"{label}0.example.", 1, opt=opt, rtype=rtype))
        queries = [
            numbered(f"{label}{number}.example.", number + 1, opt=opt, rtype=rtype)
            for number in range(1, 9)
        ]
        for reply, data in zip(await served.ask(*queries), queries, strict=True):
            end = data.index(b"\0", 12) + 5
            assert reply[12:end] == data[12:end]
            assert reply[:2] == data[:2]
            assert reply[2:12] == first[2:12]
            assert said(reply) == said(first)
        assert served.counters.internal_errors == 0


async def test_denials_are_counted_as_such() -> None:
    async with serving() as served:
        await served.ask(numbered("www.example.", 1))
        served.counters.take()
        await served.ask(
            *(numbered(f"absent{number}.example.", number) for number in range(2, 5)),
            numbered("n.example.", 5),
        )
        assert served.counters.responses == {(3, "upstream"): 3, (0, "upstream"): 1}
        name = f"127.0.0.1:{served.fake.port}"
        assert served.counters.upstream_requests == {(name, 3): 3, (name, 0): 1}
        rows, _ = served.history.since(1, 100)
        rcodes = {row["name"]: row["rcode"] for row in rows}
        assert rcodes == {"n.example.": "NOERROR"} | dict.fromkeys(
            (f"absent{number}.example." for number in range(2, 5)), "NXDOMAIN"
        )


def rewritten(case: Sent, asked: bytes) -> bytes:
    """The same response to a question of the same length."""
    end = messages.HEADER_OCTETS + len(asked)
    return case.data[: messages.HEADER_OCTETS] + asked + case.data[end:]


def is_final(data: bytes, asked: bytes) -> bool:
    """Whether a response is one that no other server is asked after."""
    try:
        whole = messages.parse_response(data, asked)
    except BadMessage:
        return False
    is_whole = not whole.flags & messages.TC and data[12 : 12 + len(asked)] == asked
    return is_whole and whole.rcode in (0, 3) and not is_referral(whole)


@dataclass(frozen=True)
class Outcome:
    """What is left of some questions: replies, the cache, counts and the history."""

    replies: object
    cached: object
    counts: object
    history: object


async def outcome(cases: list[Sent], *, is_plain: bool, rebind_protection: bool) -> Outcome:
    """Ask a server whose upstream has these responses, for one name each."""

    def says(query: DNSRecord, _: str) -> Reply:
        labels = query.q.qname.label
        asked = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        asked += query.q.qtype.to_bytes(2) + b"\0\1"
        if not labels[0].isdigit():
            return answer(query, auth="example. 60 SOA ns. root. 1 2 3 4 60")
        case = rewritten(cases[int(labels[0])], asked)
        return int(query.header.id).to_bytes(2) + case[2:]

    async with serving(says=says, rebind_protection=rebind_protection) as served:
        for number, qtype in enumerate(dict.fromkeys(QTYPES)):
            await served.ask(numbered("form.example.", number, rtype=qtype))
        if not is_plain:
            served.servers._datagrams._plain_questions = PlainQuestions()  # finds none
        queries = [
            numbered(f"{number:03}.example.", number, rtype=int.from_bytes(case.asked[-4:-2]))
            for number, case in enumerate(cases)
        ]
        replies = await served.ask(*queries)
        counters, forwarder = served.counters, served.forwarder
        rows, _ = served.history.since(0, 1000)
        return Outcome(
            [(reply[:4], decoded_reply(reply)) for reply in replies],
            {
                question: (
                    cached.resolution._replace(body=EMPTY_BODY, upstream=None, reason=""),
                    decoded_body(question.wire, cached.resolution.body),
                    round(cached.expires - cached.since, 3),
                )
                for question, cached in forwarder._cache._responses.items()
            },
            (
                counters.requests,
                counters.responses,
                counters.cache_misses,
                sorted((rcode, count) for (_, rcode), count in counters.upstream_requests.items()),
                counters.internal_errors,
                forwarder._waiting,
            ),
            sorted((str(row["name"]), row["type"], row["rcode"], row["source"]) for row in rows),
        )


def decoded_reply(reply: bytes) -> object:
    whole = messages.parse_response(reply)
    return [tuple(map(meaning, part)) for part in (whole.answer, whole.authority)], whole.edns


def decoded_body(asked: bytes, body: Body) -> object:
    return [tuple(map(meaning, part)) for part in messages.decode(asked[:-4], body)]


def fits(case: Sent) -> bool:
    """Whether it can be used here: for names of that length, and final."""
    asked = b"\x03000\7example\0" + case.asked[-4:]
    return len(case.asked) == len(asked) and is_final(rewritten(case, asked), asked)


USUAL = [case for case in (*PLAIN.values(), *CHAINS.values(), *DENIALS.values()) if fits(case)]


@settings_of(max_examples=15)
@given(st.lists(responses().filter(fits), min_size=5, max_size=15), st.booleans())
@example(USUAL, False)
@example(USUAL, True)
def test_both_ways_leave_the_same(cases: list[Sent], rebind_protection: bool) -> None:
    """Whether plain questions are asked as such, or each as a flight."""
    plain, other = (
        asyncio.run(outcome(cases, is_plain=is_plain, rebind_protection=rebind_protection))
        for is_plain in (True, False)
    )
    assert plain == other


async def test_plain_answers_are_counted_and_in_the_history() -> None:
    async with serving() as served:
        await served.ask(numbered("www.example.", 1))
        before = served.counters.take()
        assert before.responses == {(0, "upstream"): 1}
        await served.ask(*(numbered(f"n{number}.example.", number) for number in range(2, 7)))
        await served.ask(numbered("ipv6.example.", 9, rtype=messages.AAAA))
        counters = served.counters
        assert counters.requests == {("udp", messages.A): 5, ("udp", messages.AAAA): 1}
        assert counters.responses == {(0, "upstream"): 6}
        assert sum(counters.durations["upstream"].counts) == 6
        assert counters.cache_misses == 6
        rows, _ = served.history.since(0, 100)
        listed = list(rows)
        assert sorted(str(row["name"]) for row in listed) == sorted(
            ["www.example.", "ipv6.example.", *(f"n{number}.example." for number in range(2, 7))]
        )
        for row in listed:
            assert (row["client"], row["source"]) == ("127.0.0.1", "upstream")
            assert row["upstream"] == f"127.0.0.1:{served.fake.port}"
            assert 0 < float(str(row["ms"])) < MAX_WAIT * 1000


async def test_the_same_question_twice_at_once_is_asked_once() -> None:
    async with serving() as served:
        await served.ask(numbered("www.example.", 1))
        replies = await served.ask(*(numbered("twice.example.", number) for number in range(2, 6)))
        assert len({changing(reply) for reply in replies}) == 1
        assert served.fake.names.count("twice.example.") == 1


async def test_names_of_ours_are_never_plain() -> None:
    async with serving() as served:
        await served.ask(numbered("www.example.", 1))
        await served.ask(
            numbered("web.docker.", 2), numbered("web.", 3), numbered("web.corp.example.", 4)
        )
        assert served.fake.names == ["www.example."]


async def test_questions_of_clients_that_may_not_ask_are_never_plain() -> None:
    async with serving(ip_network("127.0.0.1/32")) as served:
        await served.ask(numbered("www.example.", 1))
        [reply] = await served.ask(numbered("mail.example.", 2), client_address="127.0.0.2")
        assert reply[3] & 0xF == messages.REFUSED
        assert served.fake.names == ["www.example."]


@pytest.mark.parametrize("opt", [b"", messages.opt_record(), messages.opt_record(dnssec_ok=True)])
async def test_answer_for_a_query_whose_response_has_ended_is_ready_made_at_once(
    opt: bytes,
) -> None:
    """Very many may end at once; each would take the slow path once more."""
    async with serving() as served:
        data = query("www1.example.", opt=opt)
        for asked in (query("www.example.", opt=opt), data, data):
            (first,) = await served.ask(asked)
        (entry,) = served.cache._shelves["fresh"]
        entry.until, entry.renewal = time.monotonic(), None
        served.forwarder._cache.clear()
        before = len(served.fake.asked)
        (again,) = await served.ask(data)
        assert (_addresses(again), len(served.fake.asked)) == (_addresses(first), before + 1)
        (kept,) = served.cache._shelves["fresh"]
        assert (kept.source, kept.upstream, kept.names) == (
            "cache",
            entry.upstream,
            entry.names,
        )
        assert kept.ttls_at == entry.ttls_at
        (third,) = await served.ask(data)
        assert (_addresses(third), len(served.fake.asked)) == (_addresses(first), before + 1)


def _addresses(reply: bytes) -> list[str]:
    return [str(record.rdata) for record in DNSRecord.parse(reply).rr]

"""Plain questions from the client's datagram to the upstream and back, through everything."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network

import pytest
from dnslib import DNSRecord

from containerdns.core.counters import Counters
from containerdns.core.endpoints import IPNetwork
from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.query_history import History
from containerdns.core.zone.views import Rights, Views
from containerdns.server.answering import Answering
from containerdns.server.servers import Servers
from containerdns.server.tcp import Connections
from containerdns.server.udp import Datagrams
from containerdns.upstream.forwarder import Forwarder
from tests.core.protocol.test_respond import publication, query, responder
from tests.server.serving import LOOPBACK, settings
from tests.timing import MAX_WAIT
from tests.upstream import forwarding
from tests.upstream.fakes import FakeUpstream, Reply, answer, qtype, truncated, upstream


@dataclass
class Served:
    """A server over a real forwarder, and its upstream."""

    servers: Servers
    forwarder: Forwarder
    history: History
    counters: Counters
    fake: FakeUpstream

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
async def serving(*allowed: IPNetwork) -> AsyncIterator[Served]:
    """Run a server with the container "web", for clients of loopback or of some networks."""
    counters, history = Counters(), History(100)
    async with upstream(script) as fake:
        made = Forwarder(forwarding.settings(fake.port), counters, lambda _: False)
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
            yield Served(servers, made, history, counters, fake)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


def numbered(name: str, number: int, *, opt: bytes = b"", rtype: int = messages.A) -> bytes:
    data = query(name, rtype, opt=opt)
    return number.to_bytes(2) + data[2:]


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
            assert len(reply) == len(first)
        assert served.counters.internal_errors == 0


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

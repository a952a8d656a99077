"""A server on loopback for the tests of this folder, with answers of their own."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from containerdns.config.groups import DNSSettings
from containerdns.core.connections.places import Limits
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint, IPNetwork
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.query_history import History
from containerdns.core.protocol.query_variants import Variant
from containerdns.core.protocol.respond import Peer, Reply, Responder, Transfer
from containerdns.core.protocol.synthesised_answers import Found
from containerdns.core.protocol.tsig import Key
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_questions import PlainQuestion, PlainQuestions
from containerdns.core.zone.views import Rights, View, Views
from containerdns.server.answering import Answering
from containerdns.server.servers import Servers
from containerdns.server.tcp import Connections
from containerdns.server.transfer import Transfers
from containerdns.server.udp import Datagrams

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class StubResponder(Responder):
    """Answers by the first label of the question.

    "slow" and "forward" are forwarded, "fault" raises, "silent" gets nothing, "big"
    an answer of 60,000 octets over TCP; everything else is 172.18.0.2.

    Attributes:
        takes: Seconds of work that a query costs.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Peer]] = []
        self.proven: set[str] = set()  # names whose queries have a valid cookie
        self.takes = 0.0
        self.plain_questions = PlainQuestions()

    def respond(
        self, data: bytes, peer: Peer, now: float, query: messages.Query | None = None
    ) -> Reply | Forward | Transfer | None:
        query = query or messages.parse_query(data)
        self.asked.append((query.name, peer))
        until = time.perf_counter() + self.takes
        while time.perf_counter() < until:
            pass
        match query.name.partition(".")[0]:
            case "fault":
                raise RuntimeError("on purpose")
            case "silent":
                return None
            case "slow" | "forward":
                return Forward(query, query.name, query.qtype, peer.over_tcp, peer.address)
            case "big":
                records = [RR(query.question[:-4], 16, 1, 5, b"\xff" + b"x" * 255)] * 220
                return self._made(query, peer, records)
        if not peer.view.may_ask:
            return self._made(query, peer, [], rcode=messages.REFUSED)
        if peer.is_slipped:
            return self._made(query, peer, [], flags=messages.TC)
        record = RR(query.question[:-4], 1, 1, 5, bytes([172, 18, 0, 2]))
        return self._made(query, peer, [record], keeping="name")

    def has_valid_cookie(self, query: messages.Query, peer: Peer, now: float) -> bool:
        return query.name in self.proven

    def variant(self, opt: bytes, peer: Peer, now: float, clock: float) -> Variant | None:
        return None

    def synthesised(self, data: bytes, folded: bytes, view: View) -> Found | None:
        return None

    def tally(self) -> None:
        """It denies nothing that could be counted."""

    def finish(self, forward: Forward, resolution: Resolution, peer: Peer, now: float) -> Reply:
        limit = messages.TCP_OCTETS if peer.over_tcp else messages.PAYLOAD_OCTETS
        octets = messages.assemble(forward.query, resolution.rcode, resolution.body, limit)
        return Reply(octets, resolution.rcode, resolution.source, forward.qtype, forward.name)

    def _made(
        self,
        query: messages.Query,
        peer: Peer,
        records: list[RR],
        rcode: int = 0,
        flags: int = messages.AA,
        keeping: str = "no",
    ) -> Reply:
        body = messages.encode(query.question[:-4], records)
        limit = messages.TCP_OCTETS if peer.over_tcp else query.datagram_octets
        octets = messages.assemble(query, flags | rcode, body, limit)
        return Reply(octets, rcode, "zone", query.qtype, query.name, keeping=keeping)


class StubForwarder:
    """Resolves "slow" when `released` is set, else what is `known` at once, or a moment later."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.resolved: list[str] = []
        self.known: Resolution | None = None
        self.records = 0  # of 256 octets in each answer
        self._tasks: set[asyncio.Task[None]] = set()

    def cached(self, forward: Forward) -> Resolution | None:
        return self.known

    def ask_plain(self, plain: PlainQuestion) -> bool:
        return False

    def send_plain(self) -> None:
        pass

    def ask(self, forward: Forward, take: Callable[[Resolution], None]) -> None:
        task = asyncio.create_task(self._ask(forward, take))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, forward: Forward, take: Callable[[Resolution], None]) -> None:
        self.resolved.append(forward.name)
        if forward.name.startswith("slow"):
            await self.released.wait()
        await asyncio.sleep(0)
        octets, source = forward.query.question[:-4], "upstream"
        records = [RR(octets, 16, 1, 5, b"\xff" + b"x" * 255)] * self.records
        body = messages.encode(octets, records)
        take(Resolution(0, body=body, source=source, upstream="192.0.2.53"))


@dataclass
class Served:
    """A running server and what it is made of."""

    servers: Servers
    responder: StubResponder
    forwarder: StubForwarder
    packet_cache: PacketCache
    history: History
    counters: Counters
    views: Views

    @property
    def address(self) -> tuple[str, int]:
        endpoint = self.servers.endpoints[0]
        return ("127.0.0.1" if endpoint.host == "0.0.0.0" else endpoint.host), endpoint.port


def settings(**changes: Any) -> DNSSettings:
    """Settings without any option, except those that a test changes."""
    return DNSSettings(**{"listen": (Endpoint("127.0.0.1", 0),), "query_history": 100, **changes})


@asynccontextmanager
async def serving(
    may_batch: bool = True,
    responder: StubResponder | None = None,
    transfers: Transfers | None = None,
    keys: tuple[Key, ...] = (),
    tcp_limits: Limits | None = None,
    allow: tuple[IPNetwork, ...] = LOOPBACK,
    **changes: Any,
) -> AsyncIterator[Served]:
    """Run a server on loopback."""
    wanted = settings(**changes)
    counters = Counters()
    packet_cache, history = PacketCache(counters), History(wanted.query_history)
    responder, forwarder = responder or StubResponder(), StubForwarder()
    views = Views(Rights(allow, ask_own=False))
    answering = Answering(responder, forwarder, history, counters)
    datagrams = Datagrams(views, packet_cache, answering)
    connections = Connections(views, packet_cache, answering, transfers, tcp_limits)
    servers = Servers(wanted, datagrams, connections, keys, may_batch=may_batch)
    servers.open()
    task = asyncio.create_task(servers.run())
    await asyncio.sleep(0.01)
    try:
        yield Served(servers, responder, forwarder, packet_cache, history, counters, views)
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def query(name: str, qtype: int = 1, message_id: int = 0x1234, flags: int = 0x0100) -> bytes:
    """A query as a stub resolver sends it; the name keeps its case."""
    header = struct.pack("!HHHHHH", message_id, flags, 1, 0, 0, 0)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    return header + labels + b"\0" + struct.pack("!HH", qtype, 1)

"""Forwarders for tests: settings around a list of upstreams, and how to ask them."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from containerdns.config.groups import UpstreamSettings
from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.endpoints import UpstreamServer
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR, Edns, Query
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion, PlainQuestions
from containerdns.core.zone.ownership import Ownership
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import Shape, Zone
from containerdns.upstream.forwarder import Forwarder
from containerdns.upstream.system import RESOLV_CONF


def settings(*ports: int, **changes: Any) -> UpstreamSettings:
    """Settings with upstreams on ports of loopback."""
    servers = tuple(local(port) for port in ports)
    return UpstreamSettings(**{"servers": servers, "cache_size": 1000, **changes})


def local(port: int) -> UpstreamServer:
    """An upstream on loopback."""
    return UpstreamServer("udp", "127.0.0.1", port)


def is_below_docker(name: str) -> bool:
    """What the tests' zone owns."""
    return names.is_below(name, "docker.") or names.is_single_label(name)


def plain_question(forward: Forward) -> PlainQuestion | None:
    """The same as a plain question, if it is one."""
    query, edns = forward.query, forward.query.edns
    opt = messages.opt_record(edns.dnssec_ok) if edns else b""
    data = messages.query(query.id, query.flags, query.question, opt)
    plain = PlainQuestions()
    plain.use(ownership(forward.apex))
    plain.learn(data, forward)
    return plain.find(data, data[2:].lower(), 0.0)


def ownership(*forwards: str | None) -> Ownership:
    """The rules of the tests' zone."""
    zone = Zone(Shape(domains=("docker.",)), 1, RememberedNames(60))
    return Ownership(zone, forwards=frozenset(filter(None, forwards)))


class Asking:
    """Asks one question, plainly or not."""

    def __init__(self) -> None:
        self.resolved: asyncio.Future[Resolution] = asyncio.get_running_loop().create_future()

    def take(self, resolution: Resolution) -> None:
        if not self.resolved.done():
            self.resolved.set_result(resolution)

    def may_pass(self, plain: PlainQuestion, answer: PlainAnswer) -> bool:
        rules = PlainQuestions()
        rules.use(ownership(plain.question.apex))
        return rules.may_pass(plain, answer, 0.0)

    def take_answer(self, plain: PlainQuestion, answer: PlainAnswer, upstream: str) -> None:
        reply = messages.parse_response(plain.response(answer))
        assert (reply.id, reply.question) == (7, plain.data[12 : 12 + len(plain.spelled)])
        assert reply.rcode == answer.rcode
        body, targets = answer.body, answer.targets
        self.take(
            Resolution(answer.rcode, body, answer.is_authentic, upstream=upstream, targets=targets)
        )

    def take_resolution(self, plain: PlainQuestion, resolution: Resolution) -> None:
        self.take(resolution)


class AwaitedForwarder(Forwarder):
    """One whose resolutions can be awaited.

    Attributes:
        asks_plainly: Plain questions are asked as such, as they are if they come over UDP.
    """

    asks_plainly = True

    async def resolve(self, forward: Forward) -> Resolution:
        """Resolve a question; cancelling that does not call it back."""
        asking = Asking()
        plain = plain_question(forward) if self.asks_plainly else None
        if plain is not None:
            plain.asker, plain.client = asking, forward.client
        if plain is not None and self.ask_plain(plain):
            self.send_plain()
        else:
            self.ask(forward, asking.take)
        return await asking.resolved


@asynccontextmanager
async def forwarder(
    wanted: UpstreamSettings, resolv_conf: Path = RESOLV_CONF
) -> AsyncIterator[AwaitedForwarder]:
    """Run a forwarder."""
    made = AwaitedForwarder(wanted, Counters(), is_below_docker, resolv_conf=resolv_conf)
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait((running,))
        if not running.cancelled():
            running.result()


class Front(asyncio.DatagramProtocol):
    """A server of the smallest kind, so that others can ask a forwarder."""

    def __init__(self, forward: AwaitedForwarder) -> None:
        self._forwarder = forward
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = messages.parse_query(data)
        asked = Forward(query, query.name, query.qtype)
        task = asyncio.create_task(self._answer(asked, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: Forward, addr: tuple[str, int]) -> None:
        found = self._forwarder.cached(asked) or await self._forwarder.resolve(asked)
        octets = messages.assemble(asked.query, messages.RA | found.rcode, found.body, 1232)
        self._transport.sendto(octets, addr)


@asynccontextmanager
async def front(forward: AwaitedForwarder, port: int) -> AsyncIterator[None]:
    """Let others ask a forwarder on a port of loopback."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Front(forward), local_addr=("127.0.0.1", port)
    )
    try:
        yield
    finally:
        transport.close()


def question(
    name: str,
    qtype: int = messages.A,
    *,
    dnssec: bool = False,
    flags: int = messages.RD,
    client: bytes = b"client",
    apex: str | None = None,
) -> Forward:
    """A client's question."""
    wire = names.to_wire(name) + qtype.to_bytes(2) + b"\0\1"
    query = Query(7, flags, wire, name, qtype, messages.IN, Edns(1232, 0, dnssec))
    return Forward(query, name, qtype, client=client, apex=apex)


def records(asked: Forward, resolution: Resolution, section: int = 0) -> list[RR]:
    """The records of one section of what came back."""
    return list(messages.decode(names.to_wire(asked.name), resolution.body)[section])


def addresses(asked: Forward, resolution: Resolution) -> list[str]:
    """The IPv4 addresses that came back."""
    return [
        str(ipaddress.IPv4Address(record.rdata))
        for record in records(asked, resolution)
        if record.rtype == messages.A
    ]

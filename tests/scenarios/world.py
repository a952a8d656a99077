"""A world for scenarios: the real writer, zone and rules, and a forwarder that records.

It is asked four ways: the responder alone, the responder behind the wire table, and
a server on loopback over UDP and over TCP.  Clients of other addresses are pretended:
the server's views are those of the address that the scenario names.
"""

import asyncio
import hashlib
import re
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import dnslib

from containerdns.config.groups import Settings
from containerdns.config.settings import load
from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.cookies import Cookies
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.query_history import History
from containerdns.core.protocol.respond import Peer, Reply, Responder, Transfer
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.zone.containers import Attachment, Container, Network, PortBinding
from containerdns.core.zone.ownership import Listing
from containerdns.core.zone.views import View, Views, packed
from containerdns.server.answering import Answering
from containerdns.server.servers import Servers
from containerdns.server.tcp import Connections
from containerdns.server.udp import Datagrams
from containerdns.state.zone_writer import ZoneWriter
from tests.scenarios.reading import Step

ENGINES = ("unix:///run/one.sock", "unix:///run/two.sock")
TOP_LEVEL = frozenset({"com.", "app.", "example."})
SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")  # RFC 9018, appendix A.1
WAYS = ("core", "wire", "udp", "tcp")
MAX_ANSWER = 60.0  # seconds, on a busy machine; a response takes less than one ms
SILENCE = 0.05  # seconds without a response to what must have none
TIMES = 3  # each question is asked, so that ready-made responses are among the answers


class PretendingViews(Views):
    """Views in which every client may be taken for another one."""

    pretended: tuple[bytes, bytes] | None = None

    def of(self, client: bytes, local: bytes = b"") -> View:
        return super().of(*(self.pretended or (client, local)))


class LaterResponder(Responder):
    """A responder whose clock can be ahead."""

    ahead = 0.0

    def respond(
        self, data: bytes, peer: Peer, now: float, query: messages.Query | None = None
    ) -> Reply | Forward | Transfer | None:
        return super().respond(data, peer, now + self.ahead, query)

    def finish(self, forward: Forward, resolution: Resolution, peer: Peer, now: float) -> Reply:
        return super().finish(forward, resolution, peer, now + self.ahead)


class RecordingForwarder:
    """Says what the scenario tells it to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Forward] = []
        self.rcode = messages.NOERROR
        self.sections: dict[str, list[RR]] = {}

    def cached(self, forward: Forward) -> Resolution | None:
        return None

    def ask(self, forward: Forward, take: Callable[[Resolution], None]) -> None:
        take(self.resolved(forward))

    def ask_plain(self, plain: PlainQuestion) -> bool:
        return False

    def send_plain(self) -> None:
        pass

    def resolved(self, forward: Forward) -> Resolution:
        self.asked.append(forward)
        sections = [self.sections.get(s, []) for s in ("answer", "authority", "additional")]
        body = messages.encode(names.to_wire(forward.name), *sections)
        return Resolution(self.rcode, body, source="upstream", upstream="192.0.2.53")


class World:
    """Everything between a container and an answer."""

    def __init__(self, options: Mapping[str, object], folder: Path, way: str) -> None:
        self.way = way
        self.folder = folder
        self.settings: Settings = load(
            {"docker": list(ENGINES), "listen": "127.0.0.1:0", "rate-limit": 0, **options}, {}
        )
        self.counters = Counters()
        self.wire = PacketCache(self.counters)
        self.zone_writer = ZoneWriter(self.settings, self.counters, self.wire, TOP_LEVEL)
        self.views = PretendingViews(self.settings.rights)
        self.zone_writer.views = self.views
        self.responder = LaterResponder(
            self.zone_writer.ownership,
            Cookies(SECRET),
            self.counters,
            identity="tester",
            version="containerdns test",
        )
        self.forwarder = RecordingForwarder()
        self._address: tuple[str, int] = ("", 0)
        self._networks: dict[str, Network] = {}
        self.zone_writer.read_hosts()

    # -- what happens -------------------------------------------------------------

    def take(self, step: Step) -> None:  # noqa: PLR0912 - a branch a statement
        """Let one step happen."""
        match step.verb:
            case "networks":
                for words in step.below:
                    network = _network(words)
                    self._networks[network.name] = network
                for engine in ENGINES:
                    own = tuple(n for n in self._networks.values() if n.engine == engine)
                    self.zone_writer.networks_changed(engine, own)
            case "containers":
                for words in step.below:
                    self.put(self._container(words))
            case "die":
                self.zone_writer.container_died(ENGINES[0], self._id(step.words[0]), None)
            case "remove":
                self.zone_writer.container_removed(ENGINES[0], self._id(step.words[0]), None)
            case "rename":
                old = self.zone_writer.inventory.get(self._id(step.words[0]))
                assert old is not None
                self.put(replace(old, container_name=step.words[1]))
            case "hosts":
                lines = [" ".join(words) for words in step.below]
                self.settings.state.hosts[0].write_text("\n".join(lines) + "\n" * step.line)
                self.zone_writer.read_hosts()
            case "listing":
                self.zone_writer.set_listing(Listing(step.words[0]))
            case "own":
                self.zone_writer._own_container = self._id(step.words[0])
                self.zone_writer._networks_changed()
            case "later":
                self.responder.ahead += float(step.words[0])
                self.zone_writer.expire(time.time() + self.responder.ahead)
                while self.zone_writer.end_handovers(time.time() + self.responder.ahead):
                    pass
            case "upstream":
                self.forwarder.rcode = dnslib.RCODE.reverse[step.words[0]]
                self.forwarder.sections = {}
                for section, *record in step.below:
                    self.forwarder.sections.setdefault(section, []).append(_record(record))
            case _:
                raise AssertionError(f"line {step.line}: what is {step.verb}?")

    def put(self, container: Container) -> None:
        """Let a container be like this from now on."""
        self.zone_writer.container_changed(container.engine, container, None)

    def _id(self, container_name: str) -> str:
        found = [c.id for c in self.zone_writer.inventory if c.container_name == container_name]
        return found[0] if found else identity(container_name)

    def _container(self, words: list[str]) -> Container:
        name, state, *rest = words
        fields: dict[str, str] = {}
        labels: dict[str, str] = {}
        attachments: list[Attachment] = []
        ports: list[PortBinding] = []
        for word in rest:
            key, _, value = word.partition("=")
            if key.startswith("label."):
                labels[key[6:]] = value
            elif key == "compose":
                project, service, number = value.split("/")
                labels["com.docker.compose.project"] = project
                labels["com.docker.compose.service"] = service
                labels["com.docker.compose.container-number"] = number
            elif key == "aliases":
                attachments[-1] = replace(attachments[-1], aliases=tuple(value.split(",")))
            elif key == "port":
                ports.append(_port(value))
            elif key in ("id", "hostname", "domainname", "mode", "health", "engine"):
                fields[key] = value
            else:
                attachments.append(self._attachment(key, value))
        mode, _, lender = fields.get("mode", "bridge").partition(":")
        return Container(
            id=fields.get("id", identity(name)),
            container_name=name,
            engine=ENGINES[int(fields.get("engine", "1")) - 1],
            state=state,
            health=fields.get("health", ""),
            hostname=fields.get("hostname", ""),
            domainname=fields.get("domainname", ""),
            network_mode=f"{mode}:{self._id(lender)}" if lender else mode,
            attachments=tuple(attachments),
            docker_labels=labels,
            ports=tuple(ports),
        )

    def _attachment(self, name: str, value: str) -> Attachment:
        addresses = tuple(str(ip_address(a)) for a in value.split(",") if a)
        network = self._networks.get(name)
        if network is None:
            return Attachment(name, f"id of {name}", addresses)
        return Attachment(name, network.id, addresses, network.subnets, network.gateways)

    # -- who asks -----------------------------------------------------------------

    async def ask(self, data: bytes, client: str, local: str) -> list[bytes | None]:
        """Ask several times, this world's way; None for silence."""
        view_key = (packed(client), packed(local))
        if self.way in ("udp", "tcp"):
            if self.views.pretended != view_key:
                self.views.pretended = view_key
                self.views.epoch += 1
            over = _over_udp if self.way == "udp" else _over_tcp
            return [await over(self._address, data) for _ in range(TIMES)]
        peer = Peer(view_key[0], view_key[1], self.views.of(*view_key))
        if self.way == "core":
            return [self._respond(data, peer) for _ in range(TIMES)]
        return [self._through_wire(data, peer) for _ in range(TIMES)]

    def _through_wire(self, data: bytes, peer: Peer) -> bytes | None:
        table = self.wire.table(peer.view)
        ready = self.wire.answer(table, data, time.monotonic())
        if ready is not None:
            return ready[0]
        return self._respond(data, peer, keep=True)

    def _respond(self, data: bytes, peer: Peer, *, keep: bool = False) -> bytes | None:
        decision = self.responder.respond(data, peer, time.time())
        if isinstance(decision, Forward):
            if decision.query.wants_recursion:
                resolution = self.forwarder.resolved(decision)
            else:
                resolution = Resolution(messages.REFUSED, source="policy")
            decision = self.responder.finish(decision, resolution, peer, time.time())
        if decision is None:
            return None
        assert isinstance(decision, Reply)
        if keep:
            self.wire.keep(peer.view, data, decision, time.monotonic())
        return decision.octets

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve on loopback, if it is asked that way."""
        if self.way not in ("udp", "tcp"):
            yield
            return
        answering = Answering(self.responder, self.forwarder, History(10), self.counters)
        servers = Servers(
            self.settings.dns,
            Datagrams(self.views, self.wire, answering),
            Connections(self.views, self.wire, answering),
        )
        servers.open()
        endpoint = servers.endpoints[0]
        self._address = (endpoint.host, endpoint.port)
        task = asyncio.create_task(servers.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert self.counters.internal_errors == 0


async def _over_udp(address: tuple[str, int], data: bytes) -> bytes | None:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[bytes] = loop.create_future()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            if not arrived.done():
                arrived.set_result(data)

    transport, _ = await loop.create_datagram_endpoint(Client, remote_addr=address)
    try:
        transport.sendto(data)
        return await asyncio.wait_for(arrived, MAX_ANSWER if _is_answerable(data) else SILENCE)
    except TimeoutError:
        return None
    finally:
        transport.close()


async def _over_tcp(address: tuple[str, int], data: bytes) -> bytes | None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(len(data).to_bytes(2) + data)
        async with asyncio.timeout(MAX_ANSWER if _is_answerable(data) else SILENCE):
            octets = int.from_bytes(await reader.readexactly(2))
            return await reader.readexactly(octets)
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return None
    finally:
        writer.close()


def _is_answerable(data: bytes) -> bool:
    return len(data) >= messages.HEADER_OCTETS and not data[2] & 0x80


def identity(container_name: str) -> str:
    """The id that a container of a scenario has, if the scenario gives none."""
    return hashlib.sha256(container_name.encode()).hexdigest()


def _network(words: list[str]) -> Network:
    name, driver, subnets, *rest = words
    fields = dict(word.split("=", 1) for word in rest)
    return Network(
        id=f"id of {name}",
        name=fields.get("name", name),
        engine=ENGINES[int(fields.get("engine", "1")) - 1],
        driver=driver,
        subnets=tuple(subnets.split(",")),
        gateways=tuple(g for g in fields.get("gateway", "").split(",") if g),
    )


def _port(text: str) -> PortBinding:
    port, protocol, host_port = re.fullmatch(r"(\d+)/(\w+)(?::(\d+))?", text).groups()  # type: ignore[union-attr]
    return PortBinding(int(port), protocol, int(host_port or 0))


def _record(words: list[str]) -> RR:
    """A record of an upstream, as a scenario writes it."""
    owner, ttl, rclass, rtype, *data = words
    assert rclass == "IN"
    match rtype:
        case "A" | "AAAA":
            rdata = ip_address(data[0]).packed
        case "CNAME" | "NS":
            rdata = names.to_wire(data[0])
        case "SOA":
            numbers = b"".join(int(number).to_bytes(4) for number in data[2:])
            rdata = names.to_wire(data[0]) + names.to_wire(data[1]) + numbers
        case _:
            raise AssertionError(f"no scenario has a {rtype} of an upstream yet")
    number = messages.type_number(rtype)
    assert number is not None
    return RR(names.to_wire(owner), number, messages.IN, int(ttl), rdata)


# -- queries --------------------------------------------------------------------------


def query(name: str, rtype: str = "A", *words: str) -> bytes:
    """A query as a scenario writes it; the name keeps its spelling."""
    given = dict(word.partition("=")[::2] for word in words)
    flags = int(given.get("opcode", "0")) << 11 | (0 if "norecurse" in given else messages.RD)
    flags |= int(given.get("flags", "0"), 16)
    number = messages.type_number(rtype)
    assert number is not None, rtype
    rclass = {"IN": 1, "CH": 3, "HS": 4, "NONE": 254, "ANY": 255}[given.get("class", "IN")]
    opt = b""
    if any(word in given for word in ("edns", "do", "version", "option", "edns-flags")):
        options = b"".join(map(_option, filter(None, given.get("option", "").split(","))))
        bits = int(given.get("edns-flags", "0"), 16) | (0x8000 if "do" in given else 0)
        version = int(given.get("version", "0"))
        payload = int(given.get("edns") or 1232)
        opt = b"\0" + struct.pack("!HHBBHH", 41, payload, 0, version, bits, len(options)) + options
    header = struct.pack("!HHHHHH", 0x2B2B, flags, 1, 0, 0, 1 if opt else 0)
    return header + spelled(name) + struct.pack("!HH", number, rclass) + opt


def spelled(name: str) -> bytes:
    r"""The wire form of a name as typed, with `\DDD` and `\.`, its case kept."""
    if name == ".":
        return b"\0"
    wire = b""
    for label in re.findall(r"((?:\\\d{3}|\\.|[^.\\])+)\.", name):
        octets = re.sub(
            rb"\\(\d{3})|\\(.)",
            lambda m: bytes([int(m[1])]) if m[1] else m[2],
            label.encode("latin-1"),
        )
        wire += bytes([len(octets)]) + octets
    return wire + b"\0"


def _option(text: str) -> bytes:
    code, _, octets = text.partition(":")
    data = bytes.fromhex(octets)
    return struct.pack("!HH", int(code), len(data)) + data

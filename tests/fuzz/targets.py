"""What is fuzzed: each target takes one input and raises if something is wrong."""

import json
import time
from functools import cache
from typing import Any

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.respond import Peer, Reply, Transfer
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.zone import master_file
from containerdns.core.zone.containers import (
    Container,
    container_from_inspect,
    container_from_list,
    network_from_document,
)
from containerdns.core.zone.policy import Policy, publish
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Suffix, SuffixKind
from containerdns.errors import BadDocument, BadMessage, BadName
from tests.fuzz.generating import ENGINE, NETWORKS
from tests.fuzz.worlds import Change, World
from tests.reading_zones import in_zone

NOBODY = View(True, True, True, False, frozenset(), ("192.0.2.1",), ("192.0.2.1",))
POLICIES = (
    Policy(),
    Policy(wildcard=True, host_mode=True, name_templates=("{label:containerdns.txt}.{hostname}",)),
    Policy(networks=("front",), expose_by_default=False),
)


@cache
def world() -> World:
    """A zone with something of everything, for packets to meet."""
    made = World(wildcard="true")
    for name, labels in (
        ("web", {"containerdns.txt": "x" * 300, "containerdns.srv._http._tcp": "80"}),
        ("db", {"containerdns.cname": "web.docker."}),
        ("away", {"containerdns.cname": "elsewhere.example."}),
        ("many", {"containerdns.address": ",".join(f"10.9.0.{n}" for n in range(1, 150))}),
    ):
        container = Container(name.ljust(64, "0"), name, ENGINE, "running", docker_labels=labels)
        made.happen(Change("put", container))
    return made


def packet(data: bytes) -> None:
    """Any octets give a reply, a forward, a transfer or silence, over UDP and TCP alike."""
    made = world()
    for over_tcp in (False, True):
        peer = made.peer("127.0.0.1")
        peer = Peer(peer.address, peer.local, peer.view, over_tcp)
        outcome = made.responder.respond(data, peer, time.time())
        if isinstance(outcome, Forward):
            body = messages.encode(
                names.to_wire(outcome.name), [RR(names.to_wire(outcome.name), 1, 1, 60, bytes(4))]
            )
            outcome = made.responder.finish(outcome, Resolution(0, body), peer, time.time())
        if outcome is None or isinstance(outcome, Transfer):
            continue
        check_reply(outcome, data, over_tcp)
        if not over_tcp:
            check_ready_made(made, data, outcome, peer)


def check_reply(reply: Reply, data: bytes, over_tcp: bool) -> None:
    """A response is well-formed, says what it answers, and is no amplifier of nonsense."""
    octets = reply.octets
    assert octets[:2] == data[:2]
    assert octets[2] & 0x80
    assert not octets[3] & 0x40  # Z
    assert len(octets) <= (messages.TCP_OCTETS if over_tcp else messages.PAYLOAD_OCTETS)
    try:
        query = messages.parse_query(data)
    except BadMessage:
        assert len(octets) <= len(data)
        return
    if data[2] & 0x78:
        assert len(octets) <= len(data)
        return
    if not over_tcp:
        assert len(octets) <= query.datagram_octets
    response = messages.parse_response(octets)
    assert response.question.lower() == query.question.lower()
    assert (response.edns is None) == (query.edns is None) or reply.rcode == messages.FORMERR
    counts = [int.from_bytes(octets[at : at + 2]) for at in range(6, 12, 2)]
    present = sum(map(len, (response.answer, response.authority, response.additional)))
    assert sum(counts) == present + (response.edns is not None)


def check_ready_made(made: World, data: bytes, reply: Reply, peer: Peer) -> None:
    """The wire table gives the same response to the same octets."""
    made.wire.keep(peer.view, data, reply, 0.0)
    ready = made.ready(data, peer)
    if ready is not None:
        assert len(ready) == len(reply.octets)
        assert ready[:12] == reply.octets[:12]
    made.wire.forget_all()


def response(data: bytes) -> None:
    """Any octets are a response, or a `BadMessage`."""
    try:
        read = messages.parse_response(data)
    except BadMessage:
        return
    for section in (read.answer, read.authority, read.additional):
        for record in section:
            messages.data_text(record.rtype, record.rdata)


def document(found: object) -> None:
    """Any document of an Engine is a container, or a `BadDocument`; and it can be published."""
    for read in (container_from_inspect, container_from_list):
        try:
            container = read(found, ENGINE)
        except BadDocument:
            continue
        publication(container)
    try:
        network = network_from_document(found, ENGINE)
    except BadDocument:
        return
    made = World()
    made.writer.networks_changed(ENGINE, (network,))
    made.writer.zone.reverse.apexes()


def publication(container: Container) -> None:
    """Whatever a container says, publishing it costs its own names at most."""
    for policy in POLICIES:
        published = publish(container, policy)
        for claim in published.claims:
            if claim.owner.endswith("."):
                assert names.from_wire(names.to_wire(claim.owner)) == claim.owner
            else:
                assert names.relative(claim.owner) == claim.owner
    # Without a handover: a container called host would leave that name to nobody for a while.
    made = World(wildcard="true", handover=0)
    made.writer.networks_changed(ENGINE, NETWORKS)
    before = list(shown(made))
    made.happen(Change("put", container))
    list(shown(made))
    made.happen(Change("die", container.id))
    made.happen(Change("remove", container.id))
    assert list(shown(made)) == before


def shown(made: World) -> list[str]:
    """The text of all zones, without their serials."""
    zone = made.writer.zone
    suffixes = [
        *(Suffix(domain, SuffixKind.DOMAIN) for domain in zone.shape.domains),
        *(Suffix(domain, SuffixKind.SEARCH) for domain in zone.shape.search_domains),
        Suffix(names.ROOT, SuffixKind.BARE),
        *(Suffix(apex, SuffixKind.REVERSE) for apex in zone.reverse.apexes()),
    ]
    lines = []
    for suffix in suffixes:
        found = in_zone(zone, suffix, NOBODY)
        for record in found:
            assert names.is_below(record.name, suffix.apex)
            record.rr()
            line = master_file.line(record)
            assert line.isprintable() or "\t" in line
            assert "\n" not in line
            if record.rtype != messages.SOA:
                lines.append(line)
    return lines


def json_document(data: bytes) -> None:
    """Octets as an Engine's document, if they are one."""
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        return
    document(found)


def name(text: str) -> None:
    """Any text is a name that comes back from its wire form, or a `BadName`."""
    try:
        canonical = names.canonical(text)
    except BadName:
        return
    wire = names.to_wire(canonical)
    assert 1 <= len(wire) <= names.MAX_NAME
    assert names.from_wire(wire) == canonical
    assert names.canonical(canonical) == canonical
    assert names.is_below(canonical, names.ROOT)
    assert len(names.parents(canonical)) == len(names.labels_of_text(canonical))

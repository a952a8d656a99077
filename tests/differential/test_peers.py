"""Our answers beside those of NSD and Knot over the zone text that we wrote.

Whatever differs is a fault, or has its reason in `reason_to_differ`.
"""

import random
import struct
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.respond import Reply
from containerdns.core.zone import master_file
from containerdns.core.zone.containers import Attachment, Container, Network, PortBinding
from containerdns.core.zone.zone import Suffix, SuffixKind
from containerdns.errors import BadName
from tests.differential import peers
from tests.fuzz.worlds import Change, World
from tests.reading_zones import in_zone

QUERIES = 6000
SEED = 20261124
ENGINE = "unix:///run/one.sock"
APEXES = ("docker.", "18.172.in-addr.arpa.")
SEARCH_INSIDE = "lan.docker."  # a search domain in a domain
HOST = "192.0.2.1"
SIGNED_TYPES = (46, 47, 50)  # RRSIG, NSEC, NSEC3

pytestmark = pytest.mark.skipif(not peers.are_installed(), reason="needs nsd and knotd")


class Said(NamedTuple):
    """What one server says, as sets."""

    rcode: int
    flags: int
    answer: frozenset[RR]
    authority: frozenset[RR]
    additional: frozenset[RR]
    edns: tuple[int, bool] | None


def populated() -> World:
    """A zone with something of everything that a zone text can hold."""
    suffixes = {"domain": "docker", "search-domain": ["corp.example", SEARCH_INSIDE.rstrip(".")]}
    world = World(**{"host-address": [HOST, "2001:db8::1"], **suffixes})
    front = Network("front", "front", ENGINE, "bridge", ("172.18.0.0/16",), ("172.18.0.1",))
    world.writer.networks_changed(ENGINE, (front,))
    made: list[tuple[str, dict[str, str]]] = [
        ("web", {"containerdns.names": "www,a.b.c.d", "containerdns.ttl": "60"}),
        ("staging-search_elasticsearch_1", {}),
        ("wild", {"containerdns.wildcard": "true", "containerdns.txt": "any"}),
        ("x.wild", {}),
        ("deep.y.wild", {}),
        ("alias", {"containerdns.cname": "web.docker."}),
        ("alias2", {"containerdns.cname": "alias.docker.", "containerdns.wildcard": "true"}),
        ("gone", {"containerdns.cname": "nobody.docker."}),
        ("into", {"containerdns.cname": "q.wild.docker."}),
        ("away", {"containerdns.cname": "www.example.net."}),
        ("ring", {"containerdns.cname": "ring2.docker."}),
        ("ring2", {"containerdns.cname": "ring.docker."}),
        ("text", {"containerdns.txt": 'a "b" \\ ; \x07', "containerdns.txt.key": "v" * 600}),
        (
            "serve",
            {"containerdns.srv._http._tcp": "8080", "containerdns.srv._sip._udp.sub": "5060"},
        ),
        ("fqdn", {"containerdns.fqdns": "exact.docker,one.two.docker,other.example"}),
        ("odd", {"containerdns.names": "o\\.d,o\\032d,o\\200,\\@,UPPER"}),
        ("api-1", {"com.docker.compose.project": "shop", "com.docker.compose.service": "api"}),
        ("api-2", {"com.docker.compose.project": "shop", "com.docker.compose.service": "api"}),
    ]
    made += [(f"m{n}", {"containerdns.names": "many"}) for n in range(1, 25)]
    for number, (name, labels) in enumerate(made, 2):
        attachment = Attachment(
            "front", "front", (f"172.18.0.{number}", f"fd00::{number:x}"), ("172.18.0.0/16",)
        )
        container = Container(
            f"{number:064x}", name, ENGINE, "running", docker_labels=labels,
            attachments=(attachment,), ports=(PortBinding(80, "tcp"), PortBinding(53, "udp")),
        )  # fmt: skip
        world.happen(Change("put", container))
    return world


def zone_texts(world: World) -> dict[str, str]:
    """Our zones, as `/zone` writes them."""
    view = world.peer("127.0.0.1").view
    texts = {}
    for apex in APEXES:
        kind = SuffixKind.DOMAIN if apex == "docker." else SuffixKind.REVERSE
        suffix = Suffix(apex, kind)
        found = in_zone(world.writer.zone, suffix, view)
        lines = master_file.lines(world.writer.zone, suffix, found, knows_address=True)
        texts[apex] = "\n".join(filter(None, lines)) + "\n"
    return texts


def queries(world: World) -> list[bytes]:
    """Names that exist, almost exist and do not; all types; odd case."""
    chance = random.Random(SEED)
    view = world.peer("127.0.0.1").view
    owners = []
    for apex in APEXES:
        kind = SuffixKind.DOMAIN if apex == "docker." else SuffixKind.REVERSE
        owners += [r.name for r in in_zone(world.writer.zone, Suffix(apex, kind), view)]
    owners = sorted(set(owners))
    types = [*range(1, 54), 65, 99, 255, 256, 257, 1000, 65280, *[1, 28, 16, 33, 5, 6, 2, 12] * 12]
    types.remove(messages.OPT)
    wild = names.to_wire(f"_tcp.wild.{SEARCH_INSIDE}")  # above services, below a wildcard
    made = [_query(chance, wild, messages.A)]
    while len(made) < QUERIES:
        labels = names.labels_of_text(chance.choice(owners))
        own = 3 if labels[-1] == "arpa" else 1
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            at = chance.randrange(len(labels) - own + 1)
            match chance.randrange(4):
                case 0:
                    labels.insert(at, chance.choice(("x", "_tcp", "*", "web", "1", "any", "key")))
                case 1 if len(labels) > own + 1:
                    del labels[min(at, len(labels) - own - 1)]
                case 2 if at < len(labels) - own:
                    labels[at] = (
                        labels[at] + "x" if chance.random() < 0.5 else labels[at][1:] or "y"
                    )
                case _:
                    labels.insert(0, chance.choice(("a", "b.c", "*")))
        try:
            wire = names.to_wire(".".join(labels) + ".")
        except BadName:
            continue
        if not any(names.is_below(names.from_wire(wire), apex) for apex in APEXES):
            continue
        made.append(_query(chance, wire, chance.choice(types)))
    return made


def _query(chance: random.Random, wire: bytes, qtype: int) -> bytes:
    mixed = bytes(o ^ 0x20 if 97 <= o <= 122 and chance.random() < 0.2 else o for o in wire)
    flags = chance.choice((0, 0, 0, messages.CD, messages.AD))
    opt = b""
    if chance.random() < 0.6:
        payload, do = chance.choice((512, 1232, 4096)), chance.choice((0, 0x8000))
        opt = b"\0" + struct.pack("!HHIH", messages.OPT, payload, do, 0)
    return messages.query(
        chance.randrange(0x10000), flags, mixed + struct.pack("!HH", qtype, 1), opt
    )


def said(octets: bytes) -> Said:
    read = messages.parse_response(octets)
    edns = None if read.edns is None else (read.edns.version, read.edns.dnssec_ok)
    return Said(
        read.rcode,
        read.flags & (messages.AA | messages.TC | messages.RD | messages.AD | messages.CD | 0x40),
        frozenset(map(_folded, read.answer)),
        frozenset(map(_folded, read.authority)),
        frozenset(map(_folded, read.additional)),
        edns,
    )


def _folded(record: RR) -> RR:
    is_name = record.rtype in (messages.CNAME, messages.NS, messages.PTR)
    rdata = record.rdata.lower() if is_name else record.rdata
    return record._replace(owner=record.owner.lower(), rdata=rdata)


def reason_to_differ(data: bytes, ours: Said, theirs: Said) -> str:
    """Why an answer may be another one than the peer's; "" for no reason."""
    query = messages.parse_query(data)
    if ours == theirs._replace(flags=theirs.flags & ~messages.CD | ours.flags & messages.CD):
        return "CD is copied by some, and nothing to a server that does not validate"
    if query.qtype == messages.ANY and (ours.rcode, ours.answer <= theirs.answer) == (0, True):
        return "ANY gets one RRset (RFC 8482), of them all or another one"
    if ours.flags & theirs.flags & messages.TC:
        return "both are truncated, ours with the whole records that fit"
    is_same = ours._replace(additional=frozenset()) == theirs._replace(additional=frozenset())
    if is_same and ours.additional > theirs.additional:
        return "more addresses of targets in our additional section"
    if is_same_but_for_zone(ours, theirs) and names.is_below(query.name, SEARCH_INSIDE):
        return "a search domain has an SOA of its own"
    if query.qtype in SIGNED_TYPES and (ours.flags, ours.edns) == (theirs.flags, theirs.edns):
        return "types that may stand beside a CNAME in a signed zone, which ours are not"
    return ""


def is_same_but_for_zone(ours: Said, theirs: Said) -> bool:
    """Whether two negative answers have the same SOA, of a search domain and its domain."""
    inside, docker = map(names.to_wire, (SEARCH_INSIDE, "docker."))
    moved = frozenset(rr._replace(owner=docker) for rr in ours.authority if rr.owner == inside)
    return bool(moved) and ours._replace(authority=moved) == theirs


@pytest.fixture(scope="module")
def world() -> World:
    return populated()


def test_differences_from_nsd_and_knot_have_reasons(world: World, tmp_path: Path) -> None:
    """RFC 1034, 2308, 4592 and 6891 as those two read them."""
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    peer = world.peer("127.0.0.1")
    with peers.serving(zone_texts(world), tmp_path) as ports:
        for data in queries(world):
            outcome = world.responder.respond(data, peer, time.time())
            if not isinstance(outcome, Reply):
                wrong.append(f"not answered by us: {data.hex()}")
                continue
            ours = said(outcome.octets)
            for server, port in ports.items():
                theirs = said(peers.ask(port, data))
                if ours == theirs:
                    counts["the same"] += 1
                    continue
                reason = reason_to_differ(data, ours, theirs)
                counts[f"{server}: {reason}"] += 1
                if not reason:
                    wrong.append(_told(server, data, ours, theirs))
    print(counts)
    assert not wrong, f"{len(wrong)} differences\n" + "\n\n".join(wrong[:12])
    assert counts["the same"] > QUERIES


def _told(server: str, data: bytes, ours: Said, theirs: Said) -> str:
    query = messages.parse_query(data)
    lines = [f"{query.name} {messages.type_text(query.qtype)} {query.edns}"]
    for name, one in (("ours", ours), (server, theirs)):
        lines.append(f"  {name}: {messages.rcode_text(one.rcode)} {one.flags:04x} {one.edns}")
        for section in ("answer", "authority", "additional"):
            for rr in sorted(getattr(one, section)):
                text = master_file.data_text(rr.rtype, rr.rdata)
                owner = names.from_wire(rr.owner)
                lines.append(
                    f"    {section} {owner} {rr.ttl} {messages.type_text(rr.rtype)} {text}"
                )
    return "\n".join(lines)

"""Whatever happens: who follows by IXFR holds what AXFR gives, and that is what we answer."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Self

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containerdns.config.groups import Settings
from containerdns.config.settings import load
from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.upstream.forwarding import Forward
from containerdns.core.zone.secondary_copies import Copy
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Suffix, SuffixKind
from containerdns.state.secondaries import Feed
from tests.fuzz.generating import CLIENTS, DOMAINS, ENGINE, OWNERS, SEARCH_DOMAINS, query
from tests.fuzz.generating import containers as few_containers
from tests.fuzz.worlds import Change, World, changes
from tests.reading_zones import in_zone

NOBODY = View(True, True, True, False, frozenset(), ("192.0.2.1",), ("192.0.2.1",))
APEXES = (*DOMAINS, "18.172.in-addr.arpa.", "0.19.172.in-addr.arpa.")
MANY_IDS = tuple(f"{number:012x}{0:052x}" for number in range(60))  # no two look alike

OTHER_ENGINE = "tcp://other.example:2375"

many_containers = st.builds(
    lambda container, container_id, engine: replace(container, id=container_id, engine=engine),
    few_containers,
    st.sampled_from(MANY_IDS),
    st.sampled_from((ENGINE, ENGINE, OTHER_ENGINE)),
)
hosts_lines = st.builds(
    lambda number, owner: f"192.0.2.{number} {owner}",
    st.integers(1, 4),
    st.sampled_from(OWNERS),
)
many_changes = st.one_of(
    changes,
    st.builds(Change, st.just("put"), many_containers),
    st.builds(Change, st.just("put"), many_containers),
    st.builds(Change, st.just("remove"), st.sampled_from(MANY_IDS)),
    st.builds(Change, st.just("stop"), st.sampled_from(MANY_IDS)),
    st.builds(Change, st.just("own"), st.sampled_from(MANY_IDS[:8])),
    st.builds(Change, st.just("lost"), st.sampled_from(((), (ENGINE,), (OTHER_ENGINE,)))),
    st.builds(Change, st.just("handed over"), st.sampled_from((30, 10**6))),
    st.builds(Change, st.just("hosts"), st.lists(hosts_lines, max_size=4)),
    st.builds(
        Change,
        st.just("reload"),
        st.sampled_from(
            (
                {},
                {"ttl": "7"},
                {"unhealthy": "keep"},
                {"handover": "0"},
                {"wildcard": "true"},
                {"search-domain": ["deep.lab.docker", "lab.eu.docker"]},
                {"host-address": ["192.0.2.77"]},
            )
        ),
    ),
    st.builds(Change, st.just("take"), st.sampled_from(APEXES)),
    st.builds(Change, st.just("take"), st.sampled_from(APEXES)),
)
thorough = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class Silent:
    """Nobody is notified."""

    def changed(self, apex: str, soa: RR) -> None:
        """Do nothing."""


class Secondary:
    """A client that takes a zone whole once, and then by differences as long as it can.

    Attributes:
        whole: How often the zone was taken whole.
    """

    def __init__(self, apex: str) -> None:
        self.apex = apex
        self.whole = 0
        self._serial = 0
        self._records: set[RR] = set()

    def take(self, copy: Copy | None) -> None:
        """Follow a copy, and compare with it."""
        if copy is None:
            self._serial = 0
            return
        if copy.serial != self._serial:
            steps = copy.since(self._serial) if self._serial else None
            if steps is None:
                self.whole += 1
                self._records = set(copy.records())
            for step in steps or ():
                assert step.before == self._serial
                assert set(step.removed) <= self._records
                self._records -= set(step.removed)
                assert not set(step.added) & self._records
                self._records |= set(step.added)
                self._serial = step.after
        self._serial = copy.serial
        held = list(copy.records())
        assert len(held) == len(set(held))
        assert self._records == set(held)


class Followed:
    """A world with a feed, and secondaries of some of its zones."""

    def __init__(self) -> None:
        self._hosts = tempfile.NamedTemporaryFile("w")  # noqa: SIM115 - closed by `__exit__`
        self._stamp = 0
        self.world = World(hosts=[self._hosts.name])
        writer = self.world.writer
        self.view = NOBODY
        self.feed = writer.feed = Feed(writer.zone, lambda: self.view, Silent(), notifies=False)
        self.secondaries = {apex: Secondary(apex) for apex in APEXES}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Remove the hosts file; a world is never collected once its writer has frozen it."""
        self._hosts.close()

    def happen(self, change: Change) -> None:
        """Let something happen."""
        match change:
            case Change("reload", dict(options)):
                asyncio.run(self._reload(load_with({"hosts": [self._hosts.name], **options})))
            case Change("take", str(apex)):
                self.secondaries[apex].take(self.current(apex))
            case Change("stop", str(container_id)):
                self.world.happen(Change("die", container_id))
            case Change("lost", tuple(urls)):
                self.world.writer.set_lost_engines(frozenset(urls), time.time())
            case Change("handed over", int(seconds)):
                while self.world.writer.end_handovers(time.time() + seconds):
                    pass
            case Change("hosts", list(lines)):
                self._hosts.seek(0)
                self._hosts.truncate()
                self._hosts.write("".join(f"{line}\n" for line in lines))
                self._hosts.flush()
                self._stamp += 1  # two writings of one moment
                os.utime(self._hosts.name, (self._stamp, self._stamp))
                self.world.writer.read_hosts()
            case _:
                self.world.happen(change)

    def current(self, apex: str) -> Copy | None:
        """The copy of a zone when the next second has come."""
        self.world.writer.tick(self.world.writer.zone.serial + 1)
        return asyncio.run(self.feed.current(apex))

    async def _reload(self, wanted: Settings) -> None:
        writer = self.world.writer
        writer.use(wanted, time.time())
        hosts = wanted.rights.host_addresses or NOBODY.host_addresses
        self.view = replace(NOBODY, host_addresses=hosts)
        self.feed.look_again()
        self.world.responder.use(writer.ownership)
        await writer.publish_anew()

    def anew(self, apex: str) -> set[RR]:
        """The records of a zone as it is, except the SOA."""
        zone, view = self.world.writer.zone, self.view
        kind = SuffixKind.DOMAIN if apex in zone.shape.domains else SuffixKind.REVERSE
        found = [r.rr() for r in in_zone(zone, Suffix(apex, kind), view)]
        assert len(found) == len(set(found))
        return {record for record in found if record.rtype != messages.SOA}


def load_with(options: dict[str, object]) -> Settings:
    """The settings of a `World` with other options."""
    given_options = {
        "docker": ENGINE, "domain": list(DOMAINS), "search-domain": list(SEARCH_DOMAINS), **options,
    }  # fmt: skip
    return load(given_options, {})


@thorough
@given(st.lists(many_changes, min_size=5, max_size=60))
def test_secondary_that_follows_by_differences_holds_the_zone(happened: list[Change]) -> None:
    """RFC 1995 section 3: the result of the differences is the zone at the new serial."""
    with Followed() as followed:
        for apex in APEXES:
            followed.happen(Change("take", apex))
        for change in happened:
            followed.happen(change)
        reverse = followed.world.writer.zone.reverse.apexes()
        for apex in (a for a in APEXES if a in (*DOMAINS, *reverse)):
            copy = followed.current(apex)
            assert copy is not None
            followed.secondaries[apex].take(copy)
            assert set(copy.records()) == followed.anew(apex)


@thorough
@given(st.lists(many_changes, min_size=1, max_size=20))
def test_whole_transfer_has_what_is_answered_and_nothing_else(happened: list[Change]) -> None:
    """What lies below a domain of ours, also by a search domain there, is in its zone."""
    with Followed() as followed:
        for change in happened:
            if change.verb != "listing":
                followed.happen(change)
        for domain in DOMAINS:
            held = followed.current(domain)
            assert held is not None
            by_key: dict[tuple[bytes, int], set[bytes]] = {}
            for record in held.records():
                by_key.setdefault((record.owner, record.rtype), set()).add(record.rdata)
            for name, rtype in asked_of(domain, by_key):
                expected = by_key.get((names.to_wire(name), rtype), set())
                answered = answer(followed, name, rtype)
                if answered is not None:
                    assert answered == expected, f"{name} {messages.type_text(rtype)}"


def asked_of(domain: str, held: Iterable[tuple[bytes, int]]) -> list[tuple[str, int]]:
    """What is held, and what could be."""
    asked = [(names.from_wire(owner), rtype) for owner, rtype in held]
    for owner in OWNERS:
        for suffix in (domain, *(s for s in SEARCH_DOMAINS if names.is_below(s, domain))):
            asked += [(names.join(owner, suffix), t) for t in (messages.A, messages.TXT)]
    return asked


def answer(followed: Followed, name: str, rtype: int) -> set[bytes] | None:
    """What we answer of a name itself; None if that is none of its zone's records."""
    world = followed.world
    peer = world.peer(CLIENTS[0])
    view = replace(peer.view, networks=frozenset(), host_addresses=followed.view.host_addresses)
    reply = world.fresh(query(name, rtype, edns=True), replace(peer, view=view, over_tcp=True))
    if reply is None or isinstance(reply, Forward) or not hasattr(reply, "octets"):
        return None
    said = messages.parse_response(reply.octets)
    owner = names.to_wire(name)
    told = [r for r in said.answer if r.owner.lower() == owner]
    if any(r.rtype == messages.CNAME != rtype for r in told):
        return None
    zone = world.writer.zone
    nearest = zone.domain_above(name)
    is_cut = nearest in DOMAINS and nearest == name and rtype == messages.NS
    suffix = zone.suffix_in(nearest, name) if name != nearest else None
    if suffix and not zone.node(suffix.owner_of(name), suffix) and told:
        return None  # by a wildcard
    return None if is_cut else {r.rdata for r in told if r.rtype == rtype}

"""A writer and a responder that generated changes happen to."""

import asyncio
import time
from typing import NamedTuple

from hypothesis import strategies as st

from containerdns.config.groups import Settings
from containerdns.config.settings import load
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.cookies import Cookies
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.respond import Peer, Reply, Responder, Transfer
from containerdns.core.upstream.forwarding import Forward
from containerdns.core.zone.containers import Container
from containerdns.core.zone.ownership import Listing
from containerdns.core.zone.views import packed
from containerdns.state.zone_writer import ZoneWriter
from tests.fuzz.generating import (
    DOMAINS,
    ENGINE,
    IDS,
    NETWORKS,
    SEARCH_DOMAINS,
    TOP_LEVEL,
    containers,
)

LOCAL = bytes((172, 18, 0, 1))


class Change(NamedTuple):
    """Something that happens: a verb, and whom it happens to."""

    verb: str
    to: object = None


changes = st.one_of(
    st.builds(Change, st.just("put"), containers),
    st.builds(Change, st.just("put"), containers),
    st.builds(Change, st.just("die"), st.sampled_from(IDS)),
    st.builds(Change, st.just("remove"), st.sampled_from(IDS)),
    st.builds(Change, st.just("networks"), st.integers(0, len(NETWORKS))),
    st.builds(Change, st.just("listing"), st.sampled_from(list(Listing))),
    st.builds(Change, st.just("expire")),
    st.builds(Change, st.just("own"), st.sampled_from(IDS)),
)


class Contents(NamedTuple):
    """A response without the order of its records."""

    flags: int
    rcode: int
    sections: tuple[tuple[RR, ...], ...]


class World:
    """Everything between a container and a ready-made response."""

    def __init__(self, **options: object) -> None:
        self.own = ""
        self.wire = PacketCache(Counters())
        self.writer = ZoneWriter(_settings(options), Counters(), self.wire, TOP_LEVEL)
        self.responder = Responder(
            self.writer.ownership, Cookies(bytes(16)), Counters(), identity="x"
        )
        self.writer.networks_changed(ENGINE, NETWORKS)
        self.writer.listed(ENGINE)

    def happen(self, change: Change) -> None:
        """Let something happen."""
        writer = self.writer
        match change:
            case Change("put", Container() as container):
                writer.container_changed(ENGINE, container, None)
            case Change("die", str(container_id)):
                writer.container_died(ENGINE, container_id, None)
            case Change("remove", str(container_id)):
                writer.container_removed(ENGINE, container_id, None)
            case Change("networks", int(count)):
                writer.networks_changed(ENGINE, NETWORKS[:count])
            case Change("listing", Listing() as listing):
                writer.set_listing(listing)
            case Change("expire"):
                writer.expire(time.time() + 10**6)
            case Change("own", str(container_id)):
                self.be(container_id)

    def be(self, container_id: str) -> None:
        """Let this server run in a container."""
        self.own = self.writer._own_container = container_id
        self.writer._networks_changed()

    def reload(self, **options: object) -> None:
        """Let the operator change options; those that are not given have their first values."""
        self.writer.use(_settings(options), time.time())
        self.responder.use(self.writer.ownership)
        asyncio.run(self.writer.publish_anew())

    def peer(self, client: str) -> Peer:
        """A client, as it is seen now."""
        address = packed(client)
        return Peer(address, LOCAL, self.writer.views.of(address, LOCAL))

    def ready(self, data: bytes, peer: Peer) -> bytes | None:
        """The ready-made response, if there is one."""
        found = self.wire.answer(self.wire.table(peer.view), data, 0.0)
        return None if found is None else found[0]

    def fresh(self, data: bytes, peer: Peer) -> Reply | Forward | Transfer | None:
        """What the responder says now."""
        return self.responder.respond(data, peer, time.time())


def _settings(options: dict[str, object]) -> Settings:
    given = {"domain": list(DOMAINS), "search-domain": list(SEARCH_DOMAINS), **options}
    forwards = [
        "intranet.test=192.0.2.1",
        "lab.docker=192.0.2.1",
        "168.192.in-addr.arpa=192.0.2.1",
    ]
    return load({"docker": ENGINE, "forward": forwards, **given}, {})


def contents(octets: bytes) -> Contents:
    """Read a response of ours."""
    response = messages.parse_response(octets)
    return Contents(
        response.flags,
        response.rcode,
        (
            tuple(sorted(response.answer)),
            tuple(sorted(response.authority)),
            tuple(sorted(response.additional)),
        ),
    )

"""Whatever happens to the zone: ready-made responses, fresh ones and explanations agree."""

import time
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containerdns.core.protocol import messages
from containerdns.core.protocol.explain import explain
from containerdns.core.protocol.respond import TRANSFERS, Reply, Transfer
from containerdns.core.upstream.forwarding import Forward
from tests.fuzz.generating import CLIENTS, QTYPES, asked_names, query
from tests.fuzz.worlds import Change, World, changes, contents

questions = st.lists(
    st.tuples(asked_names, st.sampled_from(QTYPES), st.sampled_from(CLIENTS)),
    min_size=10,
    max_size=30,
    unique=True,
)
options = st.sampled_from(
    (
        {},
        {"wildcard": "true"},
        {"remember": "0"},
        {"bare-names": "false", "unhealthy": "keep"},
        {"host-mode": "true", "host-address": ["192.0.2.1", "2001:db8::1"]},
        {"network": ["back", "front"]},
    )
)
thorough = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@thorough
@given(options, st.lists(changes, min_size=1, max_size=10), questions)
def test_ready_made_response_is_the_fresh_one_after_every_change(
    chosen: dict[str, object], happened: list[Change], asked: list[tuple[str, int, str]]
) -> None:
    """Checks that `depends_on` and what `replace` gives as changed go together."""
    world = World(**chosen)
    datas = [(query(name, qtype), client) for name, qtype, client in asked]
    for change in (Change("nothing"), *happened):
        world.happen(change)
        for data, client in datas:
            check_ready_made(world, data, client)


def check_ready_made(world: World, data: bytes, client: str) -> None:
    """Compare what is kept with what is so, and keep what is so."""
    peer = world.peer(client)
    fresh = world.fresh(data, peer)
    ready = world.ready(data, peer)
    if ready is not None:
        assert isinstance(fresh, Reply), f"kept, but now {fresh}"
        assert contents(ready) == contents(fresh.octets)
    if isinstance(fresh, Reply):
        world.wire.keep(peer.view, data, fresh, 0.0)


@thorough
@given(options, st.lists(changes, min_size=1, max_size=10), questions)
def test_explanation_is_the_response(
    chosen: dict[str, object], happened: list[Change], asked: list[tuple[str, int, str]]
) -> None:
    world = World(**chosen)
    for change in happened:
        world.happen(change)
    for name, qtype, client in asked:
        check_explanation(world, name, qtype, client)


@given(qtype=st.integers(0, 0xFFFF))
@settings(max_examples=300, deadline=None)
def test_explanation_is_the_response_for_every_type(qtype: int) -> None:
    world = World()
    for name in ("web.docker.", "docker.", "unknown.", "www.example.net.", "18.172.in-addr.arpa."):
        check_explanation(world, name, qtype, "127.0.0.1")


def test_explanation_is_the_response_for_types_that_are_no_records() -> None:
    world = World()
    for qtype in (41, *range(249, 256)):
        for name in ("docker.", "unknown.", "www.example.net.", "18.172.in-addr.arpa."):
            for client in ("127.0.0.1", "172.18.0.77", "203.0.113.5"):
                check_explanation(world, name, qtype, client)


def check_explanation(world: World, name: str, qtype: int, client: str) -> None:
    """Compare the explanation of a query with its outcome."""
    peer = world.peer(client)
    writer = world.writer
    told = explain(writer.ownership, name, qtype, peer.view, time.time())
    outcome = world.fresh(query(name, qtype, edns=True), peer)
    if told.rcode is None:
        assert isinstance(outcome, Forward), f"{told} but {outcome}"
        assert told.decision == "upstream"
        assert told.asks == outcome.name
        assert told.forward_apex == outcome.apex
        assert told.ttl_ceiling == outcome.ttl_ceiling
        assert told.is_doubtful == outcome.negative_becomes_servfail
        assert tuple(record.rr() for record in told.records) == outcome.chain
        return
    if qtype in TRANSFERS and told.rule == "zone transfer":
        outcome = world.fresh(query(name, qtype), replace(peer, over_tcp=True))
        assert isinstance(outcome, Transfer)
        return
    assert isinstance(outcome, Reply), f"{told} but {outcome}"
    assert (told.rcode, told.decision) == (outcome.rcode, outcome.source)
    said = messages.parse_response(outcome.octets)
    if not said.flags & messages.TC:
        mine = sorted(r.rr()._replace(owner=r.rr().owner.lower()) for r in told.records)
        assert mine == sorted(said.answer)
    soas = [record.ttl for record in said.authority if record.rtype == messages.SOA]
    assert soas == ([] if told.soa_ttl is None else [told.soa_ttl])
    assert told.name == name

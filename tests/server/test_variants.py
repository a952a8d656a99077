"""Queries that differ in their options alone share one ready-made response."""

import random
import struct
from dataclasses import replace
from ipaddress import ip_network
from itertools import pairwise

from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import MAX_OF_A_NAME, Entry, PacketCache, Table
from containerdns.core.protocol.query_history import History, QueryStamp
from containerdns.core.protocol.query_variants import PLAIN_ENDS, USUAL_SIZES
from containerdns.core.protocol.respond import Reply
from containerdns.core.upstream.forwarding import Forward
from containerdns.core.zone.views import Rights, Views
from containerdns.server import udp
from containerdns.server.answering import Answering
from containerdns.server.udp import FREED_AT_ONCE, MAX_CLIENTS, Client, Datagrams, Made
from tests.core.protocol.test_query_variants import opt
from tests.core.protocol.test_respond import CLIENT, publication, query, responder
from tests.server.serving import StubForwarder

STAMP = QueryStamp("udp", 0.0)
EVERYBODY = (ip_network("0.0.0.0/0"),)
LOCAL = bytes((192, 0, 2, 1))


def serving() -> tuple[Datagrams, Client, PacketCache]:
    counters = Counters()
    wire = PacketCache(counters)
    made = responder(publication("web", "192.0.2.7"))
    answering = Answering(made, StubForwarder(), History(9), counters)
    datagrams = Datagrams(Views(Rights(EVERYBODY, (), (), ask_own=False)), wire, answering)
    return datagrams, datagrams.client(CLIENT, LOCAL), wire


def answer(datagrams: Datagrams, client: Client, data: bytes) -> bytes:
    octets = datagrams.answer(data, client, 0.0)
    assert isinstance(octets, bytes)
    return octets


def ready_made(datagrams: Datagrams, data: bytes, client: Client, started: float) -> bytes | None:
    """The response that the packet cache has; None if the query needs more."""
    made = datagrams.with_options(data, data[2:].lower(), client, STAMP, started)
    if made is None or not isinstance(made[0], Entry):
        return None
    return whole(data, made)


def whole(data: bytes, made: Made) -> bytes:
    outcome, tail, _ = made
    return data[:2] + outcome.head + data[12 : outcome.end] + tail


def test_clients_with_cookies_share_one_response_and_have_their_own_cookies() -> None:
    datagrams, client, wire = serving()
    for number in range(udp.MAX_VARIANTS * 3):
        cookie = struct.pack("!Q", number)
        data = query("web.docker.", opt=opt((10, cookie)))
        said = messages.parse_response(answer(datagrams, client, data))
        assert said.edns is not None
        returned = said.edns.option(10)
        assert returned is not None
        assert (returned[:8], len(returned), len(said.answer)) == (cookie, 24, 1)
        ready = ready_made(datagrams, data, client, 1.0)
        assert ready is not None
        assert ready == answer(datagrams, client, data)
        proof = query("web.docker.", opt=opt((10, returned)))
        assert messages.parse_response(answer(datagrams, client, proof)).edns == said.edns
    assert len(wire) == 1
    assert len(client.variants) <= udp.MAX_VARIANTS


def test_random_options_push_no_plain_response_out() -> None:
    datagrams, client, wire = serving()
    plain = query("web.docker.")
    answer(datagrams, client, plain)
    chance = random.Random(0)
    for _ in range(500):
        option = (chance.randrange(13, 70000) & 0xFFFF, chance.randbytes(chance.randrange(40)))
        size = chance.randrange(65536)
        answer(datagrams, client, query("web.docker.", opt=opt(option, size=size)))
        answer(datagrams, client, query("web.docker.", opt=opt(size=size)))
    assert wire.answer(client.ready, plain, 0.0) is not None
    assert len(wire) < 20, "plain, plain with EDNS, and some of the usual sizes"


def test_unusual_flags_sizes_and_types_push_no_plain_response_out() -> None:
    """Each has a response of its own, and all are asked for again and again."""
    datagrams, client, wire = serving()
    plain = [query("web.docker.", qtype) for qtype in (1, 28)]
    chance = random.Random(0)
    for data in plain:
        answer(datagrams, client, data)
    for _ in range(3 * MAX_OF_A_NAME):
        flags, qtype = chance.choice((0, 0x100, 0x10, 0x120, 0x130)), chance.randrange(1, 300)
        size = chance.choice(sorted(USUAL_SIZES))
        unusual = query("web.docker.", qtype, flags=flags, opt=opt(size=size))
        for data in (unusual, unusual):
            answer(datagrams, client, data)
        for data in plain:
            ready = wire.answer(client.ready, data, 0.0)
            assert ready is not None
            ready[1].hits += 1
    assert len(wire) == MAX_OF_A_NAME


def test_variant_holds_for_half_an_hour_and_for_its_type() -> None:
    datagrams, client, _ = serving()
    for qtype in (65, 97):  # lower case makes the first into the second
        answer(datagrams, client, query("web.docker.", qtype, opt=opt((10, bytes(8)))))
        asked = query("web.docker.", 65, opt=opt((10, bytes(8))))
        ready = ready_made(datagrams, asked, client, 1.0)
        assert (ready is None) is (qtype == 97)
    data = query("web.docker.", 97, opt=opt((10, bytes(8))))
    assert ready_made(datagrams, data, client, 1799.0) is not None
    assert ready_made(datagrams, data, client, 1800.0) is None


def test_renewed_variant_is_ready_again() -> None:
    datagrams, client, _ = serving()
    data = query("web.docker.", opt=opt((10, bytes(8))))
    for started in (0.0, 1800.0, 3600.0):
        assert ready_made(datagrams, data, client, started) is None
        datagrams._answer_variant(data, client, started)
        assert ready_made(datagrams, data, client, started + 1799.0) is not None


def test_response_that_does_not_fit_with_its_options_is_not_ready() -> None:
    datagrams, client, _ = serving()
    data = query("web.docker.", opt=opt((10, bytes(8))))
    reply = answer(datagrams, client, data)
    variant = client.latest
    assert variant is not None
    for limit, fits in ((len(reply), True), (len(reply) - 1, False)):
        client.latest = replace(variant, limit=limit)
        assert (ready_made(datagrams, data, client, 1.0) is not None) is fits


def test_cookie_of_another_client_is_not_returned() -> None:
    datagrams, client, _ = serving()
    other = datagrams.client(bytes((192, 0, 2, 77)), LOCAL)
    data = query("web.docker.", opt=opt((10, bytes(8))))
    said = messages.parse_response(answer(datagrams, client, data)).edns
    assert said is not None
    cookie = said.option(10)
    assert cookie is not None
    proof = query("web.docker.", opt=opt((10, cookie)))
    for _ in range(2):
        assert ready_made(datagrams, proof, other, 1.0) is None
        answer(datagrams, client, proof)
    answer(datagrams, other, proof)
    its_own = ready_made(datagrams, proof, other, 1.0)
    same = ready_made(datagrams, proof, client, 1.0)
    assert its_own is not None
    assert same is not None
    assert cookie in same
    assert cookie not in its_own


def test_options_in_any_order_have_the_response_of_a_fresh_server() -> None:
    """Also if a query ends with the record that came last, but within an option of its own."""
    chance = random.Random(0)
    datagrams, client, _ = serving()
    records = [opt((65001, b"x")), opt((10, bytes(8))), opt(size=1111), opt((12, bytes(30)))]
    records += [opt((65001, record)) for record in records]
    records += [opt(flags=0x8000) + record for record in records[:4]]
    ready_ones = 0
    for _ in range(2000):
        name = chance.choice(("web.docker.", "missing.docker.", "WEB.docker.", "a.web.docker."))
        data = query(name, chance.choice((1, 28, 65, 97)), opt=chance.choice(records))
        ready = ready_made(datagrams, data, client, 1.0)
        expected = datagrams._answering.begin(data, client.peer)
        assert isinstance(expected, Reply)
        if ready is not None:
            ready_ones += 1
            assert _without_cookie(ready) == _without_cookie(expected.octets)
        datagrams.answer(data, client, 0.0)
    assert ready_ones > 500


def test_entry_with_more_than_an_opt_record_takes_no_options() -> None:
    """Else a record within an option could be replaced."""
    for record, takes in ((opt(), True), (opt((65001, opt())), False), (b"", False)):
        asked = query("web.docker.", opt=record)
        end = 12 + len(b"\3web\6docker\0")
        entry = Entry(Table(), asked, end, Reply(asked + PLAIN_ENDS[0], 0, "zone"), 0.0)
        assert entry.takes_options is takes


def test_clients_together_are_bounded() -> None:
    datagrams, _, _ = serving()
    for address in range(300):
        for number in range(udp.MAX_VARIANTS):
            client = datagrams.client(struct.pack("!I", address), LOCAL)
            datagrams._variant(opt((65001, struct.pack("!I", number))), client, 0.0)
    variants = sum(len(client.variants) for client in datagrams._clients.values())
    assert 0 < variants <= udp.MAX_ALL_VARIANTS
    assert _states(datagrams) > 200
    datagrams.refresh()
    assert _states(datagrams) > 190, "each has 64 variants, which are freed with it"


def test_question_for_an_upstream_is_forwarded_whole() -> None:
    datagrams, client, _ = serving()
    data = query("www.example.net.", opt=opt((10, bytes(8))))
    forward = datagrams.answer(data, client, 0.0)
    assert isinstance(forward, Forward)
    assert forward.query == messages.parse_query(data)


def test_many_clients_are_freed_some_at_a_time() -> None:
    """To free thousands at once took 2 to 10 ms, in which no other query was answered."""
    datagrams, client, _ = serving()
    flood(datagrams, 0)
    flood(datagrams, 1)
    before, left = datagrams.generation, [_states(datagrams)]
    while left[-1]:
        assert datagrams.refresh() == before
        left.append(_states(datagrams))
    assert left[0] > MAX_CLIENTS // 2
    assert max(a - b for a, b in pairwise(left)) == FREED_AT_ONCE
    assert not datagrams.knows(CLIENT, LOCAL)
    assert datagrams.client(CLIENT, LOCAL) is not client


def test_client_that_asks_stays_known_in_a_flood_of_others() -> None:
    """Its queries would wait with those of strangers, each time that their table was full."""
    datagrams, client, _ = serving()
    for number in range(5):
        flood(datagrams, number)
        assert datagrams.knows(CLIENT, LOCAL)
        assert datagrams.client(CLIENT, LOCAL) is client
    assert len(datagrams._clients) + len(datagrams._former) <= MAX_CLIENTS


def flood(datagrams: Datagrams, number: int) -> None:
    """Queries of so many new clients that the next generation of clients begins."""
    before = datagrams.generation
    for address in range(MAX_CLIENTS // 2 + 1):
        datagrams.client(struct.pack("!BBH", 10, number, address), LOCAL)
    assert datagrams.refresh() == before + 1


def _without_cookie(octets: bytes) -> bytes:
    """Blank the time and hash of a cookie, which depend on the clock."""
    at = octets.find(b"\0\x0a\0\x18" + bytes(8) + b"\1\0\0\0")
    return octets if at < 0 else octets[: at + 12] + octets[at + 28 :]


def _states(datagrams: Datagrams) -> int:
    return sum(map(len, datagrams._dropped))

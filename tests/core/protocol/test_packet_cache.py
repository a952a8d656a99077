"""Ready-made responses: which query they answer, and when they are void."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dnslib
import pytest

from containerdns.core.counters import Counters
from containerdns.core.protocol import messages, packet_cache
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.respond import Reply
from containerdns.core.zone.views import View
from tests.steps import most_steps

VIEW = View(True, False, False, False, frozenset(), ())
OTHER_VIEW = View(True, False, False, False, frozenset({"frontend"}), ())
SOA = b"\x02ns\x06docker\0" + b"\x04root\x06docker\0" + (77).to_bytes(4) + bytes(16)


def query(name: str, qtype: int = 1, message_id: int = 1, tail: bytes = b"") -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    header = struct.pack("!HHHHHH", message_id, 0x0100, 1, 0, 0, 1 if tail else 0)
    return header + labels + b"\0" + struct.pack("!HH", qtype, 1) + tail


def reply(data: bytes, addresses: tuple[int, ...] = (2,), **changes: Any) -> Reply:
    asked = messages.parse_query(data)
    owner = asked.question[:-4]
    body = messages.encode(
        owner,
        [RR(owner, 1, 1, 5, bytes([172, 18, 0, last])) for last in addresses],
        [] if addresses else [RR(b"\x06docker\0", 6, 1, 1, SOA)],
    )
    octets = messages.assemble(asked, messages.AA, body, 1232)
    serial_at = 0 if addresses else octets.index((77).to_bytes(4))
    values = {"keeping": "name", "serial_at": serial_at, **changes}
    return Reply(octets, 0, "zone", asked.qtype, asked.name, **values)


def answer(kept: PacketCache, data: bytes, view: View = VIEW, now: float = 0.0) -> bytes | None:
    ready = kept.answer(kept.table(view), data, now)
    if ready is not None:
        ready[1].hits += 1
    return ready and ready[0]


def addresses_of(octets: bytes | None) -> list[str]:
    assert octets is not None
    return [str(record.rdata) for record in dnslib.DNSRecord.parse(octets).rr]


def kept(*datas: bytes, **changes: Any) -> PacketCache:
    made = PacketCache(Counters())
    for data in datas:
        made.keep(VIEW, data, reply(data, **changes), 0.0)
    return made


def test_same_question_gets_its_own_id_and_spelling() -> None:
    made = kept(query("web.docker"))
    octets = answer(made, query("WEB.docker", message_id=0xBEEF))
    assert addresses_of(octets) == ["172.18.0.2"]
    assert octets is not None
    assert octets.startswith(b"\xbe\xef")
    assert b"\x03WEB\x06docker\0" in octets


@pytest.mark.parametrize(
    "data",
    [
        query("web.docker", qtype=28),
        query("web.dockes"),
        query("web.docker", tail=b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)),
        b"\0\1\0\0" + query("web.docker")[4:],
        query("web.docker") + b"\0",
        query("web.docker")[:-1],
        query("web.docker")[:-4] + struct.pack("!HH", 1, 3),
    ],
    ids=["type", "name", "EDNS", "without RD", "octets behind", "cut", "class"],
)
def test_other_query_is_not_answered(data: bytes) -> None:
    assert answer(kept(query("web.docker")), data) is None


def test_types_that_are_one_letter_in_two_cases_are_kept_apart() -> None:
    """HTTPS is type 65, "A"; 97 is "a"."""
    made = kept(query("web.docker", qtype=65), addresses=())
    assert answer(made, query("web.docker", qtype=97)) is None
    assert answer(made, query("web.docker", qtype=65)) is not None


def test_views_are_kept_apart() -> None:
    assert answer(kept(query("web.docker")), query("web.docker"), OTHER_VIEW) is None


def test_changed_name_is_forgotten_in_all_its_types_and_no_other() -> None:
    web, web6, db = query("web.docker"), query("web.docker", 28), query("db.docker")
    made = kept(web, web6, db)
    made.forget(["web.docker."])
    assert [answer(made, data) is None for data in (web, web6, db)] == [True, True, False]


def test_response_is_void_when_a_name_changes_that_it_depends_on() -> None:
    data = query("www.docker")
    made = kept(data, depends_on=("web.docker.",))
    made.forget(["web.docker."])
    assert answer(made, data) is None
    assert len(made) == 0


def test_records_rotate_from_answer_to_answer() -> None:
    data = query("web.docker")
    first = reply(data, (2, 3, 4))
    start = len(data)
    made = PacketCache(Counters())
    made.keep(VIEW, data, reply(data, (2, 3, 4), rotation=((start, 16, 3),)), 0.0)
    orders = [tuple(addresses_of(answer(made, data))) for _ in range(3)]
    assert len(first.octets) == start + 48
    assert [order[0] for order in orders] == ["172.18.0.3", "172.18.0.4", "172.18.0.2"]
    assert {frozenset(order) for order in orders} == {frozenset(orders[0])}


def test_negative_answer_takes_on_the_serial_of_today() -> None:
    data = query("web.docker", 28)
    made = kept(data, addresses=())
    for serial in (78, 4294967295):
        made.set_serial(serial)
        octets = answer(made, data)
        assert octets is not None
        assert dnslib.DNSRecord.parse(octets).auth[0].rdata.times[0] == serial


def test_response_of_an_upstream_is_fresh_until_its_time_and_not_at_it() -> None:
    data = query("web.example")
    made = kept(data, keeping="fresh", fresh_for=0.5)
    for now in (0.0, 0.3, 0.42, 0.49):
        assert answer(made, data, now=now) is not None
    assert answer(made, data, now=0.5) is None
    assert len(made) == 0


@pytest.mark.parametrize(
    ("now", "ttl"), [(0.2, 5), (0.3, 4), (1.2, 4), (1.3, 3), (4.2, 1), (4.3, 0), (9.0, 0)]
)
@pytest.mark.parametrize("before", [0.0, 0.25, 1.25, 1.4])
def test_ttls_of_an_upstream_are_counted_down_each_second(
    before: float, now: float, ttl: int
) -> None:
    data = query("web.example")
    at = reply(data).octets.index(struct.pack("!HHI", 1, 1, 5)) + 4
    made = kept(data, keeping="fresh", fresh_for=10.0, ages_in=0.3, ttl_offsets=(at,))
    answer(made, data, now=min(before, now))
    octets = answer(made, data, now=now)
    assert octets is not None
    (record,) = dnslib.DNSRecord.parse(octets).rr
    assert (record.ttl, str(record.rdata)) == (ttl, "172.18.0.2")


def test_response_of_an_upstream_is_renewed_while_it_may_be() -> None:
    """At the price of one call, as the octets are the same; TTLs are counted on."""
    data = query("web.example")
    at = reply(data).octets.index(struct.pack("!HHI", 1, 1, 5)) + 4
    seconds = [1.0, 2.0, 0.0]
    made = kept(
        data,
        keeping="fresh",
        fresh_for=1.0,
        ages_in=1.0,
        ttl_offsets=(at,),
        renewal=lambda: seconds.pop(0),
    )
    for now, ttl, left in ((0.5, 5, 3), (1.0, 4, 2), (1.5, 4, 2), (2.0, 3, 1), (3.9, 2, 1)):
        octets = answer(made, data, now=now)
        assert octets is not None
        assert dnslib.DNSRecord.parse(octets).rr[0].ttl == ttl
        assert len(seconds) == left
    assert answer(made, data, now=4.0) is None
    assert len(made) == 0
    assert not seconds


def test_what_a_response_depends_on_is_looked_at_again_after_a_while() -> None:
    data = query("web.example")
    made = kept(data, keeping="fresh", fresh_for=1.0, renewal=lambda: 1.0)
    assert answer(made, data, now=packet_cache.MAX_RENEWED - 1.0) is not None
    assert answer(made, data, now=packet_cache.MAX_RENEWED) is None


@pytest.mark.parametrize(
    "changes",
    [{"keeping": "no"}, {"keeping": "fresh", "fresh_for": 0.0}],
    ids=["forbidden", "of no time"],
)
def test_some_responses_are_not_kept(changes: dict[str, Any]) -> None:
    assert len(kept(query("web.docker"), **changes)) == 0


def test_name_with_a_zero_octet_is_not_mistaken() -> None:
    """Its question ends elsewhere than at the first zero octet."""
    data = query("web.docker").replace(b"web", b"w\0b")
    made = PacketCache(Counters())
    made.keep(VIEW, data, reply(data), 0.0)
    assert answer(made, data) in (None, reply(data).octets)


def test_flood_of_absent_names_pushes_out_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packet_cache.MAX_ENTRIES, "absent", 50)
    hot = query("web.docker")
    made = kept(hot)
    often = query("web.docker.localdomain")
    made.keep(VIEW, often, reply(often, (), keeping="absent"), 0.0)
    for number in range(500):
        assert answer(made, often) is not None
        random = query(f"x{number}.docker")
        made.keep(VIEW, random, reply(random, (), keeping="absent"), 0.0)
    assert answer(made, hot) is not None
    assert len(made) <= 51
    made.forget_absent()
    assert answer(made, often) is None
    assert answer(made, hot) is not None


def test_what_is_absent_must_be_asked_for_twice_when_there_is_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(packet_cache.MAX_ENTRIES, "absent", 2)
    made = PacketCache(Counters())
    datas = [query(f"x{number}.docker") for number in range(3)]
    for data in datas:
        made.keep(VIEW, data, reply(data, (), keeping="absent"), 0.0)
    assert [answer(made, data) is not None for data in datas] == [True, True, False]
    made.keep(VIEW, datas[2], reply(datas[2], (), keeping="absent"), 0.0)
    assert answer(made, datas[2]) is not None
    assert len(made) == 2


def test_what_was_forgotten_is_freed_bit_by_bit() -> None:
    datas = [query(f"web{number}.docker") for number in range(200)]
    made = kept(*datas)
    made.forget_all()
    assert not any(answer(made, data) for data in datas)
    assert made._forgotten
    for data in datas * 2:
        made.keep(VIEW, data, reply(data), 0.0)
    assert not made._forgotten
    assert len(made) == 200
    for _ in range(5):
        made.forget_all()
    assert len(made._forgotten) < 5


def test_octets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packet_cache.MAX_OCTETS, "name", 10 * (packet_cache.ENTRY_OCTETS + 100))
    made = kept(*(query(f"web{number}.docker") for number in range(100)))
    assert 5 <= len(made) <= 10


def test_variants_of_a_name_are_bounded() -> None:
    """A client could send another payload size in each query."""
    datas = [
        query("web.docker", tail=b"\0" + struct.pack("!HHIH", 41, 1232 + n, 0, 0))
        for n in range(packet_cache.MAX_OF_A_NAME + 100)
    ]
    assert len(kept(*datas)) == packet_cache.MAX_OF_A_NAME


def test_hits_are_counted_once_even_of_what_was_forgotten() -> None:
    counters = Counters()
    made = PacketCache(counters)
    data = query("web.docker")
    made.keep(VIEW, data, reply(data), 0.0)
    answer(made, data)
    made.tally()
    answer(made, data)
    made.forget(["web.docker."])
    made.tally()
    assert counters.requests["udp", 1] == 2
    assert counters.responses[0, "zone"] == 2


def test_kept_response_of_an_upstream_counts_as_the_caches() -> None:
    counters = Counters()
    made = PacketCache(counters)
    data = query("web.example")
    from_cache = Reply(
        reply(data).octets, 0, "cache", 1, "web.example.", keeping="fresh", fresh_for=1.0
    )
    made.keep(VIEW, data, from_cache, 0.0)
    answer(made, data)
    made.tally()
    assert counters.responses[0, "cache"] == counters.cache_hits == 1


def test_response_of_an_upstream_is_kept_from_its_second_use() -> None:
    """Most names are asked for once, and keeping costs more than the lookup it saves."""
    made = PacketCache(Counters())
    data = query("web.example")
    fields: dict[str, Any] = {"name": "web.example.", "keeping": "fresh", "fresh_for": 1.0}
    made.keep(VIEW, data, Reply(reply(data).octets, 0, "upstream", 1, **fields), 0.0)
    assert answer(made, data) is None
    made.keep(VIEW, data, Reply(reply(data).octets, 0, "cache", 1, **fields), 0.0)
    assert answer(made, data) is not None


def view_at(number: int) -> View:
    """The view of those who ask at one of many addresses of ours."""
    return replace(VIEW, host_addresses=(f"a{number}",))


def test_tables_are_bounded_however_many_addresses_are_asked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host may have a /64 routed to itself; a table for each address was never dropped."""
    monkeypatch.setattr(packet_cache, "MAX_TABLES", 16)
    data = query("web.docker")
    made = kept(data, query("db.docker"))
    for number in range(1000):
        view = view_at(number)
        made.keep(view, data, reply(data), 0.0)
        assert answer(made, data, view) is not None
        assert answer(made, data) is not None, "a table that is fuller stays"
    assert len(made) <= 16 + 1


def test_table_in_use_stays_however_many_views_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its clients do not ask for it: their responses are ready-made."""
    monkeypatch.setattr(packet_cache, "MAX_TABLES", 16)
    data = query("web.docker")
    made = kept(data)
    table, unused = made.table(VIEW), made.table(view_at(1000))
    made.keep(view_at(1000), data, reply(data), 0.0)
    for number in range(1000):
        made.keep(view_at(number), data, reply(data), 0.0)
        found = made.answer(table, data, 0.0)
        assert found is not None, "as it was not dropped"
        found[1].hits += 1
    assert made.table(VIEW) is table
    assert made.table(view_at(1000)) is not unused


def test_table_that_made_room_is_filled_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that changes could be forgotten in a table that nobody knows of."""
    monkeypatch.setattr(packet_cache, "MAX_TABLES", 1)
    data = query("web.docker")
    made = kept(data)
    former = made.table(VIEW)
    made.keep(view_at(1), data, reply(data), 0.0)
    assert not former
    made.keep(VIEW, data, reply(data), 0.0)
    assert not former
    assert answer(made, data) is not None


def test_response_that_depends_on_very_many_names_is_not_kept() -> None:
    """Each costs some hundred octets, which no bound on responses would see."""
    made = PacketCache(Counters())
    data = query("web.docker")
    for count, is_kept in ((packet_cache.MAX_NAMES, True), (packet_cache.MAX_NAMES + 1, False)):
        made.forget_all()
        made.keep(VIEW, data, reply(data, depends_on=tuple(map(str, range(count)))), 0.0)
        assert (answer(made, data) is not None) is is_kept


@pytest.mark.parametrize("is_kept", [True, False])
def test_responses_about_names_kept_from_upstreams_are_counted(is_kept: bool) -> None:
    counters = Counters()
    made = PacketCache(counters)
    data = query("web")
    made.keep(VIEW, data, reply(data, is_kept=is_kept), 0.0)
    for _ in range(3):
        assert answer(made, data) is not None
    made.tally()
    assert counters.kept_from_upstream == 3 * is_kept
    assert counters.requests == {("udp", 1): 3}


def test_forgetting_everything_looks_at_no_entry_and_loses_no_hit() -> None:
    """A new network or a lost Engine does it; with 30,000 entries it took milliseconds."""
    counters = Counters()
    made = PacketCache(counters)
    datas = [query(f"web{number}.docker") for number in range(300)]
    for data in datas:
        made.keep(VIEW, data, reply(data), 0.0)
        answer(made, data)

    def forgetting() -> Iterator[None]:
        made.forget_all()
        yield

    assert most_steps(forgetting()) < 100
    assert all(answer(made, data) is None for data in datas)
    made.keep(VIEW, datas[0], reply(datas[0]), 0.0)  # frees some of the others
    made.tally()
    made.tally()
    assert counters.requests["udp", messages.A] == len(datas)

"""Plain questions over real sockets: many together, and whatever is not plain about them.

The tests of `test_forwarder` ask plainly as well.
"""

import asyncio
import ctypes
import errno
import socket
from collections.abc import Callable

import pytest
from dnslib import RCODE, DNSRecord

from containerdns.core.protocol import messages
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.questions import Question
from containerdns.tasks import many_datagrams, udp_segmentation
from containerdns.tasks.many_datagrams import HEADER_OCTETS, SLOTS
from tests.timing import until
from tests.upstream.fakes import Reply, answer, upstream
from tests.upstream.forwarding import (
    Asking,
    AwaitedForwarder,
    addresses,
    forwarder,
    local,
    plain_question,
    question,
    settings,
)
from tests.upstream.test_forwarder import is_silent, says

WWW = question("www.example.")


def ask(forward: AwaitedForwarder, *asked: Forward) -> list[Asking]:
    """Add plain questions, without sending them."""
    asking = []
    for one in asked:
        plain = plain_question(one)
        assert plain is not None
        asking.append(Asking())
        plain.asker, plain.client = asking[-1], one.client
        assert forward.ask_plain(plain)
    return asking


async def answers_to(asking: list[Asking]) -> list[Resolution]:
    async with asyncio.timeout(10):
        return [await one.resolved for one in asking]


def numbered(count: int) -> list[Forward]:
    return [question(f"n{number}.example.") for number in range(count)]


async def test_questions_sent_together_share_a_port_and_nothing_else() -> None:
    """RFC 5452: each still has a port, an ID and a spelling that cannot be foreseen."""
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        ports = set()
        for turn in range(20):
            asking = ask(forward, *(question(f"n{n}.turn{turn}.example.") for n in range(5)))
            forward.send_plain()
            await answers_to(asking)
            assert len(set(fake.peers[-5:])) == 1
            ports.add(fake.peers[-1])
        assert len(ports) > 15, "each time one of 512"
        assert len({query.header.id for query, _ in fake.asked}) > 90
        spelled = [str(query.q.qname).partition(".")[2] for query, _ in fake.asked]
        assert len(set(spelled)) > 90


async def test_a_port_is_replaced_after_as_many_questions_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("containerdns.upstream.datagrams.PORTS", 1)
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        for turn in range(10):
            asking = ask(forward, *(question(f"n{n}.turn{turn}.example.") for n in range(64)))
            forward.send_plain()
            await answers_to(asking)
        assert [len(set(fake.peers[at : at + 256])) for at in (0, 256)] == [1, 1]
        assert len(set(fake.peers)) == 3


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "another ID": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "another spelling": lambda data: data.swapcase(),
    "another type": lambda data: data.replace(b"\0\1\0\1\xc0", b"\0\x1c\0\1\xc0", 1),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_a_forged_answer_to_the_right_port_does_not_match(
    forge: Callable[[bytes], bytes],
) -> None:
    def script(query: DNSRecord, proto: str) -> Reply:
        true = answer(query, "@ 60 A 192.0.2.1")
        forged = forge(answer(query, "@ 60 A 192.0.2.66"))
        return [forged, true] if proto == "udp" else true

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        many = numbered(8)
        asking = ask(forward, *many)
        forward.send_plain()
        found = await answers_to(asking)
        for asked, one in zip(many, found, strict=True):
            assert addresses(asked, one) == ["192.0.2.1"]


async def test_answers_are_cached_and_counted() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        asking = ask(forward, *numbered(3))
        forward.send_plain()
        await answers_to(asking)
        name = f"127.0.0.1:{fake.port}"
        counters = forward._counters
        assert counters.upstream_requests == {(name, messages.NOERROR): 3}
        assert sum(counters.upstream_durations[name].counts) == 3
        assert (counters.cache_misses, counters.cache_hits) == (3, 0)
        cached = forward.cached(numbered(1)[0])
        assert cached is not None
        assert cached.source == "cache"
        assert addresses(WWW, cached) == ["192.0.2.1"]
        assert forward._waiting == {}
        [status] = forward.status()
        assert 0 < status.round_trip < 10


async def test_what_is_cached_in_flight_or_over_a_limit_is_not_plain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("containerdns.upstream.forwarder.MAX_FLIGHTS", 4)
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        asking = ask(forward, WWW)
        plain = plain_question(WWW)
        assert plain is not None
        plain.client = b"another"
        assert not forward.ask_plain(plain), "in flight"
        ask(forward, question("mail.example."))
        third = plain_question(question("ftp.example."))
        assert third is not None
        third.client = WWW.client
        assert not forward.ask_plain(third), (
            "two of this client are in flight, and two places are left"
        )
        forward.send_plain()
        await answers_to(asking)
        assert not forward.ask_plain(plain), "cached"


async def test_the_question_of_a_probe_is_not_plain() -> None:
    async with forwarder(settings(1)) as forward:
        probe = plain_question(question(forward._surroundings.probe().name))
        assert probe is not None
        probe.client = b"ourselves"
        assert not forward.ask_plain(probe), "its sender is to find the loop"


SOA = "example. 300 IN SOA ns. root. 1 2 3 4 60"
CASES: dict[str, tuple[Forward, tuple[str, ...], str, str]] = {
    "a chain": (WWW, ("@ 60 CNAME cdn.net.", "cdn.net. 9 A 192.0.2.1"), "", "NOERROR"),
    "no such name": (WWW, (), SOA, "NXDOMAIN"),
    "no such type": (question("www.example.", messages.AAAA), (), SOA, "NOERROR"),
    "a chain to no such type": (
        question("www.example.", messages.AAAA),
        ("@ 60 CNAME www.net.example.",),
        SOA,
        "NOERROR",
    ),
    "HTTPS": (question("www.example.", messages.HTTPS), ("@ 60 HTTPS 1 . alpn=h2",), "", "NOERROR"),
}


@pytest.mark.parametrize(("asked", "zone", "auth", "rcode"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("changes", [{}, {"rebind_protection": True}], ids=["", "rebind"])
async def test_common_answers_need_no_flight(
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, bool],
    asked: Forward,
    zone: tuple[str, ...],
    auth: str,
    rcode: str,
) -> None:
    def script(query: DNSRecord, _: str) -> Reply:
        return answer(query, *zone, auth=auth, rcode=rcode)

    async with upstream(script) as fake, forwarder(settings(fake.port, **changes)) as forward:
        flights: list[Question] = []
        monkeypatch.setattr(forward, "new_flight", lambda question, _: flights.append(question))
        asking = ask(forward, asked)
        forward.send_plain()
        [found] = await answers_to(asking)
        assert not flights
        assert found.rcode == getattr(RCODE, rcode)
        assert found.body.counts == (len(zone), len([auth] if auth else []), 0)
        assert forward._counters.upstream_requests == {(f"127.0.0.1:{fake.port}", found.rcode): 1}


@pytest.mark.parametrize("target", ["web.docker.", "web."], ids=["a domain", "a bare name"])
async def test_an_alias_of_a_name_of_ours_becomes_a_flight(target: str) -> None:
    def script(query: DNSRecord, _: str) -> Reply:
        return answer(query, f"@ 60 CNAME {target}", f"{target} 60 A 192.0.2.1")

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        asking = ask(forward, WWW)
        forward.send_plain()
        [found] = await answers_to(asking)
        assert found.targets == (target,)
        assert not addresses(WWW, found)


async def test_lists_of_domains_are_asked_apart() -> None:
    async with (
        upstream(says("192.0.2.1")) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(
            settings(first.port, forwards=(("corp.example.", (local(second.port),)),))
        ) as forward,
    ):
        inside = question("www.corp.example.", apex="corp.example.")
        asking = ask(forward, WWW, inside)
        forward.send_plain()
        found = await answers_to(asking)
        assert [addresses(WWW, one) for one in found] == [["192.0.2.1"], ["192.0.2.2"]]
        assert (first.names, second.names) == (["www.example."], ["www.corp.example."])


@pytest.mark.parametrize("is_sent", [False, True], ids=["not sent yet", "sent"])
async def test_others_join_a_plain_question(is_sent: bool) -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        asking, joining = ask(forward, WWW), Asking()
        if is_sent:
            forward.send_plain()
        forward.ask(WWW, joining.take)
        forward.send_plain()
        for found in await answers_to([*asking, joining]):
            assert addresses(WWW, found) == ["192.0.2.1"]
        assert len(fake.asked) == 1


async def test_a_silent_server_costs_its_time_once() -> None:
    """The flight of a late question goes on with the time that is left."""
    async with (
        upstream(is_silent) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        many = numbered(4)
        asking = ask(forward, *many)
        forward.send_plain()
        for asked, found in zip(many, await answers_to(asking), strict=True):
            assert addresses(asked, found) == ["192.0.2.2"]
        assert all(asked.name in first.names for asked in many)
        assert all(second.names.count(asked.name) == 1 for asked in many)


async def test_a_reload_asks_the_new_servers() -> None:
    async with (
        upstream(is_silent) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port)) as forward,
    ):
        asking = ask(forward, WWW)
        forward.send_plain()
        await until(lambda: len(first.asked) == 1)
        forward.reload(settings(second.port))
        [found] = await answers_to(asking)
        assert addresses(WWW, found) == ["192.0.2.2"]


async def test_without_the_calls_questions_are_sent_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(many_datagrams, "works", lambda: False)
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        asking = ask(forward, *numbered(5))
        forward.send_plain()
        assert len(await answers_to(asking)) == 5
        assert len(set(fake.peers)) > 1


def fails_with(code: int) -> int:
    ctypes.set_errno(code)
    return -1


def of_many_lengths(count: int, turn: int = 0) -> list[Forward]:
    return [question(f"n{number}{'x' * (number % 5)}.t{turn}.example.") for number in range(count)]


@pytest.mark.skipif(not udp_segmentation.works(), reason="needs Linux 4.18")
async def test_questions_of_one_length_are_one_message() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fake:
        fake.bind(("127.0.0.1", 0))
        fake.setsockopt(udp_segmentation.SOL_UDP, 104, 1)  # UDP_GRO: not cut for this socket
        fake.setblocking(False)
        async with forwarder(settings(fake.getsockname()[1])) as forward:
            ask(forward, *(question(f"n{number}.example.") for number in range(10, 40)))
            forward.send_plain()
            octets = await asyncio.get_running_loop().sock_recv(fake, 65536)
    size = len(octets) // 30
    names = [DNSRecord.parse(octets[at : at + size]).q.qname for at in range(0, 30 * size, size)]
    assert [str(name).lower() for name in names] == [
        f"n{number}.example." for number in range(10, 40)
    ]


async def test_where_messages_cannot_be_cut_each_question_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is tried once, as it depends on the device."""
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        many = forward._surroundings.open_ports.many
        assert many is not None
        assert many._segmented is not None
        real, segmented, failed = many._send, many._segmented.headers, []

        def send(descriptor: int, headers: int, count: int, flags: int) -> int:
            if segmented <= headers < segmented + SLOTS * HEADER_OCTETS:
                failed.append(count)
                return fails_with(errno.EIO)
            return int(real(descriptor, headers, count, flags))

        monkeypatch.setattr(many, "_send", send)
        for turn in range(2):
            asked = of_many_lengths(20, turn)
            for one, found in zip(asked, await answers_to(sent(forward, asked)), strict=True):
                assert addresses(one, found) == ["192.0.2.1"]
        assert len(failed) == 1
        assert len(fake.asked) == 40
        assert len(set(fake.peers)) <= 2, "not as flights, which have ports of their own"


def sent(forward: AwaitedForwarder, asked: list[Forward]) -> list[Asking]:
    asking = ask(forward, *asked)
    forward.send_plain()
    return asking


async def test_only_those_that_were_not_sent_are_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        many = forward._surroundings.open_ports.many
        assert many is not None
        real, sent_before = many._send, list[int]()

        def send(descriptor: int, headers: int, count: int, flags: int) -> int:
            if sent_before:
                return fails_with(errno.ENETUNREACH)
            sent_before.append(count)
            return int(real(descriptor, headers, 1, flags))

        monkeypatch.setattr(many, "_send", send)
        asked = of_many_lengths(20)
        assert len(await answers_to(sent(forward, asked))) == 20
        assert sorted(fake.names) == sorted(one.name for one in asked)
        assert 2 <= len(set(fake.peers)) < 20


async def test_questions_of_many_lengths_get_their_own_answers() -> None:
    def named(query: DNSRecord, _: str) -> Reply:
        number = int("".join(filter(str.isdigit, str(query.q.qname).partition(".")[0])))
        return answer(query, f"@ 60 A 192.0.2.{number}")

    async with upstream(named) as fake, forwarder(settings(fake.port)) as forward:
        asked = of_many_lengths(64)
        for number, found in enumerate(await answers_to(sent(forward, asked))):
            assert addresses(asked[number], found) == [f"192.0.2.{number}"]
        assert len(fake.asked) == 64


async def test_what_cannot_be_sent_is_sent_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        many = forward._surroundings.open_ports.many
        assert many is not None
        monkeypatch.setattr(many, "_send", lambda *_: fails_with(errno.ENETUNREACH))
        asking = ask(forward, *numbered(5))
        forward.send_plain()
        assert len(await answers_to(asking)) == 5
        ports = forward._surroundings.open_ports._ports
        assert not any(port.waiting for port in ports)

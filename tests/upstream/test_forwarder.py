"""The forwarder over real sockets, against an upstream that does what the test says."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dnslib import DNSRecord

from containerdns.core.endpoints import Endpoint, UpstreamServer
from containerdns.core.protocol import messages
from containerdns.core.upstream.forwarding import Resolution
from containerdns.core.upstream.upstream_cache import STALE_ANSWER
from containerdns.errors import BadSettings
from containerdns.upstream import forwarder as rooms
from containerdns.upstream.forwarder import Forwarder
from containerdns.upstream.timeouts import Timeouts
from tests.engine.running import free_port
from tests.own_network import is_own
from tests.timing import TRIES, assert_within, best_of_three, listens, until
from tests.upstream.fakes import Reply, answer, qtype, truncated, upstream
from tests.upstream.forwarding import (
    Asking,
    addresses,
    forwarder,
    front,
    local,
    plain_question,
    question,
    records,
    settings,
)

WWW = question("www.example.")


def says(address: str) -> Callable[[DNSRecord, str], Reply]:
    return lambda query, _: answer(query, f"@ 60 A {address}")


def says_rcode(rcode: str) -> Callable[[DNSRecord, str], Reply]:
    return lambda query, _: answer(query, rcode=rcode)


def denies(query: DNSRecord, _: str) -> Reply:
    return answer(query, rcode="NXDOMAIN", auth="example. 86400 SOA ns. root. 1 2 3 4 86400")


def is_silent(_: DNSRecord, __: str) -> Reply:
    return None


async def test_an_answer_comes_back_and_is_cached() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        assert forward.cached(WWW) is None
        first = await forward.resolve(WWW)
        assert addresses(WWW, first) == ["192.0.2.1"]
        assert (first.source, first.upstream) == ("upstream", f"127.0.0.1:{fake.port}")
        second = forward.cached(WWW)
        assert second is not None
        assert addresses(WWW, second) == ["192.0.2.1"]
        assert second.source == "cache"
        assert len(fake.asked) == 1


async def test_cache_size_0_keeps_nothing() -> None:
    async with (
        upstream(says("192.0.2.1")) as fake,
        forwarder(settings(fake.port, cache_size=0)) as forward,
    ):
        resolution = await forward.resolve(WWW)
        assert forward.cached(WWW) is None
        assert resolution.fresh_for == 0  # nor does who answers from ready-made octets


async def test_do_cd_and_ad_are_passed_on_and_kept_apart() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        signed = question("www.example.", dnssec=True)
        unchecked = question("www.example.", flags=messages.RD | messages.CD)
        authentic = question("www.example.", flags=messages.RD | messages.AD)
        for asked in (WWW, signed, unchecked, authentic):
            assert forward.cached(asked) is None
            await forward.resolve(asked)
        headers = [(query.ar[0].edns_do, query.header) for query, _ in fake.asked]
        flags = [(do, header.cd, header.ad) for do, header in headers]
        assert flags == [(0, 0, 0), (1, 0, 1), (0, 1, 0), (0, 0, 1)]


async def test_ad_is_implied_by_do() -> None:
    """RFC 6840 section 5.7: dig sets both."""
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(question("www.example.", dnssec=True))
        both = question("www.example.", dnssec=True, flags=messages.RD | messages.AD)
        assert forward.cached(both) is not None
        assert forward.describe("www.example.", messages.A).cached is None


async def test_what_was_asked_for_with_ad_is_described_as_cached() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(question("www.example.", flags=messages.RD | messages.AD))
        assert forward.describe("www.example.", messages.A).cached is not None


async def test_client_options_are_not_passed_on() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        [(query, _)] = fake.asked
        assert query.ar[0].edns_len == 1232
        assert query.ar[0].rdata == []


async def test_truncated_answer_is_asked_again_over_tcp() -> None:
    def script(query: DNSRecord, proto: str) -> Reply:
        return truncated(query) if proto == "udp" else answer(query, "@ 60 A 192.0.2.2")

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.2"]
        assert [proto for _, proto in fake.asked] == ["udp", "tcp"]


async def test_the_tcp_connection_is_kept_and_shared() -> None:
    def script(query: DNSRecord, proto: str) -> Reply:
        return truncated(query) if proto == "udp" else answer(query, "@ 60 A 192.0.2.2")

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        many = [question(f"n{number}.example.") for number in range(50)]
        resolutions = await asyncio.gather(*map(forward.resolve, many))
        assert {tuple(addresses(many[0], one)) for one in resolutions} == {("192.0.2.2",)}
        assert fake.connections == 1


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"])
async def test_a_failure_passes_one_question_to_the_next(rcode: str) -> None:
    """The server that said so lives: it is asked first again."""
    async with (
        upstream(says_rcode(rcode)) as first,
        upstream(says("192.0.2.3")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        for name in ("a.example.", "b.example.", "c.example.", "d.example."):
            asked = question(name)
            assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.3"]
            assert name in first.names
        assert [one.is_healthy for one in forward.status()] == [True, True]


async def test_a_referral_passes_the_question_on() -> None:
    def refer(query: DNSRecord, _: str) -> Reply:
        return answer(query, auth=". 60 NS a.root-servers.net.")

    async with (
        upstream(refer) as first,
        upstream(says("192.0.2.3")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.3"]


async def test_the_second_is_not_asked_while_the_first_answers() -> None:
    async with (
        upstream(says("192.0.2.1")) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        await asyncio.gather(*(forward.resolve(question(f"n{n}.example.")) for n in range(50)))
        assert len(first.asked) == 50
        assert second.asked == []


async def test_nxdomain_of_the_first_is_final_and_lives_60_s() -> None:
    async with (
        upstream(denies) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        resolution = await forward.resolve(WWW)
        assert resolution.rcode == messages.NXDOMAIN
        assert [record.ttl for record in records(WWW, resolution, 1)] == [60]
        assert second.asked == []


async def test_nxdomain_of_a_later_one_lives_ttl_seconds() -> None:
    """It may not know what the first one serves."""
    async with (
        upstream(says_rcode("SERVFAIL")) as first,
        upstream(denies) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        resolution = await forward.resolve(WWW)
        assert resolution.rcode == messages.NXDOMAIN
        assert [record.ttl for record in records(WWW, resolution, 1)] == [5]


async def test_aliases_that_a_later_one_says_lead_nowhere_live_ttl_seconds() -> None:
    def denies_the_target(query: DNSRecord, _: str) -> Reply:
        soa = "example. 86400 SOA ns. root. 1 2 3 4 86400"
        return answer(query, "@ 3600 CNAME gone.example.", rcode="NXDOMAIN", auth=soa)

    async with (
        upstream(denies_the_target) as first,
        upstream(denies_the_target) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        resolution = await forward.resolve(WWW)
        assert [record.ttl for record in records(WWW, resolution)] == [3600]
        first.script = says_rcode("SERVFAIL")
        asked = question("other.example.")
        resolution = await forward.resolve(asked)
        assert [record.ttl for record in records(asked, resolution)] == [5]


async def test_all_failing_is_servfail_with_the_first_reason_and_remembered() -> None:
    async with (
        upstream(says_rcode("REFUSED")) as first,
        upstream(says_rcode("SERVFAIL")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        resolution = await forward.resolve(WWW)
        assert resolution.rcode == messages.SERVFAIL
        assert resolution.extended_error is not None
        assert "REFUSED" in resolution.reason
        again = forward.cached(WWW)
        assert again is not None
        assert (again.rcode, again.source) == (messages.SERVFAIL, "cache")
        assert len(first.asked) == 1


@best_of_three
async def test_silence_sets_aside_and_an_answer_ends_that_within_5_s() -> None:
    async with (
        upstream(is_silent) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        begun = time.monotonic()
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.2"]
        assert_within(time.monotonic() - begun, 3)
        assert [one.is_healthy for one in forward.status()] == [False, True]
        await forward.resolve(question("other.example."))
        assert "other.example." not in first.names, "the silent one was asked again"
        first.script = says("192.0.2.1")
        begun = time.monotonic()
        await until(lambda: forward.status()[0].is_healthy)
        assert_within(time.monotonic() - begun, 5)
        asked = question("third.example.")
        assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.1"]


async def test_one_lost_datagram_changes_nothing() -> None:
    lost: list[str] = []

    def script(query: DNSRecord, _: str) -> Reply:
        if not lost:
            lost.append(str(query.q.qname))
            return None
        return answer(query, "@ 60 A 192.0.2.1")

    async with (
        upstream(script) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]
        assert second.asked == []
        assert forward.status()[0].is_healthy


@best_of_three
async def test_servfail_comes_within_5_s_when_all_are_dead() -> None:
    async with (
        upstream(is_silent) as first,
        upstream(is_silent) as second,
        upstream(is_silent) as third,
        forwarder(settings(first.port, second.port, third.port)) as forward,
    ):
        begun = time.monotonic()
        resolution = await forward.resolve(WWW)
        assert_within(time.monotonic() - begun, 5)
        assert resolution.rcode == messages.SERVFAIL
        assert resolution.extended_error is not None
        assert resolution.extended_error[0] == rooms.NO_REACHABLE_AUTHORITY
        assert all(server.asked for server in (first, second, third))


async def test_when_all_are_aside_the_one_silent_longest_is_asked() -> None:
    async with (
        upstream(is_silent) as first,
        upstream(is_silent) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        await forward.resolve(WWW)
        await until(lambda: not any(one.is_healthy for one in forward.status()))
        first.script = says("192.0.2.1")
        asked = question("other.example.")
        assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.1"]


@best_of_three
async def test_nobody_listening_passes_at_once_to_the_next() -> None:
    async with (
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(free_port(), second.port)) as forward,
    ):
        begun = time.monotonic()
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.2"]
        assert_within(time.monotonic() - begun, 0.2)


@best_of_three
async def test_servfail_comes_soon_when_nobody_listens_anywhere() -> None:
    async with forwarder(settings(free_port(), free_port())) as forward:
        for name in ("www.example.net.", "other.example.net."):
            begun = time.monotonic()
            resolution = await forward.resolve(question(name))
            assert_within(time.monotonic() - begun, 1.5)
            assert resolution.rcode == messages.SERVFAIL


async def test_a_server_that_restarts_answers_those_who_wait() -> None:
    port = free_port()
    async with forwarder(settings(port)) as forward:
        waiting = asyncio.create_task(forward.resolve(WWW))
        await asyncio.sleep(0.4)
        async with upstream(says("192.0.2.1"), port=port):
            assert addresses(WWW, await waiting) == ["192.0.2.1"]


async def test_a_late_answer_is_still_an_answer() -> None:
    """A resolver that takes a second for a name is slow, not dead."""
    async with (
        upstream(is_silent) as first,
        forwarder(settings(first.port)) as forward,
    ):
        waiting = asyncio.create_task(forward.resolve(WWW))
        await until(lambda: len(first.asked) >= 2)
        query, _ = first.asked[0]
        first.transport.sendto(answer(query, "@ 60 A 192.0.2.1"), first.peers[0])
        assert addresses(WWW, await waiting) == ["192.0.2.1"]


async def test_one_question_in_flight_is_asked_once() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        waiting = [
            asyncio.create_task(forward.resolve(question("www.example.", client=bytes([n]))))
            for n in range(100)
        ]
        for one in waiting:
            assert addresses(WWW, await one) == ["192.0.2.1"]
        assert len(fake.asked) == 1


async def test_others_go_on_when_who_asked_first_goes_away() -> None:
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        first = asyncio.create_task(forward.resolve(WWW))
        await until(lambda: len(fake.asked) >= 1)
        second = asyncio.create_task(forward.resolve(WWW))
        await asyncio.sleep(0)
        first.cancel()
        fake.script = says("192.0.2.1")
        assert addresses(WWW, await second) == ["192.0.2.1"]


async def test_a_question_needs_a_task_only_when_its_server_does_not_simply_answer() -> None:
    """A task and what it waits with cost more than all the rest of a flight."""
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        tasks = len(asyncio.all_tasks())
        took: list[Resolution] = []
        forward.ask(WWW, took.append)
        assert len(asyncio.all_tasks()) == tasks
        await until(lambda: len(asyncio.all_tasks()) == tasks + 1)
        fake.script = says("192.0.2.1")
        await until(lambda: bool(took))
        assert addresses(WWW, took[0]) == ["192.0.2.1"]
        await until(lambda: len(asyncio.all_tasks()) == tasks)


async def test_a_fault_of_one_who_waits_is_counted_and_costs_the_others_nothing() -> None:
    def fail(_: Resolution) -> None:
        raise ValueError

    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        took: list[Resolution] = []
        forward.ask(WWW, fail)
        forward.ask(WWW, took.append)
        await until(lambda: bool(took))
        assert addresses(WWW, took[0]) == ["192.0.2.1"]
        assert forward._counters.internal_errors == 1
        assert not forward._waiting


async def test_who_waits_is_told_when_the_forwarder_stops() -> None:
    took: list[Resolution] = []
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        forward.ask(WWW, took.append)
        await until(lambda: len(fake.asked) >= 1)
    assert [found.rcode for found in took] == [messages.SERVFAIL]


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "MAX_FLIGHTS", 16)
    monkeypatch.setattr(rooms, "MIN_JOINED", 2)


def ask_many(forward: Forwarder, count: int, client: bytes) -> list[Resolution]:
    """Ask for different names; what comes back at once or later is added to the list."""
    took: list[Resolution] = []
    for number in range(count):
        asked = question(f"{client.decode()}{number}.example.", client=client)
        forward.ask(asked, took.append)
    return took


@pytest.mark.usefixtures("few_places")
async def test_a_client_has_as_many_places_as_are_left() -> None:
    """A resolver or a proxy that asks for many is one client, and must leave room for others."""
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        refused = [len(ask_many(forward, 16, client)) for client in (b"a", b"b", b"c", b"d")]
        assert refused == [16 - 8, 16 - 4, 16 - 2, 16 - 1]
        assert forward._counters.forwards_refused == sum(refused)
        [first, *_] = ask_many(forward, 16, b"a")
        assert (first.rcode, first.source) == (messages.REFUSED, "policy")


@pytest.mark.usefixtures("few_places")
async def test_what_others_have_asked_takes_no_place() -> None:
    async with upstream(is_silent) as fake, forwarder(settings(fake.port)) as forward:
        for client in (b"a", b"b", b"c", b"d", b"e"):
            ask_many(forward, 16, client)
        took: list[Resolution] = []
        for number in range(3):
            forward.ask(question(f"a{number}.example.", client=b"late"), took.append)
        assert len(took) == 1, "two were joined"


@pytest.mark.usefixtures("few_places")
async def test_a_stale_answer_is_given_where_there_is_no_place() -> None:
    """RFC 8767 section 5: rather than none."""
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        LateClock(forward).pass_by(61)
        fake.script = is_silent
        ask_many(forward, 16, WWW.client)
        took: list[Resolution] = []
        forward.ask(WWW, took.append)
        assert addresses(WWW, took[0]) == ["192.0.2.1"]
        assert took[0].extended_error == (3, "")


async def test_forged_answers_are_ignored_and_the_true_one_awaited() -> None:
    def script(query: DNSRecord, _: str) -> Reply:
        true = answer(query, "@ 60 A 192.0.2.1")
        forged = answer(query, "@ 60 A 203.0.113.66")
        wrong_id = bytes([forged[0] ^ 1]) + forged[1:]
        other = DNSRecord.question("other.example.")
        other.header.id = query.header.id
        wrong_question = answer(other, "@ 60 A 203.0.113.66")
        wrong_type = bytearray(forged)
        wrong_type[12 + len(str(query.q.qname)) + 2] ^= 1
        no_response = bytes([*forged[:2], forged[2] & 0x7F, *forged[3:]])
        return [wrong_id, wrong_question, bytes(wrong_type), no_response, forged[:20], b"", true]

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]
        assert [proto for _, proto in fake.asked] == ["udp"]


async def test_a_flood_of_forged_answers_moves_the_question_to_tcp() -> None:
    """RFC 5452 section 9.3: even all 65,536 IDs at the right port find nothing."""

    def script(query: DNSRecord, proto: str) -> Reply:
        if proto == "tcp":
            return answer(query, "@ 60 A 192.0.2.1")
        forged = answer(query, "@ 60 A 203.0.113.66")
        return [bytes([forged[0] ^ 1, n]) + forged[2:] for n in range(100)] + [forged]

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]


async def test_a_forged_case_is_settled_over_tcp() -> None:
    def script(query: DNSRecord, proto: str) -> Reply:
        if proto == "tcp":
            return answer(query, "@ 60 A 192.0.2.1")
        query.q.qname = str(query.q.qname).swapcase()
        return answer(query, "@ 60 A 203.0.113.66")

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]


@pytest.mark.parametrize("has_tcp", [True, False], ids=["with TCP", "without TCP"])
@pytest.mark.parametrize("fold", [str.lower, str.upper])
async def test_an_upstream_that_folds_case_is_remembered(
    fold: Callable[[str], str], *, has_tcp: bool
) -> None:
    def script(query: DNSRecord, _: str) -> Reply:
        query.q.qname = fold(str(query.q.qname))
        return answer(query, "@ 60 A 192.0.2.1")

    async with (
        upstream(script, has_tcp=has_tcp) as fake,
        forwarder(settings(fake.port)) as forward,
    ):
        asked = question(f"{'all-lower-by-chance-' * 2}never.example.")
        assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.1"]
        fake.asked.clear()
        asked = question("and-again.example.")
        assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.1"]
        assert [proto for _, proto in fake.asked] == ["udp"]


@pytest.fixture
def link_local() -> Iterator[None]:
    """Loopback has the address fe80::53."""
    address = ["fe80::53/128", "dev", "lo"]
    subprocess.run(["ip", "address", "add", *address, "nodad"], check=True)
    yield
    subprocess.run(["ip", "address", "del", *address], check=True)


async def answer_all(server: socket.socket) -> None:
    """Answer what arrives with one address; the forwarder asks whether it is itself, too."""
    loop = asyncio.get_running_loop()
    while True:
        query, client = await loop.sock_recvfrom(server, 512)
        server.sendto(answer(DNSRecord.parse(query), "@ 60 A 192.0.2.1"), client)


@pytest.mark.skipif(not is_own(), reason="needs a network namespace")
@pytest.mark.usefixtures("link_local")
async def test_an_upstream_may_have_a_link_local_address() -> None:
    """resolv.conf names a router so: `nameserver fe80::1%eth0`."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.setblocking(False)
        server.bind(("fe80::53", 0, 0, socket.if_nametoindex("lo")))
        router = UpstreamServer("udp", "fe80::53%lo", server.getsockname()[1])
        answering = asyncio.create_task(answer_all(server))
        async with forwarder(settings(servers=(router,))) as forward:
            assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]
        answering.cancel()


async def test_an_upstream_without_edns_is_remembered() -> None:
    def script(query: DNSRecord, _: str) -> Reply:
        return answer(query, rcode="FORMERR") if query.ar else answer(query, "@ 60 A 192.0.2.1")

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]
        asked = question("other.example.")
        assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.1"]
        assert len(fake.asked) == 3


async def test_formerr_for_one_name_does_not_end_edns() -> None:
    def script(query: DNSRecord, _: str) -> Reply:
        if str(query.q.qname).lower() == "odd.example.":
            return answer(query, rcode="FORMERR")
        return answer(query, "@ 60 A 192.0.2.1")

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        assert (await forward.resolve(question("odd.example."))).rcode == messages.SERVFAIL
        await forward.resolve(WWW)
        assert fake.asked[-1][0].ar, "EDNS was given up"


async def test_ports_ids_and_case_are_random() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        for number in range(400):
            await forward.resolve(question(f"some-longer-name-{number}.example."))
        assert len({port for _, port in fake.peers}) > 64
        assert len({query.header.id for query, _ in fake.asked}) > 380
        spelled = {str(query.q.qname)[:16] for query, _ in fake.asked}
        assert len(spelled) > 300


async def test_a_forward_domain_asks_its_own_list() -> None:
    async with (
        upstream(says("192.0.2.1")) as public,
        upstream(says("10.0.0.1")) as company,
        forwarder(
            settings(public.port, forwards=(("corp.example.", (local(company.port),)),))
        ) as forward,
    ):
        asked = question("www.corp.example.", apex="corp.example.")
        assert addresses(asked, await forward.resolve(asked)) == ["10.0.0.1"]
        assert public.asked == []
        assert forward.describe("www.corp.example.", messages.A)[0] == "corp.example."
        assert forward.describe("xcorp.example.", messages.A)[0] == "--upstream"


async def test_rebind_protection_drops_private_addresses() -> None:
    def script(query: DNSRecord, _: str) -> Reply:
        return answer(query, "@ 60 A 192.168.0.1", "@ 60 A 192.0.2.1", "@ 60 A 127.0.0.1")

    wanted = {"rebind_protection": True, "rebind_allow": ("intern.example.",)}
    async with (
        upstream(script) as fake,
        forwarder(settings(fake.port, **wanted)) as forward,
    ):
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]
        asked = question("www.intern.example.")
        assert len(addresses(asked, await forward.resolve(asked))) == 3


async def test_an_upstream_never_answers_for_a_name_of_ours() -> None:
    def script(query: DNSRecord, _: str) -> Reply:
        return answer(query, "@ 600 CNAME web.docker.", "web.docker. 600 A 203.0.113.66")

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        resolution = await forward.resolve(WWW)
        assert [(r.rtype, r.ttl) for r in records(WWW, resolution)] == [(messages.CNAME, 5)]
        again = forward.cached(WWW)
        assert again is not None
        assert resolution.targets == again.targets == ("web.docker.",)
        assert resolution.rcode == messages.NOERROR


class LateClock:
    """Makes the forwarder believe that time has passed."""

    def __init__(self, forward: Forwarder) -> None:
        self._loop = forward._loop
        self._offset = 0.0
        forward._loop = self  # type: ignore[assignment]
        forward.timeouts = Timeouts(self)  # type: ignore[arg-type]

    def pass_by(self, seconds: float) -> None:
        self._offset += seconds

    def time(self) -> float:
        return self._loop.time() + self._offset

    def call_at(self, when: float, *work: Any) -> asyncio.TimerHandle:
        return self._loop.call_at(when - self._offset, *work)

    def create_future(self) -> asyncio.Future[Any]:
        return self._loop.create_future()


async def test_a_hot_name_is_asked_for_before_its_end() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        for _ in range(3):
            forward.cached(WWW)
        fake.script = says("192.0.2.9")
        LateClock(forward).pass_by(55)
        found = forward.cached(WWW)
        assert found is not None
        assert addresses(WWW, found) == ["192.0.2.1"], "which nobody waits for"
        await until(lambda: (forward.describe("www.example.", messages.A).left or 0) > 50)
        assert found.renewal is not None
        assert found.renewal() == 0, "as there is a newer one"
        newer = forward.cached(WWW)
        assert newer is not None
        assert addresses(WWW, newer) == ["192.0.2.9"]


@best_of_three
async def test_a_stale_answer_stands_in_while_all_fail_and_is_refreshed() -> None:
    """RFC 8767: TTL 30, the extended error 3, and asking goes on behind."""
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        clock = LateClock(forward)
        clock.pass_by(61)
        fake.script = is_silent
        begun = time.monotonic()
        stale = await forward.resolve(WWW)
        took = time.monotonic() - begun
        assert took > 1.5
        assert_within(took, 2.2)
        assert [record.ttl for record in records(WWW, stale)] == [30]
        assert stale.extended_error is not None
        assert stale.extended_error[0] == STALE_ANSWER
        fake.script = says("192.0.2.9")
        await until(lambda: forward.describe("www.example.", messages.A)[2] is not None)
        fresh = forward.cached(WWW)
        assert fresh is not None
        assert addresses(WWW, fresh) == ["192.0.2.9"]
        fake.script = says_rcode("SERVFAIL")
        clock.pass_by(61)
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.9"]
        assert forward.cached(WWW) is not None, "asked again at once"
        clock.pass_by(3600)
        assert (await forward.resolve(WWW)).rcode == messages.SERVFAIL


@best_of_three
async def test_all_who_wait_get_the_stale_answer_and_at_once_if_nobody_is_alive() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        clock = LateClock(forward)
        clock.pass_by(61)
        fake.script = is_silent
        begun = time.monotonic()
        waiting = [asyncio.create_task(forward.resolve(WWW)) for _ in range(3)]
        for one in waiting:
            assert addresses(WWW, await one) == ["192.0.2.1"]
        assert_within(time.monotonic() - begun, 2.2)
        await until(lambda: not forward.status()[0].is_healthy)
        begun = time.monotonic()
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]
        assert_within(time.monotonic() - begun, 0.1)


async def test_a_hot_name_is_asked_for_before_it_ends() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        clock = LateClock(forward)
        for _ in range(3):
            clock.pass_by(18.5)
            assert forward.cached(WWW) is not None
        await until(lambda: len(fake.asked) >= 2)


async def test_a_hot_name_that_is_ready_made_is_asked_for_before_it_ends() -> None:
    """The packet cache renews its response, and does not ask for it again."""
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        clock = LateClock(forward)
        kept = forward.cached(WWW)
        assert kept is not None
        assert kept.renewal is not None
        for _ in range(2):
            clock.pass_by(28.0)
            assert kept.renewal() > 0
        await until(lambda: len(fake.asked) >= 2)
        assert kept.renewal() == 0, "there is a newer response"


async def test_a_name_that_has_ended_is_asked_for_as_one_never_asked_for() -> None:
    """Very many may end at once, as they were asked for at once."""
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        clock = LateClock(forward)
        for seconds, has_ended in ((59.0, False), (2.0, True)):
            clock.pass_by(seconds)
            plain, asking = plain_question(WWW), Asking()
            assert plain is not None
            plain.asker, plain.client = asking, b""
            assert forward.ask_plain(plain) is has_ended
        forward.send_plain()
        assert addresses(WWW, await asking.resolved) == ["192.0.2.1"]
        assert len(fake.asked) == 2


async def test_what_is_cached_no_more_is_not_renewed() -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        await forward.resolve(WWW)
        kept = forward.cached(WWW)
        assert kept is not None
        assert kept.renewal is not None
        assert kept.renewal() > 0
        forward.reload(settings(fake.port, cache_size=0))
        assert kept.renewal() == 0


def answers_of(forward: Forwarder) -> Callable[[DNSRecord, str], Reply]:
    """An upstream that is the forwarder itself, as far as probes go."""

    def script(query: DNSRecord, _: str) -> Reply:
        name = str(query.q.qname).lower()
        own = forward.cached(question(name, messages.TXT))
        if own is None:
            return None
        text = records(question(name), own)[0].rdata[1:].decode()
        return answer(query, f'@ 0 TXT "{text}"')

    return script


async def test_a_loop_is_refused_at_the_start() -> None:
    async with (
        upstream(is_silent) as dead,
        upstream(is_silent) as ourselves,
        forwarder(settings(dead.port, ourselves.port)) as forward,
    ):
        ourselves.script = answers_of(forward)
        with pytest.raises(BadSettings, match=f"--upstream='127.0.0.1:{ourselves.port}'"):
            await forward.detect_loop(())


async def detect_loop_in_time(forward: Forwarder, listening: Endpoint) -> None:
    """Look several times; on a busy machine the probe may come back too late."""
    for _ in range(TRIES):
        await forward.detect_loop((listening,))


async def test_a_loop_through_a_real_dnsmasq_is_refused() -> None:
    ours, theirs = free_port(), free_port()
    between = await asyncio.create_subprocess_exec(
        "dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null",
        f"--port={theirs}", "--listen-address=127.0.0.1", "--bind-interfaces",
        f"--server=127.0.0.1#{ours}", stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await until(lambda: listens("127.0.0.1", theirs))
        async with forwarder(settings(theirs)) as forward, front(forward, ours):
            with pytest.raises(BadSettings, match="does not lead back to us"):
                await detect_loop_in_time(forward, Endpoint("127.0.0.1", ours))
    finally:
        between.terminate()
        await between.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_our_own_address_is_refused_as_upstream(host: str) -> None:
    port = free_port()
    async with forwarder(settings(port)) as forward:
        with pytest.raises(BadSettings):
            await forward.detect_loop((Endpoint(host, port),))


async def test_a_probe_without_an_answer_is_no_failure() -> None:
    async with (
        upstream(is_silent) as dead,
        upstream(denies) as other,
        forwarder(settings(dead.port, other.port, free_port())) as forward,
    ):
        await forward.detect_loop((Endpoint("127.0.0.1", free_port()),))
        assert qtype(other.asked[0][0]) == "TXT"


async def test_a_loop_that_comes_up_later_is_left_for_good() -> None:
    async with (
        upstream(is_silent) as ourselves,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(ourselves.port, second.port)) as forward,
    ):
        await forward.resolve(WWW)
        ourselves.script = answers_of(forward)
        await until(lambda: "leads back" in forward.status()[0].last_failure)
        assert not forward.status()[0].is_healthy


async def test_reload_takes_new_lists_and_keeps_what_is_still_valid() -> None:
    async with (
        upstream(says("192.0.2.1")) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port)) as forward,
    ):
        await forward.resolve(WWW)
        forward.reload(settings(first.port))
        assert forward.cached(WWW) is not None
        forward.reload(settings(first.port, cache_size=0))
        assert forward.cached(WWW) is None
        forward.reload(settings(first.port))
        await forward.resolve(WWW)
        forward.reload(settings(second.port))
        assert forward.cached(WWW) is None
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.2"]


async def test_out_of_descriptors_asks_from_the_ports_that_are_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with upstream(says("192.0.2.1")) as fake, forwarder(settings(fake.port)) as forward:
        for number in range(5):
            await forward.resolve(question(f"n{number}.example."))

        def exhausted(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr("socket.socket.__init__", exhausted)
        asked = question("more.example.")
        assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.1"]
    assert len([one for one in caplog.records if "descriptors" in one.message]) <= 1

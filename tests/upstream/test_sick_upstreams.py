"""Upstreams that are sick in one way and well in another: mute about one name, say."""

import asyncio

import pytest
from dnslib import DNSRecord

from containerdns.core.endpoints import UpstreamServer
from containerdns.core.protocol import messages
from tests.timing import until
from tests.upstream.fakes import Reply, answer, truncated, upstream
from tests.upstream.forwarding import addresses, forwarder, question, records, settings
from tests.upstream.test_forwarder import WWW, denies, is_silent, says


def cut(query: DNSRecord, octets: int) -> bytes:
    """A truncated response whose last record is cut."""
    whole = answer(query, *(f"@ 60 A 192.0.2.{number}" for number in range(20)))
    return bytes([*whole[:2], whole[2] | 2, *whole[3:octets]])


def malformed(query: DNSRecord) -> bytes:
    """A response that promises a record which is not there."""
    return answer(query, "@ 60 A 192.0.2.1")[:-3]


@pytest.mark.parametrize("octets", [12, 50, 61], ids=["in the header", "in a name", "in data"])
async def test_a_truncated_response_that_is_cut_is_asked_again_over_tcp(octets: int) -> None:
    """RFC 2181 section 9: it is ignored, whatever it holds."""

    def script(query: DNSRecord, proto: str) -> Reply:
        return cut(query, octets) if proto == "udp" else answer(query, "@ 60 A 192.0.2.1")

    async with (
        upstream(script) as first,
        upstream(denies) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]
        assert second.asked == []


@pytest.mark.parametrize("proto", ["udp", "tcp"])
async def test_a_malformed_response_passes_the_question_on_at_once(proto: str) -> None:
    """It is an answer that nobody can use, and no silence."""

    def script(query: DNSRecord, came_by: str) -> Reply:
        return malformed(query) if came_by == proto else truncated(query)

    async with (
        upstream(script) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        for number in range(8):
            asked = question(f"n{number}.example.")
            assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.2"]
        assert first.names.count("n0.example.") == (1 if proto == "udp" else 2)
        assert first.connections == (0 if proto == "udp" else 1)
        first_status, _ = forward.status()
        assert first_status.is_healthy
        assert "malformed" in first_status.last_failure


async def test_a_malformed_response_over_tcp_costs_its_own_question() -> None:
    def script(query: DNSRecord, proto: str) -> Reply:
        if proto == "udp":
            return truncated(query)
        if "bad" in str(query.q.qname).lower():
            return malformed(query)
        return answer(query, "@ 60 A 192.0.2.1")

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        bad = asyncio.create_task(forward.resolve(question("bad.example.")))
        many = [question(f"n{number}.example.") for number in range(20)]
        resolutions = await asyncio.gather(*map(forward.resolve, many))
        assert {tuple(addresses(many[0], one)) for one in resolutions} == {("192.0.2.1",)}
        assert (await bad).rcode == messages.SERVFAIL
        assert fake.connections == 1


async def test_a_good_response_behind_a_malformed_one_is_taken() -> None:
    """The first may be forged, or damaged on its way."""

    def script(query: DNSRecord, _: str) -> Reply:
        return [malformed(query), answer(query, "@ 60 A 192.0.2.1")]

    async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]


@pytest.mark.parametrize("filtered", ["refused", "silent"])
@pytest.mark.parametrize("denial", ["NXDOMAIN", "NOERROR"])
async def test_a_later_denial_does_not_contradict_a_truncated_answer(
    denial: str, filtered: str
) -> None:
    """The first has the company's name, but its TCP is filtered."""

    def script(query: DNSRecord, proto: str) -> Reply:
        return truncated(query) if proto == "udp" else None

    def denies_it(query: DNSRecord, _: str) -> Reply:
        return answer(query, rcode=denial, auth="example. 60 SOA ns. root. 1 2 3 4 60")

    async with (
        upstream(script, has_tcp=filtered == "silent") as first,
        upstream(denies_it) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        resolution = await forward.resolve(WWW)
        assert resolution.rcode == messages.SERVFAIL
        assert "contradicts" in resolution.reason
        second.script = says("192.0.2.2")
        asked = question("other.example.")
        assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.2"]


async def test_one_dead_name_sets_no_server_aside() -> None:
    """It is asked for something else first, which it answers."""

    def script(query: DNSRecord, _: str) -> Reply:
        is_dead = "dead" in str(query.q.qname).lower()
        return None if is_dead else answer(query, "@ 60 A 10.0.0.1")

    async with (
        upstream(script) as first,
        upstream(denies) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        for number in range(3):
            dead = question(f"dead{number}.example.")
            resolution = await forward.resolve(dead)
            assert resolution.rcode == messages.NXDOMAIN, "the second one's"
            assert [record.ttl for record in records(dead, resolution, 1)] == [5]
            assert forward.status()[0].is_healthy
            asked = question(f"www{number}.example.")
            assert addresses(asked, await forward.resolve(asked)) == ["10.0.0.1"]
        assert "." in first.names


@pytest.mark.parametrize("recursion", ["only with RD", "only without RD"])
async def test_a_server_that_answers_one_kind_of_probe_is_alive(recursion: str) -> None:
    """Some ignore queries without RD, and one cut off from the root answers no others."""

    def script(query: DNSRecord, _: str) -> Reply:
        is_probe = str(query.q.qname) == "." and bool(query.header.rd) == (
            "without" not in recursion
        )
        return answer(query, rcode="REFUSED") if is_probe else None

    async with (
        upstream(script) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        for number in range(2):
            await forward.resolve(question(f"dead{number}.example."))
            assert forward.status()[0].is_healthy


async def test_a_server_that_only_knows_its_own_names_comes_back() -> None:
    """Nobody answers it for the random name of a loop probe."""
    async with (
        upstream(is_silent) as first,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(first.port, second.port)) as forward,
    ):
        await forward.resolve(WWW)
        assert not forward.status()[0].is_healthy
        first.script = lambda query, _: (
            None if "loop-" in str(query.q.qname).lower() else answer(query, rcode="REFUSED")
        )
        await until(lambda: forward.status()[0].is_healthy)


async def test_a_reload_takes_questions_in_flight_to_the_new_server() -> None:
    async with (
        upstream(is_silent) as old,
        upstream(says("192.0.2.2")) as new,
        forwarder(settings(old.port)) as forward,
    ):
        many = [question(f"n{number}.example.") for number in range(10)]
        waiting = [asyncio.create_task(forward.resolve(asked)) for asked in many]
        await until(lambda: len(old.asked) >= len(many))
        forward.reload(settings(new.port))
        for asked, one in zip(many, waiting, strict=True):
            assert addresses(asked, await one) == ["192.0.2.2"]


async def test_a_reload_that_drops_a_forward_takes_its_questions_to_the_upstreams() -> None:
    async with (
        upstream(is_silent) as company,
        upstream(says("192.0.2.2")) as public,
        forwarder(
            settings(
                public.port,
                forwards=(("example.", (UpstreamServer("udp", "127.0.0.1", company.port),)),),
            )
        ) as forward,
    ):
        asked = question("www.example.", apex="example.")
        waiting = asyncio.create_task(forward.resolve(asked))
        await until(lambda: company.asked)
        forward.reload(settings(public.port))
        assert addresses(asked, await waiting) == ["192.0.2.2"]

"""The forwarder over real sockets, against an upstream that does what the test says."""

import asyncio

from containerdns.core import messages
from tests.upstream.fakes import answer, truncated, upstream
from tests.upstream.forwarding import addresses, forwarder, question, settings

WWW = question("www.example.")


def test_an_answer_comes_back_and_is_cached() -> None:
    async def scene() -> None:
        async with (
            upstream(lambda query, _: answer(query, "@ 60 A 192.0.2.1")) as fake,
            forwarder(settings(fake.port)) as forward,
        ):
            assert forward.cached(WWW) is None
            first = await forward.resolve(WWW)
            assert addresses(WWW, first) == ["192.0.2.1"]
            assert (first.source, first.rcode) == ("upstream", messages.NOERROR)
            second = forward.cached(WWW)
            assert second is not None and addresses(WWW, second) == ["192.0.2.1"]
            assert second.source == "cache"
            assert len(fake.asked) == 1

    asyncio.run(scene())


def test_truncated_answer_is_asked_again_over_tcp() -> None:
    async def scene() -> None:
        async with (
            upstream(
                lambda query, proto: (
                    truncated(query) if proto == "udp" else answer(query, "@ 60 A 192.0.2.2")
                )
            ) as fake,
            forwarder(settings(fake.port)) as forward,
        ):
            assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.2"]
            assert [proto for _, proto in fake.asked] == ["udp", "tcp"]

    asyncio.run(scene())


def test_servfail_passes_the_question_to_the_next() -> None:
    async def scene() -> None:
        async with (
            upstream(lambda query, _: answer(query, rcode="SERVFAIL")) as broken,
            upstream(lambda query, _: answer(query, "@ 60 A 192.0.2.3")) as good,
            forwarder(settings(broken.port, good.port)) as forward,
        ):
            assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.3"]
            assert [one.is_healthy for one in forward.status()] == [True, True]

    asyncio.run(scene())

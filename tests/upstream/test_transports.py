"""UDP, TCP, TLS and HTTPS to a real Unbound."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerdns.core.endpoints import UpstreamServer
from containerdns.core.protocol import messages
from containerdns.core.upstream.forwarding import Forward, Resolution
from tests.upstream.forwarding import addresses, forwarder, question, records, settings
from tests.upstream.unbound import NAME, Unbound, running_unbound

WWW = question("www.example.")
LONG = question("long.example.", messages.TXT)


@pytest.fixture(scope="module")
def unbound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unbound]:
    with running_unbound(tmp_path_factory.mktemp("unbound")) as running:
        yield running


@pytest.fixture(autouse=True)
def _trusted(unbound: Unbound, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL takes this file for the system's authorities."""
    monkeypatch.setenv("SSL_CERT_FILE", str(unbound.authority))


def tls(port: int, name: str = NAME) -> UpstreamServer:
    return UpstreamServer("tls", "127.0.0.1", port, name)


def https(port: int, host: str = NAME) -> UpstreamServer:
    return UpstreamServer("https", host, port, url=f"https://{host}:{port}/dns-query")


def ask(upstreams: tuple[UpstreamServer, ...], *asked: Forward) -> list[Resolution]:
    """Ask several questions at once."""

    async def scene() -> list[Resolution]:
        async with forwarder(settings(servers=upstreams)) as forward:
            return await asyncio.gather(*(forward.resolve(one) for one in asked))

    return asyncio.run(scene())


def transports(unbound: Unbound) -> dict[str, tuple[UpstreamServer, ...]]:
    plain = UpstreamServer("udp", "127.0.0.1", unbound.plain)
    return {
        "udp": (plain,),
        "tls": (tls(unbound.tls),),
        "https": (https(unbound.https), plain),
        "https by address": (https(unbound.https, "127.0.0.1"),),
    }


@pytest.mark.parametrize("way", ["udp", "tls", "https", "https by address"])
def test_an_answer_comes_over_each_transport(unbound: Unbound, way: str) -> None:
    [resolution] = ask(transports(unbound)[way], WWW)
    assert addresses(WWW, resolution) == ["192.0.2.10"]
    assert resolution.upstream == str(transports(unbound)[way][0])


@pytest.mark.parametrize("way", ["udp", "tls", "https"])
def test_an_answer_too_long_for_udp_comes_whole(unbound: Unbound, way: str) -> None:
    [resolution] = ask(transports(unbound)[way], LONG)
    assert len(records(LONG, resolution)[0].rdata) == 8 * 251


@pytest.mark.parametrize("way", ["tls", "https by address"])
def test_many_questions_share_one_connection(unbound: Unbound, way: str) -> None:
    many = [question(f"n{number}.example.") for number in range(250)]
    resolutions = ask(transports(unbound)[way], *many)
    assert {resolution.rcode for resolution in resolutions} == {messages.NXDOMAIN}


@pytest.mark.parametrize("way", ["tls", "https"])
def test_a_certificate_of_another_name_is_refused(unbound: Unbound, way: str) -> None:
    bad = tls(unbound.tls, "other.example")
    if way == "https":
        bad = https(unbound.https, "other.example")

    async def scene() -> None:
        wanted = settings(unbound.plain, forwards=(("example.", (bad,)),))
        async with forwarder(wanted) as forward:
            resolution = await forward.resolve(question("www.example.", apex="example."))
            assert resolution.rcode == messages.SERVFAIL
            assert "bad certificate" in resolution.reason

    asyncio.run(scene())


def test_an_unknown_authority_is_refused(
    unbound: Unbound, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty = tmp_path / "none.pem"
    empty.write_text("")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    [resolution] = ask((tls(unbound.tls),), WWW)
    assert resolution.rcode == messages.SERVFAIL
    assert "bad certificate" in resolution.reason

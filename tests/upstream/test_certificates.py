"""A certificate that cannot be trusted: said, shown, and not looked at for each question."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dnslib import DNSRecord

from containerdns.core.endpoints import UpstreamServer
from containerdns.core.protocol import messages
from tests.timing import until
from tests.upstream.fakes import answer, upstream
from tests.upstream.forwarding import addresses, forwarder, local, question, settings
from tests.upstream.test_forwarder import WWW, says
from tests.upstream.unbound import NAME, make_certificate

QUESTIONS = 50


class Hellos:
    """A server over TLS that counts the handshakes that clients begin."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.count = 0
        self.port = 0
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, key)
        self.context.sni_callback = self._greet

    def _greet(self, *_: object) -> None:
        self.count += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Hellos"]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    length = int.from_bytes(await reader.readexactly(2))
                    query = DNSRecord.parse(await reader.readexactly(length))
                    reply = answer(query, "@ 60 A 192.0.2.1")
                    writer.write(len(reply).to_bytes(2) + reply)
            except (asyncio.IncompleteReadError, OSError):
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


@pytest.fixture
def expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hellos:
    """A server whose certificate has expired, by an authority that is trusted."""
    authority, certificate, key = make_certificate(tmp_path, days=-1)
    (tmp_path / "renewed").mkdir()
    renewed, *_ = make_certificate(tmp_path / "renewed")
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(authority.read_text() + renewed.read_text())
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    return Hellos(certificate, key)


def tls(port: int) -> UpstreamServer:
    return UpstreamServer("tls", "127.0.0.1", port, NAME)


async def test_an_expired_certificate_is_said_shown_and_not_tried_for_each_question(
    expired: Hellos,
) -> None:
    async with (
        expired.running(),
        forwarder(settings(servers=(tls(expired.port),))) as forward,
    ):
        for number in range(QUESTIONS):
            resolution = await forward.resolve(question(f"n{number}.example."))
            assert resolution.rcode == messages.SERVFAIL
            assert "certificate has expired" in resolution.reason
        [status] = forward.status()
        assert not status.is_healthy
        assert "certificate has expired" in status.last_failure
        assert expired.count < QUESTIONS / 2


async def test_the_next_server_answers_at_once_while_a_certificate_is_bad(expired: Hellos) -> None:
    async with (
        expired.running(),
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(servers=(tls(expired.port), local(second.port)))) as forward,
    ):
        for number in range(QUESTIONS):
            asked = question(f"n{number}.example.")
            assert addresses(asked, await forward.resolve(asked)) == ["192.0.2.2"]
        assert expired.count < QUESTIONS / 2


async def test_a_renewed_certificate_is_noticed(expired: Hellos, tmp_path: Path) -> None:
    async with (
        expired.running(),
        forwarder(settings(servers=(tls(expired.port),))) as forward,
    ):
        assert (await forward.resolve(WWW)).rcode == messages.SERVFAIL
        renewed = tmp_path / "renewed"
        expired.context.load_cert_chain(renewed / "server.pem", renewed / "server.key")
        await until(lambda: forward.status()[0].is_healthy)
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.1"]

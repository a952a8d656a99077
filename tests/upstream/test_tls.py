"""TLS to servers that break off, garble, cut and end what they send; each costs its connection."""

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from dnslib import EDNS0, DNSRecord, EDNSOption

from containerdns.core.endpoints import UpstreamServer
from containerdns.upstream.tls import TLSClient, client_context
from tests.engine.running import free_port
from tests.timing import MAX_WAIT
from tests.upstream.fakes import answer, upstream
from tests.upstream.forwarding import addresses, forwarder, local, question, settings
from tests.upstream.test_forwarder import WWW, says
from tests.upstream.test_plain_flights import answers_to, ask
from tests.upstream.unbound import NAME, make_certificate

COUNT = 100  # questions at once
Serve = Callable[[ssl.SSLSocket, int], None]
GARBAGE = b"\x17\x03\x03\x00\x10" + bytes(16)  # a record that was not encrypted with the key


class Certificates(NamedTuple):
    """Files of an authority, a certificate for `NAME`, and its key."""

    authority: Path
    own: Path
    key: Path


class Server:
    """A server over TLS whose connections are served by a function of the test.

    Attributes:
        context: Its TLS.
        connections: How many were accepted.
    """

    def __init__(self, certificates: Certificates, listening: socket.socket) -> None:
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificates.own, certificates.key)
        self.connections = 0
        self._listening = listening
        self._stopped = threading.Event()

    @property
    def upstream(self) -> UpstreamServer:
        return UpstreamServer("tls", "127.0.0.1", self._listening.getsockname()[1], NAME)

    @contextlib.contextmanager
    def running(self, serve: Serve) -> Iterator["Server"]:
        """Serve one connection after the other; `serve` gets it, and its number from 0."""
        thread = threading.Thread(target=self._run, args=(serve,))
        thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            with contextlib.suppress(OSError):  # wakes `accept`
                socket.create_connection(self._listening.getsockname(), 1).close()
            thread.join(MAX_WAIT)

    def _run(self, serve: Serve) -> None:
        while True:
            plain, _ = self._listening.accept()
            with plain:
                if self._stopped.is_set():
                    return
                plain.settimeout(MAX_WAIT)
                with contextlib.suppress(OSError):
                    self._serve(plain, serve)

    def _serve(self, plain: socket.socket, serve: Serve) -> None:
        number, self.connections = self.connections, self.connections + 1
        with self.context.wrap_socket(
            plain, server_side=True, suppress_ragged_eofs=False
        ) as connection:
            serve(connection, number)


@pytest.fixture
def certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """A certificate of an authority that is trusted."""
    made = Certificates(*make_certificate(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    return made


@pytest.fixture
def server(certificates: Certificates) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Server(certificates, listening)


def read_query(connection: ssl.SSLSocket) -> DNSRecord:
    """Read one query; the client may have ended."""
    length = int.from_bytes(exactly(connection, 2))
    return DNSRecord.parse(exactly(connection, length))


def exactly(connection: ssl.SSLSocket, count: int) -> bytes:
    octets = b""
    while len(octets) < count:
        some = connection.recv(count - len(octets))
        if not some:
            raise ConnectionResetError
        octets += some
    return octets


def frame(query: DNSRecord) -> bytes:
    reply = answer(query, "@ 60 A 192.0.2.1")
    return len(reply).to_bytes(2) + reply


def answers(connection: ssl.SSLSocket, _: int = 0) -> None:
    """Answer all queries, as a server should."""
    while True:
        connection.sendall(frame(read_query(connection)))


async def resolved(server: Server, *, plainly: bool = True) -> list[str]:
    """The addresses that a new forwarder gets from a server."""
    async with forwarder(settings(servers=(server.upstream,))) as forward:
        forward.asks_plainly = plainly
        return addresses(WWW, await forward.resolve(WWW))


class Pair:
    """A client and a server without sockets, after their handshake."""

    def __init__(self, server: Server) -> None:
        self.client = TLSClient(client_context("dot"), NAME)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.client.begin()
        self.to_server()
        with contextlib.suppress(ssl.SSLWantReadError):
            self.server.do_handshake()
        self.to_client()
        self.to_server()
        self.server.do_handshake()
        self.to_client()

    def to_server(self) -> None:
        self._incoming.write(self.client.output())

    def to_client(self, more: bytes = b"") -> bytes:
        return self.client.receive(self._outgoing.read() + more)


def test_long_data_is_sent_and_received_whole(server: Server) -> None:
    """A record has at most 16 KB."""
    pair, long = Pair(server), bytes(range(256)) * 256
    pair.client.send(long)
    pair.to_server()
    assert b"".join(pair.server.read(1 << 14) for _ in range(4)) == long
    for start in range(0, len(long), 1 << 14):
        pair.server.write(long[start : start + (1 << 14)])
    assert pair.to_client() == long


def test_the_end_of_a_server_is_answered(server: Server) -> None:
    """RFC 8446 section 6.1; what was sent before it is received."""
    pair = Pair(server)
    pair.server.write(b"last")
    with contextlib.suppress(ssl.SSLWantReadError):
        pair.server.unwrap()
    assert not pair.client.is_over
    assert pair.to_client() == b"last"
    assert pair.client.is_over
    pair.to_server()
    pair.server.unwrap()  # raises if the client has not announced its end


def test_garbage_is_the_end(server: Server) -> None:
    pair = Pair(server)
    pair.server.write(b"last")
    assert pair.to_client(GARBAGE) == b"last"
    assert pair.client.is_over
    pair.client.send(b"more")
    assert pair.client.is_over


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_versions_are_spoken(server: Server, version: ssl.TLSVersion) -> None:
    server.context.minimum_version = server.context.maximum_version = version
    with server.running(answers):
        assert await resolved(server) == ["192.0.2.1"]


@pytest.mark.parametrize("octets", [1, 2, 3, 40, 10**6], ids=lambda octets: f"{octets} octets")
async def test_a_response_in_any_number_of_records_is_read(server: Server, octets: int) -> None:
    """RFC 7766 section 8: the length and the message may come in pieces."""

    def serve(connection: ssl.SSLSocket, _: int) -> None:
        while True:
            data = frame(read_query(connection))
            for start in range(0, len(data), octets):
                connection.sendall(data[start : start + octets])

    with server.running(serve):
        assert await resolved(server) == ["192.0.2.1"]


async def test_many_responses_in_one_record_are_read(server: Server) -> None:
    def serve(connection: ssl.SSLSocket, _: int) -> None:
        queries = [read_query(connection) for _ in range(COUNT)]
        connection.sendall(b"".join(map(frame, reversed(queries))))
        connection.recv(1)

    many = [question(f"n{number}.example.") for number in range(COUNT)]
    with server.running(serve):
        async with forwarder(settings(servers=(server.upstream,))) as forward:
            found = await asyncio.gather(*map(forward.resolve, many))
    assert [addresses(*pair) for pair in zip(many, found, strict=True)] == [["192.0.2.1"]] * COUNT


def cuts(connection: ssl.SSLSocket) -> None:
    """Close in the middle of a response."""
    connection.sendall(frame(read_query(connection))[:-5])


def cuts_the_length(connection: ssl.SSLSocket) -> None:
    """Close behind the first octet."""
    read_query(connection)
    connection.sendall(b"\0")


def garbles(connection: ssl.SSLSocket) -> None:
    """Send a record that nobody can decrypt, and wait until the connection is closed."""
    read_query(connection)
    socket.socket.sendall(connection, GARBAGE)
    while socket.socket.recv(connection, 4096):
        pass


def says_goodbye(connection: ssl.SSLSocket) -> None:
    """End TLS, but not the connection below it."""
    read_query(connection)
    connection.unwrap().recv(1)


def is_not_dns(connection: ssl.SSLSocket) -> None:
    """Answer as a mail server would, and wait."""
    read_query(connection)
    connection.sendall(b"\0\x10220 mail ESMTP\r\n")
    connection.recv(1)


def answers_another_question(connection: ssl.SSLSocket) -> None:
    """Use the ID, but another name, and wait."""
    query = read_query(connection)
    query.q.qname = "other.example."
    connection.sendall(frame(query))
    connection.recv(1)


@pytest.mark.parametrize("plainly", [True, False], ids=["plain", "not plain"])
@pytest.mark.parametrize(
    "fault",
    [cuts, cuts_the_length, garbles, says_goodbye, is_not_dns, answers_another_question],
    ids=lambda fault: fault.__name__,
)
async def test_a_fault_ends_its_connection_and_the_question_is_asked_again(
    server: Server, fault: Callable[[ssl.SSLSocket], None], plainly: bool
) -> None:
    def serve(connection: ssl.SSLSocket, number: int) -> None:
        if number:
            answers(connection)
        fault(connection)

    with server.running(serve):
        assert await resolved(server, plainly=plainly) == ["192.0.2.1"]
        assert server.connections == 2


async def test_questions_asked_together_share_a_record_and_nothing_else(server: Server) -> None:
    """RFC 8467: their lengths say nothing about their names."""
    records: list[bytes] = []

    def serve(connection: ssl.SSLSocket, _: int) -> None:
        connection.sendall(frame(read_query(connection)))
        records.append(connection.recv(1 << 14))
        for query in split(records[0]):
            connection.sendall(frame(DNSRecord.parse(query)))
        connection.recv(1)

    many = [question(f"{'n' * number}.example.") for number in range(1, 21)]
    with server.running(serve):
        async with forwarder(settings(servers=(server.upstream,))) as forward:
            await forward.resolve(WWW)  # so that there is a connection
            asking = ask(forward, *many)
            forward.send_plain()
            found = await answers_to(asking)
    assert [addresses(*pair) for pair in zip(many, found, strict=True)] == [["192.0.2.1"]] * 20
    queries = split(records[0])
    assert {len(query) for query in queries} == {128}
    assert len({query[:2] for query in queries}) > 15
    assert any(query.lower() != query for query in queries)


async def test_those_without_an_answer_are_asked_again(server: Server) -> None:
    """RFC 7766 section 6.2.4: the server closes when it has answered two of five."""
    asked: list[str] = []

    def serve(connection: ssl.SSLSocket, number: int) -> None:
        queries = [read_query(connection) for _ in range(5 - 2 * number)]
        asked.extend(str(query.q.qname).lower() for query in queries)
        connection.sendall(b"".join(map(frame, queries if number else queries[:2])))

    many = [question(f"n{number}.example.") for number in range(5)]
    with server.running(serve):
        async with forwarder(settings(servers=(server.upstream,))) as forward:
            asking = ask(forward, *many)
            forward.send_plain()
            for one, found in zip(many, await answers_to(asking), strict=True):
                assert addresses(one, found) == ["192.0.2.1"]
    assert sorted(asked[5:]) == sorted(asked[2:5])


async def test_server_may_close_after_each_answer(server: Server) -> None:
    """Each connection answers one question, whatever else was asked on it; nothing is lost."""

    def serve(connection: ssl.SSLSocket, _: int) -> None:
        connection.sendall(frame(read_query(connection)))

    many = [question(f"n{number}.example.") for number in range(12)]
    with server.running(serve):
        async with forwarder(settings(servers=(server.upstream,))) as forward:
            asking = ask(forward, *many)
            forward.send_plain()
            for one, found in zip(many, await answers_to(asking), strict=True):
                assert addresses(one, found) == ["192.0.2.1"]


@pytest.mark.parametrize("is_padded", [True, False], ids=["padded", "with an error"])
async def test_options_of_an_answer_are_looked_at(server: Server, is_padded: bool) -> None:
    """RFC 8467 section 4.1: answers are padded, too; an extended error (RFC 8914) is passed on."""
    option = EDNSOption(12, bytes(300)) if is_padded else EDNSOption(15, b"\0\x0fblocked")

    def serve(connection: ssl.SSLSocket, _: int) -> None:
        reply = DNSRecord.parse(frame(read_query(connection))[2:])
        reply.add_ar(EDNS0(opts=[option]))
        octets = bytes(reply.pack())
        connection.sendall(len(octets).to_bytes(2) + octets)
        connection.recv(1)

    with server.running(serve):
        async with forwarder(settings(servers=(server.upstream,))) as forward:
            resolution = await forward.resolve(WWW)
    assert addresses(WWW, resolution) == ["192.0.2.1"]
    assert resolution.extended_error == (None if is_padded else (15, "blocked"))


def split(frames: bytes) -> list[bytes]:
    """The messages in some frames."""
    messages = []
    while frames:
        end = 2 + int.from_bytes(frames[:2])
        messages.append(frames[2:end])
        frames = frames[end:]
    return messages


async def test_what_came_before_a_fault_counts(server: Server) -> None:
    """Both arrive together: the answer, and the record that ends the connection."""

    def serve(connection: ssl.SSLSocket, _: int) -> None:
        query = read_query(connection)
        connection.sendall(frame(query))
        socket.socket.sendall(connection, GARBAGE)
        with contextlib.suppress(OSError):
            connection.recv(1)

    with server.running(serve):
        assert await resolved(server) == ["192.0.2.1"]
        assert server.connections == 1


async def test_what_came_before_a_frame_that_is_not_dns_counts(server: Server) -> None:
    asked: list[str] = []

    def serve(connection: ssl.SSLSocket, number: int) -> None:
        queries = [read_query(connection) for _ in range(1 if number else 2)]
        asked.extend(str(query.q.qname).lower() for query in queries)
        connection.sendall(frame(queries[0]) + b"\0\x03220")
        connection.recv(1)

    many = [question(f"n{number}.example.") for number in range(2)]
    with server.running(serve):
        async with forwarder(settings(servers=(server.upstream,))) as forward:
            asking = ask(forward, *many)
            forward.send_plain()
            for one, found in zip(many, await answers_to(asking), strict=True):
                assert addresses(one, found) == ["192.0.2.1"]
    assert asked[2:] == asked[1:2]


async def test_an_alert_after_the_handshake_passes_the_question_on(
    server: Server, certificates: Certificates
) -> None:
    """In TLS 1.3 a client certificate is missed when the client has finished already."""
    server.context.verify_mode = ssl.CERT_REQUIRED
    server.context.load_verify_locations(certificates.authority)
    with server.running(answers):
        async with (
            upstream(says("192.0.2.2")) as second,
            forwarder(settings(servers=(server.upstream, local(second.port)))) as forward,
        ):
            assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.2"]


async def test_a_server_without_tls_passes_the_question_on() -> None:
    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(greets, "127.0.0.1", 0)
    first = UpstreamServer("tls", "127.0.0.1", listening.sockets[0].getsockname()[1], NAME)
    async with (
        listening,
        upstream(says("192.0.2.2")) as second,
        forwarder(settings(servers=(first, local(second.port)))) as forward,
    ):
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.2"]
        assert "no TLS" in forward.status()[0].last_failure


async def test_a_client_that_stops_says_so(server: Server) -> None:
    """RFC 8446 section 6.1: else the server cannot know that nothing was cut off."""
    ends: list[bytes] = []

    def serve(connection: ssl.SSLSocket, _: int) -> None:
        connection.sendall(frame(read_query(connection)))
        ends.append(connection.recv(1))  # raises if there is no announcement

    with server.running(serve):
        assert await resolved(server) == ["192.0.2.1"]
    assert ends == [b""]


class Rekeying:
    """OpenSSL's own server, which does what people type, and says what it received."""

    def __init__(self, certificates: Certificates) -> None:
        self.port = free_port()
        command = f"openssl s_server -accept {self.port} -tls1_3"
        files = f"-cert {certificates.own} -key {certificates.key}"
        self._process = subprocess.Popen(
            f"{command} {files}".split(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._said(b"ACCEPT\n")

    def answer(self) -> None:
        """Read a query, change the keys of both directions, and answer."""
        begins = b"\1\0\0\1\0\0\0\0\0\1"  # behind the ID
        seen = self._said(begins)
        query = DNSRecord.parse(seen[seen.index(begins) - 2 :])
        self._type(b"K\n")
        self._said(b"SSL_do_handshake -> 1")
        self._type(frame(query))

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _type(self, data: bytes) -> None:
        assert self._process.stdin is not None
        os.write(self._process.stdin.fileno(), data)

    def _said(self, text: bytes) -> bytes:
        """Wait until it says something; return that and what came before."""
        assert self._process.stdout is not None
        seen = b""
        while text not in seen:
            some = os.read(self._process.stdout.fileno(), 4096)
            assert some, "it ended"
            seen += some
        return seen


@pytest.fixture
def rekeying(certificates: Certificates) -> Iterator[Rekeying]:
    running = Rekeying(certificates)
    yield running
    running.stop()


async def test_keys_may_be_changed_in_the_middle(rekeying: Rekeying) -> None:
    """RFC 8446 section 4.6.3."""
    upstreams = (UpstreamServer("tls", "127.0.0.1", rekeying.port, NAME),)
    async with forwarder(settings(servers=upstreams)) as forward:
        for number in range(3):
            asked = question(f"n{number}.example.")
            waiting = asyncio.ensure_future(forward.resolve(asked))
            await asyncio.to_thread(rekeying.answer)
            assert addresses(asked, await waiting) == ["192.0.2.1"]

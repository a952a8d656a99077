"""Questions over HTTPS (RFC 8484): one HTTP/2 connection, with a stream for each question.

Only HTTP/2, through `h2`: public servers support it, and some of them nothing older.
This module, and so `h2`, is imported only if such an upstream is configured.
"""

import asyncio
from typing import cast
from urllib.parse import urlsplit

import h2.connection
import h2.events
import h2.exceptions

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream.questions import is_same
from containerdns.upstream.connections import MAX_CONNECT, UpstreamConnection, UpstreamConnections
from containerdns.upstream.exchanges import Bootstrap, Sent, Spawn, Take, Trouble, TroubleKind
from containerdns.upstream.streams import read_whole, why_not
from containerdns.upstream.tls import client_context

MAX_RESPONSE = messages.TCP_OCTETS
MAX_STREAMS = 100  # concurrent; RFC 9113 section 6.5.2 recommends servers to allow that many
MEDIA_TYPE = "application/dns-message"


class Https(UpstreamConnections["_HTTPSConnection"]):
    """DNS over HTTPS to one upstream."""

    def __init__(
        self, url: str, loop: asyncio.AbstractEventLoop, spawn: Spawn, bootstrap: Bootstrap
    ) -> None:
        """Initialise; nothing is opened before the first question.

        Args:
            url: As configured.
            loop: The running loop.
            spawn: Starts a task that is owned elsewhere.
            bootstrap: Resolves the URL's host without asking this server.
        """
        super().__init__(loop, spawn)
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or 443
        self._request = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", parts.netloc),
            (":path", parts.path or "/dns-query"),
            ("accept", MEDIA_TYPE),
            ("content-type", MEDIA_TYPE),
        ]
        self._bootstrap = bootstrap
        self._context = client_context("h2")

    def send(self, question: bytes, flags: int, opt: bytes, take: Take) -> Sent | None:
        """Send a question, over a connection that is opened first if necessary."""
        return self._in_use().send(question, messages.query(0, flags, question, opt), take)

    def _new(self) -> "_HTTPSConnection":
        return _HTTPSConnection(self._request, self._loop)

    async def _connect(self, connection: "_HTTPSConnection") -> None:
        """Connect to the first address of the host that accepts the connection."""
        trouble = Trouble(TroubleKind.UNREACHABLE, f"no address for {self._host}")
        for address in await self._bootstrap(self._host):
            try:
                async with asyncio.timeout(MAX_CONNECT):
                    await self._loop.create_connection(
                        lambda: connection,
                        address,
                        self._port,
                        ssl=self._context,
                        server_hostname=self._host,
                    )
                return
            except (OSError, TimeoutError) as error:
                trouble = why_not(error)
        connection.fail(trouble)


class _HTTPSConnection(UpstreamConnection, asyncio.Protocol):
    """One HTTP/2 connection; queries are queued until it is established."""

    def __init__(self, request: list[tuple[str, str]], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._request = request
        self._next = 0
        self._unsent: list[tuple[int, bytes]] = []
        self._streams: dict[
            int, tuple[int, bytearray]
        ] = {}  # the query's number, and the body so far
        self._h2: h2.connection.H2Connection

    def send(self, question: bytes, query: bytes, take: Take) -> Sent:
        """Send a question, now or once there is room."""
        number, self._next = self._next, self._next + 1
        sent = self.waiting[number] = Sent(question, take, number, self.waiting)
        self._unsent.append((number, query))
        if self.transport is not None:
            self._send_waiting()
        self.rest()
        return sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start HTTP/2, if the server agreed to it."""
        stream = self.transport = cast(asyncio.Transport, transport)
        tls = stream.get_extra_info("ssl_object")
        if self.is_closed or tls is None or tls.selected_alpn_protocol() != "h2":
            self.fail(Trouble(TroubleKind.UNREACHABLE, "the server does not speak HTTP/2"))
            return
        self._h2 = h2.connection.H2Connection()
        self._h2.initiate_connection()
        self._send_waiting()

    def data_received(self, data: bytes) -> None:
        """Process received data; close the connection on HTTP/2 errors."""
        self.alive_at = self._loop.time()
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.fail(Trouble(TroubleKind.BROKEN, f"bad HTTP/2: {error}"))
            return
        for event in events:
            self._take(event)
        if not self.is_closed:
            self._send_waiting()
            self.rest()

    def _send_waiting(self) -> None:
        """Open streams for queued queries, as many as the server allows."""
        most = min(self._h2.remote_settings.max_concurrent_streams, MAX_STREAMS)
        while self._unsent and len(self._streams) < most:
            number, query = self._unsent.pop(0)
            if number not in self.waiting:
                continue  # forgotten before it was sent
            try:
                stream = self._h2.get_next_available_stream_id()
                self._h2.send_headers(stream, [*self._request, ("content-length", str(len(query)))])
                self._h2.send_data(stream, query, end_stream=True)
            except h2.exceptions.H2Error as error:
                self.fail(Trouble(TroubleKind.BROKEN, f"no HTTP/2 stream: {error}"))
                return
            self._streams[stream] = number, bytearray()
        assert self.transport is not None
        self.transport.write(self._h2.data_to_send())

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=stream, headers=headers):
                status = dict(headers or ()).get(b":status", b"")
                if status != b"200":
                    self._end(
                        stream, Trouble(TroubleKind.USELESS, f"HTTP status {status.decode()}")
                    )
            case h2.events.DataReceived(stream_id=stream, data=data):
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                _, body = self._streams.get(stream, (0, bytearray()))
                if len(body) <= MAX_RESPONSE:
                    body += data
            case h2.events.StreamEnded(stream_id=stream):
                self._deliver(stream)
            case h2.events.StreamReset(stream_id=stream):
                self._end(stream, Trouble(TroubleKind.BROKEN, "the server reset the stream"))
            case h2.events.ConnectionTerminated():
                self.fail(Trouble(TroubleKind.BROKEN))

    def _deliver(self, stream: int) -> None:
        """Pass a complete response to the waiting query."""
        if stream not in self._streams:
            return  # it has ended already
        number, body = self._streams[stream]
        sent = self.sent(number)
        outcome = read_whole(bytes(body), sent.question if sent else b"")
        if sent is None or not isinstance(outcome, Response):
            self._end(stream, outcome)
        elif outcome.id or not is_same(outcome.question, sent.question):
            self._end(stream, Trouble(TroubleKind.USELESS, "response to another question"))
        else:
            self._end(stream, outcome)

    def _end(self, stream: int, outcome: Response | Trouble) -> None:
        number, _ = self._streams.pop(stream, (-1, b""))
        sent = self.sent(number)
        if sent is not None:
            sent.forget()
            sent.take(outcome)

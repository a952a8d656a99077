"""Questions over TCP and TLS: one connection, kept open, many questions on it at a time.

RFC 7766: responses arrive in any order and are matched by ID and question.  The server may close
the connection at any time; a question in flight is then repeated once over a new one.
"""

import asyncio
import ssl
from typing import cast

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream import plain_answers
from containerdns.core.upstream.questions import is_same
from containerdns.errors import BadMessage
from containerdns.tasks.turns import turns
from containerdns.upstream.connections import MAX_CONNECT, UpstreamConnection, UpstreamConnections
from containerdns.upstream.exchanges import (
    Sent,
    Spawn,
    Take,
    Trouble,
    TroubleKind,
    is_response,
    random_octets,
    trouble_of,
)

MAX_WAITING = 1000  # questions on one connection; IDs must stay hard to guess


class UpstreamStreams(UpstreamConnections["_StreamConnection"]):
    """TCP to one upstream, or TLS with a name that its certificate must have (RFC 7858)."""

    def __init__(
        self,
        address: tuple[str, int],
        loop: asyncio.AbstractEventLoop,
        spawn: Spawn,
        server_name: str = "",
    ) -> None:
        super().__init__(loop, spawn)
        self._address = address
        self._server_name = server_name
        self._context = tls_context("dot") if server_name else None

    def send(self, question: bytes, flags: int, opt: bytes, take: Take) -> Sent | None:
        """Send a question, over a connection that is opened first if necessary."""
        connection = self._in_use()
        if len(connection.waiting) >= MAX_WAITING:
            take(Trouble(TroubleKind.BROKEN))
            return None
        return connection.send(question, flags, opt, take)

    def _new(self) -> "_StreamConnection":
        return _StreamConnection(self._loop)

    async def _connect(self, connection: "_StreamConnection") -> None:
        try:
            async with asyncio.timeout(MAX_CONNECT):
                await self._loop.create_connection(
                    lambda: connection,
                    *self._address,
                    ssl=self._context,
                    server_hostname=self._server_name or None,
                )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            connection.fail(why_not(error))


def tls_context(protocol: str) -> ssl.SSLContext:
    """Return a context that verifies certificates; slow, as it reads all authorities.

    Args:
        protocol: To negotiate (ALPN): "dot" or "h2".
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
    return context


def read_whole(data: bytes, asked: bytes) -> Response | Trouble:
    """Parse a response of a transport without truncation; a truncated one is unusable.

    Args:
        data: The message.
        asked: The question sent.
    """
    try:
        response = plain_answers.parse(data, asked)
    except BadMessage as error:
        return Trouble(TroubleKind.USELESS, f"malformed response: {error}")
    if response.flags & messages.TC:
        return Trouble(TroubleKind.USELESS, "truncated response")
    return response


def why_not(error: OSError | TimeoutError) -> Trouble:
    """Return why there is no connection."""
    match error:
        case ssl.SSLCertVerificationError():
            return Trouble(TroubleKind.UNTRUSTED, f"bad certificate: {error.verify_message}")
        case ssl.SSLError():
            return Trouble(TroubleKind.UNREACHABLE, f"no TLS: {error.reason}")
        case TimeoutError():
            return Trouble(TroubleKind.UNREACHABLE, "no connection in time")
        case _:
            return trouble_of(error)


class _StreamConnection(UpstreamConnection):
    """One connection; queries are queued until it is established."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._unsent: list[bytes] = []
        self._received = b""
        self._reads_later = False
        self._is_lost = False

    def send(self, question: bytes, flags: int, opt: bytes, take: Take) -> Sent:
        """Send a question with the others of this turn, once the connection is established."""
        message_id = int.from_bytes(random_octets(2))
        while message_id in self.waiting:
            message_id = int.from_bytes(random_octets(2))
        query = messages.query(message_id, flags, question, opt)
        frame = len(query).to_bytes(2) + query
        if not self._unsent and self.transport is not None:
            self._loop.call_soon(self._send_all)
        self._unsent.append(frame)
        sent = self.waiting[message_id] = Sent(question, take, message_id, self.waiting)
        self.rest()
        return sent

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what waited for the connection."""
        stream = self.transport = cast(asyncio.Transport, transport)
        if self.is_closed:
            stream.abort()
            return
        self._send_all()

    def _send_all(self) -> None:
        """Send what was asked in one turn of the loop at once: one TLS record, one segment."""
        if self.transport is not None and not self.is_closed:
            self.transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Process whole frames; after an invalid one, the connection is closed."""
        self.alive_at = self._loop.time()
        self._received += data
        if not self._reads_later:
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify waiting questions, once everything that arrived before is read."""
        self._is_lost = True
        if not self._reads_later:
            super().connection_lost(exc)

    def _read(self) -> None:
        """Read the frames that are whole: one, and others while the turn lasts.

        A response of 64 KB takes milliseconds, and many may have arrived at once.
        """
        received, start = self._received, 0
        while not self.is_closed and len(received) >= start + 2:
            end = start + 2 + int.from_bytes(received[start : start + 2])
            if len(received) < end:
                break
            if start and turns().is_over():
                self._read_later()
                break
            if not self._deliver(received[start + 2 : end]):
                self.fail(Trouble(TroubleKind.BROKEN))
                return
            start = end
        self._received = received[start:]
        self.rest()

    def _read_later(self) -> None:
        """Go on in another turn; meanwhile no more octets are taken."""
        self._reads_later = True
        if self.transport is not None and not self._is_lost:
            self.transport.pause_reading()
        turns().call(self, self._read_on)

    def _read_on(self) -> None:
        self._reads_later = False
        if self.transport is not None and not (self._is_lost or self.is_closed):
            self.transport.resume_reading()
        self._read()
        if self._is_lost and not self._reads_later:
            super().connection_lost(None)

    def _deliver(self, frame: bytes) -> bool:
        """Deliver a response to its waiting question; return False if it is not a response.

        A malformed one affects only its own question, not others on the connection.
        """
        if not is_response(frame):
            return False
        sent = self.waiting.get(int.from_bytes(frame[:2]))
        if sent is None:
            return True  # too late
        outcome = read_whole(frame, sent.question)
        question = outcome.question if isinstance(outcome, Response) else b""
        if question and not is_same(question, sent.question):
            return False
        sent.forget()
        sent.take(outcome)
        return True

"""Questions over TCP and TLS: one connection, kept open, many questions on it at a time.

RFC 7766: responses arrive in any order and are matched by ID and question.  The server may close
the connection at any time; a question in flight is then repeated once over a new one.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Sequence
from typing import cast

from containerdns.config.machine import family_of, socket_address
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream import plain_answers
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.upstream.questions import is_same
from containerdns.errors import BadMessage
from containerdns.tasks import event_loop
from containerdns.tasks.turns import turns
from containerdns.upstream.connections import MAX_CONNECT, UpstreamConnection, UpstreamConnections
from containerdns.upstream.exchanges import (
    Home,
    PlainTaker,
    Sent,
    Spawn,
    Take,
    Trouble,
    TroubleKind,
    is_response,
    plain_queries,
    random_octets,
    trouble_of,
)
from containerdns.upstream.tls import TLSClient, client_context

MAX_WAITING = 4096  # questions on one connection; more than are in flight, and few of all IDs
MAX_READ = 1 << 14  # octets in a pass of the event loop; some hundred TLS records
MAX_AT_ONCE = 64  # plain answers in a pass
MAX_UNREAD = 1 << 16  # octets, of responses that wait for their turn

PlainAnswers = list[tuple[PlainQuestion, PlainAnswer]]


class UpstreamStreams(UpstreamConnections["_StreamConnection"]):
    """TCP to one upstream, or TLS with a name that its certificate must have (RFC 7858)."""

    def __init__(
        self,
        address: tuple[str, int],
        loop: asyncio.AbstractEventLoop,
        spawn: Spawn,
        plain: PlainTaker,
        server_name: str = "",
    ) -> None:
        super().__init__(loop, spawn)
        self._plain = plain
        self._address = address
        self._server_name = server_name
        self._context = client_context("dot") if server_name else None

    def send(self, question: bytes, flags: int, opt: bytes, take: Take) -> Sent | None:
        """Send a question, over a connection that is opened first if necessary."""
        connection = self._in_use()
        if len(connection.waiting) >= MAX_WAITING:
            take(Trouble(TroubleKind.BROKEN))
            return None
        return connection.send(question, flags, opt, take)

    def send_plain(
        self, questions: Sequence[PlainQuestion]
    ) -> tuple[Home, Sequence[PlainQuestion]]:
        """Send plain questions, over a connection that is opened first if necessary; see there."""
        connection = self._in_use()
        room = max(MAX_WAITING - len(connection.waiting), 0)
        connection.send_plain(questions[:room])
        return connection.waiting, questions[room:]

    def _new(self) -> "_StreamConnection":
        tls = TLSClient(self._context, self._server_name) if self._context is not None else None
        return _StreamConnection(self._loop, self._plain, tls)

    async def _connect(self, connection: "_StreamConnection") -> None:
        try:
            async with asyncio.timeout(MAX_CONNECT):
                await self._open(connection)
                await connection.established()
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            connection.fail(why_not(error))

    async def _open(self, connection: "_StreamConnection") -> None:
        """Connect a socket that each pass of the event loop looks at first, as it carries DNS."""
        opened = socket.socket(family_of(self._address[0]), socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            await self._loop.sock_connect(opened, socket_address(*self._address))
            event_loop.prefer(opened)
            await self._loop.create_connection(lambda: connection, sock=opened)
        except BaseException:  # cancelled, too
            opened.close()
            raise


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


class _StreamConnection(UpstreamConnection, asyncio.BufferedProtocol):
    """One connection; queries are queued until it is established."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, plain: PlainTaker, tls: TLSClient | None = None
    ) -> None:
        super().__init__(loop)
        self._plain = plain
        self._tls = tls
        self._turns = turns()
        self._unsent: list[bytes] = []
        self._buffer = memoryview(bytearray(MAX_READ))
        self._received = b""
        self._reads_later = False
        self._is_paused = False
        self._is_established = False
        self._is_lost = False
        self._opened: asyncio.Future[OSError | None] = loop.create_future()

    async def established(self) -> None:
        """Wait until queries can be sent.

        Raises:
            OSError: They never can be.
        """
        error = await self._opened
        if error is not None:
            raise error

    def send(self, question: bytes, flags: int, opt: bytes, take: Take) -> Sent:
        """Send a question with the others of this turn, once the connection is established."""
        message_id = int.from_bytes(random_octets(2))
        while message_id in self.waiting:
            message_id = int.from_bytes(random_octets(2))
        query = messages.query(message_id, flags, question, opt)
        if not self._unsent and self._is_established:
            self._loop.call_soon(self._flush)
        self._unsent.append(len(query).to_bytes(2) + query)
        sent = self.waiting[message_id] = Sent(question, take, message_id, self.waiting)
        return sent

    def send_plain(self, questions: Sequence[PlainQuestion]) -> None:
        """Send plain questions, at once if the connection is established."""
        is_padded = self._tls is not None
        for query in plain_queries(questions, self.waiting, is_padded=is_padded):
            self._unsent += len(query).to_bytes(2), query
        if self._is_established:
            self._flush()

    def _flush(self) -> None:
        """Send what was asked in one turn of the loop at once: one TLS record, one segment."""
        if self._unsent and not self.is_closed:
            self._write(b"".join(self._unsent))
            self.rest()
        self._unsent.clear()

    def _write(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.send(data)
            self._transmit(self._tls)
        elif self.transport is not None:
            self.transport.write(data)

    def _transmit(self, tls: TLSClient) -> None:
        """Send what TLS has to send, and nothing more once it is over."""
        data = tls.output()
        if self.transport is None:
            return
        if data:
            self.transport.write(data)
        if tls.is_over:
            self.transport.close()  # ends in `connection_lost`

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what waited for the connection, after a handshake if it is encrypted."""
        stream = self.transport = cast(asyncio.Transport, transport)
        if self.is_closed:
            stream.abort()
        elif self._tls is None:
            self._begin()
        else:
            self._tls.begin()
            self._transmit(self._tls)

    def _begin(self) -> None:
        self._is_established = True
        self._set_opened(None)
        self._flush()

    def _set_opened(self, error: OSError | None) -> None:
        if not self._opened.done():
            self._opened.set_result(error)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the place for what is received."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process whole frames; after an invalid one, the connection is closed."""
        self.alive_at = self._loop.time()
        data = self._buffer[:nbytes]
        self._received += bytes(data) if self._tls is None else self._decrypt(data, self._tls)
        if not self._reads_later:
            self._read()
        elif len(self._received) > MAX_UNREAD and not self._is_paused:
            self._pause(is_paused=True)

    def _decrypt(self, data: memoryview, tls: TLSClient) -> bytes:
        try:
            received = tls.receive(data)
        except ssl.SSLError as error:
            self._set_opened(error)
            received = b""
        if tls.is_established and not self._is_established:
            self._begin()
        self._transmit(tls)
        return received

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify waiting questions, once everything that arrived before is read."""
        self._is_lost = True
        if not self._opened.done():  # then `_connect` does
            reset = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            self._set_opened(exc if isinstance(exc, OSError) else reset)
        elif not self._reads_later:
            super().connection_lost(exc)

    def close(self) -> None:
        """Close without notifying waiting questions."""
        tls = self._tls
        if tls is not None and self._is_established and not (self.is_closed or self._is_lost):
            tls.end()
            self._transmit(tls)
        super().close()

    def _read(self) -> None:
        answers: PlainAnswers = []
        is_good = self._read_frames(answers)
        if answers:
            self._plain.take(answers)
        if is_good:
            self.rest()
        else:
            self.fail(Trouble(TroubleKind.BROKEN))

    def _read_frames(self, answers: PlainAnswers) -> bool:
        """Read the frames that are whole: one, and others while the turn lasts.

        A response of 64 KB takes milliseconds, and many may have arrived at once.

        Args:
            answers: Where those to plain questions are added.

        Returns:
            False after a frame that is not a response.
        """
        received, start, size = self._received, 0, len(self._received)
        while size >= start + 2 and not self.is_closed:
            end = start + 2 + (received[start] << 8 | received[start + 1])
            if size < end:
                break
            if start and (len(answers) >= MAX_AT_ONCE or self._turns.is_over()):
                self._read_later()
                break
            frame = received[start + 2 : end]
            if not self._is_plain(frame, answers) and not self._deliver(frame):
                return False
            start = end
        self._received = received[start:]
        return True

    def _is_plain(self, frame: bytes, answers: PlainAnswers) -> bool:
        """Return whether a frame answers a plain question plainly; it is then among the answers."""
        waiting = self.waiting.get(int.from_bytes(frame[:2]))
        if waiting.__class__ is not PlainQuestion:
            return False
        answer = self._plain.read(frame, waiting)
        if answer is None:
            return False
        del self.waiting[waiting.message_id]
        self.has_answered = True
        answers.append((waiting, answer))
        return True

    def _read_later(self) -> None:
        """Go on in another turn; what arrives meanwhile waits."""
        self._reads_later = True
        self._turns.call(self, self._read_on)

    def _read_on(self) -> None:
        self._reads_later = False
        self._read()
        if self._is_paused and not self._reads_later:
            self._pause(is_paused=False)
        if self._is_lost and not self._reads_later:
            super().connection_lost(None)

    def _pause(self, *, is_paused: bool) -> None:
        """Stop reading for now, or go on."""
        self._is_paused = is_paused
        if self.transport is not None:
            (self.transport.pause_reading if is_paused else self.transport.resume_reading)()

    def _deliver(self, frame: bytes) -> bool:
        """Deliver a response to its waiting question; return False if it is not a response.

        A malformed one affects only its own question, not others on the connection.
        """
        if not is_response(frame):
            return False
        sent = self.sent(int.from_bytes(frame[:2]))
        if sent is None:
            return True  # too late
        outcome = read_whole(frame, sent.question)
        question = outcome.question if isinstance(outcome, Response) else b""
        if question and not is_same(question, sent.question):
            return True  # too late as well, and another question has its ID by now
        sent.forget()
        self.has_answered = True
        sent.take(outcome)
        return True

    def sent(self, number: int) -> Sent | None:
        """Return what waits for a response, after the beginning of a flight if it is plain."""
        waiting = self.waiting.get(number)
        if isinstance(waiting, PlainQuestion):
            self._plain.become_flight(waiting.question)
        return super().sent(number)

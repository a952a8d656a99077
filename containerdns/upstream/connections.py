"""The life of a connection that carries many questions to an upstream: TCP, TLS and HTTPS.

One is in use at a time.  The first question opens it; it is closed after `MAX_IDLE` seconds
without a question, and replaced when it was silent for so long that it may be dead.  Questions
waiting on the old one may still get their answers.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.upstream.exchanges import Home, Sent, Spawn, Trouble, TroubleKind

MAX_CONNECT = 2.0  # seconds, the longest timeout of a question
MAX_NOTIFIED = 16  # questions in a pass of the event loop, within a millisecond
MAX_IDLE = 60.0  # seconds; servers may close earlier, RFC 7766 section 6.2.3


class UpstreamConnection(asyncio.BaseProtocol):
    """One connection; queries are queued until it is established.

    Attributes:
        waiting: The questions without an answer, by the protocol's number.
        is_closed: It accepts no more questions.
        has_answered: Some question that it carried.
        alive_at: The loop's time when it was opened, or when data last arrived.
        transport: None until it is established.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting: Home = {}
        self.is_closed = False
        self.has_answered = False
        self.alive_at = loop.time()
        self.transport: asyncio.Transport | None = None
        self._loop = loop
        self._idle: asyncio.TimerHandle | None = None
        self._used_at = 0.0

    def close(self) -> None:
        """Close without notifying waiting questions."""
        self.is_closed = True
        if self._idle is not None:
            self._idle.cancel()
        if self.transport is not None:
            self.transport.abort()

    def fail(self, trouble: Trouble) -> None:
        """Close, and notify waiting questions: some now, and others in the next passes."""
        self.close()
        self._notify(list(self.waiting), trouble)

    def _notify(self, numbers: list[int], trouble: Trouble) -> None:
        """Notify those of some questions that still wait; each may wake a task."""
        for _ in range(min(len(numbers), MAX_NOTIFIED)):
            sent = self.sent(numbers.pop())
            if sent is not None:  # else forgotten, as it timed out or by what another one did
                sent.forget()
                sent.take(trouble)
        if numbers:
            self._loop.call_soon(self._notify, numbers, trouble)

    def sent(self, number: int) -> Sent | None:
        """Return what waits for a response, which is no plain question any more."""
        sent = self.waiting.get(number)
        assert not isinstance(sent, PlainQuestion)
        return sent

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify waiting questions."""
        self.fail(Trouble(TroubleKind.CLOSED if self.has_answered else TroubleKind.BROKEN))

    def rest(self) -> None:
        """Close later, if nothing more is asked; one timer serves many questions."""
        self._used_at = self._loop.time()
        if self._idle is None:
            self._idle = self._loop.call_later(MAX_IDLE, self._close_if_idle)

    def _close_if_idle(self) -> None:
        now = self._loop.time()
        closes_at = (now if self.waiting else self._used_at) + MAX_IDLE
        if closes_at <= now:
            self.close()
        elif not self.is_closed:
            self._idle = self._loop.call_at(closes_at, self._close_if_idle)


C = TypeVar("C", bound=UpstreamConnection)


class UpstreamConnections(ABC, Generic[C]):
    """The connection to one upstream, and earlier ones with waiting questions."""

    def __init__(self, loop: asyncio.AbstractEventLoop, spawn: Spawn) -> None:
        self._loop = loop
        self._spawn = spawn
        self._connection: C | None = None
        self._retired: list[C] = []

    @abstractmethod
    def _new(self) -> C:
        """Return a connection that is not established yet."""

    @abstractmethod
    async def _connect(self, connection: C) -> None:
        """Establish it, or let it fail."""

    def _in_use(self) -> C:
        """Return the connection for a question, opening one if necessary."""
        connection = self._connection
        if connection is None or connection.is_closed:
            connection = self._connection = self._new()
            self._spawn(self._connect(connection))
        return connection

    def renew(self, seconds: float) -> None:
        """Use another connection from now on, if this one was silent for so long."""
        connection = self._connection
        if connection is not None and connection.alive_at <= self._loop.time() - seconds:
            self._retired = [old for old in self._retired if not old.is_closed]
            self._retired.append(connection)
            self._connection = None

    def close(self) -> None:
        """Close all connections."""
        self.renew(0.0)
        for connection in self._retired:
            connection.close()

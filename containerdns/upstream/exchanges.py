"""The values exchanged between flights and transports: queries, arrivals and inboxes."""

import asyncio
import errno
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.upstream.questions import Question, padded_opt, spell_names

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class TroubleKind(Enum):
    """What went wrong, as far as it makes a difference."""

    FOLDED = "the response does not preserve the case of the question"
    FLOODED = "many responses to unknown queries"
    USELESS = "an unusable response"
    MOVED = "asked again over TCP"
    REPLACED = "the servers to ask have changed"
    UNTRUSTED = "bad certificate"
    UNREACHABLE = "connection refused"
    BROKEN = "the connection broke"
    CLOSED = "the connection was closed after other answers"
    EXHAUSTED = "out of file descriptors"


class Trouble(NamedTuple):
    """Why a transport has no response, or not yet.

    Attributes:
        kind: The kind, which decides what happens next.
        text: The system's message; "" if none.
    """

    kind: TroubleKind
    text: str = ""

    def __str__(self) -> str:
        return self.text or self.kind.value


def is_response(data: bytes) -> bool:
    """Return whether the header is that of a response to a query (opcode 0)."""
    if len(data) < messages.HEADER_OCTETS:
        return False
    return data[2] & (messages.QR | messages.OPCODE) >> 8 == messages.QR >> 8


RANDOM_OCTETS = 4096  # per system call
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def trouble_of(error: OSError) -> Trouble:
    """Convert a system error; lack of our own sockets is not the server's error."""
    kind = TroubleKind.EXHAUSTED if error.errno in EXHAUSTED else TroubleKind.UNREACHABLE
    return Trouble(kind, error.strerror or "")


class _Randomness:
    """Random octets of the system, taken many at a time: a call costs more than what it gives."""

    def __init__(self) -> None:
        self._octets = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._forget)

    def take(self, count: int) -> bytes:
        """Return the next octets, each only once."""
        at = self._at
        if at + count > len(self._octets):
            self._octets = os.urandom(max(RANDOM_OCTETS, count))
            at = 0
        self._at = at + count
        return self._octets[at : at + count]

    def _forget(self) -> None:
        self._octets, self._at = b"", 0  # else both processes would use the same


random_octets = _Randomness().take

Spawn = Callable[[Coroutine[Any, Any, None]], object]
Bootstrap = Callable[[str], Awaitable[list[str]]]
Take = Callable[[Response | Trouble], None]


@dataclass(slots=True)
class Sent:
    """A query on its way.

    Attributes:
        question: As spelled in the query; the response must repeat it.
        take: Called with the response, once, or with trouble; possibly with an unusable
            response before that, as a valid one may follow.
        message_id: The ID it was sent with.
        home: All queries waiting on the same socket or connection, by ID.
        ignores_case: The response may repeat the question in another case.
    """

    question: bytes
    take: Take
    message_id: int
    home: "dict[int, Sent] | Home"
    ignores_case: bool = False

    def forget(self) -> None:
        """Ignore any later response."""
        if self.home.get(self.message_id) is self:
            del self.home[self.message_id]


Home = dict[int, Sent | PlainQuestion]


class PlainTaker(Protocol):
    """Takes what arrives for plain questions, which wait in a `Home` themselves."""

    def read(self, data: bytes, plain: PlainQuestion) -> PlainAnswer | None:
        """Return a response to a question if it can be passed on as it came."""

    def take(self, answers: Sequence[tuple[PlainQuestion, PlainAnswer]]) -> None:
        """Pass on answers to questions that do not wait any more."""

    def become_flight(self, question: Question) -> object:
        """Put a `Sent` in the place of a question, for whatever else happens to it."""


def plain_queries(
    questions: Sequence[PlainQuestion], home: Home, *, is_padded: bool
) -> list[bytes]:
    """Return the queries for plain questions, which wait from now on.

    Each has a random ID and a random spelling, for which the random octets are taken together.

    Args:
        questions: The questions.
        home: All queries waiting on the same port or connection.
        is_padded: They will be encrypted, and must not be known by their length.
    """
    names = b"".join([plain.name_octets for plain in questions])
    spelled = spell_names(names, random_octets(len(names)))
    ids = random_octets(2 * len(questions))
    queries, at = [], 0
    for number, plain in enumerate(questions):
        form, end = plain.form, at + len(plain.name_octets)
        message_id = int.from_bytes(ids[2 * number : 2 * number + 2])
        while message_id in home:
            message_id = int.from_bytes(random_octets(2))
        home[message_id] = plain
        plain.message_id = message_id
        plain.spelled = asked = spelled[at:end] + form.type_and_class
        opt = padded_opt(form.wants_dnssec, len(asked)) if is_padded else form.asked_opt
        queries.append(b"".join((message_id.to_bytes(2), form.asked_head, asked, opt)))
        at = end
    return queries


class PlainTransport(Protocol):
    """A way to one upstream for plain questions."""

    def send_plain(
        self, questions: Sequence[PlainQuestion]
    ) -> tuple[Home, Sequence[PlainQuestion]]:
        """Send plain questions.

        Returns:
            All queries waiting on the same port or connection, by ID, and those of the questions
            that are not among them, as they could not be sent.
        """


class Transport(Protocol):
    """A way to one upstream."""

    def send(self, question: bytes, flags: int, opt: bytes, take: Take) -> Sent | None:
        """Send a question; None if that failed, after `take` was called with the reason."""

    def renew(self, seconds: float) -> None:
        """Use a new connection for the next question, if this one was silent for some time.

        Args:
            seconds: The minimum time without any data.
        """

    def close(self) -> None:
        """Close sockets and connections, without notifying waiting queries."""


class Arrival(NamedTuple, Generic[T]):
    """A response or trouble, and its source."""

    source: T
    outcome: Response | Trouble


class Receiver(Protocol[T_contra]):
    """Receives arrivals."""

    def put(self, source: T_contra, outcome: Response | Trouble) -> None:
        """Add an arrival."""


class Inbox(Generic[T]):
    """A queue of the arrivals of one flight, with one reader."""

    __slots__ = ("_arrivals", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrivals: deque[Arrival[T]] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def put(self, source: T, outcome: Response | Trouble) -> None:
        """Add an arrival."""
        self._arrivals.append(Arrival(source, outcome))
        self._wake()

    async def get(self, until: float) -> Arrival[T] | None:
        """Wait for the next arrival; None if there is none until then, by the loop's clock."""
        if not self._arrivals:
            self._waiting = self._loop.create_future()
            timer = self._loop.call_at(until, self._wake)
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        return self._arrivals.popleft() if self._arrivals else None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

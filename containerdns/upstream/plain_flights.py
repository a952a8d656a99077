"""Plain questions on their way to an upstream and back, many at a time.

All that arrive in one pass leave in one system call, from one random port or on one connection,
each with an ID and a spelling of its own (RFC 5452); responses are read many at a time, too.  A
question costs two places in tables, but no task, no timer and no closure.

That is all that most of them need.  Any other becomes a flight, which goes on from there: the
first server has been asked for some time.
"""

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from containerdns.core.upstream import plain_answers
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.upstream.questions import Question
from containerdns.upstream.exchanges import Home
from containerdns.upstream.flights import Flight, Waiter, first_patience
from containerdns.upstream.timeouts import Timeouts
from containerdns.upstream.upstreams import Attempt, Upstream


class PlainControl(Protocol):
    """What plain questions need from the forwarder."""

    def order(self, question: Question) -> tuple[Upstream, ...]:
        """Return the servers to query, in order."""

    def new_flight(self, question: Question, waiter: Waiter, since: float) -> Flight:
        """Return a flight that is not begun, for a client counted already that waits since then."""

    def may_pass(self, plain: PlainQuestion, answer: PlainAnswer) -> bool:
        """Return whether nothing is to be dropped from an answer, or added to it."""

    def accept_plain(
        self, plain: PlainQuestion, answer: PlainAnswer, upstream: Upstream, now: float
    ) -> PlainAnswer:
        """Cache and return an answer that arrived now, as its client waits no more."""

    @property
    def timeouts(self) -> Timeouts:
        """The timeouts of all flights."""

    def time(self) -> float:
        """Return the time by the loop's clock."""


class Together:
    """Plain questions that are sent together.

    Attributes:
        questions: Those that still wait.
        upstream: The server asked.
        home: All queries waiting on the same port or connection, by ID.
        at: When they were sent, by the loop's clock.
    """

    __slots__ = ("_flights", "at", "home", "questions", "upstream")
    upstream: Upstream
    home: Home
    at: float

    def __init__(self, flights: "PlainFlights") -> None:
        self._flights = flights
        self.questions: dict[Question, PlainQuestion] = {}

    def expire(self) -> None:
        """Go on with flights, which are late at once, as the server was silent."""
        for question in list(self.questions):
            self._flights.become_flight(question)


class PlainFlights:
    """The plain questions in flight.

    Attributes:
        in_flight: What each is sent with.
    """

    def __init__(self, control: PlainControl) -> None:
        self._control = control
        self.in_flight: dict[Question, Together] = {}
        self._next: dict[str | None, Together] = {}  # by `Question.apex`, not sent yet

    def add(self, plain: PlainQuestion) -> None:
        """Add a question that is not in flight to those that `send` sends."""
        question = plain.question
        together = self._next.get(question.apex)
        if together is None:
            together = self._next[question.apex] = Together(self)
        self.in_flight[question] = together
        together.questions[question] = plain

    def send(self) -> None:
        """Send the questions that were added since the last call."""
        while self._next:
            _, together = self._next.popitem()
            if together.questions:  # else all have become flights
                self._send(together)

    def _send(self, together: Together) -> None:
        unsent: Sequence[PlainQuestion] = list(together.questions.values())
        order = self._control.order(unsent[0].question)  # the same for all, which have one list
        now = self._control.time()
        if order and order[0].takes_plain(now) and (transport := order[0].plain):
            together.upstream, together.at = order[0], now
            together.home, unsent = transport.send_plain(unsent)
            self._control.timeouts.add(now + first_patience(order[0], len(order)), together)
        for plain in unsent:
            self._leave(plain.question, now).begin()

    def read(self, data: bytes, plain: PlainQuestion) -> PlainAnswer | None:
        """Return a response to a question if it can be passed on as it came; see `PlainTaker`."""
        answer = plain_answers.read(data, plain.spelled)
        if answer is None or answer.says_more or not self._control.may_pass(plain, answer):
            return None
        return answer

    def take(self, answers: Sequence[tuple[PlainQuestion, PlainAnswer]]) -> None:
        """Pass on answers to questions that do not wait any more; see `PlainTaker`."""
        now = self._control.time()
        times: dict[tuple[Together, int], int] = {}
        for plain, answer in answers:
            together = self.in_flight.pop(plain.question)
            del together.questions[plain.question]
            key = together, answer.rcode
            times[key] = times.get(key, 0) + 1
            accepted = self._control.accept_plain(plain, answer, together.upstream, now)
            plain.asker.take_answer(plain, accepted, together.upstream.name)
        for (together, rcode), count in times.items():
            took = now - together.at
            together.upstream.heard(took, now)
            together.upstream.answered(rcode, took, count)

    def become_flight(self, question: Question) -> Flight | None:
        """Go on with a question as a flight; None if it is not in flight here."""
        together = self.in_flight.get(question)
        if together is None:
            return None
        if together is self._next.get(question.apex):  # not sent yet
            flight = self._leave(question, self._control.time())
            flight.begin()
            return flight
        plain = together.questions[question]
        flight = self._leave(question, together.at)
        attempt = Attempt(together.upstream, question, flight, together.at)
        attempt.resume(plain.spelled, plain.message_id, together.home)
        flight.resume(attempt, self._control.order(question))
        return flight

    def become_flights(self) -> None:
        """Do so with all questions, as the servers change."""
        for question in list(self.in_flight):
            self.become_flight(question)

    def _leave(self, question: Question, since: float) -> Flight:
        """Return a flight in place of a question that waits since a moment."""
        plain = self.in_flight.pop(question).questions.pop(question)
        waiter = Waiter(plain.client, partial(plain.asker.take_resolution, plain))
        return self._control.new_flight(question, waiter, since)

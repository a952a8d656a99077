"""One question on its way: from server to server, until one has an answer.

The first live server is queried; its response, or silence, decides whether the next one is
tried.  Late responses of earlier servers are accepted until the flight ends.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream.forwarding import Resolution
from containerdns.core.upstream.questions import Question
from containerdns.core.upstream.scrub import is_referral
from containerdns.core.upstream.upstream_health import SILENCES
from containerdns.upstream.exchanges import Inbox, Trouble, TroubleKind
from containerdns.upstream.timeouts import Timeouts
from containerdns.upstream.upstreams import STREAM_PATIENCE, Attempt, Upstream

MAX_REFUSALS = 4  # of the last server, when no other can still answer
REFUSED_PAUSE = 0.25  # seconds after each: so it has a second to restart
AGAIN_AFTER = 1.0  # seconds; a resolver that is itself still asking others has the question
PATIENCE = 4.7  # seconds; the client has its SERVFAIL within 5, contract section 5
MAX_SHARE = 2.1  # seconds for one that is not the last: three time-outs, unmeasured
SHARE_PARTS = (1 << SILENCES) - 1  # so that time-outs of 1, 2 and 4 parts fit into it
REST = 0.1  # of such a share; not worth another time-out, which may be 2 s over TCP
MAX_ERROR_TEXT = 160  # octets of an extended error, so that an answer has room beside it


FINAL_RCODES = (messages.NOERROR, messages.NXDOMAIN)


class UpstreamAnswer(NamedTuple):
    """A final response, and the server it came from."""

    upstream: Upstream
    response: Response


class Control(Protocol):
    """What a flight needs from the forwarder."""

    def order(self, question: Question) -> tuple[Upstream, ...]:
        """Return the servers to query, in order."""

    def go_on(self, flight: "Flight") -> None:
        """Run `Flight.fly` in a task, and land with what it returns."""

    def land(self, flight: "Flight", answer: UpstreamAnswer | None) -> None:
        """Pass the result to all waiters."""

    @property
    def timeouts(self) -> Timeouts:
        """The timeouts of all flights."""


class Waiter:
    """A client waiting for a flight.

    Attributes:
        client: The raw octets of the client's address.
        take: Called with the result, once.
        stale_at: The timer that gives it a stale response instead, if there is one.
    """

    __slots__ = ("client", "stale_at", "take")

    def __init__(self, client: bytes, take: Callable[[Resolution], None]) -> None:
        self.client = client
        self.take = take
        self.stale_at: asyncio.TimerHandle | None = None


class Flight:
    """One question in flight, for all clients waiting for it.

    The first server nearly always answers in time: until then a flight is one attempt
    and one timeout.  A task, which reads an inbox, follows if it does not.

    Attributes:
        question: The question.
        waiting: The waiting clients.
        failures: Why there is no answer yet, each with its server.
        error: The extended error of the first server that failed (RFC 8914).
    """

    __slots__ = (
        "_again_at",
        "_attempts",
        "_control",
        "_deadline",
        "_first",
        "_inbox",
        "_is_over",
        "_is_rerouted",
        "_is_single_label",
        "_loop",
        "_may_answer_late",
        "_order",
        "_refusals",
        "_sent_at",
        "_was_alive",
        "error",
        "failures",
        "question",
        "waiting",
    )

    def __init__(
        self, question: Question, control: Control, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.question = question
        self.waiting: list[Waiter] = []
        self.failures: list[str] = []
        self.error: tuple[int, str] | None = None
        self._control = control
        self._loop = loop
        self._inbox: Inbox[Upstream] | None = None  # from when there is a task
        self._is_over = False
        self._attempts: list[Attempt] = []
        self._order: tuple[Upstream, ...] = ()
        self._first: Upstream | None = None  # was asked before there is a task
        self._is_single_label = names.is_single_label(question.name)
        self._deadline = 0.0
        self._sent_at = 0.0
        self._again_at = 0.0  # when the server that is asked now is asked again
        self._was_alive = True  # as that server was asked
        self._refusals = 0
        self._may_answer_late = False  # a server was silent, and did not refuse
        self._is_rerouted = False

    def begin(self) -> None:
        """Query the first server."""
        now = self._loop.time()
        self._deadline = now + PATIENCE
        self._order = order = self._control.order(self.question)
        if not order:
            self._loop.call_soon(self._control.land, self, None)
            return
        self._first = upstream = order[0]
        self._control.timeouts.add(now + first_patience(upstream, len(order)), self)
        self._send(upstream)

    def resume(self, attempt: Attempt, order: Sequence[Upstream]) -> None:
        """Go on with a question that was sent already, to the first server.

        Args:
            attempt: How it was sent.
            order: The servers to query, in order.
        """
        self._first = upstream = attempt.upstream
        self._order = (upstream, *(other for other in order if other is not upstream))
        self._sent_at = attempt.at
        self._deadline = attempt.at + PATIENCE
        self._again_at = attempt.at + AGAIN_AFTER
        self._attempts.append(attempt)
        patience = first_patience(upstream, len(self._order))
        self._control.timeouts.add(attempt.at + patience, self)

    def put(self, source: Upstream, outcome: Response | Trouble) -> None:
        """Process the result of an attempt."""
        if self._inbox is None:
            if isinstance(outcome, Response) and self._is_final(source, outcome):
                self._control.land(self, UpstreamAnswer(source, outcome))
                return
            self._go_on()
        assert self._inbox is not None
        self._inbox.put(source, outcome)

    def expire(self) -> None:
        """Begin the task, if the first server was silent until now."""
        if self._inbox is None and not self._is_over:
            self._go_on()

    def _go_on(self) -> None:
        """Begin the task, as the first server did not simply answer."""
        self._inbox = Inbox(self._loop)
        self._control.go_on(self)

    async def fly(self) -> UpstreamAnswer | None:
        """Continue with the first server, then query the others in order.

        Returns:
            None if they all failed or were silent.
        """
        answer = await self._ask_in_order()
        while answer is None and self._is_rerouted:
            self._is_rerouted = False
            self._order = self._control.order(self.question)
            answer = await self._ask_in_order()
        return answer

    def end(self) -> None:
        """Accept no further answer."""
        self._is_over = True
        for attempt in self._attempts:
            attempt.forget()

    def leave(self, gone: Sequence[Upstream]) -> None:
        """Start again with the current servers, if some of this flight's were removed."""
        left = [upstream for upstream in gone if upstream in self._order]
        if not left:
            return
        for attempt in self._attempts:
            if attempt.upstream in left:
                attempt.forget()
        self._attempts = [a for a in self._attempts if a.upstream not in left]
        self.put(left[0], Trouble(TroubleKind.REPLACED))

    def _share(self, servers: int, now: float) -> float:
        """Return the seconds for one server, given how many are left, including it."""
        return _share_of(self._deadline - now, servers)

    async def _ask_in_order(self) -> UpstreamAnswer | None:
        order = self._order
        for number, upstream in enumerate(order):
            left = len(order) - number
            if upstream is self._first:
                self._first = None
            else:
                self._send(upstream)
            share = self._share(left, self._sent_at)
            answer = await self._ask(upstream, self._sent_at + share, is_last=left == 1)
            if answer is not None or self._is_rerouted:
                return answer
        return None

    async def _ask(
        self, upstream: Upstream, until: float, *, is_last: bool
    ) -> UpstreamAnswer | None:
        """Wait for a server that was asked until it answers, fails, or is silent too often.

        After a timeout nothing is sent again: a name that is not in the server's cache takes
        longer than its round trips suggest.  Only a possibly lost query is repeated.

        The last server gets all the remaining time, if it was alive: it may itself be waiting
        for a slow server.  If its port is closed and all others have failed, waiting longer
        than a restart takes is pointless.

        Returns:
            An answer, which may be a late one of an earlier server.
        """
        now = self._sent_at
        share = until - now
        asks_until = until if is_last else until - share * REST
        has_time = is_last and self._was_alive
        number = 0
        while (has_time or number < SILENCES) and now < asks_until:
            refusals = self._refusals
            listens_until = min(now + _patience(upstream, share, number), until)
            answer, is_silent = await self._listen(upstream, listens_until, is_last)
            if not is_silent:
                return answer
            number += 1
            if self._refusals == MAX_REFUSALS:
                return None
            if self._refusals == refusals:
                self._may_answer_late = True
                self.failures.append(f"{upstream.name}: no answer")
                upstream.was_silent("no answer in time", self._loop.time() - now)
            now = self._loop.time()
        return None

    def _send(self, upstream: Upstream) -> None:
        self._sent_at = self._loop.time()
        self._again_at = self._sent_at + AGAIN_AFTER
        self._was_alive = upstream.is_alive
        if self._is_single_label:
            upstream.look_for_labels_back()
        self._attempts.append(upstream.send(self.question, self))

    async def _listen(
        self, upstream: Upstream, until: float, is_last: bool
    ) -> tuple[UpstreamAnswer | None, bool]:
        """Wait for the response; return the answer, if any, and whether it timed out."""
        assert self._inbox is not None
        longest = min(until + STREAM_PATIENCE, self._deadline)
        while True:
            wakes_at = min(until, self._again_at)
            arrival = await self._inbox.get(wakes_at)
            if arrival is None:
                if wakes_at == until:
                    return None, True
                upstream.streams.renew(self._loop.time() - self._sent_at)
                self._send(upstream)
                continue
            source, outcome = arrival
            if isinstance(outcome, Trouble) and outcome.kind is TroubleKind.MOVED:
                until = min(self._loop.time() + STREAM_PATIENCE, longest)
                if source is upstream:
                    self._sent_at, self._again_at = self._loop.time(), until
            elif isinstance(outcome, Trouble) and outcome.kind is TroubleKind.REPLACED:
                self._is_rerouted = True
                return None, False
            elif isinstance(outcome, Response) and self._is_final(source, outcome):
                return UpstreamAnswer(source, outcome), False
            else:
                self._note(source, outcome)
                is_over = isinstance(outcome, Response) or outcome.kind is TroubleKind.UNTRUSTED
                if source is upstream and (is_over or not is_last):
                    return None, False
                if source is upstream and not self._may_answer_late:
                    self._refusals += 1
                    until = min(until, self._loop.time() + REFUSED_PAUSE)
                    self._again_at = until  # it does not have what it refused

    def _is_final(self, source: Upstream, response: Response) -> bool:
        """Return whether a response answers, rather than passing the question on.

        A server that has an answer, but one too long for UDP, and cannot be reached over
        TCP, must not be contradicted: the other server may not know what that one serves.
        """
        if response.rcode not in FINAL_RCODES or is_referral(response):
            return False
        if not any(a.has_long_answer and a.upstream is not source for a in self._attempts):
            return True
        qtype = self.question.qtype
        is_positive = any(r.rtype == qtype for r in response.answer) or qtype == messages.ANY
        return is_positive and not response.rcode

    def _note(self, source: Upstream, outcome: Response | Trouble) -> None:
        """Record why a server has no answer."""
        if isinstance(outcome, Trouble):
            self.failures.append(f"{source.name}: {outcome}")
            if outcome.kind is TroubleKind.USELESS:
                source.health.last_failure = str(outcome)
            elif outcome.kind not in (
                TroubleKind.EXHAUSTED,
                TroubleKind.UNTRUSTED,
            ):  # the first is not the server's fault
                source.was_silent(str(outcome), self._loop.time() - self._sent_at)
            return
        text = "a referral" if is_referral(outcome) else messages.rcode_text(outcome.rcode)
        if outcome.rcode in FINAL_RCODES and not is_referral(outcome):
            text += ", which another server contradicts by a truncated answer"
        source.health.last_failure = text
        self.failures.append(f"{source.name}: {text}")
        self.error = self.error or error_of(outcome)


def first_patience(upstream: Upstream, servers: int) -> float:
    """Return the seconds until the first of some servers counts as silent for the first time."""
    return _patience(upstream, _share_of(PATIENCE, servers), 0)


def _share_of(seconds: float, servers: int) -> float:
    return seconds if servers == 1 else min(seconds / servers, MAX_SHARE)


def _patience(upstream: Upstream, share: float, number: int) -> float:
    """Return the seconds until a server counts as silent, for the first time or again.

    Args:
        upstream: The server.
        share: The seconds that it has in total.
        number: How often it was silent.
    """
    return min(upstream.timeout(number), share * (1 << number) / SHARE_PARTS)


def error_of(response: Response) -> tuple[int, str] | None:
    """Return the extended error of a response (RFC 8914 section 2)."""
    data = response.edns.option(messages.EDE_OPTION) if response.edns else None
    if data is None or len(data) < 2:
        return None
    return int.from_bytes(data[:2]), data[2 : 2 + MAX_ERROR_TEXT].decode(errors="replace")

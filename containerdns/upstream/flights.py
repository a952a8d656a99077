"""One question on its way: from server to server, until one has an answer.

Strictly the first that is alive is asked; what it says, or its silence, decides
whether the next one is.  Whoever was asked may still answer until the flight ends.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream.forwarding import Resolution
from containerdns.core.upstream.questions import Question
from containerdns.core.upstream.scrub import is_referral
from containerdns.core.upstream.upstream_health import SILENCES
from containerdns.upstream.exchanges import Inbox, Trouble, TroubleKind
from containerdns.upstream.upstreams import STREAM_PATIENCE, Attempt, Upstream

REFUSALS = 4  # of the last server, when nobody else can answer any more
REFUSED_PAUSE = 0.25  # seconds after each: so it has a second to restart
AGAIN_AFTER = 1.0  # seconds; a resolver that is itself still asking others has the question
PATIENCE = 4.7  # seconds; the client has its SERVFAIL within 5, contract section 5
MAX_SHARE = 2.1  # seconds for one that is not the last: three time-outs, unmeasured
SHARE_PARTS = (1 << SILENCES) - 1  # so that time-outs of 1, 2 and 4 parts fit into it
REST = 0.1  # of such a share; not worth another time-out, which may be 2 s over TCP
MAX_ERROR_TEXT = 160  # octets of an extended error, so that an answer has room beside it


FINAL_RCODES = (messages.NOERROR, messages.NXDOMAIN)


class UpstreamAnswer(NamedTuple):
    """A response that is final, and whose it is."""

    upstream: Upstream
    response: Response


class Flight:
    """One question in flight, for all who wait for it.

    Attributes:
        done: What came of it; cancelled if whoever flew it went away.
        failures: Why there is no answer yet, in words, each with its server.
        error: What the first server that failed said about it (RFC 8914).
    """

    def __init__(self, question: Question, loop: asyncio.AbstractEventLoop) -> None:
        self.done: asyncio.Future[Resolution] = loop.create_future()
        self.failures: list[str] = []
        self.error: tuple[int, str] | None = None
        self._question = question
        self._loop = loop
        self._inbox: Inbox[Upstream] = Inbox(loop)
        self._attempts: list[Attempt] = []
        self._order: tuple[Upstream, ...] = ()
        self._is_single_label = names.is_single_label(question.name)
        self._deadline = 0.0
        self._sent_at = 0.0
        self._again_at = 0.0  # when the server that is asked now is asked again
        self._refusals = 0
        self._may_answer_late = False  # somebody was silent, as opposed to who refused
        self._is_rerouted = False

    async def fly(self, order: Callable[[], tuple[Upstream, ...]]) -> UpstreamAnswer | None:
        """Ask one server after the other; None if they all failed or were silent.

        Args:
            order: Returns the servers to ask; called again if one of them was replaced.
        """
        self._deadline = self._loop.time() + PATIENCE
        answer = None
        self._is_rerouted = True
        while answer is None and self._is_rerouted:
            self._is_rerouted = False
            answer = await self._ask_in_order(order())
        return answer

    def leave(self, gone: Sequence[Upstream]) -> None:
        """Begin again with the servers to ask now, if this was to ask some that are gone."""
        left = [upstream for upstream in gone if upstream in self._order]
        if not left:
            return
        for attempt in self._attempts:
            if attempt.upstream in left:
                attempt.forget()
        self._attempts = [a for a in self._attempts if a.upstream not in left]
        self._inbox.put(left[0], Trouble(TroubleKind.REPLACED))

    async def _ask_in_order(self, order: tuple[Upstream, ...]) -> UpstreamAnswer | None:
        self._order = order
        deadline = self._deadline
        for number, upstream in enumerate(order):
            left = len(order) - number
            now = self._loop.time()
            share = deadline - now if left == 1 else min((deadline - now) / left, MAX_SHARE)
            answer = await self._ask(upstream, now + share, is_last=left == 1)
            if answer is not None or self._is_rerouted:
                return answer
        return None

    def end(self) -> None:
        """Take no answer any more."""
        self.done.cancel()
        for attempt in self._attempts:
            attempt.forget()

    async def _ask(
        self, upstream: Upstream, until: float, *, is_last: bool
    ) -> UpstreamAnswer | None:
        """Ask one server until it answers, fails, or is silent too often.

        A time-out asks nothing again: a name that is not in the server's cache takes it
        longer than its round trips tell.  Only what may be lost is asked again.

        The last one is asked all the time that is left, if it was alive: it may itself be
        waiting for a slow server.  If nobody listens there, and all others have said or
        refused something, to wait longer than a restart takes is in vain.

        Returns:
            An answer, which may be a late one of an earlier server.
        """
        self._send(upstream)
        share = until - self._sent_at
        asks_until = until if is_last else until - share * REST
        has_time = is_last and upstream.is_alive
        number = 0
        while (has_time or number < SILENCES) and (now := self._loop.time()) < asks_until:
            refusals = self._refusals
            patience = min(upstream.timeout(number), share * (1 << number) / SHARE_PARTS)
            answer, is_silent = await self._listen(upstream, min(now + patience, until), is_last)
            if not is_silent:
                return answer
            number += 1
            if self._refusals == REFUSALS:
                return None
            if self._refusals > refusals:
                continue
            self._may_answer_late = True
            self.failures.append(f"{upstream.name}: no answer")
            upstream.was_silent("no answer in time", self._loop.time() - now)
        return None

    def _send(self, upstream: Upstream) -> None:
        self._sent_at = self._loop.time()
        self._again_at = self._sent_at + AGAIN_AFTER
        if self._is_single_label:
            upstream.look_for_labels_back()
        self._attempts.append(upstream.send(self._question, self._inbox))

    async def _listen(
        self, upstream: Upstream, until: float, is_last: bool
    ) -> tuple[UpstreamAnswer | None, bool]:
        """Wait for what comes of it; give the answer if any, and whether it was silent."""
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
                    self._again_at = until  # what it refused, it has not got

    def _is_final(self, source: Upstream, response: Response) -> bool:
        """Return whether a response answers, rather than passing the question on.

        A server that has an answer, but one too long for UDP, and cannot be reached over
        TCP, must not be contradicted: the other server may not know what that one serves.
        """
        if response.rcode not in FINAL_RCODES or is_referral(response):
            return False
        if not any(a.has_long_answer and a.upstream is not source for a in self._attempts):
            return True
        qtype = self._question.qtype
        is_positive = any(r.rtype == qtype for r in response.answer) or qtype == messages.ANY
        return is_positive and not response.rcode

    def _note(self, source: Upstream, outcome: Response | Trouble) -> None:
        """Note why a server has no answer."""
        if isinstance(outcome, Trouble):
            self.failures.append(f"{source.name}: {outcome}")
            if outcome.kind is TroubleKind.USELESS:
                source.health.last_failure = str(outcome)
            elif outcome.kind not in (
                TroubleKind.EXHAUSTED,
                TroubleKind.UNTRUSTED,
            ):  # the first is our fault
                source.was_silent(str(outcome), self._loop.time() - self._sent_at)
            return
        text = "a referral" if is_referral(outcome) else messages.rcode_text(outcome.rcode)
        if outcome.rcode in FINAL_RCODES and not is_referral(outcome):
            text += ", which another server contradicts by a truncated answer"
        source.health.last_failure = text
        self.failures.append(f"{source.name}: {text}")
        self.error = self.error or error_of(outcome)


def error_of(response: Response) -> tuple[int, str] | None:
    """The extended error of a response (RFC 8914 section 2)."""
    data = response.edns.option(messages.EDE_OPTION) if response.edns else None
    if data is None or len(data) < 2:
        return None
    return int.from_bytes(data[:2]), data[2 : 2 + MAX_ERROR_TEXT].decode(errors="replace")

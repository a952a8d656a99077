"""One upstream: its transports, its health, and the features it supports."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.endpoints import UpstreamServer
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream.questions import Question, padded_opt, spell
from containerdns.core.upstream.upstream_health import NEVER, Health
from containerdns.upstream.datagrams import OpenPorts, UpstreamDatagrams
from containerdns.upstream.exchanges import (
    Bootstrap,
    Home,
    PlainTaker,
    PlainTransport,
    Receiver,
    Sent,
    Spawn,
    Transport,
    Trouble,
    TroubleKind,
    random_octets,
)
from containerdns.upstream.streams import UpstreamStreams

STREAM_PATIENCE = 2.0  # seconds for a connection and a question on it
MAX_QUIRK = 3600.0  # seconds until case and EDNS are tried again
LABELS_EVERY = 10.0  # seconds between two checks whether single labels come back
LABELS_BACK_FOR = 60.0  # seconds until such a server is used for them again
NO_RESPONSE = -1  # in the counters, instead of an rcode

ANYTHING = Question(names.ROOT, messages.NS, False, False, None)

_CONFUSED = (messages.FORMERR, messages.NOTIMP)  # by EDNS perhaps, RFC 6891 section 6.2.2
_OPT = {wants: messages.opt_record(wants) for wants in (False, True)}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Dependencies shared by all upstreams of a forwarder.

    Attributes:
        loop: The running one.
        counters: Queries and responses are counted here.
        spawn: Starts a task that the forwarder owns.
        bootstrap: Resolves a host without asking this server.
        probe: Returns a question that only we can answer, for a server that may be ourselves.
        label_probe: The same for a single label.
        sends_labels_back: Called with an upstream that sends single labels back here.
        is_loop: Returns whether a response is our own answer to that.
        open_ports: The UDP ports of all upstreams.
        plain: Takes the answers to plain questions.
    """

    loop: asyncio.AbstractEventLoop
    counters: Counters
    spawn: Spawn
    bootstrap: Bootstrap
    probe: Callable[[], Question]
    label_probe: Callable[[], Question]
    sends_labels_back: Callable[["Upstream"], None]
    is_loop: Callable[[Response], bool]
    open_ports: OpenPorts
    plain: PlainTaker


class Upstream:
    """One server, shared by all lists that contain it."""

    def __init__(self, server: UpstreamServer, surroundings: Surroundings) -> None:
        self.server = server
        self.name = str(server)
        self.reason = f"answered by {self.name}"  # of each response, for `explain`
        self.health = Health()
        self.is_ourselves = False
        self._labels_back_until = 0.0
        self._labels_looked_at = NEVER
        self.loop = loop = surroundings.loop
        self.folds_case_until = 0.0
        self.lacks_edns_until = 0.0
        self.datagrams: UpstreamDatagrams | None = None
        self.streams: Transport
        self.plain: PlainTransport | None = None
        self._surroundings = surroundings
        self.is_closed = False
        self._trial: asyncio.TimerHandle | None = None
        self._word: Attempt | None = None
        self._on_trial: Attempt | None = None
        address = (server.host, server.port)
        if server.transport == "https":
            from containerdns.upstream.https import Https  # noqa: PLC0415 - 20 ms, 5 MB

            self.streams = Https(server.url, loop, surroundings.spawn, surroundings.bootstrap)
        else:
            self.streams = self.plain = UpstreamStreams(
                address, loop, surroundings.spawn, surroundings.plain, server.server_name
            )
        if server.transport == "udp":
            self.datagrams = self.plain = UpstreamDatagrams(
                address, surroundings.open_ports, surroundings.plain
            )

    @property
    def is_alive(self) -> bool:
        """Whether it is in use."""
        return not self.health.is_aside and not self.is_ourselves

    @property
    def is_encrypted(self) -> bool:
        """Whether queries to it are encrypted."""
        return self.server.transport != "udp"

    def takes_plain(self, now: float) -> bool:
        """Return whether plain questions can be sent to it without further thought."""
        return (
            self.plain is not None
            and self.is_alive
            and now >= self.folds_case_until
            and now >= self.lacks_edns_until
        )

    @property
    def sends_labels_back(self) -> bool:
        """Whether it forwards single labels to us, so that we must not forward them to it."""
        return self.loop.time() < self._labels_back_until

    def look_for_labels_back(self) -> None:
        """Check whether a question for a single label would come back, at most so often."""
        now = self.loop.time()
        if now < self._labels_looked_at + LABELS_EVERY:
            return
        self._labels_looked_at = now
        trial = _Trial(self._surroundings.is_loop, self.found_labels_back)
        self.send(self._surroundings.label_probe(), trial)

    def found_labels_back(self) -> None:
        """Do not use it for single labels for a while."""
        if not self._labels_back_until:
            log.warning(
                "upstream %s forwards single labels back to this server; not using it for them",
                self.name,
            )
        self._labels_back_until = self.loop.time() + LABELS_BACK_FOR
        self._surroundings.sends_labels_back(self)

    def timeout(self, attempt: int) -> float:
        """Return the seconds to wait; longer if a connection may have to be established."""
        if self.datagrams is not None:
            return self.health.timeout(attempt)
        return max(self.health.timeout(attempt), Health().timeout(attempt))

    def send(self, question: Question, receiver: "Receiver[Upstream]") -> "Attempt":
        """Send a question once; the receiver gets the result."""
        attempt = Attempt(self, question, receiver, self.loop.time())
        attempt.send(self.datagrams or self.streams)
        return attempt

    def was_silent(self, reason: str, waited: float) -> None:
        """Record a timeout, and mark the server down after too many.

        Args:
            reason: In words.
            waited: Seconds without a response, up to now.
        """
        if self.is_closed:
            return
        now = self.loop.time()
        was_aside, silences = self.health.is_aside, self.health.silences
        if self.health.was_silent(reason, now - waited, now):
            if not was_aside:
                log.warning("upstream %s is marked down: %s", self.name, reason)
            self.streams.renew(0.0)
            self._try_later()
        elif self.health.silences > silences and not was_aside:
            self._ask_for_a_word(messages.RD if silences else 0)

    def distrust(self, reason: str) -> None:
        """Mark the server down because of its certificate."""
        if self.is_closed:
            return
        if self.health.distrust(reason, self.loop.time()):
            log.warning("upstream %s is marked down: %s", self.name, reason)
        self._try_later()

    def leave_for_good(self) -> None:
        """Never use it again, as it is this server itself."""
        if not self.is_ourselves:
            log.error("upstream %s is this server itself; no longer using it", self.name)
        self.is_ourselves = True
        self.health.last_failure = "it leads back to us"

    def close(self) -> None:
        """Close its sockets and connections."""
        self.is_closed = True
        if self._trial is not None:
            self._trial.cancel()
        self._forget_trial()
        self._forget_word()
        if self.datagrams is not None:
            self.datagrams.close()
        self.streams.close()

    def heard(self, round_trip: float, now: float) -> None:
        """Record a response."""
        if self.health.heard(round_trip, now):
            log.info("upstream %s answers again", self.name)

    def answered(self, rcode: int, took: float, times: int = 1) -> None:
        """Count queries that it answered."""
        self._surroundings.counters.upstream_answered(self.name, rcode, times)
        self._surroundings.counters.upstream_took(self.name, took, times)

    def not_answered(self) -> None:
        """Count a query that it did not answer."""
        self._surroundings.counters.upstream_answered(self.name, NO_RESPONSE)

    def _ask_for_a_word(self, flags: int) -> None:
        """Send a query that any live server answers at once, as a slow name proves nothing.

        Any response counts before there are too many silences.

        Args:
            flags: RD or 0: some servers ignore queries without RD, others, which cannot reach
                the root, answer only those.
        """
        self._forget_word()
        self._word = Attempt(self, ANYTHING, _Nobody(), self.loop.time())
        self._word.send(self.datagrams or self.streams, flags)

    def _forget_word(self) -> None:
        if self._word is not None:
            self._word.forget()

    def _try_later(self) -> None:
        """Send a probe at the end of its pause."""
        if self._trial is not None:
            self._trial.cancel()
        self._trial = self.loop.call_at(self.health.aside_until, self._try)

    def _try(self) -> None:
        if not self.health.is_aside:
            return
        self._forget_trial()
        self._ask_for_a_word(0)
        trial = _Trial(self._surroundings.is_loop, self.leave_for_good)
        self._on_trial = self.send(self._surroundings.probe(), trial)
        patience = self.health.timeout(0) if self.datagrams is not None else STREAM_PATIENCE
        self._trial = self.loop.call_later(patience, self._end_trial, patience)

    def _end_trial(self, waited: float) -> None:
        """Extend its time down; a later response before the next trial still counts."""
        if self.health.is_aside:
            self.was_silent("silent when tried again", waited)

    def _forget_trial(self) -> None:
        if self._on_trial is not None:
            self._on_trial.forget()


@dataclass(slots=True)
class Attempt:
    """One question sent to one upstream: over UDP, then over TCP if necessary.

    Attributes:
        upstream: The server.
        question: The question.
        receiver: Gets the result.
        at: When it was sent, by the loop's clock.
        has_long_answer: The server has an answer, which was truncated over UDP.
    """

    upstream: Upstream
    question: Question
    receiver: "Receiver[Upstream]"
    at: float
    _sent: Sent | None = None
    _spelled: bytes = b""
    _had_edns: bool = False
    _is_datagram: bool = False
    _doubts_case: bool = False
    _doubts_edns: bool = False
    _was_resent: bool = False
    _is_open: bool = True
    has_long_answer: bool = False

    def send(self, transport: Transport, flags: int | None = None) -> None:
        """Send the question over one of the upstream's transports.

        Args:
            transport: The transport.
            flags: Header flags instead of the question's own.
        """
        upstream, question = self.upstream, self.question
        if upstream.is_closed:
            self._is_open = False
            self.receiver.put(upstream, Trouble(TroubleKind.UNREACHABLE, "not configured any more"))
            return
        if upstream.health.is_distrusted and self.at < upstream.health.aside_until:
            self._is_open = False
            self.receiver.put(
                upstream, Trouble(TroubleKind.UNTRUSTED, upstream.health.last_failure)
            )
            return
        wire = question.wire
        keeps_case = self.at >= upstream.folds_case_until
        if keeps_case:
            wire = spell(wire, random_octets(len(wire)))
        self._spelled = wire
        has_edns = not self._doubts_edns and self.at >= upstream.lacks_edns_until
        self._had_edns = has_edns
        opt = _OPT[question.wants_dnssec] if has_edns else b""
        if has_edns and upstream.is_encrypted:
            opt = padded_opt(question.wants_dnssec, len(wire))
        self._is_datagram = transport is upstream.datagrams
        flags = question.flags if flags is None else flags
        self._sent = transport.send(wire, flags, opt, self._take)
        if self._sent is not None:
            self._sent.ignores_case = not keeps_case

    def resume(self, spelled: bytes, message_id: int, home: Home) -> None:
        """Go on with a question that was sent as a plain one, with EDNS.

        Args:
            spelled: The question as sent.
            message_id: The ID.
            home: All queries waiting on the same port or connection.
        """
        self._spelled = spelled
        self._had_edns = True
        self._is_datagram = self.upstream.datagrams is not None
        self._sent = home[message_id] = Sent(spelled, self._take, message_id, home)

    def forget(self) -> None:
        """Ignore any later response."""
        if self._sent is not None:
            self._sent.forget()
        self._close()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.upstream.not_answered()

    def _take(self, outcome: Response | Trouble) -> None:
        if isinstance(outcome, Response):
            self._take_response(outcome)
        elif outcome.kind in (TroubleKind.FOLDED, TroubleKind.FLOODED):
            self._doubts_case = outcome.kind is TroubleKind.FOLDED
            self._move(self.upstream.streams)
        elif self._doubts_case and self.upstream.datagrams is not None:  # no TCP to settle it
            self.upstream.folds_case_until = self.at + MAX_QUIRK
            self._doubts_case = False
            self._move(self.upstream.datagrams)
        elif outcome.kind is TroubleKind.CLOSED:  # RFC 7766 section 6.2.4: ask the others again
            self._move(self.upstream.streams)
        elif outcome.kind is TroubleKind.BROKEN and not self._was_resent:  # closed as we sent
            self._was_resent = True
            self._move(self.upstream.streams)
        elif outcome.kind is TroubleKind.USELESS:  # over UDP, a good one may follow
            now = self.upstream.loop.time()
            self.upstream.heard(now - self.at, now)
            self.receiver.put(self.upstream, outcome)
        else:
            if outcome.kind is TroubleKind.UNTRUSTED:
                self.upstream.distrust(outcome.text)
            self._is_open &= outcome.kind is not TroubleKind.EXHAUSTED  # else it was never sent
            self._close()
            self.receiver.put(self.upstream, outcome)

    def _take_response(self, response: Response) -> None:
        upstream = self.upstream
        now = upstream.loop.time()
        upstream.heard(now - self.at, now)
        if response.flags & messages.TC and self._is_datagram:
            self.has_long_answer = response.rcode == messages.NOERROR
            self._move(upstream.streams)
        elif self._had_edns and response.edns is None and response.rcode in _CONFUSED:
            self._doubts_edns = True
            self._move(upstream.datagrams or upstream.streams)
        else:
            if self._doubts_edns and response.rcode not in _CONFUSED:
                upstream.lacks_edns_until = now + MAX_QUIRK
            if self._doubts_case and response.question != self._spelled:
                upstream.folds_case_until = now + MAX_QUIRK
            self._is_open = False
            upstream.answered(response.rcode, now - self.at)
            self.receiver.put(upstream, response)

    def _move(self, transport: Transport) -> None:
        """Send the question again over another transport, with a new timeout."""
        self.receiver.put(self.upstream, Trouble(TroubleKind.MOVED))
        self.at = self.upstream.loop.time()
        self.send(transport)


@dataclass(slots=True)
class _Trial:
    """Receives the response to a question that only we can answer.

    Attributes:
        is_loop: Returns whether a response is our own answer.
        found_loop: Called if it is.
    """

    is_loop: Callable[[Response], bool]
    found_loop: Callable[[], None]

    def put(self, source: Upstream, outcome: Response | Trouble) -> None:
        """Check who answered; any other response shows only that the server is alive."""
        if isinstance(outcome, Response) and self.is_loop(outcome):
            self.found_loop()


class _Nobody:
    """Discards a response, where any shows that the server is alive."""

    def put(self, source: Upstream, outcome: Response | Trouble) -> None:
        """Do nothing: the response was recorded already."""

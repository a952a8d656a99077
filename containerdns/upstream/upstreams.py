"""One upstream: its transports, its health, and what it turned out to cope with."""

import asyncio
import logging
import os
from dataclasses import dataclass

from containerdns.core import messages
from containerdns.core.counters import Counters
from containerdns.core.health import Health
from containerdns.core.messages import Response
from containerdns.core.questions import Question, spell
from containerdns.settings import UpstreamServer
from containerdns.upstream.datagrams import Datagrams
from containerdns.upstream.exchanges import Inbox, Sent, Transport, Trouble
from containerdns.upstream.streams import Spawn, Streams

QUIRK_LONGEST = 3600.0  # seconds until case and EDNS are tried again
NO_RESPONSE = -1  # in the counters, in the place of an rcode

_OPT = {wants: messages.opt_record(wants) for wants in (False, True)}
_PROBE = Question(".", messages.NS, False, False, None)  # any server says something to it

log = logging.getLogger(__name__)


class Upstream:
    """One server, asked by any number of lists that name it."""

    def __init__(
        self,
        server: UpstreamServer,
        counters: Counters,
        loop: asyncio.AbstractEventLoop,
        spawn: Spawn,
    ) -> None:
        self.server = server
        self.name = str(server)
        self.health = Health()
        self.is_ourselves = False
        self._counters = counters
        self._loop = loop
        self._folds_case_until = 0.0
        self._lacks_edns_until = 0.0
        self._trial: asyncio.TimerHandle | None = None
        address = (server.host, server.port)
        self._datagrams: Datagrams | None = None
        self._streams: Transport
        if server.transport == "udp":
            self._datagrams = Datagrams(address, loop)
        self._streams = Streams(address, loop, spawn, server.server_name)

    @property
    def is_alive(self) -> bool:
        """Whether it is asked in its turn."""
        return not self.health.is_aside and not self.is_ourselves

    def send(self, question: Question, inbox: "Inbox[Upstream]") -> "Attempt":
        """Send a question once; what comes of it goes to the inbox."""
        attempt = Attempt(self, question, inbox, self._loop.time())
        attempt.send(self._datagrams or self._streams)
        return attempt

    def was_silent(self, reason: str) -> None:
        """Note a time-out, and set the server aside if it is one too many."""
        self._counters.upstream_requests[self.name, NO_RESPONSE] += 1
        was_aside = self.health.is_aside
        if self.health.was_silent(reason, self._loop.time()):
            if not was_aside:
                log.warning("upstream %s is set aside: %s", self.name, reason)
            self._try_later()

    def close(self) -> None:
        """Close its sockets and connections."""
        if self._trial is not None:
            self._trial.cancel()
        if self._datagrams is not None:
            self._datagrams.close()
        self._streams.close()

    def answered(self, response: Response, took: float) -> None:
        """Note that it said something."""
        self._counters.upstream_requests[self.name, response.rcode] += 1
        self._counters.upstream_took(self.name, took)
        if self.health.answered(took):
            log.info("upstream %s answers again", self.name)

    def _try_later(self) -> None:
        """Ask it something of our own at the end of its pause."""
        if self._trial is not None:
            self._trial.cancel()
        self._trial = self._loop.call_at(self.health.aside_until, self._try)

    def _try(self) -> None:
        if not self.health.is_aside:
            return
        inbox: Inbox[Upstream] = Inbox(self._loop)
        attempt = self.send(_PROBE, inbox)
        self._trial = self._loop.call_later(self.health.timeout(0), self._end_trial, attempt)

    def _end_trial(self, attempt: "Attempt") -> None:
        attempt.forget()
        if self.health.is_aside:
            self.was_silent("silent when tried again")


@dataclass(slots=True)
class Attempt:
    """One sending of a question to one upstream, by UDP and then perhaps TCP.

    Attributes:
        upstream: Who is asked.
        question: What is asked.
        inbox: Where what comes of it goes.
        at: When it was sent, by the loop's clock.
    """

    upstream: Upstream
    question: Question
    inbox: Inbox[Upstream]
    at: float
    _sent: Sent | None = None
    _spelled: bytes = b""
    _doubts_case: bool = False
    _is_stream: bool = False
    _had_edns: bool = False

    def send(self, transport: Transport) -> None:
        """Send the question over one of the upstream's transports."""
        upstream, question = self.upstream, self.question
        wire = question.wire
        if self.at >= upstream._folds_case_until:
            wire = spell(wire, os.urandom(len(wire)))
        self._spelled = wire
        self._had_edns = self.at >= upstream._lacks_edns_until
        opt = _OPT[question.wants_dnssec] if self._had_edns else b""
        self._is_stream = transport is upstream._streams
        self._sent = transport.send(wire, question.flags, opt, self._take)

    def forget(self) -> None:
        """Take no response any more."""
        if self._sent is not None:
            self._sent.forget()

    def _take(self, outcome: Response | Trouble) -> None:
        if isinstance(outcome, Response):
            self._take_response(outcome)
        elif outcome in (Trouble.FOLDED, Trouble.FLOODED):
            self._doubts_case = outcome is Trouble.FOLDED
            self._move()
        elif self._doubts_case:  # no TCP there to settle it
            self.upstream._folds_case_until = self.at + QUIRK_LONGEST
            self._doubts_case = False
            self._move()
        else:
            self.inbox.put(self.upstream, outcome)

    def _take_response(self, response: Response) -> None:
        upstream = self.upstream
        now = upstream._loop.time()
        if response.flags & messages.TC and not self._is_stream:
            self._move()
        elif not response.question and response.rcode == messages.NOERROR:
            self.inbox.put(upstream, Trouble.BROKEN)
        elif response.rcode in (messages.FORMERR, messages.NOTIMP) and self._had_edns:
            upstream._lacks_edns_until = now + QUIRK_LONGEST  # RFC 6891 section 6.2.2
            self._move()
        else:
            if self._doubts_case and response.question != self._spelled:
                upstream._folds_case_until = now + QUIRK_LONGEST
            upstream.answered(response, now - self.at)
            self.inbox.put(upstream, response)

    def _move(self) -> None:
        """Ask again, over TCP if that can settle a doubt."""
        self.inbox.put(self.upstream, Trouble.MOVED)
        upstream = self.upstream
        over_udp = self._is_stream and upstream._datagrams is not None
        self.send(upstream._datagrams if over_udp and upstream._datagrams else upstream._streams)

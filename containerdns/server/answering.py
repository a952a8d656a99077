"""The slow path: from a message to its response, over any transport.

A question that is not ours goes to the forwarder: directly if it is cached, else its client
waits here until the forwarder calls back.  Internal errors are caught here: SERVFAIL for that
client, a traceback in the log, and a count.
"""

import logging
import struct
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, Protocol, TypeVar

from containerdns.core.counters import Counters
from containerdns.core.protocol import messages, query_history, tsig
from containerdns.core.protocol.cookies import CLIENT_OCTETS, SERVER_OCTETS
from containerdns.core.protocol.messages import Query
from containerdns.core.protocol.packet_cache import Entry
from containerdns.core.protocol.query_history import History, Outcome, QueryStamp
from containerdns.core.protocol.query_variants import Variant
from containerdns.core.protocol.respond import Peer, Reply, Responder, Transfer
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.errors import BadMessage

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_WAITING: Final = 5000  # questions in the forwarder; more are REFUSED
KEPT_IF_CUT: Final = messages.AA | messages.RA | messages.AD | messages.CD | messages.RCODE
COOKIE_HEAD: Final = struct.pack(
    "!HH", messages.COOKIE_OPTION, CLIENT_OCTETS + SERVER_OCTETS
)  # octets of a cookie option with a server cookie of ours
IS_OTHER: Final = (messages.QR | messages.OPCODE) >> 8  # bits in octet 2 that are zero in queries
TSIG_ANY: Final = struct.pack("!HH", messages.TSIG, messages.ANY_CLASS)


class Resolver(Protocol):
    """What the server needs from the forwarder."""

    def cached(self, forward: Forward) -> Resolution | None:
        """Return what is cached and fresh."""

    def ask(self, forward: Forward, take: Callable[[Resolution], None]) -> None:
        """Resolve, and call `take` with the result once, possibly before this returns."""

    def ask_plain(self, plain: PlainQuestion) -> bool:
        """Resolve a question with the next `send_plain`; return whether it is plain."""

    def send_plain(self) -> None:
        """Send the plain questions."""


class Answering:
    """The slow path: decide, forward, count, and record in the history.

    Attributes:
        history: The history of queries.
        counters: The counters of the process.
        synthesised: `SynthesisedAnswers.find`, which may raise.
        plain_questions: Finds plain questions, which may raise.
        kept_plain: `Responder.kept_plain`.
        ask_plain: `Resolver.ask_plain`.
        send_plain: `Resolver.send_plain`.
    """

    def __init__(
        self,
        responder: Responder,
        forwarder: Resolver,
        history: History,
        counters: Counters,
    ) -> None:
        self._responder = responder
        self.synthesised = responder.synthesised
        self.plain_questions = responder.plain_questions
        self.kept_plain = responder.kept_plain
        self._forwarder = forwarder
        self.ask_plain = forwarder.ask_plain
        self.send_plain = forwarder.send_plain
        self.history = history
        self.counters = counters
        self._log_queries = False
        self._keys: Sequence[tsig.Key] = ()
        self._waiting: set[_Waiting] = set()

    def use(self, keys: Sequence[tsig.Key], *, log_queries: bool) -> None:
        """Set the TSIG keys, and whether to log every query."""
        self._keys = keys
        self._log_queries = log_queries

    def begin(
        self, data: bytes, peer: Peer, query: Query | None = None
    ) -> Reply | Forward | Transfer | None:
        """Decide about a message; a `Forward` must be passed to `wait_for`.

        Args:
            data: The message.
            peer: The client.
            query: The parsed message, if `proven` returned it.
        """
        return self._or_failure(data, lambda: self._decide(data, peer, query))

    def proven(self, data: bytes, peer: Peer) -> Query | None:
        """Return the query if it proves that the client owns its address.

        Returns:
            None without such a proof.
        """
        if COOKIE_HEAD not in data or not _is_query(data):  # nearly always; floods are not parsed
            return None
        try:
            query = messages.parse_query(data)
        except BadMessage:
            return None
        return query if self._responder.has_valid_cookie(query, peer, time.time()) else None

    def tally(self) -> None:
        """Update the counters; must be called before they are read."""
        self._responder.tally()

    def variant(self, opt: bytes, peer: Peer, clock: float) -> Variant | None:
        """Return the variant for an OPT record; None if the whole query is needed."""
        try:
            return self._responder.variant(opt, peer, time.time(), clock)
        except Exception:  # then the whole query is processed, which returns SERVFAIL if necessary
            self.counters.internal_errors += 1
            log.exception("internal error while reading an OPT record (%d bytes)", len(opt))
            return None

    def wait_for(
        self, forward: Forward, data: bytes, peer: Peer, send: Callable[[Reply | None], None]
    ) -> None:
        """Let the forwarder resolve a question; return the response, None for none."""
        waiting = _Waiting(self, forward, data, peer, send)
        self._waiting.add(waiting)
        self._forwarder.ask(forward, waiting.take)

    def resolved(self, waiting: "_Waiting", resolution: Resolution) -> None:
        """Send the result of a question, unless the server has stopped."""
        if waiting not in self._waiting:
            return
        self._waiting.remove(waiting)
        waiting.send(
            self._or_failure(
                waiting.data, lambda: self._finish(waiting.forward, resolution, waiting.peer)
            )
        )

    def finish_plain(
        self, plain: PlainQuestion, resolution: Resolution, peer: Peer
    ) -> Reply | None:
        """Return the response to a plain question that did not have a plain answer."""
        question = plain.question

        def finish() -> Reply:
            query = messages.parse_query(plain.data)
            name, qtype, apex = question.name, question.qtype, question.apex
            forward = Forward(query, name, qtype, client=plain.client, apex=apex)
            return self._finish(forward, resolution, peer)

        return self._or_failure(plain.data, finish)

    def sent(self, reply: Reply, peer: Peer, started: float) -> None:
        """Count a response that was just sent, and record it in the history.

        Our own health check is neither counted nor recorded: every ten seconds, it would
        dominate the statistics of an idle server.

        Args:
            reply: The response.
            peer: The client.
            started: `time.monotonic()` when its query arrived.
        """
        if reply.name == messages.HEALTH_CHECK and _is_this_host(peer):
            return
        self._count(reply, "tcp" if peer.over_tcp else "udp")
        self._note(reply, peer, started)

    def sent_ready(self, entry: Entry, peer: Peer, started: float) -> None:
        """Do the same for a ready-made response; over UDP the entry counts itself."""
        if peer.over_tcp:
            self._count(entry, "tcp")
            self.counters.kept_from_upstream += entry.is_kept
            self.counters.cache_hits += entry.source == "cache"
        self._note(entry, peer, started)

    def stop(self) -> None:
        """Cancel everything that waits for an upstream."""
        self._waiting.clear()

    def _count(self, outcome: Outcome, proto: str) -> None:
        self.counters.asked(proto, outcome.qtype)
        self.counters.answered(outcome.rcode, outcome.source)

    def _note(self, outcome: Outcome, peer: Peer, started: float) -> None:
        seconds = time.monotonic() - started
        proto = "tcp" if peer.over_tcp else "udp"
        self.counters.took(outcome.source, seconds)
        stamp = QueryStamp(proto, time.time() - seconds, seconds * 1000)
        self.history.add(stamp, peer.address, outcome)
        if self._log_queries:
            fields = query_history.readable((stamp, peer.address, outcome))
            log.info(
                "query %(proto)s %(client)s %(name)s %(type)s: %(rcode)s from %(from)s, %(ms)s ms",
                fields
                | {"name": fields["name"] or "?", "from": fields["upstream"] or fields["source"]},
                extra={"fields": fields},
            )

    def _decide(
        self, data: bytes, peer: Peer, query: Query | None
    ) -> Reply | Forward | Transfer | None:
        if query is None:
            query = _read_if_signed(data, peer)
        if query is not None and query.tsig is not None:
            return self._decide_signed(data, query, query.tsig, peer)
        decision = self._responder.respond(data, peer, time.time(), query)
        if isinstance(decision, Forward):
            return self._at_once(decision, peer) or decision
        return decision

    def _decide_signed(
        self, data: bytes, query: Query, at: int, peer: Peer
    ) -> Reply | Forward | Transfer | None:
        """Decide about a signed query, whose response must be signed too."""
        now = time.time()
        try:
            standing = tsig.standing(data, at, self._keys, now)
        except BadMessage:
            octets = messages.refusal(data, messages.FORMERR)
            return Reply(octets, messages.FORMERR, "policy") if octets else None
        if standing.error:
            empty, limit = messages.EMPTY_BODY, messages.PLAIN_OCTETS
            octets = messages.assemble(query, messages.NOTAUTH, empty, limit)
            octets, _ = tsig.sign_response(octets, standing, now)
            return Reply(octets, messages.NOTAUTH, "policy", query.qtype, query.name)
        decision = self._responder.respond(data, peer, now, query)
        if isinstance(decision, Forward):
            decision = decision._replace(signature=standing)
            return self._at_once(decision, peer) or decision
        return _signed(decision, query, standing, peer) if isinstance(decision, Reply) else decision

    def _at_once(self, forward: Forward, peer: Peer) -> Reply | None:
        """Return a response that needs no upstream, or None."""
        resolution = self._forwarder.cached(forward)
        if resolution is None:
            if not forward.query.wants_recursion:
                reason = "not cached, and recursion was not desired"
                resolution = _refused(reason)
            elif len(self._waiting) >= MAX_WAITING:
                self.counters.forwards_refused += 1
                resolution = _refused("too many queries are waiting for upstreams")
            else:
                return None
        return self._finish(forward, resolution, peer)

    def _finish(self, forward: Forward, resolution: Resolution, peer: Peer) -> Reply:
        reply = self._responder.finish(forward, resolution, peer, time.time())
        if forward.signature is None:
            return reply
        return _signed(reply, forward.query, forward.signature, peer)

    def _or_failure(self, data: bytes, step: Callable[[], T]) -> T | Reply | None:
        """Call a function; an internal error becomes SERVFAIL for this client only."""
        try:
            return step()
        except Exception:
            self.counters.internal_errors += 1
            log.exception("internal error while answering a query (%d bytes)", len(data))
            return failure(data)


def _is_this_host(peer: Peer) -> bool:
    """Return whether a client is on this host: on loopback, or at the queried address."""
    return peer.address == peer.local or ip_address(peer.address).is_loopback


class _Waiting:
    """A client that waits for the forwarder."""

    __slots__ = ("answering", "data", "forward", "peer", "send")

    def __init__(
        self,
        answering: Answering,
        forward: Forward,
        data: bytes,
        peer: Peer,
        send: Callable[[Reply | None], None],
    ) -> None:
        self.answering = answering
        self.forward = forward
        self.data = data
        self.peer = peer
        self.send = send

    def take(self, resolution: Resolution) -> None:
        """Pass on the result of the question."""
        self.answering.resolved(self, resolution)


def failure(data: bytes) -> Reply | None:
    """Return SERVFAIL for a message, with its question if that can be parsed."""
    if len(data) < messages.HEADER_OCTETS or data[2] & messages.QR >> 8:
        return None
    try:
        query = messages.parse_query(data)
    except BadMessage:
        octets = messages.refusal(data, messages.SERVFAIL)
        return Reply(octets, messages.SERVFAIL, "policy") if octets else None
    empty, limit = messages.EMPTY_BODY, messages.PLAIN_OCTETS
    octets = messages.assemble(query, messages.SERVFAIL, empty, limit)
    return Reply(octets, messages.SERVFAIL, "policy", query.qtype, query.name)


def _read_if_signed(data: bytes, peer: Peer) -> Query | None:
    """Parse a query with a TSIG record from an allowed client; None for any other."""
    if not data[11:12].strip(b"\0") or TSIG_ANY not in data:  # nearly always
        return None
    if not peer.view.may_ask or not _is_query(data):
        return None
    try:
        query = messages.parse_query(data)
    except BadMessage:
        return None
    return query if query.tsig is not None else None


def _is_query(data: bytes) -> bool:
    """Return whether a message is a query of opcode 0."""
    return len(data) >= messages.HEADER_OCTETS and not data[2] & IS_OTHER


def _signed(reply: Reply, query: Query, standing: tsig.SignatureStanding, peer: Peer) -> Reply:
    """Sign a response; if too long, send it without records (RFC 8945 section 5.3)."""
    now = time.time()
    octets, _ = tsig.sign_response(reply.octets, standing, now)
    limit = messages.TCP_OCTETS if peer.over_tcp else query.datagram_octets
    if len(octets) > limit:
        opt = messages.opt_record(query.edns.dnssec_ok, reply.rcode) if query.edns else b""
        flags = messages.TC | int.from_bytes(reply.octets[2:4]) & KEPT_IF_CUT
        cut = messages.assemble(query, flags, messages.EMPTY_BODY, limit, opt)
        octets, _ = tsig.sign_response(cut, standing, now)
    return reply._replace(octets=octets, keeping="no")


def _refused(reason: str) -> Resolution:
    return Resolution(messages.REFUSED, source="policy", reason=reason)

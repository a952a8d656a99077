"""Decide about a query: answer it, forward it, transfer a zone, or drop it.

The order of the checks is NSD's: malformed messages, unsupported ones, access control, and
only then the question.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages, query_variants
from containerdns.core.protocol.cookies import RENEWED_AFTER, Cookies, CookieStanding
from containerdns.core.protocol.messages import RR, Body, Edns, Query
from containerdns.core.protocol.query_variants import Variant
from containerdns.core.protocol.synthesised_answers import (
    Denied,
    Given,
    SynthesisedAnswers,
    Template,
)
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion, PlainQuestions
from containerdns.core.upstream.scrub import is_private
from containerdns.core.upstream.upstream_cache import ready_for
from containerdns.core.zone import answers, records
from containerdns.core.zone.answers import Answer, Lookup
from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.many_holders import ManyHolders, Wanted
from containerdns.core.zone.ownership import WAITING, Act, Decision, Ownership
from containerdns.core.zone.records import Record
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Suffix, SuffixKind, Zone
from containerdns.errors import BadMessage

MAX_ADDRESSES = 100  # in one answer; of more, each answer has the next hundred
MAX_NEAR = 1.0  # seconds until a capped TTL is capped again, rather than counted down
MAX_LED = 1024  # CNAME chains of upstreams decided about in one second; then all are cleared
MAX_TURNS = 4096  # RRsets whose answers are counted; then all are cleared
NOT_READY, FILTERED, PROHIBITED = 14, 17, 18  # extended errors, RFC 8914 section 4
CHAOS_VERSION = frozenset({"version.bind.", "version.server."})
CHAOS_IDENTITY = frozenset({"hostname.bind.", "id.server."})
ADDRESS_TYPES = (messages.A, messages.AAAA)
LOOPBACK = {messages.A: bytes((127, 0, 0, 1)), messages.AAAA: bytes(15) + b"\x01"}
MAX_DENIED_DOTS = 8  # of a name whose denial is reused for similar names
MAX_STRANGER_OCTETS = 512  # of a message from outside `--allow`; longer ones are not parsed
UNANSWERABLE = frozenset({messages.OPT, messages.TSIG})  # not valid in questions: FORMERR
UNSUPPORTED = frozenset({messages.TKEY, messages.MAILA, messages.MAILB})  # NOTIMP
TRANSFERS = frozenset({messages.AXFR, messages.IXFR})
LOOPBACK_REASON = "localhost is always loopback"
REBINDING = "a private address behind a public name (--rebind-protection)"


@dataclass(frozen=True, slots=True)
class Peer:
    """The client, and how its query arrived.

    Attributes:
        address: The octets of the client's address, 4 or 16; never IPv4 mapped into IPv6.
        local: The octets of the address that its query arrived on.
        view: Its rights, and the networks that it sees.
        over_tcp: The query arrived over TCP, which proves the address.
        is_slipped: Over UDP and the rate limit: the response is truncated and has no records.
    """

    address: bytes
    local: bytes
    view: View
    over_tcp: bool = False
    is_slipped: bool = False


class Reply(NamedTuple):
    """A response that is ready to be sent.

    Attributes:
        octets: The whole message.
        rcode: For the counters.
        source: "zone" or "policy"; of forwarded ones "cache" or "upstream".
        qtype: For the counters; 0 if the message could not be parsed.
        name: The canonical name asked for; "" if the message could not be parsed.
        upstream: The upstream that answered, as configured.
        keeping: How it may be cached for the same query from the same view: "no", "name" (a name
            of ours that exists), "absent" (one that does not, or policy) or "fresh" (an
            upstream's response, for `fresh_for` seconds).
        depends_on: Canonical names; a change of one of them invalidates the cached response.
            Of an upstream's, only if it may be cached.
        fresh_for: Seconds, with "fresh".
        ages_in: Seconds until the TTLs are one less, as then every second; 0 for never.
        renewal: Of the resolution.
        ttl_offsets: The offsets of these TTLs in `octets`.
        serial_at: The offset of our serial in `octets`; 0 if it has none.
        is_kept: The query would otherwise be forwarded to an upstream.
        rotation: The runs of records that rotate from answer to answer: (offset in `octets`,
            octets of one record, number of records) each.
    """

    octets: bytes
    rcode: int
    source: str
    qtype: int = 0
    name: str = ""
    upstream: str | None = None
    keeping: str = "no"
    depends_on: tuple[str, ...] = ()
    fresh_for: float = 0.0
    ages_in: float = 0.0
    renewal: Callable[[], float] | None = None
    ttl_offsets: tuple[int, ...] = ()
    serial_at: int = 0
    rotation: tuple[tuple[int, int, int], ...] = ()
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """A zone transfer that is allowed; over TCP, or an IXFR over UDP.

    Attributes:
        query: AXFR or IXFR; `query.serial` is the serial that an IXFR client has.
        apex: The zone's.
        data: The query's octets, for TSIG.
    """

    query: Query
    apex: str
    data: bytes


class _QueryContext(NamedTuple):
    """A query that is being answered.

    Attributes:
        query: The query.
        peer: Its sender.
        options: EDNS options of the response: code and data.
        is_personal: The response is for this client alone, and must not be cached for others.
    """

    query: Query
    peer: Peer
    options: tuple[tuple[int, bytes], ...] = ()
    is_personal: bool = False

    def with_error(self, code: int, text: str = "") -> "_QueryContext":
        """Add an extended error (RFC 8914)."""
        error = (messages.EDE_OPTION, code.to_bytes(2) + text.encode())
        return self._replace(options=(*self.options, error))

    def response(self, flags: int, rcode: int, body: Body) -> bytes:
        """Encode the response."""
        query = self.query
        limit = messages.TCP_OCTETS if self.peer.over_tcp else query.datagram_octets
        opt = b""
        if query.edns is not None:
            opt = messages.opt_record(query.edns.dnssec_ok, rcode, self.options)
        return messages.assemble(query, flags | rcode & messages.RCODE, body, limit, opt)

    def without_answer(self, rcode: int, flags: int = 0) -> Reply:
        """Return a response without records."""
        if self.peer.view.may_ask:
            flags |= messages.RA
        octets = self.response(flags, rcode, messages.EMPTY_BODY)
        return Reply(octets, rcode, "policy", self.query.qtype, self.query.name)

    def not_ready(self, reason: str = "") -> Reply:
        """Return SERVFAIL, as Docker was not listed yet."""
        return self.with_error(NOT_READY, reason).without_answer(messages.SERVFAIL)


class Responder:
    """Decides about queries, over a zone that may change at any time.

    Attributes:
        synthesised: `SynthesisedAnswers.find`, for clients that may ask.
        plain_questions: Those that need no decision.
    """

    def __init__(
        self,
        ownership: Ownership,
        cookies: Cookies,
        counters: Counters,
        *,
        identity: str = "",
        version: str = "",
    ) -> None:
        """Set the sources of the answers.

        Args:
            ownership: The rules of what is ours, over the zone.
            cookies: For RFC 7873.
            counters: `kept_from_upstream` is counted here.
            identity: For NSID and `hostname.bind.`.
            version: For `version.bind.`.
        """
        self._zone = ownership.zone
        self._ownership = ownership
        self._cookies = cookies
        self._counters = counters
        self._identity = identity.encode()
        self._version = version.encode()
        self._turns: dict[tuple[str, int], int] = {}
        self._many_holders = ManyHolders()
        self._led: dict[tuple[str, tuple[str, ...], int], tuple[Led, tuple[str, ...]]] = {}
        self._decided_for: object = None
        self._synthesised = SynthesisedAnswers(counters)
        self._synthesised.use(ownership)
        self.synthesised = self._synthesised.find
        self.plain_questions = PlainQuestions()
        self.plain_questions.use(ownership)

    def use(self, ownership: Ownership) -> None:
        """Use other rules, and their zone, from now on."""
        self._zone, self._ownership = ownership.zone, ownership
        self._synthesised.use(ownership)
        self.plain_questions.use(ownership)
        self._many_holders.forget()
        self._led.clear()

    def respond(
        self, data: bytes, peer: Peer, now: float, query: Query | None = None
    ) -> Reply | Forward | Transfer | None:
        """Decide about a message; never raises for any octets.

        Access is checked first: long messages from clients without it are refused without being
        parsed.

        Args:
            data: The message.
            peer: The client.
            now: Seconds since the epoch (for cookies).
            query: The same message, if it was parsed already.
        """
        if len(data) < messages.HEADER_OCTETS or data[2] & messages.QR >> 8:
            return None
        if peer.view.may_ask and not peer.is_slipped:
            found = self._synthesised.find(data, data[2:].lower(), peer.view)
            if found is not None:
                self._counters.kept_from_upstream += found[1].is_kept
                return _reply_of(self._zone, data, *found)
        if not peer.view.may_ask and len(data) > MAX_STRANGER_OCTETS:
            return _bare_refusal(data, messages.REFUSED)
        if data[2] & messages.OPCODE >> 8:
            return _bare_refusal(data, messages.NOTIMP, _edns_of(data))
        if query is None:
            try:
                query = messages.parse_query(data)
            except BadMessage:
                return _bare_refusal(data, messages.FORMERR)
        if query.edns is not None and query.edns.version:
            return _QueryContext(query, peer).without_answer(messages.BADVERS)
        if not peer.view.may_ask:
            return (
                _QueryContext(query, peer).with_error(PROHIBITED).without_answer(messages.REFUSED)
            )
        return self._respond_to(query, data, peer, now)

    def has_valid_cookie(self, query: Query, peer: Peer, now: float) -> bool:
        """Return whether a query proves its address by our cookie (RFC 7873 section 5.2.4)."""
        option = query.edns and query.edns.option(messages.COOKIE_OPTION)
        return option is not None and (
            self._cookies.standing(option, peer.address, now) is CookieStanding.VALID
        )

    def finish(self, forward: Forward, resolution: Resolution, peer: Peer, now: float) -> Reply:
        """Return the client's response, from the resolution of its forwarded question."""
        query = forward.query
        context = self._context(query, peer, now) or _QueryContext(query, peer)
        if forward.ttl_ceiling is not None and not forward.chain:
            again = self._ownership.decide(forward.name, forward.qtype, now)
            if again.act is not Act.FORWARD:  # it has become a container's name
                reply = self._carry_out(again, context, now)
                if isinstance(reply, Reply):
                    return reply
        led, depends_on = NOWHERE, None
        if resolution.targets:
            led, depends_on = self._lead(query.name, resolution.targets, forward.qtype, now)
        if led.home:
            return self._come_home(forward, resolution, led, context)
        if resolution.rcode == messages.NXDOMAIN:
            resolution = self._denied_at_most(resolution, forward.name)
        rcode, body = resolution.rcode, resolution.body
        is_negative = rcode == messages.NXDOMAIN or (not rcode and not body.counts[0])
        if is_negative and (forward.negative_becomes_servfail or led.is_doubtful):
            return context.not_ready()
        if resolution.extended_error is not None:
            context = context.with_error(*resolution.extended_error)
        fresh_for, renewal = resolution.fresh_for, resolution.renewal
        if forward.ttl_ceiling is not None or led.is_near:
            body = messages.with_ttls(body, 0, self._zone.shape.ttl)
            fresh_for, renewal = min(fresh_for, MAX_NEAR), None
        if forward.chain:
            body = _with_chain(forward, body)
        octets = context.response(_flags(forward, resolution), rcode, body)
        reply = Reply(
            octets, rcode, resolution.source, query.qtype, query.name, resolution.upstream
        )
        if fresh_for <= 0 or context.is_personal or forward.chain or _is_truncated(octets):
            return reply
        return reply._replace(
            keeping="fresh",
            depends_on=self._zone.names_behind(query.name) if depends_on is None else depends_on,
            fresh_for=fresh_for,
            ages_in=resolution.ages_in,
            renewal=renewal,
            ttl_offsets=tuple(
                messages.HEADER_OCTETS + len(query.question) + at for at in body.ttl_offsets
            ),
        )

    def kept_plain(self, plain: PlainQuestion, answer: PlainAnswer, upstream: str) -> Reply:
        """Return the response to a plain question as one that was cached when it arrived.

        Args:
            plain: The question.
            answer: Its answer, of addresses alone.
            upstream: The upstream that it came from, as configured.
        """
        question = plain.question
        start = len(plain.data) - len(plain.form.rest) + messages.TYPE_AND_CLASS_OCTETS
        return Reply(
            plain.response(answer),
            answer.rcode,
            "cache",
            question.qtype,
            question.name,
            upstream,
            keeping="fresh",
            depends_on=self._zone.names_behind(question.name),
            fresh_for=ready_for(answer.ttl),
            ages_in=1.0,
            ttl_offsets=tuple(start + at for at in answer.body.ttl_offsets),
        )

    def _denied_at_most(self, resolution: Resolution, name: str) -> Resolution:
        """Return NODATA instead of NXDOMAIN where that would deny names of ours (RFC 8020).

        Args:
            resolution: NXDOMAIN.
            name: The name that was forwarded.
        """
        last = resolution.targets[-1] if resolution.targets else name
        if not self._ownership.is_above_ours(last):
            return resolution
        return resolution._replace(rcode=messages.NOERROR, is_authentic=False)

    def _lead(
        self, name: str, targets: tuple[str, ...], qtype: int, now: float
    ) -> tuple["Led", tuple[str, ...]]:
        """Decide where CNAMEs lead, once a second for the same chain.

        A chain may be long: sixteen names of a hundred labels.

        Returns:
            Where they lead, and the names on which that depends.
        """
        decided_for = self._zone, self._zone.generation, self._ownership.listing, int(now)
        if decided_for != self._decided_for:
            self._decided_for = decided_for
            self._led.clear()
        key = name, targets, qtype
        found = self._led.get(key)
        if found is None:
            led = lead(self._ownership, targets, qtype, now)
            behind = dict.fromkeys(
                n for one in (name, *targets) for n in self._zone.names_behind(one)
            )
            if len(self._led) >= MAX_LED:
                self._led.clear()
            found = self._led[key] = led, tuple(behind)
        return found

    def _come_home(
        self, forward: Forward, resolution: Resolution, led: "Led", context: _QueryContext
    ) -> Reply:
        """Answer where an upstream's CNAME leads to a name of ours, as a resolver would.

        The upstream's records of that name are left out.  The response is not cached, since it
        has two sources, of which the zone may change.
        """
        query, zone = forward.query, self._zone
        if led.decision.act is Act.WAIT:
            return context.not_ready(led.decision.rule)
        before = _aliases_to(led.home, forward, resolution, zone.shape.ttl)
        passed = {names.from_wire(record.owner) for record in forward.chain}
        end = end_of(zone, led, forward.qtype, context.peer.view, passed)
        shown, _ = self._in_turn(end.records)
        after = tuple(record.rr() for record in (*end.chain, *shown))
        if resolution.extended_error is not None:
            context = context.with_error(*resolution.extended_error)
        if resolution.drops_private and any(map(is_private, after)):
            context = context.with_error(FILTERED, REBINDING)
            after = tuple(record for record in after if not is_private(record))
        authority = (end.soa.rr(),) if end.soa else ()
        body = messages.encode(query.question[:-4], before + after, authority)
        flags = _flags(forward, resolution._replace(is_authentic=False))
        octets = context.response(flags, end.rcode, body)
        return Reply(
            octets, end.rcode, resolution.source, query.qtype, query.name, resolution.upstream
        )

    # -- the checks in their order ------------------------------------------------

    def _respond_to(
        self, query: Query, data: bytes, peer: Peer, now: float
    ) -> Reply | Forward | Transfer | None:
        context = self._context(query, peer, now)
        if context is None:
            return _bare_refusal(data, messages.FORMERR, query.edns)
        if peer.is_slipped:
            return context.without_answer(messages.NOERROR, messages.TC)
        if not query.question:  # for a cookie alone, RFC 7873 section 5.4
            return context.without_answer(messages.NOERROR)
        if query.qclass == messages.CH:
            return self._respond_in_chaos(context)
        if query.qclass != messages.IN:
            return context.without_answer(messages.REFUSED)
        refusal = refusal_of_type(self._zone, query.name, query.qtype, peer.view)
        if refusal is not None:
            return context.without_answer(refusal[0])
        if query.qtype in TRANSFERS:
            if not self._ownership.has_whole_zone:
                return context.not_ready(WAITING)
            return self._respond_with_zone(context, data)
        if query.name == CATALOG and peer.view.may_transfer:
            answer = of_catalog(self._zone, query.qtype)
            return self._reply(answer, context, "zone")
        decision = self._ownership.decide(query.name, query.qtype, now)
        reply = self._carry_out(decision, context, now)
        if isinstance(reply, Reply) and reply.rcode == messages.NXDOMAIN:
            self._learn_denial(data, reply, decision)
        elif decision.act is Act.ZONE and isinstance(reply, Reply) and reply.keeping == "name":
            given = Given(reply.octets, reply.qtype, reply.serial_at, reply.is_kept)
            self._synthesised.learn_presence(data, given, decision.suffix, peer.view)
        return reply

    def tally(self) -> None:
        """Count what `synthesised` returned; must be called before reading counters."""
        self._synthesised.tally()

    def _learn_denial(self, data: bytes, reply: Reply, decision: Decision) -> None:
        """Record how a name was denied, for similar names."""
        if reply.keeping == "no" or reply.depends_on != (reply.name,):  # on more than itself
            return
        if reply.name.count(".") > MAX_DENIED_DOTS:
            return
        apex = names.parent(reply.name)
        of_zone = decision.act is Act.ZONE and decision.suffix == Suffix(apex, SuffixKind.DOMAIN)
        if not (of_zone or decision.act is Act.NXDOMAIN):
            return
        reason = None if of_zone else decision
        denied = Denied(
            reply.octets, reply.name, reply.qtype, reply.serial_at, reason, reply.is_kept
        )
        self._synthesised.learn(data, denied, apex)

    def _carry_out(self, decision: Decision, context: _QueryContext, now: float) -> Reply | Forward:
        query = context.query
        if decision.act is Act.FORWARD:
            return self._forward(decision, context, query.name)
        is_kept = decision.suffix.kind is not SuffixKind.DOMAIN
        self._counters.kept_from_upstream += is_kept
        if decision.act is Act.WAIT:
            return context.not_ready(decision.rule)
        lookup = Lookup(query.name, query.qtype, context.peer.view, self._turn_of)
        answer = self._of_many(decision, lookup) or answer_to(self._zone, decision, lookup)
        if answer.leads_to:
            return self._leave(answer, context, now)
        source = "zone" if decision.act is Act.ZONE else "policy"
        return self._reply(answer, context, source, is_kept)

    def _of_many(self, decision: Decision, lookup: Lookup) -> Answer | None:
        """Return the answer of a name with very many holders; None if it has to be searched for.

        It is the same as that of `answer_to`, without the explanation.
        """
        name, qtype, view, _ = lookup
        if decision.act is not Act.ZONE or qtype not in ADDRESS_TYPES:
            return None
        turn = self._turns.get((name, ~qtype), -1) + 1
        wanted = Wanted(name, qtype, view)
        found = self._many_holders.find(self._zone, wanted, decision.suffix, turn)
        if not found:
            return None
        self._turn_of(name, qtype)
        return Answer(messages.NOERROR, records=found)

    def _leave(self, answer: Answer, context: _QueryContext, now: float) -> Reply | Forward:
        """Follow a CNAME of ours that leads out of our domains."""
        qtype = context.query.qtype
        answer = follow(self._ownership, answer, qtype, context.peer.view, now)
        if answer.leads_to and context.query.wants_recursion:
            decision = self._ownership.decide(answer.leads_to, qtype, now)
            if decision.act is Act.FORWARD:
                chain = tuple(record.rr() for record in answer.chain)
                return self._forward(decision, context, answer.leads_to, chain)
        return self._reply(answer, context, "zone")

    def _forward(
        self, decision: Decision, context: _QueryContext, name: str, chain: tuple[RR, ...] = ()
    ) -> Forward:
        query, peer, *_ = context
        return Forward(
            query,
            name,
            query.qtype,
            over_tcp=peer.over_tcp,
            client=peer.address,
            apex=decision.forward_apex,
            ttl_ceiling=self._zone.shape.ttl if decision.is_near else None,
            negative_becomes_servfail=decision.is_doubtful,
            chain=chain,
        )

    def _respond_in_chaos(self, context: _QueryContext) -> Reply:
        """Return our identity (RFC 4892); to a health check, our first domain."""
        query = context.query
        if query.name in CHAOS_VERSION:
            text = self._version
        elif query.name in CHAOS_IDENTITY:
            text = self._identity
        elif query.name == messages.HEALTH_CHECK:
            text = self._zone.shape.domains[0].encode()
        else:
            return context.without_answer(messages.REFUSED)
        owner = names.to_wire(query.name)
        record = RR(owner, messages.TXT, messages.CH, 0, bytes([len(text)]) + text)
        wanted = (record,) if query.qtype in (messages.TXT, messages.ANY) else ()
        body = messages.encode(owner, wanted)
        octets = context.response(messages.AA, messages.NOERROR, body)
        return Reply(octets, messages.NOERROR, "policy", query.qtype, query.name)

    def _respond_with_zone(self, context: _QueryContext, data: bytes) -> Reply | Transfer:
        query = context.query
        if context.peer.over_tcp:
            return Transfer(query, query.name, data)
        if query.qtype == messages.AXFR:  # over TCP alone, RFC 5936 section 4.2
            return context.without_answer(messages.FORMERR)
        soa = records.soa(self._zone, query.name, self._zone.shape.ttl)
        return self._reply(Answer(0, records=(soa,)), context, "zone")  # RFC 1995 section 2

    # -- encoding answers ----------------------------------------------------

    def _context(self, query: Query, peer: Peer, now: float) -> _QueryContext | None:
        """Return the context of a query; None if the client's cookie is malformed."""
        if query.edns is None or not query.edns.options:
            return _QueryContext(query, peer, is_personal=query.tsig is not None)
        options = self._options(query.edns, peer, now)
        return None if options is None else _QueryContext(query, peer, options[0], is_personal=True)

    def variant(self, opt: bytes, peer: Peer, now: float, clock: float) -> Variant | None:
        """Return the variant for a client's OPT record.

        Args:
            opt: The rest of a query after its question.
            peer: The client.
            now: Seconds since the epoch (for cookies).
            clock: The same time by the clock of the packet cache.

        Returns:
            None if the whole query has to be processed.
        """
        edns = query_variants.read_opt(opt)
        options = None if edns is None else self._options(edns, peer, now)
        if edns is None or options is None:
            return None
        return query_variants.variant(opt, edns, options[0], clock + options[1])

    def _options(
        self, edns: Edns, peer: Peer, now: float
    ) -> tuple[tuple[tuple[int, bytes], ...], float] | None:
        """Return our options for a response, and for how many seconds; None if malformed."""
        options, seconds = [], float(RENEWED_AFTER)
        if edns.option(messages.NSID_OPTION) is not None and self._identity:
            options.append((messages.NSID_OPTION, self._identity))
        cookie = edns.option(messages.COOKIE_OPTION)
        if cookie is not None:
            if self._cookies.standing(cookie, peer.address, now) is CookieStanding.MALFORMED:
                return None
            ours, seconds = self._cookies.renewed(cookie, peer.address, now)
            options.append((messages.COOKIE_OPTION, ours))
        return tuple(options), seconds

    def _reply(
        self, answer: Answer, context: _QueryContext, source: str, is_kept: bool = False
    ) -> Reply:
        """Encode an answer of ours."""
        query = context.query
        shown, is_partial = self._in_turn(answer.records)
        body = _encode(answer, shown, query)
        octets = context.response(messages.AA | messages.RA, answer.rcode, body)
        start = messages.HEADER_OCTETS + len(query.question)
        is_whole = not _is_truncated(octets) and not is_partial
        can_keep = is_whole and not context.is_personal and answer.depends_on
        shelf = "name" if not answer.rcode and source == "zone" else "absent"
        return Reply(
            octets,
            answer.rcode,
            source,
            query.qtype,
            query.name,
            keeping=shelf if can_keep else "no",
            depends_on=answer.depends_on,
            serial_at=_serial_at(answer, body, start) if can_keep else 0,
            rotation=_rotation(body, start, len(answer.chain), shown) if can_keep else (),
            is_kept=is_kept,
        )

    def _in_turn(self, found: Sequence[Record]) -> tuple[Sequence[Record], bool]:
        """Rotate addresses of equal preference; of too many, return the next hundred.

        Returns:
            The records, and whether others were left out.
        """
        count = len(found)
        if count < 2 or found[0].rtype not in ADDRESS_TYPES:
            return found, False
        turn = self._next_turn(found[0])
        if count > MAX_ADDRESSES:
            answers_for_all = -(-count // MAX_ADDRESSES)
            round_before, place = divmod(turn, answers_for_all)  # each round starts one further
            start = (place * MAX_ADDRESSES + round_before) % count
            return (*found[start:], *found[:start])[:MAX_ADDRESSES], True
        return [record for tier in _tiers(found) for record in _turned(tier, turn)], False

    def _next_turn(self, first: Record) -> int:
        """Count the answers of each RRset separately, as clients ask for A and AAAA in pairs."""
        return self._count_turn((first.name, first.rtype))

    def _turn_of(self, name: str, qtype: int) -> int:
        """Count the answers about a name of very many containers, apart from those of an RRset."""
        return self._count_turn((name, ~qtype))

    def _count_turn(self, key: tuple[str, int]) -> int:
        turn = self._turns.get(key, -1) + 1
        if not turn and len(self._turns) >= MAX_TURNS:
            self._turns.clear()
        self._turns[key] = turn
        return turn


def refusal_of_type(zone: Zone, name: str, qtype: int, view: View) -> tuple[int, str] | None:
    """Return rcode and reason if a type is refused, in general or for this name."""
    if qtype in UNANSWERABLE:
        return messages.FORMERR, "a meta type, which has no records"
    if qtype in UNSUPPORTED:
        return messages.NOTIMP, "type not implemented"
    if qtype not in TRANSFERS:
        return None
    if not view.may_transfer:
        return messages.REFUSED, "the client is outside --allow-transfer"
    if name != CATALOG and name not in zone.shape.domains and name not in zone.reverse.apexes():
        return messages.NOTAUTH, "not a zone of this server"
    return None


def of_catalog(zone: Zone, qtype: int) -> Answer:
    """Answer at the apex of the catalog zone, to those who may transfer it.

    Secondaries ask for its SOA; everything else is in the transfer.
    """
    if qtype in (messages.SOA, messages.ANY):
        soa = records.soa(zone, CATALOG, zone.shape.ttl)
        return Answer(0, records=(soa,), rule="catalog zone")
    soa = records.soa(zone, CATALOG)
    return answers.negative(soa, 0, "catalog zone", "its records are in the transfer")


class Led(NamedTuple):
    """Where the CNAMEs of an upstream lead.

    Attributes:
        home: The first name of the chain that is not forwarded; "" for none.
        decision: The decision about that name.
        is_near: A container may get one of the names at any moment.
        is_doubtful: It may have one already, as Docker is not listed.
    """

    home: str
    decision: Decision
    is_near: bool = False
    is_doubtful: bool = False


NOWHERE = Led("", Decision(Act.FORWARD, "not ours"))


def lead(ownership: Ownership, targets: Sequence[str], qtype: int, now: float) -> Led:
    """Return where the CNAMEs of an upstream lead; `explain` calls this too."""
    if not targets:  # nearly always
        return NOWHERE
    is_near = is_doubtful = False
    for target in targets:
        decision = ownership.decide(target, qtype, now)
        if decision.act is not Act.FORWARD:
            return Led(target, decision)
        is_near |= decision.is_near
        is_doubtful |= decision.is_doubtful
    return NOWHERE._replace(is_near=is_near, is_doubtful=is_doubtful)


def end_of(zone: Zone, led: Led, qtype: int, view: View, passed: Container[str]) -> Answer:
    """Answer for the name that an upstream's CNAMEs lead to; empty if they came from there."""
    if led.home in passed:
        return Answer(messages.NOERROR)
    return answer_to(zone, led.decision, Lookup(led.home, qtype, view))


def answer_to(zone: Zone, decision: Decision, lookup: Lookup) -> Answer:
    """Answer for a name of ours, as decided; `explain` calls this too.

    Args:
        zone: The zone.
        decision: Not FORWARD, and not WAIT.
        lookup: The name that the decision is about, and the type.
    """
    match decision.act:
        case Act.ZONE:
            return answers.find(zone, lookup, decision.suffix)
        case Act.LOOPBACK:
            name = lookup.name
            found = _loopback(name, lookup.qtype, zone.shape.ttl)
            if found:
                return Answer(
                    0, records=found, depends_on=(name,), rule=decision.rule, reason=LOOPBACK_REASON
                )
            soa = records.soa(zone, decision.suffix.apex)
            return answers.negative(soa, 0, decision.rule, LOOPBACK_REASON)
        case Act.NODATA:
            return _policy(zone, 0, decision, lookup.name)
        case _:
            return _policy(zone, messages.NXDOMAIN, decision, lookup.name)


def follow(ownership: Ownership, answer: Answer, qtype: int, view: View, now: float) -> Answer:
    """Follow CNAMEs of ours that lead out of a domain; `explain` calls this too.

    Returns:
        The aliases and the records at their end.  `leads_to` is a name that is forwarded, or
        unknown yet.
    """
    while answer.leads_to:
        decision = ownership.decide(answer.leads_to, qtype, now)
        if decision.act in (Act.FORWARD, Act.WAIT):
            return answer
        passed = {record.name for record in answer.chain}
        if answer.leads_to in passed or len(passed) > answers.MAX_CHAIN:
            return replace(answer, leads_to="")
        end = answer_to(ownership.zone, decision, Lookup(answer.leads_to, qtype, view))
        chain = tuple(dict.fromkeys(answer.chain + end.chain))
        answer = replace(end, chain=chain, depends_on=(), rule=answer.rule, reason=answer.reason)
    return answer


def _policy(zone: Zone, rcode: int, decision: Decision, name: str) -> Answer:
    # A reverse name may be any address; such answers are not cached.
    is_reverse = decision.suffix.kind is SuffixKind.REVERSE
    depends_on = () if is_reverse else zone.names_behind(name)
    soa, reason = records.soa(zone, decision.suffix.apex), f"never forwarded: {decision.rule}"
    return answers.negative(soa, rcode, decision.rule, reason, depends_on)


def _loopback(name: str, qtype: int, ttl: int) -> tuple[Record, ...]:
    """Return the addresses of localhost and names below it (RFC 6761 section 6.3)."""
    rtype = messages.A if qtype == messages.ANY else qtype
    if rtype not in LOOPBACK:
        return ()
    return (Record(name, rtype, ttl, LOOPBACK[rtype], rule="special name localhost."),)


def _reply_of(zone: Zone, data: bytes, tail: bytes, template: Template, owner: str) -> Reply:
    name = names.join(owner, template.name)
    is_absent = template.rcode == messages.NXDOMAIN
    return Reply(
        template.response(data, tail),
        template.rcode,
        template.source,
        template.qtype,
        name,
        keeping="absent" if is_absent else "name",
        depends_on=(name,) if is_absent else zone.names_behind(name),
        serial_at=template.serial_at,
        is_kept=template.is_kept,
    )


def _bare_refusal(data: bytes, rcode: int, edns: Edns | None = None) -> Reply | None:
    octets = messages.refusal(data, rcode, edns)
    return None if octets is None else Reply(octets, rcode, "policy")


def _edns_of(data: bytes) -> Edns | None:
    """Return the OPT record of a message of any opcode, if it has the form of a query."""
    try:
        return messages.parse_query(data).edns
    except BadMessage:
        return None


def _flags(forward: Forward, resolution: Resolution) -> int:
    """Return the header flags of the response to a forwarded query."""
    query = forward.query
    flags = messages.RA | query.flags & messages.CD
    if forward.chain:  # AA is about the first owner, RFC 1035 section 4.1.1
        return flags | messages.AA
    wants_ad = query.flags & messages.AD or (query.edns and query.edns.dnssec_ok)
    return flags | messages.AD if resolution.is_authentic and wants_ad else flags  # RFC 6840, 5.7


def _aliases_to(
    home: str, forward: Forward, resolution: Resolution, ceiling: int
) -> tuple[RR, ...]:
    """Return the CNAMEs that lead to a name of ours, and the upstream's records before it."""
    answer, *_ = messages.decode(names.to_wire(forward.name), resolution.body)
    wire = names.to_wire(home)
    before = takewhile(lambda record: record.owner.lower() != wire, answer)
    return forward.chain + tuple(r._replace(ttl=min(r.ttl, ceiling)) for r in before)


def _with_chain(forward: Forward, body: Body) -> Body:
    """Put our CNAMEs before an upstream's records of their target."""
    answer, authority, additional = messages.decode(names.to_wire(forward.name), body)
    asked = forward.query.question[:-4]
    return messages.encode(asked, forward.chain + answer, authority, additional)


def _tiers(found: Sequence[Record]) -> list[list[Record]]:
    """Group records by preference; `found` is sorted by it."""
    tiers: list[list[Record]] = []
    for record in found:
        if tiers and tiers[-1][0].preference == record.preference:
            tiers[-1].append(record)
        else:
            tiers.append([record])
    return tiers


def _turned(tier: list[Record], turn: int) -> list[Record]:
    start = turn % len(tier)
    return tier[start:] + tier[:start]


def _rotation(
    body: Body, start: int, chain: int, shown: Sequence[Record]
) -> tuple[tuple[int, int, int], ...]:
    """Return the runs of addresses that rotate: offset, octets of one, number."""
    if len(shown) < 2 or shown[0].rtype not in ADDRESS_TYPES:
        return ()
    ends = (0, *body.ends)
    runs = []
    at = chain
    for tier in _tiers(shown):
        octets = {ends[at + i + 1] - ends[at + i] for i in range(len(tier))}
        if len(octets) == 1:  # the first one may differ, if its owner is not compressed
            runs.append((start + ends[at], octets.pop(), len(tier)))
        at += len(tier)
    return tuple(runs)


def _encode(answer: Answer, shown: Sequence[Record], query: Query) -> Body:
    """Encode an answer, with the records that are shown of it."""
    first = shown[0] if len(shown) >= MAX_ADDRESSES else None
    if first is not None and first.rtype in ADDRESS_TYPES and first.name == query.name:
        is_alone = not (answer.chain or answer.soa or answer.additional)
        if is_alone and all(r.ttl == first.ttl for r in shown):
            return messages.encode_addresses(first.rtype, first.ttl, [r.rdata for r in shown])
    authority = (answer.soa.rr(),) if answer.soa else ()
    return messages.encode(
        query.question[:-4],
        tuple(record.rr() for record in (*answer.chain, *shown)),
        authority,
        tuple(record.rr() for record in answer.additional),
    )


def _serial_at(answer: Answer, body: Body, start: int) -> int:
    """Return the offset of the serial in the SOA, which is the last record; 0 without one."""
    if answer.soa is not None or (answer.records and answer.records[0].rtype == messages.SOA):
        last = body.counts[0] + body.counts[1] - 1
        return start + body.ends[last] - 20  # five numbers of four octets end an SOA
    return 0


def _is_truncated(octets: bytes) -> bool:
    return bool(octets[2] & messages.TC >> 8)

"""Decide about a query: answer it, forward it, transfer a zone, or drop it.

The order of the checks is NSD's: malformed messages, unsupported ones, access control, and
only then the question.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages, query_variants
from containerdns.core.protocol.cookies import RENEWED_AFTER, Cookies, CookieStanding
from containerdns.core.protocol.messages import RR, Body, Edns, Query
from containerdns.core.protocol.query_variants import Variant
from containerdns.core.protocol.synthesised_denials import Denial, Denials, Denied
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.scrub import is_private
from containerdns.core.zone import answers, records
from containerdns.core.zone.answers import Answer, TurnOf
from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.ownership import WAITING, Act, Decision, Ownership
from containerdns.core.zone.records import Record
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Suffix, SuffixKind, Zone
from containerdns.errors import BadMessage

MAX_ADDRESSES = 100  # in one answer; of more, each answer has the next hundred
MAX_NEAR = 1.0  # seconds until a capped TTL is capped anew, rather than counted down
MAX_LED = 1024  # chains of upstreams that are decided about in one second; then all anew
MAX_TURNS = 4096  # RRsets whose answers are counted; then all start anew
NOT_READY, FILTERED, PROHIBITED = 14, 17, 18  # extended errors, RFC 8914 section 4
CHAOS_VERSION = frozenset({"version.bind.", "version.server."})
CHAOS_IDENTITY = frozenset({"hostname.bind.", "id.server."})
LOOPBACK = {messages.A: bytes((127, 0, 0, 1)), messages.AAAA: bytes(15) + b"\x01"}
DENIED_DOTS = 8  # of a name that others like it are denied by
STRANGER_OCTETS = 512  # of a message from outside `--allow`; longer ones are not read
UNANSWERABLE = frozenset({messages.OPT, messages.TSIG})  # no types to ask for: FORMERR
UNSUPPORTED = frozenset({messages.TKEY, messages.MAILA, messages.MAILB})  # NOTIMP
TRANSFERS = frozenset({messages.AXFR, messages.IXFR})
LOOPBACK_REASON = "localhost is always loopback"
REBINDING = "a private address behind a public name (--rebind-protection)"


@dataclass(frozen=True, slots=True)
class Peer:
    """The client, and how its query arrived.

    Attributes:
        address: The octets of the client's address, 4 or 16; never IPv4 mapped into IPv6.
        local: The octets of the address its query came in on.
        view: What it may ask and sees.
        over_tcp: Over TCP, with its longer messages and its proof of the address.
        is_slipped: UDP, over the rate limit: a truncated answer without records is due.
    """

    address: bytes
    local: bytes
    view: View
    over_tcp: bool = False
    is_slipped: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that is ready to be sent.

    Attributes:
        octets: The whole message.
        rcode: For the counters.
        source: "zone" or "policy"; of forwarded ones "cache" or "upstream".
        qtype: For the counters; 0 if the message could not be read.
        name: The canonical name asked for; "" if the message could not be read.
        upstream: Which upstream it came from, as configured.
        keeping: How the same octets may serve the next same question of the same view:
            "no", "name" (a name of ours that exists), "absent" (one that does not, or a
            matter of policy) or "fresh" (an upstream's response, for `fresh_for` seconds).
        depends_on: Canonical names; when one of them changes, the kept octets are void.
        fresh_for: Seconds, with "fresh".
        ages_in: Seconds until the TTLs are one less, as then every second; 0 for never.
        ttl_offsets: Where these TTLs stand in `octets`.
        serial_at: Where the four octets of our serial stand in `octets`; 0 for nowhere.
        is_kept: It answers for a name that an upstream would else be asked for.
        rotation: Where in `octets` runs of records stand that rotate from answer to answer:
            (start, octets of one record, number of records) each.
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
    ttl_offsets: tuple[int, ...] = ()
    serial_at: int = 0
    rotation: tuple[tuple[int, int, int], ...] = ()
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class Transfer:
    """A zone transfer that is allowed; over TCP, or an IXFR over UDP.

    Attributes:
        query: AXFR or IXFR; `query.serial` is what an IXFR client has.
        apex: The zone's.
        data: The query's octets, for TSIG.
    """

    query: Query
    apex: str
    data: bytes


class _Extra(NamedTuple):
    """What the OPT record of a response says besides.

    Attributes:
        options: Code and data.
        is_personal: It is meant for this client alone, and must not be kept for others.
    """

    options: tuple[tuple[int, bytes], ...] = ()
    is_personal: bool = False


class Responder:
    """The decisions about queries, over a zone that changes beneath it.

    Attributes:
        denied: `Denials.find`, for clients that may ask.
    """

    def __init__(
        self,
        zone: Zone,
        ownership: Ownership,
        cookies: Cookies,
        counters: Counters,
        *,
        identity: str = "",
        version: str = "",
    ) -> None:
        """Set the sources of the answers.

        Args:
            zone: What is ours.
            ownership: The rules of what is.
            cookies: For RFC 7873.
            counters: `kept_from_upstream` is counted here.
            identity: For NSID and `hostname.bind.`.
            version: For `version.bind.`.
        """
        self._zone = zone
        self._ownership = ownership
        self._cookies = cookies
        self._counters = counters
        self._identity = identity.encode()
        self._version = version.encode()
        self._turns: dict[tuple[str, int], int] = {}
        self._led: dict[tuple[str, tuple[str, ...], int], tuple[Led, tuple[str, ...]]] = {}
        self._decided_for: object = None
        self._denials = Denials(counters)
        self._denials.use(zone, ownership)
        self.denied = self._denials.find

    def use(self, zone: Zone, ownership: Ownership) -> None:
        """Use another zone and other rules from now on."""
        self._zone, self._ownership = zone, ownership
        self._denials.use(zone, ownership)
        self._led.clear()

    def respond(
        self, data: bytes, peer: Peer, now: float, query: Query | None = None
    ) -> Reply | Forward | Transfer | None:
        """Decide about a message; never raises for any octets.

        Whether the client may ask comes first: of one that may not, a message that is
        longer than any honest query of its kind is refused unread.

        Args:
            data: The message.
            peer: Who sent it.
            now: Seconds since the epoch (for cookies).
            query: The same message, if somebody has read it already.
        """
        if len(data) < messages.HEADER_OCTETS or data[2] & messages.QR >> 8:
            return None
        if peer.view.may_ask and not peer.is_slipped:
            denied = self._denials.find(data, data[2:].lower())
            if denied is not None:
                self._counters.kept_from_upstream += denied[1].is_kept
                return _reply_of(*denied)
        if not peer.view.may_ask and len(data) > STRANGER_OCTETS:
            return _bare_refusal(data, messages.REFUSED)
        if data[2] & messages.OPCODE >> 8:
            return _bare_refusal(data, messages.NOTIMP, _edns_of(data))
        if query is None:
            try:
                query = messages.parse_query(data)
            except BadMessage:
                return _bare_refusal(data, messages.FORMERR)
        if query.edns is not None and query.edns.version:
            return self._without_answer(query, peer, messages.BADVERS, _Extra())
        if not peer.view.may_ask:
            prohibited = _Extra(((messages.EDE_OPTION, PROHIBITED.to_bytes(2)),))
            return self._without_answer(query, peer, messages.REFUSED, prohibited)
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
        extra = self._extra(query, peer, now) or _Extra()
        if forward.ttl_ceiling is not None and not forward.chain:
            again = self._ownership.decide(forward.name, forward.qtype, now)
            if again.act is not Act.FORWARD:  # it became a container's name meanwhile
                reply = self._carry_out(again, query, peer, extra, now)
                if isinstance(reply, Reply):
                    return reply
        led, depends_on = self._lead(query.name, resolution.targets, forward.qtype, now)
        if led.home:
            return self._come_home(forward, resolution, led, peer, extra)
        rcode, body = resolution.rcode, resolution.body
        is_authentic = resolution.is_authentic
        last = resolution.targets[-1] if resolution.targets else forward.name
        if rcode == messages.NXDOMAIN and self._ownership.is_above_ours(last):
            rcode, is_authentic = (
                messages.NOERROR,
                False,
            )  # RFC 8020: names of ours would be denied too
        is_negative = rcode == messages.NXDOMAIN or (not rcode and not body.counts[0])
        if is_negative and (forward.negative_becomes_servfail or led.is_doubtful):
            not_ready = (*extra.options, (messages.EDE_OPTION, NOT_READY.to_bytes(2)))
            waiting = _Extra(not_ready, extra.is_personal)
            return self._without_answer(query, peer, messages.SERVFAIL, waiting)
        if resolution.extended_error is not None:
            extra = _with_error(extra, *resolution.extended_error)
        is_near = forward.ttl_ceiling is not None or led.is_near
        if is_near:
            body = messages.with_ttls(body, 0, self._zone.shape.ttl)
        flags = messages.RA | query.flags & messages.CD
        if forward.chain:
            body = _with_chain(forward, body)
            flags |= messages.AA
        elif is_authentic and (
            query.flags & messages.AD or (query.edns and query.edns.dnssec_ok)
        ):  # RFC 6840 section 5.7
            flags |= messages.AD
        octets = self._assemble(query, peer, flags, rcode, body, extra)
        can_keep = not extra.is_personal and not forward.chain and not _is_truncated(octets)
        return Reply(
            octets,
            rcode,
            resolution.source,
            query.qtype,
            query.name,
            resolution.upstream,
            keeping="fresh" if can_keep and resolution.fresh_for > 0 else "no",
            depends_on=depends_on,
            fresh_for=min(resolution.fresh_for, MAX_NEAR) if is_near else resolution.fresh_for,
            ages_in=resolution.ages_in,
            ttl_offsets=tuple(
                messages.HEADER_OCTETS + len(query.question) + at for at in body.ttl_offsets
            ),
        )

    def _lead(
        self, name: str, targets: tuple[str, ...], qtype: int, now: float
    ) -> tuple["Led", tuple[str, ...]]:
        """Decide where CNAMEs lead, once for all who get the same in the same second.

        A stranger's chain may be long: sixteen names of a hundred labels.

        Returns:
            Where they lead, and the names whose change may change that.
        """
        if not targets:  # nearly always
            return NOWHERE, self._zone.names_behind(name)
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
        self,
        forward: Forward,
        resolution: Resolution,
        led: "Led",
        peer: Peer,
        extra: _Extra,
    ) -> Reply:
        """Go on where an upstream's CNAME leads to a name of ours, as a resolver would.

        What the upstream says of that name is left out.  The response is not kept: it is
        made of two sources, and the zone's may change.
        """
        query, zone = forward.query, self._zone
        if led.decision.act is Act.WAIT:
            return self._not_ready(query, peer, extra, led.decision.rule)
        before = _aliases_to(led.home, forward, resolution, zone.shape.ttl)
        passed = {names.from_wire(record.owner) for record in forward.chain}
        end = end_of(zone, led, forward.qtype, peer.view, passed)
        shown, _ = self._in_turn(end.records)
        after = tuple(record.rr() for record in (*end.chain, *shown))
        if resolution.extended_error is not None:
            extra = _with_error(extra, *resolution.extended_error)
        if resolution.drops_private and any(map(is_private, after)):
            extra = _with_error(extra, FILTERED, REBINDING)
            after = tuple(record for record in after if not is_private(record))
        authority = (end.soa.rr(),) if end.soa else ()
        body = messages.encode(query.question[:-4], before + after, authority)
        flags = messages.RA | query.flags & messages.CD
        if forward.chain:  # AA is about the first owner, RFC 1035 section 4.1.1
            flags |= messages.AA
        octets = self._assemble(query, peer, flags, end.rcode, body, extra)
        return Reply(
            octets, end.rcode, resolution.source, query.qtype, query.name, resolution.upstream
        )

    # -- the checks in their order ------------------------------------------------

    def _respond_to(
        self, query: Query, data: bytes, peer: Peer, now: float
    ) -> Reply | Forward | Transfer | None:
        extra = self._extra(query, peer, now)
        if extra is None:
            return _bare_refusal(data, messages.FORMERR, query.edns)
        if peer.is_slipped:
            return self._without_answer(query, peer, messages.NOERROR, extra, messages.TC)
        if not query.question:  # for a cookie alone, RFC 7873 section 5.4
            return self._without_answer(query, peer, messages.NOERROR, extra)
        if query.qclass == messages.CH:
            return self._respond_in_chaos(query, peer, extra)
        if query.qclass != messages.IN:
            return self._without_answer(query, peer, messages.REFUSED, extra)
        refusal = refusal_of_type(self._zone, query.name, query.qtype, peer.view)
        if refusal is not None:
            return self._without_answer(query, peer, refusal[0], extra)
        if query.qtype in TRANSFERS:
            if not self._ownership.has_whole_zone:
                return self._not_ready(query, peer, extra, WAITING)
            return self._respond_with_zone(query, data, peer, extra)
        if query.name == CATALOG and peer.view.may_transfer:
            answer = of_catalog(self._zone, query.qtype)
            return self._reply(answer, query, peer, extra, "zone")
        decision = self._ownership.decide(query.name, query.qtype, now)
        reply = self._carry_out(decision, query, peer, extra, now)
        if isinstance(reply, Reply) and reply.rcode == messages.NXDOMAIN:
            self._learn_denial(data, reply, decision)
        return reply

    def tally(self) -> None:
        """Count what `denied` returned; must be called before reading counters."""
        self._denials.tally()

    def _learn_denial(self, data: bytes, reply: Reply, decision: Decision) -> None:
        """Record how a name was denied, for similar names."""
        if reply.keeping == "no" or reply.depends_on != (reply.name,):  # on more than itself
            return
        if reply.name.count(".") > DENIED_DOTS:
            return
        apex = names.parent(reply.name)
        of_zone = decision.act is Act.ZONE and decision.suffix == Suffix(apex, SuffixKind.DOMAIN)
        if not (of_zone or decision.act is Act.NXDOMAIN):
            return
        reason = None if of_zone else decision
        denied = Denied(
            reply.octets, reply.name, reply.qtype, reply.serial_at, reason, reply.is_kept
        )
        self._denials.learn(data, denied, apex)

    def _carry_out(
        self, decision: Decision, query: Query, peer: Peer, extra: _Extra, now: float
    ) -> Reply | Forward:
        if decision.act is Act.FORWARD:
            return self._forward(decision, query, peer, query.name)
        is_kept = decision.suffix.kind is not SuffixKind.DOMAIN
        self._counters.kept_from_upstream += is_kept
        if decision.act is Act.WAIT:
            return self._not_ready(query, peer, extra, decision.rule)
        answer = answer_to(self._zone, decision, query.name, query.qtype, peer.view, self._turn_of)
        if answer.leads_to:
            return self._leave(answer, query, peer, extra, now)
        source = "zone" if decision.act is Act.ZONE else "policy"
        return self._reply(answer, query, peer, extra, source, is_kept)

    def _leave(
        self, answer: Answer, query: Query, peer: Peer, extra: _Extra, now: float
    ) -> Reply | Forward:
        """Go on where a CNAME of ours leads out of our domains."""
        answer = follow(self._zone, self._ownership, answer, query.qtype, peer.view, now)
        if answer.leads_to and query.wants_recursion:
            decision = self._ownership.decide(answer.leads_to, query.qtype, now)
            if decision.act is Act.FORWARD:
                chain = tuple(record.rr() for record in answer.chain)
                return self._forward(decision, query, peer, answer.leads_to, chain)
        return self._reply(answer, query, peer, extra, "zone")

    def _forward(
        self,
        decision: Decision,
        query: Query,
        peer: Peer,
        name: str,
        chain: tuple[RR, ...] = (),
    ) -> Forward:
        return Forward(
            query,
            name,
            query.qtype,
            peer.over_tcp,
            peer.address,
            decision.forward_apex,
            self._zone.shape.ttl if decision.is_near else None,
            decision.is_doubtful,
            chain,
        )

    def _respond_in_chaos(self, query: Query, peer: Peer, extra: _Extra) -> Reply:
        """Return our identity (RFC 4892); to a health check, our first domain."""
        if query.name in CHAOS_VERSION:
            text = self._version
        elif query.name in CHAOS_IDENTITY:
            text = self._identity
        elif query.name == messages.HEALTH_CHECK:
            text = self._zone.shape.domains[0].encode()
        else:
            return self._without_answer(query, peer, messages.REFUSED, extra)
        owner = names.to_wire(query.name)
        record = RR(owner, messages.TXT, messages.CH, 0, bytes([len(text)]) + text)
        wanted = (record,) if query.qtype in (messages.TXT, messages.ANY) else ()
        body = messages.encode(owner, wanted)
        octets = self._assemble(query, peer, messages.AA, messages.NOERROR, body, extra)
        return Reply(octets, messages.NOERROR, "policy", query.qtype, query.name)

    def _respond_with_zone(
        self, query: Query, data: bytes, peer: Peer, extra: _Extra
    ) -> Reply | Transfer:
        if peer.over_tcp:
            return Transfer(query, query.name, data)
        if query.qtype == messages.AXFR:  # over TCP alone, RFC 5936 section 4.2
            return self._without_answer(query, peer, messages.FORMERR, extra)
        soa = records.soa(self._zone, query.name, self._zone.shape.ttl)
        return self._reply(Answer(0, records=(soa,)), query, peer, extra, "zone")  # RFC 1995, 2

    # -- encoding answers ----------------------------------------------------

    def _extra(self, query: Query, peer: Peer, now: float) -> _Extra | None:
        """Our options for a response; None if the client's cookie is malformed."""
        if query.edns is None or not query.edns.options:
            return _Extra(is_personal=query.tsig is not None)
        options = self._options(query.edns, peer, now)
        return None if options is None else _Extra(options[0], is_personal=True)

    def variant(self, opt: bytes, peer: Peer, now: float, clock: float) -> Variant | None:
        """Return the variant for a client's OPT record.

        Args:
            opt: All that is behind the question of a query.
            peer: Who sent it.
            now: Seconds since the epoch (for cookies).
            clock: The same moment in the clock of the ready-made responses.

        Returns:
            None if the whole query has to be looked at.
        """
        edns = query_variants.read_opt(opt)
        options = None if edns is None else self._options(edns, peer, now)
        if edns is None or options is None:
            return None
        return query_variants.variant(edns, options[0], clock + options[1])

    def _options(
        self, edns: Edns, peer: Peer, now: float
    ) -> tuple[tuple[tuple[int, bytes], ...], float] | None:
        """Our options for a response, and the seconds that they hold; None if malformed."""
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
        self,
        answer: Answer,
        query: Query,
        peer: Peer,
        extra: _Extra,
        source: str,
        is_kept: bool = False,
    ) -> Reply:
        """Make a response of ours out of an answer."""
        shown, is_partial = self._in_turn(answer.records)
        owner = query.question[:-4]
        authority = (answer.soa.rr(),) if answer.soa else ()
        body = messages.encode(
            owner,
            tuple(record.rr() for record in (*answer.chain, *shown)),
            authority,
            tuple(record.rr() for record in answer.additional),
        )
        flags = messages.AA | messages.RA
        octets = self._assemble(query, peer, flags, answer.rcode, body, extra)
        start = messages.HEADER_OCTETS + len(query.question)
        is_whole = not _is_truncated(octets) and not is_partial
        can_keep = is_whole and not extra.is_personal and answer.depends_on
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
        """Rotate addresses of equal preference; of too many, give the next hundred.

        Returns:
            The records, and whether others were left out.
        """
        count = len(found)
        if count < 2 or found[0].rtype not in (messages.A, messages.AAAA):
            return found, False
        turn = self._next_turn(found[0])
        if count > MAX_ADDRESSES:
            answers_for_all = -(-count // MAX_ADDRESSES)
            round_before, place = divmod(turn, answers_for_all)  # each round starts one further
            start = (place * MAX_ADDRESSES + round_before) % count
            return (*found[start:], *found[:start])[:MAX_ADDRESSES], True
        return [record for tier in _tiers(found) for record in _turned(tier, turn)], False

    def _next_turn(self, first: Record) -> int:
        """Count the answers of each RRset by itself: clients ask A and AAAA in pairs."""
        return self._count_turn((first.name, first.rtype))

    def _turn_of(self, name: str, qtype: int) -> int:
        """Count the answers about a name that very many have, apart from those of one RRset."""
        return self._count_turn((name, ~qtype))

    def _count_turn(self, key: tuple[str, int]) -> int:
        turn = self._turns.get(key, -1) + 1
        if not turn and len(self._turns) >= MAX_TURNS:
            self._turns.clear()
        self._turns[key] = turn
        return turn

    def _assemble(
        self, query: Query, peer: Peer, flags: int, rcode: int, body: Body, extra: _Extra
    ) -> bytes:
        limit = messages.TCP_OCTETS if peer.over_tcp else query.datagram_octets
        opt = b""
        if query.edns is not None:
            opt = messages.opt_record(query.edns.dnssec_ok, rcode, extra.options)
        return messages.assemble(query, flags, rcode, body, limit, opt)

    def _not_ready(self, query: Query, peer: Peer, extra: _Extra, reason: str) -> Reply:
        text = NOT_READY.to_bytes(2) + reason.encode()
        waiting = _Extra((*extra.options, (messages.EDE_OPTION, text)), extra.is_personal)
        return self._without_answer(query, peer, messages.SERVFAIL, waiting)

    def _without_answer(
        self, query: Query, peer: Peer, rcode: int, extra: _Extra, flags: int = 0
    ) -> Reply:
        if peer.view.may_ask:
            flags |= messages.RA
        octets = self._assemble(query, peer, flags, rcode, messages.EMPTY_BODY, extra)
        return Reply(octets, rcode, "policy", query.qtype, query.name)


def refusal_of_type(zone: Zone, name: str, qtype: int, view: View) -> tuple[int, str] | None:
    """Return rcode and reason if such a type is answered to nobody, or not for this name."""
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
    soa = records.soa(zone, CATALOG, zone.shape.ttl)
    if qtype in (messages.SOA, messages.ANY):
        return Answer(0, records=(soa,), rule="catalog zone")
    return answers.negative(zone, 0, CATALOG, "catalog zone", "its records are in the transfer")


class Led(NamedTuple):
    """Where the CNAMEs of an upstream lead.

    Attributes:
        home: The first name on their way that is not an upstream's to answer; "" for none.
        decision: What is done about that.
        is_near: A container's name could be on their way in a moment.
        is_doubtful: Or may be already, as Docker is not listed.
    """

    home: str
    decision: Decision
    is_near: bool = False
    is_doubtful: bool = False


NOWHERE = Led("", Decision(Act.FORWARD, "not ours"))


def lead(ownership: Ownership, targets: Sequence[str], qtype: int, now: float) -> Led:
    """Return where the CNAMEs of an upstream lead; `explain` asks the same."""
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
    """Answer where the CNAMEs of an upstream lead to; nothing if they came from there."""
    if led.home in passed:
        return Answer(messages.NOERROR)
    return answer_to(zone, led.decision, led.home, qtype, view)


def answer_to(
    zone: Zone,
    decision: Decision,
    name: str,
    qtype: int,
    view: View,
    turn_of: TurnOf = lambda *_: 0,
) -> Answer:
    """Answer what the rules say is ours; `explain` asks the same.

    Args:
        zone: What is ours.
        decision: Not FORWARD, and not WAIT.
        name: The canonical name asked for.
        qtype: The type's number.
        view: Who asks.
        turn_of: As `answers.find` takes it.
    """
    apex = decision.suffix.apex
    match decision.act:
        case Act.ZONE:
            return answers.find(zone, name, qtype, view, decision.suffix, turn_of)
        case Act.LOOPBACK:
            found = _loopback(name, qtype, zone.shape.ttl)
            if found:
                return Answer(
                    0, records=found, depends_on=(name,), rule=decision.rule, reason=LOOPBACK_REASON
                )
            return answers.negative(zone, 0, apex, decision.rule, LOOPBACK_REASON)
        case Act.NODATA:
            return _policy(zone, 0, decision, name)
        case _:
            return _policy(zone, messages.NXDOMAIN, decision, name)


def follow(
    zone: Zone, ownership: Ownership, answer: Answer, qtype: int, view: View, now: float
) -> Answer:
    """Go on where CNAMEs of ours lead out of a domain; `explain` does the same.

    Returns:
        The aliases and what is at their end.  It leads on to nothing but a name that is
        an upstream's, or of which nobody knows yet.
    """
    while answer.leads_to:
        decision = ownership.decide(answer.leads_to, qtype, now)
        if decision.act in (Act.FORWARD, Act.WAIT):
            return answer
        passed = {record.name for record in answer.chain}
        if answer.leads_to in passed or len(passed) > answers.MAX_CHAIN:
            return replace(answer, leads_to="")
        end = answer_to(zone, decision, answer.leads_to, qtype, view)
        chain = tuple(dict.fromkeys(answer.chain + end.chain))
        answer = replace(end, chain=chain, depends_on=(), rule=answer.rule, reason=answer.reason)
    return answer


def _policy(zone: Zone, rcode: int, decision: Decision, name: str) -> Answer:
    reason = f"never forwarded: {decision.rule}"
    apex, rule = decision.suffix.apex, decision.rule
    if (
        decision.suffix.kind is SuffixKind.REVERSE
    ):  # any address may come; such answers are not kept
        return answers.negative(zone, rcode, apex, rule, reason)
    return answers.negative(zone, rcode, apex, rule, reason, zone.names_behind(name))


def _loopback(name: str, qtype: int, ttl: int) -> tuple[Record, ...]:
    """The addresses of localhost and all below it (RFC 6761 section 6.3)."""
    rtype = messages.A if qtype == messages.ANY else qtype
    if rtype not in LOOPBACK:
        return ()
    return (Record(name, rtype, ttl, LOOPBACK[rtype], rule="special name localhost."),)


def _reply_of(octets: bytes, denial: Denial, label: str) -> Reply:
    name = names.join(label, denial.name)
    return Reply(
        octets,
        messages.NXDOMAIN,
        denial.source,
        denial.qtype,
        name,
        keeping="absent",
        depends_on=(name,),
        serial_at=denial.serial_at,
        is_kept=denial.is_kept,
    )


def _bare_refusal(data: bytes, rcode: int, edns: Edns | None = None) -> Reply | None:
    octets = messages.refusal(data, rcode, edns)
    return None if octets is None else Reply(octets, rcode, "policy")


def _edns_of(data: bytes) -> Edns | None:
    """The OPT record of a message of any opcode, if it is built like a query."""
    try:
        return messages.parse_query(data).edns
    except BadMessage:
        return None


def _with_error(extra: _Extra, code: int, text: str) -> _Extra:
    """Add an extended error to a response (RFC 8914)."""
    option = (messages.EDE_OPTION, code.to_bytes(2) + text.encode())
    return _Extra((*extra.options, option), extra.is_personal)


def _aliases_to(
    home: str, forward: Forward, resolution: Resolution, ceiling: int
) -> tuple[RR, ...]:
    """The CNAMEs that lead to a name of ours, and what the upstream says before that."""
    answer, *_ = messages.decode(names.to_wire(forward.name), resolution.body)
    wire = names.to_wire(home)
    before = takewhile(lambda record: record.owner.lower() != wire, answer)
    return forward.chain + tuple(r._replace(ttl=min(r.ttl, ceiling)) for r in before)


def _with_chain(forward: Forward, body: Body) -> Body:
    """Put our CNAMEs before what an upstream says about their target."""
    answer, authority, additional = messages.decode(names.to_wire(forward.name), body)
    asked = forward.query.question[:-4]
    return messages.encode(asked, forward.chain + answer, authority, additional)


def _tiers(found: Sequence[Record]) -> list[list[Record]]:
    """Records by preference; `found` is sorted by it."""
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
    """Where the runs of addresses stand that rotate: start, octets of one, how many."""
    if len(shown) < 2 or shown[0].rtype not in (messages.A, messages.AAAA):
        return ()
    ends = (0, *body.ends)
    runs = []
    at = chain
    for tier in _tiers(shown):
        octets = {ends[at + i + 1] - ends[at + i] for i in range(len(tier))}
        if len(octets) == 1:  # the first may differ, if its owner is the first of its kind
            runs.append((start + ends[at], octets.pop(), len(tier)))
        at += len(tier)
    return tuple(runs)


def _serial_at(answer: Answer, body: Body, start: int) -> int:
    """Where the serial stands in an SOA: alone in the answer, or last in the authority section."""
    if answer.soa is not None or (answer.records and answer.records[0].rtype == messages.SOA):
        last = body.counts[0] + body.counts[1] - 1
        return start + body.ends[last] - 20  # five numbers of four octets end an SOA
    return 0


def _is_truncated(octets: bytes) -> bool:
    return bool(octets[2] & messages.TC >> 8)

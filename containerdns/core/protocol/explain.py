"""Explanations of the decisions in `respond`, using the same functions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.explanation_text import has_data
from containerdns.core.protocol.respond import (
    REBINDING,
    TRANSFERS,
    answer_to,
    end_of,
    follow,
    lead,
    of_catalog,
    refusal_of_type,
)
from containerdns.core.times import rfc3339
from containerdns.core.upstream.scrub import is_private
from containerdns.core.upstream.upstream_cache import Cached
from containerdns.core.zone import master_file
from containerdns.core.zone.answers import NOBODY, Answer, Lookup
from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.clues import Clues
from containerdns.core.zone.ownership import (
    BELOW_BOTH,
    SINGLE_LABEL,
    TOP_LEVEL_DOMAIN,
    WAITING,
    Act,
    Decision,
    Ownership,
)
from containerdns.core.zone.records import Record
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import BARE, Suffix, SuffixKind, Zone

ADDRESSES = (messages.A, messages.AAAA)
REMOVED = "its container was removed"
HELD_BACK = "held back"
NDOTS = 1  # names with fewer dots are tried with the search list first, resolv.conf(5)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The outcome of one query.

    Attributes:
        name: The canonical name asked for.
        qtype: The type's number.
        decision: "zone", "policy", or "upstream" if it is forwarded.
        rule: The rule that decided.
        rcode: The rcode of our own answer; None if it is forwarded.
        records: The records of our own answer, with their reasons.
        soa_ttl: Seconds that a negative answer of ours may be cached; None if positive.
        forward_apex: If forwarded, the domain of the `--forward`, or None.
        ttl_ceiling: If forwarded, the highest TTL sent to clients, or None.
        asks: The forwarded name, which may be a CNAME's target.
        is_doubtful: A negative answer of the upstream becomes SERVFAIL.
        reason: An explanation.
        owner: What was looked up in the zone, relative or absolute; "" if nothing was.
        suffix: Below which suffix.
    """

    name: str
    qtype: int
    decision: str
    rule: str
    rcode: int | None
    records: tuple[Record, ...] = ()
    soa_ttl: int | None = None
    forward_apex: str | None = None
    ttl_ceiling: int | None = None
    asks: str = ""
    is_doubtful: bool = False
    reason: str = ""
    owner: str = ""
    suffix: Suffix = BARE


@dataclass(frozen=True, slots=True)
class Search:
    """How a client turns typed text into queries.

    Attributes:
        text: The typed text; with a final dot it is absolute.
        domains: The client's search list, canonical.
    """

    text: str
    domains: Sequence[str] = field(default_factory=tuple)

    def names(self) -> list[str]:
        """Return the names that are queried, in order, as by glibc (resolv.conf(5)).

        Raises:
            BadName: The text is not a domain name.
        """
        name = names.canonical(self.text)
        if self.text.endswith(".") or name == names.ROOT:
            return [name]
        suffixes = [names.canonical(domain) for domain in self.domains]
        joined = (names.join(name[:-1], suffix) for suffix in suffixes)
        searched = [candidate for candidate in joined if names.fits(candidate)]
        dots = len(names.labels_of_text(name)) - 1
        return [name, *searched] if dots >= NDOTS else [*searched, name]


def explain(ownership: Ownership, name: str, qtype: int, view: View, now: float) -> Explanation:
    """Explain the outcome of one query with RD."""
    zone = ownership.zone
    if not view.may_ask:
        reason = "the client is outside --allow"
        return Explanation(name, qtype, "policy", "--allow", messages.REFUSED, reason=reason)
    refusal = refusal_of_type(zone, name, qtype, view)
    if refusal is not None:
        return Explanation(name, qtype, "policy", "type", refusal[0], reason=refusal[1])
    if qtype in TRANSFERS:
        if not ownership.has_whole_zone:
            return Explanation(name, qtype, "policy", WAITING, messages.SERVFAIL, reason=WAITING)
        reason = "the whole zone, over TCP"
        return Explanation(name, qtype, "zone", "zone transfer", messages.NOERROR, reason=reason)
    if name == CATALOG and view.may_transfer:
        found = of_catalog(zone, qtype)
        return Explanation(name, qtype, "zone", found.rule, 0, found.records, reason=found.reason)
    decision = ownership.decide(name, qtype, now)
    if decision.act is Act.WAIT:
        return Explanation(
            name, qtype, "policy", decision.rule, messages.SERVFAIL, reason=decision.rule
        )
    if decision.act is Act.FORWARD:
        return _forwarded(zone, decision, name, name, qtype)
    answer = answer_to(zone, decision, Lookup(name, qtype, view))
    if answer.leads_to:
        answer = follow(ownership, answer, qtype, view, now)
        further = ownership.decide(answer.leads_to, qtype, now) if answer.leads_to else None
        if further is not None and further.act is Act.FORWARD:
            explanation = _forwarded(zone, further, name, answer.leads_to, qtype)
            reason = f"{answer.reason}; its target {answer.leads_to} is asked for upstream"
            return replace(explanation, rule=answer.rule, records=answer.chain, reason=reason)
        return _answered(name, qtype, "zone", answer)
    absence = _absence(zone, name, decision, now) if answer.rcode else ""
    return replace(
        _answered(name, qtype, "zone" if decision.act is Act.ZONE else "policy", answer),
        rule=answer.rule or decision.rule,
        reason=(absence or answer.reason) + _left_out(zone, name, decision, answer.records),
        owner="" if name == decision.suffix.apex else decision.suffix.owner_of(name),
        suffix=decision.suffix,
    )


def _answered(name: str, qtype: int, decision: str, answer: Answer) -> Explanation:
    return Explanation(
        name,
        qtype,
        decision,
        answer.rule,
        answer.rcode,
        records=(*answer.chain, *answer.records),
        soa_ttl=answer.soa.ttl if answer.soa else None,
        reason=answer.reason,
    )


def with_clues(explanation: Explanation, clues: Clues) -> Explanation:
    """Add what is known from the containers around a name.

    Args:
        explanation: Of any name.
        clues: With its owner looked up, if it has no records.
    """
    owner, suffix, reason = explanation.owner, explanation.suffix, explanation.reason
    if explanation.decision == "upstream" and explanation.asks == explanation.name:
        meant = clues.unproxied(explanation.name) or clues.instead(explanation.name)
        return replace(explanation, reason=f"{reason}; {meant}") if meant else explanation
    if not explanation.records and (lack := clues.unproxied(explanation.name)):
        return replace(explanation, reason=lack)
    if not owner or suffix.kind is SuffixKind.REVERSE or explanation.rule == BELOW_BOTH:
        return explanation
    if reason.startswith(REMOVED):
        found = clues.stopped(owner)  # another one that claims the name, but is not running
        if not found and (lost := clues.moved_on(owner)):
            found = reason.replace(REMOVED, lost, 1)
    elif explanation.records:
        found = clues.beside(owner, suffix, explanation.records)
    elif explanation.rcode == messages.NXDOMAIN or explanation.rule == TOP_LEVEL_DOMAIN:
        found = clues.absence(owner, suffix)
        if not found and explanation.rule == SINGLE_LABEL.rule:
            found = f"{NOBODY}, and single labels are never forwarded"
    else:
        found = (
            clues.no_address(explanation.owner, explanation.suffix)
            if explanation.qtype in ADDRESSES
            else ""
        )
    if not found:
        return explanation
    is_known = bool(explanation.records) or explanation.reason.startswith(HELD_BACK)
    return replace(explanation, reason=f"{explanation.reason}; {found}" if is_known else found)


def _left_out(zone: Zone, name: str, decision: Decision, found: Iterable[Record]) -> str:
    """Return a clause with the containers left out because their Engine is unreachable."""
    if not zone.lost_engines or decision.act is not Act.ZONE:
        return ""
    node = zone.node(decision.suffix.owner_of(name), decision.suffix)
    shown = {record.container_id for record in found}
    holders = [zone.holder(claim) for claim in node.holders] if node else []
    lost = [p for p in holders if p.engine in zone.lost_engines and p.id not in shown]
    if not lost or not shown:
        return ""
    engines = ", ".join(sorted({p.engine for p in lost}))
    out = ", ".join(p.container_name for p in lost)
    return f"; {out} is left out, as its Engine is lost: {engines}"


def led_home(
    ownership: Ownership, explanation: Explanation, view: View, cached: Cached, now: float
) -> Explanation:
    """Return where the CNAMEs of a cached response lead, if that is to a name of ours.

    Returns:
        The given explanation if they do not, else our part of the answer.
    """
    led = lead(ownership, cached.resolution.targets, explanation.qtype, now)
    if not led.home:
        return explanation
    way = f"{explanation.reason}; its CNAME leads to {led.home}"
    if led.decision.act is Act.WAIT:
        return replace(explanation, rcode=messages.SERVFAIL, records=(), reason=f"{way}: {WAITING}")
    end = end_of(
        ownership.zone,
        led,
        explanation.qtype,
        view,
        {record.name for record in explanation.records},
    )
    found = (*explanation.records, *end.chain, *end.records)
    reason = f"{way}: {end.reason}" if end.reason else way
    if cached.resolution.drops_private and any(is_private(record.rr()) for record in found):
        found = tuple(record for record in found if not is_private(record.rr()))
        reason = f"{way}: {REBINDING}"
    soa_ttl = end.soa.ttl if end.soa else None
    return replace(explanation, rcode=end.rcode, records=found, soa_ttl=soa_ttl, reason=reason)


def as_document(explanation: Explanation, upstream: "UpstreamExplanation") -> dict[str, object]:
    """Return one entry of the `/explain` document.

    Args:
        explanation: The explanation.
        upstream: What the forwarder knows of the question without asking upstreams.
    """
    rcode = upstream.rcode if explanation.rcode is None else messages.rcode_text(explanation.rcode)
    ttls = [r.ttl for r in explanation.records]
    ttls += [ttl for ttl in (explanation.soa_ttl, upstream.ttl) if ttl is not None]
    ttl = min(ttls, default=None)
    return {
        "name": explanation.name,
        "type": messages.type_text(explanation.qtype),
        "decision": upstream.decision or explanation.decision,
        "rule": explanation.rule,
        "rcode": rcode,
        "ttl": ttl,
        "ttl_ceiling": explanation.ttl_ceiling,
        "upstream": upstream.name,
        "records": [
            {
                "name": r.name,
                "type": messages.type_text(r.rtype),
                "ttl": r.ttl,
                "data": master_file.data_text(r.rtype, r.rdata),
                "container": r.container or None,
                "network": r.network or None,
            }
            for r in explanation.records
        ],
        "reason": upstream.reason or explanation.reason,
        "sent": True,
    }


def mark_unsent(queries: Sequence[dict[str, object]]) -> None:
    """Mark the queries that a client does not send, as an earlier name had an answer.

    A and AAAA of one name are sent together.  As in glibc, an answer with data ends the search,
    and NODATA does not (res_query.c, `__res_context_search`); musl ends it with NODATA, too.
    The response of an upstream is not known beforehand, and ends nothing here.
    """
    ended_by: object = None
    for query in queries:
        if ended_by is None and has_data(query):
            ended_by = query["name"]
        query["sent"] = ended_by is None or query["name"] == ended_by


@dataclass(frozen=True, slots=True)
class UpstreamExplanation:
    """What the forwarder knows about a question without asking upstreams.

    Attributes:
        decision: "cache" or "upstream"; "" if the question does not go there.
        name: The server that would be asked.
        ttl: Remaining TTL of the cached response, or None.
        rcode: Rcode of the cached response, or None.
        reason: An explanation; "" to keep that of the rule.
    """

    decision: str = ""
    name: str | None = None
    ttl: int | None = None
    rcode: str | None = None
    reason: str = ""


def _absence(zone: Zone, name: str, decision: Decision, now: float) -> str:
    """Return a sentence if a name is held back or remembered; "" if neither.

    Stopped containers are left to `Clues`, which takes longer.
    """
    owners = {name}
    if name != decision.suffix.apex:
        owners.add(decision.suffix.owner_of(name))
    for owner in sorted(owners):
        left = next(iter(zone.handovers.of(owner)), None)
        if left is not None and zone.is_running(owner):
            return f"{HELD_BACK} for {left} until {rfc3339(zone.handovers.until(left))}"
    for owner in (*owners, *filter(None, map(names.above_service, owners))):
        until = zone.remembered.until(owner)
        if until > now:
            return f"{REMOVED}; the name is kept from upstreams until {rfc3339(until)}"
    return ""


def _forwarded(zone: Zone, decision: Decision, name: str, asks: str, qtype: int) -> Explanation:
    return Explanation(
        name,
        qtype,
        "upstream",
        decision.rule,
        None,
        forward_apex=decision.forward_apex,
        ttl_ceiling=zone.shape.ttl if decision.is_near else None,
        asks=asks,
        is_doubtful=decision.is_doubtful,
        reason=f"forwarded to the upstreams: {decision.rule}",
    )

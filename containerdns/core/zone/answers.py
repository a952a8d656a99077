"""Answers from the zone for names of ours, as values and not yet as messages."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone import records
from containerdns.core.zone.records import Record
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import HOST_ID, NS_LABEL, Node, Suffix, SuffixKind, Zone

MAX_CHAIN = 8  # CNAMEs of ours in one answer; BIND stops at 16
NOBODY = "no running container has this name"


class Lookup(NamedTuple):
    """What is looked up in the zone, and for whom.

    Attributes:
        name: Canonical.
        qtype: The type's number; ANY gets one RRset (RFC 8482).
        view: Of the client.
        turn_of: Counts the answers about a name and a type that has more records than one
            answer can hold.
    """

    name: str
    qtype: int
    view: View
    turn_of: Callable[[str, int], int] = lambda *_: 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question.

    Attributes:
        rcode: NOERROR or NXDOMAIN.
        chain: The CNAME records of ours that lead to the last owner.
        records: The RRset of the last owner, the preferred first.
        additional: Addresses of the targets in `records`.
        soa: The SOA of a negative answer, else None.
        leads_to: The name outside our domains where `chain` ends; "" if it does not.
        depends_on: Names whose change invalidates this answer; () if it must not be cached.
        rule: The rule behind the owner, for `explain`.
        reason: An explanation, for `explain`.
    """

    rcode: int
    chain: tuple[Record, ...] = ()
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    soa: Record | None = None
    leads_to: str = ""
    depends_on: tuple[str, ...] = ()
    rule: str = ""
    reason: str = ""


def find(zone: Zone, lookup: Lookup, suffix: Suffix, before: tuple[str, ...] = ()) -> Answer:
    """Answer a question about a name of ours.

    Args:
        zone: The zone to search.
        lookup: Its name is at or below the suffix.
        suffix: What makes it ours; its apex owns the SOA of a negative answer.
        before: The names whose CNAMEs led here.
    """
    name = lookup.name
    if suffix.kind is SuffixKind.REVERSE:
        return _find_pointer(zone, lookup, suffix.apex)
    owner, is_domain = suffix.owner_of(name), suffix.kind is SuffixKind.DOMAIN
    if is_domain and name == suffix.apex:
        return _find_apex(zone, lookup)
    if is_domain and owner == NS_LABEL:
        return _find_server(zone, lookup, suffix.apex)
    node = zone.node(owner, suffix)
    soa = records.soa(zone, suffix.apex)
    is_zone = suffix.kind in (SuffixKind.DOMAIN, SuffixKind.SEARCH)
    if node is None and is_zone and zone.is_empty_non_terminal(owner, suffix):
        reason = "names exist below it"
        return negative(soa, 0, "empty non-terminal", reason, zone.names_behind(name))
    node = node or zone.wildcard(owner, suffix)
    if node is None:
        rule, reason = suffix.kind.value, NOBODY
        return negative(soa, messages.NXDOMAIN, rule, reason, zone.names_behind(name))
    return _find_at(zone, lookup, suffix, node, before)


def negative(
    soa: Record, rcode: int, rule: str, reason: str, depends_on: tuple[str, ...] = ()
) -> Answer:
    """Return a negative answer (RFC 2308 section 2)."""
    return Answer(rcode, soa=soa, depends_on=depends_on, rule=rule, reason=reason)


def _find_at(
    zone: Zone, lookup: Lookup, suffix: Suffix, node: Node, before: tuple[str, ...]
) -> Answer:
    """Answer from a node, whose CNAME is followed."""
    name, qtype, view, turn_of = lookup
    depends_on = zone.names_behind(name)
    part = records.some_of(zone, node, view, qtype, lambda: turn_of(name, qtype))
    found = records.at_node(zone, name, part.node, view, suffix)
    bare = "bare " if suffix.kind is SuffixKind.BARE else ""
    rule, reason = bare + node.holders[0].rule, why(zone, part.node)
    if found and found[0].rtype == messages.CNAME and qtype not in (messages.CNAME, messages.ANY):
        alias = Answer(0, chain=found, depends_on=depends_on, rule=rule, reason=reason)
        return _follow(zone, lookup, alias, (*before, name))
    chosen = records.of_type(found, qtype)
    if not chosen:
        reason = f"{reason}, but has no such record"
        return negative(records.soa(zone, suffix.apex), 0, rule, reason, depends_on)
    return Answer(
        0,
        records=chosen if part.is_whole else tuple(records.at_most(chosen)),
        additional=records.targets_of(zone, chosen, name, view, suffix),
        depends_on=depends_on if part.is_whole else (),  # the next answer has others
        rule=rule,
        reason=reason,
    )


def _follow(zone: Zone, lookup: Lookup, alias: Answer, before: tuple[str, ...]) -> Answer:
    """Follow a CNAME of ours: within the domains here; elsewhere the forwarder does."""
    target = names.from_wire(alias.chain[-1].rdata)
    above = [d for d in zone.shape.domains if names.is_below(target, d)]
    if not above:
        return replace(alias, leads_to=target)
    if target in before or len(before) > MAX_CHAIN:
        return alias
    suffix = Suffix(max(above, key=len), SuffixKind.DOMAIN)
    end = find(zone, lookup._replace(name=target), suffix, before)
    return replace(
        end,
        chain=alias.chain + end.chain,
        depends_on=end.depends_on and alias.depends_on + end.depends_on,
        rule=alias.rule,
        reason=alias.reason,
    )


def _find_apex(zone: Zone, lookup: Lookup) -> Answer:
    apex = lookup.name
    chosen = records.of_type(records.at_apex(zone, apex, lookup.view), lookup.qtype)
    if not chosen:
        reason = "the domain itself has no such record"
        return negative(records.soa(zone, apex), 0, "domain", reason, (apex,))
    is_ns = chosen[0].rtype == messages.NS
    glue = records.of_server(zone, names.join(NS_LABEL, apex), lookup.view) if is_ns else ()
    rule = f"bare {chosen[0].rule}" if chosen[0].rule else "domain"
    return Answer(0, records=chosen, additional=glue, depends_on=(apex,), rule=rule)


def _find_server(zone: Zone, lookup: Lookup, apex: str) -> Answer:
    name = lookup.name
    chosen = records.of_type(records.of_server(zone, name, lookup.view), lookup.qtype)
    if chosen:
        return Answer(0, records=chosen, depends_on=(name,), rule=records.SERVER_RULE)
    reason = "this server has no such record"
    return negative(records.soa(zone, apex), 0, records.SERVER_RULE, reason, (name,))


def _find_pointer(zone: Zone, lookup: Lookup, apex: str) -> Answer:
    """Answer in a reverse zone; negative answers are not cached, as there may be many."""
    name = lookup.name
    found = records.pointer(zone, name)
    if name == apex:
        found = (records.soa(zone, apex, zone.shape.ttl), records.ns(zone, apex))
    chosen = records.of_type(found, lookup.qtype)
    if chosen:
        reason = f"an address of {chosen[0].container}" if chosen[0].container else ""
        rule = chosen[0].rule or "reverse zone"
        return Answer(0, records=chosen, depends_on=(name,), rule=rule, reason=reason)
    soa = records.soa(zone, apex)
    if found or zone.reverse.is_above_one(name):
        return negative(soa, 0, "reverse zone", "no such record")
    return negative(soa, messages.NXDOMAIN, "reverse zone", "no container has this address")


def why(zone: Zone, node: Node) -> str:
    """Explain which containers have a name."""
    found = {c.publication: zone.holder(c) for c in node.holders}
    texts = sorted(p.container_name for p in found.values() if p.container_name)
    if not texts:
        is_host = HOST_ID in found
        return "it is the host that this server runs on" if is_host else "it is in a hosts file"
    if len(texts) == 1:
        return f"the container {texts[0]} is running"
    shown = ", ".join(texts[:5]) + (" and others" if len(texts) > 5 else "")
    return f"the containers {shown} are running"

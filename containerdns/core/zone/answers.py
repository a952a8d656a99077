"""Answers from the zone for names of ours, as values and not yet as messages."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone import records
from containerdns.core.zone.records import Record
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import HOST_ID, NS_LABEL, Node, Suffix, SuffixKind, Zone

TurnOf = Callable[[str, int], int]  # how many answers there were about a name and a type

MAX_CHAIN = 8  # CNAMEs of ours in one answer; BIND stops at 16


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


def find(
    zone: Zone,
    name: str,
    qtype: int,
    view: View,
    suffix: Suffix,
    turn_of: TurnOf = lambda *_: 0,
) -> Answer:
    """Answer a question about a name of ours.

    Args:
        zone: The zone to search.
        name: At or below the suffix.
        qtype: The type's number; ANY gets one RRset (RFC 8482).
        view: Who asks.
        suffix: What makes it ours; its apex owns the SOA of a negative answer.
        turn_of: Counts the answers about a name that more have than one answer can show.
    """
    return _find(zone, name, qtype, view, suffix, (), turn_of)


def negative(
    zone: Zone, rcode: int, apex: str, rule: str, reason: str, depends_on: tuple[str, ...] = ()
) -> Answer:
    """Return a negative answer with the SOA of an apex (RFC 2308 section 2)."""
    soa = records.soa(zone, apex)
    return Answer(rcode, soa=soa, depends_on=depends_on, rule=rule, reason=reason)


def _find(
    zone: Zone,
    name: str,
    qtype: int,
    view: View,
    suffix: Suffix,
    before: tuple[str, ...],
    turn_of: TurnOf,
) -> Answer:
    """Implement `find`; the names before are those whose CNAMEs led here."""
    if suffix.kind is SuffixKind.REVERSE:
        return _find_pointer(zone, name, qtype, suffix.apex)
    if suffix.kind is SuffixKind.DOMAIN:
        if name == suffix.apex:
            return _find_apex(zone, name, qtype, view)
        if suffix.owner_of(name) == NS_LABEL:
            return _find_server(zone, name, qtype, view, suffix.apex)
    owner = suffix.owner_of(name)
    depends_on = zone.names_behind(name)
    node = zone.node(owner, suffix)
    if node is None:
        if suffix.kind is SuffixKind.DOMAIN and zone.is_empty_non_terminal(owner, suffix):
            reason = "names exist below it"
            return negative(zone, 0, suffix.apex, "empty non-terminal", reason, depends_on)
        node = zone.wildcard(owner, suffix)
    if node is None:
        reason = "no running container has this name"
        rule = suffix.kind.value
        return negative(zone, messages.NXDOMAIN, suffix.apex, rule, reason, depends_on)
    part = records.some_of(zone, node, view, qtype, lambda: turn_of(name, qtype))
    found = records.at_node(zone, name, part.node, view, suffix)
    bare = "bare " if suffix.kind is SuffixKind.BARE else ""
    rule, reason = bare + node.holders[0].rule, why(zone, part.node)
    if found and found[0].rtype == messages.CNAME and qtype not in (messages.CNAME, messages.ANY):
        alias = Answer(0, chain=found, depends_on=depends_on, rule=rule, reason=reason)
        return _follow(zone, alias, qtype, view, (*before, name), turn_of)
    chosen = records.of_type(found, qtype)
    if not chosen:
        reason = f"{reason}, but has no such record"
        return negative(zone, 0, suffix.apex, rule, reason, depends_on)
    additional = records.targets_of(zone, chosen, name, view, suffix)
    return Answer(
        0,
        records=chosen if part.is_whole else tuple(records.at_most(chosen)),
        additional=additional,
        depends_on=depends_on if part.is_whole else (),  # the next answer has others
        rule=rule,
        reason=reason,
    )


def _follow(
    zone: Zone,
    alias: Answer,
    qtype: int,
    view: View,
    before: tuple[str, ...],
    turn_of: TurnOf,
) -> Answer:
    """Follow a CNAME of ours: within the domains here; elsewhere the forwarder does."""
    target = names.from_wire(alias.chain[-1].rdata)
    above = [d for d in zone.shape.domains if names.is_below(target, d)]
    if not above:
        return replace(alias, leads_to=target)
    if target in before or len(before) > MAX_CHAIN:
        return alias
    suffix = Suffix(max(above, key=len), SuffixKind.DOMAIN)
    end = _find(zone, target, qtype, view, suffix, before, turn_of)
    return replace(
        end,
        chain=alias.chain + end.chain,
        depends_on=end.depends_on and alias.depends_on + end.depends_on,
        rule=alias.rule,
        reason=alias.reason,
    )


def _find_apex(zone: Zone, apex: str, qtype: int, view: View) -> Answer:
    chosen = records.of_type(records.at_apex(zone, apex, view), qtype)
    if not chosen:
        reason = "the domain itself has no such record"
        return negative(zone, 0, apex, "domain", reason, (apex,))
    is_ns = chosen[0].rtype == messages.NS
    glue = records.of_server(zone, names.join(NS_LABEL, apex), view) if is_ns else ()
    rule = f"bare {chosen[0].rule}" if chosen[0].rule else "domain"
    return Answer(0, records=chosen, additional=glue, depends_on=(apex,), rule=rule)


def _find_server(zone: Zone, name: str, qtype: int, view: View, apex: str) -> Answer:
    chosen = records.of_type(records.of_server(zone, name, view), qtype)
    if chosen:
        return Answer(0, records=chosen, depends_on=(name,), rule=records.SERVER_RULE)
    reason = "this server has no such record"
    return negative(zone, 0, apex, records.SERVER_RULE, reason, (name,))


def _find_pointer(zone: Zone, name: str, qtype: int, apex: str) -> Answer:
    """Answer in a reverse zone; negative answers are not cached, as there may be many."""
    found = records.pointer(zone, name)
    if name == apex:
        found = (records.soa(zone, apex, zone.shape.ttl), records.ns(zone, apex))
    chosen = records.of_type(found, qtype)
    if chosen:
        reason = f"an address of {chosen[0].container}" if chosen[0].container else ""
        rule = chosen[0].rule or "reverse zone"
        return Answer(0, records=chosen, depends_on=(name,), rule=rule, reason=reason)
    if found or zone.reverse.is_above_one(name):
        return negative(zone, 0, apex, "reverse zone", "no such record")
    return negative(zone, messages.NXDOMAIN, apex, "reverse zone", "no container has this address")


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

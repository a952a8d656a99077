"""Decide who answers for a name: this server, nobody, or an upstream.

Only this module decides what may be forwarded.  The rules, in order: a container's name or a
domain of ours, `--forward`, special names, the upstreams.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone import special_names
from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.reverse import REVERSE_TREES, is_reverse
from containerdns.core.zone.zone import BARE, NS_LABEL, Suffix, SuffixKind, Zone

# For validators in front of us, these are forwarded even for single labels.
DELEGATION_TYPES = frozenset({messages.NS, messages.SOA, messages.DS, messages.DNSKEY})


WAITING = "Docker was not listed yet"
TOP_LEVEL_DOMAIN = "top-level domain"
BELOW_BOTH = "below a domain and a search domain"


class Act(Enum):
    """What to do about a name."""

    ZONE = "zone"  # answered from the zone, positively or negatively
    NXDOMAIN = "nxdomain"  # by policy: NXDOMAIN for every client
    NODATA = "nodata"  # by policy: the name exists without such a record
    LOOPBACK = "loopback"  # localhost
    FORWARD = "forward"
    WAIT = "wait"  # SERVFAIL: unknown, because Docker was not listed yet


class Listing(Enum):
    """How far the Engines have been listed."""

    PENDING = "pending"  # one was never listed, for less than 10 s
    OVERDUE = "overdue"  # one was never listed, for 10 s or more
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a name, and why.

    Attributes:
        act: The action.
        rule: The reason.
        suffix: The suffix of ours; its apex owns the SOA of a negative answer.
        forward_apex: For FORWARD, the domain of the `--forward` that covers it, or None.
        is_near: A container may get this name at any moment, so TTLs are kept short.
        is_doubtful: For FORWARD, a negative response may be wrong, as Docker is not listed.
    """

    act: Act
    rule: str
    suffix: Suffix = BARE
    forward_apex: str | None = None
    is_near: bool = False
    is_doubtful: bool = False


_BEFORE_FORWARDS = frozenset({special_names.LOOPBACK_NAME, *REVERSE_TREES})
_CANARIES = frozenset({special_names.DOH_CANARY})
SINGLE_LABEL = Decision(Act.NXDOMAIN, "single label")


class Ownership:
    """The rules, over a zone.

    Attributes:
        zone: The zone.
        listing: How far the Engines have been listed; set from outside.
    """

    def __init__(
        self,
        zone: Zone,
        *,
        top_level_domains: frozenset[str] = frozenset(),
        forwards: frozenset[str] = frozenset(),
        doh_canary: bool = True,
        engine_hosts: frozenset[str] = frozenset(),
    ) -> None:
        self.listing = Listing.PENDING
        self.zone = self._zone = zone
        self._known = zone.known_owners
        # The Public Suffix List has onion.
        self._top_level_domains = top_level_domains - special_names.SPECIAL_NAMES
        self._forwards = forwards - {names.ROOT}
        self._forwards_root = names.ROOT in forwards
        self._doh_canary = doh_canary
        self._engine_hosts = engine_hosts
        shape = zone.shape
        self._domains = frozenset(shape.domains)
        self._search_domains = frozenset(shape.search_domains)
        # NXDOMAIN for one of these would deny all names below it (RFC 8020).
        self._above_ours = frozenset(
            a for d in shape.domains for a in names.parents(d)
        ) | frozenset(a for s in shape.search_domains for a in (s, *names.parents(s)))
        noted = special_names.SPECIAL_NAMES | top_level_domains | self._above_ours | self._forwards
        self._noted = noted | self._domains | {special_names.DOH_CANARY, CATALOG}
        # What comes before a `--forward`, then all that has rules for the names below it.
        self._local = self._domains | self._search_domains | _BEFORE_FORWARDS
        self._ruled = self._local | self._forwards | special_names.SPECIAL_NAMES | _CANARIES
        self.not_ours = self._forward(names.ROOT, "not ours")
        self._has_search_in_domain = any(
            special_names.nearest(search, self._domains) for search in shape.search_domains
        )
        self._below_both = frozenset(
            names.join(domain[:-1], search)
            for domain in shape.domains
            for search in shape.search_domains
        )

    @property
    def has_nested_suffixes(self) -> bool:
        """Return whether a domain has another domain, or a search domain, at or below it."""
        domains = self._domains
        return self._has_search_in_domain or any(map(self._zone.is_above_domain, domains))

    @property
    def has_whole_zone(self) -> bool:
        """Return whether the zone is complete and may be transferred.

        An Engine that was not listed for 10 s is ignored if another one was listed.
        """
        if self.listing is Listing.OVERDUE:
            return any(p.engine and p.is_running for p in self._zone.publications())
        return self.listing is Listing.COMPLETE

    def decide(self, name: str, qtype: int, now: float) -> Decision:
        """Decide what to do about a name.

        No name above one of ours is denied, since resolvers then deny all names below it
        (RFC 8020).

        Args:
            name: Canonical.
            qtype: The type asked for, which matters for single labels only.
            now: Seconds since the epoch.
        """
        decision = self._decide(name, qtype, now)
        if decision.act is Act.NXDOMAIN and self.is_above_ours(name):
            return Decision(Act.NODATA, "empty non-terminal", decision.suffix)
        return decision

    def is_above_ours(self, name: str) -> bool:
        """Return whether there could be names of ours below a name.

        That is: a suffix of ours, an fqdn, current or remembered, or a name with records below
        a search domain.  Neither this server nor an upstream may deny such a name.
        """
        if name in self._above_ours or self._zone.is_above_absolute(name):
            return True
        return any(
            self._zone.is_empty_non_terminal(
                names.strip_suffix(name, search), Suffix(search, SuffixKind.SEARCH)
            )
            for search in self._searches_above(name)
            if name != search
        )

    def is_nobodys(self, label: str, name: str) -> bool:
        """Return whether certainly no rule applies to a label; False means unknown.

        All such names directly below the same parent have the same decision.

        Args:
            label: As below a search domain.
            name: The same below its parent.
        """
        if name in self._noted:
            return False
        for known, above in self._known:
            if not known:  # then none is above; two are mostly empty
                continue
            if label in known or name in known or "*" in known:
                return False
            if above and (label in above or name in above):
                return False
        return True

    def _decide(self, name: str, qtype: int, now: float) -> Decision:
        if self.is_elsewhere(name, now):  # most of what is forwarded
            return self.not_ours
        domain = special_names.nearest(name, self._domains)
        if domain:
            return self._decide_in_domain(name, domain)
        if name.endswith(special_names.LOOPBACK_NAME) and names.is_below(
            name, special_names.LOOPBACK_NAME
        ):
            return Decision(Act.LOOPBACK, "special name localhost.")
        if names.is_single_label(name):
            return self._decide_single_label(name, qtype, now)
        search = special_names.nearest(name, self._search_domains)
        for above in self._searches_above(name):
            if self._has(names.strip_suffix(name, above), Suffix(above, SuffixKind.SEARCH)):
                return Decision(Act.ZONE, "search domain", Suffix(above, SuffixKind.SEARCH))
        if self._zone.is_ours(name, now):
            return self._decide_exact(name)
        # An Engine's own name must resolve before there can be a listing.
        is_needed = name in self._engine_hosts and self.listing is Listing.PENDING
        if search and name != search and not is_needed:
            decision = self._decide_below_search(name, search, now)
            if decision is not None:
                return decision
        if is_reverse(name):
            decision = self._decide_reverse(name)
            if decision is not None:
                return decision
        return self._decide_elsewhere(name, search)

    def is_elsewhere(self, name: str, now: float) -> bool:
        """Return whether certainly no rule applies to a name; False means unknown."""
        above = names.parents(name)
        if len(above) < 2 or not self._ruled.isdisjoint(above):
            return False
        return self.is_elsewhere_below(name, now)

    def decision_below(self, name: str) -> Decision | None:
        """Return the decision about all names directly below one that no other rule applies to.

        Returns:
            None if they may have different ones.
        """
        above = (name, *names.parents(name))
        if name == names.ROOT or not self._local.isdisjoint(above):
            return None
        if self._covering(name):
            return self._forward(name, "")
        return self.not_ours if self._ruled.isdisjoint(above) else None

    def is_elsewhere_below(self, name: str, now: float) -> bool:
        """Return whether no rule applies to a name, if none does because of its parents."""
        return name not in self._ruled and not self._zone.is_ours(name, now)

    def answers(self, name: str, now: float) -> bool:
        """Return whether a name belongs to a container or is at or below a domain of ours."""
        decision = self.decide(name, messages.A, now)
        return decision.act is Act.ZONE

    def is_ours(self, name: str, now: float) -> bool:
        """Return whether a name is never forwarded, except for types such as DS."""
        act = self.decide(name, messages.A, now).act
        return act is not Act.FORWARD

    def _has(self, owner: str, suffix: Suffix) -> bool:
        """Return whether an owner has records; `host` may be a container until all are listed."""
        if self.listing is not Listing.COMPLETE and self._zone.is_host_alone(owner):
            return False
        return self._zone.has(owner, suffix)

    def _decide_exact(self, name: str) -> Decision:
        """Decide about a name of a label `fqdns`, current or remembered."""
        suffix = Suffix(names.parent(name), SuffixKind.EXACT)
        if not self._zone.is_running(name):
            if self.listing is not Listing.COMPLETE:
                return Decision(Act.WAIT, WAITING, suffix)
            if self._zone.is_above_owner(name):
                return Decision(Act.NODATA, "empty non-terminal", suffix)
        return Decision(Act.ZONE, "label fqdns", suffix)

    def _decide_in_domain(self, name: str, domain: str) -> Decision:
        """Decide about a name below a domain, which may be in a search domain below it."""
        if name == domain:
            return Decision(Act.ZONE, "domain", Suffix(domain, SuffixKind.DOMAIN))
        owner = names.strip_suffix(name, domain)
        suffix = Suffix(domain, SuffixKind.DOMAIN)
        found = Decision(Act.ZONE, "domain", suffix)
        is_whole = self.listing is Listing.COMPLETE
        if is_whole and not self._has_search_in_domain:
            return found
        if owner == NS_LABEL or self._has(owner, suffix):
            return found
        for search in self._searches_above(name):
            below = Suffix(search, SuffixKind.SEARCH)
            if self._has(names.strip_suffix(name, search), below):
                return Decision(Act.ZONE, "search domain", below)
        return found if is_whole else Decision(Act.WAIT, WAITING, suffix)

    def _decide_single_label(self, name: str, qtype: int, now: float) -> Decision:
        label = name[:-1]
        is_delegated = name in self._top_level_domains
        if is_delegated and qtype in DELEGATION_TYPES:
            return self._forward(name, "delegation of a top-level domain", is_near=True)
        zone = self._zone
        is_bare = zone.shape.bare_names
        if is_bare and self._has(label, BARE):
            return Decision(Act.ZONE, "bare name")
        if not is_bare and zone.is_running(name):
            return Decision(Act.ZONE, "label fqdns", Suffix(names.ROOT, SuffixKind.EXACT))
        if self.listing is not Listing.COMPLETE:
            return Decision(Act.WAIT, WAITING)
        is_kept = zone.is_ours(label, now) or zone.is_ours(name, now) or self._has(label, BARE)
        if is_kept and name not in special_names.SPECIAL_NAMES:
            return Decision(Act.NXDOMAIN, "name of a container that is not served")
        if self._covering(name):
            return self._forward(name, "", is_near=True)
        if name in special_names.SPECIAL_NAMES:
            return _special(name)
        if qtype in DELEGATION_TYPES:
            return self._forward(name, "delegation of a single label", is_near=True)
        if is_delegated:
            return Decision(Act.NODATA, TOP_LEVEL_DOMAIN)
        return SINGLE_LABEL

    def _decide_below_search(self, name: str, nearest: str, now: float) -> Decision | None:
        """Decide below a search domain, where only owners are ours, current or remembered."""
        if self.listing is Listing.PENDING:
            return Decision(Act.WAIT, WAITING, Suffix(nearest, SuffixKind.SEARCH))
        is_below_both = special_names.nearest(names.parent(name), self._below_both)
        for search in self._searches_above(name):
            if self._is_kept(names.strip_suffix(name, search), now):
                return self._absent("name of a container that is not served", search)
            if is_below_both:
                return self._absent(BELOW_BOTH, search)
        return None

    def _absent(self, rule: str, search: str) -> Decision:
        if self.listing is Listing.OVERDUE:
            return Decision(Act.WAIT, WAITING, Suffix(search, SuffixKind.SEARCH))
        return Decision(Act.NXDOMAIN, rule, Suffix(search, SuffixKind.SEARCH))

    def _is_kept(self, owner: str, now: float) -> bool:
        """Return whether an owner, or the one above its service label, is never forwarded."""
        if self._zone.is_ours(owner, now) or self._zone.is_below_ours(owner, now):
            return True
        above = names.above_service(owner)
        return bool(above) and self._zone.is_ours(above, now)

    def _searches_above(self, name: str) -> Iterable[str]:
        """The search domains above a name, the longest first."""
        return filter(self._search_domains.__contains__, names.parents(name))

    def _decide_reverse(self, name: str) -> Decision | None:
        reverse = self._zone.reverse
        apex = reverse.apex(name)
        suffix = Suffix(apex or names.parent(name), SuffixKind.REVERSE)
        is_own_zone = bool(apex) and name == apex and reverse.is_whole(apex)
        if reverse.holder(name) is not None or is_own_zone:
            return Decision(Act.ZONE, "reverse zone", suffix)
        if self._covering(name):
            return self._forward(name, "")
        if apex:
            return Decision(Act.ZONE, "reverse zone", suffix)
        private = special_names.private_reverse_zone_above(name)
        if name == private:  # has SOA and NS, RFC 6303 section 3
            return Decision(Act.ZONE, "private reverse zone", Suffix(private, SuffixKind.REVERSE))
        if private and reverse.is_above_one(name):
            return Decision(Act.NODATA, "private reverse zone", Suffix(private, SuffixKind.REVERSE))
        if private:
            return Decision(
                Act.NXDOMAIN, "private reverse zone", Suffix(private, SuffixKind.REVERSE)
            )
        return None

    def _decide_elsewhere(self, name: str, search: str) -> Decision:
        """Decide about any other name; `search` is the search domain above it, "" for none."""
        is_near = bool(search)
        is_awaited = self.listing is Listing.PENDING and name in self._engine_hosts
        is_below = is_near and name != search
        is_doubtful = is_below and (is_awaited or self.listing is Listing.OVERDUE)
        if self._covering(name):
            return self._forward(name, "", is_near=is_near, is_doubtful=is_doubtful)
        special_name = special_names.special_name_above(name)
        if special_name and is_doubtful:
            return Decision(Act.WAIT, WAITING)
        if special_name:
            return _special(special_name, search)
        if self._doh_canary and name == special_names.DOH_CANARY:
            return Decision(Act.NXDOMAIN, "DoH canary")
        return self._forward(name, "not ours", is_near=is_near, is_doubtful=is_doubtful)

    def _covering(self, name: str) -> str:
        """The longest `--forward` domain at or above a name; the root covers nothing here."""
        return special_names.nearest(name, self._forwards)

    def _forward(
        self, name: str, rule: str, *, is_near: bool = False, is_doubtful: bool = False
    ) -> Decision:
        covering = self._covering(name)
        if not covering and self._forwards_root:
            covering = names.ROOT
        if covering:
            rule = f"--forward {covering}"
        return Decision(
            Act.FORWARD,
            rule,
            forward_apex=covering or None,
            is_near=is_near,
            is_doubtful=is_doubtful,
        )


@cache  # there are only a few special names and search domains
def _special(special_name: str, search: str = "") -> Decision:
    """Decide about a name at or below a special one.

    Below a search domain, the SOA is the search domain's: from the root's SOA, PowerDNS
    Recursor would conclude that the top-level domain does not exist (root-nx-trust).
    """
    suffix = Suffix(search, SuffixKind.SEARCH) if search else BARE
    if special_name == special_names.LOOPBACK_NAME:
        return Decision(Act.LOOPBACK, "special name localhost.")
    if special_name == special_names.RESOLVER_ARPA:
        return Decision(Act.NODATA, "special name resolver.arpa.")
    return Decision(Act.NXDOMAIN, f"special name {special_name}", suffix)

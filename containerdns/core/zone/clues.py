"""Why a name has no answer, or an unexpected one, judging by the containers around it.

For people who run `explain`.  Part of it has to visit every container and name; that part
(`Clues.look`) yields after each small unit, so that queries can be answered in between, and is
done once for all queries of one explanation.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from ipaddress import ip_address, ip_network

from containerdns.core import names
from containerdns.core.times import rfc3339
from containerdns.core.zone.change_history import RENAMED, ContainerChange
from containerdns.core.zone.containers import SHORT_ID_DIGITS, Container, Network
from containerdns.core.zone.policy import (
    UNPUBLISHED_NETWORKS,
    Claim,
    Policy,
    Publication,
    proxy_kind,
)
from containerdns.core.zone.proxy_labels import hosts_of
from containerdns.core.zone.records import Record
from containerdns.core.zone.zone import Suffix, SuffixKind, Zone

MAX_NEAREST = 3  # names that are suggested
MAX_LISTED = 5  # containers or names in one sentence
MIN_LIKENESS = 0.6  # of a suggested name, the default of `difflib.get_close_matches`
DOMAIN_LIKENESS = 0.7  # of a domain of ours that may have been meant; "dev" is not "docker"
MAX_LENGTH = 80  # characters of a name that others are compared with; comparing is quadratic
OWNERS_A_UNIT = 4  # compared between two looks at the clock, about 0.1 ms

HEXADECIMAL = frozenset("0123456789abcdef")
Find = Callable[[str], Container | None]  # the container with an id
LastHolder = Callable[[str], ContainerChange | None]  # the last change about an owner


class Clues:
    """What the containers around some owners explain."""

    def __init__(
        self, zone: Zone, find: Find, policy: Policy, last_holder: LastHolder = lambda _: None
    ) -> None:
        """Set the sources.

        Args:
            zone: The claims, and which of them have the names.
            find: Returns the container with an id, running or not.
            policy: The operator's rules.
            last_holder: Returns the last known change of a container that had an owner, or lost it.
        """
        self._zone = zone
        self._find = find
        self._policy = policy
        self._last_holder = last_holder
        self._stopped: dict[str, list[Publication]] = {}
        self._nearest: dict[str, list[str]] = {}
        self._longer: dict[str, list[str]] = {}
        self._unproxied: dict[str, str] = {}

    def look(self, owners: Collection[str], asked: Collection[str] = ()) -> Iterator[None]:
        """Find the containers that claim some owners but are not running.

        For an owner that is not claimed, find the most similar ones with as many labels, and
        those with one label more, such as an alias and its network.

        Args:
            owners: Relative, or absolute with a final dot.
            asked: Names without an answer, which may be host names of a reverse proxy.
        """
        zone = self._zone
        if self._policy.proxy_labels:
            yield from self._look_for_hosts(asked)
        sought = set(owners)
        for publication in zone.publications() if sought else ():
            if not publication.is_running:
                for owner in sought.intersection(c.owner for c in publication.claims):
                    self._stopped.setdefault(owner, []).append(publication)
            yield
        for owner in sorted(sought - self._stopped.keys()):
            if len(owner) <= MAX_LENGTH and not zone.is_claimed(owner):
                yield from self._look_for_similar(owner)

    def _look_for_similar(self, owner: str) -> Iterator[None]:
        matcher = SequenceMatcher(None, b="", autojunk=False)
        matcher.set_seq2(owner)
        found: list[tuple[float, str]] = []
        longer: list[str] = []
        for count, other in enumerate(self._zone.owners()):
            if count % OWNERS_A_UNIT == 0 or other is None:
                yield
            if other is None:
                continue
            if other.startswith(f"{owner}.") and other.count(".") == owner.count(".") + 1:
                longer.append(other)
            is_alike = len(other) <= MAX_LENGTH and other.count(".") == owner.count(".")
            if not is_alike or _is_id(other):
                continue
            matcher.set_seq1(other)
            if matcher.real_quick_ratio() < MIN_LIKENESS or matcher.quick_ratio() < MIN_LIKENESS:
                continue
            likeness = matcher.ratio()
            if likeness >= MIN_LIKENESS:
                found = sorted([*found, (-likeness, other)])[:MAX_NEAREST]
        self._nearest[owner] = [other for _, other in found]
        self._longer[owner] = [
            names.join(other, self._zone.shape.domains[0])[:-1] for other in longer
        ]

    def _look_for_hosts(self, asked: Collection[str]) -> Iterator[None]:
        """Find the running containers of which a name is a host name of a reverse proxy."""
        kinds: dict[str, tuple[str, str]] = {}  # by name, the proxy's kind and the container
        running: set[str] = set()
        for publication in self._zone.publications():
            container = self._find(publication.id)
            if container is not None and container.is_running:
                running.add(proxy_kind(container, self._policy))
                for host in hosts_of(container.docker_labels, container.virtual_host):
                    kinds[f"{host.host.lower().rstrip('.')}."] = host.kind, container.container_name
            yield
        for name in kinds.keys() & set(asked):
            kind, holder = kinds[name]
            lack = "it is below no --proxy-domain" if kind in running else f"no {kind} is running"
            self._unproxied[name] = f"it is a host name of {kind} for {holder}, but {lack}"

    # -- no answer -----------------------------------------------------------------

    def absence(self, owner: str, suffix: Suffix) -> str:
        """Return why an owner below a suffix does not exist; "" if nothing is known.

        Args:
            owner: One that was passed to `look`.
            suffix: The suffix that it was queried below.
        """
        claims = self._zone.claims(owner)
        services = [c for c in claims if c.project]
        if services:
            return self._absence_of_service(owner, services, suffix)
        if stopped := self.stopped(owner):
            is_below_domain = suffix.kind is SuffixKind.DOMAIN
            return stopped if is_below_domain else self._rule_of_services(owner) + stopped
        if claims:
            return ""
        if longer := self._longer.get(owner):
            are = _verb(longer, "is", "are")
            return f"no container is called {owner.rstrip('.')}; but there {are} {_listed(longer)}"
        nearest = self._nearest.get(owner, [])
        if not nearest:
            return ""
        are = "the nearest name is" if len(nearest) == 1 else "the nearest names are"
        return f"no container is called {owner.rstrip('.')}; {are} {_listed(nearest)}"

    def unproxied(self, name: str) -> str:
        """Return why a host name of a reverse proxy does not lead to it; "" for other names."""
        return self._unproxied.get(name, "")

    def instead(self, name: str) -> str:
        """Return which name of ours was meant by one that is forwarded; "" if none is likely.

        Its domain was left out, or has a typing error.
        """
        zone = self._zone
        if zone.is_running(name[:-1]):
            ours = names.join(name[:-1], zone.shape.domains[0])[:-1]
            return f"but there is {ours}, and names with dots are answered only below a domain"
        labels = names.labels_of_text(name)
        for apex in (*zone.shape.domains, *zone.shape.search_domains):
            depth = len(names.labels_of_text(apex))
            owner, typed = ".".join(labels[:-depth]), ".".join(labels[-depth:]) + "."
            matcher = SequenceMatcher(None, typed, apex, autojunk=False)
            if zone.is_running(owner) and matcher.ratio() >= DOMAIN_LIKENESS:
                return f"but there is {names.join(owner, apex)[:-1]}"
        return ""

    def stopped(self, owner: str) -> str:
        """Return why the containers that claim an owner do not run; "" if there are none."""
        found = self._stopped.get(owner, [])
        return "; ".join(self._state(p) for p in found[:MAX_LISTED])

    def _absence_of_service(self, owner: str, services: list[Claim], suffix: Suffix) -> str:
        projects = sorted({c.project for c in services})
        domain = self._zone.shape.domains[0]
        if len(projects) > 1:
            listed = _listed(projects)
            instead = _listed([names.join(f"{owner}.{p}", domain)[:-1] for p in projects])
            return (
                f"ambiguous: the Compose projects {listed} each have a service {owner}; "
                f"ask for {instead}"
            )
        if suffix.kind is not SuffixKind.DOMAIN:
            exists = names.join(owner, domain)[:-1]
            return f"{_below_domains(owner, projects)}: it exists as {exists}"
        return ""

    def _rule_of_services(self, owner: str) -> str:
        """Return where a stopped container would have an owner that is a bare service's."""
        stopped = self._stopped.get(owner, [])
        claims = [c for p in stopped for c in p.claims if c.owner == owner]
        projects = sorted({c.project for c in claims})
        return f"{_below_domains(owner, projects)}; " if all(projects) else ""

    def _state(self, publication: Publication) -> str:
        """Return why a container publishes nothing."""
        name = publication.container_name
        container = self._find(publication.id)
        if publication.skipped or container is None:
            reason = publication.skipped or "it is not running"
            return f"the container {name} exists, but: {reason}"
        return f"the container {name} {_stopped(container)}"

    def moved_on(self, owner: str) -> str:
        """Return why a container lost an owner while it ran; "" if none is known to have."""
        last = self._last_holder(owner)
        if last is None or owner not in last.lost:
            return ""
        if last.change == RENAMED:
            return f"its container was renamed to {last.container}"
        return f"the container {last.container} no longer has this name"

    def no_address(self, owner: str, suffix: Suffix) -> str:
        """Return why a running container has no address at all; "" if it has."""
        for claim in self._zone.holders(owner, suffix):
            publication = self._zone.holder(claim)
            container = self._find(publication.id)
            if container is not None and not publication.has_address:
                lack = lack_of_address(container, self._find, self._policy)
                return f"{publication.container_name} has no usable network: {lack}"
        return ""

    # -- an answer -----------------------------------------------------------------

    def beside(self, owner: str, suffix: Suffix, found: Iterable[Record]) -> str:
        """Return which others claim an owner that has records, and why the answer lacks them."""
        shown = {record.container_id for record in found}
        if not shown:
            return ""
        zone = self._zone
        holders = zone.holders(owner, suffix)
        remarks = self._paused(shown)
        sick = [zone.holder(c) for c in holders if not zone.holder(c).is_healthy]
        if zone.shape.unhealthy == "drop" and sick:
            left_out = [p.container_name for p in sick if p.id not in shown]
            kept = [p.container_name for p in sick if p.id in shown]
            if left_out:
                remarks.append(f"left out as unhealthy: {_listed(left_out)}")
            if kept:
                remarks.append(f"unhealthy, but no other container has the name: {_listed(kept)}")
        lost = [x for x in zone.losses((owner,)) if x.winner and x.loser_id not in shown]
        if lost:
            losers = _listed([f"{x.loser} ({x.rule})" for x in lost])
            by = f"{lost[0].winner} ({holders[0].rule})" if holders else lost[0].winner
            remarks.append(
                f"also claimed by {losers}, which {_verb(lost, 'loses', 'lose')} to {by}"
            )
        return "; ".join(remarks)

    def _paused(self, container_ids: Collection[str]) -> list[str]:
        found = filter(None, map(self._find, container_ids))
        paused = sorted(c.container_name for c in found if c.state == "paused")
        are = _verb(paused, "is paused and does", "are paused and do")
        return [f"{_listed(paused)} {are} not respond"] if paused else []


def lack_of_address(container: Container, find: Find, policy: Policy) -> str:
    """Return why a running container that has no address has none."""
    mode, _, lender_id = container.network_mode.partition(":")
    if mode == "none":
        return "its network mode is none"
    if mode == "container":
        lender = find(lender_id)
        called = lender.container_name if lender else lender_id[:12]
        state = "is not running" if lender is None or not lender.is_running else "has restarted"
        return f"it shares the network of {called}, which {state}"
    networks = [a.network for a in container.attachments if a.network not in UNPUBLISHED_NETWORKS]
    if not networks:
        return "it is on no network"
    wanted = _wanted_networks(container, policy)
    if not wanted:
        return f"it has no address on its networks {_listed(networks)}"
    its = _verb(networks, "its network", "its networks")
    return f"{its} {_listed(networks)} {_verb(networks, 'is', 'are')} none of {wanted}"


def _wanted_networks(container: Container, policy: Policy) -> str:
    label = f"{policy.label_prefix}.network"
    if text := container.docker_labels.get(label, "").strip():
        return f"the label {label}={text}"
    return f"--network {', '.join(policy.networks)}" if policy.networks else ""


def whose_address(address: str, holders: Sequence[Publication], networks: Iterable[Network]) -> str:
    """Return which container has an address.

    Args:
        address: Canonical text.
        holders: The running containers that publish it.
        networks: All networks, of which one may have it in its subnet.
    """
    around = [
        n
        for n in networks
        if any(ip_address(address) in ip_network(subnet) for subnet in n.subnets)
    ]
    at = [a for p in holders for a in p.addresses if a.text == address and a.network]
    where = at[0].network if at else _listed([n.name for n in around])
    of_network = f" (network {where})" if where else ""
    if holders:
        having = _listed([p.container_name or p.id for p in holders])
        return f"{address} is the address of {having}{of_network}"
    if any(address in n.gateways for n in around):
        return f"{address} is the gateway of the network {where}"
    if around:
        return f"{address} is in a subnet of the network {where}, but no running container has it"
    return f"{address} is not the address of any container, and not in a subnet of Docker's"


def _below_domains(service: str, projects: Sequence[str]) -> str:
    """Return the rule about bare services."""
    of = f"the {_verb(projects, 'project', 'projects')} {_listed(projects)}"
    return f"{service} is a Compose service of {of}, and such names exist below a domain only"


def _is_id(owner: str) -> bool:
    return len(owner) == SHORT_ID_DIGITS and set(owner) <= HEXADECIMAL


def _stopped(container: Container) -> str:
    """Return since when a container has been stopped, and its exit status."""
    status = "" if container.exit_status is None else f" with exit status {container.exit_status}"
    since = f" at {rfc3339(container.finished_at)}" if container.finished_at else ""
    match container.state:
        case "created":
            return "was created, but has never been started"
        case "restarting":
            return f"is waiting to be restarted: it stopped{since}{status}"
        case _:
            stopped = f": it stopped{since}{status}" if since or status else ""
            return f"is not running{stopped}{_next_start(container)}"


def _next_start(container: Container) -> str:
    """Return whether the Engine may start a stopped container again; its `die` does not tell."""
    policy = container.restart_policy
    if not policy or (policy == "on-failure" and container.exit_status == 0):
        return ""
    return f"; the Engine may start it again (restart policy {policy})"


def _listed(texts: Sequence[str]) -> str:
    """Join texts with commas; of many, the first."""
    more = len(texts) - MAX_LISTED
    shown = ", ".join(text.rstrip(".") for text in texts[:MAX_LISTED])
    return f"{shown} and {more} more" if more > 0 else shown


def _verb(of: Sequence[object], one: str, many: str) -> str:
    return one if len(of) == 1 else many

"""Which names and addresses a container gets, and why.

The rules are numbered as in docs/names.md.  A `Publication` has relative names, which the zone
puts below every domain.  An invalid name or label is skipped and reported in
`Publication.faults`.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeVar

from containerdns.core import names
from containerdns.core.endpoints import DNS_PORT, MAX_PORT, WILDCARDS
from containerdns.core.protocol import messages
from containerdns.core.values import with_fields
from containerdns.core.zone import docker_labels, proxy_labels
from containerdns.core.zone.containers import Attachment, Container, PortBinding
from containerdns.core.zone.docker_labels import DockerLabel
from containerdns.core.zone.special_names import LOOPBACK_NAME
from containerdns.errors import BadName, BadSettings

MAX_CLAIMS = 500  # names of one container, from all sources together
MAX_SERVICES = 100  # exposed ports with an SRV record; images expose a handful
MAX_UNKNOWN_LABELS = 10  # unknown labels reported per container
MAX_FAULTS = 100  # reported per container, each with a line in the log
PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
UNPUBLISHED_NETWORKS = frozenset({"ingress", "docker_gwbridge"})  # internal networks of the swarm

COMPOSE = "com.docker.compose."
SWARM = "com.docker.swarm."
T = TypeVar("T")
SERVICE_ID = "service:"  # prefix of the ids of swarm services


class Rank(IntEnum):
    """The rank of a claim; of several, the lowest number gets the name."""

    CONTAINER = 0
    LABEL = 10
    DERIVED = 20
    TASK = 25
    HOST_NAME = 30
    HYPHENS = 40
    TASK_HYPHENS = 45
    HOST = 50


class Claim(NamedTuple):
    """One container's claim to one name.

    Attributes:
        owner: A relative name, or with its final dot an absolute one.
        rank: Lower wins.
        rule: The reason, as in docs/names.md.
        publication: The id of the claiming publication.
        network: The id of the network whose address it resolves to; "" for any.
        project: Of a bare Compose service, which holds below `--domain` only and
            while one project alone has it; "" otherwise.
        is_asked_for: The claim is by the container's own name or a label, possibly in the
            spelling with hyphens.
        proxy: Of a host name in the labels of a reverse proxy, the proxy's kind: it resolves to
            the proxy, and has no other data; "" otherwise.
    """

    owner: str
    rank: int
    rule: str
    publication: str
    network: str = ""
    project: str = ""
    is_asked_for: bool = False
    proxy: str = ""


class PublishedAddress(NamedTuple):
    """An address that a name may resolve to.

    Attributes:
        text: Canonical text.
        network: The network's name; "" for a fixed address.
        network_id: The network's id; "" for a fixed address.
        preference: Lower comes first (the order of `--network`).
    """

    text: str
    network: str
    network_id: str
    preference: int = 0

    @property
    def rtype(self) -> int:
        """A or AAAA."""
        return messages.AAAA if ":" in self.text else messages.A


class Proxy(NamedTuple):
    """Where a reverse proxy is reached.

    Attributes:
        addresses: Of all its running containers, or those of `--proxy-address`.
        on_host: It has the host's addresses instead.
    """

    addresses: tuple[PublishedAddress, ...] = ()
    on_host: bool = False


NO_PROXIES: Mapping[str, Proxy] = {}


@dataclass(frozen=True, slots=True)
class Publication:
    """Everything that one container publishes, or would if it were running.

    Attributes:
        id: The container's id; for other sources, a text with a colon.
        container_name: As in Docker.
        engine: The URL of its Engine; "" for other sources.
        is_running: Otherwise its names are only kept from upstreams.
        is_healthy: False leaves it out of answers that have others.
        ttl: Seconds.
        claims: Its names.
        addresses: The addresses that they resolve to.
        on_host: They resolve to the host's addresses instead.
        cname: The canonical target of their CNAMEs; "" for none.
        texts: TXT data, by the relative name before NAME ("" for NAME itself).
        services: Ports of SRV records, by the relative name before NAME.
        is_wildcard: Everything below each name answers as that name.
        pointers: Addresses whose PTR record leads to it.
        faults: Invalid names and labels: the text and the reason.
        skipped: Why it publishes nothing at all; "" if it does.
        project: The Compose project or the stack that it belongs to; "" for none.
        stopped_at: If not running, when it stopped, seconds since the epoch; 0 if
            unknown.
        proxies: By kind, where the reverse proxies of its claims are reached.
    """

    id: str
    container_name: str
    engine: str = ""
    is_running: bool = True
    is_healthy: bool = True
    ttl: int = 5
    claims: tuple[Claim, ...] = ()
    addresses: tuple[PublishedAddress, ...] = ()
    on_host: bool = False
    cname: str = ""
    texts: Mapping[str, tuple[str, ...]] | None = None
    services: Mapping[str, tuple[int, ...]] | None = None
    is_wildcard: bool = False
    pointers: tuple[str, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
    skipped: str = ""
    project: str = ""
    stopped_at: float = 0.0
    proxies: Mapping[str, Proxy] | None = None

    @property
    def has_address(self) -> bool:
        """Whether its names lead anywhere."""
        return bool(self.addresses or self.on_host or self.cname)


PublicationChange = tuple[str, Publication | None]  # by id; None if it was removed


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules that the operator chose; see the options of the same names.

    Attributes:
        suffixes: The domains and search domains, canonical; they are stripped from names in
            labels.
        fleet_host: Of a fleet, the name of this host, below which single-label names are as well.
    """

    ttl: int = 5
    networks: tuple[str, ...] = ()
    expose_by_default: bool = True
    host_mode: bool = False
    wildcard: bool = False
    name_templates: tuple[str, ...] = ()
    label_prefix: str = "containerdns"
    suffixes: tuple[str, ...] = ()
    fleet_host: str = ""
    proxy_labels: bool = False
    proxy_domains: tuple[str, ...] = ()
    proxy_addresses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for template in self.name_templates:
            check_template(template)


def publish(
    container: Container,
    policy: Policy,
    lender: Container | None = None,
    service: Container | None = None,
    proxies: Mapping[str, Proxy] = NO_PROXIES,
) -> Publication:
    """Decide what a container publishes.

    Args:
        container: Running or not.
        policy: The operator's rules.
        lender: The container whose network it shares (`container:X`), if running.
        service: The swarm service of this task, if known.
        proxies: The known reverse proxies, by kind.
    """
    publication = _Author(container, policy, lender, service, proxies).write()
    return with_host_names(publication, policy.fleet_host) if policy.fleet_host else publication


def publish_death(published: Publication, dead: Container) -> Publication | None:
    """Return the same as `publish` for a container that has just stopped, without its rules.

    A death changes no name, and there is nothing to work out when many come at once.

    Args:
        published: What it published while it was running.
        dead: The container now, without addresses; it shares no other's network.

    Returns:
        None if the rules are needed.
    """
    if published.id.startswith(SERVICE_ID):
        return None  # without an address, its tasks have its names
    if not published.is_running or published.faults or published.proxies:
        return None  # some faults are those of running containers, and it may be its own proxy
    fixed = tuple(address for address in published.addresses if not address.network)
    return with_fields(
        published,
        is_running=False,
        is_healthy=dead.health != "unhealthy",
        addresses=fixed,
        pointers=(),
        stopped_at=dead.finished_at,
    )


def published_ports(
    container: Container,
    policy: Policy,
    lender: Container | None = None,
    service: Container | None = None,
) -> Mapping[str, tuple[int, ...]] | None:
    """Return the services that a container would publish in host mode; arguments as `publish`."""
    return _Author(
        container, replace(policy, host_mode=True), lender, service, NO_PROXIES
    ).services()


def with_host_names(publication: Publication, host: str) -> Publication:
    """Add NAME.HOST for each single-label name of a publication of a host of a fleet.

    Who has NAME has NAME.HOST among the containers of that host, so that the claims are alike.
    """
    known = {claim.owner for claim in publication.claims}
    added = dict.fromkeys(
        c._replace(owner=f"{c.owner}.{host}", rule=f"{c.rule} on its host")
        for c in publication.claims
        if "." not in c.owner and f"{c.owner}.{host}" not in known
    )
    return with_fields(publication, claims=(*publication.claims, *added))


def proxy_kind(container: Container, policy: Policy) -> str:
    """Return the kind of reverse proxy that a container is, by its label; "" if none."""
    if not policy.proxy_labels:
        return ""
    label = f"{policy.label_prefix}.{docker_labels.PROXY.key}"
    kind = container.docker_labels.get(label, "").strip().lower()
    return kind if kind in proxy_labels.KINDS and not _is_one_off(container) else ""


def check_template(template: str) -> None:
    """Check that a `--name-template` has known fields only, and that a name can come of it.

    Raises:
        BadSettings: It has an unknown field, in which case the message lists the known ones, or
            text that no name has: a blank, a port, a path.
    """
    fields = re.findall(r"\{([^{}]*)\}", template)
    known = ("name", "id", "hostname", "service", "project", "number")
    is_right = all(f in known or (f.startswith("label:") and len(f) > 6) for f in fields)
    filled = re.sub(r"\{[^{}]*\}", "x", template)
    if not is_right or not fields or re.search(r"[{}\s,:/]|\.\.", filled):
        expected = "fields in braces: label:KEY, " + ", ".join(known)
        raise BadSettings("--name-template", template, expected)


class _Author:
    """Builds the publication of one container."""

    def __init__(
        self,
        container: Container,
        policy: Policy,
        lender: Container | None,
        service: Container | None,
        proxies: Mapping[str, Proxy],
    ) -> None:
        self._container = container
        self._service = service
        self._policy = policy
        self._proxies = proxies
        self._lender = lender
        self._labels = docker_labels.own(container.docker_labels.items(), policy.label_prefix)
        self._is_service = container.id.startswith(SERVICE_ID)
        self._aliases_of_service: dict[str, tuple[str, ...]] = {}  # by network id
        if service is not None and not _has_address(service):
            self._stand_in_for(service)
        self._is_one_off = _is_one_off(container)
        self._longest_suffix = max(map(len, policy.suffixes), default=0)
        self._faults: list[tuple[str, str]] = []
        self._claims: dict[tuple[str, str], Claim] = {}
        self._values = self._read_labels()

    def _stand_in_for(self, service: Container) -> None:
        """Apply what a swarm service without a virtual address asks for."""
        labels = docker_labels.own(service.docker_labels.items(), self._policy.label_prefix)
        labels.pop("enable", None)  # `_reason_to_skip` says whose it is
        self._labels = {**labels, **self._labels}
        self._aliases_of_service = {a.network_id: a.aliases for a in service.attachments}

    def write(self) -> Publication:
        container = self._container
        attachments = self._attachments()
        self._claim_all(attachments)
        cname = self._cname()
        addresses = self._addresses(attachments)
        skipped = self._reason_to_skip()
        mode = (self._lender or container).network_mode
        has_network = mode != "none" and not mode.startswith("container:")
        on_host = mode == "host" or (self._policy.host_mode and has_network)
        has_own = "address" in self._values
        return Publication(
            id=container.id,
            container_name=container.container_name,
            engine=container.engine,
            is_running=container.is_running and not skipped,
            is_healthy=container.health != "unhealthy",
            ttl=self._value(docker_labels.TTL, self._policy.ttl),
            claims=tuple(self._claims.values()),
            addresses=addresses,
            on_host=on_host and not has_own,
            cname=cname,
            texts=(self._texts() or None) if self._values and not cname else None,
            services=self.services(),
            is_wildcard=self._value(docker_labels.WILDCARD, self._policy.wildcard),
            pointers=self._pointers(),
            faults=self._shown_faults(),
            skipped=skipped,
            project=next(iter(projects_of(container)), ""),
            stopped_at=0.0 if container.is_running else container.finished_at,
            proxies=self._used_proxies(),
        )

    def _reason_to_skip(self) -> str:
        """Return why the container publishes nothing; an invalid label hides it as well."""
        prefix, labels, of_service = self._policy.label_prefix, self._labels, ""
        if "enable" not in labels and self._service is not None:
            labels = docker_labels.own(self._service.docker_labels.items(), prefix)
            of_service = f" of the service {self._service.container_name}"
        if "enable" not in labels:
            is_enabled = self._policy.expose_by_default
            return (
                "" if is_enabled else f"no label {prefix}.enable=true, and --no-expose-by-default"
            )
        shown = f"label {prefix}.enable={_short(labels['enable'])}{of_service}"
        match docker_labels.switch(labels["enable"]):
            case True:
                return ""
            case False:
                return shown
        expected = "expected true or false"
        if of_service:  # otherwise reported when the label was read
            self._faults.append((shown.removeprefix("label "), expected))
        return f"{shown}: {expected}"

    def _attachments(self) -> tuple[Attachment, ...]:
        """Return the networks whose addresses may be published, in order of preference."""
        own = self._lender.attachments if self._lender else self._container.attachments
        published = [a for a in own if a.network not in UNPUBLISHED_NETWORKS]
        wanted = self._values.get("network")
        if wanted is not None:
            chosen = [a for a in published if a.network == wanted]
            if not chosen:  # Compose and stacks prefix the names of networks with their project
                spelled = {f"{project}_{wanted}" for project in projects_of(self._container)}
                chosen = [a for a in published if a.network in spelled]
            if not chosen and published and self._container.is_running:
                self._fault("network", "the container is not on a network of this name")
            return tuple(chosen)
        order = self._policy.networks
        if not order:
            return tuple(published)
        listed = [a for a in published if a.network in order]
        return tuple(sorted(listed, key=lambda a: order.index(a.network)))

    def _addresses(self, attachments: tuple[Attachment, ...]) -> tuple[PublishedAddress, ...]:
        if fixed := self._value(docker_labels.ADDRESS, ()):
            return tuple(PublishedAddress(text, "", "") for text in fixed)
        order = self._policy.networks if "network" not in self._values else ()
        return tuple(
            PublishedAddress(text, a.network, a.network_id, order.index(a.network) if order else 0)
            for a in attachments
            for text in a.addresses
            if self._has_ipv6 or ":" not in text
        )

    @property
    def _has_ipv6(self) -> bool:
        return (self._lender or self._container).has_ipv6

    def _pointers(self) -> tuple[str, ...]:
        if self._lender is not None or self._is_service:
            return ()
        published = [
            a for a in self._container.attachments if a.network not in UNPUBLISHED_NETWORKS
        ]
        if self._has_ipv6 and len(published) == 1:
            return published[0].addresses  # as is usual; the same tuple takes no memory
        return tuple(
            text for a in published for text in a.addresses if self._has_ipv6 or ":" not in text
        )

    # -- names ---------------------------------------------------------------

    def _claim_all(self, attachments: tuple[Attachment, ...]) -> None:
        container = self._container
        if self._is_service:
            return self._claim_for_service(attachments)
        self._claim(container.container_name, Rank.CONTAINER, "container name")
        self._claim(container.id[:12], Rank.CONTAINER, "container id")
        if not self._is_one_off:
            if self._values or self._policy.name_templates:
                self._claim_labels()
            if self._policy.proxy_labels:
                self._claim_proxied()
            self._claim_compose()
        self._claim_swarm()
        for attachment in attachments:
            name = f"{container.container_name}.{attachment.network}"
            network = attachment.network_id
            self._claim(name, Rank.DERIVED, "container name on a network", network=network)
            if self._lender is None:
                self._claim_aliases(attachment)
        if container.hostname and not self._is_one_off:
            self._claim(container.hostname, Rank.HOST_NAME, "host name")
            if container.domainname:
                whole = f"{container.hostname}.{container.domainname}"
                self._claim(whole, Rank.HOST_NAME, "host name with domain name")
        return None

    def _claim_for_service(self, attachments: tuple[Attachment, ...]) -> None:
        """Claim the names of a swarm service; one without a virtual address has none."""
        if not _has_address(self._container):
            return
        service = self._container.container_name
        self._claim(service, Rank.DERIVED, "swarm service")
        self._claim_labels()
        for attachment in attachments:
            network = attachment.network_id
            if attachment.network != network:  # else its name is not known yet
                name = f"{service}.{attachment.network}"
                self._claim(name, Rank.DERIVED, "swarm service on a network", network=network)
                self._claim_aliases(attachment)

    def _claim_aliases(self, attachment: Attachment) -> None:
        """Claim ALIAS.NETWORK; those of a service precede those of its tasks, as in Docker."""
        rank = Rank.DERIVED if self._service is None else Rank.TASK
        network = attachment.network_id
        for alias in (*attachment.aliases, *self._aliases_of_service.get(network, ())):
            self._claim(f"{alias}.{attachment.network}", rank, "network alias", network=network)

    def _claim_labels(self) -> None:
        for text in self._value(docker_labels.NAMES, []):
            self._claim(text, Rank.LABEL, f"label {self._policy.label_prefix}.names")
        for text in self._value(docker_labels.FQDNS, []):
            self._claim_exactly(text, f"label {self._policy.label_prefix}.fqdns")
        for template in self._policy.name_templates:
            text = self._fill(template)
            if text:
                self._claim(text, Rank.LABEL, f"template {template}")

    def _claim_proxied(self) -> None:
        """Claim exactly the host names that reverse proxies serve for this container."""
        hosts = proxy_labels.hosts_of(self._container.docker_labels, self._container.virtual_host)
        for count, host in enumerate(dict.fromkeys(hosts)):
            if count >= docker_labels.MAX_NAMES:
                self._faults.append(
                    (host.source, f"more than {docker_labels.MAX_NAMES} host names")
                )
                break
            if host.fault:
                self._faults.append((f"{host.source}: {_short(host.host)}", host.fault))
            elif host.kind in self._proxies and self._is_near(host.host):
                rule = f"host name of {host.kind}, {host.source}"
                self._claim_exactly(host.host, rule, host.kind)

    def _is_near(self, host: str) -> bool:
        """Return whether a host name is below a suffix of ours, or a `--proxy-domain`.

        Any other may be a public name, which only its owner may answer.
        """
        try:
            name = names.canonical(host)
        except BadName as bad:
            self._faults.append((_short(bad.text), bad.reason))
            return False
        above = names.parents(name)
        policy = self._policy
        return name in policy.proxy_domains or any(
            a in policy.suffixes or a in policy.proxy_domains for a in above
        )

    def _used_proxies(self) -> Mapping[str, Proxy] | None:
        if not self._proxies:
            return None
        kinds = {claim.proxy for claim in self._claims.values() if claim.proxy}
        return {kind: self._proxies[kind] for kind in sorted(kinds)} or None

    def _claim_compose(self) -> None:
        label = self._container.docker_labels.get
        project, service = label(f"{COMPOSE}project"), label(f"{COMPOSE}service")
        if not project or not service:
            return
        self._claim(f"{service}.{project}", Rank.DERIVED, "Compose service")
        number = label(f"{COMPOSE}container-number")
        if number:
            self._claim(f"{number}.{service}.{project}", Rank.DERIVED, "Compose replica")
        self._claim(service, Rank.DERIVED, "Compose service of one project", project=project)

    def _claim_swarm(self) -> None:
        label = self._container.docker_labels.get
        service, task = label(f"{SWARM}service.name"), label(f"{SWARM}task.name")
        if not service:
            return
        self._claim(service, Rank.TASK, "swarm service, by its tasks")
        self._claim(f"tasks.{service}", Rank.DERIVED, "swarm tasks")
        if task and task.startswith(service + "."):
            slot = task[len(service) + 1 :].partition(".")[0]
            self._claim(f"{slot}.{service}", Rank.DERIVED, "swarm task")

    def _claim(
        self, text: str, rank: Rank, rule: str, *, network: str = "", project: str = ""
    ) -> None:
        """Claim a relative name, and its spelling with hyphens; the best rank per owner."""
        owner = self._owner(text, rank)
        if not owner:
            return
        if len(owner) + self._longest_suffix >= names.MAX_NAME - 1:
            self._check_length(owner)
        is_asked_for = rank <= Rank.LABEL
        claim = Claim(owner, rank, rule, self._container.id, network, project, is_asked_for)
        self._keep(claim)
        if "_" in owner:
            spelled = owner.replace("_", "-")
            # A service's virtual address precedes its tasks in this spelling as well.
            weaker = Rank.TASK_HYPHENS if rank is Rank.TASK else Rank.HYPHENS
            self._keep(claim._replace(owner=spelled, rank=weaker, rule=f"{rule}, hyphens"))

    def _check_length(self, owner: str) -> None:
        """Report below which suffixes a relative name is too long; it exists below the others."""
        for suffix in self._policy.suffixes:
            if len(owner) + len(suffix) < names.MAX_NAME - 1:
                continue
            try:
                names.to_wire(names.join(owner, suffix))
            except BadName as bad:
                self._faults.append((f"{_short(owner)} below {suffix}", bad.reason))

    def _claim_exactly(self, text: str, rule: str, proxy: str = "") -> None:
        """Claim an absolute name, of a label or a reverse proxy."""
        owner = self._owner(text, Rank.LABEL, is_absolute=True)
        if owner:
            claim = Claim(owner, Rank.LABEL, rule, self._container.id, is_asked_for=True)
            self._keep(claim._replace(proxy=proxy))

    def _owner(self, text: str, rank: Rank, *, is_absolute: bool = False) -> str:
        """Return the owner to claim for a text; "" if it is invalid, which is reported."""
        try:
            if rank not in (Rank.LABEL, Rank.HOST_NAME):
                owner = _owner_of(text)
            elif is_absolute:
                owner = names.canonical(text)
                _check_claimable(owner, text, is_wildcard=False)
            else:
                may_be_wildcard = rank is Rank.LABEL
                owner = _relative_owner(text, self._policy.suffixes, is_wildcard=may_be_wildcard)
        except BadName as bad:
            self._faults.append((bad.text, bad.reason))
            return ""
        if len(self._claims) >= MAX_CLAIMS:
            self._faults.append((owner, f"more than {MAX_CLAIMS} names"))
            return ""
        return owner

    def _keep(self, claim: Claim) -> None:
        """Keep the best claim of each owner; on networks of one name, one for each."""
        known = self._claims.get((claim.owner, claim.network))
        if known is None or claim.rank < known.rank or (known.project and not claim.project):
            self._claims[claim.owner, claim.network] = claim

    def _fill(self, template: str) -> str:
        """Fill in a name template; return "" if the container lacks a value."""
        label = self._container.docker_labels.get
        values = {
            "name": self._container.container_name,
            "id": self._container.id[:12],
            "hostname": self._container.hostname,
            "service": label(f"{COMPOSE}service") or label(f"{SWARM}service.name") or "",
            "project": label(f"{COMPOSE}project") or label("com.docker.stack.namespace") or "",
            "number": label(f"{COMPOSE}container-number") or "",
        }
        filled = []
        for literal, field in re.findall(r"([^{]*)(?:\{([^{}]*)\}|$)", template):
            is_label = field.startswith("label:")
            value = label(field[6:], "") if is_label else values.get(field, "")
            if field and not value:
                return ""
            filled.append(literal + value)
        return "".join(filled)

    # -- labels --------------------------------------------------------------

    def _read_labels(self) -> dict[str, Any]:
        """Parse the known labels, and report unknown ones, which may be misspelt."""
        prefix, unknown, read = f"{self._policy.label_prefix}.", [], {}
        for number, (key, text) in enumerate(self._labels.items()):
            if number == docker_labels.MAX_LABELS:
                count = len(self._labels) - number
                self._faults.append(
                    (f"{prefix}*", f"only {number} labels are read: {count} left out")
                )
                break
            if len(text) > docker_labels.MAX_VALUE:
                self._fault(key, f"longer than {docker_labels.MAX_VALUE} characters")
                continue
            label = docker_labels.find(key)
            if self._is_one_off and not (label and label.holds_for_one_offs):
                continue
            if label is not None:
                value = label.read(text, partial(self._fault, key))
                if value is not None:
                    read[key] = value
            elif not any(f"{{label:{prefix}{key}}}" in t for t in self._policy.name_templates):
                unknown.append(key)
        for key in unknown[:MAX_UNKNOWN_LABELS]:
            near = docker_labels.nearest(key)
            perhaps = f", perhaps {prefix}{near}" if near else ""
            self._fault(key, f"unknown label{perhaps}")
        if len(unknown) > MAX_UNKNOWN_LABELS:
            count = len(unknown) - MAX_UNKNOWN_LABELS
            self._faults.append((f"{prefix}*", f"{count} more unknown labels"))
        return read

    def _value(self, label: DockerLabel[T], default: T) -> T:
        """Return the value of a label; the default if it is absent or invalid."""
        value: T = self._values.get(label.key, default)
        return value

    def _family(self, label: DockerLabel[T]) -> Iterator[tuple[str, str, T]]:
        """Yield the labels of a family: key, relative name before NAME, value."""
        for key, value in self._values.items():
            if label.beginning and key.startswith(label.beginning):
                before = self._before_name(key, key.removeprefix(label.beginning))
                if before is not None:
                    yield key, before, value

    def _cname(self) -> str:
        target = self._value(docker_labels.CNAME, "")
        if target and target in self._own_names():
            self._fault("cname", "the target is a name of the container itself")
        return target

    def _own_names(self) -> set[str]:
        """Return the absolute names of the claims so far."""
        owners = {claim.owner for claim in self._claims.values()}
        relative = {owner for owner in owners if not owner.endswith(".")}
        bare = {owner + "." for owner in relative if names.is_single_label(owner)}
        below = {names.join(o, suffix) for o in relative for suffix in self._policy.suffixes}
        return (owners - relative) | bare | below

    def _texts(self) -> dict[str, tuple[str, ...]]:
        text = self._value(docker_labels.TXT, "")
        texts: dict[str, tuple[str, ...]] = {"": (text,)} if text else {}
        for key, before, text in self._family(docker_labels.TXT_KEY):
            if len(texts) < docker_labels.MAX_NAMES:
                texts[before] = (text,)
            else:
                self._fault(key, f"more than {docker_labels.MAX_NAMES} texts")
        return texts

    def services(self) -> dict[str, tuple[int, ...]] | None:
        """Return SRV ports by owner prefix: exposed (in host mode: published), and from labels."""
        if self._value(docker_labels.CNAME, ""):
            return None
        services: dict[str, list[int]] = {}
        for port in self._container.ports[:MAX_SERVICES]:
            number = _reachable_host_port(port) if self._policy.host_mode else port.port
            if 0 < number <= MAX_PORT and port.protocol in PROTOCOLS:
                services.setdefault(f"_{port.port}._{port.protocol}", []).append(number)
        for key, before, number in self._family(docker_labels.SRV) if self._values else ():
            if len(services) >= 2 * MAX_SERVICES:
                self._fault(key, f"more than {MAX_SERVICES} services")
                continue
            shown = self._host_port(number) if self._policy.host_mode else number
            services.setdefault(before, []).extend([shown] if shown else [])
        found = ((b, tuple(dict.fromkeys(ports))) for b, ports in services.items() if ports)
        return _shared_services(tuple(found)) or None

    def _host_port(self, port: int) -> int:
        """Return the published port in host mode, else the port; 0 if on loopback only."""
        published = [p for p in self._container.ports if p.port == port and p.host_port]
        reachable = (found for p in published if (found := _reachable_host_port(p)) > 0)
        return next(reachable, 0 if published else port)

    def _before_name(self, label: str, text: str) -> str | None:
        try:
            before = names.relative(text)
        except BadName as bad:
            self._fault(label, bad.reason)
            return None
        if "*" in before:
            self._fault(label, "an asterisk is not a key; see the label wildcard")
            return None
        return before

    def _shown_faults(self) -> tuple[tuple[str, str], ...]:
        """Return what is wrong; of very much the first, and how much more there is."""
        more = len(self._faults) - MAX_FAULTS
        shown = tuple(self._faults[:MAX_FAULTS])
        prefix = self._policy.label_prefix
        return (*shown, (f"{prefix}.*", f"{more} more faults")) if more > 0 else shown

    def _fault(self, key: str, reason: str, shown: str | None = None) -> None:
        text = self._labels[key] if shown is None else shown
        label = f"{self._policy.label_prefix}.{_short(key)}={_short(text)}"
        self._faults.append((label, reason))


@lru_cache(maxsize=1024)  # the containers of an image share them
def _shared_services(
    services: tuple[tuple[str, tuple[int, ...]], ...],
) -> dict[str, tuple[int, ...]]:
    """Return services by the relative names before NAME; nothing changes them."""
    return dict(services)


def _has_address(service: Container) -> bool:
    """Return whether a swarm service has a virtual address that may be published."""
    return any(a.addresses for a in service.attachments if a.network not in UNPUBLISHED_NETWORKS)


def _short(text: str) -> str:
    return text if len(text) <= 64 else text[:61] + "..."


def _is_one_off(container: Container) -> bool:
    """Return whether a container is from `docker compose run`, which copies all labels."""
    return container.docker_labels.get(f"{COMPOSE}oneoff", "").lower() == "true"


def projects_of(container: Container) -> list[str]:
    """Return the Compose project and the stack of a container; usually one is empty."""
    labels = (f"{COMPOSE}project", "com.docker.stack.namespace")
    return [p for label in labels if (p := container.docker_labels.get(label))]


def _reachable_host_port(port: PortBinding) -> int:
    """Return the port published for others than the host itself; 0 if it is not."""
    try:
        is_loopback = bool(port.host_address) and ip_address(port.host_address).is_loopback
    except ValueError:
        is_loopback = False
    return 0 if is_loopback else port.host_port


def published_addresses(container: Container, ports: Collection[int]) -> tuple[str, ...]:
    """Return the host addresses where one of a container's ports is published as port 53.

    Args:
        container: A running container.
        ports: Ports inside the container.

    Returns:
        Canonical texts, without loopback; "" stands for all addresses of the host.
    """
    found = (
        p.host_address
        for p in container.ports
        if p.port in ports and p.host_port == DNS_PORT and _reachable_host_port(p)
    )
    return tuple(dict.fromkeys("" if text in WILDCARDS else text for text in found))


@lru_cache(maxsize=1024)  # a redeploy claims the same names several times
def _owner_of(text: str) -> str:
    """Return the owner in a name from Docker or Compose, which is not changed: "web." is not "web".

    Raises:
        BadName: It cannot be claimed.
    """
    if text.endswith("."):
        raise BadName(text, "ends in a dot")
    owner = names.relative(text)
    _check_claimable(owner, text, is_wildcard=False)
    return owner


@lru_cache(maxsize=1024)
def _relative_owner(text: str, suffixes: tuple[str, ...], *, is_wildcard: bool) -> str:
    """Return the owner in a name of a label or a host name, which may end in one of our suffixes.

    Raises:
        BadName: It cannot be claimed.
    """
    owner = names.relative(text)
    above = names.parents(owner + ".")[:-1]
    if suffix := next((a for a in above if a in suffixes), ""):
        owner = names.strip_suffix(owner + ".", suffix)
    _check_claimable(owner, text, is_wildcard=is_wildcard)
    return owner


def _check_claimable(owner: str, text: str, *, is_wildcard: bool) -> None:
    """Reject owners that would affect other containers' names, or that are never queried.

    Args:
        owner: Canonical.
        text: As written.
        is_wildcard: The whole first label may be an asterisk.
    """
    if owner == names.ROOT:
        raise BadName(text, "the root cannot be claimed")
    if text.split() != [text]:
        raise BadName(text, "a space in the name; separate names with commas")
    if fault := docker_labels.spelling_fault(text):
        raise BadName(text, fault)
    if owner == "*" or (owner.startswith("*.") and not is_wildcard):
        raise BadName(text, "a wildcard that could cover other containers' names")
    if "*" in owner.removeprefix("*."):
        raise BadName(text, "an asterisk inside a name")
    if owner.endswith(".") and names.is_below(owner, LOOPBACK_NAME):
        raise BadName(text, "localhost and names below it are always loopback")

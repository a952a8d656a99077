"""Publications of other hosts: as documents in etcd, and where their addresses are reachable.

A host writes what its own Engines publish, names with their ranks and rules, under the rules
that its own operator chose.  The reader decides which of the addresses are reachable
from outside that host.  A document has no environment and no labels.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple, Self

from containerdns.core import names
from containerdns.core.endpoints import MAX_PORT, IPAddress, IPNetwork
from containerdns.core.zone.containers import Network
from containerdns.core.zone.journal import is_newer
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress
from containerdns.errors import BadDocument, BadName

VERSION: Final = 1
UNREADABLE: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError, BadName)
ENGINE_PREFIX: Final = "fleet:"  # of the engine of a remote publication
PLAIN_NAME: Final = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
MAX_PLAIN: Final = 200  # characters of a name that is certainly short enough
OCTETS: Final = frozenset(map(str, range(256)))
BEHIND_OWN: Final = 1000  # added to the preference of remote addresses: own replicas come first


@dataclass(frozen=True, slots=True)
class Host:
    """What a host says of itself.

    Attributes:
        name: As `--fleet-host` has it.
        addresses: Where others reach the host, and the published ports of its containers.
        subnets: Of the bridges of its Engines, "172.17.0.0/16": other hosts may have the same.
        instance: Of the process that writes; another one is another server of the same name.
        overlays: The subnets of its overlay networks, which span hosts.
        engines: Numbers of its Engines, "1" and on, as their containers have them.
        lost: Those that have not answered for `--engine-grace` seconds.
    """

    name: str
    addresses: tuple[str, ...]
    subnets: tuple[str, ...]
    instance: str = ""
    overlays: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def is_lost(self) -> bool:
        """Whether all its Engines are lost."""
        return bool(self.engines) and set(self.lost) >= set(self.engines)

    def document(self) -> dict[str, Any]:
        """The same as a document."""
        return {
            "version": VERSION,
            "addresses": list(self.addresses),
            "subnets": list(self.subnets),
            "instance": self.instance,
            "overlays": list(self.overlays),
            "engines": list(self.engines),
            "lost": list(self.lost),
        }


def host_of(name: str, document: object) -> Host:
    """Read what a host says of itself.

    Raises:
        BadDocument: It is of another version, or cannot be read.
    """
    fields = _fields_of(name, document)
    try:
        return Host(
            name,
            tuple(str(ip_address(text)) for text in fields["addresses"]),
            tuple(str(ip_network(text)) for text in fields["subnets"]),
            str(fields["instance"]),
            tuple(str(ip_network(text)) for text in fields["overlays"]),
            tuple(str(number) for number in fields["engines"]),
            tuple(str(number) for number in fields["lost"]),
        )
    except UNREADABLE as error:
        raise BadDocument(name, f"its host document ({error})") from error


def subnets_of(networks: Iterable[Network], driver: str) -> tuple[str, ...]:
    """Return the subnets of the networks of a driver, sorted.

    Those of bridges are reachable on their host alone.
    """
    return tuple(sorted({s for n in networks if n.driver == driver for s in n.subnets}))


def engine_of(host: str, number: str) -> str:
    """Return what stands for an Engine of another host where own ones have their URL."""
    return f"{ENGINE_PREFIX}{host}/{number}"


def host_in(text: str) -> str:
    """Return the host of an Engine or a publication of another host; "" for own ones."""
    if not text.startswith(ENGINE_PREFIX):
        return ""
    return text.removeprefix(ENGINE_PREFIX).partition("/")[0]


def engines_of(hosts: Iterable[Host]) -> frozenset[str]:
    """Return the Engines of some hosts."""
    return frozenset(engine_of(host.name, number) for host in hosts for number in host.engines)


def lost_engines_of(hosts: Iterable[Host]) -> frozenset[str]:
    """Return the lost Engines of some hosts."""
    return frozenset(engine_of(host.name, number) for host in hosts for number in host.lost)


def document_of(
    publication: Publication,
    published: Mapping[str, tuple[int, ...]] | None,
    engine: str = "1",
) -> dict[str, Any]:
    """Return the document of a publication.

    Host names of reverse proxies are left out: the address they lead to is the proxy's.

    Args:
        publication: Of an own container, with its host's names.
        published: Its published ports, by the relative name of their SRV records; None if
            there are none.
        engine: The number of its Engine on its host.
    """
    claims = [c for c in publication.claims if not c.proxy]
    return {
        "version": VERSION,
        "name": publication.container_name,
        "engine": engine,
        "running": publication.is_running,
        "healthy": publication.is_healthy,
        "ttl": publication.ttl,
        "claims": [[c.owner, c.rank, c.rule, c.network, c.project] for c in claims],
        "asked_for": [c.owner for c in claims if c.is_asked_for],
        "addresses": [[a.text, a.network, a.network_id] for a in publication.addresses],
        "on_host": publication.on_host,
        "cname": publication.cname,
        "texts": {k: list(v) for k, v in (publication.texts or {}).items()},
        "services": {k: list(v) for k, v in (publication.services or {}).items()},
        "published": {k: list(v) for k, v in (published or {}).items()},
        "wildcard": publication.is_wildcard,
        "pointers": list(publication.pointers),
        "skipped": publication.skipped,
        "project": publication.project,
    }


@dataclass(frozen=True, slots=True)
class Remote:
    """A publication of another host, as it was written.

    Attributes:
        publication: With all its addresses.
        published: Its published ports, as for `document_of`.
    """

    publication: Publication
    published: Mapping[str, tuple[int, ...]]


def remote_of(host: str, container_id: str, document: object) -> Remote:
    """Read the document of a publication.

    Raises:
        BadDocument: It is of another version, or cannot be read.
    """
    fields = _fields_of(container_id, document)
    publication_id = f"{ENGINE_PREFIX}{host}/{container_id}"
    try:
        asked_for = frozenset(fields["asked_for"])
        publication = Publication(
            id=publication_id,
            container_name=str(fields["name"]),
            engine=engine_of(host, str(fields["engine"])),
            is_running=bool(fields["running"]),
            is_healthy=bool(fields["healthy"]),
            ttl=min(max(int(fields["ttl"]), 0), 3600),
            claims=tuple(
                Claim(
                    _name_of(owner),
                    int(rank),
                    str(rule),
                    publication_id,
                    network=str(network),
                    project=str(project),
                    is_asked_for=owner in asked_for,
                )
                for owner, rank, rule, network, project in fields["claims"]
            ),
            addresses=tuple(
                PublishedAddress(_canonical(text), str(network), str(network_id), BEHIND_OWN)
                for text, network, network_id in fields["addresses"]
            ),
            on_host=bool(fields["on_host"]),
            cname=_name_of(fields["cname"]) if fields["cname"] else "",
            texts={_before(k): tuple(map(str, v)) for k, v in fields["texts"].items()} or None,
            services=_ports(fields["services"]) or None,
            is_wildcard=bool(fields["wildcard"]),
            pointers=tuple(_canonical(text) for text in fields["pointers"]),
            skipped=str(fields["skipped"]),
            project=str(fields["project"]),
        )
        return Remote(publication, _ports(fields["published"]))
    except UNREADABLE as error:
        raise BadDocument(container_id, f"its fleet document ({error!r})") from error


def _ports(table: Mapping[str, Iterable[int]]) -> dict[str, tuple[int, ...]]:
    found = {_before(key): tuple(int(port) for port in ports) for key, ports in table.items()}
    if not all(0 <= port <= MAX_PORT for ports in found.values() for port in ports):
        raise ValueError("a port out of range")
    return found


def _name_of(text: object) -> str:
    """Read a relative or absolute name, which others have made canonical."""
    name = str(text)
    if len(name) <= MAX_PLAIN and PLAIN_NAME.fullmatch(name):  # nearly always
        return name
    names.to_wire(name if name.endswith(".") else name + ".")
    if name != name.lower():
        raise ValueError(name)
    return name


def _before(text: object) -> str:
    """Read a relative name before another one; "" for none."""
    return _name_of(text) if text else ""


def _fields_of(document_id: str, document: object) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise BadDocument(document_id, "its fleet document, which is not an object")
    if document.get("version") != VERSION:
        raise BadDocument(document_id, f"version {document.get('version')!r} of a fleet document")
    return document


Change = tuple[str, Publication | None]  # an id of the zone, and what it publishes now


class Placement:
    """Hosts of a fleet and what they publish, each container placed by its host's rules.

    What is placed follows from the documents alone, not from the order in which they came.

    Attributes:
        hosts: By name.
    """

    def __init__(self, mode: str, own: Host | None = None) -> None:
        """Begin without hosts.

        Args:
            mode: As for `placed`.
            own: A host that is not among them; its bridges are looked at as well.
        """
        self.hosts: dict[str, Host] = {}
        self._mode = mode
        self._own = own
        self._remotes: dict[str, dict[str, Remote]] = {}
        self._shared: tuple[str, ...] = ()
        if own is not None:
            self._shared = shared_subnets((own,))

    def containers(self) -> Iterator[tuple[str, str]]:
        """Yield host and id of each container, also of hosts that have no document."""
        for host, remotes in self._remotes.items():
            yield from ((host, container_id) for container_id in remotes)

    def has_host(self, name: str) -> bool:
        """Return whether there is a host of a name."""
        return name in self.hosts

    def set_own(self, own: Host) -> list[Change]:
        """Replace the host that is not among them."""
        self._own = own
        return self._place(())

    def set_hosts(self, hosts: Iterable[Host]) -> list[Change]:
        """Add or replace hosts; many at once cost little more than one."""
        changed = [host for host in hosts if self.hosts.get(host.name) != host]
        self.hosts.update((host.name, host) for host in changed)
        return self._place([host.name for host in changed]) if changed else []

    def remove_host(self, name: str) -> list[Change]:
        """Remove a host; its containers stay unpublished until they are removed, or it is back."""
        if self.hosts.pop(name, None) is None:
            return []
        gone = self._remotes.get(name, {})  # kept, for when the host comes back
        return [(r.publication.id, None) for r in gone.values()] + self._place(())

    def set(self, host: str, container_id: str, remote: Remote) -> list[Change]:
        """Add or replace a container."""
        remotes = self._remotes.setdefault(host, {})
        if remotes.get(container_id) == remote:
            return []
        remotes[container_id] = remote
        return [self._placed(host, remote)] if host in self.hosts else []

    def remove(self, host: str, container_id: str) -> list[Change]:
        """Remove a container."""
        remote = self._remotes.get(host, {}).pop(container_id, None)
        return [(remote.publication.id, None)] if remote is not None else []

    def _placed(self, host: str, remote: Remote) -> Change:
        publication = placed(remote, self.hosts[host], self._shared, self._mode)
        return publication.id, publication

    def _place(self, changed: Iterable[str]) -> list[Change]:
        """Decide again which addresses are reachable, after a change of hosts or subnets."""
        own = (self._own,) if self._own is not None else ()
        shared = shared_subnets((*own, *self.hosts.values()))
        hosts = list(changed) if shared == self._shared else list(self.hosts)
        self._shared = shared
        return [
            self._placed(host, remote)
            for host in hosts
            for remote in self._remotes.get(host, {}).values()
        ]


class Together(NamedTuple):
    """What all hosts of a fleet are together.

    Attributes:
        addresses: At which their servers answer, sorted.
        networks: Their bridge and overlay networks, whose reverse zones are ours.
        lost: The lost Engines of hosts.
    """

    addresses: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()
    lost: frozenset[str] = frozenset()

    @classmethod
    def of(cls, hosts: Iterable[Host]) -> Self:
        """Put hosts together."""
        known = list(hosts)
        subnets = {text for host in known for text in (*host.subnets, *host.overlays)}
        networks = (Network("", "", "", "bridge", (text,)) for text in sorted(subnets))
        addresses = {address for host in known for address in host.addresses}
        return cls(tuple(sorted(addresses)), tuple(networks), lost_engines_of(known))


class Step(NamedTuple):
    """One revision of the fleet's zone, which every server gives alike.

    Attributes:
        serial: As for `serial_at`.
        changes: Of publications since the step before, in their order.
        together: All hosts.
    """

    serial: int
    changes: tuple[Change, ...]
    together: Together


def serial_at(base: int, revision: int) -> int:
    """Return the serial of a revision, 1 to 2**32 - 1."""
    return (base + revision) % 2**32 or 1


def base_for(last: int, now: float, revision: int) -> int:
    """Return a base so that the serials after a revision follow the last one, and the clock.

    Args:
        last: The serial that was in use last; 0 if there was none.
        now: Seconds since the epoch.
        revision: The present one.
    """
    clock = int(now) % 2**32
    serial = clock if not last or is_newer(clock, last) else last + 1
    return (serial - revision) % 2**32


def base_document(base: int) -> dict[str, Any]:
    """Return the document of a base."""
    return {"version": VERSION, "base": base}


def base_of(document: object) -> int:
    """Read the document of a base.

    Raises:
        BadDocument: It is of another version, or cannot be read.
    """
    try:
        return int(_fields_of("serial", document)["base"]) % 2**32
    except UNREADABLE as error:
        raise BadDocument("serial", f"its document ({error!r})") from error


def shared_subnets(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Return the bridge subnets that overlap with one of another host; reachable from neither."""
    owners: dict[str, set[str]] = {}  # by subnet
    for host in hosts:
        for text in host.subnets:
            owners.setdefault(text, set()).add(host.name)
    ordered = sorted((_range_of(text), text) for text in owners)
    shared = {text for text, having in owners.items() if len(having) > 1}
    around: list[tuple[tuple[int, int, int], str]] = []  # that contain the one before
    for (version, first, last), text in ordered:
        around = [(r, t) for r, t in around if r[0] == version and r[2] >= first]
        for _, outer in around:
            if len(owners[text] | owners[outer]) > 1:
                shared |= {text, outer}
        around.append(((version, first, last), text))
    return tuple(sorted(shared))


def _range_of(subnet: str) -> tuple[int, int, int]:
    """Return version, first and last address of a subnet."""
    network = ip_network(subnet)
    return network.version, int(network.network_address), int(network.broadcast_address)


def placed(remote: Remote, host: Host, shared: Iterable[str], mode: str) -> Publication:
    """Decide how a publication of another host is published here.

    Args:
        remote: As it was written.
        host: Whose it is.
        shared: `shared_subnets` of all hosts.
        mode: "container": its own addresses; "host": the host's address and published ports;
            "auto": its own as far as no other host has the same subnet, else the host's.
    """
    publication = remote.publication
    if publication.cname or not publication.is_running:
        return publication
    if publication.on_host:
        return _on_host(publication, host, publication.services)
    if mode == "container":
        return publication
    networks = _networks(tuple(shared))
    if mode == "auto" and not networks:
        return publication
    kept = tuple(
        a for a in publication.addresses if not (a.network_id and _is_within(a.text, networks))
    )
    if mode == "auto" and len(kept) == len(publication.addresses):
        return publication
    if mode == "auto" and kept:
        texts = {a.text for a in kept}
        pointers = tuple(p for p in publication.pointers if p in texts)
        return replace(publication, addresses=kept, pointers=pointers)
    if remote.published:
        return _on_host(publication, host, remote.published)
    where = "its subnet is another host's, too" if mode == "auto" else "--fleet-publish host"
    reason = f"{where}, and it publishes no port on its host {host.name}"
    return replace(publication, is_running=False, addresses=(), pointers=(), skipped=reason)


def _on_host(
    publication: Publication, host: Host, services: Mapping[str, tuple[int, ...]] | None
) -> Publication:
    addresses = tuple(PublishedAddress(text, "", "", BEHIND_OWN) for text in host.addresses)
    claims = tuple(claim._replace(network="") for claim in publication.claims)
    return replace(
        publication,
        claims=tuple(dict.fromkeys(claims)),
        addresses=addresses,
        on_host=False,
        services=services or None,
        pointers=(),
    )


@lru_cache(maxsize=8)
def _networks(subnets: tuple[str, ...]) -> tuple[IPNetwork, ...]:
    return tuple(map(ip_network, subnets))


@lru_cache(maxsize=1024)  # addresses of a container come several times in a row
def _parsed(text: str) -> IPAddress:
    return ip_address(text)


def _canonical(text: object) -> str:
    """Return an address as canonical text."""
    if not isinstance(text, str):
        raise TypeError(text)
    octets = text.split(".")
    if len(octets) == 4 and OCTETS.issuperset(octets):  # nearly always
        return text
    return str(_parsed(text))


def _is_within(text: str, networks: Iterable[Any]) -> bool:
    if not networks:
        return False
    address = _parsed(text)
    return any(address.version == n.version and address in n for n in networks)

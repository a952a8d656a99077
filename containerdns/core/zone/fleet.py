"""Publications of other hosts: as documents in etcd, and where their addresses are reachable.

A host writes what its own Engines publish, names with their ranks and rules, under the rules
that its own operator chose.  The reader decides which of the addresses are reachable
from outside that host.  A document has no environment and no labels.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any, Final

from containerdns.core.zone.containers import Network
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress
from containerdns.errors import BadDocument

VERSION: Final = 1
ENGINE_PREFIX: Final = "fleet:"  # of the engine of a remote publication
BEHIND_OWN: Final = 1000  # added to the preference of remote addresses: own replicas come first


@dataclass(frozen=True, slots=True)
class Host:
    """What a host says of itself.

    Attributes:
        name: As `--fleet-host` has it.
        addresses: Where others reach the host, and the published ports of its containers.
        subnets: Of the bridges of its Engines, "172.17.0.0/16": other hosts may have the same.
        instance: Of the process that writes; another one is another server of the same name.
    """

    name: str
    addresses: tuple[str, ...]
    subnets: tuple[str, ...]
    instance: str = ""

    def document(self) -> dict[str, Any]:
        """The same as a document."""
        return {
            "version": VERSION,
            "addresses": list(self.addresses),
            "subnets": list(self.subnets),
            "instance": self.instance,
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
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadDocument(name, f"its host document ({error})") from error


def bridges(networks: Iterable[Network]) -> tuple[str, ...]:
    """Return the subnets of bridges, sorted: those that are reachable on their host alone."""
    return tuple(sorted({s for n in networks if n.driver == "bridge" for s in n.subnets}))


def document_of(
    publication: Publication, published: Mapping[str, tuple[int, ...]] | None
) -> dict[str, Any]:
    """Make the document of a publication.

    Host names of reverse proxies are left out: the address they lead to is the proxy's.

    Args:
        publication: Of an own container, with its host's names.
        published: Its published ports, by the relative name of their SRV records; None if
            there are none.
    """
    claims = [c for c in publication.claims if not c.proxy]
    return {
        "version": VERSION,
        "name": publication.container_name,
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
            engine=ENGINE_PREFIX + host,
            is_running=bool(fields["running"]),
            is_healthy=bool(fields["healthy"]),
            ttl=min(max(int(fields["ttl"]), 0), 3600),
            claims=tuple(
                Claim(
                    str(owner),
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
                PublishedAddress(str(ip_address(text)), str(network), str(network_id), BEHIND_OWN)
                for text, network, network_id in fields["addresses"]
            ),
            on_host=bool(fields["on_host"]),
            cname=str(fields["cname"]),
            texts={str(k): tuple(map(str, v)) for k, v in fields["texts"].items()} or None,
            services=_ports(fields["services"]) or None,
            is_wildcard=bool(fields["wildcard"]),
            pointers=tuple(str(ip_address(text)) for text in fields["pointers"]),
            skipped=str(fields["skipped"]),
            project=str(fields["project"]),
        )
        return Remote(publication, _ports(fields["published"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadDocument(container_id, f"its fleet document ({error!r})") from error


def _ports(table: Mapping[str, Iterable[int]]) -> dict[str, tuple[int, ...]]:
    return {str(key): tuple(int(port) for port in ports) for key, ports in table.items()}


def _fields_of(document_id: str, document: object) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise BadDocument(document_id, "its fleet document, which is no object")
    if document.get("version") != VERSION:
        raise BadDocument(document_id, f"version {document.get('version')!r} of a fleet document")
    return document


def shared_subnets(hosts: Iterable[Host]) -> tuple[str, ...]:
    """Return the bridge subnets that overlap with one of another host; reachable from neither."""
    everything = [(host.name, ip_network(text)) for host in hosts for text in host.subnets]
    return tuple(
        sorted(
            {
                str(subnet)
                for name, subnet in everything
                for other, its in everything
                if other != name and its.version == subnet.version and its.overlaps(subnet)
            }
        )
    )


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
    networks = [ip_network(text) for text in shared]
    kept = tuple(a for a in publication.addresses if not _is_within(a.text, networks))
    if mode == "auto" and (kept or not publication.addresses):
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


def _is_within(text: str, networks: Iterable[Any]) -> bool:
    address = ip_address(text)
    return any(address.version == n.version and address in n for n in networks)

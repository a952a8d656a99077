"""Conversion of an Engine's documents to values.

The documents are those of the Docker Engine API from 1.41 on: ContainerInspect,
ContainerList, NetworkList.  Only fields that both old and new Engines have are used
(`Networks`, never the top-level `IPAddress`).  An invalid document raises `BadDocument` for
that object.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network
from typing import Any

from containerdns.core.values import with_fields
from containerdns.core.zone.proxy_labels import VIRTUAL_HOST
from containerdns.errors import BadDocument

BRIDGE = "bridge"  # the driver whose gateway is the host
RUNNING_STATES = ("running", "paused")
OWN_DRIVERS = frozenset({BRIDGE, "overlay"})  # drivers whose subnets belong to Docker alone
IPV4_BITS = 32
SHORT_ID_DIGITS = 12  # digits of a container id, as shown by Docker

_ID = re.compile("[0-9a-f]{12}|[0-9a-f]{64}")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")  # canonical; ipaddress takes 20 times as long


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's attachment to a network.

    Attributes:
        network: The network's name.
        network_id: The network's id, which is unique across Engines.
        addresses: IPv4 and IPv6 addresses as canonical text, IPv4 first; may be empty.
        subnets: The subnets of those addresses, such as "172.18.0.0/16", as in the document.
        gateways: The network's gateways as canonical text.
        aliases: As configured; without ids, which Engines and tools add.
    """

    network: str
    network_id: str
    addresses: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PortBinding:
    """An exposed port, and where it is published, if at all.

    Attributes:
        port: The container's port.
        protocol: "tcp", "udp" or "sctp".
        host_port: The published port on the host; 0 if it is not published.
        host_address: The address that it is published on; "" or "0.0.0.0" for all.
    """

    port: int
    protocol: str
    host_port: int = 0
    host_address: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A container, or a swarm service treated as one.

    Attributes:
        id: 64 hexadecimal digits; for a swarm service, "service:" and its id.
        container_name: Without its slash.
        engine: The URL of its Engine.
        state: "created", "running", "paused", "restarting", "exited", "dead", "removing".
        health: "", "starting", "healthy" or "unhealthy".
        hostname: If set explicitly, else "" (not the id, nor a copy due to the network mode).
        domainname: As set; usually "".
        network_mode: "bridge", "host", "none", "container:ID", or a network's name.
        attachments: One per network, sorted by network name.
        docker_labels: All of them.
        ports: Exposed and published ports.
        started_at: When it was started last, seconds since the epoch; 0 if not known.
        finished_at: When it stopped last; 0 if it never did, or that is not known.
        exit_status: What it exited with then; None if it never did, or that is not known.
        restart_policy: "always", "on-failure" or "unless-stopped"; "" if it has none.
        virtual_host: The variable VIRTUAL_HOST, which nginx-proxy reads; "" without one.
        has_ipv6: A sysctl does not switch IPv6 off in it, whatever addresses Docker shows.
    """

    id: str
    container_name: str
    engine: str
    state: str
    health: str = ""
    hostname: str = ""
    domainname: str = ""
    network_mode: str = "bridge"
    attachments: tuple[Attachment, ...] = ()
    docker_labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortBinding, ...] = ()
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_status: int | None = None
    restart_policy: str = ""
    virtual_host: str = ""
    has_ipv6: bool = True

    @property
    def is_running(self) -> bool:
        """Whether it is running or paused: until `die`, and not while waiting to be restarted."""
        return self.state in RUNNING_STATES


@dataclass(frozen=True, slots=True)
class Network:
    """A network of an Engine.

    Attributes:
        id: Its id.
        name: Its name.
        engine: The URL of its Engine.
        driver: "bridge", "overlay", "macvlan", "ipvlan", "host", "null", ...
        subnets: "172.18.0.0/16", IPv4 and IPv6, as configured.
        gateways: Its gateways as canonical text.
    """

    id: str
    name: str
    engine: str
    driver: str
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()


def container_from_inspect(document: object, engine: str) -> Container:
    """Convert a ContainerInspect document, which has everything about a container.

    Raises:
        BadDocument: A field has another shape than the Engine API says.
    """
    document, container_id = _identified(document)
    state = _mapping(document, "State", container_id)
    config = _mapping(document, "Config", container_id)
    host_config = _mapping(document, "HostConfig", container_id)
    settings = _mapping(document, "NetworkSettings", container_id)
    network_mode = _network_mode(host_config, container_id)
    hostname = _text(config, "Hostname", container_id)
    if (
        _ID.fullmatch(hostname)  # or another's, copied by a tool that recreated the container
        or network_mode == "host"
        or network_mode.startswith("container:")
        or host_config.get("UTSMode") == "host"
    ):
        hostname = ""  # not set explicitly: the id, the machine's name, or another container's
    container_name = _text(document, "Name", container_id).removeprefix("/")
    if not container_name:
        raise BadDocument(container_id, "Name")
    health = _text(_mapping(state, "Health", container_id), "Status", container_id)
    finished_at = _moment(state, "FinishedAt", container_id)
    return Container(
        id=container_id,
        container_name=container_name,
        engine=engine,
        state=sys.intern(_required(state, "Status", container_id)),
        health="" if health == "none" else health,
        hostname=sys.intern(hostname),
        domainname=sys.intern(_text(config, "Domainname", container_id)),
        network_mode=network_mode,
        attachments=_attachments(settings, container_id),
        docker_labels=_docker_labels(config, container_id),
        ports=_ports_of_inspect(settings, config, container_id),
        started_at=_moment(state, "StartedAt", container_id),
        finished_at=finished_at,
        exit_status=_exit_status(state) if finished_at else None,
        restart_policy=_restart_policy(host_config),
        virtual_host=_variable(config, VIRTUAL_HOST),
        has_ipv6=not _is_ipv6_off(_mapping(host_config, "Sysctls", container_id)),
    )


def container_from_list(document: object, engine: str) -> Container:
    """Convert a ContainerList item, which lacks aliases and host names.

    Raises:
        BadDocument: A field has another shape than the Engine API says.
    """
    document, container_id = _identified(document)
    names = document.get("Names")
    if not isinstance(names, list):
        raise BadDocument(container_id, "Names")
    own = [name for name in names if isinstance(name, str) and name.count("/") <= 1]
    container_name = own[0].removeprefix("/") if own else ""  # "/web/db" belongs to a link
    if not container_name:
        raise BadDocument(container_id, "Names")
    return Container(
        id=container_id,
        container_name=container_name,
        engine=engine,
        state=sys.intern(_required(document, "State", container_id)),
        health=_health_of_list(document),
        network_mode=_network_mode(_mapping(document, "HostConfig", container_id), container_id),
        attachments=_attachments(_mapping(document, "NetworkSettings", container_id), container_id),
        docker_labels=_docker_labels(document, container_id),
        ports=_ports_of_list(document),
    )


def with_details_of(listed: Container, known: Container) -> Container:
    """Complete a container from a list with what only its earlier inspect had."""
    aliases = {attachment.network: attachment.aliases for attachment in known.attachments}
    return with_fields(
        listed,
        hostname=known.hostname,
        started_at=known.started_at,
        finished_at=known.finished_at,
        exit_status=known.exit_status,
        restart_policy=known.restart_policy,
        virtual_host=known.virtual_host,
        has_ipv6=known.has_ipv6,
        domainname=known.domainname,
        attachments=tuple(
            with_fields(attachment, aliases=aliases.get(attachment.network, ()))
            for attachment in listed.attachments
        ),
    )


def stopped(
    container: Container,
    finished_at: float | None,
    exit_status: int | None = None,
    **fields: Any,
) -> Container:
    """Return a container as it is after its `die`, with what is known of that.

    Args:
        container: Before it.
        finished_at: When it stopped; None if that is unknown.
        exit_status: The same for its exit status.
        fields: Others that change.
    """
    ended = {"state": "exited", "finished_at": finished_at or 0.0, "exit_status": exit_status}
    return with_fields(container, **ended, **fields)


def network_from_document(document: object, engine: str) -> Network:
    """Convert a NetworkList item.

    Raises:
        BadDocument: A field has another shape than the Engine API says.
    """
    document, network_id = _identified(document)
    pools = _mapping(document, "IPAM", network_id).get("Config") or ()
    if not isinstance(pools, (list, tuple)):
        raise BadDocument(network_id, "IPAM")
    subnets, gateways = [], []
    for pool in pools:
        if not isinstance(pool, dict):
            raise BadDocument(network_id, "IPAM")
        if subnet := _text(pool, "Subnet", network_id):
            subnets.append(_read(_subnet, subnet, network_id, "Subnet"))
        if gateway := _text(pool, "Gateway", network_id):
            gateways.append(_read(_interface_address, gateway, network_id, "Gateway"))
    return Network(
        id=network_id,
        name=_required(document, "Name", network_id),
        engine=engine,
        driver=_text(document, "Driver", network_id),
        subnets=tuple(subnets),
        gateways=tuple(gateways),
    )


def fingerprint(document: object) -> int:
    """Return a fingerprint of what a list shows, from a list item or an inspect alike.

    As long as it stays the same, an inspect would show nothing new: aliases change only with
    the endpoint's id.  This does not hold for a container that shares another's network,
    since no list shows which of the two was restarted last.

    Returns:
        A number that is valid in this process only; 0 if the document is unusual or
        incomplete.
    """
    try:
        return _fingerprint(document)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return 0


def _fingerprint(document: Any) -> int:
    state = document["State"]
    if str((document.get("HostConfig") or {}).get("NetworkMode")).startswith("container:"):
        return 0
    if isinstance(state, str):
        names = [name for name in document["Names"] if name.count("/") <= 1]
        container_name, health = names[0], _health_of_list(document)
    else:
        container_name, health = document["Name"], (state.get("Health") or {}).get("Status", "")
        state = state["Status"]
    if state != "running" or health == "none":
        health = ""  # old Engines list none for a paused container
    endpoints = [
        (
            network,
            endpoint.get("EndpointID"),
            endpoint.get("IPAddress"),
            endpoint.get("GlobalIPv6Address"),
        )
        for network, endpoint in sorted((document["NetworkSettings"]["Networks"] or {}).items())
    ]
    return hash((container_name, state, health, tuple(endpoints)))


def _identified(document: object) -> tuple[dict[str, Any], str]:
    """Return a document as a mapping, and its id."""
    if not isinstance(document, dict):
        raise BadDocument("?", "the document")
    document_id = document.get("Id")
    if not isinstance(document_id, str) or not document_id:
        raise BadDocument("?", "Id")
    return document, sys.intern(document_id)  # events, the list and inspects tell of the same


def _mapping(document: Mapping[str, Any], key: str, document_id: str) -> dict[str, Any]:
    """Return a field that is an object; empty if null or absent."""
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadDocument(document_id, key)
    return value


def _text(document: Mapping[str, Any], key: str, document_id: str) -> str:
    """Return a field that is a string; empty if null or absent."""
    value = document.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadDocument(document_id, key)
    return value


def _required(document: Mapping[str, Any], key: str, document_id: str) -> str:
    value = _text(document, key, document_id)
    if not value:
        raise BadDocument(document_id, key)
    return sys.intern(value)


def _is_ipv6_off(sysctls: Mapping[str, Any]) -> bool:
    """Return whether a sysctl such as net.ipv6.conf.all.disable_ipv6=1 is set."""
    return any(
        key.startswith("net.ipv6.conf.")
        and key.endswith(".disable_ipv6")
        and not key.startswith("net.ipv6.conf.lo.")
        and str(value).strip() == "1"
        for key, value in sysctls.items()
    )


def _moment(state: Mapping[str, Any], key: str, document_id: str) -> float:
    """Parse an RFC 3339 time with up to nine decimals; return 0 for none.

    The Engine uses the year 1 for events that never happened.
    """
    text = _text(state, key, document_id)
    try:
        return max(datetime.fromisoformat(text).timestamp(), 0.0) if text else 0.0
    except (ValueError, OverflowError):
        return 0.0


def _exit_status(state: Mapping[str, Any]) -> int | None:
    """Read an exit status, which is for people alone: what is odd is not known."""
    status = state.get("ExitCode")
    return status if isinstance(status, int) and not isinstance(status, bool) else None


def _restart_policy(host_config: Mapping[str, Any]) -> str:
    """Read a restart policy, which is for people alone, too."""
    policy = host_config.get("RestartPolicy")
    name = policy.get("Name") if isinstance(policy, Mapping) else None
    return sys.intern(name) if isinstance(name, str) and name != "no" else ""


def _variable(config: Mapping[str, Any], name: str) -> str:
    """Read one variable of the environment; the others may be secrets, and are not kept."""
    environment = config.get("Env")
    for item in environment if isinstance(environment, list) else ():
        if isinstance(item, str) and item.startswith(f"{name}="):
            return item.partition("=")[2]
    return ""


def _network_mode(host_config: Mapping[str, Any], container_id: str) -> str:
    mode = _text(host_config, "NetworkMode", container_id)
    return "bridge" if mode in ("", "default") else sys.intern(mode)


def _docker_labels(document: Mapping[str, Any], container_id: str) -> dict[str, str]:
    docker_labels = _mapping(document, "Labels", container_id)
    if not all(isinstance(value, str) for value in docker_labels.values()):
        raise BadDocument(container_id, "Labels")
    # Thousands of containers have the same values: projects, services, versions, host names.
    return {sys.intern(key): sys.intern(value) for key, value in docker_labels.items()}


def _attachments(settings: Mapping[str, Any], container_id: str) -> tuple[Attachment, ...]:
    networks = _mapping(settings, "Networks", container_id)
    return tuple(
        _attachment(network, _mapping(networks, network, container_id), container_id)
        for network in sorted(networks)
    )


def _attachment(network: str, endpoint: Mapping[str, Any], container_id: str) -> Attachment:
    addresses, subnets, gateways = [], [], []
    for address_key, prefix_key, gateway_key in (
        ("IPAddress", "IPPrefixLen", "Gateway"),
        ("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"),
    ):
        if text := _text(endpoint, address_key, container_id):
            address = _read(_address, text, container_id, address_key)
            prefix = endpoint.get(prefix_key)
            addresses.append(address)
            if isinstance(prefix, int) and prefix:
                subnets.append(_subnet_of(text, prefix, container_id, prefix_key))
        if text := _text(endpoint, gateway_key, container_id):
            gateways.append(_read(_gateway, text, container_id, gateway_key))
    aliases = endpoint.get("Aliases") or ()
    if not isinstance(aliases, (list, tuple)) or not all(isinstance(a, str) for a in aliases):
        raise BadDocument(container_id, "Aliases")
    return Attachment(
        network=sys.intern(network),
        network_id=sys.intern(_text(endpoint, "NetworkID", container_id)),
        addresses=tuple(addresses),
        subnets=_shared(tuple(subnets)),
        gateways=_shared(tuple(gateways)),
        aliases=tuple(sys.intern(a) for a in dict.fromkeys(aliases) if not _ID.fullmatch(a)),
    )


def _health_of_list(document: Mapping[str, Any]) -> str:
    """Return the health in a list item: a field of new Engines, or a remark of old ones."""
    health = document.get("Health")
    if isinstance(health, dict) and isinstance(status := health.get("Status"), str):
        return "" if status == "none" else status
    status_text = document.get("Status")
    if not isinstance(status_text, str):
        return ""
    for remark, status in (
        ("(healthy)", "healthy"),
        ("(unhealthy)", "unhealthy"),
        ("(health: starting)", "starting"),
    ):
        if status_text.endswith(remark):
            return status
    return ""


def _ports_of_inspect(
    settings: Mapping[str, Any], config: Mapping[str, Any], container_id: str
) -> tuple[PortBinding, ...]:
    published = _mapping(settings, "Ports", container_id)
    exposed = _mapping(config, "ExposedPorts", container_id)
    if not any(published.values()):  # as is usual
        return _unpublished(frozenset((*published, *exposed)))
    found: set[PortBinding] = set()
    for text in {*published, *exposed}:
        bindings: Any = published.get(text) or ({},)
        if isinstance(bindings, (list, tuple)):
            found.update(_port_bindings(text, bindings))
    return _in_order(frozenset(found))


def _port_bindings(text: str, bindings: list[Any] | tuple[Any, ...]) -> Iterator[PortBinding]:
    """Return ports such as "80/tcp" and where they are published, ignoring invalid ones."""
    port, _, protocol = text.partition("/")
    for binding in bindings:
        if _is_port(port) and isinstance(binding, dict):
            host_port = str(binding.get("HostPort") or 0)
            yield _port_binding(
                int(port),
                protocol or "tcp",
                int(host_port) if _is_port(host_port) else 0,
                str(binding.get("HostIp") or ""),
            )


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= 5


def _ports_of_list(document: Mapping[str, Any]) -> tuple[PortBinding, ...]:
    ports = document.get("Ports")
    found: set[PortBinding] = set()
    for item in ports if isinstance(ports, list) else ():
        if isinstance(item, dict) and isinstance(item.get("PrivatePort"), int):
            host_port = item.get("PublicPort")
            found.add(
                _port_binding(
                    item["PrivatePort"],
                    str(item.get("Type") or "tcp"),
                    host_port if isinstance(host_port, int) else 0,
                    str(item.get("IP") or ""),
                )
            )
    return _in_order(frozenset(found))


# The following are cached so that containers of one image or network share them in memory.


@lru_cache(maxsize=4096)
def _port_binding(port: int, protocol: str, host_port: int, host_address: str) -> PortBinding:
    return PortBinding(port, sys.intern(protocol), host_port, host_address)


@lru_cache(maxsize=1024)
def _unpublished(texts: frozenset[str]) -> tuple[PortBinding, ...]:
    """Return ports such as "80/tcp", of which none is published, ignoring invalid ones."""
    return _in_order(frozenset(p for text in texts for p in _port_bindings(text, ({},))))


@lru_cache(maxsize=1024)
def _in_order(ports: frozenset[PortBinding]) -> tuple[PortBinding, ...]:
    return tuple(sorted(ports, key=lambda p: (p.port, p.protocol, p.host_port, p.host_address)))


def _read(read: Any, text: str, document_id: str, key: str) -> str:
    """Parse an address or a subnet; the error names the field."""
    try:
        return str(read(text))
    except ValueError as fault:
        raise BadDocument(document_id, key) from fault


def _address(text: str) -> str:
    return text if _IPV4.fullmatch(text) else _other_address(text)


@lru_cache(maxsize=1024)  # mostly the same gateways
def _other_address(text: str) -> str:
    return str(ip_address(text))


def _subnet_of(address: str, prefix: int, container_id: str, key: str) -> str:
    """Return the subnet of a container's address."""
    if 0 < prefix <= IPV4_BITS and _IPV4.fullmatch(address):
        a, b, c, d = map(int, address.split("."))
        host_bits = IPV4_BITS - prefix
        return _ipv4_subnet((a << 24 | b << 16 | c << 8 | d) >> host_bits << host_bits, prefix)
    return _read(_subnet, f"{address}/{prefix}", container_id, key)


@lru_cache(maxsize=1024)  # there are few subnets but many containers, and parsing is expensive
def _ipv4_subnet(number: int, prefix: int) -> str:
    return sys.intern(str(IPv4Network((number, prefix))))


@lru_cache(maxsize=1024)
def _gateway(text: str) -> str:
    return str(ip_address(text))


@lru_cache(maxsize=1024)
def _shared(texts: tuple[str, ...]) -> tuple[str, ...]:
    return texts


@lru_cache(maxsize=1024)
def _subnet(text: str) -> str:
    return sys.intern(str(ip_network(text, strict=False)))


def _interface_address(text: str) -> str:
    """Return the address in "10.0.0.1/24", as some Engines write a gateway, or "10.0.0.1"."""
    return str(ip_interface(text).ip)

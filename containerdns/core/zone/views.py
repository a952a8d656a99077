"""Views: groups of clients with the same rights and the same visible networks.

Callers compute the view of a client address once and cache it; when `Views.epoch` has changed,
all cached views are invalid.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from containerdns.core.endpoints import LOOPBACK, PRIVATE, IPAddress, IPNetwork
from containerdns.core.zone.containers import BRIDGE, OWN_DRIVERS, Network

MAX_VIEWS = 4096  # more than a host's networks times its addresses
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, IPv4 on an IPv6 socket


@dataclass(frozen=True, slots=True)
class View:
    """A group of clients that get the same answers.

    Attributes:
        may_ask: In `--allow`; others are refused.
        may_transfer: In `--allow-transfer`.
        may_see_history: In `--allow-history`.
        is_limited: `--rate-limit` applies.
        networks: Ids of the networks whose subnets contain the client, unless it is a gateway.
        host_addresses: Addresses of containers on the host network, as canonical text.
        server_addresses: Addresses of `ns.DOMAIN`, at which this server answers.
    """

    may_ask: bool
    may_transfer: bool
    may_see_history: bool
    is_limited: bool
    networks: frozenset[str]
    host_addresses: tuple[str, ...]
    server_addresses: tuple[str, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)  # tables are found by it

    def __post_init__(self) -> None:
        values = (self.may_ask, self.may_transfer, self.may_see_history, self.is_limited)
        places = (self.networks, self.host_addresses, self.server_addresses)
        object.__setattr__(self, "_hash", hash((values, places)))

    def __hash__(self) -> int:
        return self._hash


def packed(address: IPAddress | str) -> bytes:
    """Return the octets of an address: 4 for IPv4, also if mapped into IPv6, or 16."""
    octets = (ip_address(address) if isinstance(address, str) else address).packed
    return octets[12:] if octets.startswith(_MAPPED) else octets


@dataclass(frozen=True, slots=True)
class Rights:
    """Access rights; see the options of the same names.

    Attributes:
        ask: `--allow`.
        transfer: `--allow-transfer`.
        history: `--allow-history`.
        host_addresses: `--host-address`, as canonical text.
        ask_own: Also allow this machine's own addresses and those in Docker's bridge and
            overlay networks: the default of `--allow`.
    """

    ask: tuple[IPNetwork, ...] = PRIVATE
    transfer: tuple[IPNetwork, ...] = LOOPBACK
    history: tuple[IPNetwork, ...] = LOOPBACK
    host_addresses: tuple[str, ...] = ()
    ask_own: bool = True


class _Networks:
    """Networks that an address is looked for in, at a tenth of the cost of `ipaddress`.

    The first query of each client needs that some times, and a flood has many clients.
    """

    def __init__(self, networks: Iterable[tuple[IPNetwork, str]]) -> None:
        self._of_octets: dict[int, list[tuple[int, int, str]]] = {4: [], 16: []}
        for network, network_id in networks:
            known = int(network.netmask), int(network.network_address), network_id
            self._of_octets[len(network.network_address.packed)].append(known)

    def __contains__(self, octets: bytes) -> bool:
        number = int.from_bytes(octets)
        for mask, base, _ in self._of_octets[len(octets)]:  # noqa: SIM110 - `any` takes twice as long
            if number & mask == base:
                return True
        return False

    def having(self, octets: bytes) -> list[str]:
        """Return the ids of the networks that have an address."""
        number = int.from_bytes(octets)
        return [i for mask, base, i in self._of_octets[len(octets)] if number & mask == base]


def _unnamed(networks: Iterable[IPNetwork]) -> _Networks:
    return _Networks((network, "") for network in networks)


class Own(NamedTuple):
    """This server as a container with its own network; empty if it is not one.

    Attributes:
        networks: The ids of its networks.
        addresses: Its own addresses there, as canonical text.
        published: Addresses of the host on which its port 53 is published, without
            loopback; "" for all of them.
    """

    networks: frozenset[str] = frozenset()
    addresses: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


NO_CONTAINER = Own()


class Views:
    """Determines the views of clients.

    Attributes:
        epoch: Increases when views returned before become invalid.
    """

    def __init__(self, rights: Rights) -> None:
        self.epoch = 0
        self._own = NO_CONTAINER
        self._machine: frozenset[bytes] = frozenset()
        self._in_docker = self._in_subnet = _unnamed(())
        self._docker_subnets: tuple[IPNetwork, ...] = ()
        self._own_gateways: tuple[tuple[IPNetwork, str], ...] = ()
        self._subnets: tuple[tuple[IPNetwork, str], ...] = ()
        self._gateways: frozenset[bytes] = frozenset()
        self._gateways_of: dict[str, frozenset[bytes]] = {}
        self._views: dict[tuple[bytes, bytes], View] = {}
        self.set_rights(rights)

    def set_rights(self, rights: Rights) -> None:
        """Set the access rights."""
        self._rights = rights
        self._may_ask = _unnamed(rights.ask)
        self._may_transfer = _unnamed(rights.transfer)
        self._may_see_history = _unnamed(rights.history)
        self._views.clear()
        self.epoch += 1

    def set_machine(self, addresses: Iterable[str]) -> None:
        """Set the addresses of this machine, as canonical text."""
        machine = frozenset(map(packed, addresses))
        if machine != self._machine:
            self._machine = machine
            self._views.clear()
            self.epoch += 1

    def set_networks(self, networks: Iterable[Network], own: Own = NO_CONTAINER) -> None:
        """Set the networks, and this server's own place in them.

        Args:
            networks: The networks of all Engines.
            own: This server as a container.
        """
        listed = sorted(networks, key=lambda network: network.id)
        docker_subnets = tuple(
            ip_network(s) for n in listed if n.driver in OWN_DRIVERS for s in n.subnets
        )
        subnets = tuple((ip_network(s), n.id) for n in listed for s in n.subnets)
        gateways_of = {n.id: frozenset(map(packed, n.gateways)) for n in listed}
        own_gateways = tuple(
            (ip_network(subnet), gateway)
            for network in listed
            if network.id in own.networks and network.driver == BRIDGE
            for subnet in network.subnets
            for gateway in network.gateways
            if ip_address(gateway) in ip_network(subnet)
        )
        if (subnets, gateways_of, own_gateways, docker_subnets, own) == (
            self._subnets,
            self._gateways_of,
            self._own_gateways,
            self._docker_subnets,
            self._own,
        ):
            return
        self._docker_subnets, self._own = docker_subnets, own
        self._in_docker = _unnamed(docker_subnets)
        self._in_subnet = _Networks(subnets)
        self._subnets, self._gateways_of, self._own_gateways = subnets, gateways_of, own_gateways
        self._gateways = frozenset().union(*gateways_of.values()) if gateways_of else frozenset()
        self._views.clear()
        self.epoch += 1

    def of(self, client: bytes, local: bytes = b"") -> View:
        """Return the view of a client.

        Args:
            client: The octets of its address, 4 or 16.
            local: The octets of the address that its query arrived on; b"" if unknown.
        """
        view = self._views.get((client, local))
        if view is None:
            if len(self._views) >= MAX_VIEWS:
                self._views.clear()
            view = self._views[client, local] = self._make(client, local)
        return view

    def _make(self, client: bytes, local: bytes) -> View:
        octets = client.removeprefix(_MAPPED)
        host_addresses = self.host_addresses(local)
        return View(
            may_ask=octets in self._may_ask or self._is_own(octets),
            may_transfer=octets in self._may_transfer,
            may_see_history=octets in self._may_see_history,
            is_limited=octets in self._gateways or not is_private(octets),
            networks=frozenset(
                network_id
                for network_id in self._in_subnet.having(octets)
                if octets not in self._gateways_of[network_id]
            ),
            host_addresses=host_addresses,
            server_addresses=self.server_addresses(local, host_addresses),
        )

    def _is_own(self, octets: bytes) -> bool:
        """Return whether the default of `--allow` has an address besides the private ones."""
        return self._rights.ask_own and (octets in self._machine or octets in self._in_docker)

    def host_addresses(self, local: bytes) -> tuple[str, ...]:
        """Return the host's addresses for a query that arrived on a local address, or b"".

        In a container with its own network, the gateway of a bridge is the host; those of
        macvlan, ipvlan and overlay networks are not.
        """
        if self._rights.host_addresses:
            return self._rights.host_addresses
        if self._own_gateways:
            mine = ip_address(local) if local else None
            same = tuple(g for subnet, g in self._own_gateways if mine and mine in subnet)
            return same or (self._own_gateways[0][1],)
        if self._own.networks:
            return ()
        return (_text_of(local),) if local else ()

    def server_addresses(self, local: bytes, host_addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Return the addresses of this server for a query that arrived on a local one, or b"".

        Args:
            local: Octets.
            host_addresses: The host's addresses for the same query.
        """
        own = self._own
        where = tuple(a for a in own.published if a)
        if "" in own.published and host_addresses:
            return host_addresses
        if where:
            return where
        if local:
            return (_text_of(local),)
        return own.addresses if own.networks else host_addresses


@lru_cache(maxsize=256)  # queries arrive on few addresses
def _text_of(octets: bytes) -> str:
    """Return an address as canonical text, also an IPv4 address mapped into IPv6."""
    return str(ip_address(packed(ip_address(octets))))


_PRIVATE = _unnamed(PRIVATE)


def is_private(octets: bytes) -> bool:
    """Return whether an address, of 4 or 16 octets, is in one of `PRIVATE`."""
    return octets in _PRIVATE

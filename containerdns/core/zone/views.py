"""Which group of clients a client belongs to: what it may ask, which networks it sees.

A view is found once per client address and then kept by whoever asks; when
`Views.epoch` has changed, all that was kept must be asked for again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    ip_address,
    ip_network,
)
from typing import NamedTuple

from containerdns.core.endpoints import LOOPBACK, PRIVATE, IPAddress, IPNetwork
from containerdns.core.zone.containers import BRIDGE, OWN_DRIVERS, Network

KEPT_VIEWS = 4096  # more than the networks of a host times its addresses
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, how an IPv6 socket sees IPv4


@dataclass(frozen=True, slots=True)
class View:
    """One group of clients; those of one view get the same answers.

    Attributes:
        may_ask: Inside `--allow`; others are refused.
        may_transfer: Inside `--allow-transfer`.
        may_see_history: Inside `--allow-history`.
        is_limited: `--rate-limit` counts its responses.
        networks: Ids of the networks whose subnets hold the client, but for their gateways.
        host_addresses: What containers on the host network resolve to, canonical texts.
        server_addresses: What `ns.DOMAIN` resolves to: addresses at which we answer.
    """

    may_ask: bool
    may_transfer: bool
    may_see_history: bool
    is_limited: bool
    networks: frozenset[str]
    host_addresses: tuple[str, ...]
    server_addresses: tuple[str, ...] = ()


def packed(address: IPAddress | str) -> bytes:
    """The octets of an address: 4, also of an IPv4 address mapped into IPv6, or 16."""
    octets = (ip_address(address) if isinstance(address, str) else address).packed
    return octets[12:] if octets.startswith(_MAPPED) else octets


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may what; see the options of the same names.

    Attributes:
        ask: `--allow`.
        transfer: `--allow-transfer`.
        history: `--allow-history`.
        host_addresses: `--host-address`, canonical texts.
        ask_own: This machine's own addresses, and those in Docker's own bridge and overlay
            networks, may ask as well: the default of `--allow`.
    """

    ask: tuple[IPNetwork, ...] = PRIVATE
    transfer: tuple[IPNetwork, ...] = LOOPBACK
    history: tuple[IPNetwork, ...] = LOOPBACK
    host_addresses: tuple[str, ...] = ()
    ask_own: bool = True


class Own(NamedTuple):
    """This server as a container with a network of its own; empty if it is none.

    Attributes:
        networks: The ids of its networks.
        addresses: Its own addresses there, canonical texts.
        published: Addresses of the host at which its port 53 is published, but for loopback;
            "" for all of them.
    """

    networks: frozenset[str] = frozenset()
    addresses: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


NO_CONTAINER = Own()


class Views:
    """The rules that make views; changed by whoever learns of networks.

    Attributes:
        epoch: Grows when views that were given out no longer hold.
    """

    def __init__(self, rights: Rights) -> None:
        self.epoch = 0
        self._own = NO_CONTAINER
        self._machine: frozenset[IPAddress] = frozenset()
        self._docker_subnets: tuple[IPNetwork, ...] = ()
        self._own_gateways: tuple[tuple[IPNetwork, str], ...] = ()
        self._subnets: tuple[tuple[IPNetwork, str], ...] = ()
        self._gateways: frozenset[IPAddress] = frozenset()
        self._gateways_of: dict[str, frozenset[IPAddress]] = {}
        self._views: dict[tuple[bytes, bytes], View] = {}
        self.set_rights(rights)

    def set_rights(self, rights: Rights) -> None:
        """Take over who may what."""
        self._rights = rights
        self._views.clear()
        self.epoch += 1

    def set_machine(self, addresses: Iterable[str]) -> None:
        """Take over the addresses of this machine, canonical texts."""
        machine = frozenset(map(ip_address, addresses))
        if machine != self._machine:
            self._machine = machine
            self._views.clear()
            self.epoch += 1

    def set_networks(self, networks: Iterable[Network], own: Own = NO_CONTAINER) -> None:
        """Take over what networks there are, and what this server itself is on them.

        Args:
            networks: All that any Engine has.
            own: Our own container.
        """
        listed = sorted(networks, key=lambda network: network.id)
        docker_subnets = tuple(
            ip_network(s) for n in listed if n.driver in OWN_DRIVERS for s in n.subnets
        )
        subnets = tuple((ip_network(s), n.id) for n in listed for s in n.subnets)
        gateways_of = {n.id: frozenset(ip_address(g) for g in n.gateways) for n in listed}
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
        self._subnets, self._gateways_of, self._own_gateways = subnets, gateways_of, own_gateways
        self._gateways = frozenset().union(*gateways_of.values()) if gateways_of else frozenset()
        self._views.clear()
        self.epoch += 1

    def of(self, client: bytes, local: bytes = b"") -> View:
        """Return the view of a client.

        Args:
            client: The octets of its address, 4 or 16.
            local: The octets of the address its query came in on; b"" if there is none.
        """
        view = self._views.get((client, local))
        if view is None:
            if len(self._views) >= KEPT_VIEWS:
                self._views.clear()
            view = self._views[client, local] = self._make(client, local)
        return view

    def _make(self, client: bytes, local: bytes) -> View:
        address = ip_address(packed(ip_address(client)))
        is_gateway = address in self._gateways
        host_addresses = self.host_addresses(local)
        return View(
            may_ask=self._may_ask(address),
            may_transfer=_is_in(address, self._rights.transfer),
            may_see_history=_is_in(address, self._rights.history),
            is_limited=is_gateway or not is_private(address),
            networks=frozenset(
                network_id
                for subnet, network_id in self._subnets
                if address in subnet and address not in self._gateways_of[network_id]
            ),
            host_addresses=host_addresses,
            server_addresses=self.server_addresses(local, host_addresses),
        )

    def _may_ask(self, address: IPAddress) -> bool:
        if _is_in(address, self._rights.ask):
            return True
        is_own = address in self._machine or _is_in(address, self._docker_subnets)
        return self._rights.ask_own and is_own

    def host_addresses(self, local: bytes) -> tuple[str, ...]:
        """The host's addresses for a query that came in on a local address of ours, or b"".

        In a container of its own network, the gateway of a bridge is the host; those of
        macvlan, ipvlan and overlay networks are somebody else.
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
        """Addresses at which we answer, for a query that came in on a local one, or b"".

        Args:
            local: Octets.
            host_addresses: The host's, for the same query.
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


def _text_of(octets: bytes) -> str:
    """The canonical text of an address, of an IPv4 address mapped into IPv6 as well."""
    return str(ip_address(packed(ip_address(octets))))


def is_private(address: IPAddress) -> bool:
    """Return whether an address is loopback, private, link-local, ULA or 100.64.0.0/10."""
    return _is_in(address, PRIVATE_NETWORKS)


PRIVATE_NETWORKS: tuple[IPNetwork, ...] = tuple(
    ip_network(text)
    for text in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "::1/128",
        "fe80::/10",
        "fc00::/7",
    )
)


def _is_in(address: IPAddress, networks: Iterable[IPNetwork]) -> bool:
    return any(address in network for network in networks)

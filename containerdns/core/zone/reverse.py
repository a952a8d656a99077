"""Reverse names: PTR owners, and the reverse zones of Docker's own subnets.

Every address that Docker gave has exactly one PTR record.  The reverse zones of
Docker's bridge and overlay subnets are ours; those of other networks (a
macvlan's is the LAN's) are not, though their containers' addresses have PTRs.
A subnet that ends inside an octet or nibble has no zone of its own (RFC 2317): the rest
of that zone belongs to others, unless it is private.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address, ip_network
from itertools import takewhile

from containerdns.core import names
from containerdns.core.endpoints import IPNetwork
from containerdns.core.zone.containers import OWN_DRIVERS, Network
from containerdns.core.zone.special_names import private_reverse_zone_above

_V4 = "in-addr.arpa."
_V6 = "ip6.arpa."
REVERSE_TREES = (_V4, _V6)
_OCTETS = frozenset(map(str, range(256)))
_NIBBLES = frozenset("0123456789abcdef")


class Reverse:
    """The addresses that Docker assigned, and its own subnets."""

    def __init__(self) -> None:
        self._holders: dict[str, tuple[str, ...]] = {}  # by reverse name: publication ids, sorted
        self._above: Counter[str] = Counter()
        self._apexes: tuple[str, ...] = ()
        self._above_zones: frozenset[str] = frozenset()
        self._subnets: tuple[IPNetwork, ...] = ()

    def add(self, address: str, publication: str) -> str:
        """Add an address of a publication; return its reverse name."""
        name = reverse_name(address)
        holders = self._holders.get(name, ())
        if not holders:
            for above in names.parents(name):
                self._above[above] = self._above.get(above, 0) + 1
        if publication not in holders:
            self._holders[name] = tuple(sorted((*holders, publication)))
        return name

    def remove(self, address: str, publication: str) -> str:
        """Remove an address of a publication; return its reverse name."""
        name = reverse_name(address)
        holders = self._holders.get(name, ())
        if publication in holders:
            self._holders[name] = tuple(p for p in holders if p != publication)
            if not self._holders[name]:
                del self._holders[name]
                for above in names.parents(name):
                    self._above[above] -= 1
                    if not self._above[above]:
                        self._above.pop(above)
        return name

    def set_networks(self, networks: Iterable[Network]) -> None:
        """Set Docker's own subnets."""
        self._subnets = tuple(
            sorted(
                {
                    ip_network(subnet)
                    for network in networks
                    if network.driver in OWN_DRIVERS
                    for subnet in network.subnets
                },
                key=str,
            )
        )
        self._apexes = tuple(sorted(set(_apexes_of(self._subnets))))
        self._above_zones = frozenset(a for apex in self._apexes for a in names.parents(apex))

    def holder(self, name: str) -> str | None:
        """Return the publication that has the address of a reverse name."""
        holders = self._holders.get(name)
        return holders[0] if holders else None

    def is_above_one(self, name: str) -> bool:
        """Return whether there is a PTR record or a zone of ours below a name."""
        return name in self._above or name in self._above_zones

    def apex(self, name: str) -> str:
        """Return the zone at or above a reverse name; "" if it is not in Docker's subnets.

        For a subnet without a zone of its own, this is the enclosing zone, which is not ours
        but owns the SOA of negative answers.
        """
        if name in self._apexes:  # for a subnet smaller than its zone as well
            return name
        network = _network_of(name)
        if network is None:
            return ""
        for subnet in self._subnets:
            if network.version == subnet.version and network.subnet_of(subnet):  # type: ignore[arg-type]  # versions are equal
                return _apex_in(subnet, name)
        return ""

    def is_whole(self, apex: str) -> bool:
        """Return whether Docker's subnets cover a whole reverse zone."""
        network = _network_of(apex)
        return network is not None and any(
            network.version == subnet.version and network.subnet_of(subnet)  # type: ignore[arg-type]  # versions are equal
            for subnet in self._subnets
        )

    def apexes(self) -> list[str]:
        """Return the reverse zones that are ours, or private and not served by others."""
        return list(self._apexes)

    @property
    def names(self) -> Collection[str]:
        """All reverse names with a PTR record, now and after every change."""
        return self._holders.keys()


def reverse_name(address_text: str) -> str:
    """Return the reverse name of an address (RFC 1035 section 3.5, RFC 3596 section 2.5).

    Args:
        address_text: Canonical.
    """
    if ":" not in address_text:
        return f"{'.'.join(reversed(address_text.split('.')))}.{_V4}"
    return ip_address(address_text).reverse_pointer + "."


def is_reverse(name: str) -> bool:
    """Return whether a name is in the reverse tree."""
    return name.endswith(REVERSE_TREES)


def _apexes_of(subnets: Iterable[IPNetwork]) -> Iterator[str]:
    """Return the zones that contain these subnets."""
    for subnet in subnets:
        step = _border(subnet)
        zones = subnet.subnets(new_prefix=step) if step > subnet.prefixlen else (subnet,)
        for zone in zones:
            apex = _apex_in(subnet, reverse_name(str(zone.network_address)))
            if step >= subnet.prefixlen or private_reverse_zone_above(apex):
                yield apex


def _border(subnet: IPNetwork) -> int:
    """Return the prefix length of a subnet's zones: the next octet or nibble boundary.

    For a subnet smaller than the last octet, it is that of the enclosing zone.
    """
    bits = 8 if subnet.version == 4 else 4
    return min(-(-subnet.prefixlen // bits) * bits, subnet.max_prefixlen - bits)


def _apex_in(subnet: IPNetwork, name: str) -> str:
    """Return the zone at or above a reverse name in a subnet."""
    bits = 8 if subnet.version == 4 else 4
    labels = names.labels_of_text(name)
    kept = _border(subnet) // bits + 2
    return ".".join(labels[-kept:]) + "."


def _network_of(name: str) -> IPNetwork | None:
    """Return the network of a reverse name; None if there is none."""
    is_v4 = name.endswith("." + _V4)
    if not is_v4 and not name.endswith("." + _V6):
        return None
    parts = names.labels_of_text(name)[-3::-1]
    # Any other name below a network's or an address's name belongs to the same zone.
    if is_v4:
        octets = list(takewhile(_OCTETS.__contains__, parts[:4]))
        text = ".".join(octets + ["0"] * (4 - len(octets)))
        return ip_network(f"{text}/{8 * len(octets)}")
    nibbles = list(takewhile(_NIBBLES.__contains__, parts[:32]))
    digits = "".join(nibbles).ljust(32, "0")
    text = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
    return ip_network(f"{text}/{4 * len(nibbles)}")

"""The machine, or the network namespace, that this process runs in: addresses and limits.

On Linux, netlink lists the addresses of all interfaces (rtnetlink(7)).  Elsewhere, those that the
host name resolves to are used instead.
"""

import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

NETLINK_ROUTE = 0  # linux/netlink.h
RTM_NEWADDR, RTM_GETADDR = 20, 22  # linux/rtnetlink.h
REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFA_ADDRESS, IFA_LOCAL = 1, 2  # linux/if_addr.h
ANSWER_OCTETS = 1 << 16  # the kernel sends at most half of that at once
MAX_ANSWER = 1.0  # seconds; the kernel answers at once

SOMEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}  # RFC 5737, RFC 3849

_HEADER = struct.Struct("=LHHLL")  # length, type, flags, sequence number, port id
_ADDRESS = struct.Struct("=BBBBL")  # family, prefix length, flags, scope, interface
_ATTRIBUTE = struct.Struct("=HH")  # length, type


def descriptor_limit() -> int:
    """Return how many file descriptors this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def own_addresses() -> frozenset[str]:
    """Return all addresses of this machine as canonical text; empty if they are unknown."""
    try:
        return frozenset(_by_netlink())
    except (OSError, AttributeError, struct.error):  # not Linux, or netlink is forbidden
        return frozenset(_by_name())


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of sockets that an IP address needs."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def socket_address(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return what to bind or connect a socket to.

    Sockets ignore the interface of a link-local address, as in "fe80::1%eth0", unless it is a
    number in a place of its own.

    Raises:
        OSError: There is no such interface.
    """
    if "%" not in host:
        return host, port
    address, _, interface = host.partition("%")
    number = int(interface) if interface.isdecimal() else socket.if_nametoindex(interface)
    return address, port, 0, number


def has_address(host: str) -> bool:
    """Return whether an IP address is this machine's, by trying to send from it."""
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as attempt:
        try:
            attempt.bind(socket_address(host, 0))
        except OSError:
            return False
    return True


def main_address(family: socket.AddressFamily) -> str | None:
    """Return the address that this machine has towards the world."""
    return address_towards(SOMEWHERE[family])


def address_towards(host: str) -> str | None:
    """Return the address that this machine has towards another one; nothing is sent for it."""
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((host, 53))
        except OSError:
            return None
        return str(asking.getsockname()[0])


def _by_netlink() -> Iterator[str]:
    request = _HEADER.pack(_HEADER.size + _ADDRESS.size, RTM_GETADDR, REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as asking:
        asking.settimeout(MAX_ANSWER)
        asking.send(request + _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        while True:
            data = asking.recv(ANSWER_OCTETS)
            at = 0
            while at < len(data):
                octets, kind, *_ = _HEADER.unpack_from(data, at)
                if kind == NLMSG_ERROR:
                    raise OSError("netlink refused to list addresses")
                if kind == NLMSG_DONE:
                    return
                if kind == RTM_NEWADDR:
                    yield from _local_address(data[at + _HEADER.size : at + octets])
                at += max(_aligned(octets), _HEADER.size)


def _local_address(message: bytes) -> Iterator[str]:
    """Yield the address of an interface: for a tunnel, the local end."""
    found: dict[int, bytes] = {}
    at = _ADDRESS.size
    while at + _ATTRIBUTE.size <= len(message):
        octets, kind = _ATTRIBUTE.unpack_from(message, at)
        found[kind] = message[at + _ATTRIBUTE.size : at + octets]
        at += max(_aligned(octets), _ATTRIBUTE.size)
    address = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if address is not None and len(address) in (4, 16):
        yield str(ip_address(address))


def _aligned(octets: int) -> int:
    """Round up to a multiple of four, where netlink messages and attributes begin."""
    return octets + 3 & ~3


def _by_name() -> Iterator[str]:
    with suppress(OSError, UnicodeError):
        for *_, address in socket.getaddrinfo(socket.gethostname(), None):
            yield str(ip_address(str(address[0]).partition("%")[0]))

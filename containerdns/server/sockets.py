"""Opening the sockets of `--listen`, or saying what is in the way and what would work."""

import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from containerdns.config.machine import family_of, main_address, socket_address
from containerdns.config.port_holders import holder_of
from containerdns.core.endpoints import Endpoint
from containerdns.errors import CannotListen

log = logging.getLogger(__name__)

RECEIVE_OCTETS: Final = (
    4 << 20
)  # octets; a burst of about ten thousand queries; the default holds 300
BACKLOG: Final = 512  # connections waiting for accept; twice that in all
PORT_ATTEMPTS: Final = 20  # attempts to find a port that is free in both UDP and TCP
HIGH_PORT: Final = 1053  # unprivileged

IP_FREEBIND: Final = 15  # linux/in.h; Python has no names for these
IPV6_FREEBIND: Final = 78
SO_MEMINFO: Final = 55  # asm-generic/socket.h, since Linux 4.12
MEMINFO_OCTETS: Final = 36  # nine 32-bit numbers, linux/sock_diag.h
MEMINFO_DROPS: Final = 32
IP_PKTINFO: Final = 8
SO_ATTACH_REUSEPORT_CBPF: Final = 51  # asm-generic/socket.h, since Linux 4.5
LOAD_WORD, MODULO, RETURN_RESULT = 0x20, 0x94, 0x16  # linux/bpf_common.h: instructions
RANDOM_WORD: Final = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM, linux/filter.h
INSTRUCTION: Final = struct.Struct("=HBBI")  # struct sock_filter: what, two jumps, operand
PROGRAM: Final = struct.Struct("@HP")  # struct sock_fprog: number of instructions, address

_LACKING: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


@dataclass(frozen=True, slots=True)
class Listener:
    """An address to listen on, over UDP and TCP.

    Attributes:
        endpoint: The address with its actual port.
        local: The octets of the address; b"" for a wildcard, where each query has its own.
    """

    endpoint: Endpoint
    udp: socket.socket
    tcp: socket.socket
    local: bytes

    @property
    def family(self) -> socket.AddressFamily:
        """IPv4 or IPv6."""
        return family_of(self.endpoint.host)

    def close(self) -> None:
        """Close both sockets."""
        self.udp.close()
        self.tcp.close()

    def datagrams_dropped(self) -> int:
        """The number of datagrams dropped because the receive buffer was full."""
        try:
            info = self.udp.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO_OCTETS)
        except OSError:
            return 0
        return int.from_bytes(info[MEMINFO_DROPS : MEMINFO_DROPS + 4], "little")


def open_all(endpoints: tuple[Endpoint, ...], shared: bool = False) -> list[Listener]:
    """Bind every endpoint, over UDP and TCP.

    Args:
        endpoints: The addresses; defaults whose family the system lacks are skipped.
        shared: Share the port with other processes; only after a bind without it.

    Raises:
        CannotListen: One of them cannot be bound; none is left open.
    """
    listeners: list[Listener] = []
    for endpoint in endpoints:
        try:
            listeners.append(_open(endpoint, shared))
        except OSError as error:
            if endpoint.is_default and error.errno in _LACKING:
                log.info("not listening on %s: %s", endpoint, _text(error))
                continue
            for listener in listeners:
                listener.close()
            raise CannotListen(str(endpoint), _reason(endpoint, error)) from error
    if not listeners:
        raise CannotListen("any address", "the system supports neither IPv4 nor IPv6")
    _warn_if_capped(listeners[0].udp)
    return listeners


def spread(listeners: Iterable[Listener], processes: int) -> None:
    """Have the system give each datagram to any of the processes that share a port.

    By default the addresses and ports decide, so that all queries of one socket, such as those
    of a resolver in front of us, keep a single process busy.  The number drawn is the index of
    a socket; if there is none, since a process is being replaced, the system decides as before.

    Args:
        listeners: Those of one process, which shares them; the others need not do this.
        processes: Their number.
    """
    program = (
        INSTRUCTION.pack(LOAD_WORD, 0, 0, RANDOM_WORD)
        + INSTRUCTION.pack(MODULO, 0, 0, processes)
        + INSTRUCTION.pack(RETURN_RESULT, 0, 0, 0)
    )
    octets = ctypes.create_string_buffer(program, len(program))
    words = PROGRAM.pack(len(program) // INSTRUCTION.size, ctypes.addressof(octets))
    for listener in listeners:
        try:
            listener.udp.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, words)
        except OSError as error:
            log.info("each client's queries stay with one process: %s", _text(error))
            return


def _open(endpoint: Endpoint, shared: bool) -> Listener:
    for _ in range(PORT_ATTEMPTS):
        udp = _bound(endpoint, socket.SOCK_DGRAM, shared)
        chosen = Endpoint(endpoint.host, udp.getsockname()[1])
        try:
            tcp = _bound(chosen, socket.SOCK_STREAM, shared)
        except OSError as error:
            udp.close()
            if endpoint.port == 0 and error.errno == errno.EADDRINUSE:
                continue
            raise
        octets = _octets(endpoint.host)
        return Listener(chosen, udp, tcp, octets if any(octets) else b"")
    raise OSError(errno.EADDRINUSE, "no port is free in both UDP and TCP")


def _bound(endpoint: Endpoint, kind: socket.SocketKind, shared: bool) -> socket.socket:
    family = family_of(endpoint.host)
    opened = socket.socket(family, kind)
    try:
        opened.setblocking(False)
        if kind == socket.SOCK_STREAM:  # it would let two UDP servers share a port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _try_option(opened, socket.IPPROTO_IPV6, IPV6_FREEBIND)
        else:
            _try_option(opened, socket.IPPROTO_IP, IP_FREEBIND)
        if kind == socket.SOCK_DGRAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)
            _tell_asked_address(opened, endpoint)
        opened.bind(socket_address(endpoint.host, endpoint.port))
        if kind == socket.SOCK_STREAM:
            opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _octets(host: str) -> bytes:
    """Return the octets of an address, without the interface of a link-local one."""
    return socket.inet_pton(family_of(host), host.partition("%")[0])


def _tell_asked_address(udp: socket.socket, endpoint: Endpoint) -> None:
    """Enable the destination address of each datagram, on wildcard sockets."""
    if any(_octets(endpoint.host)):
        return
    if udp.family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        _try_option(udp, socket.IPPROTO_IP, IP_PKTINFO)


def _try_option(opened: socket.socket, level: int, option: int) -> None:
    try:
        opened.setsockopt(level, option, 1)
    except OSError as error:  # not Linux: continue without the option
        log.debug("socket option %d: %s", option, error)


def _warn_if_capped(udp: socket.socket) -> None:
    given = udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # doubled by the system
    if given < RECEIVE_OCTETS:
        log.warning(
            "the receive buffer is %d octets, not %d: bursts of queries may be lost;"
            " raise net.core.rmem_max",
            given,
            RECEIVE_OCTETS,
        )


def _text(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _reason(endpoint: Endpoint, error: OSError) -> str:
    """Return one line with the problem, the program in the way, and what would work."""
    if error.errno == errno.EADDRINUSE:
        reason = f"in use by {holder_of(endpoint)}"
    elif error.errno == errno.EACCES:
        reason = f"permission denied: port {endpoint.port} needs root or CAP_NET_BIND_SERVICE"
    elif "%" not in endpoint.host and ip_address(endpoint.host).is_link_local:
        return f"a link-local address needs its interface, as in [{endpoint.host}%eth0]:53"
    else:
        return _text(error)
    works = next((e for e in _alternatives(endpoint) if _can_bind(e)), None)
    return f"{reason}; try --listen {works}" if works else reason


def _alternatives(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Yield alternative endpoints, the most similar first."""
    host = _octets(endpoint.host)
    if not any(host) and (address := main_address(family_of(endpoint.host))):
        yield Endpoint(address, endpoint.port)
    if not any(host):
        yield Endpoint("::1" if ":" in endpoint.host else "127.0.0.1", endpoint.port)
    for port in range(HIGH_PORT, HIGH_PORT + 10):
        yield Endpoint(endpoint.host, port)


def _can_bind(endpoint: Endpoint) -> bool:
    try:
        _open(endpoint, shared=False).close()
    except OSError:
        return False
    return True

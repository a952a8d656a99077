"""Which program uses a port, as far as Linux shows it to this user (proc(5))."""

import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from containerdns.config.machine import family_of
from containerdns.core.endpoints import Endpoint

TRANSPORTS = ("udp", "tcp")
NET = Path("/proc/self/net")  # /proc/net itself is hidden by ProcSubset=pid, as in our unit
LISTENING = ("07", "0A")  # unconnected UDP, listening TCP
STUBS = ("127.0.0.53:53", "127.0.0.54:53")  # of systemd-resolved, resolved.conf(5)


def holder_of(endpoint: Endpoint, transports: Sequence[str] = TRANSPORTS) -> str:
    """Return who uses an address and port, and on which address.

    Whose a socket is can be seen by root and its own user only; its address, by everyone.

    Args:
        endpoint: What cannot be bound.
        transports: "udp", "tcp" or both.
    """
    found = dict(_in_the_way(endpoint, transports))
    for inode, address in found.items():
        if (program := _program_with(inode)) is not None:
            is_stub = program.startswith("systemd-resolve")
            return f"{'the stub resolver of ' if is_stub else ''}{program} on {address}"
    for address in found.values():
        is_stub = address in STUBS
        return f"{'the stub resolver of systemd' if is_stub else 'another program'} on {address}"
    return "another program"


def _in_the_way(endpoint: Endpoint, transports: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield inodes and addresses of the sockets that block an endpoint, its own family first.

    Those of the other family do so if "::" stands for IPv4 addresses as well.
    """
    wanted = socket.inet_pton(family_of(endpoint.host), endpoint.host.partition("%")[0])
    own, other = ("", "6") if len(wanted) == 4 else ("6", "")
    for version in (own, other):
        for transport in transports:
            for inode, octets in _listening(f"{transport}{version}", endpoint.port):
                if version == own:
                    is_blocked = octets == wanted or not any(octets) or not any(wanted)
                else:
                    is_blocked = not any(octets if version == "6" else wanted)
                if is_blocked:
                    family = socket.AF_INET6 if version == "6" else socket.AF_INET
                    yield inode, str(Endpoint(socket.inet_ntop(family, octets), endpoint.port))


def _listening(table: str, port: int) -> Iterator[tuple[str, bytes]]:
    """Yield the inode and the address of each socket of a table that listens on a port."""
    try:
        lines = Path(NET, table).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        host, _, hex_port = fields[1].partition(":")
        if int(hex_port, 16) == port and fields[3] in LISTENING:
            words = (bytes.fromhex(host[at : at + 8]) for at in range(0, len(host), 8))
            yield fields[9], b"".join(word[::-1] for word in words)


def _program_with(inode: str) -> str | None:
    link = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            descriptors = list((process / "fd").iterdir())
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                if str(descriptor.readlink()) == link:
                    name = (process / "comm").read_text(encoding="utf-8", errors="replace")
                    return f"{name.strip()} (process {process.name})"
            except OSError:
                continue
    return None

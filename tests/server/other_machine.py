"""A machine beside ours: a network namespace with one link to that of the tests."""

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from tests.own_network import CLONE_NEWNET

OURS, THEIRS = ("192.168.250.1", "fd00:250::1"), ("192.168.250.2", "fd00:250::2")
PREFIXES = ("24", "64")
NETWORKS = ("192.168.250.0/24", "fd00:250::/64")
LINK = "beside"
IPV6_MTU = 1280  # octets, RFC 8200 section 5


@dataclass(frozen=True)
class OtherMachine:
    """Where sockets are opened that belong to the other machine.

    Attributes:
        namespace: Its network namespace, open.
    """

    namespace: int

    def datagrams(self, address: tuple[str, int]) -> socket.socket:
        """Return a socket that is connected to an address of ours, and does not block."""
        opened: list[socket.socket] = []
        thread = threading.Thread(target=lambda: opened.append(self._connected(address)))
        thread.start()
        thread.join()
        return opened[0]

    def _connected(self, address: tuple[str, int]) -> socket.socket:
        assert _libc().setns(self.namespace, CLONE_NEWNET) == 0
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        client = socket.socket(family, socket.SOCK_DGRAM)
        client.setblocking(False)
        client.connect(address)
        return client


@contextlib.contextmanager
def machine_beside(mtu: int) -> Iterator[OtherMachine]:
    """Add a machine, and a link to it that carries packets of so many octets.

    Without IPv6 if these are too few for it.
    """
    namespace = _new_namespace()
    try:
        there = f"/proc/{os.getpid()}/fd/{namespace}"
        _run(f"ip link add {LINK} mtu {mtu} type veth peer name {LINK} mtu {mtu} netns {there}")
        try:
            has_ipv6 = mtu >= IPV6_MTU
            for number, prefix in enumerate(PREFIXES[: 1 + has_ipv6]):
                nodad = " nodad" if prefix == "64" else ""
                _run(f"ip address add {OURS[number]}/{prefix} dev {LINK}{nodad}")
                inside = f"nsenter --net={there}"
                _run(f"{inside} ip address add {THEIRS[number]}/{prefix} dev {LINK}{nodad}")
            _run(f"ip link set {LINK} up")
            _run(f"{inside} ip link set {LINK} up")
            yield OtherMachine(namespace)
        finally:
            _run(f"ip link delete {LINK}")
    finally:
        os.close(namespace)


def _new_namespace() -> int:
    """Return a new network namespace, open, which ends when it is closed."""
    opened: list[int] = []

    def enter() -> None:
        assert _libc().unshare(CLONE_NEWNET) == 0
        opened.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return opened[0]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)

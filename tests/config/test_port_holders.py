"""Which program is said to be in the way of a port."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from containerdns.config import port_holders
from containerdns.config.port_holders import holder_of
from containerdns.core.endpoints import Endpoint


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is taken on 127.0.0.7 over UDP, and on ::1 over TCP."""
    with ExitStack() as opened:
        udp = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        tcp = opened.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
        udp.bind(("127.0.0.7", 0))
        tcp.bind(("::1", udp.getsockname()[1]))
        tcp.listen()
        yield udp.getsockname()[1]


@pytest.mark.parametrize(
    ("host", "transports", "where"),
    [
        ("127.0.0.7", ("udp", "tcp"), "127.0.0.7:{}"),
        ("0.0.0.0", ("udp", "tcp"), "127.0.0.7:{}"),
        ("127.0.0.8", ("udp", "tcp"), None),
        ("127.0.0.7", ("tcp",), None),
        ("::1", ("udp", "tcp"), "[::1]:{}"),
        ("::", ("udp", "tcp"), "[::1]:{}"),
        ("::", ("udp",), "127.0.0.7:{}"),
        ("::2", ("udp", "tcp"), None),
    ],
    ids=[
        "the same",
        "all of IPv4",
        "another address",
        "another transport",
        "the same of IPv6",
        "all of IPv6, its own first",
        "all of both families",
        "another of IPv6",
    ],
)
def test_holder_is_what_blocks_that_address(
    port: int, host: str, transports: tuple[str, ...], where: str | None
) -> None:
    """A wildcard of one family says nothing about an address of the other."""
    holder = holder_of(Endpoint(host, port), transports)
    if where is None:
        assert holder == "another program"
    else:
        assert holder.endswith(f"(process {os.getpid()}) on {where.format(port)}")


@pytest.mark.parametrize(
    ("stubs", "holder"),
    [((), "another program on {}"), (("{}",), "the stub resolver of systemd on {}")],
    ids=["anyone", "stub"],
)
def test_address_is_known_even_if_the_process_is_another_users(
    port: int, stubs: tuple[str, ...], holder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that is not root sees the stub's address, which is enough to know it."""
    where = f"127.0.0.7:{port}"
    monkeypatch.setattr(port_holders, "_program_with", lambda _: None)
    monkeypatch.setattr(port_holders, "STUBS", tuple(stub.format(where) for stub in stubs))
    assert holder_of(Endpoint("0.0.0.0", port)) == holder.format(where)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_address_is_known_to_a_service_that_sees_processes_alone(port: int) -> None:
    """Our unit for systemd has ProcSubset=pid and ProtectProc=invisible."""
    asking = (
        "from containerdns.config.port_holders import holder_of;"
        "from containerdns.core.endpoints import Endpoint;"
        f"print(holder_of(Endpoint('127.0.0.7', {port})))"
    )
    confined = 'mount -t proc -o subset=pid proc /proc && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", confined, "sh", sys.executable, "-c", asking]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "mount:" in done.stderr:
        pytest.skip("this kernel has no such view of processes")  # it came with Linux 5.8
    assert f" on 127.0.0.7:{port}\n" in done.stdout, done.stderr

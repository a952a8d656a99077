"""Opening the sockets of `--listen`, and what is said when that fails."""

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from containerdns.config.machine import family_of
from containerdns.core.endpoints import Endpoint
from containerdns.errors import CannotListen
from containerdns.server import sockets

LOOPBACK = Endpoint("127.0.0.1", 0)


@pytest.fixture
def taken() -> Iterator[Endpoint]:
    """A port on which this process listens already."""
    [listener] = sockets.open_all((LOOPBACK,))
    yield listener.endpoint
    listener.close()


def test_udp_and_tcp_have_the_same_port() -> None:
    listeners = sockets.open_all((LOOPBACK, Endpoint("::1", 0)))
    for listener in listeners:
        assert listener.udp.getsockname()[1] == listener.tcp.getsockname()[1]
        assert listener.endpoint.port
        listener.close()


def test_link_local_address_is_listened_on_at_its_interface() -> None:
    """It is no address of `lo`, but may appear later (`IPV6_FREEBIND`)."""
    [listener] = sockets.open_all((Endpoint("fe80::53%lo", 0),))
    for opened in (listener.udp, listener.tcp):
        address, _, _, interface = opened.getsockname()
        assert (address.partition("%")[0], interface) == ("fe80::53", socket.if_nametoindex("lo"))
    listener.close()


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("fe80::53", "needs its interface, as in [fe80::53%eth0]:53"),
        ("fe80::53%no", "no interface"),
    ],
)
def test_link_local_address_without_its_interface_is_explained(host: str, reason: str) -> None:
    with pytest.raises(CannotListen, match=re.escape(reason)):
        sockets.open_all((Endpoint(host, 0),))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_port_in_use_names_who_holds_it_and_what_would_work(host: str, taken: Endpoint) -> None:
    with pytest.raises(CannotListen) as caught:
        sockets.open_all((Endpoint(host, taken.port),))
    assert f"(process {os.getpid()}) on {taken}" in caught.value.reason
    option, _, works = caught.value.reason.rpartition(" ")
    assert option.endswith("--listen")
    host, _, port = works.rpartition(":")
    [listener] = sockets.open_all((Endpoint(host, int(port)),))
    listener.close()


def test_program_in_the_way_may_have_any_name(taken: Endpoint) -> None:
    """The kernel keeps octets; as UTF-8 they were a traceback at the start."""
    name = Path("/proc/self/comm")
    before = name.read_bytes()
    name.write_bytes(b"caf\xe9")
    try:
        with pytest.raises(CannotListen, match="caf\ufffd"):
            sockets.open_all((taken,))
    finally:
        name.write_bytes(before)


def test_second_server_is_noticed_over_udp_alone(taken: Endpoint) -> None:
    """With SO_REUSEPORT or SO_REUSEADDR it would take half of the queries silently."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            second.bind(("127.0.0.1", taken.port))


def test_nothing_is_left_open_after_a_failure(taken: Endpoint) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(CannotListen):
        sockets.open_all((LOOPBACK, taken))
    assert set(Path("/proc/self/fd").iterdir()) <= before  # others may be collected meanwhile


def test_address_that_is_not_there_yet_is_bound() -> None:
    """That of a VPN that comes up later; 192.0.2.0/24 is unassigned."""
    for host in ("192.0.2.1", "2001:db8::1"):
        [listener] = sockets.open_all((Endpoint(host, 0),))
        listener.close()


def test_default_of_a_lacking_family_is_skipped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sockets, "_bound", without_ipv6(sockets._bound))
    caplog.set_level("INFO")
    listeners = sockets.open_all((LOOPBACK, Endpoint("::", 0, is_default=True)))
    assert [listener.endpoint.host for listener in listeners] == ["127.0.0.1"]
    assert "not listening on [::]:0" in caplog.text
    with pytest.raises(CannotListen, match="family"):
        sockets.open_all((Endpoint("::", 0),))
    for listener in listeners:
        listener.close()


def test_receive_buffer_is_large_or_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    [listener] = sockets.open_all((LOOPBACK,))
    given = listener.udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    assert given >= sockets.RECEIVE_OCTETS or "net.core.rmem_max" in caplog.text
    listener.close()


def test_dropped_datagrams_are_counted() -> None:
    [listener] = sockets.open_all((LOOPBACK,))
    listener.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(100):
            client.sendto(bytes(500), listener.udp.getsockname())
    assert 50 < listener.datagrams_dropped() < 100
    listener.close()


def without_ipv6(bound: object) -> object:
    def lacking(endpoint: Endpoint, kind: socket.SocketKind, shared: bool) -> socket.socket:
        if ":" in endpoint.host:
            raise OSError(97, os.strerror(97))
        assert callable(bound)
        opened = bound(endpoint, kind, shared)
        assert isinstance(opened, socket.socket)
        return opened

    return lacking


def _received(listener: sockets.Listener) -> int:
    count = 0
    with suppress(BlockingIOError):
        while listener.udp.recv(9):
            count += 1
    return count


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has no such option")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_queries_of_one_client_are_spread_over_all_processes(host: str) -> None:
    """A resolver in front of us sends all of its queries from few sockets."""
    with ExitStack() as stack, socket.socket(family_of(host), socket.SOCK_DGRAM) as client:

        def share(endpoint: Endpoint) -> sockets.Listener:
            [listener] = sockets.open_all((endpoint,), shared=True)
            stack.callback(listener.close)
            return listener

        first = share(Endpoint(host, 0))
        others = [share(first.endpoint) for _ in range(2)]
        sockets.spread([first], 3)
        client.connect((host, first.endpoint.port))

        def shares() -> list[int]:
            for _ in range(300):  # of 100 each: less than 40 comes once in 10**14
                client.send(b"query")
            return [_received(listener) for listener in (first, *others)]

        assert min(shares()) > 40
        others.pop(0).close()  # one dies
        assert sum(shares()) == 300, "none is lost"
        others.append(share(first.endpoint))  # and is replaced
        assert min(shares()) > 40


def test_system_without_the_option_decides_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A closed socket refuses the option, as old systems do."""
    [listener] = sockets.open_all((LOOPBACK,))
    listener.close()
    with caplog.at_level("INFO"):
        sockets.spread([listener], 3)
    assert "stay with one process" in caplog.text

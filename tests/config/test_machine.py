"""Which addresses this machine has."""

import socket
import subprocess
from ipaddress import ip_address

import pytest

from containerdns.config import machine


def test_every_address_can_be_sent_from() -> None:
    """And loopback is among them: the kernel was asked, not a name."""
    found = machine.own_addresses()
    assert "127.0.0.1" in found
    for text in found:
        if not ip_address(text).is_link_local:  # which needs an interface as well
            family = socket.AF_INET6 if ":" in text else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sending:
                sending.bind((text, 0))


def test_addresses_are_those_that_the_system_shows() -> None:
    shown = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=False)
    if shown.returncode:
        pytest.skip("no ip command here")
    listed = {line.split()[3].partition("/")[0] for line in shown.stdout.splitlines()}
    assert machine.own_addresses() == listed


@pytest.mark.parametrize(
    ("host", "address"),
    [("192.0.2.1", ("192.0.2.1", 53)), ("2001:db8::1", ("2001:db8::1", 53)),
     ("fe80::1%lo", ("fe80::1", 53, 0, 1)), ("fe80::1%7", ("fe80::1", 53, 0, 7))],
)  # fmt: skip
def test_interface_of_an_address_is_a_number_for_a_socket(
    host: str, address: tuple[str | int, ...]
) -> None:
    """RFC 4007 section 11; resolv.conf has such addresses where a router announces its own."""
    assert machine.socket_address(host, 53) == address


def test_unknown_interface_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="no interface"):
        machine.socket_address("fe80::1%missing", 53)

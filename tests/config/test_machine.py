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

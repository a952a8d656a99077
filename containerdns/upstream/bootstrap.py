"""Whom we ask for the host of an `https://` upstream: never ourselves."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path

from containerdns.settings import Settings, UpstreamServer
from containerdns.upstream.loops import is_own_address

RESOLV_CONF = Path("/etc/resolv.conf")
DOCKERS_OWN = "127.0.0.11"  # it may ask the host's resolver, and that may be us


def bootstrap_servers(settings: Settings) -> tuple[UpstreamServer, ...]:
    """The upstreams that are addresses, else the system's servers but for ourselves."""
    plain = tuple(server for server in settings.upstreams if server.transport != "https")
    return plain or tuple(_system_servers(RESOLV_CONF, settings))


def _system_servers(path: Path, settings: Settings) -> Iterable[UpstreamServer]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        match line.split():
            case ["nameserver", host, *_] if host != DOCKERS_OWN and _is_address(host):
                server = UpstreamServer("udp", host, 53)
                if not is_own_address(server, settings.listen):
                    yield server


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

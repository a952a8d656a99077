"""The servers in /etc/resolv.conf: for `--upstream system`, and for bootstrapping.

The file may be empty at boot, and change with the network, so it is checked every second, at the
cost of one `stat`.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from containerdns.config.files import Stamp, stamp_of
from containerdns.core.endpoints import DNS_PORT, WILDCARDS, Endpoint, UpstreamServer, address_text
from containerdns.upstream.loops import is_own_address

RESOLV_CONF = Path("/etc/resolv.conf")
DOCKERS_OWN = "127.0.0.11"  # it may forward to the host's resolver, which may be us
EVERY = 1.0  # seconds between checks of the file

log = logging.getLogger(__name__)


class SystemServers:
    """The servers in the file, as of the last check."""

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path
        self._stamp: Stamp | None = None
        self._hosts: tuple[str, ...] = ()
        self._has_warned = False
        self.look()

    def look(self) -> bool:
        """Read the file if it has changed; return whether its servers have."""
        try:
            stamp = stamp_of(self._path)
        except OSError:
            stamp = None
        if stamp == self._stamp:
            return False
        hosts = tuple(_hosts(self._path)) if stamp else ()
        is_new = hosts != self._hosts
        self._stamp, self._hosts = stamp, hosts
        return is_new

    def servers(self, listening: Sequence[Endpoint]) -> tuple[UpstreamServer, ...]:
        """Return the servers, without ourselves and Docker's own; warn if there are none.

        Args:
            listening: The addresses that we listen on.
        """
        named = (UpstreamServer("udp", host, DNS_PORT) for host in self._hosts)
        found = tuple(server for server in named if not is_own_address(server, listening))
        if not found and not self._has_warned:
            log.warning(
                "%s names no server other than ourselves and %s: until it does, every name "
                "that needs it is SERVFAIL",
                self._path,
                DOCKERS_OWN,
            )
        self._has_warned = not found
        return found


def _hosts(path: Path) -> Iterator[str]:
    """Yield the addresses of a file as resolv.conf(5) describes it, each once."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    seen = {DOCKERS_OWN}
    for line in text.splitlines():
        match line.split():
            case ["nameserver", host, *_] if _can_be_asked(host) and host not in seen:
                seen.add(host)
                yield host


def _can_be_asked(host: str) -> bool:
    return address_text(host) not in ("", *WILDCARDS)

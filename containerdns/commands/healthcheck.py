"""Whether a running server is healthy: ready over HTTP, and answering over DNS."""

import secrets
import struct

from containerdns.commands import http_client
from containerdns.config.settings import Settings
from containerdns.config.values import Endpoint, endpoint
from containerdns.core import names
from containerdns.errors import BadSettings, ServerUnreachable

DNS_TIMEOUT = 2.0  # seconds; we answer from memory
TRIES = 2  # a datagram may be lost
HEADER = struct.Struct("!6H")  # RFC 1035 section 4.1.1
QR, AA, RCODE = 0x8000, 0x0400, 0x000F
NOERROR, REFUSED = 0, 5
OK, FORBIDDEN = 200, 403
SOA_IN = b"\0\6\0\1"
STANDARD = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a wildcard is reached from here


def check(settings: Settings, url: str | None, dns: str | None) -> tuple[bool, str]:
    """Ask a running server whether it is ready, and for the SOA of its first domain.

    Args:
        settings: Its settings, as environment and file give them.
        url: Where its HTTP is; None: where the settings say, and nowhere if that is `off`.
        dns: Where its DNS is, "ADDR:PORT"; None: where it says or the settings say.

    Returns:
        Whether it is healthy, and in words why or why not.

    Raises:
        BadSettings: `dns` is no address and port.
    """
    where, domain = _dns_of(dns, settings), settings.domains[0]
    url = url or (f"http://{_reachable(settings.http)}" if settings.http else None)
    if url is not None:
        server = http_client.Server(url)
        try:
            status, reason = server.status("/readyz")
        except ServerUnreachable as fault:
            return False, f"{url}/readyz: {fault.reason}"
        if status not in (OK, FORBIDDEN):  # by an --allow without loopback; DNS tells the rest
            return False, f"{url}/readyz: {reason}"
        if dns is None:
            where, domain = _as_it_says(server, where, domain)
    return _answers(where, domain)


def _as_it_says(server: http_client.Server, where: Endpoint, domain: str) -> tuple[Endpoint, str]:
    """Ask the server itself, as its flags are not ours; else keep what the settings say."""
    try:
        status = server.json("/status")
        return _reachable(endpoint(status["dns"][0])), str(status["domains"][0])
    except (ServerUnreachable, KeyError, IndexError, ValueError):
        return where, domain


def _answers(where: Endpoint, domain: str) -> tuple[bool, str]:
    reason = ""
    for _ in range(TRIES):
        try:
            return _judged(where, domain)
        except OSError as error:
            reason = f"DNS on {where}: {error}"
    return False, reason


def _judged(where: Endpoint, domain: str) -> tuple[bool, str]:
    identity = secrets.randbelow(1 << 16)
    query = HEADER.pack(identity, 0, 1, 0, 0, 0) + names.to_wire(domain) + SOA_IN
    response = http_client.ask_dns(where.host, where.port, query, DNS_TIMEOUT)
    if len(response) < HEADER.size:
        return False, f"DNS on {where}: what came back is no DNS message"
    echoed, flags, _, answers, _, _ = HEADER.unpack_from(response)
    rcode = flags & RCODE
    if echoed != identity or not flags & QR:
        return False, f"DNS on {where}: what came back is no response to us"
    if rcode == REFUSED:  # by an --allow without loopback: it lives, and does what it was told
        return True, f"ready; DNS on {where} answers, and refuses this address (--allow)"
    if rcode != NOERROR or not flags & AA or not answers:
        return False, f"DNS on {where}: no SOA for {domain} (rcode {rcode})"
    return True, f"ready; DNS on {where} answers for {domain}"


def _dns_of(dns: str | None, settings: Settings) -> Endpoint:
    if dns is None:
        return _reachable(settings.listen[0])
    try:
        return _reachable(endpoint(dns))
    except ValueError as error:
        raise BadSettings("--dns", dns, "an address and a port, 127.0.0.1:53") from error


def _reachable(listening: Endpoint) -> Endpoint:
    return Endpoint(STANDARD.get(listening.host, listening.host), listening.port)

"""`containerdns healthcheck`: whether a server is ready over HTTP and answers over DNS."""

import secrets
import struct
from urllib.parse import urlsplit

from containerdns.commands import http_client
from containerdns.config.groups import Settings
from containerdns.config.machine import family_of
from containerdns.config.values import endpoint
from containerdns.core import names
from containerdns.core.endpoints import Endpoint, address_text
from containerdns.core.protocol import messages
from containerdns.errors import BadMessage, BadSettings, ServerUnreachable

DNS_TIMEOUT = 2.0  # seconds; the server answers from memory
TRIES = 2  # datagrams may be lost
OK, FORBIDDEN = 200, 403
QUESTION = names.to_wire(messages.HEALTH_CHECK) + struct.pack("!2H", messages.TXT, messages.CH)


def check(settings: Settings, url: str | None, dns: str | None) -> tuple[bool, str]:
    """Ask a running server whether it is ready, and a DNS question that only we ask.

    The question is one that the server leaves out of its history and its counts.

    Args:
        settings: As loaded from environment and file.
        url: Its HTTP address; None for the one in the settings, which may be `off`.
        dns: Its DNS address, "ADDR:PORT"; None for the one it reports or the settings have.

    Returns:
        Whether it is healthy, and the reason.

    Raises:
        BadSettings: `dns` is not an address and port.
    """
    where, may_refuse = _dns_of(dns, settings), True
    if not url and settings.http.listen:
        url = f"http://{settings.http.listen.from_here()}"
    if url is not None:
        server = http_client.Server(url)
        try:
            status, reason = server.status("/readyz")
        except ServerUnreachable as fault:
            return False, f"{server.url}/readyz: {fault.reason}"
        if status not in (OK, FORBIDDEN):
            return False, f"{server.url}/readyz: {reason}"
        may_refuse = status == FORBIDDEN  # by an --allow without loopback, on both doors
        if dns is None:
            where = _as_it_says(server, where)
    return _answers(where, may_refuse)


def _as_it_says(server: http_client.Server, where: Endpoint) -> Endpoint:
    """Return what the server reports, as its flags are unknown here; else the settings' values.

    A wildcard stands for the address at which the server was reached over HTTP.
    """
    try:
        listens = endpoint(server.json("/status")["dns"][0])
    except (ServerUnreachable, KeyError, IndexError, ValueError):
        return where
    reached = address_text(urlsplit(server.url).hostname or "")
    if listens.is_wildcard and reached and family_of(reached) == family_of(listens.host):
        return Endpoint(reached, listens.port)
    return listens.from_here()


def _answers(where: Endpoint, may_refuse: bool) -> tuple[bool, str]:
    reason = ""
    for _ in range(TRIES):
        try:
            return _judged(where, may_refuse)
        except OSError as error:
            reason = f"DNS on {where}: {error.strerror or error}"
    return False, reason


def _judged(where: Endpoint, may_refuse: bool) -> tuple[bool, str]:
    identity = secrets.randbelow(1 << 16)
    query = messages.query(identity, 0, QUESTION)
    try:
        response = messages.parse_response(http_client.ask_dns(where, query, DNS_TIMEOUT))
    except BadMessage as bad:
        return False, f"DNS on {where}: the response is not a DNS message ({bad})"
    if response.id != identity:
        return False, f"DNS on {where}: the response is not for our query"
    if response.rcode == messages.REFUSED and may_refuse:
        return True, f"ready; DNS on {where} answers, but refuses this address (--allow)"
    if response.rcode or not response.flags & messages.AA or not response.answer:
        return False, f"DNS on {where}: no answer to the health check (rcode {response.rcode})"
    return True, f"ready; DNS on {where} answers"


def _dns_of(dns: str | None, settings: Settings) -> Endpoint:
    if dns is None:
        return settings.dns.listen[0].from_here()
    try:
        return endpoint(dns).from_here()
    except ValueError as error:
        raise BadSettings("--dns", dns, "an address and a port, 127.0.0.1:53") from error

"""`client-config`: where clients reach this server, and its domains.

Values not given on the command line come from the running server, or else from the
settings.  `client_targets` writes the configuration of each kind of client or resolver.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from containerdns.commands.http_client import Server
from containerdns.config import values
from containerdns.config.client_targets import Ours
from containerdns.config.groups import Settings
from containerdns.config.machine import main_address
from containerdns.core.endpoints import DNS_PORT, Endpoint
from containerdns.errors import BadName, BadSettings, ServerUnreachable

CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # created by Docker and Podman


@dataclass(frozen=True, slots=True)
class Given:
    """What was given on the command line, as typed.

    Attributes:
        servers: Addresses.
        port: None if it was not given.
        domains: As for `--domain`.
        search_domains: As for `--search-domain`.
    """

    servers: Sequence[str] = ()
    port: int | None = None
    domains: Sequence[str] = ()
    search_domains: Sequence[str] = ()


def find_ours(given: Given, running: Server, load: Callable[[], Settings]) -> Ours:
    """Complete what was given, from the running server or else from the settings.

    Args:
        given: Takes precedence.
        running: The server to ask for the rest.
        load: Loads the settings if that server does not answer.

    Raises:
        BadSettings: An invalid address or domain was given; or none was given and this is a
            container, which clients do not reach at its own address.
    """
    hosts = tuple(_host(server) for server in given.servers)
    owned = tuple(_domain("--domain", domain) for domain in given.domains)
    searched = tuple(_domain("--search-domain", domain) for domain in given.search_domains)
    if hosts and owned:
        port = given.port or DNS_PORT
        return Ours(tuple(Endpoint(host, port) for host in hosts), owned, searched)
    known = _from_server(running) or _from_settings(load())
    found = hosts or _addresses(known.endpoints, running.url)
    if not found and any(mark.exists() for mark in CONTAINER_MARKS):
        raise BadSettings("--server", "", "the address where clients reach this container")
    port = given.port or known.port
    guessed = main_address(socket.AF_INET) or "127.0.0.1"
    return Ours(
        tuple(Endpoint(host, port) for host in found or (guessed,)),
        owned or known.domains,
        searched or known.search_domains,
        known.subnets,
        is_guess=not found,
    )


def _from_server(running: Server) -> Ours | None:
    try:
        status = running.json("/status")
        listening = tuple(values.endpoint(text) for text in status["dns"])
        domains = tuple(str(domain).rstrip(".") for domain in status["domains"])
        searched = tuple(str(domain).rstrip(".") for domain in status["search_domains"])
        subnets = tuple(str(ipaddress.ip_network(text)) for text in status.get("subnets", ()))
    except (ServerUnreachable, KeyError, TypeError, ValueError):
        return None
    return Ours(listening, domains, searched, subnets) if listening and domains else None


def _from_settings(settings: Settings) -> Ours:
    listening = settings.dns.listen
    if settings.rights.host_addresses:
        port = listening[0].port
        listening = tuple(Endpoint(host, port) for host in settings.rights.host_addresses)
    return Ours(
        listening,
        tuple(domain.rstrip(".") for domain in settings.zone.domains),
        tuple(domain.rstrip(".") for domain in settings.zone.search_domains),
    )


def _addresses(listening: Sequence[Endpoint], url: str) -> tuple[str, ...]:
    """Return addresses that clients can use: those listened on, or the one in the URL."""
    told = [e.host for e in listening if not e.is_wildcard]
    if told:
        return tuple(dict.fromkeys(told))
    host = urlsplit(url).hostname or ""
    try:
        address = values.address(host)
    except ValueError:
        return ()
    return () if ipaddress.ip_address(address).is_loopback else (address,)


def _host(text: str) -> str:
    try:
        return values.address(text)
    except ValueError as error:
        raise BadSettings("--server", text, "an IP address") from error


def _domain(option: str, text: str) -> str:
    try:
        return values.host_name(text)
    except (ValueError, BadName) as error:
        raise BadSettings(option, text, "a domain name other than the root") from error

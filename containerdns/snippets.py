"""What makes a client or another resolver ask us, for each kind of them.

Each writer gives files that the program itself accepts; what a person must know stands
in comments, or beside the file where its format has none.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from containerdns import readers
from containerdns.asking import Server
from containerdns.errors import BadName, BadSettings, ServerUnreachable
from containerdns.readers import DNS_PORT, Endpoint
from containerdns.settings import Settings

SOMEWHERE = ("192.0.2.1", 9)  # RFC 5737; nothing is sent to it
SPECIAL = ("test", "invalid", "onion", "local", "home.arpa")  # Unbound answers these itself
ONLY_53 = "can ask on port 53 only, and this server listens on {port}: --listen {host}:53"


@dataclass(frozen=True, slots=True)
class Ours:
    """Where we are and what we own.

    Attributes:
        endpoints: Addresses for clients, IPv4 first; at least one.
        domains: Without the final dot, as these programs want them; at least one.
        search_domains: Domains in which we answer for containers and forward all else, so that
            what forwards to us had better send them to us whole.
        is_guess: Nobody told the address; it is the one towards the default route.
    """

    endpoints: tuple[Endpoint, ...]
    domains: tuple[str, ...]
    search_domains: tuple[str, ...] = ()
    is_guess: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses alone."""
        return tuple(endpoint.host for endpoint in self.endpoints)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """All that is to come to us."""
        return (*self.domains, *self.search_domains)

    @property
    def port(self) -> int:
        """The port of them all."""
        return self.endpoints[0].port


@dataclass(frozen=True, slots=True)
class Snippet:
    """What to write where.

    Attributes:
        files: Path and content of each, in order; "" as path is a shell or nothing.
        notes_aside: What a person must know, of a format that has no comments.
        has_comments: "#" starts a comment in these files.
    """

    files: tuple[tuple[str, str], ...]
    notes_aside: tuple[str, ...] = ()
    has_comments: bool = True

    def text(self) -> str:
        """All files, each headed by its path if its format has comments."""
        if not self.has_comments:
            return "".join(content for _, content in self.files)
        return "\n".join((f"# {path}\n" if path else "") + content for path, content in self.files)

    def document(self, target: str, ours: Ours) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "target": target,
            "servers": [str(endpoint) for endpoint in ours.endpoints],
            "domains": list(ours.domains),
            "search_domains": list(ours.search_domains),
            "files": [{"path": path, "content": content} for path, content in self.files],
            "notes": list(self.notes_aside),
        }


def write(target: str, ours: Ours) -> Snippet:
    """Write the snippet for a target, one of `WRITERS`."""
    snippet = WRITERS[target](ours)
    guess = (
        f"{ours.hosts[0]} is this machine's address towards its default route; "
        "for another: --server IP"
    )
    notes = [guess] if ours.is_guess else []
    if ours.port != DNS_PORT and target in WITHOUT_PORTS:
        host = f"[{ours.hosts[0]}]" if ":" in ours.hosts[0] else ours.hosts[0]
        notes.append(f"{target} " + ONLY_53.format(port=ours.port, host=host))
    if not snippet.has_comments:
        aside = tuple(f"# {note}" for note in notes)
        return Snippet(snippet.files, (*aside, *snippet.notes_aside), has_comments=False)
    path, content = snippet.files[0]
    head = "".join(f"# {note}\n" for note in notes)
    return Snippet(((path, head + content), *snippet.files[1:]), snippet.notes_aside)


@dataclass(frozen=True, slots=True)
class Given:
    """What was given on the command line, as typed.

    Attributes:
        servers: Addresses.
        port: None if it was not.
        domains: What we own.
        search_domains: What we answer in, and forward the rest of.
    """

    servers: Sequence[str] = ()
    port: int | None = None
    domains: Sequence[str] = ()
    search_domains: Sequence[str] = ()


def find_ours(given: Given, running: Server, load: Callable[[], Settings]) -> Ours:
    """Find out what was not given: from the running server, else from the settings.

    Args:
        given: What need not be found out.
        running: Who is asked for the rest.
        load: Gives the settings if that one does not answer.

    Raises:
        BadSettings: What was given is no address or no domain.
    """
    hosts = tuple(_host(server) for server in given.servers)
    owned = tuple(_domain("--domain", domain) for domain in given.domains)
    searched = tuple(_domain("--search-domain", domain) for domain in given.search_domains)
    if hosts and owned:
        port = given.port or DNS_PORT
        return Ours(tuple(Endpoint(host, port) for host in hosts), owned, searched)
    known = _from_server(running) or _from_settings(load())
    found = hosts or _addresses(known.endpoints, running.url)
    is_guess = not found
    port = given.port or known.port
    return Ours(
        tuple(Endpoint(host, port) for host in found or (_towards_default_route(),)),
        owned or known.domains,
        searched or known.search_domains,
        is_guess,
    )


def _from_server(running: Server) -> Ours | None:
    try:
        status = running.json("/status")
        listening = tuple(readers.endpoint(text) for text in status["dns"])
        domains = tuple(str(domain).rstrip(".") for domain in status["domains"])
        searched = tuple(str(domain).rstrip(".") for domain in status["search_domains"])
    except (ServerUnreachable, KeyError, TypeError, ValueError):
        return None
    return Ours(listening, domains, searched) if listening and domains else None


def _from_settings(settings: Settings) -> Ours:
    listening = settings.listen
    if settings.host_addresses:
        port = listening[0].port
        listening = tuple(Endpoint(str(host), port) for host in settings.host_addresses)
    return Ours(
        listening,
        tuple(domain.rstrip(".") for domain in settings.domains),
        tuple(domain.rstrip(".") for domain in settings.search_domains),
    )


def _addresses(listening: Sequence[Endpoint], url: str) -> tuple[str, ...]:
    """Addresses that a client can be told: those listened on, or the one of the URL."""
    told = [e.host for e in listening if e.host not in ("0.0.0.0", "::")]
    if told:
        return tuple(dict.fromkeys(told))
    host = urlsplit(url).hostname or ""
    try:
        address = readers.address(host)
    except ValueError:
        return ()
    return () if address.is_loopback else (str(address),)


def _towards_default_route() -> str:
    """This machine's own address as others mostly see it; loopback without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(SOMEWHERE)
        except OSError:
            return "127.0.0.1"
        return str(asking.getsockname()[0])


def _host(text: str) -> str:
    try:
        return str(readers.address(text))
    except ValueError as error:
        raise BadSettings("--server", text, "an IP address") from error


def _domain(option: str, text: str) -> str:
    try:
        return readers.host_name(text)
    except (ValueError, BadName) as error:
        raise BadSettings(option, text, "a domain name other than the root") from error


def _systemd_resolved(ours: Ours) -> Snippet:
    servers = " ".join(_with_port(endpoint, ":") for endpoint in ours.endpoints)
    domains = " ".join((*ours.domains, *(f"~{domain}" for domain in ours.search_domains)))
    routed = " ".join(f"~{domain}" for domain in ours.domains)
    drop_in = (
        f"# A search domain: web becomes web.{ours.domains[0]}, as resolved sends no single\n"
        f"# label to any server. Domains={routed} would only send these domains here.\n"
        f"[Resolve]\nDNS={servers}\nDomains={domains}\n"
    )
    # The root proves that no such domain exists, dnssec-trust-anchors.d(5).
    anchors = tuple(
        (
            f"/etc/dnssec-trust-anchors.d/{domain}.negative",
            f"; With DNSSEC=yes: the root proves that {domain} does not exist.\n{domain}\n",
        )
        for domain in ours.suffixes
    )
    again = "# Then: systemctl restart systemd-resolved\n"
    return Snippet((("/etc/systemd/resolved.conf.d/containerdns.conf", again + drop_in), *anchors))


def _networkmanager(ours: Ours) -> Snippet:
    hosts, domains = " ".join(ours.hosts), ",".join(ours.domains)
    main = (
        "# NetworkManager starts a dnsmasq of its own, which asks us for our names.\n"
        "# Or, for the connection of a VPN alone:\n"
        f'#   nmcli connection modify VPN ipv4.dns "{hosts}" ipv4.dns-search "{domains}"\n'
        "# Then: systemctl reload NetworkManager\n"
        "[main]\ndns=dnsmasq\n"
    )
    return Snippet(
        (
            ("/etc/NetworkManager/conf.d/containerdns.conf", main),
            ("/etc/NetworkManager/dnsmasq.d/containerdns.conf", _dnsmasq_lines(ours)),
        )
    )


def _dnsmasq(ours: Ours) -> Snippet:
    again = "# Then: systemctl restart dnsmasq\n"
    return Snippet((("/etc/dnsmasq.d/containerdns.conf", again + _dnsmasq_lines(ours)),))


def _dnsmasq_lines(ours: Ours) -> str:
    servers = [_with_port(endpoint, "#", brackets=False) for endpoint in ours.endpoints]
    lines = [f"server=/{domain}/{server}" for domain in ours.suffixes for server in servers]
    lines += ["# Names without a dot; they need that domain-needed is not set."]
    lines += [f"server=//{server}" for server in servers]
    lines += ["# With stop-dns-rebind, private addresses would be dropped."]
    lines += [f"rebind-domain-ok=/{domain}/" for domain in ours.suffixes]
    return "\n".join(lines) + "\n"


def _unbound(ours: Ours) -> Snippet:
    lines = ["# Then: unbound-control reload", "server:"]
    for domain in ours.suffixes:
        lines.append(f"    # What we say of {domain} is not signed, and may be proved absent.")
        lines.append(f'    domain-insecure: "{domain}."')
        lines.append(f'    private-domain: "{domain}."')
        if any(f".{domain}".endswith(f".{special}") for special in SPECIAL):
            lines.append(f'    local-zone: "{domain}." transparent')
    if any(readers.address(host).is_loopback for host in ours.hosts):
        lines.append("    do-not-query-localhost: no")
    for domain in ours.suffixes:
        lines += ["forward-zone:", f'    name: "{domain}."']
        lines += [
            f"    forward-addr: {_with_port(endpoint, '@', brackets=False)}"
            for endpoint in ours.endpoints
        ]
    return Snippet((("/etc/unbound/unbound.conf.d/containerdns.conf", "\n".join(lines) + "\n"),))


def _openvpn(ours: Ours) -> Snippet:
    lines = ["# In the server's configuration; clients take it when they connect again."]
    lines += [
        f'push "dhcp-option {"DNS6" if ":" in host else "DNS"} {host}"' for host in ours.hosts
    ]
    lines.append(f'push "dhcp-option DOMAIN {ours.domains[0]}"')
    lines += [f'push "dhcp-option DOMAIN-SEARCH {domain}"' for domain in ours.domains]
    lines += [
        "# Clients must reach the containers too; Docker's networks mostly lie in this range:",
        '# push "route 172.16.0.0 255.240.0.0"',
    ]
    return Snippet((("", "\n".join(lines) + "\n"),))


def _wireguard(ours: Ours) -> Snippet:
    listed = ", ".join((*ours.hosts, *ours.domains))
    content = (
        "# In the client's configuration; wg-quick takes addresses as servers, names as search\n"
        "# domains. AllowedIPs of the peer must hold the server and the containers' networks,\n"
        "# mostly 172.16.0.0/12.\n"
        f"[Interface]\nDNS = {listed}\n"
    )
    return Snippet((("", content),))


def _tailscale(ours: Ours) -> Snippet:
    steps = [
        "In Tailscale's admin console, DNS, Nameservers, Add nameserver, Custom:",
        f"  nameserver: {', '.join(ours.hosts)}",
        f"  restrict to domain (split DNS): {', '.join(ours.domains)}",
        f"and under Search domains: {', '.join(ours.domains)}",
        "Clients reach the containers once this machine offers their networks:",
    ]
    content = "".join(f"# {step}\n" for step in steps)
    return Snippet((("", content + "tailscale set --advertise-routes=172.16.0.0/12\n"),))


def _macos(ours: Ours) -> Snippet:
    lines = [f"nameserver {host}" for host in ours.hosts]
    if ours.port != DNS_PORT:
        lines.append(f"port {ours.port}")
    return Snippet(
        tuple((f"/etc/resolver/{domain}", "\n".join(lines) + "\n") for domain in ours.domains)
    )


def _windows(ours: Ours) -> Snippet:
    servers = ", ".join(f'"{host}"' for host in ours.hosts)
    lines = ["# PowerShell, as administrator"]
    lines += [
        f'Add-DnsClientNrptRule -Namespace ".{domain}" -NameServers {servers}'
        for domain in ours.domains
    ]
    suffixes = ", ".join(f'"{domain}"' for domain in ours.domains)
    lines += [
        "# A single label is asked for with these suffixes; add those that you have already:",
        f"Set-DnsClientGlobalSetting -SuffixSearchList @({suffixes})",
    ]
    return Snippet((("", "\n".join(lines) + "\n"),))


def _docker(ours: Ours) -> Snippet:
    def array(texts: Sequence[str]) -> str:
        return ", ".join(f'"{text}"' for text in texts)

    content = f'{{\n  "dns": [{array(ours.hosts)}],\n  "dns-search": [{array(ours.domains)}]\n}}\n'
    notes = (
        "# /etc/docker/daemon.json; then: systemctl restart docker",
        "# Containers that exist already keep what they have. In a Compose file, of one service:",
        f"#   dns: [{array(ours.hosts)}]",
        f"#   dns_search: [{array(ours.domains)}]",
    )
    return Snippet((("/etc/docker/daemon.json", content),), notes, has_comments=False)


def _with_port(endpoint: Endpoint, mark: str, *, brackets: bool = True) -> str:
    """An address as most programs write it: the port only if it is not 53."""
    if endpoint.port == DNS_PORT:
        return endpoint.host
    host = f"[{endpoint.host}]" if brackets and ":" in endpoint.host else endpoint.host
    return f"{host}{mark}{endpoint.port}"


WRITERS: dict[str, Callable[[Ours], Snippet]] = {
    "systemd-resolved": _systemd_resolved,
    "networkmanager": _networkmanager,
    "dnsmasq": _dnsmasq,
    "unbound": _unbound,
    "openvpn": _openvpn,
    "wireguard": _wireguard,
    "tailscale": _tailscale,
    "macos": _macos,
    "windows": _windows,
    "docker": _docker,
}
WITHOUT_PORTS = ("openvpn", "wireguard", "tailscale", "windows", "docker")

"""Configuration that makes each kind of client or resolver use this server.

Each writer returns files in the program's own format, how to test them and how to undo them.
Explanations are comments, or follow the file if its format has no comments.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from containerdns.core.endpoints import DNS_PORT, Endpoint

# Answered by Unbound itself, unbound.conf(5) under local-zone.
UNBOUND_ANSWERS = ("test", "invalid", "onion", "local", "home.arpa")
USUAL_SUBNETS = ("172.16.0.0/12",)  # from which Docker allocates its first networks
ONLY_53 = "supports port 53 only, but this server listens on {port}: --listen {host}:53"
WITHOUT_PORTS = frozenset(
    {"openvpn", "wireguard", "tailscale", "headscale", "windows", "docker", "resolv.conf"}
)


@dataclass(frozen=True, slots=True)
class Ours:
    """Where clients reach this server, and its domains.

    Attributes:
        endpoints: Addresses for clients, IPv4 first; at least one.
        domains: Without the final dot, as these programs expect; at least one.
        search_domains: Domains in which containers are answered and all other names forwarded;
            a resolver in front should send these whole domains here.
        subnets: Those of the Engine's own networks, which clients need routes to; may be empty.
        is_guess: The address was not given; it is the one on the default route.
    """

    endpoints: tuple[Endpoint, ...]
    domains: tuple[str, ...]
    search_domains: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    is_guess: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses without ports."""
        return tuple(endpoint.host for endpoint in self.endpoints)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """All domains whose names should be sent here."""
        return (*self.domains, *self.search_domains)

    @property
    def port(self) -> int:
        """The port, which is the same for all addresses."""
        return self.endpoints[0].port

    @property
    def routes(self) -> tuple[str, ...]:
        """The networks that clients need a route to, or Docker's usual ones if unknown."""
        return self.subnets or USUAL_SUBNETS

    @property
    def sample(self) -> str:
        """A name to test with, which every containerdns has."""
        return f"host.{self.domains[0]}"


@dataclass(frozen=True, slots=True)
class Snippet:
    """What to write where, how to test it, and how to undo it.

    Attributes:
        files: Path and content of each, in order; the path is "" for commands or instructions.
        test: A command that shows whether it works.
        undo: A command or step that reverts it.
        notes: Further explanations, one line each.
        has_comments: "#" starts a comment in these files.
    """

    files: tuple[tuple[str, str], ...]
    test: str
    undo: str
    notes: tuple[str, ...] = ()
    has_comments: bool = True

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes, test and undo, as comment lines."""
        comments = (*self.notes, f"Test: {self.test}", f"Undo: {self.undo}")
        return tuple(f"# {line}" for line in comments)

    def text(self) -> str:
        """Return all files with the remarks; paths are comments, if the format has them."""
        if not self.has_comments:
            return "".join(content for _, content in self.files)
        parts = [(f"# {path}\n" if path else "") + content for path, content in self.files]
        return "\n".join((*parts, "\n".join(self.remarks) + "\n"))

    def document(self, target: str, ours: Ours) -> dict[str, Any]:
        """Return the snippet as a JSON document."""
        return {
            "target": target,
            "servers": [str(endpoint) for endpoint in ours.endpoints],
            "domains": list(ours.domains),
            "search_domains": list(ours.search_domains),
            "files": [{"path": path, "content": content} for path, content in self.files],
            "notes": list(self.notes),
            "test": self.test,
            "undo": self.undo,
        }


def write(target: str, ours: Ours) -> Snippet:
    """Write the snippet for a target, one of `WRITERS`."""
    snippet = WRITERS[target](ours)
    notes = list(snippet.notes)
    if ours.is_guess:
        notes.append(
            f"{ours.hosts[0]} is this machine's address towards its default route; "
            "for another: --server IP"
        )
    if ours.port != DNS_PORT and target in WITHOUT_PORTS:
        host = f"[{ours.hosts[0]}]" if ":" in ours.hosts[0] else ours.hosts[0]
        notes.append(f"{target} " + ONLY_53.format(port=ours.port, host=host))
    return Snippet(snippet.files, snippet.test, snippet.undo, tuple(notes), snippet.has_comments)


# Clients.


def _systemd_resolved(ours: Ours) -> Snippet:
    """Write settings for the link, or global ones if this server is on the same machine.

    With global ones, resolved sends every name both here and to the link's server, and
    takes the faster answer; so they suit only the Docker host itself.
    """
    if all(ip_address(host).is_loopback for host in ours.hosts):
        return _systemd_resolved_globally(ours)
    servers = " ".join(_with_port(endpoint, ":") for endpoint in ours.endpoints)
    domains = _resolved_domains(ours)
    delegate = (
        "# systemd 258 and newer. Then: systemctl restart systemd-resolved\n"
        f"[Delegate]\nDNS={servers}\nDomains={domains}\n"
    )
    quoted = " ".join(f"'{domain}'" for domain in domains.split())
    link = (
        "# Older versions: settings of the VPN's link, which are lost with it (a hook of the VPN "
        "can\n"
        "# set them again). A link that already has another DNS server cannot have both.\n"
        f"link=$(ip -o route get {ours.hosts[0]} | sed 's/.* dev \\([^ ]*\\).*/\\1/')\n"
        f'resolvectl dns "$link" {servers}\n'
        f'resolvectl domain "$link" {quoted}\n'
        'resolvectl default-route "$link" no\n'
    )
    path = "/etc/systemd/dns-delegate.d/containerdns.dns-delegate"
    return Snippet(
        (("", link), (path, delegate), *_negative_anchors(ours)),
        test=f"resolvectl query {ours.sample}",
        undo=f'resolvectl revert "$link", or remove {path}',
        notes=("On the Docker host itself: client-config systemd-resolved --server 127.0.0.1",),
    )


def _systemd_resolved_globally(ours: Ours) -> Snippet:
    servers = " ".join(_with_port(endpoint, ":") for endpoint in ours.endpoints)
    path = "/etc/systemd/resolved.conf.d/containerdns.conf"
    drop_in = (
        "# Then: systemctl restart systemd-resolved\n"
        f"# A search domain: web becomes web.{ours.domains[0]}, as resolved never sends single\n"
        "# labels to a server. Other names may be sent here as well, and are forwarded.\n"
        f"[Resolve]\nDNS={servers}\nDomains={_resolved_domains(ours)}\n"
    )
    return Snippet(
        ((path, drop_in), *_negative_anchors(ours)),
        test=f"resolvectl query {ours.sample}",
        undo=f"rm {path} && systemctl restart systemd-resolved",
        notes=("Only for the machine that containerdns runs on.",),
    )


def _resolved_domains(ours: Ours) -> str:
    return " ".join((*ours.domains, *(f"~{domain}" for domain in ours.search_domains)))


def _negative_anchors(ours: Ours) -> tuple[tuple[str, str], ...]:
    """Return the files that make a validating resolved accept our answers.

    See dnssec-trust-anchors.d(5).
    """
    return tuple(
        (
            f"/etc/dnssec-trust-anchors.d/{domain}.negative",
            f"; With DNSSEC=yes: the root proves that {domain} does not exist.\n{domain}\n",
        )
        for domain in ours.suffixes
    )


def _networkmanager(ours: Ours) -> Snippet:
    hosts, domains = " ".join(ours.hosts), ",".join(ours.domains)
    main = (
        "# NetworkManager starts its own dnsmasq, which forwards our names here; this needs the\n"
        "# package dnsmasq-base. Or, only for the connection of a VPN:\n"
        f'#   nmcli connection modify VPN ipv4.dns "{hosts}" ipv4.dns-search "{domains}"\n'
        "# Then: systemctl reload NetworkManager\n"
        "[main]\ndns=dnsmasq\n"
    )
    paths = [f"/etc/NetworkManager/{part}/containerdns.conf" for part in ("conf.d", "dnsmasq.d")]
    return Snippet(
        ((paths[0], main), (paths[1], _dnsmasq_lines(ours))),
        test=f"getent hosts {ours.sample}",
        undo=f"rm {' '.join(paths)} && systemctl reload NetworkManager",
    )


def _macos(ours: Ours) -> Snippet:
    lines = [f"nameserver {host}" for host in ours.hosts]
    if ours.port != DNS_PORT:
        lines.append(f"port {ours.port}")
    paths = [f"/etc/resolver/{domain}" for domain in ours.domains]
    searched = " ".join(ours.domains)
    return Snippet(
        tuple((path, "\n".join(lines) + "\n") for path in paths),
        test=f"dscacheutil -q host -a name {ours.sample} (dig and nslookup ignore these files)",
        undo=f"sudo rm {' '.join(paths)}; sudo networksetup -setsearchdomains Wi-Fi Empty",
        notes=(
            "First: sudo mkdir -p /etc/resolver. For single labels, for each network service:",
            f"  sudo networksetup -setsearchdomains Wi-Fi {searched}",
        ),
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
        "# Single labels are looked up with these suffixes; include those already configured:",
        f"Set-DnsClientGlobalSetting -SuffixSearchList @({suffixes})",
    ]
    named = ", ".join(f'".{domain}"' for domain in ours.domains)
    return Snippet(
        (("", "\n".join(lines) + "\n"),),
        test=f"Resolve-DnsName {ours.sample} (nslookup ignores these rules)",
        undo=f"Get-DnsClientNrptRule | Where-Object Namespace -in {named} | "
        "Remove-DnsClientNrptRule -Force; Set-DnsClientGlobalSetting -SuffixSearchList @()",
    )


def _resolv_conf(ours: Ours) -> Snippet:
    lines = ["# This server answers all names; any other server listed here would be used as well."]
    lines += [f"nameserver {host}" for host in ours.hosts]
    lines.append(f"search {' '.join(ours.suffixes)}")
    return Snippet(
        (("/etc/resolv.conf", "\n".join(lines) + "\n"),),
        test=f"getent hosts {ours.sample}",
        undo="restore the previous nameserver lines",
        notes=("If something manages this file (DHCP, resolvconf), configure that instead.",),
    )


def _docker(ours: Ours) -> Snippet:
    def array(texts: Sequence[str]) -> str:
        return ", ".join(f'"{text}"' for text in texts)

    content = json.dumps({"dns": ours.hosts, "dns-search": ours.domains}, indent=2) + "\n"
    path = "/etc/docker/daemon.json"
    return Snippet(
        ((path, content),),
        test=f"docker run --rm busybox nslookup {ours.sample}",
        undo=f"remove both keys from {path} and restart docker",
        notes=(
            f"Merge this into {path}, which may have other keys; then: systemctl restart docker",
            f"  containerdns client-config docker | jq -s '.[0] * .[1]' {path} -",
            "Existing containers keep their settings. In a Compose file, for one service:",
            f"  dns: [{array(ours.hosts)}]",
            f"  dns_search: [{array(ours.domains)}]",
        ),
        has_comments=False,
    )


# VPNs, whose server configures the clients.


def _openvpn(ours: Ours) -> Snippet:
    lines = [
        "# In the server's configuration. OpenVPN 2.6 and newer: only our names are sent here."
    ]
    for number, endpoint in enumerate(ours.endpoints):
        lines.append(f'push "dns server {number} address {_with_port(endpoint, ":")}"')
        lines.append(f'push "dns server {number} resolve-domains {" ".join(ours.suffixes)}"')
    lines.append(f'push "dns search-domains {" ".join(ours.domains)}"')
    lines.append("# Older clients: all names are sent here.")
    lines += [
        f'push "dhcp-option {"DNS6" if ":" in host else "DNS"} {host}"' for host in ours.hosts
    ]
    lines.append(f'push "dhcp-option DOMAIN {ours.domains[0]}"')
    lines += [f'push "dhcp-option DOMAIN-SEARCH {domain}"' for domain in ours.domains]
    lines.append("# Routes to the containers:")
    lines += [_openvpn_route(route) for route in ours.routes]
    return Snippet(
        (("", "\n".join(lines) + "\n"),),
        test=f"reconnect; then, on the client: getent hosts {ours.sample}",
        undo="remove these lines and restart the server",
    )


def _openvpn_route(route: str) -> str:
    network = ip_network(route)
    if network.version == 6:
        return f'push "route-ipv6 {network}"'
    return f'push "route {network.network_address} {network.netmask}"'


def _wireguard(ours: Ours) -> Snippet:
    listed = ", ".join((*ours.hosts, *ours.domains))
    content = (
        "# In the client's configuration; wg-quick treats addresses as servers, names as search\n"
        "# domains, and then sends all names here. The peer's AllowedIPs must include the server\n"
        f"# and the containers' networks: {', '.join(ours.routes)}\n"
        f"[Interface]\nDNS = {listed}\n"
    )
    return Snippet(
        (("", content),),
        test=f"wg-quick up wg0 && getent hosts {ours.sample}",
        undo="remove the DNS line; wg-quick down wg0 && wg-quick up wg0",
    )


def _tailscale(ours: Ours) -> Snippet:
    routes = ",".join(ours.routes)
    domains = ", ".join(ours.domains)
    steps = [
        "# In Tailscale's admin console, DNS, Nameservers, Add nameserver, Custom:",
        f"#   nameserver: {', '.join(ours.hosts)}",
        f"#   restrict to domain (split DNS): {domains}",
        f"# and under Search domains: {domains}",
        "# On the Docker host, which advertises its containers' networks:",
        f"tailscale set --advertise-routes={routes}",
        "# In the admin console, Machines, the Docker host, Edit route settings: approve them.",
        "# On each Linux client, as these do not accept routes by default:",
        "tailscale set --accept-routes",
    ]
    return Snippet(
        (("", "\n".join(steps) + "\n"),),
        test=f"tailscale dns query {ours.sample}",
        undo="remove the nameserver in the console; tailscale set --advertise-routes=",
    )


def _headscale(ours: Ours) -> Snippet:
    lines = ["dns:", "  nameservers:", "    split:"]
    for domain in ours.domains:
        lines.append(f"      {domain}:")
        lines += [f'        - "{host}"' for host in ours.hosts]
    lines += ["  search_domains:", *(f"    - {domain}" for domain in ours.domains)]
    routes = ",".join(ours.routes)
    return Snippet(
        (("/etc/headscale/config.yaml", "\n".join(lines) + "\n"),),
        test=f"tailscale dns query {ours.sample}",
        undo="remove these keys and restart headscale",
        notes=(
            "Merge this into the dns section and restart headscale.",
            f"On the Docker host: tailscale set --advertise-routes={routes}",
            f"On headscale: headscale nodes approve-routes --identifier ID --routes {routes}",
            "On each Linux client: tailscale set --accept-routes",
        ),
    )


# Resolvers that forward our names here.


def _dnsmasq(ours: Ours) -> Snippet:
    again = "# Then: systemctl restart dnsmasq\n"
    path = "/etc/dnsmasq.d/containerdns.conf"
    return Snippet(
        ((path, again + _dnsmasq_lines(ours)),),
        test=f"dig @127.0.0.1 {ours.sample}",
        undo=f"rm {path} && systemctl restart dnsmasq",
    )


def _dnsmasq_settings(ours: Ours) -> list[str]:
    """Return the settings that forward our names here, without comments."""
    servers = [_with_port(endpoint, "#", brackets=False) for endpoint in ours.endpoints]
    lines = [f"server=/{domain}/{server}" for domain in ours.suffixes for server in servers]
    lines += [f"server=//{server}" for server in servers]
    return lines + [f"rebind-domain-ok=/{domain}/" for domain in ours.suffixes]


def _dnsmasq_lines(ours: Ours) -> str:
    remarks = (
        "# server=// is for names without a dot; domain-needed must not be set.\n"
        "# rebind-domain-ok keeps stop-dns-rebind from dropping private addresses.\n"
    )
    return remarks + "\n".join(_dnsmasq_settings(ours)) + "\n"


def _pihole(ours: Ours) -> Snippet:
    settings = json.dumps(_dnsmasq_settings(ours))
    lines = [
        "# Pi-hole 6. Version 5: client-config dnsmasq, as /etc/dnsmasq.d/99-containerdns.conf",
        f"pihole-FTL --config misc.dnsmasq_lines '{settings}'",
        "# For names without a dot (Settings, DNS, Never forward non-FQDN queries: off):",
        "pihole-FTL --config dns.domainNeeded false",
    ]
    return Snippet(
        (("", "\n".join(lines) + "\n"),),
        test=f"dig @127.0.0.1 {ours.sample}",
        undo="pihole-FTL --config misc.dnsmasq_lines '[]'",
        notes=("This replaces the current misc.dnsmasq_lines; add any lines you want to keep.",),
    )


def _adguard(ours: Ours) -> Snippet:
    servers = [_with_port(endpoint, ":") for endpoint in ours.endpoints]
    kinds = [*(f"[/{domain}/]" for domain in ours.suffixes), "[//]"]
    lines = ["# Settings, DNS settings, Upstream DNS servers; [//] is for names without a dot:"]
    lines += [f"{kind}{server}" for kind in kinds for server in servers]
    return Snippet(
        (("", "\n".join(lines) + "\n"),),
        test=f"Test upstreams, on the same page; then: dig @127.0.0.1 {ours.sample}",
        undo="remove these lines there",
        notes=("For reverse lookups: the same servers under Private reverse DNS servers.",),
    )


def _openwrt(ours: Ours) -> Snippet:
    servers = [_with_port(endpoint, "#", brackets=False) for endpoint in ours.endpoints]
    changes = [
        *(("server", f"/{domain}/{server}") for domain in ours.suffixes for server in servers),
        *(("rebind_domain", domain) for domain in ours.suffixes),
    ]
    search = f"119,{','.join(ours.domains)}"  # RFC 3397
    lines = [
        *(f"uci add_list dhcp.@dnsmasq[0].{option}='{value}'" for option, value in changes),
        "# Clients in the LAN append our domain to names without a dot:",
        f"uci add_list dhcp.lan.dhcp_option='{search}'",
        "uci commit dhcp && service dnsmasq restart",
    ]
    undo = "the same lines with del_list instead of add_list"
    return Snippet((("", "\n".join(lines) + "\n"),), f"nslookup {ours.sample} 127.0.0.1", undo)


def _unbound(ours: Ours) -> Snippet:
    lines = ["# Then: unbound-control reload", "server:"]
    for domain in ours.suffixes:
        lines.append(
            f"    # Answers for {domain} are not signed, and DNSSEC may prove that it "
            f"does not exist."
        )
        lines.append(f'    domain-insecure: "{domain}."')
        lines.append(f'    private-domain: "{domain}."')
        if any(f".{domain}".endswith(f".{special}") for special in UNBOUND_ANSWERS):
            lines.append(f'    local-zone: "{domain}." transparent')
    if any(ip_address(host).is_loopback for host in ours.hosts):
        lines.append("    do-not-query-localhost: no")
    for domain in ours.suffixes:
        lines += ["forward-zone:", f'    name: "{domain}."']
        lines += [
            f"    forward-addr: {_with_port(endpoint, '@', brackets=False)}"
            for endpoint in ours.endpoints
        ]
    path = "/etc/unbound/unbound.conf.d/containerdns.conf"
    return Snippet(
        ((path, "\n".join(lines) + "\n"),),
        test=f"dig @127.0.0.1 {ours.sample}",
        undo=f"rm {path} && unbound-control reload",
    )


def _bind(ours: Ours) -> Snippet:
    forwarders = " ".join(
        f"{endpoint.host}{'' if endpoint.port == DNS_PORT else f' port {endpoint.port}'};"
        for endpoint in ours.endpoints
    )
    zones = "".join(
        f'zone "{domain}" {{ type forward; forward only; forwarders {{ {forwarders} }}; }};\n'
        for domain in ours.suffixes
    )
    listed = " ".join(f'"{domain}";' for domain in ours.suffixes)
    options = (
        "# DNSSEC proves that these do not exist in the public DNS; our answers are not signed.\n"
        f"validate-except {{ {listed} }};\n"
    )
    paths = ("/etc/bind/containerdns.conf", "/etc/bind/containerdns.options")
    return Snippet(
        ((paths[0], zones), (paths[1], options)),
        test=f"dig @127.0.0.1 {ours.sample}",
        undo="remove both include lines; rndc reconfig",
        notes=(
            f'In named.conf: include "{paths[0]}";',
            f'Inside its options {{ }}: include "{paths[1]}"; then: rndc reconfig',
        ),
    )


def _with_port(endpoint: Endpoint, mark: str, *, brackets: bool = True) -> str:
    """Return an address in the usual notation, with the port only if it is not 53."""
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
    "headscale": _headscale,
    "macos": _macos,
    "windows": _windows,
    "docker": _docker,
    "pihole": _pihole,
    "adguard": _adguard,
    "openwrt": _openwrt,
    "bind": _bind,
    "resolv.conf": _resolv_conf,
}

"""Addresses, networks and servers as values, independent of their notation.

`config/values` parses them.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

DNS_PORT = 53
MAX_PORT = 65535
# All addresses of a family, to listen on, and the one at which this machine reaches them.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}

LOOPBACK: tuple[IPNetwork, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
PRIVATE: tuple[IPNetwork, ...] = (
    *LOOPBACK,
    *map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),  # RFC 1918
    *map(ip_network, ("169.254.0.0/16", "fe80::/10")),  # link-local
    ip_network("fc00::/7"),  # RFC 4193
    ip_network("100.64.0.0/10"),  # RFC 6598; includes Tailscale's addresses
)


def address_text(text: str) -> str:
    """Return the canonical text of an IP address; "" if it is not one."""
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and a port to listen on or to send to.

    Attributes:
        host: An IP address as text, without brackets.
        port: 0 to 65535; 0 lets the system choose, in tests.
        is_default: It was not given explicitly; if the system lacks its family, it is skipped.
    """

    host: str
    port: int
    is_default: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for all addresses of a family."""
        return self.host in WILDCARDS

    def from_here(self) -> "Endpoint":
        """Return where it is reached from this machine: a wildcard, over loopback."""
        return Endpoint(WILDCARDS.get(self.host, self.host), self.port)


@dataclass(frozen=True, slots=True)
class UpstreamServer:
    """One upstream as configured.

    Attributes:
        transport: "udp" (with TCP after truncation), "tls" or "https"; "system" stands for
            the servers in /etc/resolv.conf.
        host: An IP address; for "https", the host in the URL.
        port: 53, 853 or 443 unless given.
        server_name: The name in the certificate, for "tls".
        url: The whole URL, for "https".
    """

    transport: str
    host: str
    port: int
    server_name: str = ""
    url: str = ""

    def __str__(self) -> str:
        if self.transport == "system":
            return "system"
        if self.transport == "https":
            return self.url
        endpoint = str(Endpoint(self.host, self.port))
        if self.transport == "tls":
            return f"tls://{endpoint}#{self.server_name}"
        return self.host if self.port == DNS_PORT else endpoint


SYSTEM = UpstreamServer("system", "", 0)  # stands for the servers in /etc/resolv.conf

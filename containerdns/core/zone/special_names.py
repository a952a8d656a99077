"""Special names, which are never forwarded."""

from collections.abc import Container

from containerdns.core.names import parents

LOOPBACK_NAME = "localhost."
DOH_CANARY = "use-application-dns.net."

# RFC 6761, 6762, 7686, 8375, 9462, 9476, and "internal", reserved by ICANN in 2024.
SPECIAL_NAMES = frozenset(
    {
        LOOPBACK_NAME,
        "invalid.",
        "test.",
        "onion.",
        "local.",
        "localdomain.",
        "internal.",
        "home.arpa.",
        "alt.",
        "resolver.arpa.",
    }
)
RESOLVER_ARPA = "resolver.arpa."  # RFC 9462 section 4: NODATA, so that clients stop asking

# RFC 6303 section 4, and RFC 7793 for 100.64.0.0/10.
PRIVATE_REVERSE_ZONES = frozenset(
    {
        "10.in-addr.arpa.",
        "168.192.in-addr.arpa.",
        "254.169.in-addr.arpa.",
        "0.in-addr.arpa.",
        "127.in-addr.arpa.",
        "2.0.192.in-addr.arpa.",
        "100.51.198.in-addr.arpa.",
        "113.0.203.in-addr.arpa.",
        "255.255.255.255.in-addr.arpa.",
        "0." * 32 + "ip6.arpa.",
        "1." + "0." * 31 + "ip6.arpa.",
        "c.f.ip6.arpa.",
        "d.f.ip6.arpa.",
        "8.e.f.ip6.arpa.",
        "9.e.f.ip6.arpa.",
        "a.e.f.ip6.arpa.",
        "b.e.f.ip6.arpa.",
        "8.b.d.0.1.0.0.2.ip6.arpa.",
        *(f"{octet}.172.in-addr.arpa." for octet in range(16, 32)),
        *(f"{octet}.100.in-addr.arpa." for octet in range(64, 128)),
    }
)


def special_name_above(name: str) -> str:
    """Return the special name at or above a name; "" for none."""
    return nearest(name, SPECIAL_NAMES)


def private_reverse_zone_above(name: str) -> str:
    """Return the private reverse zone at or above a name; "" for none."""
    return nearest(name, PRIVATE_REVERSE_ZONES) if name.endswith(".arpa.") else ""


def nearest(name: str, apexes: Container[str]) -> str:
    """Return the longest of some apexes at or above a name; "" for none."""
    if name in apexes:
        return name
    return next(filter(apexes.__contains__, parents(name)), "")

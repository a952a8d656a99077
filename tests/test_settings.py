"""Settings: one registry, three sources, and one line for every wrong value."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from containerdns.errors import BadSettings
from containerdns.settings import OPTIONS, Endpoint, Settings, UpstreamServer, load

DEFAULTS = load({}, {})


def loaded(environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Load from flags, with underscores for hyphens, and an environment."""
    return load({key.replace("_", "-"): value for key, value in flags.items()}, environ or {})


def refusal(environ: Mapping[str, str] | None = None, **flags: Any) -> str:
    """The one line that a wrong setting costs."""
    with pytest.raises(BadSettings) as raised:
        loaded(environ, **flags)
    line = str(raised.value)
    assert "\n" not in line
    return line


def udp(host: str, port: int = 53) -> UpstreamServer:
    return UpstreamServer("udp", host, port)


# -- defaults: those of the contract --------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("docker", ("unix:///var/run/docker.sock",)),
        ("docker_tls", None),
        ("listen", (Endpoint("0.0.0.0", 53, True), Endpoint("::", 53, True))),
        ("http", Endpoint("0.0.0.0", 8080)),
        ("http_hosts", ()),
        ("query_history", 1000),
        ("allow_history", (ip_network("127.0.0.0/8"), ip_network("::1/128"))),
        ("domains", ("docker.",)),
        ("search_domains", ("localdomain.",)),
        ("bare_names", True),
        ("ttl", 5),
        ("negative_ttl", 1),
        ("remember", 86400),
        ("state", None),
        ("upstreams", (udp("1.1.1.1"), udp("8.8.8.8"))),
        ("forwards", ()),
        ("cache_size", 10000),
        ("hosts", ()),
        ("networks", ()),
        ("expose_by_default", True),
        ("drop_unhealthy", True),
        ("host_addresses", ()),
        ("host_mode", False),
        ("wildcard", False),
        ("name_templates", ()),
        ("label_prefix", "containerdns"),
        ("allow_transfer", (ip_network("127.0.0.0/8"), ip_network("::1/128"))),
        ("transfer_keys", ()),
        ("notify", ()),
        ("rebind_protection", False),
        ("rebind_allow", ()),
        ("workers", 1),
        ("doh_canary", True),
        ("rate_limit", 200),
        ("log_level", "info"),
        ("log_format", "text"),
        ("log_queries", False),
    ],
)
def test_default_is_that_of_the_contract(field: str, value: object) -> None:
    assert getattr(DEFAULTS, field) == value


@pytest.mark.parametrize(
    ("client", "may_ask"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("172.15.255.255", False),
        ("172.16.0.0", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.0.1", True),
        ("169.254.1.1", True),
        ("fe80::1", True),
        ("fd00::1", True),
        ("fe00::1", False),
        ("100.63.255.255", False),
        ("100.64.0.0", True),
        ("100.127.255.255", True),
        ("100.128.0.0", False),
        ("8.8.8.8", False),
        ("2001:db8::1", False),
    ],
)
def test_private_clients_may_ask_by_default_and_others_not(client: str, may_ask: bool) -> None:
    assert any(ip_address(client) in network for network in DEFAULTS.allow) is may_ask

"""Settings: one registry, three sources, and one line for every wrong value."""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from ipaddress import ip_address, ip_network
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from containerdns.config.groups import DNSSettings, Settings
from containerdns.config.settings import OPTIONS, load, reloaded, unknown_variables
from containerdns.core.endpoints import SYSTEM, Endpoint, UpstreamServer
from containerdns.core.zone.zone import Shape
from containerdns.errors import BadSettings
from tools import documents

ROOT = Path(__file__).parents[2]
DEFAULTS = load({}, {})


def loaded(environ: Mapping[str, str] | None = None, /, **flags: Any) -> Settings:
    """Load from flags, with underscores for hyphens, and an environment."""
    return load({key.replace("_", "-"): value for key, value in flags.items()}, environ or {})


def refusal(environ: Mapping[str, str] | None = None, /, **flags: Any) -> str:
    """The one line that a wrong setting costs."""
    with pytest.raises(BadSettings) as raised:
        loaded(environ, **flags)
    line = str(raised.value)
    assert "\n" not in line
    return line


def udp(host: str, port: int = 53) -> UpstreamServer:
    return UpstreamServer("udp", host, port)


# -- defaults: those of the contract -----------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("engines.urls", ("unix:///var/run/docker.sock",)),
        ("engines.tls", None),
        ("dns.listen", (Endpoint("0.0.0.0", 53, True), Endpoint("::", 53, True))),
        ("http.listen", Endpoint("0.0.0.0", 8080)),
        ("http.hosts", ()),
        ("dns.query_history", 1000),
        ("rights.history", (ip_network("127.0.0.0/8"), ip_network("::1/128"))),
        ("zone.domains", ("docker.",)),
        ("zone.search_domains", ("localdomain.",)),
        ("zone.bare_names", True),
        ("zone.ttl", 5),
        ("zone.negative_ttl", 1),
        ("state.remember", 86400),
        ("state.file", None),
        ("upstream.servers", (udp("1.1.1.1"), udp("8.8.8.8"))),
        ("upstream.forwards", ()),
        ("upstream.cache_size", 10000),
        ("state.hosts", ()),
        ("policy.networks", ()),
        ("policy.expose_by_default", True),
        ("zone.unhealthy", "drop"),
        ("rights.host_addresses", ()),
        ("policy.host_mode", False),
        ("policy.wildcard", False),
        ("policy.name_templates", ()),
        ("policy.label_prefix", "containerdns"),
        ("rights.transfer", (ip_network("127.0.0.0/8"), ip_network("::1/128"))),
        ("transfer.keys", ()),
        ("transfer.notify", ()),
        ("upstream.rebind_protection", False),
        ("upstream.rebind_allow", ()),
        ("dns.workers", 1),
        ("dns.doh_canary", True),
        ("dns.rate_limit", 200),
        ("logs.level", "info"),
        ("logs.format", "text"),
        ("dns.log_queries", False),
    ],
)
def test_default_is_that_of_the_contract(field: str, value: object) -> None:
    assert attrgetter(field)(DEFAULTS) == value


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
    assert any(ip_address(client) in network for network in DEFAULTS.rights.ask) is may_ask


# -- sources: flags beat environment beats file ------------------------------------------

FLAG, VARIABLE, KEY = {"ttl": "7"}, {"CONTAINERDNS_TTL": "8"}, "ttl = 9\n"


@pytest.mark.parametrize(
    ("flags", "environ", "text", "ttl"),
    [
        (FLAG, VARIABLE, KEY, 7),
        ({}, VARIABLE, KEY, 8),
        ({}, {}, KEY, 9),
        ({}, {}, "", 5),
        ({}, {"CONTAINERDNS_TTL": ""}, KEY, 9),
        ({}, {"CONTAINERDNS_TTL": " 8 "}, KEY, 8),
    ],
    ids=["flag", "variable", "file", "default", "empty variable", "variable with spaces"],
)
def test_flags_beat_environment_beats_file(
    tmp_path: Path, flags: dict[str, str], environ: dict[str, str], text: str, ttl: int
) -> None:
    """An empty variable is what Compose makes of `${TTL:-}`: none."""
    file = tmp_path / "containerdns.toml"
    file.write_text(text)
    assert load(flags, environ, file).zone.ttl == ttl


def test_list_of_a_stronger_source_replaces_that_of_a_weaker() -> None:
    environ = {"CONTAINERDNS_DOMAIN": "a.example b.example"}
    assert loaded(environ, domain=("c.example",)).zone.domains == ("c.example.",)


@pytest.mark.parametrize(
    ("text", "domains"),
    [
        ("docker", ("docker.",)),
        ("docker corp.example", ("docker.", "corp.example.")),
        ("docker,corp.example", ("docker.", "corp.example.")),
        (" docker ,  corp.example, ", ("docker.", "corp.example.")),
        ("docker\n  corp.example\n", ("docker.", "corp.example.")),
    ],
    ids=["one", "spaces", "commas", "both", "lines of a Compose file"],
)
def test_list_in_the_environment_is_parted_by_spaces_or_commas(
    text: str, domains: tuple[str, ...]
) -> None:
    assert loaded({"CONTAINERDNS_DOMAIN": text}).zone.domains == domains


@pytest.mark.parametrize(
    "text",
    [
        "corp.example=10.0.0.1,10.0.0.2 lan.example=10.0.0.3",
        "corp.example=10.0.0.1,10.0.0.2,lan.example=10.0.0.3",
        "corp.example=10.0.0.1, 10.0.0.2, lan.example=10.0.0.3,",
        "corp.example=10.0.0.1 10.0.0.2 \nlan.example=10.0.0.3",
    ],
    ids=["spaces", "commas", "both", "lines"],
)
def test_forwards_in_the_environment_begin_with_their_domains(text: str) -> None:
    environ = {"CONTAINERDNS_FORWARD": text}
    assert loaded(environ).upstream.forwards == (
        ("corp.example.", (udp("10.0.0.1"), udp("10.0.0.2"))),
        ("lan.example.", (udp("10.0.0.3"),)),
    )


def test_name_templates_in_the_environment_are_parted_by_spaces() -> None:
    environ = {"CONTAINERDNS_NAME_TEMPLATE": "{label:com.example.app}.{name} {service}.x"}
    assert loaded(environ).policy.name_templates == (
        "{label:com.example.app}.{name}",
        "{service}.x",
    )


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ('domain = ["a.example", "b.example"]', "zone.domains", ("a.example.", "b.example.")),
        ('domain = "a.example"', "zone.domains", ("a.example.",)),
        ("search-domain = []", "zone.search_domains", ()),
        ("ttl = 0", "zone.ttl", 0),
        ('ttl = "0"', "zone.ttl", 0),
        ("bare-names = false", "zone.bare_names", False),
        ('bare-names = "off"', "zone.bare_names", False),
        ("bare_names = false", "zone.bare_names", False),
        ('http = "off"', "http.listen", None),
        ("\ufeffttl = 0\r\n", "zone.ttl", 0),
    ],
    ids=[
        "array",
        "one text",
        "empty array",
        "number",
        "number as text",
        "boolean",
        "boolean as text",
        "underscores",
        "off",
        "byte order mark",
    ],
)
def test_file_takes_what_toml_has(tmp_path: Path, text: str, field: str, value: object) -> None:
    file = tmp_path / "containerdns.toml"
    file.write_text(text)
    assert attrgetter(field)(load({}, {}, file)) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ttll = 5", "ttll='5': expected a key that is the name of an option, perhaps ttl"),
        ("[serve]\nttl = 5", "serve="),
        ("ttl = '5s'", "containerdns.toml: ttl='5s': expected seconds, 0 to 3600"),
        ("ttl = 5.0", "ttl='5.0'"),
        ("ttl = [5, 6]", "ttl="),
        ("ttl = []", "ttl="),
        ("domain = [['a'], 'b']", "domain="),
        ("domain = {a = 1}", "domain="),
        ("ttl = 5\nttl = 6", "a TOML file"),
        ("negative-ttl = 5\nnegative_ttl = 6", "negative_ttl='6': expected negative-ttl once"),
        ("ttl = ", "a TOML file"),
    ],
    ids=[
        "unknown key",
        "table",
        "bad value",
        "float",
        "two for one",
        "none for one",
        "nested",
        "inline table",
        "key twice",
        "key in two spellings",
        "no TOML",
    ],
)
def test_wrong_file_is_told_with_its_name_and_key(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "containerdns.toml"
    file.write_text(text)
    with pytest.raises(BadSettings) as raised:
        load({}, {}, file)
    assert "containerdns.toml" in str(raised.value)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"--config='.*/nowhere\.toml': expected a readable file"):
        load({}, {}, tmp_path / "nowhere.toml")


def test_file_that_is_not_there_is_told_by_the_variable_that_named_it(tmp_path: Path) -> None:
    file = tmp_path / "nowhere.toml"
    with pytest.raises(BadSettings, match=r"^CONTAINERDNS_CONFIG="):
        load({}, {"CONTAINERDNS_CONFIG": str(file)}, file)


def test_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadSettings, match="--config"):
        load({}, {}, file)


@pytest.mark.parametrize(
    ("text", "value"),
    [(t, True) for t in ("true", "1", "yes", "on", "TRUE", "Yes")]
    + [(t, False) for t in ("false", "0", "no", "off", "False", "NO")],
)
def test_switch_in_the_environment_has_many_spellings(text: str, value: bool) -> None:
    assert loaded({"CONTAINERDNS_WILDCARD": text}).policy.wildcard is value


def test_docker_host_is_the_default_engine_and_yields_to_the_option() -> None:
    environ = {"DOCKER_HOST": "tcp://10.0.0.1:2375"}
    assert loaded(environ).engines.urls == ("tcp://10.0.0.1:2375",)
    assert loaded(environ, docker=("unix:///run/a.sock",)).engines.urls == ("unix:///run/a.sock",)
    assert loaded({"DOCKER_HOST": ""}).engines.urls == ("unix:///var/run/docker.sock",)


def test_wrong_docker_host_is_told_by_that_name() -> None:
    assert refusal({"DOCKER_HOST": "npipe:////./pipe/docker"}).startswith("DOCKER_HOST='npipe:")


def test_certificates_are_those_of_the_docker_command(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    environ = {
        "DOCKER_HOST": "tcp://10.0.0.1:2376",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(tmp_path),
    }
    assert loaded(environ).engines.tls == tmp_path
    assert loaded(environ | {"DOCKER_TLS_VERIFY": ""}).engines.tls is None
    (tmp_path / "key.pem").unlink()
    assert "ca.pem, cert.pem and key.pem" in refusal(environ)


def test_listening_address_that_was_asked_for_is_no_default() -> None:
    listen = loaded(listen=("0.0.0.0:53",)).dns.listen
    assert [endpoint.is_default for endpoint in listen] == [False]


def test_variable_that_no_option_has_is_noticed() -> None:
    """Not refused: Docker's links and Kubernetes make such variables, CONTAINERDNS_PORT."""
    environ = {
        "CONTAINERDNS_TTLL": "5",
        "CONTAINERDNS_TTL": "7",
        "CONTAINERDNS_URL": "",
        "TTL": "9",
    }
    assert unknown_variables(environ) == ["CONTAINERDNS_TTLL"]
    assert loaded(environ).zone.ttl == 7


# -- values: both sides of every limit ---------------------------------------------------


@pytest.mark.parametrize(
    ("key", "field", "least", "most", "expected"),
    [
        ("ttl", "zone.ttl", 0, 3600, "seconds, 0 to 3600"),
        ("negative-ttl", "zone.negative_ttl", 0, 3600, "seconds, 0 to 3600"),
        ("remember", "state.remember", 0, 31622400, "seconds, 0 to 31622400"),
        ("query-history", "dns.query_history", 0, 10000000, "0 to 10000000"),
        ("cache-size", "upstream.cache_size", 0, 10000000, "0 to 10000000"),
        ("workers", "dns.workers", 1, 64, "1 to 64"),
        ("rate-limit", "dns.rate_limit", 0, 10000000, "0 to 10000000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_number_has_limits(key: str, field: str, least: int, most: int, expected: str) -> None:
    assert attrgetter(field)(load({key: str(least)}, {})) == least
    assert attrgetter(field)(load({key: str(most)}, {})) == most
    for wrong in (str(least - 1), str(most + 1), "", "5s", "1.5", "+5", "٣", "1_0", "9" * 5000):
        with pytest.raises(BadSettings) as raised:
            load({key: wrong}, {})
        assert str(raised.value).startswith(f"--{key}={wrong!r}: expected ")
        assert expected in str(raised.value)


def test_wrong_value_is_one_line_with_option_value_and_what_was_expected() -> None:
    assert refusal(ttl="5s") == "--ttl='5s': expected seconds, 0 to 3600"


def test_wrong_variable_is_told_by_its_name() -> None:
    environ = {"CONTAINERDNS_TTL": "5s"}
    assert refusal(environ) == "CONTAINERDNS_TTL='5s': expected seconds, 0 to 3600"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.8.0.1:53", Endpoint("10.8.0.1", 53)),
        ("0.0.0.0:0", Endpoint("0.0.0.0", 0)),
        ("127.0.0.1:65535", Endpoint("127.0.0.1", 65535)),
        ("[::]:53", Endpoint("::", 53)),
        ("[2001:DB8:0::1]:5353", Endpoint("2001:db8::1", 5353)),
    ],
)
def test_listen_is_an_address_and_a_port(text: str, endpoint: Endpoint) -> None:
    assert loaded(listen=(text,)).dns.listen == (endpoint,)
    assert loaded(http=text).http.listen == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "::1:53:x",
        "[::1]53",
        "[127.0.0.1]:53",
        "localhost:53",
        ":53",
        "53",
        "256.0.0.1:53",
        "010.0.0.1:53",
        "127.0.0.1:٥٣",
        "127.0.0.1:53 ",
    ],
)
def test_listen_refuses(text: str) -> None:
    assert refusal(listen=(text,)).startswith(f"--listen={text!r}: expected an address and a port")
    assert refusal(http=text).startswith(f"--http={text!r}: expected an address and a port")


@pytest.mark.parametrize("text", ["off", "OFF", "false", "no", "0"])
def test_http_can_be_off(text: str) -> None:
    """A Compose file or TOML may well turn `off` into another word for it."""
    assert loaded(http=text).http.listen is None


@pytest.mark.parametrize(
    ("text", "server", "told"),
    [
        ("10.0.0.1", udp("10.0.0.1"), "10.0.0.1"),
        ("10.0.0.1:5353", udp("10.0.0.1", 5353), "10.0.0.1:5353"),
        ("fd00::1", udp("fd00::1"), "fd00::1"),
        ("[fd00::1]", udp("fd00::1"), "fd00::1"),
        ("[fd00::1]:5353", udp("fd00::1", 5353), "[fd00::1]:5353"),
        (
            "tls://9.9.9.9#dns.quad9.net",
            UpstreamServer("tls", "9.9.9.9", 853, "dns.quad9.net"),
            "tls://9.9.9.9:853#dns.quad9.net",
        ),
        (
            "tls://[2620:fe::fe]:8853#DNS.quad9.net",
            UpstreamServer("tls", "2620:fe::fe", 8853, "dns.quad9.net"),
            "tls://[2620:fe::fe]:8853#dns.quad9.net",
        ),
        (
            "https://dns.example/dns-query",
            UpstreamServer("https", "dns.example", 443, url="https://dns.example/dns-query"),
            "https://dns.example/dns-query",
        ),
        (
            "https://[fd00::1]:8443/q",
            UpstreamServer("https", "fd00::1", 8443, url="https://[fd00::1]:8443/q"),
            "https://[fd00::1]:8443/q",
        ),
    ],
)
def test_upstream_is_read_and_told(text: str, server: UpstreamServer, told: str) -> None:
    assert loaded(upstream=(text,)).upstream.servers == (server,)
    assert str(server) == told


@pytest.mark.parametrize(
    "text",
    [
        "dns.example",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "0.0.0.0",
        "::",
        "tls://9.9.9.9",
        "tls://9.9.9.9#",
        "tls://dns.quad9.net#dns.quad9.net",
        "tls://9.9.9.9:0#dns.quad9.net",
        "https://",
        "https:///dns-query",
        "https://user@dns.example/dns-query",
        "https://dns.example/dns-query?x=1",
        "https://dns.example/dns query",
        "https://dns.example:99999/dns-query",
        "https://dns.exämple/dns-query",
        "http://dns.example/dns-query",
        "udp://10.0.0.1",
        "1.1.1.1,8.8.8.8",
        "System",
    ],
)
def test_upstream_refuses(text: str) -> None:
    line = refusal(upstream=(text,))
    assert line.startswith(f"--upstream={text!r}: expected IP[:PORT], tls://IP[:PORT]#NAME")


def test_upstreams_keep_their_order_and_each_counts_once() -> None:
    given = ("9.9.9.9", "1.1.1.1", "9.9.9.9:53")
    assert loaded(upstream=given).upstream.servers == (udp("9.9.9.9"), udp("1.1.1.1"))


@pytest.mark.parametrize(
    "text",
    [
        "corp.example",
        "corp.example=",
        "=10.0.0.1",
        ".=10.0.0.1",
        "corp.example=10.0.0.1,",
        "corp.example=ns.corp.example",
        "corp..example=10.0.0.1",
    ],
)
def test_forward_refuses(text: str) -> None:
    assert refusal(forward=(text,)).startswith(f"--forward={text!r}: expected DOMAIN=SERVER")


@pytest.mark.parametrize(
    "text",
    [
        "unix:///run/user/1000/podman/podman.sock",
        "tcp://10.0.0.1:2376",
        "tcp://proxy:2375",
        "tcp://[fd00::1]:2376",
        "ssh://root@host.example",
        "ssh://host.example:2222",
    ],
)
def test_docker_takes(text: str) -> None:
    assert loaded(docker=(text,)).engines.urls == (text,)


@pytest.mark.parametrize(
    "text",
    ["", "/var/run/docker.sock", "unix://", "npipe:////./pipe/docker", "tcp://", "tcp://h:x",
     "ssh://", "fd://", "docker", "http://h", "https://h:2376"],
)  # fmt: skip
def test_docker_refuses(text: str) -> None:
    line = refusal(docker=(text,))
    assert line.startswith(f"--docker={text!r}: expected unix:///PATH, tcp://HOST:PORT or ssh://")


@pytest.mark.parametrize(
    ("text", "name"),
    [("docker", "docker."), ("Docker.", "docker."), ("a.example", "a.example."), ("a_b", "a_b.")],
)
def test_domain_is_canonical(text: str, name: str) -> None:
    assert loaded(domain=(text,)).zone.domains == (name,)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", ".docker", "dócker", "x" * 64, ".".join(["x" * 60] * 5),
     "a b", "a,b", "a:53", "*", "a\\032b", "a\n"],
    ids=["empty", "root", "empty label", "dot first", "not ASCII", "label of 64", "name of 300",
         "blank", "comma", "port", "wildcard", "escaped blank", "line end"],
)  # fmt: skip
def test_domain_refuses(text: str) -> None:
    assert refusal(domain=(text,)).startswith(f"--domain={text!r}: expected a domain name")


def test_reason_why_a_name_is_none_is_told() -> None:
    assert "label longer than 63 octets" in refusal(search_domain=("x" * 64,))


def test_duplicate_domain_counts_once() -> None:
    assert loaded(domain=("docker", "b.example", "DOCKER.")).zone.domains == (
        "docker.",
        "b.example.",
    )


def test_label_of_63_octets_is_a_domain() -> None:
    assert loaded(domain=("x" * 63,)).zone.domains == ("x" * 63 + ".",)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("10.0.0.1/32", "10.0.0.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("fd00::/8", "fd00::/8"),
    ],
)
def test_network_is_read(text: str, network: str) -> None:
    rights = loaded(allow=text, allow_history=text, allow_transfer=text).rights
    assert {rights.ask, rights.history, rights.transfer} == {(ip_network(network),)}


@pytest.mark.parametrize("between", [",", " ", ", "])
def test_members_of_a_fleet_are_parted_by_spaces_or_commas(between: str) -> None:
    """As all lists in the environment are."""
    text = between.join(("etcd://one", "etcds://two:1"))
    assert loaded(fleet=text).fleet.urls == ("etcd://one:2379", "etcds://two:1")


@pytest.mark.parametrize("text", ["dns", "/dns", "dns/", "/dns/"])
def test_prefix_of_a_fleet_is_the_same_with_and_without_slashes(text: str) -> None:
    """Two hosts that spell it differently would be two fleets, without a word."""
    assert loaded(fleet_prefix=text).fleet.prefix == "/dns/"


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0/8", "all", "fd00::/129", "10.0.0.0-9"])
def test_network_refuses(text: str) -> None:
    assert refusal(allow=(text,)).startswith(f"--allow={text!r}: expected a network")


@pytest.mark.parametrize("text", ["0.0.0.0", "::", "host.example", "10.0.0.1/32", "10.0.0.1:53"])
def test_host_address_refuses(text: str) -> None:
    assert refusal(host_address=(text,)) == f"--host-address={text!r}: expected an IP address"


@pytest.mark.parametrize(
    ("option", "right", "wrong"),
    [
        ("unhealthy", ("drop", "keep"), "Drop"),
        ("log_level", ("debug", "info", "warning", "error"), "trace"),
        ("log_format", ("text", "json"), "xml"),
        ("wildcard", ("true", "off"), "maybe"),
        ("label_prefix", ("containerdns", "com.example.dns"), "a b"),
        ("name_template", (("{name}.x",), ("{label:a.b}",)), ("{nam}.x",)),
        ("name_template", (("{name}-{id}",),), ("plain",)),
        ("name_template", (("*.{name}.{id}.{service}",),), ("{name} {id}",)),
        ("name_template", (("{label:a:/b}.x",),), ("http://{name}",)),
        ("fleet_host", ("a", "A-1_b"), "a/b"),
        ("fleet_host", ("a.",), "a.b"),
        ("notify", (("10.0.0.1",), ("[fd00::1]:5353",)), ("10.0.0.1:0",)),
        ("http_host", (("dns.example",), ("DNS.example.",)), ("a..b",)),
        ("http_host", (("a_b",),), ("a b",)),
        ("http_host", (("a-b",),), ("dns.example:8080",)),
        ("http_host", (("a",),), ("http://dns.example",)),
        ("rebind_allow", (("corp.example",),), ("a b",)),
        ("search_domain", (("corp.example",),), ("a b",)),
        ("forward", (("0/25.2.0.192.in-addr.arpa=10.0.0.1",),), ("a b=10.0.0.1",)),
        ("network", (("frontend",), ("my-net_1.x",)), ("",) * 2),
    ],
    ids=["unhealthy", "log level", "log format", "switch", "label prefix", "template field",
         "template without field", "two templates", "template as URL", "key of etcd",
         "host name", "notify", "HTTP host", "Host of two", "Host with port",
         "Host as URL", "rebinding", "search domain", "forward", "network"],
)  # fmt: skip
def test_value_is_one_of_what_is_expected(option: str, right: tuple[Any, ...], wrong: Any) -> None:
    for value in right:
        loaded(**{option: value})
    assert refusal(**{option: wrong}).startswith(f"--{option.replace('_', '-')}=")


# -- together ----------------------------------------------------------------------------


def test_name_that_is_domain_and_search_domain_is_told() -> None:
    assert refusal(search_domain=("Docker.",)).startswith("--search-domain='docker.': expected ")
    environ = {"CONTAINERDNS_SEARCH_DOMAIN": "docker"}
    assert refusal(environ).startswith("CONTAINERDNS_SEARCH_DOMAIN='docker.': expected ")


def test_default_search_domain_that_became_a_domain_is_not_searched() -> None:
    """Nobody gave a wrong value."""
    assert loaded(domain=("localdomain",)).zone.search_domains == ()


def test_empty_value_is_no_search_domain_at_all() -> None:
    assert loaded(search_domain=("",)).zone.search_domains == ()


@pytest.mark.parametrize("option", ["docker", "listen", "domain"])
def test_lists_without_which_nothing_works_cannot_be_empty(option: str) -> None:
    assert refusal(**{option: ("",)}).startswith(f"--{option}=''")


def test_domain_has_one_forward() -> None:
    line = refusal(forward=("corp.example=10.0.0.1", "Corp.example.=10.0.0.2"))
    assert line.startswith("--forward=")
    assert "each domain once" in line


def test_host_has_one_address_a_family() -> None:
    both = ("10.0.0.1", "fd00::1")
    assert loaded(host_address=both).rights.host_addresses == both
    assert refusal(host_address=(*both, "10.0.0.2")).startswith("--host-address=")


# -- the system's servers ----------------------------------------------------------------


def test_system_stays_itself_wherever_it_was_put() -> None:
    """The file may be empty now, at boot: the forwarder reads it, again and again."""
    loaded_ = load({"upstream": ("9.9.9.9", "system"), "forward": ("corp.example=system",)}, {})
    assert loaded_.upstream.servers == (udp("9.9.9.9"), SYSTEM)
    assert loaded_.upstream.forwards == (("corp.example.", (SYSTEM,)),)
    assert str(SYSTEM) == "system"


# -- the registry ------------------------------------------------------------------------


def test_every_field_of_settings_has_one_option() -> None:
    """Except those that say which options were given, and what named the Engine."""
    shared = {"policy.ttl", "policy.suffixes", "policy.fleet_host"} | {
        f"upstream.{f}" for f in ("ttl", "suffixes", "listen")
    }
    found = {"rights.ask_own", "engines.source", "engines.verifies", *shared}
    fields = [
        f"{group}.{field.name}"
        for group in Settings.__slots__
        for field in fields_of(getattr(DEFAULTS, group))
    ]
    assert sorted([*(option.field for option in OPTIONS), *found]) == sorted(fields)


def test_settings_without_options_are_the_defaults() -> None:
    assert loaded() == Settings()


def test_groups_share_what_two_of_them_need() -> None:
    made = Settings(zone=Shape(domains=("corp.",), ttl=7), dns=DNSSettings(listen=()))
    assert made.policy.ttl == made.upstream.ttl == 7
    assert made.policy.suffixes == made.upstream.suffixes == ("corp.", "localdomain.")
    assert made.upstream.listen == ()


def test_default_of_allow_is_known_from_the_same_networks_listed() -> None:
    """Only the default lets this machine's own addresses and Docker's networks ask as well."""
    default = loaded()
    assert default.rights.ask_own
    assert not loaded(allow=[str(network) for network in default.rights.ask]).rights.ask_own


def test_reload_that_brings_the_first_allow_lets_nobody_else_ask() -> None:
    """This machine's own addresses and Docker's networks are part of the default alone."""
    assert not reloaded(loaded(), loaded(allow="127.0.0.0/8")).settings.rights.ask_own


def test_every_option_tells_what_it_does_and_why() -> None:
    for option in OPTIONS:
        assert option.meaning.rstrip().endswith("."), option.key
        assert option.why.rstrip().endswith("."), option.key
        assert option.is_switch or option.metavar, option.key


def test_default_is_a_value_that_the_option_takes() -> None:
    for option in OPTIONS:
        for text in option.default:
            option.read(text)


def test_page_of_options_is_that_of_the_registry() -> None:
    """If not: `make docs`."""
    assert (ROOT / "docs/options.md").read_text() == documents.options_page()

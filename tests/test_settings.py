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


# -- sources: flags beat environment beats file ---------------------------------------------

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
    assert load(flags, environ, file).ttl == ttl


def test_list_of_a_stronger_source_replaces_that_of_a_weaker() -> None:
    environ = {"CONTAINERDNS_DOMAIN": "a.example b.example"}
    assert loaded(environ, domain=("c.example",)).domains == ("c.example.",)


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
    assert loaded({"CONTAINERDNS_DOMAIN": text}).domains == domains


def test_commas_part_the_servers_of_a_forward_and_not_forwards() -> None:
    environ = {"CONTAINERDNS_FORWARD": "corp.example=10.0.0.1,10.0.0.2 lan.example=10.0.0.3"}
    assert loaded(environ).forwards == (
        ("corp.example.", (udp("10.0.0.1"), udp("10.0.0.2"))),
        ("lan.example.", (udp("10.0.0.3"),)),
    )


def test_name_templates_in_the_environment_are_parted_by_spaces() -> None:
    environ = {"CONTAINERDNS_NAME_TEMPLATE": "{label:com.example.app}.{name} {service}.x"}
    assert loaded(environ).name_templates == ("{label:com.example.app}.{name}", "{service}.x")


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ('domain = ["a.example", "b.example"]', "domains", ("a.example.", "b.example.")),
        ('domain = "a.example"', "domains", ("a.example.",)),
        ("search-domain = []", "search_domains", ()),
        ("ttl = 0", "ttl", 0),
        ('ttl = "0"', "ttl", 0),
        ("bare-names = false", "bare_names", False),
        ('bare-names = "off"', "bare_names", False),
        ("bare_names = false", "bare_names", False),
        ('http = "off"', "http", None),
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
    ],
)
def test_file_takes_what_toml_has(tmp_path: Path, text: str, field: str, value: object) -> None:
    file = tmp_path / "containerdns.toml"
    file.write_text(text)
    assert getattr(load({}, {}, file), field) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ttll = 5", "ttll"),
        ("[serve]\nttl = 5", "serve"),
        ("ttl = '5s'", "containerdns.toml: ttl='5s': expected seconds, 0 to 3600"),
        ("ttl = 5.0", "ttl='5.0'"),
        ("ttl = [5, 6]", "ttl="),
        ("ttl = []", "ttl="),
        ("domain = [['a'], 'b']", "domain="),
        ("domain = {a = 1}", "domain="),
        ("ttl = 5\nttl = 6", "a TOML file"),
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
    assert loaded({"CONTAINERDNS_WILDCARD": text}).wildcard is value


def test_docker_host_is_the_default_engine_and_yields_to_the_option() -> None:
    environ = {"DOCKER_HOST": "tcp://10.0.0.1:2375"}
    assert loaded(environ).docker == ("tcp://10.0.0.1:2375",)
    assert loaded(environ, docker=("unix:///run/a.sock",)).docker == ("unix:///run/a.sock",)
    assert loaded({"DOCKER_HOST": ""}).docker == ("unix:///var/run/docker.sock",)


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
    assert loaded(environ).docker_tls == tmp_path
    assert loaded(environ | {"DOCKER_TLS_VERIFY": ""}).docker_tls is None
    (tmp_path / "key.pem").unlink()
    assert "ca.pem, cert.pem and key.pem" in refusal(environ)


def test_listening_address_that_was_asked_for_is_no_default() -> None:
    listen = loaded(listen=("0.0.0.0:53",)).listen
    assert [endpoint.is_default for endpoint in listen] == [False]

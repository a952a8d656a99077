"""`client-config`: which addresses and domains it writes, and how."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from containerdns.commands import client_config
from containerdns.commands.cli import TARGETS, main
from containerdns.config import client_targets
from tests.commands.test_cli import NOBODY, StandIn


def run(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["client-config", *arguments], env=environ)


# -- what is written ------------------------------------------------------------------------


def test_every_target_of_the_contract_has_a_writer() -> None:
    assert set(TARGETS) == set(client_targets.WRITERS)


def test_docker_gets_json_and_its_notes_go_elsewhere() -> None:
    result = run("docker", "--server", "10.8.0.1", "--domain", "docker")
    assert json.loads(result.stdout) == {"dns": ["10.8.0.1"], "dns-search": ["docker"]}
    assert "/etc/docker/daemon.json" in result.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_snippet_as_json_says_what_is_written_where(target: str) -> None:
    result = run(target, "--server", "10.8.0.1", "--domain", "docker", "--format", "json")
    document = json.loads(result.stdout)
    assert document["target"] == target
    assert document["servers"] == ["10.8.0.1:53"]
    assert document["domains"] == ["docker"]
    assert all(file["content"] for file in document["files"])


# -- whose addresses ------------------------------------------------------------------------


def servers_of(running: StandIn, *arguments: str) -> tuple[list[str], list[str]]:
    """The servers and domains that are written."""
    result = run("dnsmasq", "--format", "json", "--url", running.url, *arguments)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    return document["servers"], document["domains"]


@pytest.fixture
def running() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        stand_in.gives(
            "/status",
            {
                "dns": ["10.8.0.1:5353", "[fd00::1]:5353"],
                "domains": ["corp.example."],
                "search_domains": ["localdomain."],
            },
        )
        yield stand_in


def test_running_server_says_where_it_is_and_what_it_owns(running: StandIn) -> None:
    assert servers_of(running) == (["10.8.0.1:5353", "[fd00::1]:5353"], ["corp.example"])


def test_running_server_says_where_it_answers_for_containers_too(running: StandIn) -> None:
    result = run("dnsmasq", "--url", running.url)
    assert "server=/localdomain/10.8.0.1#5353" in result.stdout.splitlines()
    result = run("dnsmasq", "--url", running.url, "--search-domain", "lan.example")
    assert "server=/lan.example/10.8.0.1#5353" in result.stdout.splitlines()
    assert "localdomain" not in result.stdout


def test_what_is_given_beats_what_the_server_says(running: StandIn) -> None:
    given = ("--server", "192.0.2.1", "--domain", "a.example", "--port", "54")
    assert servers_of(running, *given) == (["192.0.2.1:54"], ["a.example"])
    assert servers_of(running, "--server", "192.0.2.1") == (["192.0.2.1:5353"], ["corp.example"])


def test_settings_say_it_if_no_server_runs() -> None:
    environ = {"CONTAINERDNS_LISTEN": "10.9.0.1:5300", "CONTAINERDNS_DOMAIN": "b.example"}
    result = run("dnsmasq", "--url", NOBODY, environ=environ)
    assert "server=/b.example/10.9.0.1#5300" in result.stdout.splitlines()


def test_address_that_nobody_told_is_marked_as_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_config, "CONTAINER_MARKS", ())
    result = run("dnsmasq", "--url", NOBODY)
    assert result.exit_code == 0
    assert "--server IP" in result.stdout
    assert "0.0.0.0" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--server", "host"), "--server='host': expected an IP address"),
        (("--server", "10.8.0.1:53"), "--server='10.8.0.1:53': expected an IP address"),
        (("--server", "0.0.0.0"), "--server='0.0.0.0': expected an IP address"),
        (("--domain", "a..b"), "--domain='a..b': expected a domain name other than the root"),
        (
            ("--search-domain", "a..b"),
            "--search-domain='a..b': expected a domain name other than the root",
        ),
        (("--domain", "."), "--domain='.': expected a domain name other than the root"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_wrong_address_or_domain_is_exit_2(arguments: tuple[str, ...], line: str) -> None:
    result = run("dnsmasq", *arguments, "--url", NOBODY)
    assert (result.exit_code, result.stderr) == (2, f"containerdns: {line}\n")


def test_unknown_target_is_exit_2() -> None:
    assert run("djbdns").exit_code == 2


def test_container_asks_for_the_address_that_clients_reach(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own address is the bridge's, which only this host can reach."""
    mark = tmp_path / ".dockerenv"
    mark.touch()
    monkeypatch.setattr(client_config, "CONTAINER_MARKS", (mark,))
    result = run("dnsmasq", "--url", NOBODY)
    assert result.exit_code == 2
    assert "--server='': expected the address where clients reach" in result.stderr
    assert run("dnsmasq", "--url", NOBODY, "--server", "192.0.2.1").exit_code == 0


def test_running_server_says_which_networks_clients_need_a_route_to(running: StandIn) -> None:
    running.gives(
        "/status",
        {
            "dns": ["10.8.0.1:53"],
            "domains": ["docker."],
            "search_domains": [],
            "subnets": ["172.20.0.0/16"],
        },
    )
    result = run("openvpn", "--url", running.url)
    assert 'push "route 172.20.0.0 255.255.0.0"' in result.stdout.splitlines()

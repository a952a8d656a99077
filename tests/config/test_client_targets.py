"""What each kind of client is configured with; the real programs read it where Debian has them."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from containerdns.config import client_targets
from containerdns.config.client_targets import Ours
from containerdns.core.endpoints import Endpoint

OURS = Ours(
    (Endpoint("10.8.0.1", 53), Endpoint("fd00::1", 53)),
    ("docker", "corp.example"),
    ("localdomain",),
    ("172.17.0.0/16", "172.31.99.0/24", "fd00:d::/64"),
)
HERE = Ours((Endpoint("127.0.0.1", 53),), ("docker", "corp.example"), ("localdomain",))
HIGH = Ours((Endpoint("10.8.0.1", 5353), Endpoint("fd00::1", 5353)), ("docker",))


def lines(target: str, ours: Ours = OURS) -> list[str]:
    """The lines of a snippet that are no comments."""
    return [
        line
        for line in client_targets.write(target, ours).text().splitlines()
        if line and not line.startswith(("#", ";"))
    ]


# -- what is written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("systemd-resolved", [
            'resolvectl dns "$link" 10.8.0.1 fd00::1',
            "resolvectl domain \"$link\" 'docker' 'corp.example' '~localdomain'",
            'resolvectl default-route "$link" no',
            "[Delegate]", "DNS=10.8.0.1 fd00::1", "Domains=docker corp.example ~localdomain"]),
        ("dnsmasq", ["server=/docker/10.8.0.1", "server=/docker/fd00::1", "server=//fd00::1",
                     "server=/corp.example/10.8.0.1"]),
        ("networkmanager", ["[main]", "dns=dnsmasq", "server=/docker/10.8.0.1"]),
        ("unbound", ['    name: "docker."', "    forward-addr: 10.8.0.1"]),
        ("openvpn", ['push "dns server 0 address 10.8.0.1"', 'push "dns server 1 address fd00::1"',
                     'push "dns server 0 resolve-domains docker corp.example localdomain"',
                     'push "dhcp-option DNS 10.8.0.1"', 'push "dhcp-option DNS6 fd00::1"',
                     'push "dhcp-option DOMAIN-SEARCH corp.example"',
                     'push "route 172.31.99.0 255.255.255.0"', 'push "route-ipv6 fd00:d::/64"']),
        ("tailscale", [
            "tailscale set --advertise-routes=172.17.0.0/16,172.31.99.0/24,fd00:d::/64",
            "tailscale set --accept-routes"]),
        ("pihole", [("pihole-FTL --config misc.dnsmasq_lines '["
                    '"server=/docker/10.8.0.1", "server=/docker/fd00::1", '
                    '"server=/corp.example/10.8.0.1", "server=/corp.example/fd00::1", '
                    '"server=/localdomain/10.8.0.1", "server=/localdomain/fd00::1", '
                    '"server=//10.8.0.1", "server=//fd00::1", "rebind-domain-ok=/docker/", '
                    '"rebind-domain-ok=/corp.example/", "rebind-domain-ok=/localdomain/"]'
                    "'")]),
        ("adguard", ["[/docker/]10.8.0.1", "[/localdomain/]fd00::1", "[//]10.8.0.1"]),
        ("openwrt", ["uci add_list dhcp.@dnsmasq[0].server='/docker/10.8.0.1'",
                     "uci add_list dhcp.@dnsmasq[0].rebind_domain='corp.example'",
                     "uci add_list dhcp.lan.dhcp_option='119,docker,corp.example'"]),
        ("bind", [('zone "docker" { type forward; forward only; '
                  "forwarders { 10.8.0.1; fd00::1; }; };"),
                  'validate-except { "docker"; "corp.example"; "localdomain"; };']),
        ("resolv.conf", ["nameserver 10.8.0.1", "search docker corp.example localdomain"]),
        ("wireguard", ["[Interface]", "DNS = 10.8.0.1, fd00::1, docker, corp.example"]),
        ("macos", ["nameserver 10.8.0.1", "nameserver fd00::1"]),
        ("windows", [
            'Add-DnsClientNrptRule -Namespace ".docker" -NameServers "10.8.0.1", "fd00::1"']),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_snippet_holds_our_addresses_and_domains(target: str, expected: list[str]) -> None:
    written = lines(target)
    assert [line for line in expected if line not in written] == []


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("systemd-resolved", "DNS=10.8.0.1:5353 [fd00::1]:5353"),
        ("openvpn", 'push "dns server 1 address [fd00::1]:5353"'),
        ("adguard", "[/docker/][fd00::1]:5353"),
        ("bind", ('zone "docker" { type forward; forward only; '
         "forwarders { 10.8.0.1 port 5353; fd00::1 port 5353; }; };")),
        ("dnsmasq", "server=/docker/fd00::1#5353"),
        ("unbound", "    forward-addr: fd00::1@5353"),
        ("macos", "port 5353"),
    ],
    ids=lambda value: value.partition("=")[0],
)  # fmt: skip
def test_another_port_is_written_as_each_program_wants_it(target: str, expected: str) -> None:
    assert expected in lines(target, HIGH)


@pytest.mark.parametrize("target", sorted(client_targets.WITHOUT_PORTS))
def test_who_can_ask_on_port_53_only_is_told(target: str) -> None:
    def told(ours: Ours) -> str:
        snippet = client_targets.write(target, ours)
        return snippet.text() + "\n".join(snippet.remarks)

    assert "port 53 only" in told(HIGH)
    assert "port 53 only" not in told(OURS)


def test_validating_resolvers_are_told_that_our_domains_are_not_signed() -> None:
    """The root proves that `docker.` does not exist, so that a validator would refuse us."""
    unbound = lines("unbound")
    assert '    domain-insecure: "docker."' in unbound
    assert '    domain-insecure: "corp.example."' in unbound
    resolved = dict(client_targets.write("systemd-resolved", OURS).files)
    anchor = resolved["/etc/dnssec-trust-anchors.d/docker.negative"]
    assert [line for line in anchor.splitlines() if not line.startswith(";")] == ["docker"]


def test_resolved_of_the_docker_host_itself_gets_global_settings() -> None:
    """They send every name to us, which suits nobody else (tried with resolved 252)."""
    assert "Domains=docker corp.example ~localdomain" in lines("systemd-resolved", HERE)
    assert "[Resolve]" in lines("systemd-resolved", HERE)
    assert "[Resolve]" not in lines("systemd-resolved")


@pytest.mark.parametrize("target", client_targets.WRITERS)
def test_every_snippet_says_how_to_test_and_undo_it(target: str) -> None:
    snippet = client_targets.write(target, OURS)
    assert len(snippet.test) > 5
    assert len(snippet.undo) > 5
    if snippet.has_comments:
        assert f"# Test: {snippet.test}\n# Undo: {snippet.undo}\n" in snippet.text()


def test_routes_are_those_of_docker_if_nobody_knows_the_networks() -> None:
    assert 'push "route 172.16.0.0 255.240.0.0"' in lines("openvpn", HIGH)


def test_headscale_gets_yaml_to_merge() -> None:
    [(_, content)] = client_targets.write("headscale", OURS).files
    assert yaml.safe_load(content) == {
        "dns": {
            "nameservers": {"split": {key: ["10.8.0.1", "fd00::1"] for key in OURS.domains}},
            "search_domains": ["docker", "corp.example"],
        }
    }


def test_forwarders_send_us_search_domains_whole() -> None:
    """Else `web.localdomain` leaks, which a client asks before `web`; we forward the rest."""
    for target in ("dnsmasq", "networkmanager"):
        assert "server=/localdomain/10.8.0.1" in lines(target)
    assert '    name: "localdomain."' in lines("unbound")
    assert '    domain-insecure: "localdomain."' in lines("unbound")


def test_macos_has_a_file_a_domain() -> None:
    paths = [path for path, _ in client_targets.write("macos", OURS).files]
    assert paths == ["/etc/resolver/docker", "/etc/resolver/corp.example"]


# -- read by the real programs ----------------------------------------------------------------

CASES = pytest.mark.parametrize(
    "ours",
    [
        OURS,
        HIGH,
        Ours((Endpoint("127.0.0.1", 53),), ("docker", "home.arpa", "a.test"), ("x.test",)),
        Ours((Endpoint("fd00::1", 53),), ("_x.a-b.example",)),
    ],
    ids=["two addresses", "another port", "loopback and special names", "IPv6 alone"],
)


def the_program(name: str) -> str:
    """Where a program is; without it, the test is skipped."""
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def accepts(command: Sequence[str | Path]) -> str:
    """Run a program that checks; all that it says."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@CASES
@pytest.mark.parametrize("target", ["dnsmasq", "networkmanager"])
def test_dnsmasq_accepts_its_snippet(target: str, ours: Ours, tmp_path: Path) -> None:
    file = tmp_path / "containerdns.conf"
    file.write_text(client_targets.write(target, ours).files[-1][1])
    told = accepts([the_program("dnsmasq"), "--test", f"--conf-file={file}"])
    assert "syntax check OK" in told


@CASES
def test_dnsmasq_accepts_the_lines_for_pihole(ours: Ours, tmp_path: Path) -> None:
    """Pi-hole's FTL is a dnsmasq, which gets these lines as they are."""
    [(_, content)] = client_targets.write("pihole", ours).files
    [told] = [line for line in content.splitlines() if "dnsmasq_lines" in line]
    file = tmp_path / "pihole.conf"
    file.write_text("\n".join(json.loads(told.split(" ", 3)[3].strip("'"))) + "\n")
    assert "syntax check OK" in accepts([the_program("dnsmasq"), "--test", f"--conf-file={file}"])


@CASES
def test_bind_accepts_its_snippet(ours: Ours, tmp_path: Path) -> None:
    (_, zones), (_, options) = client_targets.write("bind", ours).files
    file = tmp_path / "named.conf"
    file.write_text(f"options {{\n{options}}};\n{zones}")
    accepts([the_program("named-checkconf"), file])


@CASES
def test_openvpn_client_accepts_what_it_is_pushed(ours: Ours, tmp_path: Path) -> None:
    """OpenVPN 2.6 reads each option as it would one of its own configuration."""
    pushed = [line.removeprefix('push "')[:-1] for line in lines("openvpn", ours)]
    file = tmp_path / "client.conf"
    file.write_text("\n".join(["client", "dev null", "remote 127.0.0.1", *pushed]) + "\n")
    done = subprocess.run(
        [the_program("openvpn"), "--config", file, "--verb", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "must define CA" in done.stdout, done.stdout  # the next thing that it looks at


@CASES
def test_unbound_accepts_its_snippet(ours: Ours, tmp_path: Path) -> None:
    file = tmp_path / "unbound.conf"
    file.write_text(client_targets.write("unbound", ours).text())
    accepts([the_program("unbound-checkconf"), file])


@CASES
def test_wg_quick_accepts_its_snippet(ours: Ours, tmp_path: Path) -> None:
    """It cuts what is its own, such as DNS, and would keep what it does not know."""
    file = tmp_path / "wg0.conf"
    file.write_text(client_targets.write("wireguard", ours).text())
    file.chmod(0o600)
    left = accepts([the_program("wg-quick"), "strip", file])
    assert [s for s in left.splitlines() if s and not s.startswith("#")] == ["[Interface]"]

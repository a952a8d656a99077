"""What `containerdns check` finds before a user does; each breakage with its remedy."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, free_port, serving

NOWHERE = ("--docker", "unix:///nonexistent/docker.sock")


class Checked:
    """What a run of `check` printed, as JSON and as text."""

    def __init__(self, *options: str, within: Sequence[str] = ()) -> None:
        base = ["--listen", f"127.0.0.1:{free_port()}"] if "--listen" not in options else []
        base += ["--http", "off"] if "--http" not in options else []
        base += NOWHERE if "--docker" not in options else ()
        base += ["--upstream", ""] if "--upstream" not in options else []
        program = [*within, sys.executable, "-m", "containerdns"]
        self._command = [*program, "check", *base, *options]
        done = self._run("--format", "json")
        self.status = done.returncode
        self.document: dict[str, Any] = json.loads(done.stdout)

    def _run(self, *more: str) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    @property
    def lines(self) -> list[str]:
        """The lines for people."""
        return self._run().stdout.splitlines()

    def about(self, part: str) -> tuple[str, str]:
        """The level and the remedy of the only finding whose text has a part."""
        [finding] = [f for f in self.document["findings"] if part in f["text"]]
        return finding["level"], finding["remedy"]


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    """A server that answers."""
    recording = RecordingUpstream()
    yield recording
    recording.close()


def test_missing_hosts_file_is_an_error(tmp_path: Path) -> None:
    checked = Checked("--hosts", f"{tmp_path}/hosts")
    level, remedy = checked.about("No such file or directory")
    assert level == "error"
    assert "create the file" in remedy


def test_hosts_file_that_serve_does_not_read_is_an_error(tmp_path: Path) -> None:
    """`check` hung, waiting for the other end of the FIFO."""
    os.mkfifo(tmp_path / "hosts")
    checked = Checked("--hosts", f"{tmp_path}/hosts")
    assert checked.about("not a regular file")[0] == "error"


def test_broken_line_of_a_hosts_file_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text("192.0.2.1 printer\n192.0.2.2 plotter laser\n192.0.2.300 scanner\n")
    checked = Checked("--hosts", str(file))
    assert checked.about(f"{file}: 3 names")[0] == "ok"
    level, remedy = checked.about("192.0.2.300")
    assert level == "warning"
    assert "ADDRESS NAME" in remedy


def test_state_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    assert Checked("--state", f"{tmp_path}/none/state").about("--state")[0] == "error"
    assert Checked("--state", str(tmp_path)).about("is a directory")[0] == "error"
    assert Checked("--state", f"{tmp_path}/state").about("--state")[0] == "ok"


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may give up capabilities")
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=["not to be written", "not to be entered"])
def test_who_lacks_rights_is_told_of_port_53_and_of_a_foreign_directory(
    mode: int, tmp_path: Path
) -> None:
    """As an ordinary user; in a network of its own, whose ports below 1024 are protected."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    foreign.chmod(mode)
    os.chown(foreign, 12345, 12345)
    rights = "-net_bind_service,-dac_override,-dac_read_search"
    within = ("unshare", "--net", "setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")
    checked = Checked("--listen", "127.0.0.53:53", "--state", f"{foreign}/state", within=within)
    level, _ = checked.about("port 53 needs root or CAP_NET_BIND_SERVICE")
    assert level == "error"
    assert checked.about("--state")[0] == "error"


def test_port_in_use_is_an_error_that_names_the_holder() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        checked = Checked("--listen", f"127.0.0.1:{other.getsockname()[1]}")
    level, remedy = checked.about("in use by")
    assert level == "error"
    assert "--listen" in remedy


def test_port_of_a_running_containerdns_is_in_order() -> None:
    """People check in the container in which it runs."""
    with serving(docker=None, ready=False) as server:
        where = ("--listen", f"127.0.0.1:{server.port}", "--http", server.url.partition("//")[2])
        checked = Checked(*where)
    assert checked.about(f"DNS on 127.0.0.1:{server.port}")[0] == "ok"
    assert checked.about("HTTP on")[0] == "ok"


def test_address_of_another_machine_is_a_warning() -> None:
    """An address that a VPN brings later is served then."""
    level, remedy = Checked("--listen", f"192.0.2.1:{free_port()}").about(
        "192.0.2.1 is not an address"
    )
    assert level == "warning"
    assert "once it appears" in remedy


@pytest.mark.parametrize(
    ("domain", "part"),
    [("com", "hides a public top-level domain"), ("local", "is a special name")],
)
def test_domain_that_is_not_ours_to_take_is_an_error(domain: str, part: str) -> None:
    level, remedy = Checked("--domain", domain).about(part)
    assert level == "error"
    assert remedy


@pytest.mark.parametrize("domain", ["docker", "corp.example.com", "localdomain", "internal"])
def test_usual_domain_is_in_order(domain: str) -> None:
    findings = Checked("--domain", domain).document["findings"]
    assert [f["text"] for f in findings if "--domain" in f["text"]] == []


def test_public_search_domain_is_a_warning() -> None:
    """A container called google would be google.com."""
    assert Checked("--search-domain", "com").about("--search-domain com.")[0] == "warning"


def test_open_resolver_is_an_error() -> None:
    level, remedy = Checked("--allow", "0.0.0.0/0").about("--allow 0.0.0.0/0")
    assert level == "error"
    assert "abused" in remedy
    for allowed in ("10.0.0.0/8", "fc00::/7"):
        findings = Checked("--allow", allowed).document["findings"]
        assert [f for f in findings if "allows queries from the whole internet" in f["text"]] == []


def test_upstream_that_is_silent_is_a_warning(upstream: RecordingUpstream) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{silent.getsockname()[1]}"
        alive = f"127.0.0.1:{upstream.port}"
        checked = Checked("--upstream", dead, "--upstream", alive)
    level, remedy = checked.about(f"upstream {dead}: no answer within 1 s")
    assert level == "warning"
    assert "firewall" in remedy
    assert checked.about(f"upstream {alive} answers")[0] == "ok"


def test_engine_that_is_away_is_an_error_and_exit_1() -> None:
    checked = Checked()
    assert checked.status == 1
    assert checked.lines[-1] == "1 error, 0 warnings"


@pytest.mark.engine
def test_networks_and_names_of_a_real_engine_are_examined(engine: Dockerd) -> None:
    """Compose calls the network vpn of the project shop shop_vpn."""
    engine.create_network("shop_vpn", subnet="192.0.2.0/24")
    labels = {"containerdns.names": "front"}
    engine.run("web", network="shop_vpn", labels=labels, hostname="db")
    engine.run("db", network="shop_vpn")
    engine.run("hidden", labels={"containerdns.enable": "false"})
    engine.run("unsure", labels={"containerdns.enable": "maybe"})
    checked = Checked(
        *("--docker", engine.socket_url, "--network", "vpn"),
        *("--allow", "127.0.0.0/8", "--allow", str(engine.subnet)),
    )
    assert checked.about("--network vpn: no Engine has a network of this name") == (
        "error",
        "did you mean shop_vpn?",
    )
    level, remedy = checked.about("shop_vpn, 192.0.2.0/24, is outside --allow")
    assert (level, "--allow 192.0.2.0/24" in remedy) == ("warning", True)
    assert checked.about("web does not get the name db: db has it")[0] == "warning"
    assert checked.about("hidden is skipped")[0] == "warning"
    assert "correct" in checked.about("containerdns.enable=maybe")[1]
    assert checked.status == 1
    assert "front.docker" in checked.document["names"]["web"]
    assert "db.docker" not in checked.document["names"]["web"]
    assert "hidden" not in checked.document["names"]

    engine.run("site", labels={"traefik.http.routers.site.rule": "Host(`site.docker`)"})
    proxied = Checked("--docker", engine.socket_url, "--proxy-labels")
    level, remedy = proxied.about("no traefik is running for the host names of site")
    assert (level, "containerdns.proxy=traefik" in remedy) == ("warning", True)

    right = Checked("--docker", engine.socket_url, "--network", "shop_vpn")
    assert (right.status, right.document["errors"]) == (0, 0)
    assert right.lines[-1] == f"0 errors, {right.document['warnings']} warnings"
    assert any(line.startswith("web: web.docker, ") for line in right.lines)

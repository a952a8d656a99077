"""What deploy/ holds, read by the programs that it is for."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd/containerdns.service"
COMPOSE_FILES = sorted(DEPLOY.rglob("compose*.yaml"))
MAX_EXPOSURE = 2.0
SECRETS = {  # what the Compose files want from whoever uses them
    "DOCKER_GID": "999",
    "VPN_IPSEC_PSK": "secret",
    "VPN_USER": "user",
    "VPN_PASSWORD": "password",
}


def ask(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program; without it, skip the test, under CI=true fail."""
    if shutil.which(command[0]) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{command[0]} is not installed")
    environment = os.environ | SECRETS | {"SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_systemd_takes_the_unit_without_a_word(tmp_path: Path) -> None:
    """The program itself need not be installed where the tests run."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/containerdns", "/bin/true"))
    done = ask("systemd-analyze", "verify", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_exposes_little() -> None:
    done = ask("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT)
    found = re.search(r"Overall exposure level.*: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= MAX_EXPOSURE


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_compose_takes_the_file(path: Path) -> None:
    done = ask("docker-compose", "-f", path, "config", "--quiet")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_compose_gives_containerdns_no_more_than_it_needs(path: Path) -> None:
    text = path.read_text()
    own = text[text.index("  containerdns:") :]
    for line in ("read_only: true", "cap_drop: [ALL]", "cap_add: [NET_BIND_SERVICE]"):
        assert line in own
    assert "no-new-privileges:true" in own

"""The files of deploy/, read by the programs that they are for."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT = DEPLOY / "systemd/containerdns.service"
COMPOSE_FILES = sorted([*DEPLOY.glob("compose*.yaml"), *DEPLOY.glob("*/compose*.yaml")])
EXPOSURE_MOST = 2.0  # of 10


def program(name: str) -> str:
    """Its path; under CI=true its absence is an error, else a skip."""
    path = shutil.which(name)
    if path is None:
        assert os.environ.get("CI") != "true", f"{name} is missing, see tests/apt-packages.txt"
        pytest.skip(f"needs {name}")
    return path


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    """The command itself is replaced, as it is not installed where tests run."""
    unit = tmp_path / UNIT.name
    text, count = re.subn(r"(?m)^(ExecStart=)\S+", r"\1/bin/true", UNIT.read_text())
    assert count == 1
    unit.write_text(text)
    command: list[str | Path] = [program("systemd-analyze"), "verify", unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_unit_exposes_little() -> None:
    command: list[str | Path] = [
        program("systemd-analyze"),
        "security",
        "--offline=true",
        "--no-pager",
        UNIT,
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"exposure level for \S+: ([0-9.]+)", told)
    assert found, told
    assert float(found[1]) <= EXPOSURE_MOST


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_compose_accepts_its_file(file: Path) -> None:
    """What a person must give, the file names with `:?`; here it is anything."""
    needed = dict.fromkeys(re.findall(r"\$\{(\w+):\?", file.read_text()), "1")
    command: list[str | Path] = [program("docker-compose"), "-f", file, "config", "--quiet"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **needed}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_server_in_compose_file_is_hardened_and_answers_few(file: Path) -> None:
    """It holds the Docker socket or a proxy of it, and stands beside a door to the internet."""
    server = services(file)["containerdns"]
    assert server["read_only"] is True
    assert (server["cap_drop"], server["cap_add"]) == (["ALL"], ["NET_BIND_SERVICE"])
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in server
    assert "user" not in server, "the image's own is no root"
    assert "0.0.0.0/0" not in str(server["environment"].get("CONTAINERDNS_ALLOW", "0.0.0.0/0"))


def test_behind_the_proxy_the_server_has_no_socket_and_the_proxy_no_post() -> None:
    found = services(DEPLOY / "compose.socket-proxy.yaml")
    assert "docker.sock" not in str(found["containerdns"])
    assert found["socket-proxy"]["environment"]["POST"] == 0
    assert found["socket-proxy"]["networks"] == ["socket"]


def services(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text())["services"])

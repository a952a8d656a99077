"""What deploy/ holds, read by the programs that it is for."""

import os
import re
import shutil
import subprocess
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from containerdns.config.settings import load
from tests.clients.resolvers import lack
from tests.timing import wait_until

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd/containerdns.service"
FLEETS = sorted((DEPLOY / "fleet").glob("compose*.yaml"))
COMPOSE_FILES = sorted(DEPLOY.rglob("compose*.yaml"))
MAX_EXPOSURE = 2.0
WANTED = {  # what the compositions of VPNs and fleets want on their command line
    "DOCKER_GID": "999",
    "FLEET_HOST": "b",
    "FLEET_ADDRESS": "127.0.4.2",
    "FLEET_ETCD": "etcd://127.0.4.1:2379,etcd://127.0.4.2:2379",
    "FLEET_A": "127.0.4.1",
    "FLEET_B": "127.0.4.2",
    "FLEET_C": "127.0.4.3",
}
URL = "https://github.com/containerdns/containerdns"


def composes() -> list[str]:
    """Debian's Compose 1, and Compose 2 where `tools/build-compose` has built it."""
    second = ROOT / ".programs/bin/docker-compose"
    return ["docker-compose", *([str(second)] if second.exists() else [])]


def ask(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program; without it, skip the test, under CI=true fail."""
    if shutil.which(command[0]) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{command[0]} is not installed")
    environment = os.environ | WANTED | {"SYSTEMD_COLORS": "0", "SYSTEMD_EMOJI": "0"}
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


def test_unit_is_started_again_for_ever_and_says_where_its_documents_are() -> None:
    text = UNIT.read_text()
    assert "\nStartLimitIntervalSec=0\n" in text.partition("[Service]")[0]
    assert f"\nDocumentation={URL}\n" in text.partition("[Service]")[0]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/ after the first line that each Compose file's head tells to type."""
    folder = tmp_path_factory.mktemp("clone") / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns(".env", "keys"))
    made = subprocess.run(
        ["sh", "deploy/make-env"],
        cwd=folder.parent,
        env=os.environ | {"DOCKER_SOCKET": "/dev/null"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == "wrote deploy/.env\n"
    return folder


@pytest.mark.parametrize("program", composes(), ids=["compose1", "compose2"][: len(composes())])
@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_compose_takes_the_file_after_make_env(path: Path, program: str, deployed: Path) -> None:
    copy = deployed / path.relative_to(DEPLOY)
    done = ask(program, "-f", copy, "config", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_environment_file_has_new_secrets_is_private_and_is_never_changed(deployed: Path) -> None:
    made = deployed / ".env"
    text = made.read_text()
    assert made.stat().st_mode & 0o077 == 0
    values = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    assert all(values.values())
    assert values["DOCKER_GID"] == str(Path("/dev/null").stat().st_gid)
    secrets = {values[name] for name in ("VPN_IPSEC_PSK", "VPN_PASSWORD", "GRAFANA_PASSWORD")}
    assert len(secrets) == 3
    assert all(len(secret) == 32 for secret in secrets)
    subprocess.run(["sh", deployed / "make-env"], check=True, capture_output=True)
    assert made.read_text() == text


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_head_tells_how_to_start_it(path: Path) -> None:
    """Every variable without a default is made by what the head says before `up`."""
    head = "\n".join(re.findall(r"^#   (.*)$", path.read_text(), re.MULTILINE))
    wanted = set(re.findall(r"\$\{(\w+):\?", path.read_text()))
    assert "docker compose" in head
    assert " up -d" in head
    if "sh deploy/make-env" in head:
        example = (DEPLOY / ".env.example").read_text()
        assert wanted <= set(re.findall(r"^(\w+)=", example, re.MULTILINE))
        assert f"docker compose -f deploy/{path.name} up -d" in head
    else:
        assert wanted <= set(re.findall(r"(\w+)=\S", head))


def fleet_service(path: Path, service: str, **values: str) -> Any:
    """A service of a composition for fleets, as Compose reads it."""
    environment = os.environ | WANTED | values
    if shutil.which("docker-compose") is None and os.environ.get("CI") != "true":
        pytest.skip("docker-compose is not installed")
    command = ["docker-compose", "-f", str(path), "config"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return yaml.safe_load(done.stdout)["services"][service]


@pytest.mark.parametrize("path", FLEETS, ids=lambda path: path.name)
def test_composition_of_a_fleet_has_settings_that_are_taken(path: Path, tmp_path: Path) -> None:
    environment = fleet_service(path, "containerdns")["environment"]
    settings = load({}, environment | {"CONTAINERDNS_STATE": str(tmp_path / "state")})
    assert settings.fleet.name == "b"
    assert settings.fleet.urls
    assert "etcd://127.0.4.2:2379" in settings.fleet.urls
    assert [str(a) for a in settings.rights.host_addresses] == ["127.0.4.2"]


def test_etcd_of_three_hosts_becomes_one_cluster(tmp_path: Path) -> None:
    """With the very arguments of the composition, each at an address of loopback."""
    shutil.which("etcd") or lack("etcd is not installed")
    path = DEPLOY / "fleet/compose.three.yaml"
    processes = []
    try:
        for host, address in (("a", "127.0.4.1"), ("b", "127.0.4.2"), ("c", "127.0.4.3")):
            words = fleet_service(path, "etcd", FLEET_HOST=host, FLEET_ADDRESS=address)["command"]
            words = [word.replace("/etcd-data", str(tmp_path / host)) for word in words]
            with (tmp_path / f"log-{host}").open("wb") as log:
                processes.append(subprocess.Popen(words, stdout=log, stderr=log))
        wait_until(lambda: all(is_healthy(f"127.0.4.{n}") for n in (1, 2, 3)))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def is_healthy(address: str) -> bool:
    """Return whether a member of etcd answers, and has a leader."""
    try:
        with urllib.request.urlopen(f"http://{address}:2379/health", timeout=1) as response:
            return b"true" in response.read()
    except OSError:
        return False


def test_base_of_the_image_is_pinned_and_its_version_is_the_project_s() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON_IMAGE=python:\S+@sha256:[0-9a-f]{64}$", dockerfile, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]+)"', dockerfile))
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["source"] == project["urls"]["Homepage"] == URL


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_images_of_others_have_a_tag_and_can_be_replaced(path: Path) -> None:
    """Without a tag, what runs depends on the day; what is built here needs none."""
    services = yaml.safe_load(path.read_text())["services"].values()
    built = {service.get("image") for service in services if "build" in service}
    for image in {service["image"] for service in services if "image" in service} - built:
        assert re.fullmatch(r"\$\{[A-Z_]+_IMAGE:-\S+:[\w.-]+\}", image)


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_compose_gives_containerdns_no_more_than_it_needs(path: Path) -> None:
    text = path.read_text()
    own = text[text.index("  containerdns:") :]
    for line in ("read_only: true", "cap_drop: [ALL]", "cap_add: [NET_BIND_SERVICE]"):
        assert line in own
    on_host = "network_mode: host" in own  # where port 53 needs a capability of the file
    assert ("no-new-privileges:true" in own) is not on_host


def test_changelog_has_a_section_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "CHANGELOG.md").read_text()
    version = re.escape(project["version"])
    assert re.search(rf"^## \[{version}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)
    assert re.search(rf"^\[{version}\]: {URL}/", text, re.MULTILINE)

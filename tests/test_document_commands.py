"""The commands in the documents, run as they stand there; of the others it is said why not."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.dockerd import Dockerd
from tests.engine.running import Running

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ENDLESS = ("--follow", "--watch", "curl -N")
PATIENCE = 3.0  # seconds for those
NOT_RUN = {  # by the first word
    "cp": "installs the unit on the machine",
    "dig": "asks the port of `make run`; tests/engine asks others",
    "docker": "tests/engine/test_image.py runs the image with these rights",
    "ip": "changes the machine's routes",
    "iptables": "changes the machine's firewall",
    "pipx": "installs on the machine",
    "systemctl": "needs systemd; tests/test_deploy.py checks the unit",
    "tailscale": "needs an account",
}


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield page, block.replace("\\\n", " ")


COMMANDS = [
    pytest.param(line, id=f"{page.name}: {line[:60]}")
    for page, block in blocks("sh")
    for line in block.splitlines()
    if shlex.split(line)[0] not in NOT_RUN
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A server without Docker: what it says is not the matter here, but that it is asked."""
    with Running(docker="unix:///nonexistent/socket", ready=False) as running:
        yield running


def run(line: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell that knows `containerdns`, of a server at `url`."""
    line = line.replace("localhost:8080", url.removeprefix("http://"))
    ours = f'containerdns() {{ {shlex.quote(sys.executable)} -m containerdns "$@"; }}\n'
    environment = os.environ | {"CONTAINERDNS_URL": url, "CI": ""}
    limit = PATIENCE if any(sign in line for sign in ENDLESS) else None
    command = ["bash", "-c", ours + line]
    try:
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_documents_does_what_it_should(line: str, server: Running) -> None:
    match shlex.split(line):
        case ["make", target]:
            done = run(f"make --dry-run {target}", server.url)
            assert done.returncode == 0, done.stderr
        case ["containerdns", "serve", *options]:
            done = run(shlex.join(["containerdns", "check", *options]), server.url)
            assert done.returncode in (0, 1), "2 would be settings that cannot be read"
            assert "Traceback" not in done.stderr
        case ["containerdns", "check", *_]:
            assert run(line, server.url).returncode in (0, 1)  # with Docker, and without
        case _:
            done = run(line, server.url)
            assert done.returncode == 0, done.stderr


def test_nothing_is_excused_that_is_not_there() -> None:
    words = {shlex.split(line)[0] for _, block in blocks("sh") for line in block.splitlines()}
    assert words >= NOT_RUN.keys()


def test_client_config_prints_what_the_readme_shows(server: Running) -> None:
    shown = [block for _, block in blocks("console") if block.startswith("$ containerdns client-")]
    assert shown
    for block in shown:
        command, _, output = block.removeprefix("$ ").partition("\n")
        assert run(command, server.url).stdout == output


@pytest.mark.engine
def test_explain_prints_what_the_readme_shows(engine: Dockerd) -> None:
    shown = next(block for _, block in blocks("console") if "containerdns explain" in block)
    command, _, output = shown.partition("$ containerdns explain ")[2].partition("\n")
    address = engine.address(engine.run("web"))
    with Running(docker=engine.socket_url) as server:
        told = run(f"containerdns explain {command}", server.url).stdout
    assert told == output.replace("172.17.0.2", address)

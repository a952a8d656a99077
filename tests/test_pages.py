"""What the pages tell people to type, typed.

The commands run as they stand, in a network namespace of its own where the server has
the ports that `make run` gives it, over a private Engine.  Of those that are not run,
`NOT_RUN` says why.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from containerdns.commands import cli
from containerdns.config.settings import load
from containerdns.core.zone import docker_labels, ownership, policy
from containerdns.core.zone.containers import Attachment, Container
from tests.engine.dockerd import IMAGE, Dockerd
from tests.reading_pages import ROOT, Block, arguments, blocks, spans
from tools import documents

SHELL = blocks("sh", "console")
PLACEHOLDERS = {"TARGET": "dnsmasq", "NAME": "web", "DOMAIN": "docker.example"}
OURS = ("containerdns", ".venv/bin/containerdns")
NOT_RUN = {  # by how the command begins
    "./make-keys": "as the next",
    "DOCKER_GID=": "tests/vpn starts the compositions",
    "cd deploy/openvpn": "as the next",
    "cp deploy/systemd/": "installs the unit on the machine",
    "curl http://web": "asks from a laptop on the VPN; tests/vpn does",
    "docker compose": "tests/engine/test_image.py does",
    "docker exec containerdns": "tests/engine/test_image.py does",
    "docker logs containerdns": "as the next",
    "docker network connect vpn": "tests/vpn does",
    "docker run -d --name containerdns": "tests/engine/test_image.py runs an image of its own",
    "ip route": "changes the machine's routes",
    "iptables": "changes the machine's firewall",
    "make ": "tested for its target alone",
    "pipx": "installs on the machine",
    "sh deploy/make-env": "writes deploy/.env; tests/test_deploy.py does so in a copy",
    "systemctl": "needs systemd; tests/test_deploy.py checks the unit",
    "tailscale": "needs an account",
}
ENDLESS = (" --follow", " --watch", "curl -N", "containerdns serve")
ENDLESS_LASTS = 1.5  # seconds that a command without an end is left to run
MAX_START = 60.0  # seconds
START_WEB = "docker run -d --name web nginx"


# Read only.


def commands_of_ours() -> Iterator[tuple[str, str]]:
    """Every command line of ours in the pages, and where it stands."""
    for block in SHELL:
        yield from ((str(block), command) for command in block.commands())
    yield from ((page, span) for page, span in spans() if span.startswith(OURS))


@pytest.mark.parametrize(
    ("place", "command"), sorted({(p, c) for p, c in commands_of_ours() if arguments(c)})
)
def test_every_command_line_of_ours_parses(place: str, command: str) -> None:
    """Unknown options and targets are usage errors to click; words in capitals are filled in.

    Brackets mark what may be left out.  A command that is only named gets the arguments that it
    needs.
    """
    name, *rest = (PLACEHOLDERS.get(word, word) for word in arguments(command))
    with click.Context(cli.main) as parent:
        found = cli.main.get_command(parent, name)
        assert found is not None, place
        needed = any(isinstance(p, click.Argument) and p.required for p in found.params)
        if not rest and needed:
            rest = ["dnsmasq" if name == "client-config" else "web"]
        found.make_context(name, [word.strip("[]") for word in rest], parent=parent)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_every_example_of_a_file_is_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "containerdns.toml"
    path.write_text(block.text)
    load({}, {}, path)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_compose_example_has_labels_that_exist(block: Block) -> None:
    known = {f"containerdns.{label.key}" for label in docker_labels.LABELS}
    services = yaml.safe_load(block.text).get("services", {})
    labels = {label for service in services.values() for label in service.get("labels", {})}
    assert {label for label in labels if label.startswith("containerdns.")} <= known


def test_every_label_that_is_named_exists() -> None:
    known = {label.key.partition(".")[0] for label in docker_labels.LABELS}
    others = {"toml", "service", "conf"}  # names of files
    for page, span in spans():
        for key in re.findall(r"(?<![\w/.])containerdns\.([a-z]+)", span):
            assert key in known | others, f"{page}: {span}"


def test_every_metric_that_is_named_exists() -> None:
    page = documents.http_page()
    known = set(re.findall(r"^\| `(containerdns_\w+)`", page, re.MULTILINE))
    for place, span in spans():
        for name in re.findall(r"\bcontainerdns_\w+", span):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in known, f"{place}: {span}"


@pytest.mark.parametrize("prefix", NOT_RUN)
def test_nothing_is_excused_that_is_not_there(prefix: str) -> None:
    assert any(c.startswith(prefix) for block in SHELL for c in block.commands())


# Labels.


def container(**labels: str) -> Container:
    """A running container on two networks."""
    return Container(
        id="0123456789ab" + 52 * "0",
        container_name="web",
        engine="unix:///docker.sock",
        state="running",
        attachments=(
            Attachment("backend", "b", ("192.0.2.2",), ("192.0.2.0/24",)),
            Attachment("frontend", "f", ("198.51.100.2",), ("198.51.100.0/24",)),
        ),
        docker_labels={f"containerdns.{key}": value for key, value in labels.items()},
    )


@pytest.mark.parametrize(
    ("key", "value"), [e for label in docker_labels.LABELS for e in label.examples]
)
def test_example_of_a_label_has_an_effect_and_no_fault(key: str, value: str) -> None:
    rules = policy.Policy(expose_by_default=(key, value) != ("enable", "true"))
    without = policy.publish(container(), rules)
    published = policy.publish(container(**{key: value}), rules)
    assert published.faults == ()
    assert (published != without) is (key != "proxy")  # which has its effect on other containers


@pytest.mark.parametrize("label", docker_labels.LABELS, ids=lambda label: label.key)
def test_wrong_value_of_a_label_has_one_fault(label: docker_labels.DockerLabel[object]) -> None:
    [(key, _), *_] = label.examples
    assert label.wrong
    for value in label.wrong:
        assert len(policy.publish(container(**{key: value}), policy.Policy()).faults) == 1


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("enable", "true", "on"),
        ("names", ",".join(f"n{i}" for i in range(100)), ",".join(f"n{i}" for i in range(101))),
        ("names", "a" * 63, "a" * 64),
        ("fqdns", "a.example", "*.example"),
        ("fqdns", "b.example", "."),
        ("network", "backend", "nowhere"),
        ("ttl", "3600", "3601"),
        ("wildcard", "false", "no"),
        ("srv._http._tcp", "65535", "65536"),
        ("srv._http._tcp", "1", "0"),
        ("txt", "t" * 4096, "t" * 4097),
        ("txt.key", "t" * 4096, "t" * 4097),
        ("cname", "a.example.", "."),
        ("address", "192.0.2.7", "192.0.2.256"),
    ],
    ids=lambda value: value if len(value) < 16 else "",
)
def test_limit_of_a_label_is_where_the_page_says(key: str, good: str, bad: str) -> None:
    assert policy.publish(container(**{key: good}), policy.Policy()).faults == ()
    assert len(policy.publish(container(**{key: bad}), policy.Policy()).faults) == 1


# Names.


def test_example_of_names_has_all_names_and_their_rules() -> None:
    """Of docs/names.md: what one container of Compose is called."""
    compose = "com.docker.compose."
    example = Container(
        id="0123456789ab" + 52 * "0",
        container_name="staging-search_elasticsearch_1",
        engine="unix:///docker.sock",
        state="running",
        hostname="es1",
        attachments=(Attachment("backend", "b", ("172.18.0.2",), aliases=("search",)),),
        docker_labels={
            f"{compose}project": "staging-search",
            f"{compose}service": "elasticsearch",
            f"{compose}container-number": "1",
            "containerdns.names": "find",
            "containerdns.fqdns": "find.corp.example",
        },
    )
    page = (ROOT / "docs/names.md").read_text(encoding="utf-8")
    table = page.partition("| it is called | by the rule |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", table, re.MULTILINE)
    claims = policy.publish(example, policy.Policy()).claims
    assert sorted(told) == sorted((claim.owner, claim.rule) for claim in claims)


# Run.


class World:
    """A server where `make run` has it, a private Engine, and a shell beside them."""

    def __init__(self, engine: Dockerd) -> None:
        self.engine = engine
        binaries = Path(sys.executable).parent
        self._environment = os.environ | {
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "DOCKER_HOST": engine.socket_url,
            "NO_COLOR": "1",
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._server = self._start(
            "containerdns serve --listen 127.0.0.1:5300 --http 127.0.0.1:8080", "unshare", "--net"
        )
        self._inside = ("nsenter", "--net", f"--target={self._server.pid}")
        self._until("curl -sf localhost:8080/readyz")

    def close(self) -> None:
        self._server.terminate()
        self._server.wait(MAX_START)
        self._log.close()

    def run(self, command: str) -> str:
        """Run a command that ends; give what it prints."""
        done = subprocess.run(
            [*self._inside, "bash", "-euo", "pipefail", "-c", command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=self._environment,
            cwd=ROOT,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def run_endless(self, command: str) -> None:
        """Run a command that goes on until it is interrupted, for a moment.

        A server gets a network of its own, as it wants ports that this one has.
        """
        is_server = command.startswith("containerdns serve")
        place = ("unshare", "--net") if is_server else self._inside
        running = self._start(command, *place)
        try:
            running.wait(ENDLESS_LASTS)
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
            running.wait(MAX_START)
            return
        raise AssertionError(f"{command} ended with {running.returncode}: {self.log()}")

    def log(self) -> str:
        """What servers and endless commands printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def start_web(self) -> None:
        """Have a container web, as the pages do, and no other."""
        self.engine.clear()
        self.run(START_WEB)
        self._until("dig @127.0.0.1 -p 5300 web +short | grep .")

    def have_web(self) -> None:
        """As `start_web`, if it is not there already."""
        if "web" not in self.run("docker ps --format '{{.Names}}'").split():
            self.start_web()

    def until_told(self, path: str, *patterns: str) -> None:
        """Wait until a document over HTTP has what these match."""
        for pattern in patterns:
            self._until(f"curl -sf 'localhost:8080/{path}' | tr -d '\\n' | grep -E '{pattern}'")

    def _start(self, command: str, *place: str) -> subprocess.Popen[bytes]:
        up = "ip link set lo up; " if place[0] == "unshare" else ""
        return subprocess.Popen(
            [*place, "sh", "-ec", f"{up}exec {command}"],
            stdout=self._log,
            stderr=self._log,
            env=self._environment,
            cwd=ROOT,
        )

    def _until(self, command: str) -> None:
        deadline = time.monotonic() + MAX_START
        while True:
            try:
                self.run(command)
            except AssertionError as failed:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{failed}\n{self.log()}") from failed
                time.sleep(0.05)
            else:
                return


@pytest.fixture(scope="module")
def world(dockerd: Dockerd) -> Iterator[World]:
    for program in ("docker", "dig", "curl", "unshare", "nsenter"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    dockerd.clear()
    dockerd.api.tag(IMAGE, "nginx", "latest")
    made = World(dockerd)
    yield made
    made.close()
    dockerd.clear()
    dockerd.api.remove_image("nginx:latest")


TO_RUN = [
    pytest.param(command, id=f"{block}: {command[:60]}")
    for block in SHELL
    for command in block.commands()
    if not command.startswith(tuple(NOT_RUN)) and command != START_WEB
]


@pytest.mark.engine
@pytest.mark.parametrize("command", TO_RUN)
def test_every_command_runs(command: str, world: World) -> None:
    world.have_web()
    if any(mark in command for mark in ENDLESS):
        world.run_endless(command)
    else:
        world.run(command)


@pytest.mark.engine
@pytest.mark.parametrize("block", [b for b in SHELL if b.language == "console"], ids=str)
def test_every_transcript_is_what_is_printed(block: Block, world: World) -> None:
    """Except the address, which differs from Engine to Engine."""
    world.start_web()
    address = world.engine.address("web")
    for command, printed in block.transcript():
        if arguments(command):
            shown = world.run(command).replace(address, "172.17.0.2")
            assert shown == printed, command


@pytest.mark.engine
def test_every_document_has_the_keys_that_the_page_shows(world: World) -> None:
    """Of docs/http.md: JSON below the heading of its path."""
    world.start_web()
    world.run("dig @127.0.0.1 -p 5300 web")
    world.engine.remove(world.engine.run("old"))
    world.engine.remove("web")
    world.engine.run("hidden", labels={"containerdns.enable": "false"})  # where web was
    world.run(START_WEB)
    world.until_told("zone?format=json", '"hidden"', '"remembered": *[[][^]]*"old')
    world.until_told("changes", '"moved"')
    page = (ROOT / "docs/http.md").read_text(encoding="utf-8")
    told = re.findall(r"^## `(/\w+)`.*?^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [path for path, _ in told] == ["/zone", "/explain", "/queries", "/changes"]
    queries = {"/zone": "?format=json", "/explain": "?name=web&type=A"}
    for path, text in told:
        given = world.run(f"curl -sf 'localhost:8080{path}{queries.get(path, '')}'")
        assert_same_keys(yaml.safe_load(text), yaml.safe_load(given), path)


def assert_same_keys(told: Any, given: Any, where: str) -> None:
    """Compare the keys of a page with those of a document, which may have more."""
    if isinstance(told, dict):
        assert set(told) <= set(given), where
        for key, value in told.items():
            assert_same_keys(value, given[key], f"{where}.{key}")
    elif isinstance(told, list):
        if where.endswith(".remarks"):
            return  # texts, only where something was stripped from the name
        assert given, f"{where} is empty"
        assert_same_keys(told[0], given[-1], where)


@pytest.mark.engine
def test_every_explanation_in_the_table_of_troubleshooting_is_one_that_is_given(
    world: World,
) -> None:
    """The container web lives through what the table tells, and is explained each time."""

    def explain(*arguments: str) -> str:
        return world.run(" ".join(["containerdns", "explain", *arguments]))

    world.start_web()
    asked = [
        *("web AAAA", "web.docker --client 192.0.2.1", "nobody", "nobody.docker"),
        *("web.docker --search localdomain", "nobody.localdomain", "www.example.com"),
        *("1.1.168.192.in-addr.arpa PTR", "use-application-dns.net"),
    ]
    heard = [ownership.WAITING, *map(explain, asked)]
    for project in ("alpha", "beta"):
        start = "com.docker.compose."
        labels = {f"{start}project": project, f"{start}service": "db"}
        world.engine.run(f"{project}-db-1", labels=labels)
        world.until_told("containers", f"{project}-db-1")
        heard += [explain("db"), explain("db.docker")]
    world.engine.run("lone", network="none")
    world.engine.create_network("front")
    world.engine.run("search", network="front", aliases=["es"])
    rival = world.engine.run("rival", labels={"containerdns.names": "web"})
    world.until_told("containers", "rival")
    heard += map(explain, ("webb", "lone.docker", "es.docker", "web.docker", "web.dokcer"))
    world.engine.remove(rival)
    world.engine.disconnect("search", "front")
    world.until_told("changes", '"moved", *"container": *"search"')
    world.engine.rename("lone", "alone")
    world.until_told("changes", '"renamed", *"container": *"alone"')
    heard += map(explain, ("es.front.docker", "lone.docker"))
    world.engine.pause("web")
    world.until_told("containers", '"paused"')
    heard += [explain("web.docker")]
    world.engine.unpause("web")
    world.engine.remove("alpha-db-1")
    world.until_told("changes", '"went", *"container": *"alpha-db-1"')
    heard += [explain("db.docker")]
    world.engine.stop_container("web")
    world.until_told("containers", '"exited"')
    heard += [explain("web --search localdomain")]
    world.engine.remove("web")
    world.engine.run("web", labels={"containerdns.enable": "false"})
    world.until_told("zone?format=json", "containerdns.enable=false")
    heard += [explain("web.docker")]
    world.engine.remove("web")
    world.until_told("containers", '"skipped": *[[][]]')
    heard += [explain("web.docker")]
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    table = page.partition("| `explain` says |")[2].partition("\n\n")[0]
    phrases = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(phrases) > 6
    for phrase in phrases:
        for part in phrase.split("..."):
            assert part.strip(" ,") in "\n".join(heard), phrase

"""The container image: built and run on the private Engine, as the README says it is run.

No registry is reachable from there, so that the base, an image of Python, is made of the
Python that runs the tests, and what would be downloaded lies in the build context.
"""

import fnmatch
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dnslib
import pytest

from deploy.image import assemble
from tests.engine.dockerd import Dockerd
from tests.engine.running import free_port
from tests.own_network import run_outside
from tests.timing import MAX_WAIT, assert_within, best_of_three, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BASE, IMAGE = "tests/python:latest", "tests/containerdns:latest"
MAX_SIZE = 90_000_000  # octets, of everything in it
MAX_HEALTHY = 40.0 + MAX_WAIT  # seconds; the check runs every ten
USER = "65532:65532"


@pytest.fixture(scope="module")
def image(dockerd: Dockerd) -> Iterator[dict[str, Any]]:
    """The image's document, once it has been built."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base")
        make_base(base)
        dockerd.api.import_image_from_data(
            tar_of(base),
            repository=BASE.partition(":")[0],
            tag="latest",
            changes=[f"ENV PATH={base_python().parent}:/usr/bin"],
        )
        context = Path(folder, "context")
        make_context(context)
        build(dockerd, tar_of(context))
    yield dict(dockerd.api.inspect_image(IMAGE))
    dockerd.api.remove_image(IMAGE, force=True)
    dockerd.api.remove_image(BASE, force=True)


def base_python() -> Path:
    """The interpreter below the virtual environment that runs this."""
    return Path(sys.executable).resolve()


def make_base(root: Path) -> None:
    """Create the root of an image like Docker's python: an interpreter with pip."""
    root.mkdir()
    assemble.copy_interpreter(root, ("__pycache__", "site-packages", "config-*", "test", "idlelib"))
    told = "import sysconfig; print(sysconfig.get_path('purelib'))"
    command = [str(base_python()), "-I", "-c", told]
    packages = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    pip = root / packages.lstrip("/") / "pip"
    shutil.copytree(Path(sysconfig.get_path("purelib"), "pip"), pip)
    assemble.copy_libraries(root)
    python3 = root / str(base_python().parent).lstrip("/") / "python3"
    if not python3.exists():
        python3.symlink_to(base_python())
    (root / "tmp").mkdir(exist_ok=True)
    if assemble.CERTIFICATES.is_file():
        target = root / str(assemble.CERTIFICATES).lstrip("/")
        target.parent.mkdir(parents=True)
        shutil.copy(assemble.CERTIFICATES, target)


def make_context(root: Path) -> None:
    """Create the build context: what .dockerignore lets through, and the wheels."""
    for name in ("Dockerfile", "LICENSE", "README.md", "pyproject.toml", "requirements.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("containerdns", "deploy/image"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    wheels = root / "dist/wheels"
    pip = [sys.executable, "-m", "pip", "--quiet"]
    download = ["download", "--require-hashes", "--no-deps", "-r", str(root / "requirements.txt")]
    run_outside([*pip, *download, "-d", str(wheels)])
    own = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(root)]
    subprocess.run([*pip, *own], check=True)
    shutil.rmtree(root / "build", ignore_errors=True)


def tar_of(folder: Path) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(folder, arcname=".")
    return data.getvalue()


def build(dockerd: Dockerd, context: bytes) -> None:
    lines = dockerd.api.build(
        fileobj=io.BytesIO(context),
        custom_context=True,
        buildargs={"PYTHON_IMAGE": BASE},
        tag=IMAGE,
        network_mode="none",
        rm=True,
        decode=True,
    )
    told = list(lines)
    assert not any("error" in line for line in told), json.dumps(told[-20:])


def start(engine: Dockerd, network: str, *binds: str, **environment: str) -> str:
    """Run the image as the README does; return the container's id."""
    api = engine.api
    host_config = api.create_host_config(
        binds=[f"{engine.socket}:/var/run/docker.sock:ro", *binds],
        group_add=[str(engine.socket.stat().st_gid)],
        read_only=True,
        cap_drop=["ALL"],
        cap_add=["NET_BIND_SERVICE"],
        security_opt=["no-new-privileges:true"],
        network_mode=network,
    )
    made = api.create_container(
        IMAGE, name="containerdns", environment=environment, host_config=host_config
    )
    api.start(made["Id"])
    return str(made["Id"])


def until_healthy(engine: Dockerd, container: str) -> None:
    """Return once the Engine says so, whose health check runs every ten seconds."""
    wait_until(lambda: _state(engine, container)["Health"]["Status"] == "healthy", MAX_HEALTHY)


def until_ready(engine: Dockerd, container: str) -> None:
    """Return once the image's health check succeeds, without waiting for the Engine to run it."""
    test = engine.inspect(container)["Config"]["Healthcheck"]["Test"]
    assert test[0] == "CMD"

    def succeeds() -> bool:
        _state(engine, container)
        job = engine.api.exec_create(container, test[1:])["Id"]
        engine.api.exec_start(job)
        return bool(engine.api.exec_inspect(job)["ExitCode"] == 0)

    wait_until(succeeds)


def _state(engine: Dockerd, container: str) -> dict[str, Any]:
    state: dict[str, Any] = engine.inspect(container)["State"]
    assert state["Running"], f"{state}\n{engine.api.logs(container).decode()}"
    return state


def test_it_is_small_and_has_no_shell(image: dict[str, Any], dockerd: Dockerd) -> None:
    print(f"image: {image['Size'] / 1e6:.1f} MB")
    assert image["Size"] < MAX_SIZE
    assert image["Config"]["User"] == USER
    assert image["Config"]["Labels"]["org.opencontainers.image.version"] == version("containerdns")
    made = dockerd.api.create_container(IMAGE)
    try:
        exported = io.BytesIO(b"".join(dockerd.api.export(made["Id"])))
    finally:
        dockerd.remove(made["Id"])
    with tarfile.open(fileobj=exported) as tar:
        programs = {Path(m.name).name for m in tar if m.isfile() and m.mode & 0o111}
        assert not programs & {"sh", "bash", "dash", "busybox", "pip", "apt", "dpkg"}
        assert not any(re.search(r"(^|/)pip(/|$)", name) for name in tar.getnames())


def test_nothing_that_a_server_imports_is_left_out() -> None:
    """Found by importing every module of ours, and docker, in a process of their own."""
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in sorted((ROOT / "containerdns").rglob("*.py"))
        if file.stem not in {"__main__", "__init__"}
    ]
    script = f"import docker, sys, {', '.join(modules)}\nprint(*(m for m in sys.modules))"
    imported = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"docker", "wsgiref"} <= set(imported)
    unused = re.compile("|".join(fnmatch.translate(pattern) for pattern in assemble.UNUSED))
    standard = sys.stdlib_module_names
    parts = {
        name
        for module in imported
        if (first := module.partition(".")[0]) in standard or first.startswith("_codecs")
        for name in (module.split(".")[-1], f"{first}.py")
    }
    assert {name for name in parts if unused.match(name)} == set()


def test_it_resolves_names_for_other_containers_and_becomes_healthy(
    image: dict[str, Any], engine: Dockerd
) -> None:
    """Read-only, one capability, an ordinary user: as the README and the Compose files run it."""
    assert image
    engine.create_network("vpn")
    engine.run("web", network="vpn")
    client = engine.run("client", network="vpn")
    server = start(engine, "vpn", CONTAINERDNS_NETWORK="vpn", CONTAINERDNS_UPSTREAM="")
    until_healthy(engine, server)
    for name in ("web.docker", "web"):
        told = engine.execute(client, "nslookup", name, engine.address(server, "vpn"))
        assert engine.address("web", "vpn") in told
    told = engine.execute(client, "nslookup", "nobody.docker", engine.address(server, "vpn"))
    assert "NXDOMAIN" in told


def test_it_answers_by_the_networks_that_it_shares(image: dict[str, Any], engine: Dockerd) -> None:
    """And knows itself, the host, and in the mode `container:X` whose networks it has.

    The host asks from the bridge's gateway, behind which anyone may be.
    """
    assert image
    engine.create_network("front")
    engine.create_network("back")
    engine.run("web", network="front")
    engine.connect("web", "back")
    engine.run("db", network="back")
    engine.run("agent", network="host")
    web = {network: engine.address("web", network) for network in ("front", "back")}
    for network, server_network in (("front", "front"), ("back", "container:db")):
        server = start(engine, server_network, CONTAINERDNS_UPSTREAM="")
        until_ready(engine, server)
        own = engine.address("db" if network == "back" else server, network)
        gateway = engine.inspect("web")["NetworkSettings"]["Networks"][network]["Gateway"]
        assert asked(own, "web.docker") == [web[network]]
        assert asked(own, "web") == [web[network]]
        assert asked(own, "db.docker") == [engine.address("db", "back")]
        assert asked(own, "ns.docker") == [own]
        assert asked(own, "host.docker") == asked(own, "agent.docker") == [gateway]
        assert asked(own, "containerdns.docker") == [own]
        engine.remove(server)


def asked(server: str, name: str) -> list[str]:
    """The addresses that a server answers with, in order."""
    command = ["dig", "+short", "+tries=3", f"@{server}", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_it_keeps_its_state_in_a_named_volume(image: dict[str, Any], engine: Dockerd) -> None:
    """As all Compose files mount it: the names of removed containers outlive the server's."""
    assert image
    engine.create_network("vpn")
    engine.run("web", network="vpn")
    client = engine.run("client", network="vpn")
    volume = engine.api.create_volume(name="containerdns-state")["Name"]
    bind = f"{volume}:/var/lib/containerdns"
    environment = {"STATE": "/var/lib/containerdns/state", "NETWORK": "vpn", "UPSTREAM": ""}
    environment = {f"CONTAINERDNS_{key}": value for key, value in environment.items()}
    try:
        first = start(engine, "vpn", bind, **environment)
        until_ready(engine, first)
        engine.remove("web")
        engine.api.stop(first)
        assert b"not saved" not in engine.api.logs(first)
        engine.remove(first)
        second = start(engine, "vpn", bind, **environment)
        until_ready(engine, second)
        told = engine.execute(
            client, "wget", "-q", "-O-", f"http://{engine.address(second, 'vpn')}:8080/zone"
        )
        assert "; remembered web until " in told
        engine.remove(second)
    finally:
        engine.clear()
        engine.api.remove_volume(volume, force=True)


@pytest.mark.parametrize("file", ["compose.alone.yaml", "compose.host.yaml"])
def test_compose_file_is_started_as_its_head_says(
    image: dict[str, Any], engine: Dockerd, file: str, tmp_path: Path
) -> None:
    """With its own .env; asked at the address and port that the head names."""
    assert image
    engine.run("web")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns(".env"))
    dns, http = free_port(), free_port()
    environment = os.environ | {
        "DOCKER_HOST": engine.socket_url,
        "DOCKER_SOCKET": str(engine.socket),
        "CONTAINERDNS_IMAGE": IMAGE,
        "DNS_PORT": str(dns),
        "HTTP_PORT": str(http),
    }
    run = partial(subprocess.run, cwd=tmp_path, env=environment, check=True, capture_output=True)
    run(["sh", "deploy/make-env"])
    composed = ["docker-compose", "-f", f"deploy/{file}"]
    run([*composed, "up", "-d", "--no-build"])
    try:
        until_ready(engine, "containerdns")
        command = ["/usr/bin/containerdns", "explain", "web", "A"]
        if "host" in file:
            command += ["--url", f"http://127.0.0.1:{http}"]
        explained = engine.execute("containerdns", *command)
        assert "the container web is running" in explained
        query = dnslib.DNSRecord.question("web.docker")
        answer = query.send("127.0.0.1", dns, timeout=MAX_WAIT)
        assert engine.address("web") in str(dnslib.DNSRecord.parse(answer).short())
    finally:
        run([*composed, "down", "--volumes"])


@best_of_three
def test_it_stops_within_a_second(image: dict[str, Any], engine: Dockerd) -> None:
    """As process 1 it has no default handlers of signals."""
    assert image
    engine.clear()
    engine.create_network("vpn")
    server = start(engine, "vpn", CONTAINERDNS_UPSTREAM="")
    wait_until(lambda: b"DNS on" in engine.api.logs(server))
    started = time.monotonic()
    engine.api.stop(server, timeout=10)
    took = time.monotonic() - started
    assert engine.inspect(server)["State"]["ExitCode"] == 0
    assert_within(took, 2.0)  # the Engine's own work included

"""The whole program on a real Podman: what its events and documents have of their own."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import dnslib
import pytest

from tests.engine.dockerd import CannotStart
from tests.engine.podman import IMAGE, Podman, require_podman
from tests.engine.running import MAX_ANSWER, Running, serving
from tests.timing import assert_within, best_of_three, wait_until

pytestmark = pytest.mark.engine

UPSTREAM = ("--upstream", "127.0.0.1:9")  # nobody: nothing here is to be forwarded
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service() -> Iterator[Podman]:
    """A private Podman; under CI=true its absence is an error, else a skip."""
    try:
        require_podman()
    except CannotStart as fault:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(fault))
    podman = Podman()
    try:
        podman.set_up()
        yield podman
    finally:
        podman.tear_down()


@pytest.fixture
def podman(service: Podman) -> Iterator[Podman]:
    """The private Podman without containers of other tests."""
    yield service
    service.clear()


@pytest.fixture
def server(podman: Podman) -> Iterator[Running]:
    with serving(*UPSTREAM, docker=podman.socket_url) as running:
        yield running


def test_life_of_a_container_is_followed(podman: Podman, server: Running) -> None:
    podman.run("web")
    first = podman.address("web")
    server.until([first], "web")
    podman("stop", "-t", "0", "web")
    server.until([], "web")
    assert server.rcode("web") == "NXDOMAIN"
    podman("start", "web")
    server.until([podman.address("web")], "web")
    podman("rename", "web", "shop")
    server.until([podman.address("shop")], "shop")
    server.until([], "web")
    podman("restart", "-t", "0", "shop")
    server.until([podman.address("shop")], "shop")
    podman("rm", "-f", "-t", "0", "shop")
    server.until([], "shop")
    assert "shop.docker." not in server.get("/zone")
    assert server.metric("docker_resyncs_total", reason="watchdog") == 0


def test_networks_of_a_container_are_followed(podman: Podman, server: Running) -> None:
    """Its events carry the container's id where Docker's carry the network's."""
    podman.run("web")
    front = podman.address("web")
    server.until([front], "web")
    podman("network", "connect", "back", "web")
    back = podman.address("web", "back")
    server.until(sorted((front, back)), "web")
    assert server.addresses("web.back.docker") == [back]
    podman("network", "disconnect", "front", "web")
    server.until([back], "web")
    document = server.get_json("/zone?format=json")
    assert {record["container"] for record in document["records"] if record["container"]} == {"web"}
    assert document["skipped"] == []


def test_containers_of_a_pod_have_its_address(podman: Podman, server: Running) -> None:
    podman("pod", "create", "--name", "shop", "--infra-name", "shop-infra", "--network", "front")
    podman.run("web", "--pod", "shop")
    podman.run("db", "--pod", "shop")
    address = podman.address("shop-infra")
    for name in ("web", "db", "shop-infra"):
        server.until([address], name)
    podman("pod", "stop", "-t", "0", "shop")
    for name in ("web", "db"):
        server.until([], name)
    podman("pod", "start", "shop")
    address = podman.address("shop-infra")
    for name in ("web", "db"):
        server.until([address], name)


@best_of_three
def test_service_that_restarts_is_found_within_two_seconds(podman: Podman, server: Running) -> None:
    """Containers live on without it, and what happens meanwhile is found after its return."""
    podman.clear()
    podman.run("stays")
    podman.run("goes")
    server.until([podman.address("goes")], "goes")
    podman.stop()
    try:
        wait_until(lambda: server.metric("docker_connected") == 0)
        podman("rm", "-f", "-t", "0", "goes")
        podman.run("comes")
        assert server.addresses("stays") == [podman.address("stays")]
    finally:
        podman.start()
    took = server.until([podman.address("comes")], "comes")
    server.until([], "goes")
    assert server.addresses("stays") == [podman.address("stays")]
    assert_within(took, 2.0)


def test_server_in_a_container_of_podman_finds_itself(podman: Podman) -> None:
    """Of several addresses it answers with those on its own networks (contract, section 3)."""
    podman.run("web")
    podman("network", "connect", "back", "web")
    with in_container(podman, network="back") as address:
        query = dnslib.DNSRecord.question("web.docker")  # as the gateway, so from no network
        answered = dnslib.DNSRecord.parse(query.send(address, timeout=MAX_ANSWER))
    assert [str(rr.rdata) for rr in answered.rr] == [podman.address("web", "back")]


@contextlib.contextmanager
def in_container(podman: Podman, network: str) -> Iterator[str]:
    """A server in a container, of this machine's Python and files; its address."""
    folders = {"/usr", "/lib", "/lib64", sys.base_prefix, sys.prefix, str(REPOSITORY)}
    mounts = [f"--volume={os.path.realpath(f)}:{f}:ro" for f in folders if Path(f).exists()]
    mounts.append(f"--volume={podman.socket}:/run/podman.sock")
    command = [sys.executable, "-m", "containerdns", "serve", *UPSTREAM]
    command += ["--docker", "unix:///run/podman.sock", "--listen", "0.0.0.0:53"]
    options = ["--name", "dns", "--network", network, "--stop-signal=KILL", *mounts]
    podman("run", "-d", f"--workdir={REPOSITORY}", *options, IMAGE, *command)
    address = podman.address("dns", network)

    def is_ready() -> bool:
        with contextlib.suppress(CannotStart):
            return "ready" in podman("exec", "dns", "wget", "-qO-", "http://127.0.0.1:8080/readyz")
        return False

    wait_until(is_ready)
    yield address

"""Which of a container's addresses a client gets: the one that it can reach."""

import contextlib
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clients.resolvers import Stub, write_resolv_conf
from tests.engine.dockerd import IMAGE, Dockerd
from tests.engine.running import MAX_START, RecordingUpstream, serving
from tests.timing import wait_until
from tests.vpn.networks import BORROWED, PYTHON, Laptop

pytestmark = pytest.mark.engine

NETWORKS = ("a", "b", "c")


class Scene:
    """Three networks, a container on all of them, and clients here and there.

    Attributes:
        of: The container's address on each network.
        gateways: The machine's address on each network.
    """

    def __init__(self, engine: Dockerd, stub: Stub, resolv_conf: Path) -> None:
        self._engine, self._stub, self._resolv_conf = engine, stub, resolv_conf
        for name in NETWORKS:
            engine.create_network(name)
        engine.run("web", network="a")
        for name in NETWORKS[1:]:
            engine.connect("web", name)
        self.of = {name: engine.address("web", name) for name in NETWORKS}
        attached = engine.inspect("web")["NetworkSettings"]["Networks"]
        self.gateways = {name: str(attached[name]["Gateway"]) for name in NETWORKS}
        self._inside: dict[str, list[str]] = {"host": []}
        for name in NETWORKS:
            pid = engine.inspect(engine.run(network=name))["State"]["Pid"]
            self._inside[name] = ["nsenter", "-n", "-t", str(pid)]

    def add_client(self, name: str, words: Sequence[str]) -> None:
        """Add a client whose programs run behind some words."""
        self._inside[name] = list(words)

    def found(self, client: str, server: str, name: str = "web.docker") -> set[str]:
        """What a client finds, by the names of the networks; other addresses as they are."""
        write_resolv_conf(self._resolv_conf, server)
        inside = self._inside[client]
        found = self._stub.look_up(name, self._resolv_conf, "4", inside)
        assert found.addresses or found.is_absent, found
        networks = {address: network for network, address in self.of.items()}
        return {networks.get(address, address) for address in found.addresses}


@pytest.fixture
def scene(engine: Dockerd, all_stubs: dict[str, Stub], resolv_conf: Path) -> Scene:
    """The networks, with nobody who answers yet."""
    return Scene(engine, all_stubs["glibc"], resolv_conf)


def test_server_on_the_host(
    engine: Dockerd, upstream: RecordingUpstream, loopback: str, scene: Scene, tmp_path: Path
) -> None:
    engine.run("labelled", network="a", labels={"containerdns.network": "b"})
    engine.connect("labelled", "b")
    labelled = {engine.address("labelled", "b")}
    engine.run("on-host", network="host")
    engine.run("beside", network="container:web")
    engine.run("alone", network="none")
    gateways = scene.gateways
    places = [loopback, *gateways.values()]
    with Laptop(engine, tmp_path) as laptop:
        laptop.run("ip", "route", "add", "default", "via", laptop.gateway)
        scene.add_client("vpn", laptop.enter)
        options = [f"--listen={place}:53" for place in (*places, laptop.gateway)]
        options += [f"--upstream=127.0.0.1:{upstream.port}"]
        with serving(*options, docker=engine.socket_url):
            for name in NETWORKS:  # rule 2, whichever of our addresses is asked
                assert scene.found(name, gateways[name]) == {name}
                assert scene.found(name, gateways["a"]) == {name}
                assert scene.found(name, gateways[name], "beside.docker") == {name}
                assert scene.found(name, gateways[name], "labelled.docker") == labelled
                assert scene.found(name, gateways[name], "web.b.docker") == {"b"}
            for client, server in (("host", loopback), ("vpn", laptop.gateway)):  # rule 4
                assert scene.found(client, server) == {"a", "b", "c"}
                assert scene.found(client, server, "labelled.docker") == labelled
                assert scene.found(client, server, "on-host.docker") == {server}
                assert scene.found(client, server, "alone.docker") == set()
        with serving(*options, "--network=b", "--network=c", docker=engine.socket_url):
            assert scene.found("vpn", laptop.gateway) == {"b", "c"}
            assert scene.found("b", gateways["b"]) == {"b"}
            assert scene.found("a", gateways["a"]) == {"b", "c"}
    assert upstream.names() == []


def start_in_a_container(engine: Dockerd, networks: Sequence[str], published: str) -> str:
    """Start the program in a container of some networks; return its id once it is ready."""
    borrowed = [path for path in dict.fromkeys((*BORROWED, *PYTHON)) if Path(path).is_dir()]
    binds = [f"{path}:{path}:ro" for path in borrowed]
    document = {
        "Image": IMAGE,
        "Entrypoint": [sys.executable, "-m", "containerdns", "serve"],
        "ExposedPorts": {"53/udp": {}},
        "HostConfig": {
            "NetworkMode": networks[0],
            "Binds": [*binds, f"{engine.socket}:/var/run/docker.sock:ro"],
            "PortBindings": {"53/udp": [{"HostIp": published, "HostPort": "53"}]},
        },
    }
    container = str(engine.api.create_container_from_config(document, "server")["Id"])
    for network in networks[1:]:
        engine.connect(container, network)
    engine.start_container(container)
    url = f"http://{engine.address(container, networks[0])}:8080/readyz"
    until = time.monotonic() + MAX_START
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return container
        assert time.monotonic() < until, engine.api.logs(container).decode()
        time.sleep(0.05)


def test_server_in_a_container(engine: Dockerd, scene: Scene, tmp_path: Path) -> None:
    elsewhere = {engine.address(engine.run("elsewhere", network="c"))}
    engine.run("on-host", network="host")
    with Laptop(engine, tmp_path) as laptop:
        scene.add_client("vpn", laptop.enter)
        container = start_in_a_container(engine, ("a", "b"), published=laptop.gateway)
        ours = {name: engine.address(container, name) for name in ("a", "b")}
        for name, address in ours.items():
            assert scene.found(name, address) == {name}  # rule 2
            # The machine asks with the address of the gateway, as Docker's proxy would.
            assert scene.found("host", address) == {"a", "b"}  # rule 3
            assert scene.found("host", address, "on-host.docker") == {scene.gateways[name]}
            assert scene.found("host", address, "elsewhere.docker") == elsewhere  # rule 4
        assert scene.found("vpn", laptop.gateway) == {"a", "b"}
        engine.disconnect(container, "b")
        wait_until(lambda: scene.found("vpn", laptop.gateway) == {"a"})
        engine.connect(container, "c")
        wait_until(lambda: scene.found("vpn", laptop.gateway) == {"a", "c"})
        engine.remove(container)  # before the address that it publishes goes

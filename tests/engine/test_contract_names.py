"""Names of the contract that only the whole program on a real Engine can show."""

import time
from collections.abc import Iterator

import docker
import pytest

from tests.engine.dockerd import IMAGE, Dockerd
from tests.engine.running import RecordingUpstream, Running, serving
from tests.timing import MAX_WAIT

pytestmark = pytest.mark.engine


@pytest.fixture
def swarm(engine: Dockerd) -> Iterator[Dockerd]:
    """The private Engine as the manager of a swarm of one, with an overlay network."""
    engine.api.init_swarm(advertise_addr="127.0.0.1")
    try:
        engine.create_network("overlay", driver="overlay")
        yield engine
    finally:
        engine.api.leave_swarm(force=True)


def test_service_has_its_virtual_address_alone_in_either_spelling(swarm: Dockerd) -> None:
    """Contract section 2, rules 7 and 8; and its tasks are no losers, of whom to warn."""
    template = docker.types.TaskTemplate(
        docker.types.ContainerSpec(IMAGE, command=["sleep", "1000000"]),
        networks=[{"Target": "overlay"}],
    )
    mode = docker.types.ServiceMode("replicated", 2)
    service = swarm.api.create_service(template, name="my_web", mode=mode)["ID"]
    [virtual] = swarm.api.inspect_service(service)["Endpoint"]["VirtualIPs"]
    address = [virtual["Addr"].partition("/")[0]]
    upstream = RecordingUpstream()
    try:
        with serving("--upstream", f"127.0.0.1:{upstream.port}", docker=swarm.socket_url) as server:
            tasks: set[str] = set()
            for slot in ("1", "2"):
                tasks.update(_wait_for_addresses(server, f"{slot}.my-web.docker"))
            assert len(tasks) == 2
            for spelling in ("my_web", "my-web"):
                assert server.addresses(spelling) == address
                assert server.addresses(f"{spelling}.localdomain") == address
                assert server.addresses(f"tasks.{spelling}.docker") == sorted(tasks)
            assert server.get_json("/zone?format=json")["losses"] == []
            assert upstream.names() == []
    finally:
        upstream.close()


def _wait_for_addresses(server: Running, name: str) -> list[str]:
    """A task needs a moment, on a busy machine many, to start."""
    until = time.monotonic() + MAX_WAIT
    while not (found := server.addresses(name)) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def test_service_that_wants_no_names_has_none_nor_have_its_tasks(swarm: Dockerd) -> None:
    """`docker service create --label` labels the service, and no container."""
    template = docker.types.TaskTemplate(
        docker.types.ContainerSpec(IMAGE, command=["sleep", "1000000"]),
        networks=[{"Target": "overlay"}],
    )
    mode = docker.types.ServiceMode("replicated", 1)
    labels = {"containerdns.enable": "false"}
    swarm.api.create_service(template, name="hidden", mode=mode, labels=labels)
    swarm.api.create_service(template, name="shown", mode=mode)
    with serving("--upstream", "127.0.0.1:1", docker=swarm.socket_url) as server:
        for name in ("shown", "tasks.shown.docker", "1.shown.docker"):
            assert _wait_for_addresses(server, name)
        until = time.monotonic() + MAX_WAIT
        while len(server.get_json("/zone?format=json")["skipped"]) < 2:  # it, and its task
            assert time.monotonic() < until
            time.sleep(0.1)
        for name in ("hidden", "tasks.hidden.docker", "1.hidden.docker"):
            assert server.rcode(name) == "NXDOMAIN"

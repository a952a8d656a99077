"""Names of the contract that only the whole program on a real Engine can show."""

import time

import pytest

from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running, serving
from tests.timing import MAX_WAIT

pytestmark = pytest.mark.engine


def test_service_has_its_virtual_address_alone_in_either_spelling(swarm: Dockerd) -> None:
    """Contract section 2, rules 7 and 8; and its tasks are no losers, of whom to warn."""
    service = swarm.create_service("my_web", replicas=2)
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
    swarm.create_service("hidden", labels={"containerdns.enable": "false"})
    swarm.create_service("shown")
    with serving("--upstream", "127.0.0.1:1", docker=swarm.socket_url) as server:
        for name in ("shown", "tasks.shown.docker", "1.shown.docker"):
            assert _wait_for_addresses(server, name)
        until = time.monotonic() + MAX_WAIT
        while len(server.get_json("/zone?format=json")["skipped"]) < 2:  # it, and its task
            assert time.monotonic() < until
            time.sleep(0.1)
        for name in ("hidden", "tasks.hidden.docker", "1.hidden.docker"):
            assert server.rcode(name) == "NXDOMAIN"

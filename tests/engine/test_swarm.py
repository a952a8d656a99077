"""Services of a swarm, on a real Engine that is its only manager."""

import asyncio
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from containerdns.core.containers import Container
from containerdns.engine.swarm import service_from_document, task_from_document
from containerdns.errors import BadDocument
from tests.engine.dockerd import IMAGE, Dockerd
from tests.engine.recorder import watching

NETWORK = {
    "Network": {"ID": "n1", "Spec": {"Name": "overlay"}},
    "Addresses": ["10.0.1.3/24"],
}
SERVICE: dict[str, Any] = {
    "ID": "s1",
    "Spec": {"Name": "web", "Labels": {"key": "value"}},
    "Endpoint": {"VirtualIPs": [{"NetworkID": "n1", "Addr": "10.0.1.2/24"}]},
}
TASK: dict[str, Any] = {
    "ID": "t1",
    "ServiceID": "s1",
    "NodeID": "other",
    "Slot": 2,
    "Spec": {"ContainerSpec": {"Labels": {"key": "value"}}},
    "Status": {"State": "running"},
    "NetworksAttachments": [NETWORK],
}


@pytest.fixture
def swarm(engine: Dockerd) -> Iterator[Dockerd]:
    """The private Engine as the manager of a swarm of one."""
    engine.api.init_swarm(advertise_addr="127.0.0.1")
    try:
        engine.create_network("overlay", driver="overlay")
        yield engine
    finally:
        engine.api.leave_swarm(force=True)


def create_service(engine: Dockerd, name: str, replicas: int) -> str:
    template = docker.types.TaskTemplate(
        docker.types.ContainerSpec(IMAGE, command=["sleep", "1000000"]),
        networks=[{"Target": "overlay"}],
    )
    mode = docker.types.ServiceMode("replicated", replicas)
    made = engine.api.create_service(template, name=name, mode=mode, labels={"key": "value"})
    return str(made["ID"])


async def test_service_is_told_with_its_virtual_address_and_its_tasks(swarm: Dockerd) -> None:
    async with watching(swarm.socket_url) as (recorder, _):
        await recorder.until_listed()
        service_id = await asyncio.to_thread(create_service, swarm, "web", 2)
        told = f"service:{service_id}"
        await recorder.until(lambda: told in recorder.containers)
        [pool] = swarm.api.inspect_service(service_id)["Endpoint"]["VirtualIPs"]
        service = recorder.containers[told]
        assert service.container_name == "web"
        assert service.attachments[0].network == "overlay"
        assert service.attachments[0].addresses == (pool["Addr"].partition("/")[0],)
        assert service.docker_labels == {"key": "value"}
        await recorder.until(lambda: len(recorder.running()) == 3)  # it, and its tasks here
        tasks = [c for c in recorder.running().values() if c is not service]
        names = {c.docker_labels["com.docker.swarm.service.name"] for c in tasks}
        assert names == {"web"}
        assert all(len(c.id) == 64 for c in tasks)
        await asyncio.to_thread(swarm.api.remove_service, service_id)
        await recorder.until(lambda: told not in recorder.containers)


def test_task_of_another_node_is_told_as_docker_names_its_container() -> None:
    task = task_from_document(TASK, [SERVICE], "this", "engine")
    assert isinstance(task, Container)
    assert (task.id, task.container_name, task.is_running) == ("t1", "web.2.t1", True)
    assert task.attachments[0].addresses == ("10.0.1.3",)
    assert task.attachments[0].subnets == ("10.0.1.0/24",)
    assert task.docker_labels["com.docker.swarm.task.name"] == "web.2.t1"
    assert task.docker_labels["key"] == "value"


@pytest.mark.parametrize(
    "change",
    [{"NodeID": "this"}, {"Status": {"State": "shutdown"}}],
    ids=["on this node", "ended"],
)
def test_other_tasks_are_not_told(change: dict[str, Any]) -> None:
    assert task_from_document(TASK | change, [SERVICE], "this", "engine") is None


def test_service_without_a_virtual_address_is_its_tasks_alone() -> None:
    assert service_from_document(SERVICE | {"Endpoint": {}}, {}, "engine") is None


@pytest.mark.parametrize(
    "change",
    [{"ID": 5}, {"Spec": None}, {"Spec": {"Name": 5}}, {"Endpoint": {"VirtualIPs": [{"Addr": 5}]}}],
)
def test_odd_service_is_a_bad_document(change: dict[str, Any]) -> None:
    with pytest.raises(BadDocument):
        service_from_document(SERVICE | change, {"n1": "overlay"}, "engine")


@pytest.mark.parametrize(
    "change",
    [{"ID": ""}, {"Status": None}, {"ServiceID": "unknown"}, {"NetworksAttachments": [5]}],
)
def test_odd_task_is_a_bad_document(change: dict[str, Any]) -> None:
    with pytest.raises(BadDocument):
        task_from_document(TASK | change, [SERVICE], "this", "engine")

"""Services of a swarm, on a real Engine that is its only manager."""

import asyncio
import gc
import time
from pathlib import Path
from typing import Any

import pytest

from containerdns.core.zone.containers import Container
from containerdns.engine.swarm import service_from_document, task_from_document
from containerdns.errors import BadDocument
from tests.engine.dockerd import Dockerd
from tests.engine.recorder import watching
from tests.engine.simulated import SimulatedEngine
from tests.timing import assert_within, best_of_three, until

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


async def test_service_is_told_with_its_virtual_address_and_its_tasks(swarm: Dockerd) -> None:
    async with watching(swarm.socket_url) as (recorder, _):
        await recorder.until_listed()
        service_id = await asyncio.to_thread(
            swarm.create_service, "web", replicas=2, labels={"key": "value"}, aliases=["www"]
        )
        told = f"service:{service_id}"
        await recorder.until(lambda: told in recorder.containers)
        await recorder.until(lambda: recorder.containers[told].attachments[0].addresses)
        [pool] = swarm.api.inspect_service(service_id)["Endpoint"]["VirtualIPs"]
        service = recorder.containers[told]
        assert service.container_name == "web"
        assert service.attachments[0].network == "overlay"
        assert service.attachments[0].aliases == ("www",)
        assert service.attachments[0].addresses == (pool["Addr"].partition("/")[0],)
        assert service.docker_labels == {"key": "value"}
        await recorder.until(lambda: len(recorder.running()) == 3)  # it, and its tasks here
        tasks = [c for c in recorder.running().values() if c.id != told]
        names = {c.docker_labels["com.docker.swarm.service.name"] for c in tasks}
        assert names == {"web"}
        assert all(len(c.id) == 64 for c in tasks)
        await asyncio.to_thread(swarm.api.remove_service, service_id)
        await recorder.until(lambda: told not in recorder.containers)
        await recorder.until(lambda: not recorder.running())
        assert recorder.count("container_unreadable") == 0


def service(number: int) -> dict[str, Any]:
    """A service with a virtual address."""
    pools = [{"NetworkID": "n1", "Addr": f"10.0.{number}.2/24"}]
    return {"ID": f"s{number}", "Spec": {"Name": f"web{number}"}, "Endpoint": {"VirtualIPs": pools}}


@pytest.fixture
def simulated(tmp_path: Path) -> SimulatedEngine:
    """A manager with two containers, two services and a task elsewhere."""
    engine = SimulatedEngine(tmp_path / "docker.sock", 2)
    engine.services = [service(1), service(2)]
    engine.tasks = [TASK]
    return engine


async def test_services_are_told_before_the_first_listing_counts(
    simulated: SimulatedEngine,
) -> None:
    simulated.delays["/services"] = 0.3
    async with simulated, watching(simulated.url) as (recorder, _):
        await recorder.until_listed()
        assert set(recorder.running()) == {"web-0", "web-1", "web1", "web2", "web1.2.t1"}


@pytest.mark.parametrize("fault", ["silence", 500, 503, 403])
async def test_containers_are_listed_whatever_the_swarm_says(
    simulated: SimulatedEngine, fault: str | int
) -> None:
    """A manager without a leader answers after 20 s, with 500."""
    if isinstance(fault, int):
        simulated.statuses["/services"] = fault
    else:
        simulated.delays["/services"] = 60.0
    async with simulated, watching(simulated.url) as (recorder, _):
        await recorder.until_listed()
        assert set(recorder.running()) == {"web-0", "web-1"}
        simulated.add("late")
        await recorder.until(lambda: "late" in recorder.running())
        assert recorder.count("disconnected") == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [("/services", 500), ("/services", 503), ("/tasks", 500), ("/services", 403)],
)
async def test_manager_that_says_nothing_withdraws_nothing(
    simulated: SimulatedEngine, path: str, status: int
) -> None:
    """Demoted, locked, restarting, or without a leader: the last state stands."""
    async with simulated, watching(simulated.url) as (recorder, _):
        await recorder.until_listed()
        simulated.statuses[path] = status
        for _ in range(2):
            asked = simulated.requests.copy()
            simulated.emit("service", "update", "s1")
            await until(lambda asked=asked: simulated.requests[path] > asked[path])  # type: ignore[misc]
        simulated.statuses.clear()
        simulated.services.append(service(3))
        simulated.emit("service", "update", "s1")
        await recorder.until(lambda: "web3" in recorder.running(), within=20)
        assert recorder.count("container_removed") == 0
        assert recorder.count("disconnected") == 0


async def test_engine_that_left_its_swarm_withdraws_the_services(
    simulated: SimulatedEngine,
) -> None:
    async with simulated, watching(simulated.url) as (recorder, _):
        await recorder.until_listed()
        simulated.statuses["/services"] = 503
        simulated.node_state = "inactive"
        simulated.emit("node", "remove", "this")
        await recorder.until(lambda: set(recorder.running()) == {"web-0", "web-1"})


async def test_tasks_elsewhere_are_polled_from_the_start(simulated: SimulatedEngine) -> None:
    """No event comes when a task starts on another node."""
    async with simulated, watching(simulated.url) as (recorder, _):
        await recorder.until_listed()
        simulated.tasks.append(TASK | {"ID": "t2", "Slot": 3})
        await recorder.until(lambda: "web1.3.t2" in recorder.running(), within=20)
        before = simulated.requests["/tasks"]
        await until(lambda: simulated.requests["/tasks"] > before)
        assert simulated.requests["/info"] == 1  # it costs the Engine 6 ms


async def test_removed_service_takes_its_tasks_along_without_a_word(
    simulated: SimulatedEngine,
) -> None:
    """After `docker service rm` its tasks are still listed for a while."""
    async with simulated, watching(simulated.url) as (recorder, _):
        await recorder.until_listed()
        del simulated.services[0]
        simulated.emit("service", "remove", "s1")
        await recorder.until(lambda: set(recorder.running()) == {"web-0", "web-1", "web2"})
        assert recorder.count("container_unreadable") == 0


async def test_odd_service_is_reported_until_it_is_gone(simulated: SimulatedEngine) -> None:
    simulated.services.append({"ID": "odd", "Spec": None})
    async with simulated, watching(simulated.url) as (recorder, _):
        await recorder.until_listed()
        assert list(recorder.unreadable) == ["odd"]
        simulated.services[-1] = service(3) | {"ID": "odd"}
        simulated.emit("service", "update", "odd")
        await recorder.until(lambda: "web3" in recorder.running() and not recorder.unreadable)


@best_of_three
async def test_many_tasks_leave_the_loop_free(tmp_path: Path) -> None:
    """In our own time, as others may have the CPU meanwhile; 20 ms, for slow machines."""
    engine = SimulatedEngine(tmp_path / "docker.sock")
    engine.services = [service(1)]
    engine.tasks = [TASK | {"ID": f"t{n}", "Slot": n} for n in range(1000)]
    longest = 0.0
    gc.disable()
    try:
        async with engine, watching(engine.url) as (recorder, _):
            await recorder.until_listed()
            engine.emit("service", "update", "s1")
            before = engine.requests["/tasks"]
            await until(lambda: engine.requests["/tasks"] > before)  # the engine is of this loop
            begun = time.monotonic()
            while time.monotonic() - begun < 0.5:
                before_turn = time.process_time()
                await asyncio.sleep(0)
                longest = max(longest, time.process_time() - before_turn)
            assert len(recorder.running()) == 1001
    finally:
        gc.enable()
    assert_within(longest, 0.02)


def test_task_of_another_node_is_told_as_docker_names_its_container() -> None:
    task = task_from_document(TASK, {"s1": "web"}, "this", "engine")
    assert isinstance(task, Container)
    assert (task.id, task.container_name, task.is_running) == ("t1", "web.2.t1", True)
    assert task.attachments[0].addresses == ("10.0.1.3",)
    assert task.attachments[0].subnets == ("10.0.1.0/24",)
    assert task.docker_labels["com.docker.swarm.task.name"] == "web.2.t1"
    assert task.docker_labels["key"] == "value"


@pytest.mark.parametrize(
    "change",
    [
        {"NodeID": "this"},
        {"Status": {"State": "shutdown"}},
        {"ServiceID": "removed"},
        {"ServiceID": None},
    ],
    ids=["on this node", "ended", "of a removed service", "of no service"],
)
def test_other_tasks_are_not_told(change: dict[str, Any]) -> None:
    assert task_from_document(TASK | change, {"s1": "web"}, "this", "engine") is None


@pytest.mark.parametrize(
    ("hostname", "expected"),
    [
        ("plain", "plain"),
        ("{{.Service.Name}}-{{ .Task.Slot }}", "web-2"),
        ("{{.Task.Name}}.{{.Node.ID}}.{{.Service.ID}}.{{.Task.ID}}", "web.2.t1.other.s1.t1"),
        ("{{.Node.Hostname}}", ""),
        ('{{index .Service.Labels "key"}}', ""),
    ],
    ids=["none", "name and slot", "ids", "unknown here", "a function"],
)
def test_placeholders_in_the_host_name_of_a_task_elsewhere_are_filled_in(
    hostname: str, expected: str
) -> None:
    """`docker service create --hostname`; of tasks here, the Engine itself shows the result."""
    spec = {"ContainerSpec": {"Hostname": hostname}}
    task = task_from_document(TASK | {"Spec": spec}, {"s1": "web"}, "this", "engine")
    assert task is not None
    assert task.hostname == expected


@pytest.mark.parametrize("is_new", [True, False], ids=["of its tasks", "of the service"])
@pytest.mark.parametrize("addresses", [("10.0.1.2",), ()], ids=["VIP", "dnsrr"])
def test_service_has_its_network_aliases(is_new: bool, addresses: tuple[str, ...]) -> None:
    """`docker stack deploy` gives each service its short name; no container shows that."""
    networks = [{"Target": "n1", "Aliases": ["www"]}, {"Target": "n2"}]
    wanted = {"TaskTemplate": {"Networks": networks}} if is_new else {"Networks": networks}
    document = SERVICE | {"Spec": SERVICE["Spec"] | wanted}
    if not addresses:
        document |= {"Endpoint": {}}
    found = service_from_document(document, {"n1": "front", "n2": "back"}, "engine")
    assert [(a.network, a.addresses, a.aliases) for a in found.attachments] == [
        ("back", (), ()),
        ("front", addresses, ("www",)),
    ]


@pytest.mark.parametrize(
    "change",
    [{"ID": 5}, {"Spec": None}, {"Spec": {"Name": 5}}, {"Endpoint": {"VirtualIPs": [{"Addr": 5}]}}],
)
def test_odd_service_is_a_bad_document(change: dict[str, Any]) -> None:
    with pytest.raises(BadDocument):
        service_from_document(SERVICE | change, {"n1": "overlay"}, "engine")


@pytest.mark.parametrize(
    "change",
    [{"ID": ""}, {"Status": None}, {"ServiceID": 5}, {"NetworksAttachments": [5]}],
)
def test_odd_task_is_a_bad_document(change: dict[str, Any]) -> None:
    with pytest.raises(BadDocument):
        task_from_document(TASK | change, {"s1": "web"}, "this", "engine")

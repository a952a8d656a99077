"""Random operations on a real Engine whose event stream is cut now and then, beside a model.

Whenever the Engine has come to rest, every name is what the Engine itself says: the addresses
of the running containers that have it, or NXDOMAIN and never forwarded.  `SOAK_SECONDS=300
SOAK_SEED=7 pytest tests/engine/test_random_operations.py` runs longer, and another way.
"""

import contextlib
import os
import random
import select
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running, serving
from tests.timing import wait_until

pytestmark = pytest.mark.engine

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))
SEED = int(os.environ.get("SOAK_SEED", "20261126"))
OPERATIONS = 12  # between two looks
CONTAINERS = 8  # at most, beside those that a redeploy makes
NAMES = tuple(f"name-{number}" for number in range(12))
NETWORKS = ("front", "back")
SERVICES = ("web", "db")
LOOPING = ("sh", "-c", "sleep 0.2; exit 1")  # ends at once, and its restart policy starts it again


class Proxy:
    """A socket before the Engine's, whose connections can be cut."""

    def __init__(self, engine: Path, path: Path) -> None:
        self._engine = str(engine)
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        self.url = f"unix://{path}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections, as a proxy that restarts."""
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX)
        pair = (client, engine)
        self._pairs.add(pair)
        with client, engine, contextlib.suppress(OSError):
            engine.connect(self._engine)
            others = {client: engine, engine: client}
            while True:
                for end in select.select(pair, (), ())[0]:
                    octets = end.recv(65536)
                    if not octets:
                        return
                    others[end].sendall(octets)
        self._pairs.discard(pair)


class Storm:
    """Random operations; each may fail, as on a container that is paused or gone."""

    def __init__(self, engine: Dockerd, proxy: Proxy, seed: int) -> None:
        self._engine = engine
        self._proxy = proxy
        self._random = random.Random(seed)
        self._operations: list[Callable[[], object]] = [
            *(self._run,) * 4,
            *(self._remove, self._restart, self._kill, self._start, self._rename) * 2,
            *(self._connect, self._disconnect, self._redeploy) * 2,
            *(self._pause, self._hang_up, self._update, self._loop, self._cut, self._swap),
        ]

    def blow(self) -> None:
        """Do some operations, one right after the other."""
        for _ in range(OPERATIONS):
            with contextlib.suppress(docker.errors.APIError):
                self._random.choice(self._operations)()

    def _some(self) -> str:
        ids = [item["Id"] for item in self._engine.api.containers(all=True)]
        return str(self._random.choice(sorted(ids))) if ids else "none"

    def _name(self) -> str:
        return self._random.choice(NAMES)

    def _labels(self) -> dict[str, str]:
        """Of a replica of a Compose service, or none."""
        if self._random.random() < 0.5:
            return {}
        service = self._random.choice(SERVICES)
        return {"com.docker.compose.project": "shop", "com.docker.compose.service": service}

    def _run(self) -> None:
        if len(self._engine.api.containers(all=True)) < CONTAINERS:
            network, alias = self._random.choice(NETWORKS), self._random.choice(SERVICES)
            options = {"network": network, "aliases": [f"{alias}-alias"], "labels": self._labels()}
            self._engine.run(self._name(), **options)

    def _loop(self) -> None:
        self._engine.run(self._name(), network="front", command=LOOPING, restart=True)

    def _redeploy(self) -> None:
        """As `docker compose up --force-recreate`."""
        old = self._some()
        document = self._engine.inspect(old)
        name, labels = document["Name"].removeprefix("/"), document["Config"]["Labels"]
        self._engine.rename(old, f"{old[:12]}_{name}")
        new = self._engine.create(name, network="front", labels=labels)
        self._engine.stop_container(old)
        self._engine.remove(old)
        self._engine.start_container(new)

    def _swap(self) -> None:
        """Rename there and back, as a deployment that fails."""
        container = self._some()
        name = self._engine.inspect(container)["Name"].removeprefix("/")
        self._engine.rename(container, f"{name}-old")
        self._engine.rename(container, name)

    def _remove(self) -> None:
        self._engine.remove(self._some())

    def _restart(self) -> None:
        self._engine.restart_container(self._some())

    def _kill(self) -> None:
        self._engine.kill_container(self._some())

    def _hang_up(self) -> None:
        self._engine.kill_container(self._some(), "HUP")

    def _start(self) -> None:
        self._engine.start_container(self._some())

    def _rename(self) -> None:
        self._engine.rename(self._some(), self._name())

    def _pause(self) -> None:
        container = self._some()
        is_paused = self._engine.inspect(container)["State"]["Paused"]
        (self._engine.unpause if is_paused else self._engine.pause)(container)

    def _connect(self) -> None:
        alias = self._random.choice(SERVICES)
        self._engine.connect(self._some(), self._random.choice(NETWORKS), [f"{alias}-alias"])

    def _disconnect(self) -> None:
        self._engine.disconnect(self._some(), self._random.choice(NETWORKS))

    def _update(self) -> None:
        self._engine.api.update_container(self._some(), cpu_shares=self._random.randrange(2, 99))

    def _cut(self) -> None:
        self._proxy.cut()


def end_loops(engine: Dockerd) -> None:
    """Remove the containers that come and go by themselves."""
    for item in engine.api.containers(all=True):
        if item["Command"].startswith("sh -c"):
            engine.remove(item["Id"])


def expected(engine: Dockerd) -> dict[str, set[str]]:
    """The addresses of each name below `docker.`, by the documents of the Engine."""
    found: dict[str, set[str]] = defaultdict(set)
    for item in engine.api.containers(all=True):
        document = engine.inspect(item["Id"])
        name, labels = document["Name"].removeprefix("/"), document["Config"]["Labels"]
        own = [name, item["Id"][:12]]
        if service := labels.get("com.docker.compose.service"):
            own += [service, f"{service}.{labels['com.docker.compose.project']}"]
        runs = document["State"]["Running"] and not document["State"]["Restarting"]
        for network, endpoint in document["NetworkSettings"]["Networks"].items():
            address = {endpoint["IPAddress"]} - {""} if runs else set()
            aliases = [alias for alias in endpoint["Aliases"] or () if "alias" in alias]
            for owner in (*own, *(f"{text}.{network}" for text in (name, *aliases))):
                found[owner] |= address
    return found


def differences(engine: Dockerd, server: Running, ever: set[str]) -> list[str]:
    """What is not as the Engine says, of all names that there ever were."""
    names = expected(engine)
    ever.update(names)
    wrong = []
    for name in sorted(ever):
        wanted, answered = sorted(names.get(name, ())), server.addresses(f"{name}.docker")
        if answered != wanted:
            wrong.append(f"{name}: {answered}, not {wanted}")
    return wrong


@pytest.fixture
def proxy(engine: Dockerd, tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(engine.socket, tmp_path / "proxy.sock")
    yield made
    made.close()


def test_zone_is_what_the_engine_says_after_random_operations(
    engine: Dockerd, proxy: Proxy
) -> None:
    upstream = RecordingUpstream()
    for network in NETWORKS:
        engine.create_network(network)
    storm, ever = Storm(engine, proxy, SEED), set[str]()
    options = ("--upstream", f"127.0.0.1:{upstream.port}", "--search-domain", "corp.example")
    looks = 0
    with serving(*options, "--handover", "0", docker=proxy.url) as server:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            storm.blow()
            end_loops(engine)
            last: list[str] = []

            def is_right(last: list[str] = last) -> bool:
                last[:] = differences(engine, server, ever)
                return not last

            # Long before the comparison of each minute, which would hide what events missed.
            try:
                wait_until(is_right, longest=20.0)
            except AssertionError:
                raise AssertionError(
                    f"after {looks} looks: {last}\n{server.log()[-4000:]}"
                ) from None
            assert server.rcode(f"{min(ever)}.corp.example") in ("NOERROR", "NXDOMAIN")
            looks += 1
        assert server.metric("docker_connected") == 1
    leaked = [name for name in upstream.names() if name.split(".")[0] in ever]
    upstream.close()
    assert not leaked
    assert looks

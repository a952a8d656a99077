"""A simulated Engine: the HTTP API over a unix socket, with documents of a real one.

For speed, scale and faults that a real Engine will not produce on demand; what
Docker does is tested on a real one.  As a program it serves benchmarks, which
measure us and not it: `python -m tests.engine.simulated SOCKET --containers 10000`.
"""

import argparse
import asyncio
import json
import re
import signal
import time
from collections import Counter, deque
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

GOLDEN = Path(__file__).parent.parent / "golden" / "engine-20.10.json"
TEMPLATE = "staging-search_web_1"
NETWORK, GATEWAY = "frontend", "172.28.255.254"
EVENTS_KEPT = 256  # as moby keeps
CHURNED = 200  # containers that are replaced in turns
PAUSE = 0.01  # seconds between the events of a redeploy
START_TAKES = 0.25  # seconds


class SimulatedEngine:
    """An Engine whose containers are documents; each change is an event, as on a real one.

    Attributes:
        url: What `--docker` takes.
        requests: How often each path was asked for; of an inspect, "/containers/ID/json".
        garbage: Ids whose inspect is this text, whatever it is.
        statuses: Answers to paths with nothing but a status: {"/networks": 403}.
        is_deaf: Events reach no stream, as through a proxy that forgot it.
        inspect_delay: Seconds before an inspect is answered.
        slow: The same for some ids.
        delays: Seconds before other paths are answered: {"/networks": 5.0}.
        services, tasks: Documents of a swarm.
        node_state: "LocalNodeState" of the swarm.
        hold_answers: Ids whose next inspects are answered when they are released, with what
            was true when they were asked for.
        held: How many answers are held, by id.
        clock_ahead: Seconds from the system's clock to the Engine's.
    """

    def __init__(self, socket: Path, containers: int = 0) -> None:
        self.url = f"unix://{socket}"
        self.requests: Counter[str] = Counter()
        self.garbage: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.is_deaf = False
        self.inspect_delay = 0.0
        self.slow: dict[str, float] = {}
        self.delays: dict[str, float] = {}
        self.services: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.node_state = "active"
        self.hold_answers: set[str] = set()
        self.held: Counter[str] = Counter()
        self._released = asyncio.Event()
        self._starting: dict[str, asyncio.Event] = {}
        self._may_churn = asyncio.Event()
        self._may_churn.set()
        self.clock_ahead = 0.0
        self._socket = socket
        golden = json.loads(GOLDEN.read_text())
        self._version = golden["version"]
        self._networks = golden["networks"]
        self._inspect_text = json.dumps(golden["inspect"][TEMPLATE])
        [item] = [item for item in golden["list"] if item["Names"] == [f"/{TEMPLATE}"]]
        self._item_text = json.dumps(item)
        self._template_id = item["Id"]
        self._inspects: dict[str, dict[str, Any]] = {}
        self._items: dict[str, dict[str, Any]] = {}
        self._streams: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._past: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._server: asyncio.Server | None = None
        self._made = 0
        for number in range(containers):
            self.add(f"web-{number}", announce=False)

    # Its life.

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._socket)

    async def stop(self) -> None:
        """Vanish, with all connections."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        self._server = None
        self._socket.unlink(missing_ok=True)
        await asyncio.sleep(0.01)  # until the connections know

    def cut(self) -> None:
        """End all event streams."""
        for writer in list(self._streams):
            writer.close()

    # Its containers.

    def add(
        self,
        container_name: str,
        *,
        address: str | None = None,
        docker_labels: dict[str, str] | None = None,
        announce: bool = True,
    ) -> str:
        """Run a container on one network and give its id."""
        self._made += 1
        number = self._made
        container_id = f"{number:012x}{number:052x}"
        address = address or f"172.28.{number >> 8}.{number & 255}"
        for text, documents in (
            (self._inspect_text, self._inspects),
            (self._item_text, self._items),
        ):
            document = json.loads(
                text.replace(self._template_id, container_id)
                .replace(self._template_id[:12], container_id[:12])
                .replace(TEMPLATE, container_name)
            )
            networks = document["NetworkSettings"]["Networks"]
            endpoint = networks[NETWORK] | {
                "IPAddress": address,
                "IPPrefixLen": 16,
                "Gateway": GATEWAY,
                "GlobalIPv6Address": "",
                "EndpointID": f"{number:064x}",
            }
            document["NetworkSettings"]["Networks"] = {NETWORK: endpoint}
            labels = docker_labels or {"com.example.number": str(number)}
            document.get("Config", document)["Labels"] = labels  # an inspect's, or an item's
            begin = {key: document[key] for key in ("Id", "Names") if key in document}
            documents[container_id] = begin | document  # in an Engine's order
        if announce:
            self.emit("container", "create", container_id)
            self.emit("container", "start", container_id)
        return container_id

    def die(self, container_id: str, *, announce: bool = True) -> None:
        """End a container; it still exists."""
        self._inspects[container_id]["State"].update(Status="exited", Running=False)
        self._items[container_id].update(State="exited", Status="Exited (0) 1 second ago")
        for documents in (self._inspects, self._items):
            endpoint = documents[container_id]["NetworkSettings"]["Networks"][NETWORK]
            endpoint.update(IPAddress="", IPPrefixLen=0, EndpointID="", Gateway="")
        if announce:
            self.emit("container", "die", container_id)

    def start_again(self, container_id: str, address: str) -> None:
        """Start a container that died."""
        self._inspects[container_id]["State"].update(Status="running", Running=True)
        self._items[container_id].update(State="running", Status="Up 1 second")
        for documents in (self._inspects, self._items):
            endpoint = documents[container_id]["NetworkSettings"]["Networks"][NETWORK]
            endpoint.update(IPPrefixLen=16, Gateway=GATEWAY)
        self.move(container_id, address, announce=False)
        self.emit("container", "start", container_id, **self._attributes(container_id))

    def begin_removal(self, container_id: str) -> None:
        """Let the list show a container as it is while the Engine removes it."""
        self._items[container_id].update(State="removing", Status="Removal In Progress")

    def remove(self, container_id: str, *, announce: bool = True) -> None:
        """Remove a container; one that runs dies first."""
        if announce and self._items[container_id]["State"] == "running":
            self.die(container_id)
        del self._inspects[container_id], self._items[container_id]
        if announce:
            self.emit("container", "destroy", container_id)

    def rename(self, container_id: str, container_name: str, *, announce: bool = True) -> None:
        self._inspects[container_id]["Name"] = f"/{container_name}"
        self._items[container_id]["Names"] = [f"/{container_name}"]
        if announce:
            self.emit("container", "rename", container_id)

    def set_health(self, container_id: str, health: str) -> None:
        """Set the outcome of a container's health check."""
        self._inspects[container_id]["State"]["Health"] = {"Status": health}
        self._items[container_id]["Status"] = f"Up 1 second ({health})"
        self.emit("container", f"health_status: {health}", container_id)

    def move(self, container_id: str, address: str, *, announce: bool = True) -> None:
        """Change the address of a running container, as `network connect` does."""
        for documents in (self._inspects, self._items):
            endpoint = documents[container_id]["NetworkSettings"]["Networks"][NETWORK]
            endpoint.update(IPAddress=address, EndpointID=f"{time.time_ns():064x}")
        if announce:
            self.emit("network", "connect", "1" * 64, container=container_id)

    def release(self, container_id: str) -> None:
        """Send the answers that are held, and hold no more."""
        self.hold_answers.discard(container_id)
        self._released.set()

    @property
    def inspects(self) -> int:
        """How many have been asked for."""
        paths = (path for path in self.requests if re.fullmatch(r"/containers/\w+/json", path))
        return sum(self.requests[path] for path in paths)

    def ids(self) -> list[str]:
        """Those of all containers."""
        return list(self._items)

    async def churn(self, per_second: float) -> None:
        """Replace containers, so many a second, until cancelled."""
        ids = deque(self.add(f"churn-{number}", announce=False) for number in range(CHURNED))
        clock = asyncio.get_running_loop().time
        due = clock()
        async with asyncio.TaskGroup() as redeploys:
            while True:
                if not self._may_churn.is_set():
                    await self._may_churn.wait()
                    due = clock()
                redeploys.create_task(self._redeploy_next(ids))
                due += 1 / per_second
                await asyncio.sleep(max(0.0, due - clock()))

    def pause_or_resume(self) -> None:
        """Begin no redeploy until this is called again."""
        if self._may_churn.is_set():
            self._may_churn.clear()
        else:
            self._may_churn.set()

    async def _redeploy_next(self, ids: deque[str]) -> None:
        if ids:
            ids.append(await self.redeploy(ids.popleft()))

    async def redeploy(self, container_id: str) -> str:
        """Replace a running container by another one of its name; give the new id.

        With the events of a real Engine, about as far apart, among those that were asked for: it
        also sends "kill" and "stop".  An inspect of the new one waits until it has started.
        """
        container_name = self._inspects[container_id]["Name"].removeprefix("/")
        self.die(container_id, announce=False)
        self.emit("container", "die", container_id, **self._attributes(container_id), exitCode="0")
        await asyncio.sleep(PAUSE)
        self._emit_of_network("disconnect", container_id)
        await asyncio.sleep(PAUSE)
        attributes = self._attributes(container_id)
        self.remove(container_id, announce=False)
        self.emit("container", "destroy", container_id, **attributes)
        await asyncio.sleep(PAUSE)
        container_id = self.add(container_name, announce=False)
        address = self._inspects[container_id]["NetworkSettings"]["Networks"][NETWORK]["IPAddress"]
        self.die(container_id, announce=False)
        self._inspects[container_id]["State"].update(Status="created")
        self._items[container_id].update(State="created", Status="Created")
        self.emit("container", "create", container_id, **self._attributes(container_id))
        await asyncio.sleep(PAUSE)
        started = self._starting[container_id] = asyncio.Event()
        self._emit_of_network("connect", container_id)
        await asyncio.sleep(START_TAKES)
        self.start_again(container_id, address)
        started.set()
        del self._starting[container_id]
        return container_id

    def _attributes(self, container_id: str) -> dict[str, str]:
        """The attributes in all events of a container."""
        document = self._inspects[container_id]
        image, name = document["Config"]["Image"], document["Name"].removeprefix("/")
        return {**document["Config"]["Labels"], "image": image, "name": name}

    def _emit_of_network(self, action: str, container_id: str) -> None:
        attributes = {"container": container_id, "name": NETWORK, "type": "bridge"}
        self.emit("network", action, "1" * 64, **attributes)

    def emit(self, kind: str, action: str, actor_id: str, **attributes: str) -> None:
        """Send an event to all streams."""
        time_ns = int(self._now() * 1e9) | 1  # not dated to the second
        event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor_id, "Attributes": attributes},
            "scope": "local",
            "time": time_ns // 1_000_000_000,
            "timeNano": time_ns,
        }
        self._past.append(event)
        if not self.is_deaf:
            self.send(json.dumps(event).encode() + b"\n")

    def event_time(self, action: str) -> float:
        """The time in the last event of this kind, seconds since the epoch."""
        times = (e["timeNano"] for e in reversed(self._past) if e["Action"] == action)
        return float(next(times)) / 1e9

    def send(self, octets: bytes) -> None:
        """Send octets, of events or not, to all streams."""
        for writer in self._streams:
            writer.write(b"%x\r\n%s\r\n" % (len(octets), octets))

    # Its HTTP.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while head := await reader.readuntil(b"\r\n\r\n"):
                    await self._answer(head.split(b" ", 2)[1].decode(), reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(
        self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        parts = urlsplit(target)
        path = re.sub(r"^/v[0-9.]+", "", parts.path)
        self.requests[path] += 1
        await asyncio.sleep(self.delays.get(path, 0.0))
        if path in self.statuses:
            self._reply(writer, b'{"message": "no"}', self.statuses[path])
        elif path == "/version":
            self._reply(writer, json.dumps(self._version).encode())
        elif path == "/networks":
            self._reply(writer, json.dumps(self._networks).encode())
        elif path == "/services":
            self._reply(writer, json.dumps(self.services).encode())
        elif path == "/tasks":
            self._reply(writer, json.dumps(self.tasks).encode())
        elif path == "/info":
            swarm = {"NodeID": "this", "LocalNodeState": self.node_state}
            self._reply(writer, json.dumps({"Swarm": swarm}).encode())
        elif path == "/containers/json":
            wanted = json.loads(parse_qs(parts.query).get("filters", ["{}"])[0]).get("id")
            items = [item for i, item in self._items.items() if wanted is None or i in wanted]
            self._reply(writer, json.dumps(items).encode())
        elif path == "/events":
            await self._stream(parse_qs(parts.query), reader, writer)
        elif match := re.fullmatch(r"/containers/(\w+)/json", path):
            await self._inspect(match[1], writer)
        else:
            self._reply(writer, b'{"message": "page not found"}', 404)
        await writer.drain()

    async def _inspect(self, container_id: str, writer: asyncio.StreamWriter) -> None:
        delay = self.slow.get(container_id, self.inspect_delay)
        if delay:
            await asyncio.sleep(delay)
        if (started := self._starting.get(container_id)) is not None:
            await started.wait()
        if container_id in self.garbage:
            self._reply(writer, self.garbage[container_id].encode())
        elif container_id in self._inspects:
            body = json.dumps(self._inspects[container_id]).encode()
            if container_id in self.hold_answers:
                self.held[container_id] += 1
                await self._released.wait()
            self._reply(writer, body)
        else:
            self._reply(writer, b'{"message": "No such container"}', 404)

    async def _stream(
        self,
        query: dict[str, list[str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        writer.write(self._head(200) + b"Transfer-Encoding: chunked\r\n\r\n")
        since = float(query["since"][0]) if "since" in query else self._now()
        until = float(query["until"][0]) if "until" in query else None
        for event in self._past:
            if since <= event["timeNano"] / 1e9 <= (until or self._now()):
                line = json.dumps(event).encode() + b"\n"
                writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        if until is not None:
            while (left := until - self._now()) > 0:  # noqa: ASYNC110 - the clock may be set
                await asyncio.sleep(min(left, 0.1))
            writer.write(b"0\r\n\r\n")
            return
        self._streams.add(writer)
        try:
            await reader.read()  # until the client goes
        finally:
            self._streams.discard(writer)

    def _now(self) -> float:
        return time.time() + self.clock_ahead

    def _reply(self, writer: asyncio.StreamWriter, body: bytes, status: int = 200) -> None:
        writer.write(self._head(status) + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def _head(self, status: int) -> bytes:
        date = formatdate(self._now(), usegmt=True)
        return f"HTTP/1.1 {status} -\r\nApi-Version: 1.41\r\nDate: {date}\r\n".encode()


async def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket", type=Path)
    parser.add_argument("--containers", type=int, default=10_000)
    parser.add_argument("--churn", type=float, default=0.0, help="redeploys a second")
    options = parser.parse_args()
    async with SimulatedEngine(options.socket, options.containers) as engine:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, engine.pause_or_resume)
        print(f"ready {engine.url}", flush=True)
        if options.churn:
            await engine.churn(options.churn)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

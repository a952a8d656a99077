"""The door to one Docker Engine: the few calls that we need of its HTTP API.

The API version is the Engine's own, asked at `negotiate`.  Documents leave as
they came, decoded; `core.containers` reads them.  A listing is decoded item by
item: 10,000 containers at once would hold the event loop for 150 ms.

aiohttp carries the calls, on the event loop.  The docker SDK would block in a
thread, whose every step waits for the GIL, just when an event must become an
answer; and it decodes a listing at once.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from containerdns.engine.decoding import MAX_DOCUMENT, ArrayDecoder
from containerdns.engine.transport import EngineConnections, EngineResponse, parse_url
from containerdns.errors import BadDocument, EngineUnavailable

CALL_TIMEOUT = 10.0  # seconds for an answer to a small question
INSPECT_TIMEOUT = 60.0  # seconds; the Engine makes it wait while a container starts
HEAD_TIMEOUT = 30.0  # seconds until a listing, or the stream of events, begins
PIECE_TIMEOUT = 10.0  # seconds between two pieces of a listing
SLICE = 0.001  # seconds of a long computation before others have their turn
EVENT_HEAD = 1 << 12  # octets at the head of an event that is too long: what, and of whom
EVENT_TAIL = 256  # octets at its end: when

ACTIONS = (
    *("create", "start", "die", "died", "destroy", "remove", "rename", "pause", "unpause"),
    *("health_status", "update", "connect", "disconnect"),
)  # "died" and "remove" are Podman's; without exec_*, which health checks send every time
FILTERS = {"type": ["container", "network", "service", "node"], "event": list(ACTIONS)}


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the Engine.

    Attributes:
        kind: "container", "network", "service" or "node".
        action: "start", "die", "health_status", ...: without what follows a colon.
        actor_id: Of the container or network.
        attributes: Of the actor; of a network's event, "container" is an id.
        time_ns: Of the Engine's clock, nanoseconds since 1970; 0 if it did not tell.
    """

    kind: str
    action: str
    actor_id: str
    attributes: Mapping[str, str]
    time_ns: int

    @property
    def time(self) -> float | None:
        """The same in seconds; None if the Engine did not tell."""
        return self.time_ns / 1e9 if self.time_ns else None

    @property
    def container_id(self) -> str:
        """The container that was connected or disconnected, of such an event of a network.

        Docker names the network as the actor and the container in an attribute; Podman
        names the container as the actor and has no attributes.
        """
        return self.attributes.get("container") or self.actor_id


@dataclass(frozen=True, slots=True)
class Version:
    """What an Engine says of itself.

    Attributes:
        engine: "20.10.24", "5.4.0" of Podman, "" if the Engine does not tell.
        api: "1.41"; "" if the Engine does not tell: its own default then.
        clock: The Engine's clock at that time, to the second; None if unknown.
    """

    engine: str
    api: str
    clock: float | None


class EngineClient:
    """The calls to one Engine; each opens or reuses a connection.

    Every method raises EngineUnavailable if the Engine cannot be reached, breaks
    off, refuses, or does not answer in time.
    """

    def __init__(self, url: str, tls: Path | None = None, *, verifies: bool = True) -> None:
        self.address = parse_url(url, with_tls=tls is not None)
        self._connections = EngineConnections(self.address, tls, verifies=verifies)
        self._prefix = ""

    async def close(self) -> None:
        """Close all connections; a later call opens others."""
        await self._connections.close()

    async def negotiate(self) -> Version:
        """Ask for the Engine's version, and use the newest API that it has from now on."""
        response, body = await self._call("/version")
        clock = _clock_of(response)
        if response.status == 403:  # a socket proxy; paths without a version are allowed
            self._prefix = ""
            return Version("", "", clock)
        document = self._decoded(response, body, "/version")
        engine, api = document.get("Version"), document.get("ApiVersion")
        if not isinstance(api, str) or not all(part.isdecimal() for part in api.split(".")):
            raise EngineUnavailable(f"{self.address.url} answers, but not as a Docker Engine does")
        self._prefix = f"/v{api}"
        return Version(str(engine or ""), api, clock)

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        """Return the document of a container; None if there is no such container any more.

        Raises:
            BadDocument: The Engine cannot say, or says it in no JSON object.
        """
        target = f"{self._prefix}/containers/{container_id}/json"
        response, body = await self._call(target, INSPECT_TIMEOUT, MAX_DOCUMENT)
        if response.status == 404:
            return None
        if response.status == 403:
            raise self._refusal(response, body, target)
        if response.status != 200:
            raise BadDocument(container_id, f"its inspect, status {response.status}")
        if not response.is_complete:
            raise BadDocument(container_id, f"its inspect, which is longer than {MAX_DOCUMENT}")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as fault:
            raise BadDocument(container_id, "its inspect, which is no JSON") from fault
        if not isinstance(document, dict):
            raise BadDocument(container_id, "its inspect, which is no object")
        return document

    async def containers(self) -> AsyncGenerator[Any, None]:
        """Yield the items of the list of all containers, running or not, as `items` does."""
        async for item in self.items("/containers/json?all=1"):
            yield item

    async def listed(self, container_id: str) -> Any | None:
        """Return the item of the list for one container; None if there is none any more.

        The Engine answers from a snapshot, without the lock that an inspect waits for.
        """
        filters = urlencode({"filters": json.dumps({"id": [container_id]})})
        async with aclosing(self.items(f"/containers/json?all=1&{filters}")) as items:
            async for item in items:
                return item
        return None

    async def items(self, path: str) -> AsyncGenerator[Any, None]:
        """Yield the items of a list as they come; a `SkippedItem` for those that are too long.

        Others on the event loop have their turn in between.
        """
        target = self._prefix + path
        turn = Turn()
        async with self._get(target) as response:
            if response.status != 200:
                raise self._refusal(response, await response.body(), target)
            decoder = ArrayDecoder()
            while octets := await self._next_piece(response):
                for item in self._items(decoder, octets):
                    yield item
                    await turn.offer()
            if not decoder.is_complete:
                raise EngineUnavailable(f"{self.address.url} sent a listing that is no JSON array")

    async def networks(self) -> list[Any] | None:
        """Return the documents of all networks; None if a socket proxy forbids it."""
        documents = await self.get("/networks")
        if documents is not None and not isinstance(documents, list):
            raise EngineUnavailable(f"{self.address.url}: /networks is no JSON array")
        return documents

    async def get(self, path: str) -> Any | None:
        """Return a JSON document; None if the Engine, or a proxy, does not give it to us."""
        response, body = await self._call(self._prefix + path)
        if 400 <= response.status < 500 or response.status == 503:  # 503: no swarm manager
            return None
        return self._decoded(response, body, path)

    @asynccontextmanager
    async def events(
        self, since: float | None = None, until: float | None = None
    ) -> AsyncIterator["EventStream"]:
        """Subscribe; with `since`, begin with what happened from then on.

        Both are times of the Engine's clock; with `until`, the stream ends there.
        """
        query = {"filters": json.dumps(FILTERS, separators=(",", ":"))}
        if since is not None:
            query["since"] = f"{since:.9f}"
        if until is not None:
            query["until"] = f"{until:.9f}"
        target = f"{self._prefix}/events?{urlencode(query)}"
        async with self._get(target) as response:
            if response.status != 200:
                raise self._refusal(response, await response.body(), target)
            yield EventStream(response, self.address.url)

    async def _call(
        self, target: str, within: float = CALL_TIMEOUT, longest: int | None = None
    ) -> tuple[EngineResponse, bytes]:
        """Ask a small question: return the response and its body, of at most some octets."""
        try:
            async with asyncio.timeout(within), self._get(target, within) as response:
                return response, await response.body(longest)
        except TimeoutError as fault:
            raise EngineUnavailable(f"no answer from {self.address.url}") from fault

    @asynccontextmanager
    async def _get(
        self, target: str, within: float = HEAD_TIMEOUT
    ) -> AsyncIterator[EngineResponse]:
        """Send a request; its body may take as long as its reader allows."""
        try:
            async with asyncio.timeout(within):
                response = await self._connections.get(target)
        except TimeoutError as fault:
            raise EngineUnavailable(f"no answer from {self.address.url}") from fault
        try:
            yield response
        finally:
            response.release()

    async def _next_piece(self, response: EngineResponse) -> bytes:
        try:
            async with asyncio.timeout(PIECE_TIMEOUT):
                return await response.piece()
        except TimeoutError as fault:
            raise EngineUnavailable(f"{self.address.url} stopped amid a listing") from fault

    def _items(self, decoder: "ArrayDecoder", octets: bytes) -> Iterator[Any]:
        try:
            yield from decoder.feed(octets)
        except ValueError as fault:
            raise EngineUnavailable(f"{self.address.url} sent a listing that is no JSON") from fault

    def _decoded(self, response: EngineResponse, body: bytes, target: str) -> Any:
        if response.status != 200:
            raise self._refusal(response, body, target)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as fault:
            raise EngineUnavailable(f"{self.address.url}: {target} is no JSON") from fault

    def _refusal(self, response: EngineResponse, body: bytes, target: str) -> EngineUnavailable:
        url, status, path = self.address.url, response.status, target.partition("?")[0]
        if status == 403:
            cause = f"{url} forbids GET {path}: allow it in the socket proxy"
        else:
            said = body[:200].decode(errors="replace").strip()
            cause = f"{url} answers GET {path} with status {status}: {said}"
        return EngineUnavailable(cause, status)


class Turn:
    """A turn on the event loop in a long computation, to be offered to others often."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + SLICE

    async def offer(self) -> None:
        """Let the others have their turn if ours has lasted long enough."""
        if self._clock() > self._end:
            await asyncio.sleep(0)
            self._end = self._clock() + SLICE


class EventStream:
    """The events of one subscription."""

    def __init__(self, response: EngineResponse, url: str) -> None:
        self.clock = _clock_of(response)
        self._response = response
        self._url = url
        self._line = _Line()

    async def next(self) -> list[Event]:
        """Wait for events and give all that are there; empty once the stream has ended.

        Raises:
            EngineUnavailable: The stream broke, or holds something else than events.
        """
        while octets := await self._response.piece():
            first, *others = octets.split(b"\n")
            self._line.add(first)
            if not others:
                continue
            found = [self._event(self._line)]
            found += [self._event(_Line(line)) for line in others[:-1]]
            self._line = _Line(others[-1])
            if events := [event for event in found if event is not None]:
                return events
        return []

    def _event(self, line: "_Line") -> Event | None:
        try:
            return line.event()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise EngineUnavailable(f"{self._url} sent an event that is none") from fault


class _Line:
    """A line of the stream of events, which may come in pieces.

    Events carry all labels of a container.  Of one that is too long, only what happened to
    whom and when is kept.
    """

    def __init__(self, octets: bytes = b"") -> None:
        self._pieces = [octets]
        self._length = len(octets)

    def add(self, octets: bytes) -> None:
        self._pieces.append(octets)
        self._length += len(octets)
        if self._length > MAX_DOCUMENT:
            whole = b"".join(self._pieces)
            self._pieces = [whole[:EVENT_HEAD], whole[EVENT_HEAD:][-EVENT_TAIL:]]

    def event(self) -> Event | None:
        """Return the event; None for an empty line.

        Raises:
            ValueError, TypeError, KeyError, AttributeError, RecursionError: It is no event.
        """
        line = b"".join(self._pieces)
        if self._length > MAX_DOCUMENT:
            return _event_of_ends(line)
        return _event_of(json.loads(line)) if line.strip() else None


def _event_of(document: dict[str, Any]) -> Event:
    """Read an event; fields that only old Engines send are left aside."""
    actor = document.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    time_ns = document.get("timeNano") or int(document.get("time") or 0) * 1_000_000_000
    return Event(
        kind=str(document["Type"]),
        action=str(document["Action"]).partition(":")[0],
        actor_id=str(actor.get("ID") or ""),
        attributes={str(key): str(value) for key, value in attributes.items()},
        time_ns=int(time_ns),
    )


def _event_of_ends(line: bytes) -> Event:
    """Read an event of which only both ends are left; quotes inside of labels are escaped."""
    found = {
        key: re.search(pattern, line)
        for key, pattern in (
            ("kind", rb'"Type":"(\w+)"'),
            ("action", rb'"Action":"([^":]*)'),
            ("actor_id", rb'"Actor":\{"ID":"(\w+)"'),
            ("time_ns", rb'"timeNano":(\d+)\}\s*$'),
        )
    }
    kind, action, actor_id, time_ns = (match[1] if match else b"" for match in found.values())
    if not kind or not action:
        raise ValueError("neither type nor action")
    return Event(kind.decode(), action.decode(), actor_id.decode(), {}, int(time_ns or b"0"))


def _clock_of(response: EngineResponse) -> float | None:
    """The Engine's clock, as its response dates itself."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None

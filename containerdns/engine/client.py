"""The client of a Docker Engine, for the few API calls that are needed.

`negotiate` selects the Engine's own API version.  Documents are returned as decoded JSON and
interpreted by `core/zone/containers`.  Listings are decoded item by item: decoding 10,000
containers at once would block the event loop for 150 ms.

Calls use aiohttp on the event loop.  The Docker SDK would block in a thread, which competes
for the GIL whenever an event has to become an answer, and it decodes listings at once.
"""

import asyncio
import json
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from containerdns.engine.decoding import MAX_DOCUMENT, ArrayDecoder
from containerdns.engine.transport import EngineConnections, EngineResponse, parse_url
from containerdns.errors import BadDocument, EngineUnavailable
from containerdns.tasks.turns import turns

CALL_TIMEOUT = 10.0  # seconds for the response to a small request
INSPECT_TIMEOUT = 60.0  # seconds; the Engine delays it while a container starts
HEAD_TIMEOUT = 30.0  # seconds until a listing or the event stream begins
PIECE_TIMEOUT = 10.0  # seconds between pieces of a listing
EVENT_HEAD = 1 << 12  # octets kept from the head of an event that is too long: action and actor
EVENT_TAIL = 256  # octets kept from its end: the time

ACTIONS = (
    *("create", "start", "die", "died", "destroy", "remove", "rename", "pause", "unpause"),
    *("health_status", "update", "connect", "disconnect"),
)  # "died" and "remove" are Podman's; no exec_*, which every health check sends
FILTERS = {"type": ["container", "network", "service", "node"], "event": list(ACTIONS)}


class Event(NamedTuple):
    """An event from an Engine.

    Attributes:
        kind: "container", "network", "service" or "node".
        action: Such as "start", "die" or "health_status"; without what follows a colon.
        actor_id: Id of the container or network.
        attributes: Of the actor; for network events, "container" is an id.
        time_ns: By the Engine's clock, nanoseconds since the epoch; 0 if unknown.
        line: The hash of the line that it was sent in; valid in this process only.
    """

    kind: str
    action: str
    actor_id: str
    attributes: Mapping[str, str]
    time_ns: int
    line: int = 0

    @property
    def time(self) -> float | None:
        """The time in seconds since the epoch; None if unknown."""
        return self.time_ns / 1e9 if self.time_ns else None

    @property
    def container_id(self) -> str:
        """The container that was connected to or disconnected from a network.

        Docker names the network as the actor and the container in an attribute; Podman
        names the container as the actor and has no attributes.
        """
        return self.attributes.get("container") or self.actor_id


_decode_text = json.JSONDecoder().raw_decode
BLANKS = " \t\r\n"  # in JSON (RFC 8259 section 2)


@dataclass(frozen=True, slots=True)
class Version:
    """The versions and the clock of an Engine.

    Attributes:
        engine: Such as "20.10.24", or "5.4.0" for Podman; "" if unknown.
        api: Such as "1.41"; "" if unknown, for the Engine's default.
        clock: The Engine's clock at the time of the response, to the second; None if unknown.
    """

    engine: str
    api: str
    clock: float | None


class EngineClient:
    """The API calls to one Engine; each opens or reuses a connection.

    Every method raises EngineUnavailable if the Engine is unreachable, closes the
    connection, refuses, or does not respond in time.
    """

    def __init__(self, url: str, tls: Path | None = None, *, verifies: bool = True) -> None:
        self.address = parse_url(url, with_tls=tls is not None)
        self._connections = EngineConnections(self.address, tls, verifies=verifies)
        self._prefix = ""

    async def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        await self._connections.close()

    async def negotiate(self) -> Version:
        """Request the Engine's version, and use its newest API from now on."""
        response, body = await self._call("/version")
        clock = _clock_of(response)
        if response.status == 403:  # a socket proxy; paths without a version are valid too
            self._prefix = ""
            return Version("", "", clock)
        document = self._decoded(response, body, "/version")
        engine, api = document.get("Version"), document.get("ApiVersion")
        if not isinstance(api, str) or not all(part.isdecimal() for part in api.split(".")):
            raise EngineUnavailable("it responds, but is not a Docker Engine")
        self._prefix = f"/v{api}"
        return Version(str(engine or ""), api, clock)

    async def inspect(self, container_id: str) -> dict[str, Any] | None:
        """Return the document of a container; None if the container no longer exists.

        The caller limits the time (`INSPECT_TIMEOUT`).

        Raises:
            BadDocument: The request failed, or the response is not a JSON object.
        """
        target = f"{self._prefix}/containers/{container_id}/json"
        response, body = await self._send(target, MAX_DOCUMENT)
        if response.status == 404:
            return None
        if response.status == 403:
            raise self._refusal(response, body, target)
        if response.status != 200:
            raise BadDocument(container_id, f"inspect, status {response.status}")
        if not response.is_complete:
            raise BadDocument(container_id, f"inspect, longer than {MAX_DOCUMENT}")
        try:
            document = _decoded(body)
        except (ValueError, RecursionError) as fault:
            raise BadDocument(container_id, "inspect, invalid JSON") from fault
        if not isinstance(document, dict):
            raise BadDocument(container_id, "inspect, not a JSON object")
        return document

    def containers(self) -> AsyncGenerator[Any, None]:
        """Yield the list items of all containers, running or not; see `items`."""
        return self.items("/containers/json?all=1")

    async def listed(self, container_id: str) -> Any | None:
        """Return the list item of one container; None if the container no longer exists.

        The Engine reads a snapshot, without the lock that an inspect waits for.
        """
        filters = urlencode({"filters": json.dumps({"id": [container_id]})})
        async with aclosing(self.items(f"/containers/json?all=1&{filters}")) as items:
            async for item in items:
                return item
        return None

    async def items(self, path: str) -> AsyncGenerator[Any, None]:
        """Yield the items of a list as they arrive; a `SkippedItem` for each that is too long.

        Other work on the event loop gets its turn in between.
        """
        target = self._prefix + path
        async with self._get(target) as response:
            if response.status != 200:
                raise self._refusal(response, await response.body(), target)
            decoder = ArrayDecoder()
            while octets := await self._next_piece(response):
                for item in self._items(decoder, octets):
                    yield item
                    await turns().offer(self.address.url)
            if not decoder.is_complete:
                raise EngineUnavailable("the listing is not a JSON array")

    async def networks(self) -> list[Any] | None:
        """Return the documents of all networks; None if a socket proxy forbids that."""
        documents = await self.get("/networks")
        if documents is not None and not isinstance(documents, list):
            raise EngineUnavailable("/networks is not a JSON array")
        return documents

    async def get(self, path: str) -> Any | None:
        """Return a JSON document; None if the Engine or a proxy refuses it."""
        response, body = await self._call(self._prefix + path)
        if 400 <= response.status < 500 or response.status == 503:  # 503: not a swarm manager
            return None
        return self._decoded(response, body, path)

    @asynccontextmanager
    async def events(
        self,
        since: float | None = None,
        until: float | None = None,
        known: Collection[int] = (),
    ) -> AsyncIterator["EventStream"]:
        """Subscribe to events; with `since`, starting with those after that time.

        Both are times by the Engine's clock; with `until`, the stream ends there.  Events whose
        `line` is known are left out, without being decoded.
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
            yield EventStream(response, known)

    async def _call(self, target: str) -> tuple[EngineResponse, bytes]:
        """Send a small request; return the response and its body."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await self._send(target)
        except TimeoutError as fault:
            raise EngineUnavailable("no answer from the Engine") from fault

    async def _send(self, target: str, longest: int | None = None) -> tuple[EngineResponse, bytes]:
        """Send a small request without a time limit; the body may be of limited size."""
        response = await self._connections.get(target)
        try:
            return response, await response.body(longest)
        finally:
            response.release()

    @asynccontextmanager
    async def _get(self, target: str) -> AsyncIterator[EngineResponse]:
        """Send a request; the caller reads the body with its own timeouts."""
        try:
            async with asyncio.timeout(HEAD_TIMEOUT):
                response = await self._connections.get(target)
        except TimeoutError as fault:
            raise EngineUnavailable("no answer from the Engine") from fault
        try:
            yield response
        finally:
            response.release()

    async def _next_piece(self, response: EngineResponse) -> bytes:
        try:
            async with asyncio.timeout(PIECE_TIMEOUT):
                return await response.piece()
        except TimeoutError as fault:
            raise EngineUnavailable("the listing stopped halfway") from fault

    def _items(self, decoder: "ArrayDecoder", octets: bytes) -> Iterator[Any]:
        try:
            yield from decoder.feed(octets)
        except ValueError as fault:
            raise EngineUnavailable("the listing is invalid JSON") from fault

    def _decoded(self, response: EngineResponse, body: bytes, target: str) -> Any:
        if response.status != 200:
            raise self._refusal(response, body, target)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as fault:
            raise EngineUnavailable(f"{target} is invalid JSON") from fault

    def _refusal(self, response: EngineResponse, body: bytes, target: str) -> EngineUnavailable:
        status, path = response.status, target.partition("?")[0]
        if status == 403:
            cause = f"status 403 forbids GET {path}; allow it in the socket proxy"
        else:
            said = body[:200].decode(errors="replace").strip()
            cause = f"GET {path} failed with status {status}: {said}"
        return EngineUnavailable(cause, status)


class EventStream:
    """The event stream of a subscription."""

    def __init__(self, response: EngineResponse, known: Collection[int] = ()) -> None:
        self.clock = _clock_of(response)
        self._known = known
        self._response = response
        self._line = _EventLine()

    async def next(self) -> list[Event]:
        """Wait for events and return all that have arrived; empty at the end of the stream.

        Raises:
            EngineUnavailable: The connection broke, or the stream has malformed events.
        """
        while octets := await self._response.piece():
            first, *others = octets.split(b"\n")
            self._line.add(first)
            if not others:
                continue
            whole = self._line, *map(_EventLine, others[:-1])
            self._line = _EventLine(others[-1])
            if events := self._events(whole):
                return events
        return []

    def _events(self, lines: Iterable["_EventLine"]) -> list[Event]:
        try:
            return [e for line in lines if (e := line.event(self._known)) is not None]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise EngineUnavailable("the event stream has a malformed event") from fault


class _EventLine:
    """A line of the event stream, which may arrive in pieces.

    Events contain all labels of a container.  If one is too long, only its action, actor and
    time are kept.
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

    def event(self, known: Collection[int]) -> Event | None:
        """Parse the line; return None if it is empty or known.

        Raises:
            ValueError, TypeError, KeyError, AttributeError, RecursionError: It is malformed.
        """
        line = b"".join(self._pieces)
        if self._length > MAX_DOCUMENT:
            return _event_of_ends(line)
        if not line or line.isspace() or (mark := hash(line)) in known:
            return None
        return _event_of(_decoded(line), mark)


def _decoded(octets: bytes) -> Any:
    """Decode JSON in UTF-8 (RFC 8259); `json.loads` would examine the encoding each time.

    Raises:
        ValueError, RecursionError: It is not one JSON text.
    """
    text = octets.decode("utf-8", "surrogatepass").strip(BLANKS)
    document, end = _decode_text(text)
    if end != len(text):
        raise ValueError("more than one JSON text")
    return document


def _event_of(document: dict[str, Any], mark: int) -> Event:
    """Return the event in a document, ignoring fields that only old Engines send."""
    actor = document.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    time_ns = document.get("timeNano") or int(document.get("time") or 0) * 1_000_000_000
    return Event(
        kind=str(document["Type"]),
        action=str(document["Action"]).partition(":")[0],
        actor_id=str(actor.get("ID") or ""),
        attributes={str(key): str(value) for key, value in attributes.items()},
        time_ns=int(time_ns),
        line=mark,
    )


def _event_of_ends(line: bytes) -> Event:
    """Return the event of which only both ends are left; quotes in labels are escaped."""
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
    """Return the Engine's clock, from the Date header of a response."""
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None

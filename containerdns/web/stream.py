"""Long responses: documents sent piece by piece, and event streams.

The HTTP server shares its thread with the DNS server, so long work is divided into slices
of time, between which queries are answered.
"""

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from aiohttp import web

from containerdns.core.counters import Counters
from containerdns.core.protocol.messages import REFUSED
from containerdns.core.zone.views import packed
from containerdns.tasks.turns import turns
from containerdns.web.negotiation import compress
from containerdns.web.problems import HAS_STARTED, Refusal, client_of
from containerdns.web.state import Document, State

TICK = 0.2  # seconds between checks for news
HEARTBEAT = 15.0  # seconds; most proxies close connections idle for 30 or 60
WRITE_TIMEOUT = 20.0  # seconds until a client that does not read is disconnected
MAX_STREAMS = 64
MAX_STREAMS_OF_CLIENT = 16  # users of a VPN may share one address
MAX_QUERIES_OF_TICK = 1000  # per batch of a stream; nobody reads faster
MAX_QUERIES_OF_EVENT = 200  # more than the page shows
MAX_CHANGES_OF_EVENT = 100
MAX_RATES = 300  # seconds

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def json_pieces(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a document as JSON, item by item where a value is an iterable but not a text.

    For None in such an iterable, which took its time to find nothing, "" is yielded.
    """
    opening = "{"
    for key, value in document.items():
        yield f"{opening}{_encode(key)}:"
        opening = ",\n"
        if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
            yield from _array_pieces(value)
        else:
            yield _encode(value)
    yield "}\n" if opening != "{" else "{}\n"


def _array_pieces(items: Iterable[Any]) -> Iterator[str]:
    opening = "["
    for item in items:
        if item is None:
            yield ""
            continue
        yield opening + _encode(item)
        opening = ",\n"
    yield "]" if opening != "[" else "[]"


async def send(
    request: web.Request, content_type: str, pieces: Iterable[str], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send generated text in slices, compressed if the client accepts that."""
    response = web.StreamResponse(headers=headers)
    response.content_type = content_type
    response.charset = "utf-8"
    if request.method != "HEAD":  # aiohttp would append zlib data to an empty stream
        compress(request, response)
    iterator = iter(pieces)
    client = packed(client_of(request))
    await turns().take(client)
    first = next(iterator, "")  # an immediate error can still become an error response
    request[HAS_STARTED] = True
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    async for part in _slices(first, iterator, client):
        async with asyncio.timeout(WRITE_TIMEOUT):
            await response.write(part)
    await response.write_eof()
    return response


async def _slices(first: str, rest: Iterator[str], client: bytes) -> AsyncIterator[bytes]:
    """Yield pieces joined, as many as are generated in one turn."""
    parts = [first]
    shared = turns()
    for piece in rest:
        parts.append(piece)
        if shared.is_over():
            yield "".join(parts).encode()
            parts.clear()
            await shared.take(client)
    yield "".join(parts).encode()


class Rates:
    """Responses per second by outcome, for the last minutes.

    Attributes:
        points: One per second, oldest first: {outcome: responses}; outcomes are "zone", "cache",
            "upstream", "kept" (from upstream) and "refused".
        taken: The number of points taken in total.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._before = self._totals()
        self.points: deque[dict[str, int]] = deque(maxlen=MAX_RATES)
        self.taken = 0

    async def run(self) -> None:
        """Add a point every second, without accumulating delay."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + 1.0, loop.time())
            await asyncio.sleep(due - loop.time())
            self.take()

    def take(self) -> None:
        """Add a point."""
        totals = self._totals()
        self.points.append(
            {outcome: max(0, totals[outcome] - self._before[outcome]) for outcome in totals}
        )
        self._before = totals
        self.taken += 1

    def _totals(self) -> dict[str, int]:
        """Return the number of responses by outcome, as in `/queries`.

        Durations are counted with each batch, but `responses` of ready-made responses only when
        the metrics are read, as that has to visit each of them.
        """
        totals = Counter(zone=0, cache=0, upstream=0, policy=0, refused=0)
        for source, taken in self._counters.durations.items():
            totals[source] = sum(taken.counts)
        for (rcode, source), count in self._counters.responses.items():
            if rcode == REFUSED:
                totals["refused"] += count
                totals[source] -= count
        totals["kept"] = totals.pop("policy")
        return dict(totals)


class Streams:
    """The open streams of server-sent events."""

    def __init__(self, state: State, rates: Rates) -> None:
        self._state = state
        self._rates = rates
        self._open: Counter[str] = Counter()

    async def queries(self, request: web.Request) -> web.StreamResponse:
        """Stream each new query as an event."""
        return await self._send(request, self._query_events(client_of(request)))

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """Stream each new change of a container as an event."""
        return await self._send(request, self._change_events(client_of(request)))

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Send what the page needs, as events of five kinds.

        `rates`: at first, the last minutes; `rate`: every second, one more point; `queries` and
        `changes`: as they come; `status`: every second, and at once when the zone changes.
        """
        return await self._send(request, self._page_events(client_of(request)))

    async def _send(self, request: web.Request, events: AsyncIterator[str]) -> web.StreamResponse:
        client = client_of(request)
        with self._place(client):
            response = web.StreamResponse(headers={"Cache-Control": "no-store"})
            response.content_type = "text/event-stream"
            response.charset = "utf-8"
            request[HAS_STARTED] = True
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            async for text in events:
                if not self._state.rights(client)[0]:
                    break  # since a reload
                async with asyncio.timeout(WRITE_TIMEOUT):
                    await response.write(text.encode())
            return response

    @contextmanager
    def _place(self, client: str) -> Iterator[None]:
        if self._open.total() >= MAX_STREAMS or self._open[client] >= MAX_STREAMS_OF_CLIENT:
            detail = "too many open streams; close a status page, or request without streaming"
            raise Refusal(503, "Service Unavailable", detail, {"Retry-After": "5"})
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]

    async def _query_events(self, client: str) -> AsyncIterator[str]:
        yield ": the queries from now on\n\n"
        position, _ = self._state.queries(0, client, 0)
        heartbeat = _Heartbeat()
        while True:
            await asyncio.sleep(TICK)
            position, queries = await self._encoded(client, position, MAX_QUERIES_OF_TICK)
            if text := heartbeat.text(queries):
                yield text

    async def _change_events(self, client: str) -> AsyncIterator[str]:
        yield ": the changes from now on\n\n"
        position, _ = self._state.changes(0)
        heartbeat = _Heartbeat()
        while True:
            await asyncio.sleep(TICK)
            await turns().take(packed(client))
            position, changes = self._state.changes(position)
            if text := heartbeat.text(map(_encode, changes)):
                yield text

    async def _page_events(self, client: str) -> AsyncIterator[str]:
        yield _event("rates", list(self._rates.points))
        rates_sent = self._rates.taken
        tag, position, changes_sent = "", 0, 0
        while True:
            total, _ = self._state.changes(changes_sent)
            if total != changes_sent:
                after = max(changes_sent, total - MAX_CHANGES_OF_EVENT)
                changes_sent, changes = self._state.changes(after)
                yield _event("changes", list(changes))
            position, queries = await self._encoded(client, position, MAX_QUERIES_OF_EVENT)
            if queries:
                yield f"event: queries\ndata: [{','.join(queries)}]\n\n"
            if rates_sent != self._rates.taken:
                rates_sent = self._rates.taken
                yield _event("rate", self._rates.points[-1])
                tag = ""
            if tag != self._state.tag():
                tag = self._state.tag()
                yield _event("status", self.status(client))
            await asyncio.sleep(TICK)

    async def _encoded(self, client: str, after: int, limit: int) -> tuple[int, list[str]]:
        """Encode the new queries that a client may see, taking turns with other work."""
        whose = packed(client)
        await turns().take(whose)
        position, queries = self.queries_for(client, after, limit)
        encoded = []
        for query in queries:
            encoded.append(_encode(query))
            await turns().offer(whose)
        return position, encoded

    def queries_for(
        self, client: str, after: int, limit: int | None = None
    ) -> tuple[int, Iterable[Document]]:
        """Return the queries that a client may see: all or its own (`--allow-history`)."""
        sees_all = self._state.rights(client)[1]
        return self._state.queries(after, None if sees_all else client, limit)

    def status(self, client: str) -> dict[str, Any]:
        """Return the status, and whether the client sees the queries of all clients."""
        is_ready, reason = self._state.readiness()
        sees_all = self._state.rights(client)[1]
        return {
            **self._state.status(),
            "ready": is_ready,
            "reason": reason,
            "sees_all": sees_all,
        }


class _Heartbeat:
    """The events of a stream, and a comment when there has been none for a while."""

    def __init__(self) -> None:
        self._quiet_since = perf_counter()

    def text(self, documents: Iterable[str]) -> str:
        """Return the text of some events; "" if nothing is to be sent."""
        text = "".join(f"data: {document}\n\n" for document in documents)
        if not text and perf_counter() - self._quiet_since > HEARTBEAT:
            text = ":\n\n"
        if text:
            self._quiet_since = perf_counter()
        return text


def _event(kind: str, document: object) -> str:
    return f"event: {kind}\ndata: {_encode(document)}\n\n"

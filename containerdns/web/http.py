"""The HTTP server and its paths (docs/http.md describes the interface).

The interface is read-only: it answers only GET and HEAD, and has no sessions or secrets.
The checks that every request has to pass are in `problems.Guard`.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler

from containerdns.config.groups import DEFAULT_HTTP
from containerdns.config.machine import descriptor_limit, family_of, socket_address
from containerdns.config.port_holders import holder_of
from containerdns.core.connections.places import ACCEPTED_AT_ONCE, Limits, Places, limits_by
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint, address_text
from containerdns.core.protocol import explanation_text
from containerdns.core.protocol.typed_names import MAX_TEXT
from containerdns.core.zone.views import packed
from containerdns.errors import BadSettings, CannotListen
from containerdns.tasks.turns import turns
from containerdns.web.metrics import Metrics
from containerdns.web.negotiation import JSON, compress, prefers
from containerdns.web.page import POLICY_HEADER, Page, policy
from containerdns.web.problems import Guard, Refusal, client_of, host_of, problem
from containerdns.web.state import Document, State
from containerdns.web.stream import Rates, Streams, json_pieces, send

BACKLOG = 128
RECEIVE_OCTETS = 16384  # receive buffer of a connection; requests are short
REQUEST_TIMEOUT = 10.0  # seconds within which a new connection must send a request
KEEPALIVE = 15.0  # seconds that a connection may be idle between requests
FIELD_OCTETS = 8190  # octets of a request line or header; Apache's limit
MAX_SEARCH_DOMAINS = 16  # in one explanation; longer than any resolver's search list
LINGER = 0.2  # seconds to finish responses at shutdown

SECURITY_HEADERS = {
    "Server": "containerdns",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    POLICY_HEADER: policy(),
}

# aiohttp logs a traceback for every malformed request.
_protocol_logger = logging.getLogger(f"{__name__}.protocol")
_protocol_logger.setLevel(logging.CRITICAL)


class HTTPServer:
    """One listening socket, its connections and its paths.

    Attributes:
        endpoint: The address and the actual port that it listens on.
        rates: The data of the page's chart.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        state: State,
        counters: Counters,
        *,
        hosts: tuple[str, ...] = (),
        limits: Limits | None = None,
    ) -> None:
        """Bind the socket immediately, so that a port in use prevents the start.

        Args:
            endpoint: Where to listen; "::" accepts IPv4 as well.
            state: The rest of the program.
            counters: For the metrics; internal errors are counted here.
            hosts: Additional Host names to accept, `--http-host`.
            limits: The maximum numbers of connections, from the limit of file descriptors.

        Raises:
            CannotListen: The address cannot be bound.
        """
        self._socket = bound(endpoint)
        self.endpoint = Endpoint(*self._socket.getsockname()[:2])
        self.rates = Rates(counters)
        self._guard = Guard(state, counters, hosts)
        self._door = _Door(state, Places(limits or limits_by(descriptor_limit())))
        self._app = web.Application(
            middlewares=[_note_request, self._guard.middleware], client_max_size=1
        )
        self._app.on_response_prepare.append(_add_security_headers)
        Paths(state, Metrics(counters, state.gauges), self.rates).add_to(self._app)

    def use(self, hosts: Iterable[str]) -> None:
        """Replace the additional Host names to accept, `--http-host`."""
        self._guard.use(hosts)

    async def run(self) -> None:
        """Answer until cancelled."""
        runner = web.AppRunner(
            self._app, handler_cancellation=True, access_log=None, shutdown_timeout=LINGER
        )
        await runner.setup()
        assert runner.server is not None
        server = runner.server
        loop = asyncio.get_running_loop()
        acceptor = await loop.create_server(
            lambda: self._door.protocol(server, loop),
            sock=self._socket,
            backlog=ACCEPTED_AT_ONCE,
        )
        self._socket.listen(BACKLOG)  # which asyncio set to the same value
        try:
            await self.rates.run()
        finally:
            acceptor.close()
            await runner.cleanup()

    def close(self) -> None:
        """Close the socket if `run` was never called."""
        self._socket.close()


class Paths:
    """The handlers of all paths."""

    def __init__(self, state: State, metrics: Metrics, rates: Rates) -> None:
        self._state = state
        self._metrics = metrics
        self._streams = Streams(state, rates)
        self._page = Page(state)

    def add_to(self, app: web.Application) -> None:
        """Register every path."""
        for path, handler in self.handlers().items():
            app.router.add_get(path, handler)

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each path; /openapi.json describes the same ones."""
        return {
            "/": self._page.index,
            "/static/{file}": self._page.asset,
            "/openapi.json": self._page.openapi,
            "/zone": self.zone,
            "/explain": self.explain,
            "/queries": self.queries,
            "/changes": self.changes,
            "/containers": self.containers,
            "/client-config": self.client_config,
            "/status": self.status,
            "/events": self._streams.page,
            "/metrics": self.metrics,
            "/healthz": self.healthz,
            "/readyz": self.readyz,
        }

    async def zone(self, request: web.Request) -> web.StreamResponse:
        """Return the zone, as a master file or as JSON."""
        parameters = _parameters(request, "domain", "name", "format")
        domain, name = parameters.get("domain"), parameters.get("name")
        as_json = _wants_json(request, parameters, default=False)
        headers = _validators(self._state.tag(), "json" if as_json else "text")
        pieces = self._zone_as_json(domain, name) if as_json else self._zone_as_text(domain, name)
        if _is_unchanged(request, headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return await send(request, JSON if as_json else "text/plain", pieces, headers)

    def _zone_as_json(self, domain: str | None, name: str | None) -> Iterator[str]:
        document = self._state.zone_json(domain, name)
        if document is None:
            raise _no_such_zone(domain)
        return json_pieces(document)

    def _zone_as_text(self, domain: str | None, name: str | None) -> Iterator[str]:
        lines = self._state.zone_text(domain, name)
        if lines is None:
            raise _no_such_zone(domain)
        return ("" if line is None else line + "\n" for line in lines)

    async def explain(self, request: web.Request) -> web.StreamResponse:
        """Explain how a name is resolved, query by query."""
        parameters = _parameters(request, "name", "type", "client", "format", lists=("search",))
        if "name" not in parameters:
            raise _bad_parameter("name is missing: /explain?name=web&type=A")
        search = _search_list(request.query.getall("search", []))
        document = await self._state.explain(
            parameters["name"],
            parameters.get("type"),
            _address("client", parameters["client"])
            if "client" in parameters
            else client_of(request),
            search,
        )
        if _wants_json(request, parameters, default=True):
            return await send(request, JSON, json_pieces(document), _FRESH)
        lines = (line + "\n" for line in explanation_text.lines(document))
        return await send(request, "text/plain", lines, _FRESH)

    async def queries(self, request: web.Request) -> web.StreamResponse:
        """Return the last queries, or stream new ones."""
        _parameters(request)
        if prefers(request, "text/event-stream", JSON):
            return await self._streams.queries(request)
        _, queries = self._streams.queries_for(client_of(request), 0)
        pieces = json_pieces({"queries": queries})
        return await send(request, JSON, pieces, _FRESH)

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """Return the last changes of containers, or stream new ones."""
        _parameters(request)
        if prefers(request, "text/event-stream", JSON):
            return await self._streams.changes(request)
        _, changes = self._state.changes(0)
        return await send(request, JSON, json_pieces({"changes": changes}), _FRESH)

    async def containers(self, request: web.Request) -> web.StreamResponse:
        """Return the containers, for the page."""
        _parameters(request)
        return await send(request, JSON, json_pieces(self._state.containers()), _FRESH)

    async def client_config(self, request: web.Request) -> web.StreamResponse:
        """Return the configuration that makes clients and other resolvers use this server."""
        parameters = _parameters(request, "server")
        given = parameters.get("server")
        server = _reached_at(request) if given is None else _address("server", given)
        document = self._state.client_config(server, is_given=given is not None)
        return _json_response(request, document)

    async def status(self, request: web.Request) -> web.StreamResponse:
        """Return Engines, upstreams and totals, for the page."""
        _parameters(request)
        return _json_response(request, self._streams.status(client_of(request)))

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Return the metrics, for Prometheus."""
        pieces, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        body = []
        for piece in pieces:
            body.append(piece)
            await turns().offer(packed(client_of(request)))
        response = web.Response(
            body=b"".join(body), headers={**_FRESH, "Content-Type": content_type}
        )
        compress(request, response)
        return response

    async def healthz(self, _request: web.Request) -> web.StreamResponse:
        """Return 200 as long as the process responds."""
        return _text_response("alive")

    async def readyz(self, _request: web.Request) -> web.StreamResponse:
        """Return 200 if every Engine was listed and every socket is open, else 503."""
        is_ready, reason = self._state.readiness()
        return _text_response("ready" if is_ready else reason, status=200 if is_ready else 503)


_FRESH = {"Cache-Control": "no-store"}


class _HTTPConnection(web.RequestHandler):
    """A connection with timeouts, which answers malformed requests like all others.

    Attributes:
        address: The octets of the client's address.
        active_at: Time of the connection, the last request or the last response.
        is_busy: A request is being answered.
    """

    def __init__(self, door: "_Door", server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=KEEPALIVE,
            logger=_protocol_logger,
            access_log=_protocol_logger,
            max_line_size=FIELD_OCTETS,
            max_field_size=FIELD_OCTETS,
            lingering_time=1.0,
        )
        self.address = b""
        self.active_at = loop.time()
        self.is_busy = False
        self._door = door
        self._unread: list[bytes] = []
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection, and start the timeout of the first request."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_TIMEOUT, transport.abort)
        peer = transport.get_extra_info("peername")
        if not peer:  # closed already
            transport.abort()
            return
        self.address = packed(peer[0].partition("%")[0])
        self._door.admit(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Unregister the connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._unread.clear()
        self._door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse requests, taking turns with other work; aiohttp also calls this with no data."""
        shared = turns()
        if not data or not (self._unread or shared.is_over()):
            super().data_received(data)
            return
        self._unread.append(data)
        if len(self._unread) == 1:
            shared.call(self.address, self._read_on)
        if self.transport is not None:
            self.transport.pause_reading()

    def _read_on(self) -> None:
        data = b"".join(self._unread)
        self._unread.clear()
        if self.transport is not None:
            super().data_received(data)
            self.resume_reading()

    def abort(self) -> None:
        """Close the connection immediately, to make room."""
        if self.transport is not None:
            self.transport.abort()

    def asked(self) -> None:
        """Record a request; from now on aiohttp's timeout applies, `KEEPALIVE`."""
        if self._deadline is not None:
            self._deadline.cancel()
        self.is_busy = True
        self.active_at = asyncio.get_running_loop().time()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a malformed request, and close the connection."""
        response = super().handle_error(request, status, exc, message)
        assert isinstance(response, web.Response)
        title = HTTPStatus(status).phrase
        refused = problem(Refusal(status, title, " ".join((response.text or title).split())))
        refused.headers.update(SECURITY_HEADERS)  # not done by the application here
        refused.force_close()
        return refused

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; aiohttp rejects Expect headers before `Guard` runs."""
        if resp.status == HTTPStatus.EXPECTATION_FAILED:
            detail = "unsupported Expect header; only 100-continue is supported"
            resp = problem(Refusal(resp.status, HTTPStatus(resp.status).phrase, detail))
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.is_busy = False
            self.active_at = asyncio.get_running_loop().time()


class _Door:
    """Accepts connections, and limits their number."""

    def __init__(self, state: State, places: Places) -> None:
        self._state = state
        self._places = places

    def protocol(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> asyncio.Protocol:
        """Create the protocol of a new connection."""
        return _HTTPConnection(self, server, loop)

    def admit(self, connection: _HTTPConnection) -> None:
        """Register a connection; if there are too many, the longest idle one is closed."""
        may_ask, _ = self._state.rights(str(ip_address(connection.address)))
        self._places.admit(connection, may_ask=may_ask)

    def leave(self, connection: _HTTPConnection) -> None:
        """Unregister a connection."""
        self._places.leave(connection)


@web.middleware
async def _note_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    if isinstance(request.protocol, _HTTPConnection):
        request.protocol.asked()
        await turns().offer(request.protocol.address)
    return await handler(request)


async def _add_security_headers(_request: web.Request, response: web.StreamResponse) -> None:
    own = response.headers.get(POLICY_HEADER, policy())  # the page's is its own
    response.headers.update({**SECURITY_HEADERS, POLICY_HEADER: own})


def bound(endpoint: Endpoint) -> socket.socket:
    """Open the listening socket.

    Raises:
        CannotListen: With the system's reason.
    """
    try:
        opened = _create(endpoint)
        # Connections inherit it.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_OCTETS)
    except OSError as fault:
        raise CannotListen(f"{endpoint} (HTTP)", _reason(endpoint, fault)) from fault
    return opened


def _create(endpoint: Endpoint) -> socket.socket:
    return socket.create_server(
        socket_address(endpoint.host, endpoint.port),
        family=family_of(endpoint.host),
        backlog=BACKLOG,
        dualstack_ipv6=endpoint.host == "::" and socket.has_dualstack_ipv6(),
    )


def _reason(endpoint: Endpoint, fault: OSError) -> str:
    """Return one line with the problem, the program in the way, and what would work."""
    reason, first = (os.strerror(fault.errno) if fault.errno else str(fault)).lower(), None
    match fault.errno:
        case errno.EADDRINUSE:
            reason, first = f"in use by {holder_of(endpoint, ('tcp',))}", endpoint.port + 1
        case errno.EACCES:
            first = DEFAULT_HTTP.port
    candidates = () if first is None else (Endpoint(endpoint.host, first + n) for n in range(10))
    works = next((c for c in candidates if _can_bind(c)), None)
    return f"{reason}; {f'try --http {works}' if works else 'use another --http address'}, or off"


def _can_bind(endpoint: Endpoint) -> bool:
    try:
        _create(endpoint).close()
    except (OSError, OverflowError):  # a port beyond the last
        return False
    return True


def _parameters(request: web.Request, *names: str, lists: tuple[str, ...] = ()) -> dict[str, str]:
    """Parse the query string; unknown parameters are errors, since they may be misspelt.

    Args:
        request: The request.
        names: Parameters that may be given once.
        lists: Parameters that may be given several times; they are read elsewhere.
    """
    parameters: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in names and name not in lists:
            known = ", ".join((*names, *lists)) or "none"
            raise _bad_parameter(f"unknown parameter {name!r}; known: {known}")
        if name in parameters and name not in lists:
            raise _bad_parameter(f"{name} may be given only once")
        if not value:
            raise _bad_parameter(f"{name} is empty")
        if len(value.removesuffix(".")) > MAX_TEXT:
            raise _bad_parameter(f"{name} is longer than {MAX_TEXT} characters")
        parameters[name] = value
    return parameters


def _bad_parameter(detail: str) -> Refusal:
    return Refusal(400, "Bad parameter", detail)


def _list(value: str) -> list[str]:
    """Split a list at spaces and commas, as in environment variables."""
    return [part for part in value.replace(",", " ").split(" ") if part]


def _search_list(values: Sequence[str]) -> list[str]:
    """Return the domains of all `search` parameters, each of which may be a list."""
    search = [domain for value in values for domain in _list(value)]
    number = max(len(search), len(values))  # of parameters, too: some may be blank
    if number > MAX_SEARCH_DOMAINS:
        given = f"at most {MAX_SEARCH_DOMAINS} domains, not {number}"
        raise _bad_parameter(f"search: expected {given}")
    return search


def _reached_at(request: web.Request) -> str:
    """Return the address at which a client reached us: in its Host, else of the connection."""
    if address := address_text(host_of(request)):
        return address
    own = request.transport.get_extra_info("sockname") if request.transport else None
    return str(ip_address(packed(own[0].partition("%")[0]))) if own else "127.0.0.1"


def _address(parameter: str, text: str) -> str:
    """Parse an address given as a parameter.

    Raises:
        BadSettings: It is invalid, or has a zone (RFC 4007), which another machine defined.
    """
    if "%" in text or not address_text(text):
        raise BadSettings(parameter, text, "an IP address")
    return address_text(text)


def _wants_json(request: web.Request, parameters: dict[str, str], *, default: bool) -> bool:
    match parameters.get("format"):
        case "json":
            return True
        case "text":
            return False
        case None:
            preferred, other = (JSON, "text/plain") if default else ("text/plain", JSON)
            return default != prefers(request, other, preferred)
        case value:
            raise BadSettings("format", value, "json or text")


def _validators(tag: str, form: str) -> dict[str, str]:
    """Return caching headers for documents that are valid until the tag changes.

    The tag is weak, since the same text may be sent compressed or not.
    """
    return {
        "ETag": f'W/"{tag}-{form}"',
        "Cache-Control": "no-cache",
        "Vary": "Accept, Accept-Encoding",
    }


def _is_unchanged(request: web.Request, tag: str) -> bool:
    opaque = tag.removeprefix("W/").strip('"')
    return any(known.value in ("*", opaque) for known in request.if_none_match or ())


def _no_such_zone(domain: str | None) -> Refusal:
    return Refusal(
        404, "No such zone", f"domain={domain!r}: expected a zone of this server; /zone lists them"
    )


def _json_response(request: web.Request, document: Document) -> web.Response:
    body = "".join(json_pieces(document)).encode()
    response = web.Response(body=body, content_type=JSON, headers=_FRESH)
    compress(request, response)
    return response


def _text_response(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text + "\n", status=status, headers=_FRESH)

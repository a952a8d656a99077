"""Access checks and error responses over HTTP (RFC 9457)."""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from containerdns.core.counters import Counters
from containerdns.core.endpoints import address_text
from containerdns.core.zone.views import packed
from containerdns.errors import BadName, BadSettings
from containerdns.web.state import State

logger = logging.getLogger(__name__)

WITHOUT_HOST_CHECK = frozenset(
    {"/metrics", "/healthz", "/readyz"}
)  # not worth protecting against rebinding
HAS_STARTED = web.RequestKey("has_started", bool)


class Refusal(Exception):
    """A request that is answered with a problem document."""

    def __init__(
        self, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers or {}


def problem(refusal: Refusal) -> web.Response:
    """Return the response for a refusal."""
    document = {"title": refusal.title, "status": refusal.status, "detail": refusal.detail}
    return web.Response(
        status=refusal.status,
        body=json.dumps({"type": "about:blank", **document}).encode() + b"\n",
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **refusal.headers},
    )


class Guard:
    """Middleware for all paths: checks client, Host and site, and converts errors."""

    def __init__(self, state: State, counters: Counters, hosts: tuple[str, ...]) -> None:
        self._state = state
        self._counters = counters
        self._hosts: frozenset[str] = frozenset()
        self.use(hosts)

    def use(self, hosts: Iterable[str]) -> None:
        """Replace the additional Host names to accept."""
        self._hosts = frozenset(host.lower().rstrip(".") for host in hosts)

    @property
    def middleware(self) -> Middleware:
        """Return the guard as an aiohttp middleware."""

        @web.middleware  # which cannot be applied to a method
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._handle(request, handler)

        return guarded

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_client(request)
            self._check_host(request)
            _check_site(request)
            return await handler(request)
        except Refusal as refusal:
            return problem(refusal)
        except BadName as fault:
            return problem(Refusal(400, "Not a domain name", _bad_name_in(request, fault)))
        except BadSettings as fault:
            return problem(Refusal(400, "Bad parameter", str(fault)))
        except web.HTTPException as fault:
            return problem(_of_aiohttp(request, fault))
        except (ConnectionError, TimeoutError):
            raise  # the client has disconnected
        except Exception:  # the outermost place that can still respond
            logger.exception("internal error at %s", request.path)
            self._counters.internal_errors += 1
            if request.get(HAS_STARTED):
                raise  # part of the document was sent; only a broken connection shows the error
            return problem(
                Refusal(500, "Internal Server Error", "internal error; see the log of containerdns")
            )

    def _check_client(self, request: web.Request) -> None:
        client = client_of(request)
        if not self._state.rights(client)[0]:
            raise Refusal(403, "Forbidden", f"{client} is not allowed (--allow)")

    def _check_host(self, request: web.Request) -> None:
        """Reject requests from DNS rebinding (421, RFC 9110 section 15.5.20).

        A page at evil.example whose name is made to resolve to this server sends that name as
        Host.  An attacker does not control addresses, single labels or our own names.
        """
        hosts = request.headers.getall("Host", [])
        if len(hosts) > 1 or (not hosts and request.version >= (1, 1)):
            raise Refusal(400, "Bad Request", "expected exactly one Host header")
        if not hosts or request.path in WITHOUT_HOST_CHECK:
            return
        host = _without_port(hosts[0])
        if not self._is_known(host):
            allowing = f"to allow it: --http-host {host or 'NAME'}"
            detail = f"Host {host or hosts[0]!r} is not a name of this server; {allowing}"
            raise Refusal(421, "Misdirected Request", detail)

    def _is_known(self, host: str) -> bool:
        if not host or not host.isascii():
            return False
        if address_text(host):
            return True
        host = host.lower().removesuffix(".")
        return "." not in host or host in self._hosts or self._state.is_our_name(host)


def _check_site(request: web.Request) -> None:
    """Reject requests from pages of other sites: CORS hides the response, but not its cost.

    Browsers send Sec-Fetch-Site to trustworthy addresses (HTTPS, or this machine), and Origin
    with every request whose response a script could read.  Following a link is allowed.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("none", "same-origin") and not _is_followed(request):
        raise Refusal(
            403,
            "Forbidden",
            f"requests from pages of other sites are not allowed (Sec-Fetch-Site: {site})",
        )
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2].lower() != request.host.lower():
        raise Refusal(
            403,
            "Forbidden",
            f"requests from pages of other sites are not allowed (Origin: {origin})",
        )


def _is_followed(request: web.Request) -> bool:
    """Return whether the request is a browser navigation to a page of its own."""
    headers = request.headers
    is_shown = headers.get("Sec-Fetch-Mode") == "navigate" and (
        headers.get("Sec-Fetch-Dest") == "document"
    )
    return is_shown and (request.path == "/" or headers.get("Sec-Fetch-User") == "?1")


def _bad_name_in(request: web.Request, fault: BadName) -> str:
    """Return which parameter is not a domain name; in a list, only the item is known."""
    key = next((key for key, value in request.query.items() if value == fault.text), None)
    given = f"{key}={fault.text!r}" if key else repr(fault.text)
    return f"{given}: expected a domain name ({fault.reason})"


def client_of(request: web.Request) -> str:
    """Return the client's address as canonical text; never from a header, which can be forged."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not peer:
        raise ConnectionResetError("the client has disconnected")
    return str(ip_address(packed(peer[0].partition("%")[0])))


def host_of(request: web.Request) -> str:
    """Return the host that a client requested, without its port; "" if none."""
    return _without_port(request.headers.get("Host", ""))


def _of_aiohttp(request: web.Request, fault: web.HTTPException) -> Refusal:
    headers = {"Allow": fault.headers["Allow"]} if "Allow" in fault.headers else {}
    match fault.status:
        case 404:
            detail = f"no such path: {request.path}; see /openapi.json"
        case 405:
            detail = f"{request.method} does not support {request.path}"
        case _:
            detail = fault.text or fault.reason
    return Refusal(fault.status, fault.reason, detail, headers)


def _without_port(header: str) -> str:
    """Strip the port and the brackets from a Host header; return "" if it is invalid."""
    match = re.fullmatch(
        r"(?:\[([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)\]|([^\[\]:/]*))(?::[0-9]*)?", header
    )
    return (match[1] or match[2] or "") if match else ""

"""The status page and the OpenAPI document: static files in the package."""

import hashlib
import re
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from aiohttp import web

from containerdns.web.negotiation import accepts_gzip
from containerdns.web.state import State

POLICY_HEADER = "Content-Security-Policy"
_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "json": "application/json",
}


def policy(images: str = "") -> str:
    """Return the Content-Security-Policy of a response.

    Args:
        images: Where else images may come from, a source of CSP.
    """
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src 'self'{images and ' '}{images}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file.

    Attributes:
        body: Its content.
        compressed: The content compressed with gzip.
        content_type: From its suffix.
        tag: An entity tag of the content, without quotes.
    """

    body: bytes
    compressed: bytes
    content_type: str
    tag: str


class Page:
    """The handlers of static files, which are read at the first request."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def index(self, request: web.Request) -> web.StreamResponse:
        """Return the status page, which may look up names in our first domain, as images."""
        response = _response(request, "page.html")
        domain = self._state.status()["domains"][0].rstrip(".")
        if re.fullmatch("[a-z0-9.-]+", domain):  # others are no host-source (CSP3 section 2.3.1)
            response.headers[POLICY_HEADER] = policy(f"http://*.{domain}")
        return response

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """Return the OpenAPI document."""
        return _response(request, "openapi.json")

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """Return a script, style sheet or icon of the page."""
        return _response(request, request.match_info["file"])


def _response(request: web.Request, file: str) -> web.Response:
    asset = _assets().get(file)
    if asset is None:
        raise web.HTTPNotFound
    headers = {
        "ETag": f'W/"{asset.tag}"',
        "Cache-Control": "no-cache",  # a new release must be visible immediately
        "Vary": "Accept-Encoding",
    }
    if any(known.value in ("*", asset.tag) for known in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    body = asset.body
    if accepts_gzip(request):
        headers["Content-Encoding"] = "gzip"
        body = asset.compressed
    headers["Content-Type"] = f"{asset.content_type}; charset=utf-8"
    return web.Response(body=body, headers=headers)


@cache
def _assets() -> dict[str, Asset]:
    """Read all files; only these names are served, so paths cannot escape the folder."""
    return {
        file.name: _asset(file.read_bytes(), _TYPES[file.name.rpartition(".")[2]])
        for file in (resources.files("containerdns.web") / "static").iterdir()
    }


def _asset(body: bytes, content_type: str) -> Asset:
    packer = zlib.compressobj(
        9, zlib.DEFLATED, 16 + zlib.MAX_WBITS
    )  # 16: gzip header, without a timestamp
    compressed = packer.compress(body) + packer.flush()
    return Asset(body, compressed, content_type, hashlib.sha256(body).hexdigest()[:16])

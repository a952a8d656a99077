"""The status page and the description of the interface: files that come with the package."""

import hashlib
import zlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from aiohttp import web

from containerdns.web.negotiation import accepts_gzip

_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "json": "application/json",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the package.

    Attributes:
        body: Its octets.
        compressed: The same through gzip.
        content_type: By its suffix.
        tag: An entity tag without quotes, of its content.
    """

    body: bytes
    compressed: bytes
    content_type: str
    tag: str


class Page:
    """The handlers of files; each is read once, when it is first asked for."""

    async def index(self, request: web.Request) -> web.StreamResponse:
        """The status page."""
        return _response(request, "page.html")

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """The interface, described."""
        return _response(request, "openapi.json")

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """What the page consists of."""
        return _response(request, request.match_info["file"])


def _response(request: web.Request, file: str) -> web.Response:
    asset = _assets().get(file)
    if asset is None:
        raise web.HTTPNotFound
    headers = {
        "ETag": f'W/"{asset.tag}"',
        "Cache-Control": "no-cache",  # a new release must show at once
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
    """Read all files; only these names exist, so no path can lead elsewhere."""
    return {
        file.name: _asset(file.read_bytes(), _TYPES[file.name.rpartition(".")[2]])
        for file in (resources.files("containerdns.web") / "static").iterdir()
    }


def _asset(body: bytes, content_type: str) -> Asset:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: gzip, without a time
    compressed = packer.compress(body) + packer.flush()
    return Asset(body, compressed, content_type, hashlib.sha256(body).hexdigest()[:16])

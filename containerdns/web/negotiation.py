"""Content negotiation: Accept and Accept-Encoding (RFC 9110 section 12.5)."""

from collections.abc import Iterable

from aiohttp import web

JSON = "application/json"
PACKED = ("gzip", "x-gzip", "*")  # the first one named decides


def prefers(request: web.Request, content_type: str, usual: str) -> bool:
    """Return whether the Accept header prefers a type to the default (section 12.5.1)."""
    accepted = _accepted(request.headers.getall("Accept", []))
    wanted = accepted.get(content_type, 0.0)
    others = (usual, usual.partition("/")[0] + "/*")
    return wanted > 0.0 and all(wanted > accepted.get(other, 0.0) for other in others)


def compress(request: web.Request, response: web.StreamResponse) -> None:
    """Enable compression if the client accepts it, and set Vary for caches."""
    response.headers.setdefault("Vary", "Accept-Encoding")
    if accepts_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)


def accepts_gzip(request: web.Request) -> bool:
    """Return whether gzip or "*" was named, with a quality above 0."""
    accepted = _accepted(request.headers.getall("Accept-Encoding", []))
    return next((accepted[coding] for coding in PACKED if coding in accepted), 0.0) > 0.0


def _accepted(headers: Iterable[str]) -> dict[str, float]:
    """Return the quality of each item; items are in lower case."""
    accepted = {}
    for part in ",".join(headers).lower().split(","):
        item, _, parameters = part.partition(";")
        accepted[item.strip()] = _quality(parameters)
    return accepted


def _quality(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0

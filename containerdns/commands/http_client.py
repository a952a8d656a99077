"""The HTTP client of the commands; docs/http.md describes the interface."""

import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import IO, Any
from urllib.parse import urlencode

from containerdns.config.machine import family_of
from containerdns.core.endpoints import Endpoint
from containerdns.errors import QuestionRefused, ServerUnreachable

TIMEOUT = 10.0  # seconds for an answer
STREAM_TIMEOUT = 45.0  # seconds of silence; the server sends something every 15
PROBLEM = "application/problem+json"  # RFC 9457
ASKERS = (400, 404)  # statuses of an invalid question, such as a bad name or an unknown zone
NOT_OURS = "what answers is not containerdns"
PROBLEM_OCTETS = 1 << 16  # maximum size of an error document

QueryParameters = Mapping[str, str | None] | Sequence[tuple[str, str | None]]
NOTHING: QueryParameters = ()


class Server:
    """A running server, known by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # Without proxies: the environment's proxy cannot reach a local address.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def json(self, path: str, query: QueryParameters = NOTHING) -> dict[str, Any]:
        """Return the JSON document at a path.

        Raises:
            ServerUnreachable: No server answers, or it refuses; with the reason.
            QuestionRefused: The server rejects the question as invalid.
        """
        text = self.text(path, query, "application/json")
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ServerUnreachable(self.url, NOT_OURS) from error
        if not isinstance(document, dict):
            raise ServerUnreachable(self.url, NOT_OURS)
        return document

    def text(self, path: str, query: QueryParameters = NOTHING, accept: str = "text/plain") -> str:
        """Return the text at a path; raises the same errors as `json`."""
        with self._opened(path, query, accept, TIMEOUT) as response:
            return response.read().decode(errors="replace")

    def status(self, path: str) -> tuple[int, str]:
        """Return the status of a path, and the reason if it is an error."""
        try:
            self._open(path, NOTHING, "text/plain", TIMEOUT).close()
        except urllib.error.HTTPError as error:
            return error.code, _detail(error)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ServerUnreachable(self.url, _hint(error)) from error
        return 200, ""

    def events(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the documents of a stream of server-sent events until it ends."""
        with self._opened(path, NOTHING, "text/event-stream", STREAM_TIMEOUT) as response:
            for line in response:
                field, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
                if field == "data":
                    yield json.loads(value)

    @contextmanager
    def _opened(
        self, path: str, query: QueryParameters, accept: str, timeout: float
    ) -> Iterator[IO[bytes]]:
        try:
            with self._open(path, query, accept, timeout) as response:
                if response.headers.get_content_type() != accept:
                    raise ServerUnreachable(self.url, NOT_OURS)
                yield response
        except urllib.error.HTTPError as error:
            is_ours = error.headers.get_content_type() == PROBLEM
            fault = QuestionRefused if is_ours and error.code in ASKERS else ServerUnreachable
            raise fault(self.url, _detail(error)) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ServerUnreachable(self.url, _hint(error)) from error

    def _open(self, path: str, query: QueryParameters, accept: str, timeout: float) -> HTTPResponse:
        pairs = query.items() if isinstance(query, Mapping) else query
        asked = urlencode([(key, value) for key, value in pairs if value is not None])
        target = f"{self.url}{path}" + (f"?{asked}" if asked else "")
        request = urllib.request.Request(target, headers={"Accept": accept})  # noqa: S310
        response = self._opener.open(request, timeout=timeout)
        assert isinstance(response, HTTPResponse)
        return response


def ask_dns(where: Endpoint, message: bytes, timeout: float) -> bytes:
    """Send a DNS message over UDP and return the response; OSError if there is none."""
    with socket.socket(family_of(where.host), socket.SOCK_DGRAM) as asking:
        asking.settimeout(timeout)
        asking.connect((where.host, where.port))
        asking.send(message)
        return asking.recv(65535)


def _detail(error: urllib.error.HTTPError) -> str:
    """Return the server's own explanation (RFC 9457), if there is one."""
    with error:
        body = error.read(PROBLEM_OCTETS).decode(errors="replace")
    try:
        document = json.loads(body)
        return str(document.get("detail") or document["title"])
    except (ValueError, AttributeError, KeyError):
        return body.strip() if error.code == 503 and body.strip() else f"status {error.code}"


def _hint(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ConnectionRefusedError):
        return "connection refused; is it running there? use --url for another address"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return str(reason)

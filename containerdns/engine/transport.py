"""EngineConnections to an Engine: HTTP by aiohttp, over unix://, tcp:// with or without TLS, or ssh://.

Only what the Engine API needs: GET, and bodies piece by piece.  Every fault of a connection
leaves this module as EngineUnavailable, with a cause that helps the operator.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from containerdns.config.values import engine_url
from containerdns.errors import EngineUnavailable

CONNECT_TIMEOUT = 10.0  # seconds; ssh logs in meanwhile
PIECE_OCTETS = 1 << 16  # decoded at once: some 40 items of a listing, well below 5 ms
IDLE_TIMEOUT = 30.0  # seconds that a connection is kept for the next request
KEEPALIVE = 1  # seconds between probes of an idle connection over TCP
KEEPALIVE_PROBES = 10  # unanswered ones that end it
DEFAULT_PORTS = {"http": 2375, "https": 2376}  # as the docker command has them


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where an Engine listens.

    Attributes:
        url: As the operator wrote it.
        scheme: "unix", "http", "https" or "ssh".
        path: Of the socket, of "unix".
        host: Of "ssh" with the user, as the command takes it.
        port: 0 if none was given, of "ssh".
    """

    url: str
    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_local(self) -> bool:
        """Whether nothing but this machine lies in between."""
        return self.scheme == "unix"


def parse_url(url: str, with_tls: bool) -> EngineAddress:
    """Read a `--docker` URL, in any form that the option takes.

    Raises:
        EngineUnavailable: It is none that we can use.
    """
    try:
        whole = engine_url(url)
    except ValueError as error:
        expected = "unix:///PATH, tcp://HOST:PORT or ssh://HOST"
        raise EngineUnavailable(f"{url!r}: expected {expected}") from error
    if whole.startswith("unix://"):
        return EngineAddress(whole, "unix", path=whole.removeprefix("unix://"))
    parts = urlsplit(whole)
    host, port = parts.hostname or "", parts.port or 0
    if parts.scheme == "ssh":
        return EngineAddress(
            url, "ssh", host=f"{parts.username or ''}@{host}".lstrip("@"), port=port
        )
    scheme = "https" if with_tls else "http"
    return EngineAddress(url, scheme, host=host, port=port or DEFAULT_PORTS[scheme])


class EngineResponse:
    """A response whose body is still to be read."""

    def __init__(self, response: aiohttp.ClientResponse, where: str) -> None:
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._where = where

    @property
    def is_complete(self) -> bool:
        """Whether the whole body has been read."""
        return self._response.content.at_eof()

    async def piece(self) -> bytes:
        """Read the next piece of the body as soon as there is one; empty at its end.

        Raises:
            EngineUnavailable: The connection broke before the end.
        """
        with _translated(self._where):
            return await self._response.content.read(PIECE_OCTETS)

    async def body(self, longest: int | None = None) -> bytes:
        """Read the whole body, of what is known to be small.

        Args:
            longest: Octets after which the rest is left unread, and `is_complete` False.
        """
        pieces = []
        length = 0
        while octets := await self.piece():
            pieces.append(octets)
            length += len(octets)
            if longest is not None and length > longest:
                break
        return b"".join(pieces)

    def release(self) -> None:
        """Give the connection back; it is closed if the body was not read to its end."""
        if self.is_complete:
            self._response.release()
        else:
            self._response.close()


class EngineConnections:
    """The connections to one Engine, kept open between requests."""

    def __init__(self, address: EngineAddress, tls: Path | None, *, verifies: bool = True) -> None:
        """Take where the Engine is, and with TLS its directory of certificates.

        Args:
            address: Of the Engine.
            tls: A directory with ca.pem, cert.pem and key.pem.
            verifies: Whether the Engine's certificate must be valid; a Docker context may say
                that it need not.
        """
        self.address = address
        self._tls = tls
        self._verifies = verifies
        self._session: aiohttp.ClientSession | None = None
        host = f"[{address.host}]" if ":" in address.host else address.host
        is_http = address.scheme in DEFAULT_PORTS
        self._base = f"{address.scheme}://{host}:{address.port}" if is_http else "http://docker"

    async def get(self, target: str) -> EngineResponse:
        """Send a request, on a connection that is idle or a new one; `release` it afterwards.

        Args:
            target: Path and query, percent-encoded.

        Raises:
            EngineUnavailable: The Engine cannot be reached, or broke off.
        """
        with _translated(self.address.url):
            if self._session is None:
                self._session = self._new_session()
            url = URL(self._base + target, encoded=True)
            return EngineResponse(
                await self._session.get(url, allow_redirects=False), self.address.url
            )

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._new_connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            read_bufsize=PIECE_OCTETS,
            auto_decompress=False,  # a listing is decoded as it comes, piece by piece
            skip_auto_headers=("Accept-Encoding",),
        )

    def _new_connector(self) -> aiohttp.BaseConnector:
        common: dict[str, Any] = {"limit": 0, "keepalive_timeout": IDLE_TIMEOUT}
        match self.address.scheme:
            case "unix":
                return aiohttp.UnixConnector(self.address.path, **common)
            case "ssh":
                return SSHConnector(self.address, **common)
            case "https":
                common["ssl"] = self._ssl_context()
        # No cache of names: a container's address changes, and ours may be the answer.
        return aiohttp.TCPConnector(use_dns_cache=False, socket_factory=_kept_alive, **common)

    def _ssl_context(self) -> ssl.SSLContext:
        authority = None if self._tls is None else self._tls / "ca.pem"
        context = ssl.create_default_context(cafile=authority)
        if self._tls is not None:
            context.load_cert_chain(self._tls / "cert.pem", self._tls / "key.pem")
        if not self._verifies:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class SSHConnector(aiohttp.BaseConnector):
    """EngineConnections that the ssh command, which knows keys, agents and jump hosts, carries.

    On the other side `docker system dial-stdio` hands the octets to the Engine.
    """

    def __init__(self, address: EngineAddress, **options: Any) -> None:
        super().__init__(**options)
        self._address = address
        self._ends: set[asyncio.Task[int]] = set()  # of the commands, which have to be reaped

    async def _create_connection(
        self, _request: Any, _traces: Any, _timeout: Any
    ) -> aiohttp.client_proto.ResponseHandler:
        """Start a command; this is how a connector of aiohttp makes a connection."""
        port = ("-p", str(self._address.port)) if self._address.port else ()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=5", *port),
                    *("--", self._address.host, "docker system dial-stdio"),
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # an interrupt at the terminal is ours to handle
                )
            end = asyncio.ensure_future(process.wait())
            self._ends.add(end)
            end.add_done_callback(self._ends.discard)
            _, protocol = await self._loop.create_connection(self._factory, sock=ours)
        except BaseException:
            ours.close()
            raise
        return protocol


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn every fault of a connection into EngineUnavailable with a cause that helps."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as fault:
        raise EngineUnavailable(_cause(where, fault.certificate_error)) from fault
    except aiohttp.ClientConnectorError as fault:
        raise EngineUnavailable(_cause(where, fault.os_error)) from fault
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as fault:
        raise EngineUnavailable(f"{where} closed the connection") from fault
    except aiohttp.ClientOSError as fault:
        known = OSError(fault.errno, fault.strerror)  # of the class that goes with its number
        raise EngineUnavailable(_cause(where, known)) from fault
    except (aiohttp.ClientError, OSError, ValueError) as fault:
        raise EngineUnavailable(_cause(where, fault)) from fault


def _cause(where: str, fault: Exception) -> str:
    path = where.removeprefix("unix://")
    match fault:
        case FileNotFoundError() if where.startswith("ssh://"):
            return f"{where}: the ssh command is not installed"
        case FileNotFoundError() if where.startswith("unix://"):
            return f"no Docker socket {path}: start Docker, or name another one with --docker"
        case FileNotFoundError():
            return f"{where}: --docker-tls lacks ca.pem, cert.pem or key.pem"
        case PermissionError():
            return f"no permission for {path}: run as root or as a member of its group"
        case ConnectionRefusedError():
            return f"nobody listens at {where}: start Docker, or name another one with --docker"
        case TimeoutError():
            return f"no answer from {where}"
        case ssl.SSLCertVerificationError():
            return f"{where}: TLS failed: {fault.verify_message.lower()}"
        case ssl.SSLError():
            return f"{where}: TLS failed: {fault.reason or fault}"
        case socket.gaierror():
            advice = "give its address, or a line in --hosts, if this machine asks containerdns"
            return f"{where}: its name cannot be resolved ({fault.strerror}); {advice}"
        case ConnectionResetError() | BrokenPipeError():
            return f"{where} closed the connection"
        case OSError() if fault.errno:
            return f"{where}: {errno.errorcode.get(fault.errno, '?')}: {fault.strerror}"
        case _:
            return f"{where} does not speak HTTP as an Engine does: {fault}"


def _kept_alive(address: Any) -> socket.socket:
    """Make a socket whose peer cannot vanish without a word (moby/moby#12023).

    Args:
        address: What `getaddrinfo` gave.
    """
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE),
        ("TCP_KEEPINTVL", KEEPALIVE),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, option):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return made

"""Connections to an Engine: aiohttp over unix://, tcp:// with or without TLS, or ssh://.

Only what is needed of the Engine API: GET, and bodies read piece by piece.  All connection
errors become EngineUnavailable, with a cause that helps the operator.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from containerdns.config.files import tls_context
from containerdns.config.values import engine_url
from containerdns.errors import EngineUnavailable

CONNECT_TIMEOUT = 10.0  # seconds; includes the login of ssh
PIECE_OCTETS = 1 << 16  # decoded at once: about 40 items of a listing, well below 5 ms
MAX_END = 1.0  # seconds until a terminated ssh command should have ended
IDLE_TIMEOUT = 30.0  # seconds that an idle connection is kept
KEEPALIVE = 1  # seconds between probes of an idle connection over TCP
KEEPALIVE_PROBES = 10  # unanswered probes that end it
DEFAULT_PORTS = {"http": 2375, "https": 2376}  # as for the docker command


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """The address of an Engine.

    Attributes:
        url: As configured.
        scheme: "unix", "http", "https" or "ssh".
        path: The path of the socket, for "unix".
        host: For "ssh" with the user, as the ssh command takes it.
        port: 0 if none was given, for "ssh".
    """

    url: str
    scheme: str
    path: str = ""
    host: str = ""
    port: int = 0

    @property
    def is_local(self) -> bool:
        """Whether the Engine is on this machine."""
        return self.scheme == "unix"


def parse_url(url: str, with_tls: bool) -> EngineAddress:
    """Parse a `--docker` URL.

    Raises:
        EngineUnavailable: It is not a supported URL.
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
    """A response whose body has not been read yet."""

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
        """Return the next piece of the body as soon as it arrives; empty at the end.

        Raises:
            EngineUnavailable: The connection broke before the end.
        """
        with _Translated(self._where):
            return await self._response.content.read(PIECE_OCTETS)

    async def body(self, longest: int | None = None) -> bytes:
        """Return the whole body, if it is known to be small.

        Args:
            longest: Octets after which reading stops and `is_complete` remains False.
        """
        octets = await self.piece()
        if self.is_complete:
            return octets  # of a small one, as is usual
        pieces = [octets]
        length = len(octets)
        while octets := await self.piece():
            pieces.append(octets)
            length += len(octets)
            if longest is not None and length > longest:
                break
        return b"".join(pieces)

    def release(self) -> None:
        """Return the connection to the pool, or close it if the body was not read to its end."""
        if self.is_complete:
            self._response.release()
        else:
            self._response.close()


class EngineConnections:
    """The connections to one Engine, kept open between requests."""

    def __init__(self, address: EngineAddress, tls: Path | None, *, verifies: bool = True) -> None:
        """Initialise without connecting.

        Args:
            address: Of the Engine.
            tls: A directory with ca.pem, cert.pem and key.pem.
            verifies: Whether to verify the Engine's certificate; a Docker context may disable
                that.
        """
        self.address = address
        self._tls = tls
        self._verifies = verifies
        self._session: aiohttp.ClientSession | None = None
        host = f"[{address.host}]" if ":" in address.host else address.host
        is_http = address.scheme in DEFAULT_PORTS
        self._base = f"{address.scheme}://{host}:{address.port}" if is_http else "http://docker"

    async def get(self, target: str) -> EngineResponse:
        """Send a GET request; the response must be released with `release`.

        Args:
            target: Path and query, percent-encoded.

        Raises:
            EngineUnavailable: The Engine is unreachable or closed the connection.
        """
        with _Translated(self.address.url):
            if self._session is None:
                self._session = self._new_session()
            url = URL(self._base + target, encoded=True)
            return EngineResponse(
                await self._session.get(url, allow_redirects=False), self.address.url
            )

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is None:
            return
        connector = session.connector
        await session.close()
        if isinstance(connector, SSHConnector):
            await connector.end_commands()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=self._new_connector(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            read_bufsize=PIECE_OCTETS,
            auto_decompress=False,  # listings are decoded piece by piece as they arrive
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
        # No DNS cache: a container's address changes, and the answer may be our own.
        return aiohttp.TCPConnector(use_dns_cache=False, socket_factory=_kept_alive, **common)

    def _ssl_context(self) -> ssl.SSLContext:
        context = tls_context(self._tls, needs_all=True)
        if not self._verifies:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class SSHConnector(aiohttp.BaseConnector):
    """Connections through the ssh command, which supports keys, agents and jump hosts.

    On the remote side, `docker system dial-stdio` connects to the Engine.
    """

    def __init__(self, address: EngineAddress, **options: Any) -> None:
        super().__init__(**options)
        self._address = address
        self._commands: dict[asyncio.Task[int], asyncio.subprocess.Process] = {}  # to be reaped

    async def end_commands(self) -> None:
        """Terminate the ssh commands whose connections are closed, and wait for them."""
        for process in self._commands.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        if self._commands:
            await asyncio.wait(self._commands, timeout=MAX_END)

    async def _create_connection(
        self, _request: Any, _traces: Any, _timeout: Any
    ) -> aiohttp.client_proto.ResponseHandler:
        """Start an ssh command as the connection; called by aiohttp."""
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
                    start_new_session=True,  # so that an interrupt at the terminal does not end it
                )
            end = asyncio.ensure_future(process.wait())
            self._commands[end] = process
            end.add_done_callback(self._commands.pop)
            _, protocol = await self._loop.create_connection(self._factory, sock=ours)
        except BaseException:
            ours.close()
            raise
        return protocol


class _Translated:
    """Converts connection errors to EngineUnavailable with a helpful cause.

    A context manager that is a class, as it is entered for each event.
    """

    __slots__ = ("_where",)

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, fault: BaseException | None, __: object) -> None:
        if isinstance(fault, (aiohttp.ClientError, OSError, ValueError)):
            raise EngineUnavailable(_cause_of(self._where, fault)) from fault


def _cause_of(where: str, fault: Exception) -> str:
    match fault:
        case aiohttp.ClientConnectorCertificateError():
            return _cause(where, fault.certificate_error)
        case aiohttp.ClientConnectorError():
            return _cause(where, fault.os_error)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "the connection was closed"
        case aiohttp.ClientOSError():  # of it an instance of the subclass for its number
            return _cause(where, OSError(fault.errno, fault.strerror))
    return _cause(where, fault)


def _cause(where: str, fault: Exception) -> str:
    path = where.removeprefix("unix://")
    match fault:
        case FileNotFoundError() if where.startswith("ssh://"):
            return "the ssh command is not installed"
        case FileNotFoundError() if where.startswith("unix://"):
            return f"no Docker socket {path}: start Docker, or use another one with --docker"
        case FileNotFoundError():
            return "--docker-tls lacks ca.pem, cert.pem or key.pem"
        case PermissionError():
            return f"no permission for {path}: run as root or as a member of its group"
        case ConnectionRefusedError():
            return "connection refused: start Docker, or use another one with --docker"
        case TimeoutError():
            return "no answer from the Engine"
        case ssl.SSLCertVerificationError():
            return f"TLS failed: {fault.verify_message.lower()}"
        case ssl.SSLError():
            return f"TLS failed: {fault.reason or fault}"
        case socket.gaierror():
            advice = "use its address, or a line in --hosts, if this machine uses containerdns"
            return f"cannot resolve its host name ({fault.strerror}); {advice}"
        case ConnectionResetError() | BrokenPipeError():
            return "the connection was closed"
        case OSError() if fault.errno:
            return f"{errno.errorcode.get(fault.errno, '?')}: {fault.strerror}"
        case _:
            return f"it does not respond like an Engine: {fault}"


def _kept_alive(address: Any) -> socket.socket:
    """Create a socket with keepalive, to notice a vanished peer (moby/moby#12023).

    Args:
        address: A result of `getaddrinfo`.
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

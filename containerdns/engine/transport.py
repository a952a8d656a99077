"""Connections to an Engine: unix://, tcp:// with or without TLS, ssh://, and HTTP/1.1 on them.

Only what the Engine API needs: GET, one response at a time on a connection,
bodies piece by piece.  It runs on the event loop: a library that blocks in a
thread would take the GIL, or wait for it, just when an event must become an
answer.  Every fault of a connection leaves this module as EngineUnavailable.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from containerdns.errors import EngineUnavailable
from containerdns.settings import engine_url

CONNECT_TIMEOUT = 10.0  # seconds; ssh logs in meanwhile
BUFFER_OCTETS = 1 << 17  # of one connection, before its sender has to wait
PIECE_OCTETS = 1 << 16  # decoded at once: some 40 items of a listing, well below 5 ms
HEAD_LONGEST = 100  # header lines of a response, as in http.client
IDLE_MOST = 8  # connections kept for the next request
KEEPALIVE = 1  # seconds between probes of an idle connection over TCP
KEEPALIVE_PROBES = 10  # unanswered ones that end it
DEFAULT_PORTS = {"http": 2375, "https": 2376}  # as the docker command has them


@dataclass(frozen=True, slots=True)
class Address:
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


def parse_url(url: str, with_tls: bool) -> Address:
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
        return Address(whole, "unix", path=whole.removeprefix("unix://"))
    parts = urlsplit(whole)
    host, port = parts.hostname or "", parts.port or 0
    if parts.scheme == "ssh":
        return Address(url, "ssh", host=f"{parts.username or ''}@{host}".lstrip("@"), port=port)
    scheme = "https" if with_tls else "http"
    return Address(url, scheme, host=host, port=port or DEFAULT_PORTS[scheme])


class Connection:
    """One connection, with at most one request on it at a time."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        process: asyncio.subprocess.Process | None,
        where: str,
    ) -> None:
        self.reader = reader
        self.is_reusable = True
        self._writer = writer
        self._process = process
        self._where = where

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it, as far as is known."""
        return not (self._writer.is_closing() or self.reader.at_eof())

    async def get(self, target: str) -> "Response":
        """Send a request and read the head of its response.

        Raises:
            EngineUnavailable: The connection broke, or what comes is not HTTP.
        """
        with _translated(self._where):
            self._writer.write(f"GET {target} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
            await self._writer.drain()
            status_line = await self.reader.readuntil(b"\r\n")
            headers = {}
            for _ in range(HEAD_LONGEST):
                line = await self.reader.readuntil(b"\r\n")
                if line == b"\r\n":
                    break
                key, _, value = line.decode("latin-1").partition(":")
                headers[key.strip().lower()] = value.strip()
            version, status = status_line.split(maxsplit=2)[:2]
            response = Response(self, int(status), headers, self._where)
        if version != b"HTTP/1.1" or headers.get("connection", "").lower() == "close":
            self.is_reusable = False
        return response

    def close(self) -> None:
        """Break off at once, whatever is under way."""
        self.is_reusable = False
        self._writer.close()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()


class Response:
    """A response whose body is still to be read."""

    def __init__(
        self, connection: Connection, status: int, headers: dict[str, str], where: str
    ) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self.is_complete = status in (204, 304)
        self._where = where
        self._is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        length = headers.get("content-length")
        self._left = 0 if self._is_chunked or length is None else int(length)
        self._until_close = not self._is_chunked and length is None
        if length == "0":
            self.is_complete = True

    async def piece(self) -> bytes:
        """Read the next piece of the body as soon as there is one; empty at its end.

        Raises:
            EngineUnavailable: The connection broke before the end.
        """
        if self.is_complete:
            return b""
        with _translated(self._where):
            if self._until_close:
                octets = await self.connection.reader.read(PIECE_OCTETS)
                self.is_complete = not octets
                self.connection.is_reusable = False
                return octets
            if self._is_chunked and not self._left:
                self._left = int((await self._line()).partition(b";")[0], 16)
                if not self._left:
                    while await self._line() != b"":  # trailers
                        pass
                    self.is_complete = True
                    return b""
            octets = await self.connection.reader.read(min(self._left, PIECE_OCTETS))
            if not octets:
                raise EOFError
            self._left -= len(octets)
            if not self._left and self._is_chunked:
                await self._line()
            elif not self._left:
                self.is_complete = True
            return octets

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

    async def _line(self) -> bytes:
        return (await self.connection.reader.readuntil(b"\r\n"))[:-2]


class Connections:
    """The connections to one Engine, kept open between requests."""

    def __init__(self, address: Address, tls: Path | None) -> None:
        self.address = address
        self._tls = tls
        self._ssl_context: ssl.SSLContext | None = None
        self._idle: list[Connection] = []

    async def get(self, target: str) -> Response:
        """Send a request, on a connection that is idle or a new one; `release` it afterwards.

        Raises:
            EngineUnavailable: The Engine cannot be reached, or broke off.
        """
        while self._idle:
            connection = self._idle.pop()
            try:
                if connection.is_open:
                    return await connection.get(target)
            except EngineUnavailable:
                connection.close()  # the Engine closed it while it was idle; another will do
            except BaseException:
                connection.close()
                raise
            else:
                connection.close()
        connection = await self._open()
        try:
            return await connection.get(target)
        except BaseException:
            connection.close()
            raise

    def release(self, response: Response) -> None:
        """Give back the connection of a response, read to its end or not."""
        connection = response.connection
        if response.is_complete and connection.is_reusable and len(self._idle) < IDLE_MOST:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    async def _open(self) -> Connection:
        address = self.address
        with _translated(address.url):
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if address.scheme == "ssh":
                    return await self._open_ssh()
                if address.scheme == "unix":
                    streams = await asyncio.open_unix_connection(address.path, limit=BUFFER_OCTETS)
                else:
                    streams = await asyncio.open_connection(
                        address.host, address.port, ssl=self._ssl(), limit=BUFFER_OCTETS
                    )
                    _keep_alive(streams[1].get_extra_info("socket"))
        return Connection(*streams, None, address.url)

    async def _open_ssh(self) -> Connection:
        """Let the ssh command, which knows keys, agents and jump hosts, carry the octets."""
        address = self.address
        port = ("-p", str(address.port)) if address.port else ()
        process = await asyncio.create_subprocess_exec(
            *("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=5", *port),
            *("--", address.host, "docker system dial-stdio"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # an interrupt at the terminal is ours to handle
            limit=BUFFER_OCTETS,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        return Connection(process.stdout, process.stdin, process, address.url)

    def _ssl(self) -> ssl.SSLContext | None:
        if self.address.scheme != "https":
            return None
        if self._ssl_context is None:
            authority = None if self._tls is None else self._tls / "ca.pem"
            self._ssl_context = ssl.create_default_context(cafile=authority)
            if self._tls is not None:
                self._ssl_context.load_cert_chain(self._tls / "cert.pem", self._tls / "key.pem")
        return self._ssl_context


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn every fault of a connection into EngineUnavailable with a cause that helps."""
    try:
        yield
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as fault:
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
        case EOFError() | ConnectionResetError() | BrokenPipeError():
            return f"{where} closed the connection"
        case OSError() if fault.errno:
            return f"{where}: {errno.errorcode.get(fault.errno, '?')}: {fault.strerror}"
        case _:
            return f"{where} does not speak HTTP as an Engine does: {fault}"


def _keep_alive(connection: socket.socket) -> None:
    """Have the system notice a peer that vanished without a word (moby/moby#12023)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE),
        ("TCP_KEEPINTVL", KEEPALIVE),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

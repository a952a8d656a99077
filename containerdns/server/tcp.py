"""DNS over TCP (RFC 7766), where no client can delay another.

Queries on one connection are answered in any order, so that a slow forwarded one does not
delay those behind it.  The cost of a client is bounded: connections
(`core/connections/places`), time, turns on the event loop (`tasks/turns`), queries in flight
and their octets, and unread octets.  If an upstream's answer arrives while the client does not
read, only the query is kept; it is answered again, normally from the cache, once the client
has read.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from ipaddress import ip_address
from typing import Any, Final, Protocol

from containerdns.config.machine import descriptor_limit
from containerdns.core.connections.places import Limits, Places, limits_by
from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.respond import Peer, Reply, Transfer
from containerdns.core.upstream.forwarding import Forward
from containerdns.core.zone.views import View, Views, packed
from containerdns.server.answering import Answering
from containerdns.tasks.turns import turns

log = logging.getLogger(__name__)

MAX_FRAME: Final = 5.0  # seconds from a frame's first octet to its last
MAX_IDLE: Final = 10.0  # seconds without a query (RFC 7766 section 6.2.3: some seconds)
MAX_IN_FLIGHT: Final = 128  # queries of a connection waiting for an upstream
MAX_OCTETS_IN_FLIGHT: Final = 65536  # octets of those queries; one may be as long as a frame
MAX_UNREAD_OCTETS: Final = 16384  # octets of unsent responses; then no more are generated
READ_OCTETS: Final = 16384  # octets read from a socket at a time
FRAME_OCTETS: Final = 2  # the length before each message, RFC 1035 section 4.2.2
SWEEP: Final = 0.25  # seconds between checks for expired connections


class TransferSender(Protocol):
    """What TCP needs from the sender of zone transfers."""

    async def send(self, transfer: Transfer, peer: Peer, connection: "Connection") -> None:
        """Send a whole zone, or its changes."""


class Connections:
    """All TCP connections, with their limits and timeouts.

    Attributes:
        received: The receive buffer shared by all connections, as asyncio would otherwise
            allocate 256 KiB for each.
    """

    def __init__(
        self,
        views: Views,
        packet_cache: PacketCache,
        answering: Answering,
        transfers: TransferSender | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Initialise; the default limits follow from the limit of file descriptors."""
        self.views = views
        self.packet_cache = packet_cache
        self.answering = answering
        self.counters = answering.counters
        self.transfers = transfers
        self.received = memoryview(bytearray(READ_OCTETS))
        self._places = Places(limits or limits_by(descriptor_limit()))

    def new(self) -> "Connection":
        """Return the protocol of a new connection, for `create_server`."""
        return Connection(self)

    def admit(self, connection: "Connection", view: View) -> None:
        """Register a connection; if there are too many, the longest idle one is closed."""
        self._places.admit(connection, may_ask=view.may_ask)
        self.counters.tcp_connections = len(self._places)

    def leave(self, connection: "Connection") -> None:
        """Unregister a connection."""
        self._places.leave(connection)
        self.counters.tcp_connections = len(self._places)

    async def sweep(self) -> None:
        """Close expired connections periodically."""
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            for connection in self._places:
                assert isinstance(connection, Connection)
                if connection.is_over(now):
                    connection.abort()

    def close_all(self) -> None:
        """Close every connection."""
        for connection in self._places:
            connection.abort()


class Connection(asyncio.BufferedProtocol):
    """A client's connection.

    Attributes:
        address: The octets of the client's address.
        active_at: When a complete query last arrived or a response was last sent.
        in_flight: Number of queries waiting for an upstream, a transfer or the client.
    """

    def __init__(self, connections: Connections) -> None:
        self.address = b""
        self.active_at = time.monotonic()
        self.in_flight = 0
        self._octets_in_flight = 0
        self._connections = connections
        self._buffer = bytearray()
        self._unsent: deque[bytes] = deque()  # queries to answer again
        self._frame_since: float | None = None
        self._is_at_end = False
        self._is_parsing_later = False
        self._is_writable = asyncio.Event()
        self._is_writable.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None
        self._local = b""
        self._turns = turns()

    @property
    def is_busy(self) -> bool:
        """Whether the client is waiting for an answer."""
        return self.in_flight > 0 and self._is_writable.is_set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=MAX_UNREAD_OCTETS)
        sender, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not sender or not own:  # closed already
            transport.abort()
            return
        self.address, self._local = _octets(sender), _octets(own)
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        view = self._connections.views.of(self.address, self._local)
        self._connections.admit(self, view)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel everything in progress."""
        self._transport = None
        self._is_writable.set()
        self._unsent.clear()
        self._buffer.clear()
        for task in self._tasks:
            task.cancel()
        self._connections.leave(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the shared receive buffer; asyncio calls `buffer_updated` next."""
        return self._connections.received

    def buffer_updated(self, nbytes: int) -> None:
        """Process received octets, however the frames are split."""
        self._buffer += self._connections.received[:nbytes]
        if not self._is_parsing_later:
            self._parse()

    def eof_received(self) -> bool:
        """Keep the connection half-open: pending queries are still answered."""
        self._is_at_end = True
        self._close_if_done()
        return True

    def pause_writing(self) -> None:
        """Stop generating responses, as the client does not read."""
        self._is_writable.clear()
        self._update_reading()

    def resume_writing(self) -> None:
        """Continue, as the client has read."""
        self._is_writable.set()
        if not self._is_parsing_later:
            self._parse()

    def abort(self) -> None:
        """Close the connection immediately."""
        if self._transport is not None:
            self._transport.abort()

    def is_over(self, now: float) -> bool:
        """Return whether a timeout has passed: idle, in a frame, or not reading."""
        if self._frame_since is not None and now - self._frame_since >= MAX_FRAME:
            return (
                self._can_take() and not self._is_parsing_later
            )  # otherwise this server is not reading
        is_idle = now - self.active_at >= MAX_IDLE
        return is_idle and (not self.in_flight or not self._is_writable.is_set())

    async def drain(self) -> None:
        """Wait until the client has read enough for more to be sent.

        Raises:
            ConnectionResetError: The client disconnected.
        """
        await self._is_writable.wait()
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError

    def send(self, octets: bytes) -> None:
        """Send a message with its length."""
        if self._transport is None or self._transport.is_closing():
            return
        self.active_at = time.monotonic()
        self._transport.write(len(octets).to_bytes(2) + octets)

    def _can_take(self) -> bool:
        return (
            self.in_flight < MAX_IN_FLIGHT
            and self._octets_in_flight < MAX_OCTETS_IN_FLIGHT
            and self._is_writable.is_set()
        )

    def _parse(self) -> None:
        """Answer the complete frames received, for as long as the turn lasts."""
        self._is_parsing_later = False
        while self._transport is not None and (data := self._next_query()):
            self.active_at = time.monotonic()
            self._answer(data)
        if self._buffer and self._frame_since is None:
            self._frame_since = time.monotonic()
        self._update_reading()
        self._close_if_done()

    def _next_query(self) -> bytes:
        """Return the next complete query; b"" if there is none or the turn is over."""
        while self._unsent and self._is_writable.is_set():
            if self._waits_for_turn():
                return b""
            self._answer_again()
        buffer = self._buffer
        if len(buffer) < FRAME_OCTETS or not self._can_take():
            return b""
        length = int.from_bytes(buffer[:FRAME_OCTETS])
        if length < messages.HEADER_OCTETS:  # invalid: the client is out of sync
            self.abort()
            return b""
        end = FRAME_OCTETS + length
        if len(buffer) < end or self._waits_for_turn():
            return b""
        data = bytes(buffer[FRAME_OCTETS:end])
        del buffer[:end]
        self._frame_since = None
        return data

    def _waits_for_turn(self) -> bool:
        """Return whether other work comes first; in that case this is called back later."""
        if not self._turns.is_over():
            return False
        self._is_parsing_later = True
        self._turns.call(self.address, self._parse)
        return True

    def _answer(self, data: bytes) -> None:
        started = time.monotonic()
        connections = self._connections
        view = connections.views.of(self.address, self._local)
        peer = Peer(self.address, self._local, view, over_tcp=True)
        packet_cache = connections.packet_cache
        ready = packet_cache.answer(packet_cache.table(view), data, started)
        if ready is not None and not ready[1].head[0] & messages.TC >> 8:
            self.send(ready[0])
            connections.answering.sent_ready(ready[1], peer, started)
            return
        match connections.answering.begin(data, peer):
            case Reply() as reply:
                self._send_reply(reply, peer, started)
            case Forward() as forward:
                self._wait_for(forward, data, peer, started)
            case Transfer() as transfer:
                self._transfer(transfer, peer, started)

    def _send_reply(self, reply: Reply, peer: Peer, started: float) -> None:
        self.send(reply.octets)
        self._connections.answering.sent(reply, peer, started)

    def _wait_for(self, forward: Forward, data: bytes, peer: Peer, started: float) -> None:
        def finish(reply: Reply | None) -> None:
            if reply is not None and not self._is_writable.is_set() and self._transport:
                self._unsent.append(data)  # and it counts as in flight
                return
            if reply is not None:
                self._send_reply(reply, peer, started)
            self._one_less(data)

        self.in_flight += 1
        self._octets_in_flight += len(data)
        self._connections.answering.wait_for(forward, data, peer, finish)

    def _answer_again(self) -> None:
        """Answer a query again whose answer arrived while the client did not read."""
        data = self._unsent.popleft()
        self.in_flight -= 1
        self._octets_in_flight -= len(data)
        self._answer(data)

    def _transfer(self, transfer: Transfer, peer: Peer, started: float) -> None:
        transfers = self._connections.transfers
        if transfers is None:
            return
        self.in_flight += 1
        task = asyncio.get_running_loop().create_task(transfers.send(transfer, peer, self))
        self._tasks.add(task)
        task.add_done_callback(self._transferred)
        query = transfer.query
        reply = Reply(b"", messages.NOERROR, "zone", query.qtype, query.name)
        self._connections.answering.sent(reply, peer, started)

    def _transferred(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._one_less(b"")
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, ConnectionResetError):
                self._connections.counters.internal_errors += 1
                log.error("internal error during a zone transfer", exc_info=error)
            self.abort()

    def _one_less(self, data: bytes) -> None:
        self.in_flight -= 1
        self._octets_in_flight -= len(data)
        if self._transport is not None and not self._is_parsing_later:
            self._parse()

    def _update_reading(self) -> None:
        """Pause reading from a client with too much pending work."""
        if self._transport is None or self._transport.is_closing() or self._is_at_end:
            return
        if self._can_take() and not self._is_parsing_later:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _close_if_done(self) -> None:
        is_done = self._is_at_end and not self.in_flight and not self._is_parsing_later
        if is_done and self._can_take() and self._transport is not None:
            self._transport.close()


def _octets(socket_address: Any) -> bytes:
    return packed(ip_address(socket_address[0].partition("%")[0]))

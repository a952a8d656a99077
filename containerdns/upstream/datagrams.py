"""Questions over UDP: from random ports, with random IDs, and checked responses.

A forged answer must come from the upstream's address to one of the ports, repeat the
ID and the question with its case (RFC 5452); others are ignored, and the true answer is still
awaited.  If a port receives many such answers, its questions are asked over TCP instead.

A port is opened when it is first picked, and closed when it was not used for a while, or when
another one needs its descriptor; its replacement gets a new random port.
"""

import logging
import select
import socket
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from functools import partial

from containerdns.config.machine import family_of
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream import plain_answers
from containerdns.core.upstream.questions import is_same
from containerdns.errors import BadMessage
from containerdns.upstream.exchanges import (
    EXHAUSTED,
    Sent,
    Take,
    Trouble,
    TroubleKind,
    is_response,
    random_octets,
    trouble_of,
)

PORTS = 512  # places for sockets, each with a random port of the system's choice, contract 5
SWEEP_EVERY = 10.0  # seconds; a port that was not used between two sweeps is closed
MAX_USES_OF_A_PORT = 256  # then it is replaced, so that no port can be learned
MAX_STRANGERS = 16  # wrong answers to one port, RFC 5452 section 9.3
MAX_AT_ONCE = 64  # ports read in one pass of the event loop
MAX_DATAGRAM = 4096  # octets read; more than we advertise
TC = messages.TC >> 8  # in the third octet of a header

log = logging.getLogger(__name__)


class _Port:
    """One socket, connected so that the system drops what comes from elsewhere."""

    __slots__ = ("close", "is_used", "read", "socket", "strangers", "uses", "waiting")

    def __init__(
        self,
        connected: socket.socket,
        read: Callable[["_Port"], None],
        close: Callable[[], None],
    ) -> None:
        self.socket = connected
        self.read = read
        self.close = close
        self.waiting: dict[int, Sent] = {}
        self.uses = 0
        self.is_used = True  # since the last sweep
        self.strangers = 0


class OpenPorts:
    """The open ports of all upstreams, least recently used first, with a common limit.

    On Linux the event loop watches one descriptor in place of all of them: it takes as long for
    one that is ready as reading its datagram.
    """

    def __init__(self, most: int, loop: AbstractEventLoop) -> None:
        """Initialise without any.

        Args:
            most: The maximum number.
            loop: The running loop.
        """
        self._most = most
        self._loop = loop
        self._ports: dict[_Port, None] = {}
        self._sweeping: TimerHandle | None = None
        self._by_descriptor: dict[int, _Port] = {}
        self._epoll: select.epoll | None = None
        if hasattr(select, "epoll"):  # on Linux
            self._epoll = select.epoll()
            loop.add_reader(self._epoll, self._read)

    def close(self) -> None:
        """Stop watching; all ports are closed already."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll)
            self._epoll.close()

    def __len__(self) -> int:
        return len(self._ports)

    def watch(self, port: _Port) -> None:
        """Have a new port read when a datagram arrives."""
        if self._epoll is None:
            self._loop.add_reader(port.socket, port.read, port)
        else:
            self._epoll.register(port.socket, select.EPOLLIN)
            self._by_descriptor[port.socket.fileno()] = port
        self.use(port)

    def use(self, port: _Port) -> None:
        """Record the use of a port."""
        port.is_used = True
        self._ports.pop(port, None)
        self._ports[port] = None
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP_EVERY, self._sweep)

    def forget(self, port: _Port) -> None:
        """Remove a port that is about to be closed."""
        self._ports.pop(port, None)
        if self._epoll is None:
            self._loop.remove_reader(port.socket)
        else:
            self._epoll.unregister(port.socket)
            del self._by_descriptor[port.socket.fileno()]

    def _read(self) -> None:
        """Read one datagram of each port that has some."""
        assert self._epoll is not None
        for descriptor, _ in self._epoll.poll(0, MAX_AT_ONCE):
            port = self._by_descriptor.get(descriptor)
            if port is not None:  # else closed by what another one received
                port.read(port)

    def make_room(self) -> bool:
        """Close an idle port if there are too many; return whether one more may be opened."""
        if len(self._ports) < self._most:
            return True
        idle = next((port for port in self._ports if not port.waiting), None)
        if idle is not None:
            idle.close()
        return idle is not None

    def _sweep(self) -> None:
        """Close what was not used since the last time."""
        for port in list(self._ports):
            if not port.is_used and not port.waiting:
                port.close()
            port.is_used = False
        self._sweeping = None
        if self._ports:
            self._sweeping = self._loop.call_later(SWEEP_EVERY, self._sweep)


class UpstreamDatagrams:
    """UDP to one upstream."""

    def __init__(
        self, address: tuple[str, int], loop: AbstractEventLoop, open_ports: OpenPorts
    ) -> None:
        self._address = address
        self._open_ports = open_ports
        self._family = family_of(address[0])
        self._ports: dict[int, _Port] = {}
        self._has_warned = False

    def send(self, question: bytes, flags: int, opt: bytes, take: Take) -> Sent | None:
        """Send a question from a port picked at random."""
        randomness = int.from_bytes(random_octets(4))
        try:
            port = self._port(randomness >> 16)
        except OSError as error:
            take(trouble_of(error))
            return None
        message_id = randomness & 0xFFFF
        while message_id in port.waiting:
            message_id = int.from_bytes(random_octets(2))
        sent = Sent(question, take, message_id, port.waiting)
        try:
            port.socket.send(messages.query(message_id, flags, question, opt))
        except BlockingIOError:
            pass  # as if it were lost
        except OSError as error:
            take(trouble_of(error))
            return None
        port.uses += 1
        port.waiting[message_id] = sent
        return sent

    def renew(self, seconds: float) -> None:
        """Do nothing, as datagrams are independent."""

    def close(self) -> None:
        """Close every port."""
        for place in list(self._ports):
            self._close(place)

    def _port(self, randomness: int) -> _Port:
        """Return a random port, opened if needed; at the limit, one of the open ones."""
        place = randomness % PORTS
        port = self._ports.get(place)
        if port is not None:
            if port.uses < MAX_USES_OF_A_PORT or port.waiting:
                self._open_ports.use(port)
                return port
            self._close(place)
        if not self._open_ports.make_room() and self._ports:
            return self._any_open(randomness)
        try:
            return self._open(place)
        except OSError as error:
            if error.errno not in EXHAUSTED or not self._ports:
                raise
            self._warn(error)
            return self._any_open(randomness)

    def _any_open(self, randomness: int) -> _Port:
        opened = list(self._ports.values())
        return opened[randomness % len(opened)]

    def _open(self, place: int) -> _Port:
        opened = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            opened.connect(self._address)
            port = _Port(opened, self._read, partial(self._close, place))
            self._open_ports.watch(port)
        except OSError:
            opened.close()
            raise
        self._ports[place] = port
        return port

    def _close(self, place: int) -> None:
        port = self._ports.pop(place)
        self._open_ports.forget(port)
        port.socket.close()

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "out of file descriptors: using %d ports for %s instead of %d (%s)",
                len(self._ports),
                self._address[0],
                PORTS,
                error.strerror,
            )

    def _read(self, port: _Port) -> None:
        """Read one datagram; the event loop calls again for the next."""
        try:
            data = port.socket.recv(MAX_DATAGRAM)
        except BlockingIOError:
            return
        except OSError as error:  # an ICMP error: the port is closed
            _tell(port, trouble_of(error))
            return
        sent = port.waiting.get(int.from_bytes(data[:2]))
        if sent is None:
            self._count_stranger(port)
            return
        question = sent.question
        echoed = data[12 : 12 + len(question)]
        if echoed == question:
            self._deliver(port, sent, data)
        elif is_same(echoed, question):
            sent.forget()
            sent.take(Trouble(TroubleKind.FOLDED))
        elif len(data) == messages.HEADER_OCTETS and (data[2] & TC or data[3] & 0xF):
            self._deliver(port, sent, data)  # cut to its header, or an old server's FORMERR
        else:
            self._count_stranger(port)

    def _deliver(self, port: _Port, sent: Sent, data: bytes) -> None:
        """Deliver a response that repeats the ID and the question of a query.

        Only the header of a truncated response is parsed, as it may be cut anywhere.  After a
        malformed one, a valid one is still awaited, as the first may have been forged.
        """
        if not is_response(data):
            self._count_stranger(port)
            return
        if data[2] & TC:
            response = _without_records(data, sent.question)
        else:
            try:
                response = plain_answers.parse(data, sent.question)
            except BadMessage as error:
                sent.take(Trouble(TroubleKind.USELESS, f"malformed response: {error}"))
                return
        port.strangers = 0
        sent.forget()
        sent.take(response)

    def _count_stranger(self, port: _Port) -> None:
        """Switch to TCP on a port that receives many wrong answers, possibly guesses."""
        if not port.waiting:
            return  # late answers
        port.strangers += 1
        if port.strangers < MAX_STRANGERS:
            return
        port.strangers = 0
        port.uses = MAX_USES_OF_A_PORT
        _tell(port, Trouble(TroubleKind.FLOODED))


def _without_records(data: bytes, question: bytes) -> Response:
    """Parse only the header of a truncated response."""
    flags = int.from_bytes(data[2:4])
    return Response(int.from_bytes(data[:2]), flags, flags & 0xF, question, (), (), ())


def _tell(port: _Port, trouble: Trouble) -> None:
    """Report to all queries waiting on a port."""
    for sent in list(port.waiting.values()):
        sent.forget()
        sent.take(trouble)

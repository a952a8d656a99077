"""Questions over UDP: from random ports, with random IDs, and checked responses.

A forged answer must come from the upstream's address to one of the ports, repeat the
ID and the question with its case (RFC 5452); others are ignored, and the true answer is still
awaited.  If a port receives many such answers, its questions are asked over TCP instead.

A port is opened when it is first picked, and closed when it was not used for a while, or when
another one needs its descriptor; its replacement gets a new random port.
"""

import errno
import logging
import os
import select
import socket
import time
from array import array
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Sequence
from functools import partial

from containerdns.config.machine import family_of, socket_address
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream import plain_answers
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.upstream.questions import is_same
from containerdns.errors import BadMessage
from containerdns.tasks import event_loop, many_datagrams, udp_segmentation
from containerdns.tasks.many_datagrams import Areas, Layout, send_until_error
from containerdns.tasks.udp_segmentation import (
    MIN_ALIKE,
    MIN_DIVIDED,
    REFUSALS,
    Division,
    SegmentedMessages,
    divide,
)
from containerdns.upstream.exchanges import (
    EXHAUSTED,
    Home,
    PlainTaker,
    Sent,
    Take,
    Trouble,
    TroubleKind,
    is_response,
    plain_queries,
    random_octets,
    trouble_of,
)

PORTS = 512  # places for sockets, each with a random port of the system's choice, contract 5
SWEEP_EVERY = 10.0  # seconds; a port that was not used between two sweeps is closed
MAX_CLOSED = 32  # ports at once, within half a millisecond
CLOSE_MORE_AFTER = 0.002  # seconds
MAX_USES_OF_A_PORT = 256  # then it is replaced, so that no port can be learned
MAX_STRANGERS = 16  # wrong answers to one port, RFC 5452 section 9.3
MAX_AT_ONCE = 64  # datagrams read in one pass of the event loop, besides those of the last port
LONG_READ = 0.001  # seconds of a pass; after a longer one, as when all are truncated, half as many
MAX_DATAGRAM = (
    4160  # octets read; more than we advertise, and no multiple of 4096: see server/batch
)
MAX_QUERY = 320  # octets of a plain query: a header, a name of 255, an OPT without options
TC = messages.TC >> 8  # in the third octet of a header

log = logging.getLogger(__name__)


class _Port:
    """One socket, connected so that the system drops what comes from elsewhere."""

    __slots__ = ("close", "is_used", "read", "socket", "strangers", "uses", "waiting")

    def __init__(
        self,
        connected: socket.socket,
        read: Callable[["_Port"], int],
        close: Callable[[], None],
    ) -> None:
        self.socket = connected
        self.read = read
        self.close = close
        self.waiting: Home = {}
        self.uses = 0
        self.is_used = True  # since the last sweep
        self.strangers = 0


class OpenPorts:
    """The open ports of all upstreams, least recently used first, with a common limit.

    On Linux the event loop watches one descriptor in place of all of them: it takes as long for
    one that is ready as reading its datagram.

    Attributes:
        many: Many datagrams per system call; None where that does not work.
        at_once: How many datagrams are read in a pass.
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
            event_loop.prefer(self._epoll)
            loop.add_reader(self._epoll, self._read)
        self.many = _Many() if many_datagrams.works() else None
        self.at_once = MAX_AT_ONCE

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
        """Read from ports that have some datagrams; the event loop calls again for the rest."""
        assert self._epoll is not None
        began = time.perf_counter()
        left = self.at_once
        for descriptor, _ in self._epoll.poll(0, left):
            port = self._by_descriptor.get(descriptor)
            if port is not None:  # else closed by what another one received
                left -= port.read(port)
            if left <= 0:
                break
        if time.perf_counter() - began > LONG_READ:
            self.at_once = max(self.at_once // 2, 1)
        elif self.at_once < MAX_AT_ONCE:
            self.at_once += 1

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
        idle = [port for port in self._ports if not port.is_used]
        for port in self._ports:
            port.is_used = False
        self._close_unused(idle)

    def _close_unused(self, idle: list[_Port]) -> None:
        """Close some ports that are still not used, and the others a moment later."""
        for _ in range(min(len(idle), MAX_CLOSED)):
            port = idle.pop()
            if port in self._ports and not port.is_used and not port.waiting:
                port.close()
        self._sweeping = None
        if idle:
            self._sweeping = self._loop.call_later(CLOSE_MORE_AFTER, self._close_unused, idle)
        elif self._ports:
            self._sweeping = self._loop.call_later(SWEEP_EVERY, self._sweep)


class _Many:
    """Many datagrams per system call, over the ports of all upstreams."""

    def __init__(self) -> None:
        self._areas = Areas(Layout(MAX_DATAGRAM, MAX_QUERY))
        self._segmented = SegmentedMessages(self._areas) if udp_segmentation.works() else None
        self._receive, self._send = many_datagrams.calls()

    def receive(self, port: socket.socket, most: int) -> list[bytes]:
        """Return datagrams that have arrived, at most `SLOTS`.

        Raises:
            OSError: There are none, or the other side's port is closed.
        """
        areas = self._areas
        areas.headers[:] = areas.fresh_headers
        count = self._receive(port.fileno(), areas.received, most, 0, None)
        if count < 0:
            raise many_datagrams.error()
        starts = range(0, count * MAX_DATAGRAM, MAX_DATAGRAM)
        lengths = areas.lengths[:count].tolist()
        octets = areas.incoming
        return [octets[at : at + n] for at, n in zip(starts, lengths, strict=True)]

    def send(self, port: socket.socket, queries: Sequence[bytes]) -> Sequence[int]:
        """Send queries, those of one length together.

        What does not fit into the socket's buffer counts as sent, as if it were lost.

        Returns:
            The numbers of those that could not be sent.
        """
        areas, count = self._areas, len(queries)
        lengths = list(map(len, queries))
        order = sorted(range(count), key=lengths.__getitem__, reverse=True)
        sizes = sorted(lengths, reverse=True)
        for number, at in zip(order, range(0, count * MAX_QUERY, MAX_QUERY), strict=True):
            areas.outgoing[at : at + lengths[number]] = queries[number]
        start, code = 0, 0
        is_worth_it = count >= MIN_DIVIDED and len(set(sizes)) <= count // MIN_ALIKE
        if self._segmented is not None and is_worth_it:
            start, code = self._send_segmented(port, sizes, self._segmented)
        if code in REFUSALS:
            log.info("no UDP segmentation offload for upstreams: %s", os.strerror(code))
            self._segmented, code = None, 0
        if not code and start < count:
            areas.outgoing_lengths[:count] = array("Q", sizes)
            start, code = send_until_error(self._send, port.fileno(), areas.sent, start, count)
        return () if code == errno.EAGAIN else order[start:]

    def _send_segmented(
        self, port: socket.socket, sizes: list[int], segmented: SegmentedMessages
    ) -> tuple[int, int]:
        """Send slots in the order of their sizes; return where it stopped, and the error."""
        counts = divide(sizes)
        segmented.lay_out(Division(list(range(len(sizes))), counts), sizes)
        place = port.fileno(), segmented.headers, 0, len(counts)
        stopped, code = send_until_error(self._send, *place)
        segmented.clear()
        return sum(counts[:stopped]), code


class UpstreamDatagrams:
    """UDP to one upstream."""

    def __init__(self, address: tuple[str, int], open_ports: OpenPorts, plain: PlainTaker) -> None:
        self._address = address
        self._open_ports = open_ports
        self._plain = plain
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

    def send_plain(
        self, questions: Sequence[PlainQuestion]
    ) -> tuple[Home, Sequence[PlainQuestion]]:
        """Send plain questions, at most `SLOTS`, from one port picked at random.

        Returns:
            All queries waiting on that port, by ID, and the questions that were not sent.
        """
        many = self._open_ports.many
        if many is None:
            return {}, questions
        try:
            port = self._port(int.from_bytes(random_octets(2)))
        except OSError:  # those who send them one by one find out, too
            return {}, questions
        queries = plain_queries(questions, port.waiting, is_padded=False)
        unsent = [questions[number] for number in many.send(port.socket, queries)]
        for plain in unsent:
            del port.waiting[plain.message_id]
        port.uses += len(questions) - len(unsent)
        return port.waiting, unsent

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
            opened.connect(socket_address(*self._address))
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

    def _read(self, port: _Port) -> int:
        """Read what has arrived; return the number of datagrams."""
        many, most = self._open_ports.many, self._open_ports.at_once
        try:
            arrived = many.receive(port.socket, most) if many else [port.socket.recv(MAX_DATAGRAM)]
        except BlockingIOError:
            return 0
        except OSError as error:  # an ICMP error: the port is closed
            self._tell(port, trouble_of(error))
            return 1
        answers: list[tuple[PlainQuestion, PlainAnswer]] = []
        for data in arrived:
            waiting = port.waiting.get(int.from_bytes(data[:2]))
            if waiting.__class__ is PlainQuestion:
                answer = self._plain.read(data, waiting)
                if answer is not None:
                    del port.waiting[waiting.message_id]
                    answers.append((waiting, answer))
                    continue
            self._take(port, data)
        if answers:
            port.strangers = 0
            self._plain.take(answers)
        return len(arrived)

    def _take(self, port: _Port, data: bytes) -> None:
        """Process a datagram that is not a plain answer."""
        sent = self._sent(port, int.from_bytes(data[:2]))
        if sent is None:
            self._count_stranger(port)
            return
        question = sent.question
        echoed = data[12 : 12 + len(question)]
        if echoed == question or (sent.ignores_case and is_same(echoed, question)):
            self._deliver(port, sent, data)
        elif is_same(echoed, question):
            sent.forget()
            sent.take(Trouble(TroubleKind.FOLDED))
        elif len(data) == messages.HEADER_OCTETS and (data[2] & TC or data[3] & 0xF):
            self._deliver(port, sent, data)  # cut to its header, or an old server's FORMERR
        else:
            self._count_stranger(port)

    def _sent(self, port: _Port, message_id: int) -> Sent | None:
        """Return what waits for a response with an ID, which is no plain question any more."""
        waiting = port.waiting.get(message_id)
        if isinstance(waiting, PlainQuestion):
            self._plain.become_flight(waiting.question)
            waiting = port.waiting.get(message_id)
        assert not isinstance(waiting, PlainQuestion)
        return waiting

    def _tell(self, port: _Port, trouble: Trouble) -> None:
        """Report to all queries waiting on a port."""
        for message_id in list(port.waiting):
            sent = self._sent(port, message_id)
            if sent is not None:  # else forgotten by what another one did
                sent.forget()
                sent.take(trouble)

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
        self._tell(port, Trouble(TroubleKind.FLOODED))


def _without_records(data: bytes, question: bytes) -> Response:
    """Parse only the header of a truncated response."""
    flags = int.from_bytes(data[2:4])
    return Response(int.from_bytes(data[:2]), flags, flags & 0xF, question, (), (), ())

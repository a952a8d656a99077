"""DNS over UDP, many datagrams per system call: Linux's `recvmmsg` and `sendmmsg`.

A head in the memory of `tasks/many_datagrams` is here the sender's address, then the control
message with the address asked.  It is reused unchanged for the reply, as its destination and
source address, so that no address ever becomes a Python object.  A part of it is also the key to
the state of the client.  A reply is written over its query: ID and question are where they are
needed.

Measured: the Python code takes about 1 µs per query, the system calls five times that.
"""

import asyncio
import logging
import socket
import time
from array import array
from functools import cache
from itertools import groupby
from typing import Final, NamedTuple

from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import UNKNOWN, Entry
from containerdns.core.protocol.query_history import PastOutcome, QueryStamp, Row
from containerdns.core.protocol.synthesised_answers import Template
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.upstream.questions import Question
from containerdns.server.backlog import Backlog, Late
from containerdns.server.replies import Replies
from containerdns.server.sockets import IP_PKTINFO, Listener
from containerdns.server.udp import QUERY_OCTETS, TURN, Client, Datagrams
from containerdns.tasks import event_loop, many_datagrams
from containerdns.tasks.many_datagrams import HEAD_OCTETS, SLOTS, Call, Layout

log = logging.getLogger(__name__)

MAX_REPLY: Final = 1344  # octets; above messages.PAYLOAD_OCTETS, and below QUERY_OCTETS
MAX_TURN: Final = 0.002  # seconds without another look for timers, if nothing else is ready
ID_OCTETS: Final = 2  # of a message
ARCOUNT_AT: Final = 11  # in a message, the number of additional records: an OPT record, if any

_CONTROL_OCTETS: Final = {socket.AF_INET: 32, socket.AF_INET6: 40}  # CMSG_SPACE of pktinfo
_NAME_OCTETS: Final = {socket.AF_INET: 16, socket.AF_INET6: 28}
_CONTROL_AT: Final = {socket.AF_INET: 16, socket.AF_INET6: 32}  # offset in a head, aligned to 8
_ADDRESS: Final = {socket.AF_INET: slice(4, 8), socket.AF_INET6: slice(8, 24)}
_LOCAL: Final = {socket.AF_INET: slice(36, 40), socket.AF_INET6: slice(48, 64)}
_INTERFACE_AT: Final = {socket.AF_INET: 32, socket.AF_INET6: 64}
# From the sender's address to the queried address, without the port; the interface is
# between them for IPv4, and after them for IPv6.
_KEY_WILDCARD: Final = {socket.AF_INET: (4, 40), socket.AF_INET6: (8, 64)}
_KEY_ADDRESS: Final = {socket.AF_INET: (4, 8), socket.AF_INET6: (8, 28)}


class Answered(NamedTuple):
    """A plain question, its answer, and the upstream that it came from."""

    plain: PlainQuestion
    answer: PlainAnswer
    upstream: str


@cache
def works() -> bool:
    """Return whether this system has the calls, and control messages as expected."""
    return many_datagrams.works() and _echoes(*many_datagrams.calls())


class _Areas(many_datagrams.Areas):
    """The memory of both system calls, for one socket."""

    def __init__(self, family: int, is_wildcard: bool) -> None:
        known = socket.AddressFamily(family)
        control_octets = _CONTROL_OCTETS[known] if is_wildcard else 0
        names = _NAME_OCTETS[known], _CONTROL_AT[known], control_octets
        super().__init__(Layout(QUERY_OCTETS, 0, *names))
        interface_word = _INTERFACE_AT[known] // 4
        self.interfaces = memoryview(self.heads).cast("I")[interface_word :: HEAD_OCTETS // 4]


class BatchLoop:
    """One UDP socket, up to 64 datagrams per system call."""

    def __init__(self, listener: Listener, datagrams: Datagrams) -> None:
        family, is_wildcard = listener.family, not listener.local
        self._socket = listener.udp
        self._descriptor = listener.udp.fileno()
        self._family = family
        self._local = listener.local
        self._datagrams = datagrams
        self._first, self._with_options = datagrams.first, datagrams.with_options
        self._areas = _Areas(family, is_wildcard)
        self._receive, _ = many_datagrams.calls()
        self._clients: dict[bytes, Client] = {}
        self._generation = datagrams.generation
        self._slow_until = 0.0
        self._backlog = Backlog()
        self._is_working_off = False
        self._late: list[tuple[bytes, bytes]] = []
        self._answers: list[Answered] = []
        start, stop = (_KEY_WILDCARD if is_wildcard else _KEY_ADDRESS)[family]
        self._key = slice(start, stop)  # in a head
        self._replies = Replies(self._descriptor, self._areas, self._key)
        self._places = tuple(
            (
                at,  # of the message in the area
                at + ID_OCTETS,
                slice(slot * HEAD_OCTETS + start, slot * HEAD_OCTETS + stop),
                slice(at + ID_OCTETS, at + messages.HEADER_OCTETS),
            )
            for slot, at in enumerate(range(0, SLOTS * QUERY_OCTETS, QUERY_OCTETS))
        )
        self._no_interfaces = array("I", bytes(4 * SLOTS)) if is_wildcard else None

    @property
    def dropped(self) -> int:
        """The number of queries that were dropped because too many waited for the slow path."""
        return self._backlog.dropped

    def on_readable(self) -> None:
        """Answer a batch of the datagrams in the socket, and others while nothing else is ready."""
        areas = self._areas
        now = time.monotonic()
        self._slow_until, turn_ends = now + TURN, now + MAX_TURN
        while now < turn_ends:
            areas.headers[:] = areas.fresh_headers
            count = self._receive(self._descriptor, areas.received, SLOTS, 0, None)
            if count <= 0:
                return
            is_whole = self._answer(count, now)
            if count < SLOTS or not is_whole:  # another call gained nothing, or others follow
                return
            if not event_loop.is_alone(self._socket):
                return
            now = time.monotonic()

    def _answer(self, count: int, started: float) -> bool:
        """Answer a batch; return whether nothing is left to be done for any of the queries."""
        self._refresh()
        self._datagrams.packet_cache.begin_batch(started)
        stamp = QueryStamp("udp", time.time())
        rows: list[Row] = []
        sizes = self._reply(count, started, stamp, rows)
        self._datagrams.send_plain()
        self._send_all(sizes)
        if rows:
            self._note(rows, stamp, time.monotonic() - started)
        return len(rows) == count

    def _reply(self, count: int, started: float, stamp: QueryStamp, rows: list[Row]) -> list[int]:
        """Write replies over their queries; return their sizes, 0 for none or not yet."""
        cache, clients, areas = self._datagrams.packet_cache, self._clients, self._areas
        heads, octets = areas.heads, areas.incoming
        sizes: list[int] = []
        lengths = areas.lengths[:count].tolist()
        for length, (at, behind_id, key, head) in zip(lengths, self._places, strict=False):
            stop = at + length
            client = clients.get(heads[key]) or self._new_client(len(sizes), octets[at:stop])
            if client is None:
                sizes.append(0)
                continue
            if (
                (variant := client.latest) is not None
                and octets[at + ARCOUNT_AT]  # a quick look, for clients that also ask without
                and octets[(cut := stop - variant.sent_octets) : stop] == variant.sent
            ):
                folded = b""
                entry = client.before_opt.get(octets[behind_id:cut].lower(), UNKNOWN)
                tail = entry.tail if entry.era.is_current else cache.tail_of(entry, started)
                tail = variant.fitted(tail, entry.end, started) if tail else None
            else:
                entry = client.fast.get(folded := octets[behind_id:stop].lower(), UNKNOWN)
                if entry.has_letters and not octets[at:stop].endswith(entry.rest):
                    entry = UNKNOWN
                tail = entry.tail if entry.era.is_current else cache.tail_of(entry, started)
            if tail:
                entry.hits += 1
                outcome: Entry | Template = entry
                row: Row = (stamp, client.address, entry)
            else:
                data = octets[at:stop]
                folded = folded or data[ID_OCTETS:].lower()
                nearly = self._first if variant is None else self._with_options
                made = nearly(data, folded, client, stamp, started)
                if made is None:
                    sizes.append(self._forward(data, folded, client, len(sizes), started))
                    continue
                outcome, tail, row = made
            rows.append(row)
            size = (end := outcome.end) + len(tail)
            octets[head] = outcome.head
            octets[at + end : at + size] = tail
            sizes.append(size)
        return sizes

    def _refresh(self) -> None:
        """Use the current rights and views, with new clients if these have changed."""
        if self._datagrams.refresh() != self._generation:
            self._generation = self._datagrams.generation
            self._datagrams.drop(self._clients)
            self._clients = {}

    def _note(self, rows: list[Row], stamp: QueryStamp, seconds: float) -> None:
        """Record in the history what a batch answered directly, and how long it took."""
        stamp.ms = seconds * 1000
        self._datagrams.history.extend(rows)
        took = self._datagrams.counters.took
        if not self._datagrams.packet_cache.has_unusual:  # nearly always
            took("zone", seconds, len(rows))
            return
        sources = [row[2].source for row in rows]
        for source in set(sources):
            took(source, seconds, sources.count(source))

    def _forward(
        self, data: bytes, folded: bytes, client: Client, slot: int, started: float
    ) -> int:
        """Forward a plain question, or answer slowly; return the size of the reply, if any."""
        plain = self._datagrams.plain_question(data, folded, client, time.time())
        if plain is not None:
            plain.asker = self
            plain.head = self._head(slot)
            plain.client = client.address
            plain.started = started
            if self._datagrams.ask_plain(plain):
                return 0
        return self._answer_slowly(data, client, slot)

    def may_pass(self, plain: PlainQuestion, answer: PlainAnswer) -> bool:
        """Return whether no rule applies to an answer; see `Asker`."""
        return self._datagrams.may_pass(plain, answer)

    def take_answer(self, plain: PlainQuestion, answer: PlainAnswer, upstream: str) -> None:
        """Send the answer to a plain question, with others; see `Asker`."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._send_answers)
        self._answers.append(Answered(plain, answer, upstream))

    def take_resolution(self, plain: PlainQuestion, resolution: Resolution) -> None:
        """Send the result of a plain question that became a flight; see `Asker`."""
        head = plain.head
        client = self._clients.get(head[self._key]) or self._keep_client(head)
        reply = self._datagrams.finish_plain(plain, resolution, client)
        if reply is not None:
            self._send_later(head, reply)

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        self._late += [(plain.head, plain.response(answer)) for plain, answer, _ in answers]
        self._send_late()
        for plain, answer, upstream in answers:
            client = self._clients.get(plain.head[self._key])
            self._datagrams.keep_plain(plain, answer, upstream, client)
        now, clock = time.monotonic(), time.time()
        for started, run in groupby(answers, _started):  # those that arrived together
            seconds = now - started
            stamp = QueryStamp("udp", clock - seconds, seconds * 1000)
            rows: list[Row] = [
                (stamp, plain.client, _outcome(plain.question, answer.rcode, upstream))
                for plain, answer, upstream in run
            ]
            self._datagrams.note_plain(rows, seconds)

    def _answer_slowly(self, data: bytes, client: Client, slot: int) -> int:
        """Answer a query without a ready-made response; return its size, or 0 for none yet."""
        now = time.monotonic()
        if self._must_wait(now):
            self._wait(client.address, Late(self._head(slot), data), is_known=True)
            return 0
        reply = self._reply_to(data, client, slot, now)
        if reply is None:
            return 0
        at = slot * QUERY_OCTETS
        self._areas.outgoing[at : at + len(reply)] = reply
        return len(reply)

    def _reply_to(self, data: bytes, client: Client, slot: int, now: float) -> bytes | None:
        """Answer on the slow path; return the reply, or None for none yet."""
        reply = self._datagrams.answer(data, client, now)
        if isinstance(reply, Forward):
            head = self._head(slot)
            self._datagrams.forward(
                reply, data, client, now, lambda octets: self._send_later(head, octets)
            )
            return None
        return None if reply is None or len(reply) > MAX_REPLY else reply

    def _must_wait(self, now: float) -> bool:
        """Return whether the time of this pass for the slow path is used up."""
        return now >= self._slow_until or len(self._backlog) > 0

    def _wait(self, address: bytes, late: Late, *, is_known: bool) -> None:
        self._backlog.add(address, late, is_known=is_known)
        if not self._is_working_off:
            self._is_working_off = True
            asyncio.get_running_loop().call_soon(self._work_off)

    def _work_off(self) -> None:
        """Answer some of the queries that wait, once in each pass while there are any."""
        self._is_working_off = False
        if self._socket.fileno() < 0:
            return
        self._refresh()
        now = time.monotonic()
        self._slow_until = now + TURN
        while len(self._backlog) and now < self._slow_until:
            head, data = self._backlog.take()
            self._areas.heads[:HEAD_OCTETS] = head  # free between two batches
            client = self._clients.get(head[self._key]) or self._keep_client(head)
            reply = self._reply_to(data, client, 0, now)
            if reply is not None:
                self._send_later(head, reply)
            now = time.monotonic()
        if len(self._backlog):
            self._is_working_off = True
            asyncio.get_running_loop().call_soon(self._work_off)

    def _send_later(self, head: bytes, reply: bytes) -> None:
        """Send a reply with the others that are ready in this turn of the event loop.

        Args:
            head: The slot's head when the query arrived.
            reply: The response.
        """
        if len(reply) > MAX_REPLY:
            return
        if not self._late:
            asyncio.get_running_loop().call_soon(self._send_late)
        self._late.append((head, reply))

    def _send_late(self) -> None:
        late, self._late = self._late, []
        if self._socket.fileno() < 0:  # closed meanwhile; its number may be another's now
            return
        areas = self._areas  # free between two batches
        for first in range(0, len(late), SLOTS):
            part = late[first : first + SLOTS]
            for slot, (head, reply) in enumerate(part):
                areas.heads[slot * HEAD_OCTETS : (slot + 1) * HEAD_OCTETS] = head
                at = slot * QUERY_OCTETS
                areas.outgoing[at : at + len(reply)] = reply
            self._send_all([len(reply) for _, reply in part])

    def _send_all(self, sizes: list[int]) -> None:
        """Send the replies; 0 octets are none."""
        if self._no_interfaces is not None:  # replies may be routed differently
            self._areas.interfaces[: len(sizes)] = self._no_interfaces[: len(sizes)]
        self._replies.send(sizes)

    def _new_client(self, slot: int, data: bytes) -> Client | None:
        """Return the state of a client; None if its query has to wait."""
        head = self._head(slot)
        address, local = self._addresses(head)
        is_known = self._datagrams.knows(address, local)
        if not is_known and self._must_wait(time.monotonic()):
            self._wait(address, Late(head, data), is_known=False)
            return None
        return self._keep_client(head)

    def _keep_client(self, head: bytes) -> Client:
        client = self._clients[head[self._key]] = self._datagrams.client(*self._addresses(head))
        return client

    def _addresses(self, head: bytes) -> tuple[bytes, bytes]:
        """Return the octets of the client's address and of the queried one."""
        return head[_ADDRESS[self._family]], self._local or head[_LOCAL[self._family]]

    def _head(self, slot: int) -> bytes:
        return self._areas.heads[slot * HEAD_OCTETS : (slot + 1) * HEAD_OCTETS]


def _started(answered: Answered) -> float:
    return answered.plain.started


def _outcome(question: Question, rcode: int, upstream: str) -> PastOutcome:
    name, qtype, *_ = question
    return PastOutcome(name, qtype, rcode, "upstream", upstream)


def _echoes(receive: Call, send: Call) -> bool:
    """Test the calls: datagrams sent to a socket of ours must come back through the areas."""
    areas = _Areas(socket.AF_INET, is_wildcard=True)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        try:
            ours.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            ours.bind(("127.0.0.1", 0))
            theirs.connect(ours.getsockname())
            theirs.settimeout(0.1)
            theirs.send(b"query")
            count = receive(ours.fileno(), areas.received, SLOTS, socket.MSG_DONTWAIT, None)
            local = areas.heads[_LOCAL[socket.AF_INET]]
            if count != 1 or areas.lengths[0] != 5 or local != bytes([127, 0, 0, 1]):
                return False
            areas.outgoing_lengths[0] = 5
            areas.interfaces[0] = 0
            return bool(send(ours.fileno(), areas.sent, 1, 0) == 1 and theirs.recv(9) == b"query")
        except OSError:
            return False

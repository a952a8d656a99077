"""Zone transfers: AXFR (RFC 5936) and IXFR (RFC 1995) over TCP, and NOTIFY (RFC 1996)."""

import asyncio
import logging
import secrets
import socket
import struct
import time
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from ipaddress import ip_address
from itertools import chain, count
from pathlib import Path
from typing import Final, Protocol

from containerdns.config.files import ENCODING
from containerdns.config.machine import family_of, socket_address
from containerdns.core import names
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol import messages, tsig
from containerdns.core.protocol.messages import RR, Body, Query
from containerdns.core.protocol.respond import Peer, Transfer
from containerdns.core.zone import journal
from containerdns.core.zone.journal import Difference
from containerdns.core.zone.secondary_copies import Copy
from containerdns.errors import BadSettings
from containerdns.server.tcp import Connection
from containerdns.tasks.turns import turns

log = logging.getLogger(__name__)

MESSAGE_OCTETS: Final = 4000  # octets before compression; encoded within half a millisecond
KEEP: Final = 60.0  # seconds for which the bodies of a zone are kept after their last use
MAX_AT_ONCE: Final = 8  # transfers
NOTIFY_WAITS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds for a response to each attempt
NOTIFY_PAUSE: Final = 0.2  # seconds between two for one zone, so that changes are combined
NOTIFY: Final = 4 << 11  # opcode, RFC 1996
RECORD_OCTETS: Final = 10  # type, class, TTL and length


class Zones(Protocol):
    """The zones available for transfer."""

    async def current(self, apex: str) -> Copy | None:
        """Return the current copy of a zone, to be read at once; None if it is not ours."""


def read_keys(paths: Sequence[Path]) -> tuple[tsig.Key, ...]:
    """Read the files of `--transfer-key`.

    Raises:
        BadSettings: A file cannot be read, or a line is invalid.
    """
    keys = []
    for path in paths:
        try:
            lines = path.read_text(encoding=ENCODING).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadSettings("--transfer-key", str(path), f"a readable file ({reason})") from error
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            try:
                keys.append(tsig.key_of(text))
            except ValueError as error:
                raise BadSettings("--transfer-key", f"{path}:{number}", str(error)) from error
    return tuple(keys)


class Transfers:
    """Sends zones, in whole or as differences."""

    def __init__(self, zones: Zones, keys: Sequence[tsig.Key] = ()) -> None:
        """Initialise; with keys, transfers must be signed with one of them."""
        self._zones = zones
        self._keys = keys
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._zone_bodies: dict[str, _ZoneBodies] = {}  # by apex

    def use(self, keys: Sequence[tsig.Key]) -> None:
        """Require one of these keys from now on, or none if there are none."""
        self._keys = keys

    async def send(
        self,
        transfer: Transfer,
        peer: Peer,
        connection: Connection,
    ) -> None:
        """Send a transfer message by message, as fast as the client reads.

        Raises:
            ConnectionResetError: The client disconnected.
        """
        async with aclosing(self.messages(transfer, peer.address)) as made:
            async for octets in made:
                await connection.drain()
                connection.send(octets)

    async def messages(self, transfer: Transfer, address: bytes) -> AsyncGenerator[bytes, None]:
        """Yield the messages of a transfer, each made when it is wanted.

        Args:
            transfer: What a client asked for.
            address: The octets of the client's address.
        """
        query = transfer.query
        started = time.monotonic()
        sent = 0
        signature = self._signature(transfer)
        if signature is None and self._keys:
            yield _refusal(query)
            return
        async with self._places:
            copy = await self._zones.current(transfer.apex)
            if copy is None:  # the zone was removed after the query arrived
                yield _refusal(query)
                return
            what, bodies = self._bodies(copy, transfer)
            with closing(bodies):
                for body in bodies:
                    octets = _message(query, body)
                    if signature is not None:
                        sign = tsig.sign_next if sent else tsig.sign_response
                        octets, signature = sign(octets, signature, time.time())
                    yield octets
                    sent += 1
                    await turns().offer(address)
        log.info(
            "%s of %s to %s: %s, %d %s in %.3f s",
            messages.type_text(query.qtype),
            transfer.apex,
            ip_address(address),
            what,
            sent,
            "message" if sent == 1 else "messages",
            time.monotonic() - started,
        )

    def _bodies(self, copy: Copy, transfer: Transfer) -> tuple[str, Generator[Body, None, None]]:
        """Return a description of the response for the log, and the bodies of its messages.

        The records are those of this moment, even if they are read slowly.
        """
        query = transfer.query
        soa = copy.soa
        if query.qtype == messages.IXFR and query.serial is not None:
            if not journal.is_newer(copy.serial, query.serial):
                return "up to date", _encoded((soa,), query)
            changes = copy.since(query.serial)
            if changes is not None:
                return "differences", _encoded(_differences(soa, changes), query)
        known = self._zone_bodies.get(transfer.apex)
        if known is None or not known.are_of(copy):
            known = self._zone_bodies[transfer.apex] = _ZoneBodies(copy, query)
        return "the whole zone", self._in_use(transfer.apex, known)

    def _in_use(self, apex: str, whole: "_ZoneBodies") -> Generator[Body, None, None]:
        """Yield the bodies of a zone, and drop them when they were not used for a while."""
        whole.users += 1
        try:
            yield from whole.all()
        finally:
            whole.users -= 1
            asyncio.get_running_loop().call_later(KEEP, self._drop, apex, whole)

    def _drop(self, apex: str, whole: "_ZoneBodies") -> None:
        if not whole.users and self._zone_bodies.get(apex) is whole:
            del self._zone_bodies[apex]

    def _signature(self, transfer: Transfer) -> tsig.SignatureStanding | None:
        """Return the query's signature; a wrong one was already refused."""
        at = transfer.query.tsig
        if at is None:
            return None
        found = tsig.standing(transfer.data, at, self._keys, time.time())
        return None if found.error else found


class Notifier:
    """Sends NOTIFY to secondaries when a zone changes."""

    def __init__(self, targets: Sequence[Endpoint], key: tsig.Key | None = None) -> None:
        """Initialise without sending."""
        self._news: dict[Endpoint, dict[str, RR]] = {}
        self._wakers: dict[Endpoint, asyncio.Event] = {}
        self._has_changed = asyncio.Event()
        self.use(targets, key)

    def use(self, targets: Sequence[Endpoint], key: tsig.Key | None) -> bool:
        """Set the targets and the key; return whether any target is new."""
        self._key = key
        is_new = not self._news.keys() >= set(targets)
        self._news = {target: self._news.get(target, {}) for target in targets}
        self._wakers = {target: self._wakers.get(target, asyncio.Event()) for target in targets}
        self._has_changed.set()
        return is_new

    def changed(self, apex: str, soa: RR) -> None:
        """Send a zone's new SOA to every target soon."""
        for target, news in self._news.items():
            news[apex] = soa
            self._wakers[target].set()

    async def run(self) -> None:
        """Notify the targets until cancelled, including targets added by a reload."""
        tasks: dict[Endpoint, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._has_changed.clear()
                for target in tasks.keys() - self._news.keys():
                    tasks.pop(target).cancel()
                for target in self._news.keys() - tasks.keys():
                    tasks[target] = group.create_task(self._notify(target))
                await self._has_changed.wait()

    async def _notify(self, target: Endpoint) -> None:
        """Notify one target, with retries; it will request the newest serial anyway."""
        news, waker = self._news[target], self._wakers[target]
        attempt = 0
        while True:
            await waker.wait()
            pending = dict(news)
            answered = await self._ask(target, pending, NOTIFY_WAITS[attempt])
            for apex, soa in pending.items():
                if apex in answered and news[apex] is soa:
                    del news[apex]
            attempt = 0 if answered else attempt + 1
            if attempt == len(NOTIFY_WAITS):
                log.warning("%s does not respond to NOTIFY", target)
                news.clear()
                attempt = 0
            if not news:
                waker.clear()
            await asyncio.sleep(NOTIFY_PAUSE)

    async def _ask(self, target: Endpoint, news: dict[str, RR], wait: float) -> set[str]:
        """Send a NOTIFY for each zone; return the zones that were acknowledged in time."""
        loop = asyncio.get_running_loop()
        apexes = {secrets.token_bytes(2): apex for apex in news}
        answered: set[str] = set()
        family = family_of(target.host)
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(socket_address(target.host, target.port))
                for message_id, apex in apexes.items():
                    asking.send(self._query(message_id, apex, news[apex]))
                async with asyncio.timeout(wait):
                    while len(answered) < len(news):
                        response = await loop.sock_recv(asking, messages.PAYLOAD_OCTETS)
                        answered.add(apexes.get(response[:2], ""))
                        answered.discard("")
            except TimeoutError:
                pass
            except OSError as error:  # port closed
                log.debug("NOTIFY to %s: %s", target, error)
                await asyncio.sleep(wait)
        return answered

    def _query(self, message_id: bytes, apex: str, soa: RR) -> bytes:
        """Return a NOTIFY with the new SOA as a hint (RFC 1996 section 3.7)."""
        name = names.to_wire(apex)
        body = messages.encode(name, [soa])
        header = message_id + struct.pack("!HHHHH", NOTIFY | messages.AA, 1, 1, 0, 0)
        question = name + struct.pack("!HH", messages.SOA, messages.IN)
        message = header + question + body.octets
        return tsig.sign_query(message, self._key, time.time()) if self._key else message


class _ZoneBodies:
    """The messages of a whole zone without their heads, made once for every client that copies it.

    Each is made when the first client comes to it; the others, and clients that copy the zone
    later, send the same octets.

    Attributes:
        users: How many transfers are reading them.
    """

    def __init__(self, copy: Copy, query: Query) -> None:
        """Initialise with the present records; a query may have another spelling."""
        self.users = 0
        self._copy, self._version = copy, copy.version
        soa = copy.soa
        self._made: list[Body] = []
        self._chunks = _chunks(chain((soa,), copy.records(), (soa,)))
        self._next: list[RR] | None = None  # kept until it is encoded, so that none is left out
        self._query = query

    def are_of(self, copy: Copy) -> bool:
        """Return whether these are the present records of a copy."""
        return self._copy is copy and self._version == copy.version

    def all(self) -> Iterator[Body]:
        """Yield all bodies, those first that are made already."""
        for number in count():
            if number == len(self._made):
                self._next = self._next or next(self._chunks, None)
                if self._next is None:
                    return
                self._made.append(_body(self._next, self._query))
                self._next = None
            yield self._made[number]


def _differences(soa: RR, changes: Sequence[Difference]) -> Iterator[RR]:
    """Yield the records of an incremental transfer (RFC 1995 section 4)."""
    yield soa
    for change in changes:
        yield journal.with_serial(soa, change.before)
        yield from change.removed
        yield journal.with_serial(soa, change.after)
        yield from change.added
    yield soa


def _chunks(records: Iterable[RR]) -> Iterator[list[RR]]:
    """Divide records into messages."""
    chunk: list[RR] = []
    size = 0
    for record in records:
        octets = len(record.owner) + RECORD_OCTETS + len(record.rdata)
        if chunk and size + octets > MESSAGE_OCTETS:
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += octets
    yield chunk


def _encoded(records: Iterable[RR], query: Query) -> Generator[Body, None, None]:
    """Yield the bodies of the messages that answer a query."""
    for chunk in _chunks(records):
        yield _body(chunk, query)


def _body(records: Sequence[RR], query: Query) -> Body:
    """Encode the records of a message, without the offsets that only shorter ones need."""
    body = messages.encode(query.question[:-4], records)
    is_short = len(body.octets) <= MESSAGE_OCTETS
    return body._replace(ends=(), ttl_offsets=()) if is_short else body


def _message(query: Query, body: Body) -> bytes:
    opt = messages.opt_record() if query.edns else b""
    return messages.assemble(query, messages.AA, body, messages.TCP_OCTETS, opt)


def _refusal(query: Query) -> bytes:
    limit = messages.PLAIN_OCTETS
    return messages.assemble(query, messages.REFUSED, messages.EMPTY_BODY, limit)

"""DNS over UDP: how a datagram is answered, and the plain loop over a socket.

`server/batch` receives many datagrams per system call and answers most of them itself;
where it does not work, `PlainLoop` does the same one by one.  Both use `Datagrams` for
queries without a ready-made response.
"""

import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import Entry, PacketCache, Table
from containerdns.core.protocol.query_history import QueryStamp, Row
from containerdns.core.protocol.query_variants import (
    OPT_OCTETS,
    PLAIN_ENDS,
    Variant,
    opt_start,
)
from containerdns.core.protocol.rate_limit import Limiter
from containerdns.core.protocol.respond import Peer, Reply, Transfer
from containerdns.core.protocol.synthesised_answers import Template
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.zone.views import View, Views
from containerdns.server.answering import Answering
from containerdns.server.sockets import IP_PKTINFO, Listener

log = logging.getLogger(__name__)

QUERY_OCTETS: Final = 2112  # longer than any legitimate query; truncated ones fail to parse
MAX_QUERY_FLAGS: Final = b"\7"  # in octet 2 of a message: AA, TC and RD; with others it is no query
MAX_CLIENTS: Final = 8192  # addresses with a cached view
FREED_AT_ONCE: Final = 256  # states of clients and their variants, within 0.1 ms
MAX_VARIANTS: Final = 64  # OPT records per client; then its own are cleared
MAX_ALL_VARIANTS: Final = 16384  # for all clients, about 10 MB; then all are cleared
MAX_ASKED_ONCE: Final = 4096  # queries of up to 300 octets; then all are forgotten
# Seconds that the plain loop, and the slow path of `server/batch`, have in each pass.
TURN: Final = 0.0005
PER_CLOCK: Final = 16  # datagrams between checks of the clock


# What has the head of a response and the end of its question, what follows that, and the row of the
# history.
Made = tuple[Entry | Template, bytes, Row]


class Client:
    """The state of a client's address, while views are valid.

    Attributes:
        ready: The ready-made responses of its view.
        fast: The same by query; nothing if every query must take the slow path.
        is_quick: It may ask, and not every query must take the slow path.
        variants: The variants of its OPT records.
        latest: That of its last query with options: most clients send the same ones again.
        before_opt: Those of the responses in `fast` that take its options, by what precedes the OPT
            record of a query.
    """

    __slots__ = (
        "_fast",
        "_is_slow",
        "address",
        "before_opt",
        "fast",
        "is_quick",
        "latest",
        "local",
        "peer",
        "ready",
        "slipped",
        "variants",
        "view",
    )

    def __init__(self, peer: Peer, ready: Table, *, is_slow: bool) -> None:
        self.address = peer.address
        self.local = peer.local
        self.peer = peer
        self.slipped = replace(peer, is_slipped=True)
        self.view: View = peer.view
        self.is_quick = not is_slow and peer.view.may_ask
        self._is_slow = is_slow
        self.variants: dict[bytes, Variant] = {}
        self.latest: Variant | None = None
        self.take(ready)

    def take(self, table: Table) -> None:
        """Use this table of its view from now on."""
        self.ready = table
        self._fast = Table() if self._is_slow else table
        self.fast = self._fast.by_query
        self.expect(self.latest)

    def expect(self, variant: Variant | None) -> None:
        """Expect queries with this variant next."""
        self.latest = variant
        self.before_opt = self._fast.before_opt[variant is not None and variant.wants_dnssec]


class Datagrams:
    """Shared by all UDP sockets: clients, limits, the slow path.

    Attributes:
        limiter: The rate limit, if any.
        ask_plain: `Resolver.ask_plain`.
        send_plain: `Resolver.send_plain`.
    """

    def __init__(self, views: Views, packet_cache: PacketCache, answering: Answering) -> None:
        self.packet_cache = packet_cache
        self.history = answering.history
        self.counters = answering.counters
        self._views = views
        self._answering = answering
        self.limiter: Limiter | None = None
        self._log_queries = False
        self._clients: dict[tuple[bytes, bytes], Client] = {}
        self._former: dict[tuple[bytes, bytes], Client] = {}  # not seen since there were too many
        self._dropped: list[dict[Any, Client]] = []
        self._synthesised = answering.synthesised
        self._plain_questions = answering.plain_questions
        self.ask_plain, self.send_plain = answering.ask_plain, answering.send_plain
        self._asked_once: set[bytes] = set()  # queries, so that those repeated are cached
        self._variants = 0  # created since all were cleared
        self._epoch = (views.epoch, packet_cache.epoch)
        self.generation = 0  # increases when all clients returned before become invalid

    def use(self, limiter: Limiter | None, *, log_queries: bool) -> None:
        """Set the rate limit, and whether to log every query."""
        self.limiter = limiter
        self._log_queries = log_queries
        self._drop_clients()

    def refresh(self) -> int:
        """Drop the state of clients if it is no longer valid; return the generation."""
        if len(self._asked_once) > MAX_ASKED_ONCE:
            self._asked_once.clear()
        if self._dropped:
            self._free_some()
        if len(self._clients) > MAX_CLIENTS // 2:
            self.drop(self._former)
            self._former, self._clients = self._clients, {}
            self.generation += 1
        epoch = (self._views.epoch, self.packet_cache.epoch)
        if self._epoch != epoch:
            if self._epoch[0] != epoch[0]:
                self.packet_cache.forget_views()
            self._epoch = (self._views.epoch, self.packet_cache.epoch)
            self._drop_clients()
        return self.generation

    def drop(self, clients: dict[Any, Client]) -> None:
        """Free the states of clients that are no longer used, some with each batch from now on.

        To free all at once takes milliseconds: a flood from many addresses makes thousands.
        """
        if clients:
            self._dropped.append(clients)

    def _drop_clients(self) -> None:
        self.drop(self._clients)
        self.drop(self._former)
        self._clients, self._former = {}, {}
        self.generation += 1

    def _free_some(self) -> None:
        last, freed = self._dropped[-1], 0
        while last and freed < FREED_AT_ONCE:
            _, client = last.popitem()
            freed += 1 + len(client.variants)
        if not last:
            self._dropped.pop()

    def knows(self, address: bytes, local: bytes) -> bool:
        """Return whether the state of a client is at hand."""
        return (address, local) in self._clients or (address, local) in self._former

    def client(self, address: bytes, local: bytes) -> Client:
        """Return the state of a client, by the octets of its address and the queried one."""
        client = self._clients.get((address, local))
        if client is None and (client := self._former.pop((address, local), None)) is not None:
            self._clients[address, local] = client
        if client is None:
            view = self._views.of(address, local)
            table = self.packet_cache.table(view)
            is_limited = self.limiter is not None and view.is_limited
            is_slow = is_limited or self._log_queries
            client = Client(Peer(address, local, view), table, is_slow=is_slow)
            self._clients[address, local] = client
        return client

    def answer(self, data: bytes, client: Client, started: float) -> bytes | Forward | None:
        """Answer a datagram on the slow path; a `Forward` must be passed to `forward`.

        Args:
            data: The message.
            client: Its sender.
            started: `time.monotonic()`.
        """
        peer, query = client.peer, None
        if self.limiter is not None and client.view.is_limited:
            verdict = self.limiter.take(client.address, started)
            if verdict != "answer":
                query = self._answering.proven(data, peer)
                if query is None:
                    self.counters.rate_limited += 1
                    if verdict == "drop":
                        return None
                    peer = client.slipped
        if client.ready is not (table := self.packet_cache.table(client.view)):
            client.take(table)  # its own was evicted
        if not peer.is_slipped and (ready := self.packet_cache.answer(client.ready, data, started)):
            octets, entry = ready
            entry.hits += 1
            self._answering.sent_ready(entry, peer, started)
            return octets
        if query is None and not peer.is_slipped and client.view.may_ask:
            answered = self._answer_variant(data, client, started)
            if answered is not None:
                return answered
        decision = self._answering.begin(data, peer, query)
        if isinstance(decision, Reply):
            return self._sent(decision, data, peer, started)
        return None if isinstance(decision, Transfer) else decision

    def with_options(
        self, data: bytes, folded: bytes, client: Client, stamp: QueryStamp, started: float
    ) -> Made | None:
        """Answer a query with options if its plain form is cached, or else as `first`.

        The arguments are those of `first`; the client has a latest variant.
        """
        variant = client.latest
        if variant is None or not data.endswith(variant.sent):
            variant = client.variants.get(data[opt_start(data) :])
            if variant is None:
                return self.first(data, folded, client, stamp, started)
            client.expect(variant)
        if started >= variant.until:
            return None
        cut = -variant.sent_octets
        plain = folded[:cut] + variant.opt
        entry = client.fast.get(plain)
        if entry is None:
            made = self.first(data[:cut] + variant.opt, plain, client, stamp, started)
            if made is None or not made[1].endswith(PLAIN_ENDS):
                return None
            template, tail, row = made
            fitted = variant.fitted(tail, template.end, started)
            return None if fitted is None else (template, fitted, row)
        if not entry.takes_options:
            return None
        if entry.has_letters and not entry.rest.startswith(data[cut - 4 : cut]):
            return None  # another type or class
        ready = entry.tail if entry.era.is_current else self.packet_cache.tail_of(entry, started)
        fitted = None if ready is None else variant.fitted(ready, entry.end, started)
        if fitted is None:
            return None
        entry.hits += 1
        return entry, fitted, (stamp, client.address, entry)

    def first(
        self, data: bytes, folded: bytes, client: Client, stamp: QueryStamp, started: float
    ) -> Made | None:
        """Answer the first query for a name that a look at the zone is enough for.

        If it is repeated, its response is cached.

        Args:
            data: The query.
            folded: What follows its ID, in lower case.
            client: Its sender.
            stamp: Of its batch.
            started: When the batch began, on the packet cache's clock.

        Returns:
            The response, which has been counted; None for the slow path.
        """
        asked_once = self._asked_once
        if folded in asked_once or not client.is_quick:
            return None
        try:
            found = self._synthesised(data, folded, client.view)
        except Exception:  # the slow path returns SERVFAIL if necessary
            self.counters.internal_errors += 1
            log.exception("internal error while synthesising an answer (%d bytes)", len(data))
            return None
        if found is None:
            return None
        asked_once.add(folded)
        tail, template, owner = found
        template.hits += 1
        if template.decision is not None:
            self.packet_cache.has_unusual = True
        return template, tail, (stamp, client.address, template, owner)

    def _answer_variant(
        self, data: bytes, client: Client, started: float
    ) -> bytes | Forward | None:
        """Answer a query with its plain form, if they differ only in the OPT record."""
        start = opt_start(data)
        if data[2:3] > MAX_QUERY_FLAGS:  # whose response has no options
            return None
        variant = self._variant(data[start:], client, started)
        if variant is None:
            return None
        plain = data[:start] + variant.opt
        if (ready := self.packet_cache.answer(client.ready, plain, started)) is not None:
            octets = variant.response(ready[0])
            if octets is not None:
                ready[1].hits += 1
                self._answering.sent_ready(ready[1], client.peer, started)
            return octets
        decision = self._answering.begin(plain, client.peer)
        if isinstance(decision, Forward):  # the response depends on the whole query
            return decision._replace(query=messages.parse_query(data))
        octets = variant.response(decision.octets) if isinstance(decision, Reply) else None
        if isinstance(decision, Reply) and octets is not None:
            self._sent(decision, plain, client.peer, started)
        return octets

    def _variant(self, opt: bytes, client: Client, started: float) -> Variant | None:
        """Return the variant for a client's OPT record, which is cached."""
        if len(opt) < OPT_OCTETS:
            return None
        variant = client.variants.get(opt)
        if variant is not None and started < variant.until:
            return variant
        variant = self._answering.variant(opt, client.peer, started)
        if variant is None:
            return None
        if len(client.variants) >= MAX_VARIANTS:
            client.variants.clear()
        self._variants += 1
        if self._variants > MAX_ALL_VARIANTS:
            self._variants = 0
            self._drop_clients()
        client.variants[opt] = variant
        client.expect(variant)
        return variant

    def plain_question(
        self, data: bytes, folded: bytes, client: Client, now: float
    ) -> PlainQuestion | None:
        """Return the question of a query if it can be forwarded without a decision.

        The arguments are those of `first`, except for `now`: seconds since the epoch.
        """
        if not client.is_quick:
            return None
        try:
            return self._plain_questions.find(data, folded, now)
        except Exception:  # the slow path returns SERVFAIL if necessary
            self.counters.internal_errors += 1
            log.exception("internal error while looking at a question (%d bytes)", len(data))
            return None

    def may_pass(self, plain: PlainQuestion, answer: PlainAnswer) -> bool:
        """Return whether no rule applies to an answer; see `PlainQuestions.may_pass`."""
        return self._plain_questions.may_pass(plain, answer, time.time())

    def finish_plain(
        self, plain: PlainQuestion, resolution: Resolution, client: Client
    ) -> bytes | None:
        """Return the response to a plain question that did not have a plain answer."""
        reply = self._answering.finish_plain(plain, resolution, client.peer)
        return None if reply is None else self._sent(reply, plain.data, client.peer, plain.started)

    def note_plain(self, rows: list[Row], seconds: float) -> None:
        """Count plain answers, and record them in the history.

        Args:
            rows: Their rows.
            seconds: From their queries' arrival until they were sent.
        """
        self.history.extend(rows)
        for qtype, times in Counter(row[2].qtype for row in rows).items():
            self.counters.asked("udp", qtype, times)
        for rcode, times in Counter(row[2].rcode for row in rows).items():
            self.counters.answered(rcode, "upstream", times)
        self.counters.took("upstream", seconds, len(rows))

    def keep_plain(
        self, plain: PlainQuestion, answer: PlainAnswer, upstream: str, client: Client | None
    ) -> None:
        """Cache a plain answer if the former response to the same query has just ended."""
        if client is None or not self.packet_cache.has_ended(plain.data):
            return
        if not answer.targets and not answer.is_negative:
            reply = self._answering.kept_plain(plain, answer, upstream)
            self.packet_cache.keep(client.view, plain.data, reply, time.monotonic())

    def forward(
        self,
        forward: Forward,
        data: bytes,
        client: Client,
        started: float,
        send: Callable[[bytes], None],
    ) -> None:
        """Forward a question, and send the response when it arrives."""
        self._plain_questions.learn(data, forward)

        def finish(reply: Reply | None) -> None:
            if reply is not None:
                send(self._sent(reply, data, client.peer, started))

        self._answering.wait_for(forward, data, client.peer, finish)

    def _sent(self, reply: Reply, data: bytes, peer: Peer, started: float) -> bytes:
        if not peer.is_slipped:
            self.packet_cache.keep(peer.view, data, reply, time.monotonic())
        self._answering.sent(reply, peer, started)
        return reply.octets


class PlainLoop:
    """One UDP socket with one datagram per system call, for systems without `recvmmsg`.

    Attributes:
        dropped: As of `BatchLoop`; here the system drops them.
    """

    dropped = 0

    def __init__(self, listener: Listener, datagrams: Datagrams) -> None:
        self._socket = listener.udp
        self._local = listener.local
        self._datagrams = datagrams

    def on_readable(self) -> None:
        """Answer the datagrams in the socket, for a short turn."""
        self._datagrams.refresh()
        turn_ends = time.monotonic() + TURN
        while time.monotonic() < turn_ends:
            for _ in range(PER_CLOCK):
                try:
                    received = self._socket.recvmsg(QUERY_OCTETS, 128)
                except BlockingIOError:
                    return
                except OSError as error:
                    log.debug("recvmsg: %s", error)
                    return
                self._answer(*received)

    def _answer(
        self, data: bytes, ancillary: list[tuple[int, int, bytes]], _: int, sender: Any
    ) -> None:
        started = time.monotonic()
        local, control = self._asked(ancillary)
        address = socket.inet_pton(self._socket.family, sender[0].partition("%")[0])
        client = self._datagrams.client(address, local)

        def send(octets: bytes) -> None:
            try:
                self._socket.sendmsg([octets], control, 0, sender)
            except OSError as error:  # full buffer or lost route: the client retries
                log.debug("sendmsg to %s: %s", sender, error)

        response = self._datagrams.answer(data, client, started)
        if isinstance(response, Forward):
            self._datagrams.forward(response, data, client, started, send)
        elif response is not None:
            send(response)

    def _asked(
        self, ancillary: list[tuple[int, int, bytes]]
    ) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """Return the octets of the queried address, and the control message of the reply."""
        if self._local:
            return self._local, []
        for level, kind, octets in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
                local = octets[4:8]
                return local, leaving_from(local)
            if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
                local = octets[:16]
                return local, leaving_from(local)
        return b"", []


def leaving_from(local: bytes) -> list[tuple[int, int, bytes]]:
    """Return the control message that sets a datagram's source address.

    The interface is left open, as the reply may be routed differently.
    """
    if len(local) == 4:
        return [(socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + local + bytes(4))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, local + bytes(4))]

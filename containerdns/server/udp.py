"""DNS over UDP: what becomes of a datagram, and the plain loop over a socket.

`server/batch` takes many datagrams per system call and answers most of them itself;
where it cannot work, `PlainLoop` does the same one by one.  Both use `Datagrams`
for whatever has no ready-made response.
"""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import Entry, PacketCache, Table
from containerdns.core.protocol.query_history import QueryStamp, Row, Told
from containerdns.core.protocol.query_variants import OPT_OCTETS, Variant, opt_start
from containerdns.core.protocol.rate_limit import Limiter
from containerdns.core.protocol.respond import Peer, Reply, Transfer
from containerdns.core.upstream.forwarding import Forward
from containerdns.core.zone.views import View, Views
from containerdns.server.answering import Answering
from containerdns.server.sockets import IP_PKTINFO, Listener

log = logging.getLogger(__name__)

QUERY_OCTETS: Final = 2112  # no honest query is longer; what is cut cannot be parsed
MAX_CLIENTS: Final = 8192  # addresses whose view is kept
MAX_VARIANTS: Final = 64  # OPT records of one client; then its own start anew
MAX_ALL_VARIANTS: Final = 16384  # of all clients, about 10 MB; then all start anew
# In seconds, to which the last batch adds; then others have a turn, of which HTTP needs four.
TURN: Final = 0.0005
PER_CLOCK: Final = 16  # datagrams between two looks at the clock


class Client:
    """What is known of a client's address, for as long as views hold.

    Attributes:
        ready: The ready-made responses of its view.
        fast: The same; or an empty table, if every query must be looked at.
        variants: What its OPT records come to.
    """

    __slots__ = ("address", "fast", "local", "peer", "ready", "slipped", "variants", "view")

    def __init__(self, peer: Peer, ready: Table, fast: Table) -> None:
        self.address = peer.address
        self.local = peer.local
        self.peer = peer
        self.slipped = replace(peer, is_slipped=True)
        self.view: View = peer.view
        self.ready = ready
        self.fast = fast
        self.variants: dict[bytes, Variant] = {}

    def take(self, table: Table) -> None:
        """Be answered from another table of the same view."""
        if self.fast is self.ready:
            self.fast = table
        self.ready = table


class Datagrams:
    """What all UDP sockets share: the clients, the limits, the slow path.

    Attributes:
        limiter: The rate limit, if there is one.
    """

    def __init__(
        self,
        views: Views,
        packet_cache: PacketCache,
        answering: Answering,
        limiter: Limiter | None,
        log_queries: bool = False,
    ) -> None:
        self.wire = packet_cache
        self.history = answering.history
        self.counters = answering.counters
        self._views = views
        self._answering = answering
        self.limiter = limiter
        self._log_queries = log_queries
        self._clients: dict[tuple[bytes, bytes], Client] = {}
        self._variants = 0  # that were made since all started anew
        self._epoch = (views.epoch, packet_cache.epoch)
        self.generation = 0  # grows when no client that was given out holds any longer

    def use(self, limiter: Limiter | None, *, log_queries: bool) -> None:
        """Limit by another rate from now on, and log every query or none."""
        self.limiter = limiter
        self._log_queries = log_queries
        self._clients.clear()
        self.generation += 1

    def refresh(self) -> int:
        """Drop what is known of clients if it no longer holds; give the generation."""
        epoch = (self._views.epoch, self.wire.epoch)
        if self._epoch != epoch or len(self._clients) > MAX_CLIENTS:
            if self._epoch[0] != epoch[0]:
                self.wire.forget_views()
            self._epoch = (self._views.epoch, self.wire.epoch)
            self._clients.clear()
            self.generation += 1
        return self.generation

    def client(self, address: bytes, local: bytes) -> Client:
        """What is known of a client: the octets of its address, and of the one it asked."""
        client = self._clients.get((address, local))
        if client is None:
            view = self._views.of(address, local)
            table = self.wire.table(view)
            is_limited = self.limiter is not None and view.is_limited
            fast = {} if is_limited or self._log_queries else table
            client = Client(Peer(address, local, view), table, fast)
            self._clients[address, local] = client
        return client

    def answer(self, data: bytes, client: Client, started: float) -> bytes | Forward | None:
        """Answer a datagram that needs a look; a `Forward` must be given to `forward`.

        Args:
            data: What came.
            client: From whom.
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
        if client.ready is not (table := self.wire.table(client.view)):
            client.take(table)  # its own has made room for others
        if not peer.is_slipped and (ready := self.wire.answer(client.ready, data, started)):
            octets, entry = ready
            entry.hits += 1
            self._answering.told_ready(entry, peer, started)
            return octets
        if query is None and not peer.is_slipped and client.view.may_ask:
            answered = self._answer_variant(data, client, started)
            if answered is not None:
                return answered
        decision = self._answering.begin(data, peer, query)
        if isinstance(decision, Reply):
            return self._sent(decision, data, peer, started)
        return None if isinstance(decision, Transfer) else decision

    def ready(self, data: bytes, client: Client, started: float) -> tuple[bytes, Entry] | None:
        """Answer by the plain form of a query, if that and its OPT record are known.

        The caller counts, as for `PacketCache.answer`.
        """
        start = data.find(b"\0", 12) + 5  # as `opt_start`
        variant = client.variants.get(data[start:])
        if variant is None or started >= variant.until:
            return None
        entry = client.fast.get(data[2:start].lower() + variant.opt)
        if entry is None or not entry.takes_options:
            return None
        if not entry.rest.startswith(data[start - 4 : start]):  # type and class, as sent
            return None
        tail = entry.tail or self.wire.tail_of(entry, started)
        if tail is None:
            return None
        asked = data[12 : entry.end]
        reply = b"".join((data[:2], entry.head, asked, tail[:-2], variant.octets))
        return (reply, entry) if len(reply) <= variant.limit else None

    def at_once(
        self, data: bytes, client: Client, stamp: QueryStamp, started: float
    ) -> tuple[bytes, Row] | None:
        """Answer what is nearly ready-made, and count it; None for the slow path.

        That is a query with options whose plain form is known, or one for a name that
        nobody has asked for before and that a look at the zone is enough to deny; asked
        for again, it is better kept ready-made.
        """
        if client.variants and (ready := self.ready(data, client, started)):
            octets, entry = ready
            entry.hits += 1
            return octets, (stamp, client.address, entry)
        if client.fast is not client.ready or self.wire.is_asked_again(data[2:].lower()):
            return None
        found = self._answering.denied(data, client.peer)
        if found is None:
            return None
        if found.source == "policy":
            self.wire.unusual["policy"] += 1
        told = Told(found.name, found.qtype, messages.NXDOMAIN, found.source, None)
        return found.octets, (stamp, client.address, told)

    def _answer_variant(
        self, data: bytes, client: Client, started: float
    ) -> bytes | Forward | None:
        """Answer a query by its plain form, if its OPT record is all that is odd about it."""
        start = opt_start(data)
        variant = self._variant(data[start:], client, started)
        if variant is None:
            return None
        plain = data[:start] + variant.opt
        if (ready := self.wire.answer(client.ready, plain, started)) is not None:
            octets = variant.response(ready[0])
            if octets is not None:
                ready[1].hits += 1
                self._answering.told_ready(ready[1], client.peer, started)
            return octets
        decision = self._answering.begin(plain, client.peer)
        if isinstance(decision, Forward):  # whose response is made of the whole query
            return decision._replace(query=messages.parse_query(data))
        octets = variant.response(decision.octets) if isinstance(decision, Reply) else None
        if isinstance(decision, Reply) and octets is not None:
            self._sent(decision, plain, client.peer, started)
        return octets

    def _variant(self, opt: bytes, client: Client, started: float) -> Variant | None:
        """What an OPT record comes to for a client; kept, so that it is read once."""
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
            for other in self._clients.values():
                other.variants.clear()
        client.variants[opt] = variant
        return variant

    def forward(
        self,
        forward: Forward,
        data: bytes,
        client: Client,
        started: float,
        send: Callable[[bytes], None],
    ) -> None:
        """Resolve a question elsewhere, and send the response when it is there."""

        def finish(reply: Reply | None) -> None:
            if reply is not None:
                send(self._sent(reply, data, client.peer, started))

        self._answering.wait_for(forward, data, client.peer, finish)

    def _sent(self, reply: Reply, data: bytes, peer: Peer, started: float) -> bytes:
        if not peer.is_slipped:
            self.wire.keep(peer.view, data, reply, time.monotonic())
        self._answering.told(reply, peer, started)
        return reply.octets


class PlainLoop:
    """One UDP socket, a datagram per system call: for where there is no `recvmmsg`."""

    def __init__(self, listener: Listener, datagrams: Datagrams) -> None:
        self._socket = listener.udp
        self._local = listener.local
        self._datagrams = datagrams

    def on_readable(self) -> None:
        """Answer what waits in the socket, for a short turn."""
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
            except OSError as error:  # a full buffer, a lost route: the client asks again
                log.debug("sendmsg to %s: %s", sender, error)

        response = self._datagrams.answer(data, client, started)
        if isinstance(response, Forward):
            self._datagrams.forward(response, data, client, started, send)
        elif response is not None:
            send(response)

    def _asked(
        self, ancillary: list[tuple[int, int, bytes]]
    ) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        """The octets of the address that was asked, and what makes the reply leave from it."""
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
    """The control message that makes a datagram leave from an address of ours.

    The interface stays open: the way back may be another one.
    """
    if len(local) == 4:
        return [(socket.IPPROTO_IP, IP_PKTINFO, bytes(4) + local + bytes(4))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, local + bytes(4))]

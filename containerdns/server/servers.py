"""All DNS sockets: open, serve and close them."""

import asyncio
from collections.abc import Iterator, Sequence

from containerdns.config.groups import DNSSettings
from containerdns.core.connections.places import ACCEPTED_AT_ONCE
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol.rate_limit import Limiter
from containerdns.core.protocol.tsig import Key
from containerdns.server import batch, sockets
from containerdns.server.batch import BatchLoop
from containerdns.server.tcp import Connections
from containerdns.server.udp import Datagrams, PlainLoop
from containerdns.tasks import event_loop


class Servers:
    """The DNS server on every `--listen` address, over UDP and TCP.

    Call `open`, then `run`; cancel `run` to stop.
    """

    def __init__(
        self,
        settings: DNSSettings,
        datagrams: Datagrams,
        connections: Connections,
        keys: Sequence[Key] = (),
        *,
        may_batch: bool = True,
    ) -> None:
        """Initialise without opening a socket.

        Args:
            settings: Where to listen, and the limits.
            datagrams: Answers over UDP.
            connections: Answers over TCP.
            keys: The TSIG keys.
            may_batch: Receive many datagrams per system call where the system can.
        """
        self._settings = settings
        self._may_batch = may_batch
        self._datagrams = datagrams
        self._connections = connections
        self._answering = connections.answering
        self._listeners: list[sockets.Listener] = []
        self._udp_loops: list[BatchLoop | PlainLoop] = []
        datagrams.limiter = _limiter(settings)
        self.use(settings, keys)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The bound addresses, with actual ports."""
        return [listener.endpoint for listener in self._listeners]

    @property
    def limiter(self) -> Limiter | None:
        """The rate limit of all sockets, if any."""
        return self._datagrams.limiter

    def open(self, shared: Sequence[Endpoint] | None = None) -> None:
        """Bind every address.

        Args:
            shared: Addresses bound by another process of ours, to share with it.

        Raises:
            CannotListen: One of them cannot be bound.
        """
        if shared is not None:
            self._listeners = sockets.open_all(tuple(shared), shared=True)
            return
        self._listeners = sockets.open_all(self._settings.listen)
        if self._settings.workers > 1:  # now that no other process has them
            bound = tuple(self.endpoints)
            for listener in self._listeners:
                listener.close()
            self._listeners = sockets.open_all(bound, shared=True)
            sockets.spread(self._listeners, self._settings.workers)

    def use(self, settings: DNSSettings, keys: Sequence[Key]) -> None:
        """Use new settings and keys from now on, with the same sockets."""
        if settings.rate_limit == self._settings.rate_limit:
            limiter = self.limiter  # with its state of the clients
        else:
            limiter = _limiter(settings)
        self._settings = settings
        self._answering.use(keys, log_queries=settings.log_queries)
        self._datagrams.use(limiter, log_queries=settings.log_queries)

    def tally(self) -> None:
        """Update the counters; must be called before they are read."""
        for _ in self.tally_in_pieces():
            pass

    def tally_in_pieces(self) -> Iterator[None]:
        """Do the same with pauses."""
        yield from self._datagrams.packet_cache.tally_in_pieces()
        self._answering.tally()
        dropped = sum(listener.datagrams_dropped() for listener in self._listeners)
        waited = sum(loop.dropped for loop in self._udp_loops)
        self._datagrams.counters.datagrams_dropped = dropped + waited

    async def run(self) -> None:
        """Serve until cancelled, then close the sockets."""
        loop = asyncio.get_running_loop()
        servers, self._udp_loops = [], []
        try:
            for listener in self._listeners:
                udp = self._udp_loop(listener)
                self._udp_loops.append(udp)
                event_loop.prefer(listener.udp, in_turn=True)
                loop.add_reader(listener.udp, udp.on_readable)
                servers.append(
                    await loop.create_server(
                        self._connections.new, sock=listener.tcp, backlog=ACCEPTED_AT_ONCE
                    )
                )
                listener.tcp.listen(sockets.BACKLOG)  # which asyncio set to the same value
            await self._connections.sweep()
        finally:
            for server in servers:
                server.close()
            for listener in self._listeners:
                loop.remove_reader(listener.udp)
                listener.close()
            self._answering.stop()
            self._connections.close_all()

    def _udp_loop(self, listener: sockets.Listener) -> BatchLoop | PlainLoop:
        if self._may_batch and batch.works():
            return BatchLoop(listener, self._datagrams)
        return PlainLoop(listener, self._datagrams)


def _limiter(settings: DNSSettings) -> Limiter | None:
    return Limiter(settings.rate_limit) if settings.rate_limit else None

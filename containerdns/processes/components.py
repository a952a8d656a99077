"""The components of a process that answers DNS, and how they are connected."""

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from containerdns.config.groups import DNSSettings
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol.cookies import Cookies
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.query_history import History
from containerdns.core.protocol.respond import Responder
from containerdns.core.protocol.tsig import Key
from containerdns.server.answering import Answering
from containerdns.server.servers import Servers
from containerdns.server.tcp import Connections, TransferSender
from containerdns.server.transfer import Notifier, Transfers, read_keys
from containerdns.server.udp import Datagrams
from containerdns.state.fleet_secondaries import FleetFeed
from containerdns.state.replica import Replica
from containerdns.state.reports import version
from containerdns.state.secondaries import Feed
from containerdns.tasks.parts import Parts
from containerdns.upstream.forwarder import Forwarder


@dataclass(frozen=True, slots=True)
class Secrets:
    """Secrets shared by all processes on one port, so that each recognises the others.

    Attributes:
        cookie: The key of server cookies, 16 octets.
        loop: The token of loop probes.
    """

    cookie: bytes
    loop: str


class Components:
    """Everything between the sockets and a replica.

    Attributes:
        history: The last queries.
        forwarder: Queries upstreams.
        servers: The DNS sockets.
        transfers: Makes zone transfers, for those of other processes, too.
    """

    def __init__(
        self,
        replica: Replica,
        packet_cache: PacketCache,
        counters: Counters,
        secrets: Secrets,
        relayed: TransferSender | None = None,
    ) -> None:
        """Connect all components.

        Args:
            replica: What is answered from.
            packet_cache: Its ready-made responses.
            counters: What is counted.
            secrets: Shared by all processes.
            relayed: Sends zone transfers of the first process, which alone makes them and sends
                NOTIFY; None in that process.
        """
        settings = replica.settings
        self._replica = replica
        self.history = History(settings.dns.query_history)
        self.forwarder = Forwarder(settings.upstream, counters, self._is_ours, secrets.loop)
        self._responder = Responder(
            replica.ownership,
            Cookies(secrets.cookie),
            counters,
            identity=socket.gethostname(),
            version=f"containerdns {version()}",
        )
        keys = read_keys(settings.transfer.keys)
        self._notifies = relayed is None
        targets = settings.transfer.notify if self._notifies else ()
        self._notifier = Notifier(targets, keys[0] if keys else None)
        self._listening: Sequence[Endpoint] = settings.dns.listen
        self._feed = replica.feed = self._make_feed(notifies=bool(targets))
        self.transfers = Transfers(self._feed, keys)
        answering = Answering(self._responder, self.forwarder, self.history, counters)
        self.servers = Servers(
            _share_of(settings.dns),
            Datagrams(replica.views, packet_cache, answering),
            Connections(replica.views, packet_cache, answering, relayed or self.transfers),
            keys,
        )

    def _make_feed(self, *, notifies: bool) -> Feed | FleetFeed:
        replica = self._replica
        if replica.settings.fleet.urls:
            return FleetFeed(replica.zone, replica.steps, self._notifier, notifies=notifies)
        return Feed(
            replica.zone,
            lambda: replica.neutral_view(self._listening),
            self._notifier,
            notifies=notifies,
        )

    def open(self, endpoints: Sequence[Endpoint] | None = None) -> None:
        """Bind the sockets; `endpoints` are those that the first process bound, if any.

        Raises:
            CannotListen: One of them cannot be bound.
        """
        self.servers.open(endpoints)
        self._listening = self.servers.endpoints
        self._feed.look_again()

    def begin(self, tasks: asyncio.TaskGroup, parts: Parts) -> None:
        """Run all components as tasks of a group; only a failure of the sockets ends it."""
        tasks.create_task(self.servers.run())
        tasks.create_task(parts.keep("the forwarder", self.forwarder.run))
        tasks.create_task(parts.keep("NOTIFY", self._notifier.run))
        if isinstance(self._feed, FleetFeed):
            tasks.create_task(parts.keep("the fleet's copies", self._feed.run))

    def follow(self, keys: Sequence[Key]) -> None:
        """Use the replica's settings, zone and rules after they were replaced.

        Args:
            keys: The TSIG keys for transfers, as returned by `read_keys`.
        """
        settings = self._replica.settings
        self._responder.use(self._replica.ownership)
        self.forwarder.reload(settings.upstream)
        self._feed.look_again()
        self.history.resize(settings.dns.query_history)
        self.servers.use(_share_of(settings.dns), keys)
        self.transfers.use(keys)
        targets = settings.transfer.notify if self._notifies else ()
        is_new = self._notifier.use(targets, keys[0] if keys else None)
        self._feed.notifies = bool(targets)
        if is_new:
            self._feed.all_changed()

    def _is_ours(self, name: str) -> bool:
        return self._replica.ownership.is_ours(name, time.time())


def _share_of(settings: DNSSettings) -> DNSSettings:
    """Return the settings for one of several processes, which share the rate limit."""
    if settings.workers == 1 or not settings.rate_limit:
        return settings
    return replace(settings, rate_limit=max(settings.rate_limit // settings.workers, 1))

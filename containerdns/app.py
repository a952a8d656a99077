"""The composition root: the only place where the rooms are connected.

Settings -> writer (zone, rules, views) <- one watcher an Engine
         -> servers (UDP, TCP) -> responder -> writer's zone, or the forwarder
         -> HTTP over reports
"""

import asyncio
import gc
import logging
import resource
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from containerdns import logs
from containerdns.config.groups import Settings
from containerdns.config.settings import Reloaded, reloaded
from containerdns.config.top_level_domains import top_level_domains
from containerdns.core.counters import Counters
from containerdns.core.protocol.cookies import SECRET_OCTETS
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.tsig import Key
from containerdns.core.zone.fleet import subnets_of
from containerdns.engine.watcher import Watcher
from containerdns.errors import BadSettings
from containerdns.fleet.etcd import Etcd
from containerdns.fleet.member import RENEWALS, Member, OwnHost, Rules
from containerdns.processes import systemd
from containerdns.processes.components import Components, Secrets
from containerdns.processes.pool import Workers
from containerdns.server.transfer import read_keys
from containerdns.state.reports import Reports, version
from containerdns.state.zone_writer import ZoneWriter
from containerdns.tasks import event_loop
from containerdns.tasks.parts import Part, Parts
from containerdns.tasks.threads import in_thread
from containerdns.web.http import HTTPServer

SWITCH_INTERVAL = 0.001  # seconds until another thread must release the GIL
# Objects and collections, for `gc.set_threshold`: a collection of young objects, at 0.5 µs each, is
# to be short.  There are up to three times as many young ones, if others are freed meanwhile.  Old
# ones are collected after as many as ever, 500,000.
COLLECT_AFTER = (500, 1, 500)
MAX_FILES = 65536  # file descriptors, even if the system allows more
COUNT_EVERY = 0.005  # seconds between steps of counting a large zone

log = logging.getLogger(__name__)


def serve(settings: Settings, load: Callable[[], Settings]) -> None:
    """Run the server in the foreground until SIGTERM or SIGINT.

    Args:
        settings: As loaded.
        load: Loads the settings again, for SIGHUP.

    Raises:
        BadSettings: An upstream is this server itself.
        CannotListen: An address cannot be bound.
    """
    logs.configure(settings.logs.level, settings.logs.format)
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.disable()  # until the first listing, which creates many long-lived objects
    gc.set_threshold(*COLLECT_AFTER)
    _allow_many_files()
    with asyncio.Runner(loop_factory=event_loop.new) as runner:
        runner.run(_Server(settings, load).run())


def _allow_many_files() -> None:
    """Raise the soft limit of file descriptors; `core/connections/descriptors` divides them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MAX_FILES), hard))


class _Server:
    """All components of the first process, and how they are connected."""

    def __init__(self, settings: Settings, load: Callable[[], Settings]) -> None:
        self._settings = settings
        self._load = load
        self._reload_asked = asyncio.Event()
        self._http: HTTPServer | None = None
        self._counters = Counters()
        self._packet_cache = PacketCache(self._counters)
        self._writer = ZoneWriter(settings, self._counters, self._packet_cache, top_level_domains())
        self._secrets = Secrets(secrets.token_bytes(SECRET_OCTETS), secrets.token_hex(8))
        self._parts = Parts(self._counters)
        self._rooms = Components(self._writer, self._packet_cache, self._counters, self._secrets)
        self._reports = Reports(
            self._writer,
            self._rooms.forwarder,
            self._rooms.history,
            self._rooms.servers,
            self._parts.failing,
        )

    async def run(self) -> None:
        """Serve until a signal ends it."""
        self._writer.read_hosts()  # before the first query, so that none is forwarded
        self._rooms.open()
        endpoints = self._rooms.servers.endpoints
        http = self._open_http()
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(logs.LoopFaults(self._counters))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        log.info(
            "containerdns %s: DNS on %s%s",
            version(),
            ", ".join(map(str, endpoints)),
            f", HTTP on {http.endpoint}" if http else "",
        )
        engines = ", ".join(self._settings.engines.urls)
        log.info("Docker: %s (%s)", engines, self._settings.engines.source)
        try:
            async with asyncio.TaskGroup() as rooms:
                self._rooms.begin(rooms, self._parts)
                for name, part in self._other_parts(http):
                    rooms.create_task(self._parts.keep(name, part))
                rooms.create_task(
                    self._parts.keep(
                        "loop detection",
                        lambda: self._rooms.forwarder.detect_loop(endpoints),
                        fatal=BadSettings,
                    )
                )
                rooms.create_task(_until(stopping))
        except* _Stopped:
            log.info("stopped")
        except* BadSettings as bad:
            raise bad.exceptions[0] from None
        finally:
            systemd.notify("STOPPING=1")

    def _other_parts(self, http: HTTPServer | None) -> Iterator[tuple[str, Part]]:
        """Yield the parts that run beside DNS, with their names."""
        for url in self._settings.engines.urls:
            yield f"the watcher of {url}", self._watching(url)
        yield "housekeeping", self._writer.run
        yield "the serial", self._writer.keep_time
        if http is not None:
            yield "HTTP", _OpenAgain(http, self._open_http).run
        yield "reload", self._reload_when_asked
        yield "statistics", self._count
        yield "systemd watchdog", self._show_life
        if self._settings.fleet.urls:
            yield "the fleet", self._fleet(self._settings.fleet.urls).run
        if self._settings.dns.workers > 1:
            others = self._settings.dns.workers - 1  # this process answers queries as well
            yield "workers", partial(self._workers().run, others)

    def _fleet(self, urls: tuple[str, ...]) -> Member:
        fleet, writer = self._settings.fleet, self._writer
        engines = self._settings.engines.urls
        rules = Rules(fleet.name, fleet.lease, fleet.prefix, fleet.publish, engines)
        etcd = Etcd(urls, fleet.tls, fleet.lease / RENEWALS)
        writer.listener = member = Member(etcd, rules, writer, partial(_own_host, writer))
        return member

    def _watching(self, url: str) -> Part:
        settings = self._settings
        watcher = Watcher(
            url, settings.engines.tls, self._writer, verifies=settings.engines.verifies
        )

        async def watch() -> None:
            try:
                await watcher.run()
            except Exception:
                self._writer.disconnected(url, "internal error in its watcher; see the log")
                raise

        return watch

    def _open_http(self) -> HTTPServer | None:
        if self._settings.http.listen is None:
            return None
        self._http = HTTPServer(
            self._settings.http.listen,
            self._reports,
            self._counters,
            hosts=self._settings.http.hosts,
        )
        return self._http

    def _workers(self) -> Workers:
        return Workers(self._writer, self._rooms, self._secrets, self._parts)

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            await self._reload()

    async def _reload(self) -> None:
        """Read the configuration again; if it is invalid, change nothing."""
        systemd.notify("RELOADING=1")
        try:
            new, keys = await in_thread(self._read_settings)
        except BadSettings as bad:
            self._counters.has_reloaded = False
            log.error("reload: %s; keeping the old settings", bad)  # noqa: TRY400 - no traceback
            systemd.notify("READY=1")
            return
        self._counters.has_reloaded = True
        for option in new.waiting:
            log.warning("reload: %s takes effect at the next start", option.flag)
        former, self._settings = self._settings, new.settings
        logs.configure(new.settings.logs.level, new.settings.logs.format)
        self._writer.use(new.settings, time.time())
        self._rooms.follow(keys)
        if self._http is not None:
            self._http.use(new.settings.http.hosts)
        await self._writer.publish_anew()
        if self._writer.listener is not None and _changes_records(former, new.settings):
            self._writer.listener.settings_changed()
        log.info("reload: done; %s", ", ".join(o.flag for o in new.applied) or "nothing changed")
        systemd.notify("READY=1")

    def _read_settings(self) -> tuple[Reloaded, tuple[Key, ...]]:
        """Read the configuration, in a thread: it takes milliseconds, or longer from slow disks."""
        new = reloaded(self._settings, self._load())
        return new, read_keys(new.settings.transfer.keys)

    async def _count(self) -> None:
        """Count the records of a large zone, a few at a time, and what is kept in a day."""
        while True:
            await self._reports.take_sample()
            await asyncio.sleep(1.0 if self._reports.count_on() else COUNT_EVERY)

    async def _show_life(self) -> None:
        """Notify systemd that the server is ready, and from then on that it is alive."""
        systemd.notify("READY=1\nSTATUS=answering")
        interval = systemd.watchdog_interval()
        while interval is not None:
            systemd.notify("WATCHDOG=1")
            await asyncio.sleep(interval)


def _changes_records(former: Settings, new: Settings) -> bool:
    """Return whether new settings change records that no container publishes."""
    is_elsewhere = new.rights.host_addresses != former.rights.host_addresses
    return is_elsewhere or new.zone != former.zone


def _own_host(writer: ZoneWriter) -> OwnHost:
    """Return what this host shares with its fleet beside containers."""
    networks = writer.inventory.networks()
    return OwnHost(
        tuple(map(str, writer.settings.rights.host_addresses)),
        subnets_of(networks, "bridge"),
        subnets_of(networks, "overlay"),
        writer.own_lost_engines,
    )


class _OpenAgain:
    """Runs the HTTP server, and opens a new one after an internal error."""

    def __init__(self, first: HTTPServer, open_again: Callable[[], HTTPServer | None]) -> None:
        self._server: HTTPServer | None = first
        self._open_again = open_again

    async def run(self) -> None:
        """Serve until cancelled."""
        server, self._server = self._server or self._open_again(), None
        if server is not None:
            await server.run()


class _Stopped(Exception):
    """A signal requested the server to stop."""


async def _until(stopping: asyncio.Event) -> None:
    await stopping.wait()
    raise _Stopped

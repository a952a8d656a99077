"""The entity tag of `/zone`: clients that have it keep what they got."""

import time
from collections.abc import Callable, Iterator

import pytest

from containerdns.config.settings import load
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.query_history import History
from containerdns.core.zone.containers import Attachment, Container, Network
from containerdns.state.reports import Reports
from containerdns.state.zone_writer import ZoneWriter
from containerdns.upstream.forwarder import Forwarder

ENGINE = "unix:///run/docker.sock"
ID = "a" * 64
FRONT = Network("f" * 64, "front", ENGINE, "bridge", ("172.18.0.0/16",))


class Closed:
    """DNS sockets, none of which is open."""

    endpoints: tuple[Endpoint, ...] = ()

    def tally_in_pieces(self) -> Iterator[None]:
        return iter(())


def container(address: str) -> Container:
    attachment = Attachment("front", FRONT.id, addresses=(address,))
    return Container(ID, "web", ENGINE, state="running", attachments=(attachment,))


CHANGES: dict[str, Callable[[ZoneWriter], object]] = {
    "container moved": lambda w: w.container_changed(ENGINE, container("172.18.0.3"), None),
    "container died": lambda w: w.container_died(ENGINE, ID, None),
    "container removed": lambda w: w.container_removed(ENGINE, ID, None),
    "document unreadable": lambda w: w.container_unreadable(ENGINE, "b" * 64, "odd", "no JSON"),
    "network added": lambda w: w.networks_changed(ENGINE, (FRONT,)),
    "Engine lost": lambda w: w.disconnected(ENGINE, "it is gone"),
    "fleet lost": lambda w: w.fleet_disconnected("etcd is gone"),
    "fleet moved": lambda w: w.fleet_moved(7),
    "host joined": lambda w: w.fleet_hosts({"b": "alive"}, frozenset(), frozenset()),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_tag_changes_with_what_is_shown(change: Callable[[ZoneWriter], object]) -> None:
    writer = _writer()
    reports = _reports(writer)
    writer.container_changed(ENGINE, container("172.18.0.2"), None)
    writer.listed(ENGINE)
    tag, shown = reports.tag(), _text(reports)
    assert (reports.tag(), _text(reports)) == (tag, shown)
    change(writer)
    assert _text(reports) != shown
    assert reports.tag() != tag


def test_tag_is_another_one_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The serial of a fleet stays, while hosts files may be others."""
    tags = set()
    for started in (1_800_000_000.0, 1_800_000_001.0):
        monkeypatch.setattr(time, "time", lambda at=started: at)
        tags.add(_reports(_writer()).tag())
    assert len(tags) == 2


def _text(reports: Reports) -> list[str | None]:
    return list(reports.zone_text(None, None) or ())


def _writer() -> ZoneWriter:
    settings = load({"docker": ENGINE, "fleet": "etcd://127.0.0.1"}, {})
    return ZoneWriter(settings, Counters(), PacketCache(Counters()), frozenset())


def _reports(writer: ZoneWriter) -> Reports:
    forwarder = Forwarder(writer.settings.upstream, writer.counters, lambda _: False)
    return Reports(writer, forwarder, History(0), Closed(), {})

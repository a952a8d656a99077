"""Other settings for a running server: the writer's part of SIGHUP."""

import asyncio
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from containerdns.config.groups import Settings
from containerdns.config.settings import load
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.cookies import Cookies
from containerdns.core.protocol.explain import explain
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.respond import Peer, Reply, Responder
from containerdns.core.zone import records
from containerdns.core.zone.containers import Attachment, Container, Network
from containerdns.core.zone.ownership import Act
from containerdns.core.zone.views import packed
from containerdns.core.zone.zone import Suffix, SuffixKind
from containerdns.state.zone_writer import ZoneWriter
from tests.fuzz.worlds import contents

ENGINE = "unix:///run/docker.sock"
CLIENT = packed("127.0.0.1")


def settings(**options: object) -> Settings:
    return load({"docker": ENGINE, **options}, {})


def container(name: str, **labels: str) -> Container:
    attachment = Attachment("bridge", "b" * 64, addresses=(f"172.17.0.{len(name)}",))
    docker_labels = {f"containerdns.{key}": value for key, value in labels.items()}
    return Container(
        name.ljust(64, "0"),
        name,
        ENGINE,
        "running",
        docker_labels=docker_labels,
        attachments=(attachment,),
    )


class Running:
    """A writer with some containers, and who answers from it."""

    def __init__(self, *containers: Container, **options: object) -> None:
        self.wire = PacketCache(Counters())
        self.writer = ZoneWriter(settings(**options), Counters(), self.wire, frozenset())
        self.writer.read_hosts()
        for each in containers:
            self.writer.container_changed(ENGINE, each, None)
        self.writer.listed(ENGINE)
        self.responder = Responder(self.writer.ownership, Cookies(bytes(16)), Counters())

    def reload(self, options: Mapping[str, object]) -> None:
        self.writer.use(settings(**options), time.time())
        self.responder.use(self.writer.ownership)
        asyncio.run(self.writer.publish_anew())

    def ask(self, name: str) -> tuple[int, list[tuple[int, bytes]]]:
        """Rcode, and TTL and data of each answer; once more from what was made ready."""
        data = messages.query(1, messages.RD, question(name))
        peer = Peer(CLIENT, CLIENT, self.writer.views.of(CLIENT, CLIENT))
        reply = self.responder.respond(data, peer, time.time())
        assert isinstance(reply, Reply)
        self.wire.keep(peer.view, data, reply, 0.0)
        found = contents(reply.octets)
        return found.rcode, [(rr.ttl, rr.rdata) for rr in found.sections[0]]


def question(name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return labels + b"\0" + bytes((0, messages.A, 0, 1))


WEB = packed("172.17.0.3")


def test_other_times_and_domains_hold_at_once() -> None:
    running = Running(container("web"))
    revision = running.writer.revision
    running.writer.zone.is_ahead = False
    serial = running.writer.zone.serial
    assert running.ask("web.docker") == (0, [(5, WEB)])
    running.reload({"domain": "corp", "ttl": 9})
    assert running.ask("web.corp") == (0, [(9, WEB)])
    assert running.ask("ns.corp")[0] == 0
    assert running.writer.ownership.decide("web.docker.", messages.A, 0.0).act is Act.FORWARD
    assert running.writer.zone.is_ahead or running.writer.zone.serial != serial
    assert running.writer.revision > revision  # the page is told


def test_network_that_no_engine_has_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt one leaves all containers without an address."""
    running = Running(container("web"), network=["bridge", "nope"])
    running.writer.networks_changed(ENGINE, (Network("b" * 64, "bridge", ENGINE, "bridge"),))
    running.reload({"network": ["nope", "other"]})
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        f"--network {name}: no Engine has a network of this name" for name in ("nope", "other")
    ]


@pytest.mark.parametrize(
    ("options", "takes_a_serial"),
    [
        ({"log-level": "debug"}, False),
        ({"forward": "corp.example=192.0.2.1"}, False),
        ({"rate-limit": 7}, False),
        ({"name-template": "{label:none}"}, False),
        ({"ttl": 6}, True),
        ({"unhealthy": "keep"}, True),
        ({"host-address": "192.0.2.1"}, True),
        ({"network": "another"}, True),
    ],
    ids=str,
)
def test_reload_takes_a_serial_if_records_may_have_changed(
    options: dict[str, object], takes_a_serial: bool
) -> None:
    """Secondaries would be notified for nothing, and the log say "+0"."""
    running = Running(container("web"))
    running.writer.zone.serial -= 9
    running.writer.zone.is_ahead = False
    before = running.writer.zone.serial
    running.reload(options)
    zone = running.writer.zone
    assert (zone.serial != before or zone.is_ahead) is takes_a_serial


def test_reload_without_a_change_takes_no_serial(tmp_path: Path) -> None:
    """Secondaries would be notified of a zone that they have, and the log say "+0"."""
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.7 printer\n")
    options = {"hosts": str(hosts), "ttl": 7}
    running = Running(container("web"), **options)
    zone = running.writer.zone
    zone.is_ahead = False
    before = zone.serial, zone.generation, running.writer.counters.zone_changes
    running.reload(options)
    assert not zone.is_ahead
    assert (zone.serial, zone.generation, running.writer.counters.zone_changes) == before
    assert running.ask("printer.docker")[1] == [(7, packed("192.0.2.7"))]


def test_names_that_the_policy_takes_away_stay_ours() -> None:
    running = Running(container("web"), container("shown", enable="true"))
    assert running.ask("web.localdomain")[0] == messages.NOERROR
    running.reload({"expose-by-default": False})
    assert running.ask("web.docker")[0] == messages.NXDOMAIN
    assert running.ask("web.localdomain")[0] == messages.NXDOMAIN
    assert running.ask("shown.docker")[0] == messages.NOERROR
    running.reload({})
    assert running.ask("web.docker") == (0, [(5, WEB)])


def test_host_names_of_a_reverse_proxy_come_and_go_with_its_options() -> None:
    labels = {"traefik.http.routers.shop.rule": "Host(`shop.docker`) || Host(`shop.example`)"}
    shop = replace(container("app"), docker_labels=labels)
    running = Running(shop)
    assert running.ask("shop.docker")[0] == messages.NXDOMAIN
    proxy = {"proxy-labels": True, "proxy-address": "192.0.2.7"}
    running.reload(proxy)
    assert running.ask("shop.docker") == (0, [(5, packed("192.0.2.7"))])
    assert running.writer.ownership.decide("shop.example.", messages.A, 0.0).act is Act.FORWARD
    running.reload(proxy | {"proxy-domain": "example"})
    assert running.ask("shop.example") == (0, [(5, packed("192.0.2.7"))])
    running.reload({})
    assert running.ask("shop.docker")[0] == messages.NXDOMAIN


def test_nothing_said_before_is_said_again() -> None:
    """Ready-made responses hold for the settings that they were made with."""
    running = Running(container("web"))
    view = running.writer.views.of(CLIENT, CLIENT)
    data = messages.query(1, messages.RD, question("web.docker"))
    running.ask("web.docker")
    table = running.wire.table(view)
    assert running.wire.answer(table, data, 0.0) is not None
    running.writer.use(settings(ttl=7), time.time())
    assert running.wire.answer(table, data, 0.0) is None
    assert len(running.wire) == 0


def test_shorter_memory_ends_ready_made_answers_in_time() -> None:
    """The names remembered before as well, and what was said of them."""
    running = Running(container("web"))
    running.writer.container_removed(ENGINE, container("web").id, None)
    decide = running.writer.ownership.decide
    assert decide("web.localdomain.", messages.A, time.time()).act is not Act.FORWARD
    running.reload({"remember": 60})
    assert running.ask("web")[0] == messages.NXDOMAIN
    assert len(running.wire) > 0
    later = time.time() + 61
    assert running.writer.expire(later)
    assert len(running.wire) == 0
    assert not running.writer.zone.is_ours("web", later)


def test_no_memory_forgets_at_once() -> None:
    running = Running(container("web"), **{"search-domain": "corp.example"})
    running.writer.container_removed(ENGINE, container("web").id, None)
    name = "web.corp.example."
    assert running.writer.ownership.decide(name, messages.A, time.time()).act is not Act.FORWARD
    running.reload({"remember": 0, "search-domain": "corp.example"})
    assert running.writer.ownership.decide(name, messages.A, time.time()).act is Act.FORWARD


def replica(engine: str, number: int, **more: object) -> Container:
    """One of several containers of one name, each on its own Engine."""
    attachment = Attachment("bridge", "b" * 64, addresses=(f"172.17.0.{number}",))
    labels = {"containerdns.names": "pair"}
    return Container(
        f"{number}".rjust(64, "0"), f"pair{number}", engine, "running",
        docker_labels=labels, attachments=(attachment,), **more,  # type: ignore[arg-type]
    )  # fmt: skip


class TwoEngines:
    """A writer with a container of one name on each of two Engines."""

    def __init__(self, grace: int) -> None:
        self.urls = ("unix:///run/a.sock", "unix:///run/b.sock")
        options = {"docker": list(self.urls), "engine-grace": grace}
        self.writer = ZoneWriter(
            load(options, {}), Counters(), PacketCache(Counters()), frozenset()
        )
        for number, url in enumerate(self.urls, 2):
            self.writer.connected(url)
            self.writer.container_changed(url, replica(url, number), None)
            self.writer.listed(url)

    def housekeeping(self) -> None:
        self.writer._look_at_lost_engines()

    def addresses(self, owner: str) -> list[str]:
        view = self.writer.views.of(CLIENT, CLIENT)
        suffix = Suffix("docker.", SuffixKind.DOMAIN)
        found = records.of_owner(self.writer.zone, owner, suffix, view)
        return sorted(socket.inet_ntoa(r.rdata) for r in found if r.rtype == messages.A)


def test_lost_engine_yields_to_others_and_comes_back() -> None:
    """The contract, --engine-grace: after so long, as --unhealthy drop does."""
    both = ["172.17.0.2", "172.17.0.3"]
    two = TwoEngines(grace=0)
    assert two.addresses("pair") == both
    two.writer.zone.is_ahead = False
    serial = two.writer.zone.serial
    two.writer.disconnected(two.urls[0], "gone")
    two.housekeeping()
    assert two.addresses("pair") == ["172.17.0.3"]
    assert two.addresses("pair2") == ["172.17.0.2"]  # which has no others
    assert two.writer.zone.is_ahead or two.writer.zone.serial != serial
    decision = two.writer.ownership.decide("pair2.localdomain.", messages.A, time.time())
    assert decision.act is Act.ZONE
    two.writer.connected(two.urls[0])  # what it has to say is not known yet
    assert two.addresses("pair") == ["172.17.0.3"]
    two.writer.listed(two.urls[0])
    assert two.addresses("pair") == both


def test_engine_lost_for_less_than_its_grace_counts_as_before() -> None:
    two = TwoEngines(grace=3600)
    two.writer.disconnected(two.urls[0], "gone")
    two.housekeeping()
    assert two.addresses("pair") == ["172.17.0.2", "172.17.0.3"]
    two.writer.use(load({"docker": list(two.urls), "engine-grace": 0}, {}), time.time())
    two.housekeeping()
    assert two.addresses("pair") == ["172.17.0.3"]


def test_engines_that_are_all_lost_keep_their_addresses() -> None:
    two = TwoEngines(grace=0)
    for url in two.urls:
        two.writer.disconnected(url, "gone")
    two.housekeeping()
    assert two.addresses("pair") == ["172.17.0.2", "172.17.0.3"]


def test_unhealthy_container_is_better_than_one_of_a_lost_engine() -> None:
    two = TwoEngines(grace=0)
    two.writer.container_changed(two.urls[1], replica(two.urls[1], 3, health="unhealthy"), None)
    assert two.addresses("pair") == ["172.17.0.2"]
    two.writer.disconnected(two.urls[0], "gone")
    two.housekeeping()
    assert two.addresses("pair") == ["172.17.0.3"]


def test_lost_engine_is_explained() -> None:
    two = TwoEngines(grace=0)
    two.writer.disconnected(two.urls[0], "gone")
    two.housekeeping()
    view = two.writer.views.of(CLIENT, CLIENT)
    rules = two.writer.ownership
    told = explain(rules, "pair.docker.", messages.A, view, time.time())
    assert "pair2 is left out, as its Engine is lost: unix:///run/a.sock" in told.reason


def test_hosts_file_that_is_configured_no_more_is_dropped(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("192.0.2.1 printer\n")
    second.write_text("192.0.2.2 scanner\n")
    running = Running(hosts=[str(first)])
    assert running.ask("printer.docker") == (0, [(5, packed("192.0.2.1"))])
    running.reload({"hosts": [str(second)], "ttl": 8})
    assert running.ask("printer.docker")[0] == messages.NXDOMAIN
    assert running.ask("scanner.docker") == (0, [(8, packed("192.0.2.2"))])


def test_containers_may_change_while_they_are_published_anew() -> None:
    many = [container(f"web{number}") for number in range(200)]
    running = Running(*many)
    running.writer.use(settings(ttl=7), time.time())
    running.responder.use(running.writer.ownership)
    work = running.writer.publish_anew()
    work.send(None)  # until it lets others have a turn
    running.writer.container_died(ENGINE, many[150].id, None)
    running.writer.container_removed(ENGINE, many[151].id, None)
    running.writer.container_changed(ENGINE, container("late"), None)
    asyncio.run(work)
    assert running.ask("web150.docker")[0] == messages.NXDOMAIN
    assert running.ask("web151.docker")[0] == messages.NXDOMAIN
    assert {running.ask(f"web{number}.docker")[1][0][0] for number in (0, 149, 199)} == {7}
    assert running.ask("late.docker")[1][0][0] == 7

"""What `/containers` and the page show of a container: what DNS answers, and nothing else."""

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from containerdns.config import client_targets, values
from containerdns.config.settings import load
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol import messages
from containerdns.core.protocol.cookies import Cookies
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.protocol.query_history import History, PastOutcome, QueryStamp
from containerdns.core.protocol.respond import Peer, Reply, Responder
from containerdns.core.zone.containers import Attachment, Container, PortBinding
from containerdns.core.zone.views import packed
from containerdns.state.reports import Reports
from containerdns.state.zone_writer import ZoneWriter
from containerdns.upstream.forwarder import Forwarder
from tests.fuzz.worlds import contents

ENGINE = "unix:///run/docker.sock"
CLIENT = packed("127.0.0.1")


def container(name: str, address: str, *, health: str = "", **more: Any) -> Container:
    labels = {f"containerdns.{key}": value for key, value in more.pop("labels", {}).items()}
    attachment = Attachment("front", "f" * 64, addresses=(address,) if address else ())
    usual = {"state": "running", "docker_labels": labels, "attachments": (attachment,)}
    # An id of digits that is another for each, as Docker's is.
    number = "".join(f"{octet:02x}" for octet in name.encode()).ljust(64, "0")
    return Container(number, name, ENGINE, health=health, **(usual | more))


CONTAINERS = [
    container("web", "172.18.0.2"),
    container("hidden", "172.18.0.3", labels={"enable": "false"}),
    container("stopped", "", state="exited"),
    container("alias", "172.18.0.4", labels={"cname": "target.example."}),
    container("good", "172.18.0.5", labels={"names": "pair"}),
    container("sick", "172.18.0.6", labels={"names": "pair"}, health="unhealthy"),
    container("loser", "172.18.0.7", hostname="web"),
    container("lonely", ""),
    container("chosen", "172.18.0.8", labels={"address": "192.0.2.8"}),
    container("exact", "172.18.0.9", labels={"fqdns": "search.corp.example"}),
    container("onhost", "", network_mode="host"),
    container("faulty", "172.18.0.10", labels={"ttl": "soon"}, hostname="a..b"),
    container(
        "composed",
        "172.18.0.11",
        docker_labels={"com.docker.compose.project": "shop"},
        ports=(PortBinding(80, "tcp", 8080), PortBinding(53, "udp"), PortBinding(80, "tcp", 8081)),
    ),
]


class Listening:
    """DNS sockets that are open, or none."""

    def __init__(self, endpoints: Sequence[Endpoint] = ()) -> None:
        self.endpoints = endpoints

    def tally_in_pieces(self) -> Iterator[None]:
        return iter(())


@pytest.fixture(scope="module")
def writer() -> ZoneWriter:
    counters = Counters()
    made = ZoneWriter(load({"docker": ENGINE}, {}), counters, PacketCache(counters), frozenset())
    for each in CONTAINERS:
        made.container_changed(ENGINE, each, None)
    made.listed(ENGINE)
    return made


@pytest.fixture(scope="module")
def history() -> History:
    return History(9)


@pytest.fixture(scope="module")
def reports(writer: ZoneWriter, history: History) -> Reports:
    counters = writer.counters
    forwarder = Forwarder(writer.settings.upstream, counters, lambda _: False)
    return Reports(writer, forwarder, history, Listening(), {})


@pytest.fixture(scope="module")
def shown(reports: Reports) -> dict[str, dict[str, Any]]:
    return {c["name"]: c for c in reports.containers()["containers"]}


def answered(writer: ZoneWriter, name: str) -> set[str]:
    """The addresses that DNS answers for a name, of every type."""
    responder = Responder(writer.ownership, Cookies(bytes(16)), Counters())
    peer = Peer(CLIENT, CLIENT, writer.views.of(CLIENT, CLIENT))
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    data = messages.query(1, messages.RD, labels + b"\0\0\1\0\1")
    reply = responder.respond(data, peer, time.time())
    assert isinstance(reply, Reply)
    return {
        socket.inet_ntoa(rr.rdata)
        for rr in contents(reply.octets).sections[0]
        if rr.rtype == messages.A
    }


def test_each_name_that_is_shown_is_answered_so(
    writer: ZoneWriter, shown: dict[str, dict[str, Any]]
) -> None:
    count = 0
    for each in shown.values():
        for name in each["names"]:
            owner = name["name"]
            asked = owner.rstrip(".") if owner.endswith(".") else f"{owner}.docker"
            if not each["cname"]:
                assert {a["address"] for a in each["addresses"]} <= answered(writer, asked), asked
                count += 1
    assert count > len(CONTAINERS)


@pytest.mark.parametrize(
    ("name", "unanswered"),
    [
        ("hidden", "label containerdns.enable=false"),
        ("stopped", "not running"),
        ("web", ""),
    ],
)
def test_what_dns_does_not_answer_has_no_names(
    name: str, unanswered: str, shown: dict[str, dict[str, Any]]
) -> None:
    each = shown[name]
    assert each["unanswered"] == unanswered
    assert bool(each["names"]) == (not unanswered)
    assert bool(each["addresses"]) == (not unanswered)


def test_names_that_others_have_are_not_shown(shown: dict[str, dict[str, Any]]) -> None:
    """`web` is the container's of that name; `pair` leads to the healthy one alone."""
    names = {name: {n["name"] for n in each["names"]} for name, each in shown.items()}
    assert "web" in names["web"]
    assert "web" not in names["loser"]
    assert "loser" in names["loser"]
    assert "pair" in names["good"]
    assert "pair" not in names["sick"]
    assert "sick" in names["sick"]


def test_aliases_and_addresses_of_labels_are_shown(shown: dict[str, dict[str, Any]]) -> None:
    assert (shown["alias"]["cname"], shown["alias"]["addresses"]) == ("target.example.", [])
    assert [a["address"] for a in shown["chosen"]["addresses"]] == ["192.0.2.8"]
    assert "search.corp.example." in {n["name"] for n in shown["exact"]["names"]}
    assert shown["lonely"]["names"] != []
    assert shown["lonely"]["addresses"] == []  # NODATA


async def test_metrics_count_lost_and_remembered_names(writer: ZoneWriter) -> None:
    """`loser` has the host name of `web`."""
    counters = writer.counters
    forwarder = Forwarder(writer.settings.upstream, counters, lambda _: False)
    reports = Reports(writer, forwarder, History(0), Listening(), {})
    running = asyncio.create_task(forwarder.run())
    await forwarder.has_started.wait()
    *_, gauges = reports.gauges()
    running.cancel()
    await asyncio.wait([running])
    assert gauges is not None
    assert gauges.names_lost == len(list(writer.zone.losses())) > 0
    assert gauges.remembered_names == 0
    assert "lost" not in gauges.zone_records


def test_faults_are_of_labels_or_of_names(reports: Reports) -> None:
    faults = {(f["of"], f["text"]) for f in reports.containers()["faults"] if f}
    assert faults == {("label", "containerdns.ttl=soon"), ("name", "a..b")}


def test_project_and_tcp_ports_are_shown(shown: dict[str, dict[str, Any]]) -> None:
    assert (shown["composed"]["project"], shown["composed"]["ports"]) == ("shop", [80])
    assert (shown["web"]["project"], shown["web"]["ports"]) == ("", [])


def test_client_of_a_query_is_named_after_its_container(reports: Reports, history: History) -> None:
    for address in ("172.18.0.2", "192.0.2.77"):
        stamp = QueryStamp("udp", time.time())
        history.add(stamp, packed(address), PastOutcome("web.", messages.A, 0, "zone", None))
    _, queries = reports.queries(0, None)
    assert [query["client_name"] for query in queries] == ["web", None]


async def test_questions_kept_are_those_of_the_day_and_of_all_time(
    reports: Reports, writer: ZoneWriter
) -> None:
    await reports.take_sample()
    before = reports.kept()["total"]
    writer.counters.kept_from_upstream += 3
    kept = reports.kept()
    assert (kept["day"], kept["total"]) == (3, before + 3)


@pytest.mark.parametrize(
    ("listening", "server", "is_given", "servers"),
    [
        (["0.0.0.0:53"], "10.8.0.1", False, ["10.8.0.1:53"]),
        (["0.0.0.0:5353"], "10.8.0.1", False, ["10.8.0.1:5353"]),
        (["10.8.0.1:53", "127.0.0.1:54"], "127.0.0.1", False, ["127.0.0.1:54"]),
        (["10.8.0.1:53"], "192.168.1.5", False, ["10.8.0.1:53"]),
        (["10.8.0.1:53"], "192.168.1.5", True, ["192.168.1.5:53"]),
        ([], "192.168.1.5", False, ["192.168.1.5:53"]),
    ],
    ids=["everywhere", "other port", "same address", "elsewhere", "given", "not yet open"],
)
def test_clients_are_told_the_address_that_they_reach(
    listening: list[str], server: str, is_given: bool, servers: list[str], writer: ZoneWriter
) -> None:
    endpoints = [values.endpoint(text) for text in listening]
    counters = writer.counters
    forwarder = Forwarder(writer.settings.upstream, counters, lambda _: False)
    reports = Reports(writer, forwarder, History(0), Listening(endpoints), {})
    document = reports.client_config(server, is_given=is_given)
    assert document["servers"] == servers
    assert {each["target"] for each in document["targets"]} == set(client_targets.WRITERS)
    assert document["domains"] == ["docker"]


def test_names_are_shown_in_the_order_of_the_rules(reports: Reports) -> None:
    """The page copies the first one: the container's own name, not that on a network."""
    shown = {c["name"]: [n["name"] for n in c["names"]] for c in reports.containers()["containers"]}
    assert shown["web"] == ["web", CONTAINERS[0].id[:12], "web.front"]


def test_exact_name_is_not_called_bare(reports: Reports) -> None:
    """It stands in the zone of bare names, but /explain calls its rule the same."""
    rules = {}
    for name in ("search.corp.example.", "web."):
        document = reports.zone_json(".", name)
        assert document is not None
        rules[name] = [record["rule"] for record in document["records"] if record]
    assert rules == {
        "search.corp.example.": ["label containerdns.fqdns"],
        "web.": ["bare container name"],
    }


@pytest.mark.parametrize(
    ("listening", "client", "address"),
    [
        (["0.0.0.0:53", "[::]:53"], "127.0.0.1", "127.0.0.1"),
        (["0.0.0.0:53", "[::]:53"], "::1", "::1"),
        (["127.0.0.7:53", "127.0.0.1:53"], "127.0.0.1", "127.0.0.1"),
        (["127.0.0.7:53"], "127.0.0.1", "127.0.0.7"),
        (["[::]:53"], "127.0.0.1", None),
        ([], "127.0.0.1", None),
    ],
    ids=["all", "all of IPv6", "one of several", "another", "none of the family", "not yet open"],
)
async def test_address_of_the_host_is_explained_as_dns_answers_it(
    listening: list[str], client: str, address: str | None, writer: ZoneWriter
) -> None:
    """It is the one that the query comes in on: of this machine, the one towards the client."""
    endpoints = [values.endpoint(text) for text in listening]
    forwarder = Forwarder(writer.settings.upstream, writer.counters, lambda _: False)
    reports = Reports(writer, forwarder, History(0), Listening(endpoints), {})
    for name in ("host", "onhost.docker"):
        document = await reports.explain(name, "AAAA" if ":" in client else "A", client, [])
        records = [record["data"] for record in document["queries"][0]["records"]]
        assert records == ([address] if address else [])


def test_service_without_a_virtual_address_is_not_said_to_lack_one(
    writer: ZoneWriter, reports: Reports
) -> None:
    """It claims no names; its tasks have them."""
    front = Attachment("front", "f" * 64, aliases=("www",))
    service = Container("service:s1", "swarmed", ENGINE, "running", attachments=(front,))
    writer.container_changed(ENGINE, service, None)
    pieces = reports.zone_text(None, None)
    assert pieces is not None
    text = "".join(piece for piece in pieces if piece)
    assert "lonely has no address" in text
    assert "swarmed" not in text

"""What secondaries get of each change, from a writer to the copies that transfers read."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from containerdns.config.settings import load
from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone import records
from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.containers import Attachment, Container
from containerdns.core.zone.journal import serial_of
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Suffix, SuffixKind
from containerdns.state.secondaries import Feed
from containerdns.state.zone_writer import ZoneWriter
from tests.fuzz.generating import ENGINE, NETWORKS
from tests.reading_zones import in_zone
from tests.timing import MAX_WAIT

DOCKER = Suffix("docker.", SuffixKind.DOMAIN)
NOBODY = View(True, True, True, False, frozenset(), ("192.0.2.1",), ("192.0.2.1",))


@dataclass
class Notified:
    """The sender of NOTIFY.

    Attributes:
        told: The serials, by apex.
        came: Set when there is one.
    """

    told: dict[str, list[int]] = field(default_factory=dict)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def changed(self, apex: str, soa: RR) -> None:
        self.told.setdefault(apex, []).append(serial_of(soa))
        self.came.set()


class Primary:
    """A writer and its feed, and which serials a secondary has."""

    def __init__(self, **options: object) -> None:
        self.writer = ZoneWriter(
            load({"docker": ENGINE, **options}, {}),
            Counters(),
            PacketCache(Counters()),
            frozenset(),
        )
        self.serials: dict[str, int] = {}  # as transferred last, by apex
        self.notified = Notified()
        self.view = NOBODY
        self.feed = Feed(self.writer.zone, lambda: self.view, self.notified, notifies=True)
        self.writer.feed = self.feed
        self.writer.networks_changed(ENGINE, NETWORKS)
        self.writer.listed(ENGINE)

    def start(self, number: int, name: str, *networks: str, **labels: str) -> Container:
        """A container starts, or is seen again, with its addresses and labels."""
        attachments = tuple(
            Attachment(n.name, n.id, (n.gateways[0].rpartition(".")[0] + f".{number}",))
            for n in NETWORKS
            if n.name in (networks or ("front",))
        )
        docker_labels = {f"containerdns.{key}": value for key, value in labels.items()}
        container = Container(
            f"{number:064x}", name, ENGINE, "running",
            attachments=attachments, docker_labels=docker_labels,
        )  # fmt: skip
        self.writer.container_changed(ENGINE, container, None)
        return container

    def stop(self, container: Container) -> None:
        self.writer.container_died(ENGINE, container.id, None)

    def tick(self) -> None:
        """Let the next second come, whatever the clock says."""
        self.writer.tick(self.writer.zone.serial + 1)

    async def held(self, apex: str = "docker.") -> set[tuple[str, str, str]]:
        """A zone as a transfer gives it now: owner, type, data."""
        self.tick()
        copy = await self.feed.current(apex)
        assert copy is not None
        self.serials[apex] = copy.serial
        return set(map(shown, copy.records()))

    async def step(self, apex: str = "docker.") -> tuple[set[str], set[str]]:
        """The owners and data that IXFR takes away and brings since the last time."""
        self.tick()
        copy = await self.feed.current(apex)
        assert copy is not None
        steps = copy.since(self.serials[apex])
        assert steps is not None, "the zone is sent whole"
        self.serials[apex] = copy.serial
        removed = {" ".join(shown(r)[::2]) for step in steps for r in step.removed}
        added = {" ".join(shown(r)[::2]) for step in steps for r in step.added}
        return removed - added, added - removed


def shown(record: RR) -> tuple[str, str, str]:
    data = messages.data_text(record.rtype, record.rdata)
    return names.from_wire(record.owner), messages.type_text(record.rtype), data


@asynccontextmanager
async def primary(**options: object) -> AsyncIterator[Primary]:
    """A primary that a secondary has copied once."""
    made = Primary(**options)
    await made.held()
    yield made


async def test_absolute_name_beside_a_relative_one_of_equal_rank_is_told_both_ways() -> None:
    """Both are labels' names, and one answer: each one's coming and going changes it."""
    async with primary() as made:
        made.start(2, "one", names="x")
        other = made.start(3, "two", fqdns="x.docker")
        _, added = await made.step()
        assert {"x.docker. 172.18.0.2", "x.docker. 172.18.0.3"} <= added
        made.stop(other)
        removed, _ = await made.step()
        assert "x.docker. 172.18.0.3" in removed
        assert "x.docker. 172.18.0.2" not in removed


async def test_relative_name_that_takes_an_absolute_one_away_is_told() -> None:
    """A label's name has a higher rank than a host name, in whatever order they come."""
    async with primary() as made:
        guest = replace(made.start(2, "guest"), hostname="y")
        made.writer.container_changed(ENGINE, guest, None)
        holder = made.start(3, "holder", fqdns="y.docker")
        _, added = await made.step()
        assert "y.docker. 172.18.0.3" in added
        assert "y.docker. 172.18.0.2" not in added
        made.stop(holder)
        removed, added = await made.step()
        assert "y.docker. 172.18.0.3" in removed
        assert "y.docker. 172.18.0.2" in added


async def test_own_container_that_joins_a_network_changes_addresses_of_others() -> None:
    """Contract, section 3, rule 3: of several networks, those that we share count."""
    async with primary() as made:
        own = made.start(9, "dns", "back")
        made.writer._own_container = own.id
        made.writer.networks_changed(ENGINE, NETWORKS)
        made.start(2, "web", "front", "back")
        assert ("web.docker.", "A", "172.18.0.2") not in await made.held()
        made.start(9, "dns", "front", "back")
        _, added = await made.step()
        assert "web.docker. 172.18.0.2" in added


async def test_host_s_address_that_becomes_known_is_in_the_zone() -> None:
    """In a container it is the gateway, which is known when our own container is."""
    async with primary() as made:
        writer = made.writer
        writer.feed = made.feed = Feed(
            writer.zone, lambda: writer.neutral_view(()), made.notified, notifies=False
        )
        assert not [owner for owner, rtype, _ in await made.held() if rtype == "A"]
        serial = writer.zone.serial
        own = made.start(9, "dns")
        writer._own_container = own.id
        writer.networks_changed(ENGINE, NETWORKS)
        assert ("host.docker.", "A", "172.18.0.1") in await made.held()
        assert writer.zone.serial != serial


async def test_text_of_a_name_is_hidden_and_shown_by_a_container_of_its_name() -> None:
    async with primary() as made:
        made.start(2, "web", **{"txt.key": "v"})
        _, added = await made.step()
        assert 'key.web.docker. "v"' in added
        hiding = made.start(3, "key.web")
        removed, _ = await made.step()
        assert 'key.web.docker. "v"' in removed
        made.stop(hiding)
        assert 'key.web.docker. "v"' in (await made.step())[1]


async def test_change_is_part_of_a_transfer_at_once() -> None:
    """Nothing waits to be told: who asks in the same moment gets the difference."""
    async with primary() as made:
        for number in range(2, 9):
            made.start(number, f"web{number}")
            _, added = await made.step()
            assert f"web{number}.docker. 172.18.0.{number}" in added


async def test_reload_that_changes_what_containers_publish_is_told_as_differences() -> None:
    async with primary() as made:
        made.start(2, "web")
        await made.held()
        made.writer.settings = load({"docker": ENGINE, "ttl": "5", "wildcard": "true"}, {})
        await made.writer.publish_anew()
        _, added = await made.step()
        assert "*.web.docker. 172.18.0.2" in added


async def test_reload_with_another_domain_forgets_the_old_zone() -> None:
    async with primary() as made:
        wanted = load({"docker": ENGINE, "domain": ["lan.test"]}, {})
        made.writer.use(wanted, time.time())
        made.tick()
        assert await made.feed.current("docker.") is None
        assert ("host.lan.test.", "A", "192.0.2.1") in await made.held("lan.test.")


async def test_names_of_a_search_domain_inside_a_domain_are_in_its_zone() -> None:
    """They are answered below the domain, so that a secondary must not deny them."""
    async with primary(**{"search-domain": ["lab.docker", "corp.example"]}) as made:
        made.start(2, "web", fqdns="x.lab.docker", **{"txt.key": "v"})
        _, added = await made.step()
        held = await made.held()
        assert ("web.lab.docker.", "A", "172.18.0.2") in held
        assert ("x.lab.docker.", "A", "172.18.0.2") in held
        assert ("key.web.lab.docker.", "TXT", '"v"') in held
        assert not [owner for owner, _, _ in held if owner.endswith(".corp.example.")]
        assert "web.lab.docker. 172.18.0.2" in added


async def test_wildcard_over_a_search_domain_hides_its_names_as_long_as_it_is_there() -> None:
    async with primary(**{"search-domain": ["lab.docker"]}) as made:
        made.start(2, "web")
        shown_name = ("web.lab.docker.", "A", "172.18.0.2")
        assert shown_name in await made.held()
        wild = made.start(3, "lab", wildcard="true")
        assert shown_name not in await made.held()
        made.stop(wild)
        assert shown_name in await made.held()


async def test_domain_below_a_domain_is_delegated_and_its_names_are_in_its_own_zone() -> None:
    """RFC 5936 section 3.3: else a secondary of the upper zone alone would deny the lower one."""
    async with primary(domain=["docker", "eu.docker"]) as made:
        made.start(2, "web", names="deep.eu")
        upper, lower = await made.held("docker."), await made.held("eu.docker.")
        below = {record for record in upper if record[0].endswith("eu.docker.")}
        assert below == {
            ("eu.docker.", "NS", "ns.eu.docker."),
            ("ns.eu.docker.", "A", "192.0.2.1"),
        }
        assert ("web.eu.docker.", "A", "172.18.0.2") in lower


async def test_reverse_zone_follows_by_differences() -> None:
    async with primary() as made:
        apex = "18.172.in-addr.arpa."
        await made.held(apex)
        web = made.start(2, "web")
        pointer = "2.0.18.172.in-addr.arpa. web.docker."
        assert await made.step(apex) == (set(), {pointer})
        made.stop(web)
        assert await made.step(apex) == ({pointer}, set())


async def test_network_that_is_removed_takes_its_reverse_zone_along() -> None:
    async with primary() as made:
        assert await made.feed.current("18.172.in-addr.arpa.") is not None
        before = made.writer.zone.serial
        made.writer.networks_changed(ENGINE, NETWORKS[1:])
        assert await made.feed.current("18.172.in-addr.arpa.") is None
        made.tick()
        assert made.writer.zone.serial != before


async def test_name_of_very_many_containers_follows_by_differences() -> None:
    """BIND refuses a zone with more than 100 records of one type at a name."""
    async with primary() as made:
        count = records.MANY_HOLDERS + 5
        started = [
            made.start(number, f"web{number}", names="many", **{"txt.key": f"v{number}"})
            for number in range(2, count)
        ]
        assert records.is_large(made.writer.zone, "many.docker.", DOCKER)
        await made.step()
        whole = {shown(r.rr()) for r in in_zone(made.writer.zone, DOCKER, NOBODY)}
        for key in (("many.docker.", "A"), ("key.many.docker.", "TXT")):
            held = {record for record in await made.held() if record[:2] == key}
            assert held < {record for record in whole if record[:2] == key}
            assert len(held) == records.MAX_OF_TYPE
        made.stop(started[0])
        removed, added = await made.step()
        assert "many.docker. 172.18.0.2" in removed
        assert len([text for text in added if text.startswith("many.docker. ")]) == 1


async def test_large_zone_is_read_in_turns() -> None:
    """Others answer between them; a transfer that began earlier is not held up either."""
    async with primary() as made:
        made.feed.renewed()
        for number in range(2, 250):
            made.start(number, f"web{number}", names=",".join(f"n{number}-{i}" for i in range(9)))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        held = await made.held()
        counting.cancel()
        assert len(held) > 2480
        assert turns > 3


@pytest.mark.parametrize("change", ["container", "settings", "networks"])
async def test_secondaries_are_notified_once_of_the_changes_of_a_moment(change: str) -> None:
    async with primary() as made:
        made.notified.told.clear()
        made.notified.came.clear()
        match change:
            case "container":
                for number in range(2, 20):
                    made.start(number, f"web{number}")
            case "settings":
                made.writer.use(load({"docker": ENGINE, "ttl": "7"}, {}), time.time())
            case _:
                made.writer.networks_changed(ENGINE, NETWORKS[:1])
        made.tick()
        async with asyncio.timeout(MAX_WAIT):
            await made.notified.came.wait()
        assert made.notified.told["docker."] == [made.writer.zone.serial]
        assert made.notified.told["18.172.in-addr.arpa."] == [made.writer.zone.serial]


async def test_zone_in_pieces_is_what_is_transferred() -> None:
    """It is counted so; none of its steps makes the records of thousands of holders."""
    async with primary() as made:
        for number in range(2, records.MANY_HOLDERS + 10):
            made.start(number, f"web{number}", names="many")
        pieces = list(records.in_pieces(made.writer.zone, DOCKER, NOBODY))
        assert None in pieces
        found = {shown(p.rr()) for p in pieces if p is not None and p.rtype != messages.SOA}
        assert found == await made.held()


async def test_after_an_internal_error_zones_are_taken_whole() -> None:
    """What the copies missed would otherwise be missing forever."""
    async with primary() as made:
        working = made.feed.changed

        def failing(changed: Iterable[str]) -> None:
            raise RuntimeError(f"on purpose, at {changed}")

        made.feed.changed = failing  # type: ignore[method-assign]
        made.start(2, "web")
        made.feed.changed = working  # type: ignore[method-assign]
        made.tick()
        copy = await made.feed.current("docker.")
        assert copy is not None
        assert copy.since(made.serials["docker."]) is None
        assert ("web.docker.", "A", "172.18.0.2") in await made.held()


async def test_catalog_lists_the_zones_and_tells_of_new_ones_in_differences() -> None:
    """RFC 9432; members come and go with domains and with Docker's networks."""
    async with primary(domain=["docker", "corp.example"]) as made:
        held = await made.held(CATALOG)
        zones = {data for _, rtype, data in held if rtype == "PTR"}
        assert {"docker.", "corp.example."} < zones
        assert all(zone.endswith(".arpa.") for zone in zones - {"docker.", "corp.example."})
        made.writer.networks_changed(ENGINE, NETWORKS[:1])
        removed, added = await made.step(CATALOG)
        assert removed
        assert not added
        made.start(1, "web")
        assert await made.step(CATALOG) == (set(), set())

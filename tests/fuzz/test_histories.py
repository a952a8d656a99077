"""Whatever happened before, what is served is what a new server would serve.

Unlike in `test_agreement`, each new container has an id of its own, as Docker gives it: a
claim of a container that is gone then differs from that of the one in its place.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from containerdns.core.protocol.messages import SOA, A
from containerdns.core.protocol.respond import Reply
from containerdns.core.upstream.forwarding import Forward
from containerdns.core.zone.containers import Container
from containerdns.core.zone.policy import SERVICE_ID, SWARM
from containerdns.core.zone.zone import Suffix, SuffixKind
from tests.fuzz import generating
from tests.fuzz.generating import CLIENTS, CONTAINER_NAMES, ENGINE, NETWORKS, QTYPES, query
from tests.fuzz.worlds import Change, World, contents
from tests.reading_zones import in_zone

OPTIONS: tuple[dict[str, object], ...] = (
    {},
    {"wildcard": "true"},
    {"remember": "0"},
    {"bare-names": "false", "unhealthy": "keep"},
    {"host-mode": "true", "host-address": ["192.0.2.1", "2001:db8::1"]},
    {"network": ["back", "front"], "ttl": "9"},
    {"expose-by-default": "false"},
    {"name-template": ["{service}-{project}", "t.{name}"]},
    {"domain": ["docker", "other"], "search-domain": ["docker.example", "corp.example"]},
)
HOSTS = ("", "192.0.2.70 web nas\n", "192.0.2.71 web\n2001:db8::71 files.corp.example db.docker\n")
COMPOSE = "com.docker.compose."
questions = st.tuples(generating.asked_names, st.sampled_from(QTYPES), st.sampled_from(CLIENTS))
compose_labels = st.builds(
    lambda project, service, number: {
        f"{COMPOSE}project": project,
        f"{COMPOSE}service": service,
        f"{COMPOSE}container-number": number,
        f"{COMPOSE}oneoff": "False",
    },
    st.sampled_from(("p", "q")),
    st.sampled_from(("s", "web", "db")),
    st.sampled_from(("1", "2")),
)


class Histories(RuleBasedStateMachine):
    """One server to which things happen, compared with a new one after each of them."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="cdns-")
        self._hosts = Path(self._folder.name) / "hosts"
        self._hosts.touch()
        self._options: dict[str, object] = {}
        self._networks = len(NETWORKS)
        self._made = 0
        self._asked: dict[tuple[str, int, str], None] = {}
        self._owners: set[str] = set()  # that anything ever claimed
        self._kept: set[str] = set()  # that are ours because of what exists now
        self._remembered: set[str] = set()
        self.world = self._world()
        self._shown = self._records(self.world)

    def teardown(self) -> None:
        self._folder.cleanup()

    # -- what happens ----------------------------------------------------------------------

    @rule(target=ids, container=generating.containers)
    def create(self, container: Container) -> str:
        return self._put(replace(container, id=self._new_id()))

    @rule(target=ids, container=generating.containers, labels=compose_labels)
    def up(self, container: Container, labels: dict[str, str]) -> str:
        named = "-".join(labels[f"{COMPOSE}{key}"] for key in ("project", "service"))
        labels = {**container.docker_labels, **labels}
        return self._put(
            replace(
                container,
                id=self._new_id(),
                container_name=named,
                docker_labels=labels,
                state="running",
            )
        )

    @rule(target=ids, container=generating.containers, lender=ids)
    def share(self, container: Container, lender: str) -> str:
        mode = f"container:{lender}"
        return self._put(replace(container, id=self._new_id(), network_mode=mode, attachments=()))

    @rule(target=ids, old=consumes(ids), address=st.sampled_from(generating.ADDRESSES["front"]))
    def recreate(self, old: str, address: str) -> str:
        """As Compose does: the new one beside the old, which goes, then the name."""
        was = self.world.writer.inventory.get(old)
        if was is None:
            return old
        new = replace(was, id=self._new_id(), container_name=f"{old[:12]}_{was.container_name}")
        self._put(replace(new, state="created"))
        self.die(old)
        self.remove(old)
        front = generating.attachment("front", address, ("www",))
        self._put(replace(new, state="running", attachments=(front,)))
        return self._put(
            replace(
                new,
                state="running",
                attachments=(front,),
                container_name=was.container_name,
            )
        )

    @rule(container_id=ids, container=generating.containers)
    def change(self, container_id: str, container: Container) -> None:
        self._put(replace(container, id=container_id))

    @rule(container_id=ids, name=st.sampled_from(CONTAINER_NAMES))
    def rename(self, container_id: str, name: str) -> None:
        self._with(container_id, lambda c: replace(c, container_name=name))

    @rule(container_id=ids, state=st.sampled_from(("running", "paused", "exited")))
    def set_state(self, container_id: str, state: str) -> None:
        self._with(container_id, lambda c: replace(c, state=state))

    @rule(container_id=ids)
    def die(self, container_id: str) -> None:
        self.world.writer.container_died(ENGINE, container_id, None)
        self._note_kept()

    @rule(container_id=consumes(ids))
    def remove(self, container_id: str) -> None:
        self.world.writer.container_removed(ENGINE, container_id, None)
        self._note_kept()

    @rule(
        target=ids,
        name=st.sampled_from(("web", "s", "swarm_web")),
        tasks=st.integers(0, 3),
        labels=generating.docker_labels,
        is_virtual=st.booleans(),
    )
    def deploy(self, name: str, tasks: int, labels: dict[str, str], *, is_virtual: bool) -> object:
        """A swarm service with a virtual address or without, and its tasks."""
        service_id = self._new_id()[:25]
        front = generating.attachment("front", "172.18.0.99", ("db",))
        if not is_virtual:
            front = replace(front, addresses=())
        service = Container(
            f"{SERVICE_ID}{service_id}",
            name,
            ENGINE,
            "running",
            attachments=(front,),
            docker_labels=labels,
        )
        made = [self._put(service)]
        for slot in range(1, tasks + 1):
            of_task = {
                f"{SWARM}service.id": service_id,
                f"{SWARM}service.name": name,
                f"{SWARM}task.name": f"{name}.{slot}.x",
            }
            address = generating.attachment("front", f"172.18.0.{90 + slot}", ())
            task = Container(
                self._new_id(),
                f"{name}.{slot}.x",
                ENGINE,
                "running",
                attachments=(address,),
                docker_labels=of_task,
            )
            made.append(self._put(task))
        return multiple(*made)

    @rule(count=st.integers(0, len(NETWORKS)))
    def networks(self, count: int) -> None:
        self._networks = count
        self.world.writer.networks_changed(ENGINE, NETWORKS[:count])

    @rule(container_id=ids)
    def own(self, container_id: str) -> None:
        self.world.be(container_id)

    @rule(text=st.sampled_from(HOSTS))
    def write_hosts(self, text: str) -> None:
        self._hosts.write_text(text)
        self.world.writer.read_hosts()
        self._note_kept()

    @rule(options=st.sampled_from(OPTIONS))
    def reload(self, options: dict[str, object]) -> None:
        self._options = options
        self.world.reload(**options, hosts=[str(self._hosts)])
        while self.world.writer.expire(time.time()):  # as it does each second
            pass
        self._note_kept()

    @rule()
    def expire(self) -> None:
        self.world.writer.expire(time.time() + 10**6)
        self._remembered.clear()

    @rule()
    def end_handovers(self) -> None:
        while self.world.writer.end_handovers(time.time() + 10**6):
            pass
        assert not len(self.world.writer.zone.handovers)

    @rule(asked=st.lists(questions, min_size=5, max_size=20))
    def ask(self, asked: list[tuple[str, int, str]]) -> None:
        """Ask now, and after whatever happens from now on."""
        self._asked.update(dict.fromkeys(asked))

    # -- what must be so -------------------------------------------------------------------

    @invariant()
    def says_what_one_made_anew_says(self) -> None:
        anew = self._anew()
        self._compare_zones(anew)
        for name, qtype, client in self._asked:
            data = query(name, qtype)
            peer, peer_anew = self.world.peer(client), anew.peer(client)
            expected = anew.fresh(data, peer_anew)
            for _ in range(2):  # the second may be a denial that was learnt from the first
                fresh = self.world.fresh(data, peer)
                assert _said(fresh) == _said(expected), (name, qtype, client)
            ready = self.world.ready(data, peer)
            if ready is not None:
                assert contents(ready) == _said(expected), (name, qtype, client)
            if isinstance(fresh, Reply):
                self.world.wire.keep(peer.view, data, fresh, 0.0)

    @invariant()
    def serial_grows_with_every_change(self) -> None:
        shown = self._records(self.world)
        if shown != self._shown and not self.world.writer.zone.is_ahead:
            before, after = self._shown[0], shown[0]
            assert 0 < (after - before) % 2**32 < 2**31, "another zone with the same serial"
        self._shown = shown

    def _compare_zones(self, anew: World) -> None:
        grown, fresh = self.world.writer.zone, anew.writer.zone
        assert set(grown.owners()) == set(fresh.owners())
        assert set(grown.owners_to_keep()) == set(fresh.owners_to_keep())
        assert len(grown) == len(fresh)
        assert set(grown.losses()) == set(fresh.losses())
        assert not self._records(self.world)[1] ^ self._records(anew)[1]
        assert grown.reverse.apexes() == fresh.reverse.apexes()
        self._owners.update(filter(None, grown.owners()), grown.owners_to_keep())
        now = time.time()
        for owner in self._owners:
            assert grown.is_running(owner) == fresh.is_running(owner), owner
            assert grown.is_claimed(owner) == fresh.is_claimed(owner), owner
            if owner not in self._kept:  # else it has records, or its container is known
                assert grown.is_ours(owner, now) == fresh.is_ours(owner, now), owner

    # -- inside ----------------------------------------------------------------------------

    def _anew(self) -> World:
        """A server to which nothing has happened but what is so now."""
        anew = self._world()
        anew.writer.networks_changed(ENGINE, NETWORKS[: self._networks])
        for container in self.world.writer.inventory:
            anew.writer.container_changed(ENGINE, container, None)
        for owner, departure in self.world.writer.zone.handovers.items():
            anew.writer.zone.handovers.add(owner, departure)
        anew.be(self.world.own)
        for owner in self._remembered:
            anew.writer.zone.remembered.put(owner, time.time() + 1000.0)
        anew.writer.zone.serial = self.world.writer.zone.serial
        return anew

    def _world(self) -> World:
        world = World(**self._options, hosts=[str(self._hosts)])
        world.writer.read_hosts()
        return world

    def _records(self, world: World) -> tuple[int, frozenset[object]]:
        """The serial, and what a secondary would have of all domains."""
        zone, view = world.writer.zone, world.writer.neutral_view(())
        domains = [Suffix(apex, SuffixKind.DOMAIN) for apex in zone.shape.domains]
        found = (r.rr() for suffix in domains for r in in_zone(zone, suffix, view))
        return zone.serial, frozenset(rr for rr in found if rr.rtype != SOA)

    def _note_kept(self) -> None:
        """Record what is remembered after something happened: what was kept and is not now."""
        kept = set(self.world.writer.zone.owners_to_keep())
        self._remembered = (self._remembered | self._kept) - kept
        if self.world.writer.settings.state.remember == 0:
            self._remembered.clear()
        self._kept = kept

    def _new_id(self) -> str:
        self._made += 1
        return hashlib.sha256(str(self._made).encode()).hexdigest()

    def _put(self, container: Container) -> str:
        self.world.writer.container_changed(ENGINE, container, None)
        self._note_kept()
        return container.id

    def _with(self, container_id: str, changed: Callable[[Container], Container]) -> None:
        container = self.world.writer.inventory.get(container_id)
        if container is not None:
            self._put(changed(container))


def _said(outcome: object) -> object:
    """What a client gets, or the outcome of its question."""
    if isinstance(outcome, Reply):
        return contents(outcome.octets)
    assert outcome is None or isinstance(outcome, Forward)
    return outcome


def test_grown_server_says_what_one_made_anew_says() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            phases=(Phase.generate,),  # to shrink a history takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )


def a_container(number: int, name: str, **changes: object) -> Container:
    """A container that runs on the network `front`, with an id of its own."""
    front = generating.attachment("front", f"172.18.0.{number}", ())
    container = Container(f"{number:x}" * 64, name, ENGINE, "running", attachments=(front,))
    return replace(container, **changes)  # type: ignore[arg-type]  # fields of a container


def test_name_that_only_a_bare_service_still_has_is_remembered() -> None:
    """A bare service is unowned below a search domain, so it keeps no name there."""
    world = World()
    service = {f"{COMPOSE}project": "p", f"{COMPOSE}service": "web"}
    world.happen(Change("put", a_container(2, "p-web-1", docker_labels=service)))
    world.happen(Change("put", a_container(3, "web")))
    world.happen(Change("remove", a_container(3, "web").id))
    outcome = world.fresh(query("web.corp.example.", A), world.peer("127.0.0.1"))
    assert isinstance(outcome, Reply), outcome


def test_network_is_forgotten_with_the_container_that_told_of_it() -> None:
    world = World()
    world.writer.networks_changed(ENGINE, ())
    assert world.writer.zone.reverse.apexes() == []
    before = world.peer("172.18.0.77").view
    web = a_container(2, "web")
    world.happen(Change("put", web))
    assert world.peer("172.18.0.77").view != before
    world.happen(Change("put", replace(web, attachments=())))
    assert world.peer("172.18.0.77").view == before
    world.happen(Change("put", web))
    world.happen(Change("remove", web.id))
    assert world.peer("172.18.0.77").view == before


def test_networks_are_no_longer_our_own_when_their_lender_is_gone() -> None:
    """In the mode `container:X` this server is on the networks of X."""
    world = World()
    lender = a_container(2, "vpn")
    world.happen(Change("put", lender))
    own = a_container(3, "dns", network_mode=f"container:{lender.id}", attachments=())
    world.happen(Change("put", own))
    world.be(own.id)
    assert world.writer.zone.own_networks == {"front"}
    for gone in ("die", "remove"):
        world.happen(Change(gone, lender.id))
        assert world.writer.zone.own_networks == frozenset()
        world.happen(Change("put", lender))
        assert world.writer.zone.own_networks == {"front"}

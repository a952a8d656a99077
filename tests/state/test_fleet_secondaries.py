"""The copies of a fleet's zone, step by step, as secondaries of several servers hold them."""

from collections.abc import Iterable

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.zone.fleet import Host, Step, Together
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import Shape, Zone
from containerdns.state.fleet_secondaries import MAX_STEPS, FleetFeed, Steps

HOSTS = Together.of([Host("a", ("192.0.2.1",), ("10.1.0.0/16",))])


class Notified:
    """The sender of NOTIFY."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def changed(self, apex: str, soa: RR) -> None:
        self.told.append(apex)


class Server:
    """The feed of one server, with its steps."""

    def __init__(self) -> None:
        self.steps = Steps()
        self.zone = Zone(Shape(), 1, RememberedNames(0))
        self.feed = FleetFeed(self.zone, self.steps, Notified(), notifies=False)

    def step(self, serial: int, *names: str, gone: Iterable[str] = ()) -> None:
        changes = [(name, web(name)) for name in names] + [(name, None) for name in gone]
        step = Step(serial, tuple(changes), HOSTS)
        self.steps.add(step)
        self.feed.stepped(step, [None] * len(changes))

    async def held(self) -> set[tuple[bytes, int, bytes]]:
        copy = await self.feed.current("docker.")
        assert copy is not None
        assert copy.serial == self.steps.serial
        return {(r.owner, r.rtype, r.rdata) for r in copy.records()}


def web(name: str) -> Publication:
    address = PublishedAddress("10.1.0.9", "front", "n")
    claims = (Claim(name, 0, "container name", name),)
    return Publication(name, name, claims=claims, addresses=(address,))


async def test_there_is_nothing_to_transfer_before_the_first_step() -> None:
    assert await Server().feed.current("docker.") is None


async def test_server_that_is_asked_late_has_the_same_and_every_difference() -> None:
    """A secondary of the first one comes to the second with any serial, also of no change."""
    early, late = Server(), Server()
    await early.feed.current("docker.")
    for server in (early, late):
        server.step(10, "one")
    await early.held()
    for serial in range(11, 30):
        for server in (early, late):
            names = () if serial % 3 else (f"web{serial}",)
            server.step(serial, *names, gone=["one"] if serial == 20 else ())
        await early.held()
    assert await late.held() == await early.held()
    for serial in range(10, 29):
        copies = [await server.feed.current("docker.") for server in (early, late)]
        ends = []
        for copy in copies:
            assert copy is not None
            changes = copy.since(serial)
            assert changes, f"serial {serial} is not known"
            assert changes[0].before == serial
            assert changes[-1].after == 29
            ends.append(
                (
                    {r.owner for c in changes for r in c.added},
                    {r.owner for c in changes for r in c.removed},
                )
            )
        assert ends[0] == ends[1]


async def test_steps_that_were_given_up_are_in_the_zone_all_the_same() -> None:
    server = Server()
    for number in range(MAX_STEPS + 10):
        server.step(100 + number, f"web{number % 50}")
    held = await server.held()
    assert sum(rtype == messages.A for _, rtype, _ in held) == 50 + 2  # with `ns` and `host`
    server.step(5000, gone=["web1"])
    assert len(await server.held()) == len(held) - 1


async def test_reload_has_the_zone_copied_anew_under_the_next_serial() -> None:
    """Under the one before, it would have two contents."""
    server = Server()
    server.step(10, "one")
    await server.held()
    server.zone.reshape(Shape(ttl=9))
    server.feed.renewed()
    server.step(11)
    copy = await server.feed.current("docker.")
    assert copy is not None
    assert copy.since(10) is None
    assert {r.ttl for r in copy.records() if b"ns" in r.owner} == {9}

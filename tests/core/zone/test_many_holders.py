"""Names that very many containers have: answers of records that were made once."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from containerdns.core.protocol import messages
from containerdns.core.zone import answers, many_holders, records
from containerdns.core.zone.answers import Answer, Lookup
from containerdns.core.zone.many_holders import ManyHolders, Wanted
from containerdns.core.zone.policy import Claim, Proxy, Publication, PublishedAddress, Rank
from containerdns.core.zone.records import MANY_HOLDERS, MAX_OF_TYPE, Record
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Shape, Suffix, SuffixKind, Zone

NOW = 1000.0
DOCKER = Suffix("docker.", SuffixKind.DOMAIN)
SUFFIXES = {
    "all.docker.": DOCKER,
    "all.corp.example.": Suffix("corp.example.", SuffixKind.SEARCH),
    "all.": Suffix(".", SuffixKind.BARE),
}
TYPES = (messages.A, messages.AAAA)


def view(*networks: str) -> View:
    return View(True, True, True, False, frozenset(networks), ("192.0.2.1",), ())


VIEWS = (view(), view("n0"), view("n1"))


def sharing(number: int, *addresses: PublishedAddress, **more: Any) -> Publication:
    name = f"c{number}"
    claims = (Claim(name, Rank.CONTAINER, "", name), Claim("all", Rank.DERIVED, "alias", name))
    return Publication(name, name, claims=claims, addresses=addresses or (own(number),), **more)


def own(number: int, network: str = "n0", preference: int = 0) -> PublishedAddress:
    return PublishedAddress(
        f"10.0.{number // 250}.{number % 250 + 1}", network, network, preference
    )


def a_zone(*publications: Publication) -> Zone:
    zone = Zone(Shape(search_domains=("corp.example.",)), 1, RememberedNames(60))
    for one in publications:
        zone.replace(one.id, one, NOW)
    return zone


def searched(zone: Zone, wanted: Wanted, turn: int) -> Answer:
    lookup = Lookup(*wanted, lambda *_: turn)
    return answers.find(zone, lookup, SUFFIXES[wanted.name])


def ready(many: ManyHolders, zone: Zone, wanted: Wanted, turn: int) -> tuple[Record, ...]:
    return many.find(zone, wanted, SUFFIXES[wanted.name], turn)


def varied(number: int, chance: random.Random) -> Publication:
    """A container whose records are merged with others in any of the ways that there are."""
    six = PublishedAddress(f"fd00::{number + 1:x}", "n0", "n0")
    second = own(number + 2000, "n1", chance.choice((0, 1)))
    kinds = chance.choices(
        [(), (own(number), six), (own(number), second), (second,), (six,), (own(7),)],
        weights=(8, 8, 4, 1, 1, 1),
    )
    one = sharing(number, *kinds[0], ttl=chance.choice((5, 5, 5, 5, 3)))
    match chance.randrange(30):
        case 0:
            return replace(one, is_healthy=False)
        case 1:
            return replace(one, cname="www.example.")
        case 2:
            return replace(one, on_host=True)
        case 3:
            return replace(one, engine="tcp://lost")
        case 4:
            claim = one.claims[1]._replace(network="n1")
            return replace(one, claims=(one.claims[0], claim))
        case 5:
            claim = one.claims[1]._replace(proxy="traefik")
            proxies = {"traefik": Proxy(addresses=(own(7),))}
            cname = chance.choice(("", "www.example."))
            claims = (one.claims[0], claim)
            return replace(one, claims=claims, proxies=proxies, cname=cname)
        case 6:
            return replace(one, texts={"": ("t",)}, services={"_80._tcp": (80,)}, is_wildcard=True)
    return one


def differences(many: ManyHolders, zone: Zone, turns: range) -> Iterator[tuple[Wanted, int]]:
    for name, rtype, seen_by, turn in product(SUFFIXES, TYPES, VIEWS, turns):
        wanted = Wanted(name, rtype, seen_by)
        expected = searched(zone, wanted, turn)
        found = ready(many, zone, wanted, turn)
        is_part = len(expected.records) == MAX_OF_TYPE and not expected.depends_on
        if found != (expected.records if is_part else ()):
            yield wanted, turn


@pytest.mark.parametrize("seed", range(4))
def test_ready_made_records_are_those_that_a_search_finds(seed: int) -> None:
    """Whatever changes: containers come, go and change, an Engine is lost, options reloaded."""
    chance = random.Random(seed)
    zone, many = a_zone(*(varied(n, chance) for n in range(130))), ManyHolders()
    assert not list(differences(many, zone, range(5)))
    for step in range(6):
        number = chance.randrange(135)
        new = None if step == 2 else varied(number, chance)
        zone.replace(f"c{number}", new, NOW, hands_over=step % 2 == 0)
        if step == 3:
            zone.lost_engines = frozenset({"tcp://lost"})
        if step == 4:
            zone.own_networks = frozenset({"n1"})
        if step == 5:
            zone.reshape(replace(zone.shape, unhealthy="keep"))
        assert not list(differences(many, zone, range(step, step + 3)))


def test_the_variety_has_names_with_more_addresses_than_an_answer() -> None:
    """Else the test above would compare nothing."""
    chance = random.Random(0)
    zone, many = a_zone(*(varied(n, chance) for n in range(130))), ManyHolders()
    found = ready(many, zone, Wanted("all.docker.", messages.A, view()), 0)
    assert len({record.rdata for record in found}) == MAX_OF_TYPE


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The holders whose records were made."""
    holders: list[str] = []
    at_node: Callable[..., tuple[Record, ...]] = records.at_node

    def counting(zone: Any, name: str, node: Any, *rest: Any) -> tuple[Record, ...]:
        holders.extend(claim.publication for claim in node.holders)
        return at_node(zone, name, node, *rest)

    monkeypatch.setattr(records, "at_node", counting)
    return holders


ALL = Wanted("all.docker.", messages.A, view())


def test_records_of_each_holder_are_made_once(made: list[str]) -> None:
    """An answer took 1 to 3 ms, as each made the records of a hundred holders again."""
    zone, many = a_zone(*map(sharing, range(250))), ManyHolders()
    for turn in range(60):
        assert len(ready(many, zone, ALL, turn)) == MAX_OF_TYPE
    assert sorted(made) == sorted(f"c{n}" for n in range(250))


def test_change_of_a_container_makes_its_records_alone_again(made: list[str]) -> None:
    zone, many = a_zone(*map(sharing, range(250))), ManyHolders()
    for turn in range(3):
        ready(many, zone, ALL, turn)
    made.clear()
    zone.replace("c7", sharing(7, own(900)), NOW)
    found = [record.rdata for turn in range(3) for record in ready(many, zone, ALL, turn)]
    assert made == ["c7"]
    assert bytes((10, 0, 3, 151)) in found
    assert bytes((10, 0, 0, 8)) not in found


def test_records_are_freed_when_the_claims_to_the_name_change() -> None:
    """Also if nobody asks for the name again."""
    zone, many = a_zone(*map(sharing, range(150))), ManyHolders()
    ready(many, zone, ALL, 0)
    assert len(many) == MAX_OF_TYPE
    zone.replace("c150", sharing(150), NOW)
    assert len(many) == 0
    ready(many, zone, ALL, 0)
    many.forget()
    assert len(many) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_holders, "MAX_MADE", 250)
    zone, many = a_zone(*map(sharing, range(150))), ManyHolders()
    for number in range(10):
        seen_by = view(f"other{number}")
        assert ready(many, zone, ALL._replace(view=seen_by), 0)
        assert len(many) <= 250


def test_answer_that_leaves_nothing_out_is_left_to_the_search() -> None:
    """Then it is kept as other answers are."""
    many = ManyHolders()
    zone = a_zone(*map(sharing, range(100)), *(sharing(n, own(7)) for n in range(100, 120)))
    found = [len(ready(many, zone, ALL, turn)) for turn in range(4)]
    whole = [bool(searched(zone, ALL, turn).depends_on) for turn in range(4)]
    assert [not count for count in found] == whole


@pytest.mark.parametrize("count", [33, MANY_HOLDERS])
def test_names_of_fewer_containers_are_left_to_the_search(count: int, made: list[str]) -> None:
    zone, many = a_zone(*map(sharing, range(count))), ManyHolders()
    assert ready(many, zone, ALL, 0) == ()
    assert (made, len(many)) == ([], 0)


def test_a_reverse_name_is_no_name_of_theirs() -> None:
    """An owner may be spelled as the first label of a reverse name."""
    zone, many = a_zone(*map(sharing, range(150))), ManyHolders()
    wanted = ALL._replace(name="all.10.in-addr.arpa.")
    reverse = Suffix("10.in-addr.arpa.", SuffixKind.REVERSE)
    assert many.find(zone, wanted, reverse, 0) == ()

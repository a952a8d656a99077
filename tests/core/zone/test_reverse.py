"""Reverse names, and whose subnet they are in."""

import pytest

from containerdns.core.zone.containers import Network
from containerdns.core.zone.reverse import Reverse, is_reverse, reverse_name


def owning(*subnets: str, driver: str = "bridge") -> Reverse:
    made = Reverse()
    made.set_networks([Network("n", "n", "unix:///x", driver, subnets)])
    return made


@pytest.mark.parametrize(
    ("subnet", "apexes"),
    [
        ("172.18.0.0/16", ["18.172.in-addr.arpa."]),
        ("172.28.0.0/14", [f"{octet}.172.in-addr.arpa." for octet in (28, 29, 30, 31)]),
        ("10.1.2.0/24", ["2.1.10.in-addr.arpa."]),
        ("10.1.2.128/25", ["2.1.10.in-addr.arpa."]),
        ("10.1.2.3/32", ["2.1.10.in-addr.arpa."]),
        ("10.0.0.0/8", ["10.in-addr.arpa."]),
        ("198.18.4.0/23", ["4.18.198.in-addr.arpa.", "5.18.198.in-addr.arpa."]),
        ("198.18.5.64/26", []),
        ("198.18.5.64/32", []),
        ("2600::/126", []),
        ("fd00:1:2:3::/64", ["3.0.0.0.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa."]),
        ("fc00::/7", ["c.f.ip6.arpa.", "d.f.ip6.arpa."]),
        ("2001:db8::/127", ["0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa."]),
    ],
)
def test_zones_of_a_subnet_end_at_octets_or_nibbles(subnet: str, apexes: list[str]) -> None:
    made = owning(subnet)
    assert made.apexes() == sorted(apexes)
    for apex in apexes:
        assert made.apex(apex) == apex


@pytest.mark.parametrize(
    ("name", "apex"),
    [
        ("5.2.1.10.in-addr.arpa.", ""),
        ("127.2.1.10.in-addr.arpa.", ""),
        ("128.2.1.10.in-addr.arpa.", "2.1.10.in-addr.arpa."),
        ("255.2.1.10.in-addr.arpa.", "2.1.10.in-addr.arpa."),
        ("a.b.200.2.1.10.in-addr.arpa.", "2.1.10.in-addr.arpa."),
        ("128.3.1.10.in-addr.arpa.", ""),
        ("1.10.in-addr.arpa.", ""),
        ("in-addr.arpa.", ""),
        ("256.2.1.10.in-addr.arpa.", ""),
        ("0128.2.1.10.in-addr.arpa.", ""),
    ],
)
def test_only_what_lies_in_the_subnet_is_ours(name: str, apex: str) -> None:
    assert owning("10.1.2.128/25").apex(name) == apex


@pytest.mark.parametrize(
    ("name", "apex"),
    [
        ("63.5.18.198.in-addr.arpa.", ""),
        ("64.5.18.198.in-addr.arpa.", "5.18.198.in-addr.arpa."),
        ("127.5.18.198.in-addr.arpa.", "5.18.198.in-addr.arpa."),
        ("128.5.18.198.in-addr.arpa.", ""),
        ("5.18.198.in-addr.arpa.", ""),
        ("64/26.5.18.198.in-addr.arpa.", ""),
        ("70.64/26.5.18.198.in-addr.arpa.", ""),
    ],
)
def test_public_subnet_within_an_octet_takes_nothing_beside_it(name: str, apex: str) -> None:
    """RFC 2317: the zone around it belongs to the owner of the other addresses."""
    assert owning("198.18.5.64/26").apex(name) == apex


@pytest.mark.parametrize(
    ("subnet", "apex", "is_whole"),
    [
        ("172.18.0.0/16", "18.172.in-addr.arpa.", True),
        ("172.18.0.0/16", "5.18.172.in-addr.arpa.", True),
        ("172.18.0.0/16", "172.in-addr.arpa.", False),
        ("10.1.2.128/25", "2.1.10.in-addr.arpa.", False),
        ("10.1.2.0/24", "2.1.10.in-addr.arpa.", True),
        ("10.1.2.0/24", "example.", False),
    ],
)
def test_zone_is_whole_if_all_its_addresses_are_dockers(
    subnet: str, apex: str, is_whole: bool
) -> None:
    assert owning(subnet).is_whole(apex) is is_whole


@pytest.mark.parametrize(
    ("driver", "is_ours"),
    [("bridge", True), ("overlay", True), ("macvlan", False), ("ipvlan", False), ("", False)],
)
def test_subnets_of_bridges_and_overlays_are_ours(driver: str, is_ours: bool) -> None:
    assert bool(owning("10.1.0.0/16", driver=driver).apexes()) is is_ours


def test_address_of_two_has_one_holder_until_that_one_goes() -> None:
    made = Reverse()
    name = made.add("172.18.0.2", "b")
    assert made.add("172.18.0.2", "a") == name == "2.0.18.172.in-addr.arpa."
    assert made.holder(name) == "a"
    made.remove("172.18.0.2", "a")
    assert made.holder(name) == "b"
    made.remove("172.18.0.2", "b")
    made.remove("172.18.0.2", "b")
    assert made.holder(name) is None
    assert not made.is_above_one("0.18.172.in-addr.arpa.")


def test_what_lies_above_an_address_or_a_zone_is_known() -> None:
    made = owning("10.1.2.0/24")
    made.add("172.18.0.2", "a")
    above = ("0.18.172.in-addr.arpa.", "172.in-addr.arpa.", "1.10.in-addr.arpa.")
    assert all(map(made.is_above_one, above))
    assert not made.is_above_one("2.1.10.in-addr.arpa.")
    assert not made.is_above_one("2.0.18.172.in-addr.arpa.")
    assert list(made.names) == ["2.0.18.172.in-addr.arpa."]


def test_ipv6_address_has_a_reverse_name_of_nibbles() -> None:
    """RFC 3596 section 2.5."""
    assert reverse_name("2001:db8::1") == "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa."


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("1.10.in-addr.arpa.", True), ("x.ip6.arpa.", True), ("home.arpa.", False)],
)
def test_reverse_tree_is_told(name: str, is_one: bool) -> None:
    assert is_reverse(name) is is_one


@pytest.mark.parametrize(
    ("address", "apex"),
    [
        ("fd12:3456:789a:bcde::7", "e.d.c.b.a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa."),
        ("fd12:3456:789a:bcdf::7", ""),
        ("fd12:3456:789b:bcde::7", ""),
    ],
    ids=["in it", "next subnet", "other site"],
)
def test_ipv6_address_belongs_to_the_zone_of_its_subnet(address: str, apex: str) -> None:
    assert owning("fd12:3456:789a:bcde::/64").apex(reverse_name(address)) == apex

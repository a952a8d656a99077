"""Names that no upstream is asked for."""

import pytest

from containerdns.core.zone import special_names


@pytest.mark.parametrize(
    ("name", "above"),
    [
        ("localhost.", "localhost."),
        ("a.b.localhost.", "localhost."),
        ("notlocalhost.", ""),
        ("localhost.example.", ""),
        ("x.home.arpa.", "home.arpa."),
        ("arpa.", ""),
        ("x.arpa.", ""),
        ("web\\.test.", ""),
        (".", ""),
    ],
)
def test_special_name_is_found_above(name: str, above: str) -> None:
    assert special_names.special_name_above(name) == above


def test_all_special_names_of_the_contract_are_there() -> None:
    wanted = "localhost invalid test onion local localdomain internal home.arpa alt resolver.arpa"
    assert {f"{name}." for name in wanted.split()} == special_names.SPECIAL_NAMES


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("1.2.3.10.in-addr.arpa.", "10.in-addr.arpa."),
        ("1.2.3.11.in-addr.arpa.", ""),
        ("1.2.15.172.in-addr.arpa.", ""),
        ("1.2.16.172.in-addr.arpa.", "16.172.in-addr.arpa."),
        ("1.2.31.172.in-addr.arpa.", "31.172.in-addr.arpa."),
        ("1.2.32.172.in-addr.arpa.", ""),
        ("1.2.63.100.in-addr.arpa.", ""),
        ("1.2.64.100.in-addr.arpa.", "64.100.in-addr.arpa."),
        ("1.2.127.100.in-addr.arpa.", "127.100.in-addr.arpa."),
        ("1.2.128.100.in-addr.arpa.", ""),
        ("0.c.f.ip6.arpa.", "c.f.ip6.arpa."),
        ("0.0.e.f.ip6.arpa.", ""),
        ("0.b.e.f.ip6.arpa.", "b.e.f.ip6.arpa."),
        ("0.c.e.f.ip6.arpa.", ""),
        ("1." + "0." * 31 + "ip6.arpa.", "1." + "0." * 31 + "ip6.arpa."),
        ("2." + "0." * 31 + "ip6.arpa.", ""),
        ("10.in-addr.example.", ""),
    ],
)
def test_private_reverse_zone_is_found_above(name: str, zone: str) -> None:
    """RFC 6303 section 4 and RFC 7793, both sides of each border."""
    assert special_names.private_reverse_zone_above(name) == zone


def test_nearest_apex_is_the_longest() -> None:
    assert special_names.nearest("a.b.c.", {"c.", "b.c."}) == "b.c."
    assert special_names.nearest("b.c.", {"c.", "b.c."}) == "b.c."
    assert special_names.nearest("xb.c.", {"b.c."}) == ""

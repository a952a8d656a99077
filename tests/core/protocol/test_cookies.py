"""DNS Cookies: the vectors of RFC 9018 appendix A, and both sides of each limit."""

from ipaddress import ip_address

import pytest

from containerdns.core.protocol.cookies import Cookies, CookieStanding, siphash24

ALICE = ip_address("198.51.100.100").packed
SECRET = bytes.fromhex("e5e973e5a6b2a43f48e7dc849e37bfcf")
CLIENT = bytes.fromhex("2464c4abcf10c957")
MADE = 1559731985  # when the cookie of appendix A.1 was made


@pytest.mark.parametrize(
    ("secret", "client", "address", "now", "option"),
    [
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957", "198.51.100.100", 1559731985,
            "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
        ),
        (
            "e5e973e5a6b2a43f48e7dc849e37bfcf", "fc93fc62807ddb86", "203.0.113.203", 1559734700,
            "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
        ),
        (
            "445536bcd2513298075a5d379663c962", "22681ab97d52c298",
            "2001:db8:220:1:59de:d0f4:8769:82b8", 1559741961,
            "22681ab97d52c298010000005cf7c609a6bb79d16625507a",
        ),
    ],
    ids=["learning", "renewed", "IPv6"],
)  # fmt: skip
def test_cookie_is_that_of_the_rfc(
    secret: str, client: str, address: str, now: int, option: str
) -> None:
    """RFC 9018 appendix A.1, A.3 and A.4."""
    cookies = Cookies(bytes.fromhex(secret))
    octets = ip_address(address).packed
    made = cookies.option(bytes.fromhex(client), octets, now)
    assert made.hex() == option
    assert cookies.standing(made, octets, now) is CookieStanding.VALID


@pytest.mark.parametrize(
    ("later", "standing"),
    [
        (0, CookieStanding.VALID),
        (3600, CookieStanding.VALID),
        (3601, CookieStanding.UNPROVEN),
        (-300, CookieStanding.VALID),
        (-301, CookieStanding.UNPROVEN),
    ],
)
def test_cookie_is_valid_for_an_hour_and_five_minutes_ahead(
    later: int, standing: CookieStanding
) -> None:
    """RFC 9018 section 4.3."""
    cookies = Cookies(SECRET)
    option = cookies.option(CLIENT, ALICE, MADE)
    assert cookies.standing(option, ALICE, MADE + later) is standing


def test_cookie_is_valid_across_the_end_of_its_clock() -> None:
    """RFC 9018 section 4.3 counts in the arithmetic of RFC 1982."""
    cookies = Cookies(SECRET)
    option = cookies.option(CLIENT, ALICE, 2**32 - 10)
    assert cookies.standing(option, ALICE, 2**32 + 10) is CookieStanding.VALID


def test_cookie_proves_its_own_address_and_client_only() -> None:
    cookies = Cookies(SECRET)
    option = cookies.option(CLIENT, ALICE, MADE)
    other = ip_address("198.51.100.101").packed
    assert cookies.standing(option, other, MADE) is CookieStanding.UNPROVEN
    assert cookies.standing(bytes(8) + option[8:], ALICE, MADE) is CookieStanding.UNPROVEN
    assert Cookies(bytes(16)).standing(option, ALICE, MADE) is CookieStanding.UNPROVEN


@pytest.mark.parametrize(
    ("octets", "standing"),
    [
        (0, CookieStanding.MALFORMED),
        (7, CookieStanding.MALFORMED),
        (8, CookieStanding.UNPROVEN),
        (9, CookieStanding.MALFORMED),
        (15, CookieStanding.MALFORMED),
        (16, CookieStanding.UNPROVEN),
        (40, CookieStanding.UNPROVEN),
        (41, CookieStanding.MALFORMED),
    ],
)
def test_option_has_8_or_16_to_40_octets(octets: int, standing: CookieStanding) -> None:
    """RFC 7873 section 4."""
    assert Cookies(SECRET).standing(bytes(octets), ALICE, MADE) is standing


@pytest.mark.parametrize(
    ("octets", "digest"),
    [
        (0, "310e0edd47db6f72"),
        (1, "fd67dc93c539f874"),
        (7, "37d1018bf50002ab"),
        (8, "6224939a79f5f593"),
        (15, "e545be4961ca29a1"),
        (16, "db9bc2577fcc2a3f"),
        (63, "724506eb4c328a95"),
    ],
)
def test_siphash_is_that_of_its_authors(octets: int, digest: str) -> None:
    """vectors.h of the reference implementation, key and data counting up from 0."""
    assert siphash24(bytes(range(16)), bytes(range(octets))).hex() == digest

"""A response to a plain query, with a client's options, is the response to its own query."""

import struct

import pytest

from containerdns.core.protocol import messages, query_variants
from tests.core.protocol.test_respond import CLIENT, NOW, PEER, ask, publication, query, responder

COOKIE = b"12345678"


def opt(*options: tuple[int, bytes], size: int = 1232, flags: int = 0) -> bytes:
    data = b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)
    return b"\0" + struct.pack("!HHIH", messages.OPT, size, flags, len(data)) + data


@pytest.mark.parametrize(
    "record",
    [
        opt((10, COOKIE)),
        opt((10, COOKIE), flags=0x8000),
        opt((10, COOKIE + bytes(16))),
        opt((8, b"\0\1\x18\0\x0a\0\0")),
        opt((12, bytes(400))),
        opt((3, b"")),
        opt((65001, b"x"), (3, b""), (10, COOKIE), (12, bytes(9))),
        opt((65001, b""), size=512),
        opt(size=1000),
        opt(size=0),
    ],
    ids=[
        "cookie", "cookie and DO", "cookie of another server", "client subnet", "padding", "NSID",
        "several", "unknown", "odd size", "no size",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["web.docker.", "missing.docker.", "web.", "x.localhost."])
def test_variant_of_a_plain_response_is_the_response(record: bytes, name: str) -> None:
    made = responder(publication("web", "192.0.2.7"))
    variant = made.variant(record, PEER, NOW, 0.0)
    assert variant is not None
    plain = ask(made, query(name, opt=variant.opt))
    assert plain.keeping != "no"
    assert variant.response(plain.octets) == ask(made, query(name, opt=record)).octets


@pytest.mark.parametrize(
    "record",
    [
        opt(),
        opt(size=4096),
        opt(flags=0x8000),
        opt((65001, b""), flags=1 << 16),
        opt((65001, b""), flags=1 << 24),
        opt((65001, b""), flags=1),
        opt((10, b"short")),
        opt((65001, b""))[:-1],
        opt((65001, b"")) + opt(),
        opt(*[(65001, b"")] * 65),
        opt((12, bytes(query_variants.MAX_OPT_OCTETS))),
        b"\1a" + opt((65001, b"")),
        b"",
    ],
    ids=[
        "plain", "usual size", "DO alone", "version 1", "extended rcode", "reserved flag",
        "malformed cookie", "cut", "something behind it", "too many options", "very long",
        "with an owner", "nothing",
    ],
)  # fmt: skip
def test_whole_query_is_looked_at(record: bytes) -> None:
    assert responder().variant(record, PEER, NOW, 0.0) is None


def test_what_does_not_fit_or_has_options_of_its_own_is_no_variant() -> None:
    made = responder(publication("web", *(f"10.0.0.{n}" for n in range(1, 30))))
    plain = ask(made, query("web.docker.", opt=opt())).octets
    octets = len(plain) + 28  # of a cookie
    for size, fits in ((octets, True), (octets - 1, False)):
        variant = made.variant(opt((10, COOKIE), size=size), PEER, NOW, 0.0)
        assert variant is not None
        assert (variant.response(plain) is not None) is fits
        assert variant.response(plain[:2] + bytes([plain[2] | 2]) + plain[3:]) is None
        assert variant.response(ask(made, query("web.docker.", opt=opt((3, b"")))).octets) is None
        assert variant.response(ask(made, query("web.docker.")).octets) is None


def test_cookie_stays_the_same_for_half_an_hour() -> None:
    """RFC 9018 section 4.3; a client that returns what it got then sends the same octets."""
    cookies = responder()._cookies
    first, seconds = cookies.renewed(COOKIE, CLIENT, NOW)
    assert seconds == 1800
    assert cookies.renewed(first, CLIENT, NOW + 1799) == (first, 1)
    second, seconds = cookies.renewed(first, CLIENT, NOW + 1800)
    assert (second != first, second[:8], seconds) == (True, COOKIE, 1800)
    assert cookies.renewed(first, bytes(4), NOW)[0] != first

"""TSIG (RFC 8945): signatures are made again here, by the text of the RFC."""

import hashlib
import hmac
import struct
from dataclasses import dataclass, replace

import dnslib
import pytest

from containerdns.core.protocol import messages, tsig
from containerdns.core.protocol.tsig import BADKEY, BADSIG, BADTIME, BADTRUNC, Key
from containerdns.errors import BadMessage

NOW = 1_795_515_600.0
KEY = Key("transfer.docker.", "hmac-sha256.", b"0123456789abcdef0123456789abcdef")
NAME = b"\x08transfer\x06docker\0"
ALGORITHM = b"\x0bhmac-sha256\0"
QUERY = messages.query(0x1234, 0, b"\6docker\0" + b"\0\xfc\0\1", b"")


@dataclass(frozen=True)
class Signed:
    """The TSIG record of a message, read by hand (RFC 8945 section 4.2)."""

    unsigned: bytes
    time: int
    fudge: int
    mac: bytes
    original_id: bytes
    error: int
    other: bytes


def read(message: bytes) -> Signed:
    """Remove the last record of a message."""
    at = message.rindex(NAME + struct.pack("!HHI", 250, 255, 0))
    data = message[at + len(NAME) + 10 :]
    assert dnslib.DNSRecord.parse(message).header.ar == 1
    assert int.from_bytes(message[at + len(NAME) + 8 :][:2]) == len(data)
    assert data.startswith(ALGORITHM)
    data = data[len(ALGORITHM) :]
    size = int.from_bytes(data[8:10])
    rest = data[10 + size :]
    return Signed(
        message[:10] + b"\0\0" + message[12:at],
        int.from_bytes(data[:6]),
        int.from_bytes(data[6:8]),
        data[10 : 10 + size],
        rest[:2],
        int.from_bytes(rest[2:4]),
        rest[6:],
    )


def digest(*parts: bytes) -> bytes:
    return hmac.new(KEY.secret, b"".join(parts), hashlib.sha256).digest()


def variables(signed: Signed) -> bytes:
    """RFC 8945 section 4.3.3."""
    numbers = struct.pack("!HHH", signed.fudge, signed.error, len(signed.other))
    return NAME + b"\0\xff\0\0\0\0" + ALGORITHM + signed.time.to_bytes(6) + numbers + signed.other


def prefixed(mac: bytes) -> bytes:
    return len(mac).to_bytes(2) + mac


def check(
    message: bytes, now: float = NOW, keys: tuple[Key, ...] = (KEY,)
) -> tsig.SignatureStanding:
    return tsig.standing(message, message.rindex(NAME), keys, now)


def with_mac(mac: bytes) -> bytes:
    """A query that was signed right, with another signature in the place of its own."""
    message = tsig.sign_query(QUERY, KEY, NOW)
    own = read(message).mac
    at = message.index(own)
    cut = len(own) - len(mac)
    size_at = message.rindex(ALGORITHM) - 2
    size = int.from_bytes(message[size_at : size_at + 2]) - cut
    return b"".join(
        (
            message[:size_at],
            size.to_bytes(2),
            message[size_at + 2 : at - 2],
            prefixed(mac),
            message[at + len(own) :],
        )
    )


def test_query_of_our_own_is_signed_over_itself_and_the_variables() -> None:
    signed = read(tsig.sign_query(QUERY, KEY, NOW))
    assert (signed.unsigned, signed.time, signed.original_id) == (QUERY, int(NOW), b"\x12\x34")
    assert signed.mac == digest(QUERY, variables(signed))


def test_first_response_is_signed_over_the_query_s_signature() -> None:
    """RFC 8945 section 5.3."""
    query = check(tsig.sign_query(QUERY, KEY, NOW))
    signed = read(tsig.sign_response(QUERY, query, NOW)[0])
    assert signed.mac == digest(prefixed(query.mac), QUERY, variables(signed))


def test_further_messages_are_signed_over_the_one_before_and_the_time() -> None:
    """RFC 8945 section 5.3.1."""
    before = check(tsig.sign_query(QUERY, KEY, NOW))
    first, before = tsig.sign_response(QUERY, before, NOW)
    mac = read(first).mac
    for later in (1.0, 2.0):
        message, before = tsig.sign_next(QUERY, before, NOW + later)
        signed = read(message)
        timers = int(NOW + later).to_bytes(6) + signed.fudge.to_bytes(2)
        assert signed.mac == digest(prefixed(mac), QUERY, timers)
        mac = signed.mac


@pytest.mark.parametrize("algorithm", sorted(tsig.ALGORITHMS))
def test_every_algorithm_verifies_what_it_signed(algorithm: str) -> None:
    key = replace(KEY, algorithm=algorithm)
    assert check(tsig.sign_query(QUERY, key, NOW), keys=(key,)).error == 0


@pytest.mark.parametrize(
    "key",
    [
        replace(KEY, name="other.docker."),
        replace(KEY, algorithm="hmac-sha512."),
    ],
    ids=["name", "algorithm"],
)
def test_key_is_known_by_its_name_and_algorithm(key: Key) -> None:
    """RFC 8945 section 5.2.1; nothing can be signed with a key that is not ours."""
    found = check(tsig.sign_query(QUERY, KEY, NOW), keys=(key,))
    assert (found.error, found.key) == (BADKEY, None)
    assert read(tsig.sign_response(QUERY, found, NOW)[0]).mac == b""


@pytest.mark.parametrize("at", [3, 14], ids=["header", "question"])
def test_changed_message_has_a_bad_signature(at: int) -> None:
    message = bytearray(tsig.sign_query(QUERY, KEY, NOW))
    message[at] ^= 1
    assert check(bytes(message)).error == BADSIG


def test_message_id_may_have_been_changed_on_the_way() -> None:
    """RFC 8945 section 5.1: a forwarder gives a query an ID of its own."""
    message = tsig.sign_query(QUERY, KEY, NOW)
    assert check(b"\x99\x99" + message[2:]).error == 0


@pytest.mark.parametrize(
    ("later", "error"),
    [(300, 0), (301, BADTIME), (-300, 0), (-301, BADTIME)],
)
def test_clocks_may_differ_by_the_fudge(later: int, error: int) -> None:
    """RFC 8945 section 5.2.3."""
    assert check(tsig.sign_query(QUERY, KEY, NOW), NOW + later).error == error


def test_response_to_a_wrong_time_has_the_client_s_time_and_ours() -> None:
    """RFC 8945 section 5.2.3: so that the client may set its clock."""
    query = check(tsig.sign_query(QUERY, KEY, NOW), NOW + 1000)
    signed = read(tsig.sign_response(QUERY, query, NOW + 1000)[0])
    assert (signed.error, signed.time) == (BADTIME, int(NOW))
    assert signed.other == int(NOW + 1000).to_bytes(6)
    assert signed.mac == digest(prefixed(query.mac), QUERY, variables(signed))


@pytest.mark.parametrize(
    ("octets", "error"), [(32, 0), (31, BADTRUNC), (16, BADTRUNC)], ids=["whole", "cut", "half"]
)
def test_signature_that_was_cut_is_not_enough(octets: int, error: int) -> None:
    """RFC 8945 section 5.2.4: what is too short for our policy is BADTRUNC."""
    mac = read(tsig.sign_query(QUERY, KEY, NOW)).mac
    assert check(with_mac(mac[:octets])).error == error


@pytest.mark.parametrize("octets", [15, 9, 0, 33])
def test_signature_of_an_impossible_length_is_a_malformed_message(octets: int) -> None:
    """RFC 8945 section 5.2.2.1."""
    mac = (read(tsig.sign_query(QUERY, KEY, NOW)).mac + b"\0")[:octets]
    with pytest.raises(BadMessage):
        check(with_mac(mac))


def test_record_that_is_cut_anywhere_is_a_malformed_message() -> None:
    message = tsig.sign_query(QUERY, KEY, NOW)
    at = message.rindex(NAME)
    for end in range(at, len(message)):
        with pytest.raises(BadMessage):
            tsig.standing(message[:end], at, (KEY,), NOW)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("k hmac-sha256", "NAME ALGORITHM BASE64"),
        ("k hmac-sha256 QQ== x", "NAME ALGORITHM BASE64"),
        ("k..k hmac-sha256 QQ==", "a domain name"),
        ("k hmac-md5.sig-alg.reg.int QQ==", "one of hmac-sha1"),
        ("k hmac-sha256 QQ", "base64"),
    ],
)
def test_line_that_is_no_key_says_what_was_expected(line: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        tsig.key_of(line)


def test_key_is_canonical() -> None:
    assert tsig.key_of("K.Docker HMAC-SHA256. QUI=") == Key("k.docker.", "hmac-sha256.", b"AB")

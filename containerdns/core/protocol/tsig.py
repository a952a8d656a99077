"""TSIG (RFC 8945): verifying signed queries, and signing responses.

A key is identified by its name and algorithm.  Every message of a transfer is signed, including
the signature of the previous one.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.errors import BadMessage, BadName

ALGORITHMS: Final = {
    "hmac-sha1.": hashlib.sha1,
    "hmac-sha224.": hashlib.sha224,
    "hmac-sha256.": hashlib.sha256,
    "hmac-sha384.": hashlib.sha384,
    "hmac-sha512.": hashlib.sha512,
}
FUDGE: Final = 300  # seconds that two clocks may differ, RFC 8945 section 10
BADSIG, BADKEY, BADTIME, BADTRUNC = 16, 17, 18, 22
MIN_MAC: Final = 10  # octets, RFC 8945 section 5.2.2.1

_FIXED = struct.Struct("!HHIH")
_ID = slice(0, 2)
_ADDITIONALS = slice(10, 12)


@dataclass(frozen=True, slots=True)
class Key:
    """A secret shared with a secondary.

    Attributes:
        name: Canonical.
        algorithm: Canonical name, one of `ALGORITHMS`.
        secret: Octets.
    """

    name: str
    algorithm: str
    secret: bytes


class Variables(NamedTuple):
    """What is signed besides the message and the key (RFC 8945 section 4.3.3).

    Attributes:
        time: When it was signed, seconds since the epoch.
        fudge: Seconds that the other clock may differ.
        error: 0, or the TSIG error.
        other: The server's time, for BADTIME.
    """

    time: int
    fudge: int = FUDGE
    error: int = 0
    other: bytes = b""


@dataclass(frozen=True, slots=True)
class SignatureStanding:
    """The result of verifying a query, and what is needed to sign the response.

    Attributes:
        error: 0, or the TSIG error.
        key_name: Wire form, as sent.
        algorithm: Wire form, as sent.
        key: None if the key is unknown; then nothing can be signed.
        mac: The previous signature.
        time: When the query was signed, for BADTIME.
    """

    error: int
    key_name: bytes
    algorithm: bytes
    key: Key | None = None
    mac: bytes = b""
    time: int = 0


def key_of(text: str) -> Key:
    """Parse a line NAME ALGORITHM BASE64.

    Raises:
        ValueError: It is invalid; the message says what was expected.
    """
    fields = text.split()
    if len(fields) != 3:
        raise ValueError("NAME ALGORITHM BASE64")
    try:
        name, algorithm = names.canonical(fields[0]), names.canonical(fields[1])
    except BadName as error:
        raise ValueError("a domain name as the key's name") from error
    if algorithm not in ALGORITHMS:
        raise ValueError("one of " + ", ".join(known[:-1] for known in ALGORITHMS))
    try:
        secret = base64.b64decode(fields[2], validate=True)
    except binascii.Error as error:
        raise ValueError("a secret in base64") from error
    return Key(name, algorithm, secret)


def standing(data: bytes, at: int, keys: Iterable[Key], now: float) -> SignatureStanding:
    """Verify the signature of a query (RFC 8945 section 5.2).

    Args:
        data: The query.
        at: Where its TSIG record, the last one, starts.
        keys: The trusted keys.
        now: Seconds since the epoch.

    Raises:
        BadMessage: The record is malformed.
    """
    key_name, end = _name_at(data, at)
    algorithm, start = _name_at(data, end + _FIXED.size)
    try:
        rtype, rclass, ttl, _ = _FIXED.unpack_from(data, end)
        time = int.from_bytes(data[start : start + 6])
        fudge, size = struct.unpack_from("!HH", data, start + 6)
        mac = data[start + 10 : start + 10 + size]
        original_id, error, other_size = struct.unpack_from("!HHH", data, start + 10 + size)
    except struct.error as error_:
        raise BadMessage("truncated TSIG record") from error_
    other = data[start + 16 + size :]
    if (rtype, rclass, ttl) != (messages.TSIG, messages.ANY_CLASS, 0) or len(other) != other_size:
        raise BadMessage("not a TSIG record")
    wanted = (names.from_wire(key_name), names.from_wire(algorithm))
    key = next((key for key in keys if (key.name, key.algorithm) == wanted), None)
    if key is None:
        return SignatureStanding(BADKEY, key_name, algorithm)
    additionals = int.from_bytes(data[_ADDITIONALS]) - 1
    unsigned = original_id.to_bytes(2) + data[2:10] + additionals.to_bytes(2) + data[12:at]
    variables = Variables(time, fudge, error, other)
    full = _mac(key, unsigned + _signed_with(key_name, algorithm, variables))
    if len(mac) < MIN_MAC or len(mac) < len(full) // 2 or len(mac) > len(full):
        raise BadMessage("a TSIG signature with a wrong length")
    if not hmac.compare_digest(mac, full[: len(mac)]):
        return SignatureStanding(BADSIG, key_name, algorithm)
    if len(mac) < len(full):
        return SignatureStanding(BADTRUNC, key_name, algorithm, key, mac)
    if abs(now - time) > fudge:
        return SignatureStanding(BADTIME, key_name, algorithm, key, mac, time)
    return SignatureStanding(0, key_name, algorithm, key, mac)


def sign_response(
    message: bytes, query: SignatureStanding, now: float
) -> tuple[bytes, SignatureStanding]:
    """Sign the first or only response to a query, or add the TSIG error.

    Returns:
        The message with its TSIG record, and the signature for the next one.
    """
    variables = Variables(int(now), error=query.error)
    if query.error == BADTIME:
        variables = variables._replace(time=query.time, other=int(now).to_bytes(6))
    mac = b""
    if query.key is not None:
        before = len(query.mac).to_bytes(2) + query.mac
        signed_with = _signed_with(query.key_name, query.algorithm, variables)
        mac = _mac(query.key, before + message + signed_with)
    signed = _with_record(message, query, mac, variables)
    return signed, SignatureStanding(query.error, query.key_name, query.algorithm, query.key, mac)


def sign_next(
    message: bytes, before: SignatureStanding, now: float
) -> tuple[bytes, SignatureStanding]:
    """Sign a subsequent message of a transfer (RFC 8945 section 5.3.1)."""
    assert before.key is not None
    timers = int(now).to_bytes(6) + FUDGE.to_bytes(2)
    mac = _mac(before.key, len(before.mac).to_bytes(2) + before.mac + message + timers)
    signed = _with_record(message, before, mac, Variables(int(now)))
    return signed, SignatureStanding(0, before.key_name, before.algorithm, before.key, mac)


def sign_query(message: bytes, key: Key, now: float) -> bytes:
    """Sign a query of our own, a NOTIFY."""
    key_name, algorithm = names.to_wire(key.name), names.to_wire(key.algorithm)
    variables = Variables(int(now))
    mac = _mac(key, message + _signed_with(key_name, algorithm, variables))
    return _with_record(message, SignatureStanding(0, key_name, algorithm, key), mac, variables)


def _mac(key: Key, data: bytes) -> bytes:
    return hmac.digest(key.secret, data, ALGORITHMS[key.algorithm]().name)


def _signed_with(key_name: bytes, algorithm: bytes, variables: Variables) -> bytes:
    """Return what is signed behind the message (RFC 8945 section 4.3.3)."""
    time, fudge, error, other = variables
    return b"".join(
        (
            key_name.lower(),
            struct.pack("!HI", messages.ANY_CLASS, 0),
            algorithm.lower(),
            time.to_bytes(6),
            struct.pack("!HHH", fudge, error, len(other)),
            other,
        )
    )


def _with_record(
    message: bytes, standing_of_key: SignatureStanding, mac: bytes, variables: Variables
) -> bytes:
    time, fudge, error, other = variables
    data = b"".join(
        (
            standing_of_key.algorithm,
            time.to_bytes(6),
            struct.pack("!HH", fudge, len(mac)),
            mac,
            message[_ID],
            struct.pack("!HH", error, len(other)),
            other,
        )
    )
    additionals = int.from_bytes(message[_ADDITIONALS]) + 1
    fixed = _FIXED.pack(messages.TSIG, messages.ANY_CLASS, 0, len(data))
    return b"".join(
        (
            message[:10],
            additionals.to_bytes(2),
            message[12:],
            standing_of_key.key_name,
            fixed,
            data,
        )
    )


def _name_at(data: bytes, at: int) -> tuple[bytes, int]:
    """Parse an uncompressed name; return it and the offset after it."""
    start = at
    while at < len(data) and 0 < data[at] <= names.MAX_LABEL:
        at += 1 + data[at]
    if at >= len(data) or data[at] or at - start >= names.MAX_NAME:
        raise BadMessage("invalid name in a TSIG record")
    return data[start : at + 1], at + 1

"""DNS Cookies: proof that a client owns its address (RFC 7873, RFC 9018)."""

import struct
from enum import Enum

CLIENT_OCTETS = 8
SERVER_OCTETS = 16  # version, reserved, timestamp, hash; RFC 9018 section 4
MIN_OPTION, MAX_OPTION = 16, 40  # with a server cookie, RFC 7873 section 4
VERSION = b"\x01\0\0\0"
MAX_AGE, MAX_AHEAD = 3600, 300  # seconds, RFC 9018 section 4.3
RENEWED_AFTER = 1800  # seconds, RFC 9018 section 4.3
SECRET_OCTETS = 16

_MASK = (1 << 64) - 1


class CookieStanding(Enum):
    """What a cookie option proves about the client."""

    MALFORMED = "malformed"
    UNPROVEN = "unproven"
    VALID = "valid"


class Cookies:
    """Creates and checks server cookies; servers with the same secret accept them."""

    def __init__(self, secret: bytes) -> None:
        """Initialise with a secret of 16 octets."""
        self._secret = secret

    def option(self, client_cookie: bytes, address: bytes, now: float) -> bytes:
        """Return the option data for a response: the client's cookie and a fresh one of ours."""
        stamp = VERSION + (int(now) & 0xFFFFFFFF).to_bytes(4)
        return client_cookie + stamp + self._hash(client_cookie, stamp, address)

    def renewed(self, option: bytes, address: bytes, now: float) -> tuple[bytes, float]:
        """Return the option data for the response to a query with a well-formed cookie.

        A cookie of ours stays the same for half an hour (RFC 9018 section 4.3), so that a
        client that sends back what it got sends the same octets again.

        Returns:
            The data, and for how many seconds it may be reused.
        """
        if self.standing(option, address, now) is CookieStanding.VALID:
            age = int(now) - int.from_bytes(option[CLIENT_OCTETS + 4 : CLIENT_OCTETS + 8])
            if 0 <= age < RENEWED_AFTER:
                return option, RENEWED_AFTER - age
        return self.option(option[:CLIENT_OCTETS], address, now), RENEWED_AFTER

    def standing(self, option: bytes, address: bytes, now: float) -> CookieStanding:
        """Return what the option of a query proves about its source address."""
        if len(option) == CLIENT_OCTETS:
            return CookieStanding.UNPROVEN
        if not MIN_OPTION <= len(option) <= MAX_OPTION:
            return CookieStanding.MALFORMED
        client, server = option[:CLIENT_OCTETS], option[CLIENT_OCTETS:]
        if len(server) != SERVER_OCTETS or not server.startswith(VERSION[:1]):
            return CookieStanding.UNPROVEN
        age = (int(now) - int.from_bytes(server[4:8])) & 0xFFFFFFFF
        is_current = age <= MAX_AGE or age >= (1 << 32) - MAX_AHEAD  # RFC 1982
        is_ours = server[8:] == self._hash(client, server[:8], address)
        return CookieStanding.VALID if is_current and is_ours else CookieStanding.UNPROVEN

    def _hash(self, client_cookie: bytes, stamp: bytes, address: bytes) -> bytes:
        return siphash24(self._secret, client_cookie + stamp + address)


def siphash24(key: bytes, data: bytes) -> bytes:
    """SipHash-2-4 (Aumasson, Bernstein 2012), as in RFC 9018 section 4.4.

    Returns:
        8 octets, little-endian.
    """
    k0, k1 = struct.unpack("<QQ", key)
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    padded = data + bytes(-(len(data) + 1) % 8) + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        _sip_rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    _sip_rounds(v, 4)
    return struct.pack("<Q", v[0] ^ v[1] ^ v[2] ^ v[3])


def _sip_rounds(v: list[int], rounds: int) -> None:
    v0, v1, v2, v3 = v
    for _ in range(rounds):
        v0 = (v0 + v1) & _MASK
        v1 = _rotated(v1, 13) ^ v0
        v0 = _rotated(v0, 32)
        v2 = (v2 + v3) & _MASK
        v3 = _rotated(v3, 16) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = _rotated(v3, 21) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = _rotated(v1, 17) ^ v2
        v2 = _rotated(v2, 32)
    v[:] = v0, v1, v2, v3


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK

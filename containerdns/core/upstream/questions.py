"""Questions to upstreams: their spelling, and the key of the cache."""

from functools import lru_cache
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.upstream.forwarding import Forward

PADDED_TO = 128  # octets, RFC 8467 section 4.1
LETTER_BIT = 0x20  # distinguishes "a" from "A"
_LETTERS = bytes(LETTER_BIT if 97 <= octet <= 122 else 0 for octet in range(256))


class Question(NamedTuple):
    """A question as cached, and sent once for all waiting clients.

    Attributes:
        name: The canonical name.
        qtype: The type's number.
        wants_dnssec: The DO flag.
        checking_disabled: The CD flag.
        apex: The domain of its `--forward`; None for `--upstream`.
        wants_ad: The AD flag, if not implied by DO (RFC 6840 section 5.7).  PowerDNS Recursor
            validates only for those who set one of them.
    """

    name: str
    qtype: int
    wants_dnssec: bool
    checking_disabled: bool
    apex: str | None
    wants_ad: bool = False

    @property
    def wire(self) -> bytes:
        """The wire name, lower case, with type and class."""
        return _wire_of(self.name, self.qtype)

    @property
    def flags(self) -> int:
        """The header flags of its query."""
        flags = messages.RD | messages.CD if self.checking_disabled else messages.RD
        return flags | messages.AD if self.wants_ad or self.wants_dnssec else flags


@lru_cache(2048)  # as many as are in flight: needed at the start and at the end
def _wire_of(name: str, qtype: int) -> bytes:
    return names.to_wire(name) + qtype.to_bytes(2) + b"\0\1"


def question_of(forward: Forward) -> Question:
    """Return the question of a client's query."""
    query = forward.query
    wants_dnssec = query.edns is not None and query.edns.dnssec_ok
    return Question(
        forward.name,
        forward.qtype,
        wants_dnssec,
        bool(query.flags & messages.CD),
        forward.apex,
        not wants_dnssec and bool(query.flags & messages.AD),
    )


def spell(wire: bytes, randomness: bytes) -> bytes:
    """Spell a question in random case (draft-vixie-dnsext-dns0x20).

    Args:
        wire: Wire name, lower case, with type and class.
        randomness: At least as many octets as the name has.
    """
    return spell_names(wire[:-4], randomness) + wire[-4:]


def spell_names(wire: bytes, randomness: bytes) -> bytes:
    """Spell one or more names in random case.

    Args:
        wire: Wire names, lower case, one after the other.
        randomness: At least as many octets.
    """
    size = len(wire)
    flips = int.from_bytes(wire.translate(_LETTERS)) & int.from_bytes(randomness[:size])
    return (int.from_bytes(wire) ^ flips).to_bytes(size)


@lru_cache(maxsize=512)  # of 255 lengths, with and without DO
def padded_opt(wants_dnssec: bool, question_octets: int) -> bytes:
    """Return an OPT record that pads a query to hide the length of its name (RFC 8467, 4.1)."""
    bare = messages.opt_record(wants_dnssec, options=((messages.PADDING_OPTION, b""),))
    octets = messages.HEADER_OCTETS + question_octets + len(bare)
    padding = bytes(-octets % PADDED_TO)
    return messages.opt_record(wants_dnssec, options=((messages.PADDING_OPTION, padding),))


def is_same(one: bytes, other: bytes) -> bool:
    """Return whether two questions in wire form are equal, ignoring case."""
    return one[-4:] == other[-4:] and one[:-4].lower() == other[:-4].lower()

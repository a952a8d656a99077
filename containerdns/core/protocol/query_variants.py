"""EDNS options: the part of a query that depends on the client, not on the question.

The options of a query affect only the options of the response, and its payload size only what
fits.  So a query is split at its OPT record: the same query with a plain OPT record, whose
response is cached for all clients; and the OPT record itself, for which this client's part of
the response is cached for half an hour.  So a DNS cookie, a client subnet or padding takes no
entry in the packet cache.
"""

from dataclasses import dataclass
from typing import Final

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Edns
from containerdns.errors import BadMessage

OPT_OCTETS: Final = 11  # octets of a record without options
MAX_OPT_OCTETS: Final = 600  # padding goes up to blocks of 468, RFC 8467 section 4.1
TYPE_AND_CLASS: Final = 5  # octets from the zero that ends the name to the OPT record
NO_OPTIONS: Final = b"\0\0"
BEFORE_OPTIONS: Final = slice(-len(NO_OPTIONS))  # of a response that ends with them
# Common OPT records; responses to these are cached directly.
USUAL_SIZES: Final = frozenset(
    {512, 1200, 1220, 1232, 1280, 1400, 1410, 1440, 1452, 1472, 2048, 4096, 8192, 65535}
)
PLAIN_ENDS: Final = (messages.opt_record(), messages.opt_record(dnssec_ok=True))


@dataclass(frozen=True, slots=True)
class Variant:
    """The part of a response that depends on one client's OPT record.

    Attributes:
        sent: The client's record.
        sent_octets: Its length.
        wants_dnssec: Its DO flag.
        opt: The plain record in its place.
        octets: The end of the response: the length of the options, and the options.
        limit: The longest response in octets.
        until: When it expires, by the clock of the packet cache.
    """

    sent: bytes
    sent_octets: int
    wants_dnssec: bool
    opt: bytes
    octets: bytes
    limit: int
    until: float

    def fitted(self, tail: bytes, end: int, now: float) -> bytes | None:
        """Return the end of a response with these options.

        Args:
            tail: The same with a plain OPT record.
            end: The length of what precedes it.
            now: By the clock of the packet cache.

        Returns:
            None if the response would be too long, or the options have expired.
        """
        tail = tail[BEFORE_OPTIONS] + self.octets
        return tail if now < self.until and end + len(tail) <= self.limit else None

    def response(self, plain: bytes) -> bytes | None:
        """Return the response with these options; None if too long, or if it has its own."""
        if not plain.endswith(PLAIN_ENDS) or plain[2] & messages.TC >> 8:
            return None
        whole = plain[BEFORE_OPTIONS] + self.octets
        return whole if len(whole) <= self.limit else None


def opt_start(data: bytes) -> int:
    """Return where the record after the question starts, if no label has a zero octet."""
    return data.find(b"\0", messages.HEADER_OCTETS) + TYPE_AND_CLASS


def read_opt(opt: bytes) -> Edns | None:
    """Parse an OPT record that is the rest of a query.

    Returns:
        None if it is invalid or plain, or has anything that changes the answer.
    """
    if not OPT_OCTETS <= len(opt) <= MAX_OPT_OCTETS or opt[:3] != b"\0\0\x29":
        return None
    if opt[5:7] != b"\0\0" or opt[7:9] not in (b"\0\0", b"\x80\0"):
        return None
    try:
        edns = messages.parse_opt(opt)
    except BadMessage:
        return None
    return None if not edns.options and edns.payload_octets in USUAL_SIZES else edns


def variant(
    sent: bytes, edns: Edns, options: tuple[tuple[int, bytes], ...], until: float
) -> Variant:
    """Return the variant for an OPT record, parsed, and the options of its response."""
    record = messages.opt_record(edns.dnssec_ok, options=options)
    return Variant(
        sent=sent,
        sent_octets=len(sent),
        wants_dnssec=edns.dnssec_ok,
        opt=messages.opt_record(edns.dnssec_ok),
        octets=record[OPT_OCTETS - len(NO_OPTIONS) :],
        limit=min(max(edns.payload_octets, messages.PLAIN_OCTETS), messages.PAYLOAD_OCTETS),
        until=until,
    )

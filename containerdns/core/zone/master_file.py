"""Master file text (RFC 1035 section 5) that NSD, Knot and BIND load."""

from collections.abc import Iterable, Iterator

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone.records import MAX_OF_TYPE, Record
from containerdns.core.zone.zone import Suffix, SuffixKind, Zone

NOWHERE = "ns.invalid."  # BIND requires an NS record, and an address if it is in the zone

_PRINTABLE = frozenset(range(0x20, 0x7F)) - frozenset(b'"\\')


def lines(
    zone: Zone, suffix: Suffix, found: Iterable[Record | None], knows_address: bool
) -> Iterator[str | None]:
    """Yield the lines of one zone, without comments at its head.

    Of one type at one name there are the first hundred records, as BIND loads no more.

    Args:
        zone: For its TTL.
        suffix: The zone's.
        found: The records, the SOA first; None, which is passed on, where there is none for long.
        knows_address: Whether they include an address of `ns.DOMAIN`.
    """
    yield f"$ORIGIN {suffix.apex}"
    yield f"$TTL {zone.shape.ttl}"
    is_hollow = not knows_address and suffix.kind is SuffixKind.DOMAIN
    rrset, count = ("", 0), 0
    for record in found:
        if record is None:
            yield None
            continue
        if rrset != (record.name, record.rtype):
            yield from _left_out(*rrset, count)
            rrset, count = (record.name, record.rtype), 0
        count += 1
        if is_hollow and record.rtype == messages.NS:
            yield "; no address of this server is known: --listen is a wildcard, and there is"
            yield "; no --host-address, so the NS record has no target"
            yield f"{record.name}\t{record.ttl}\tIN\tNS\t{NOWHERE}"
        else:
            yield line(record) if count <= MAX_OF_TYPE else None
    yield from _left_out(*rrset, count)


def _left_out(name: str, rtype: int, count: int) -> Iterator[str]:
    """Yield a comment about the records of an RRset beyond those that BIND loads."""
    more = count - MAX_OF_TYPE
    if more > 0:
        are = "record of {} is" if more == 1 else "records of {} are"
        text = f"{more} more {messages.type_text(rtype)} {are.format(name)} left out"
        yield comment(f"{text}, as BIND loads at most {MAX_OF_TYPE}")


def line(record: Record) -> str:
    """Return a record as a line."""
    rtype = messages.type_text(record.rtype)
    return f"{record.name}\t{record.ttl}\tIN\t{rtype}\t{data_text(record.rtype, record.rdata)}"


def data_text(rtype: int, rdata: bytes) -> str:
    """Return record data in presentation form, for any octets."""
    if rtype == messages.TXT:
        return " ".join(_quoted(string) for string in _strings(rdata))
    if rtype == messages.SRV:
        numbers = (int.from_bytes(rdata[at : at + 2]) for at in (0, 2, 4))
        return " ".join((*map(str, numbers), names.from_wire(rdata[6:])))
    return messages.data_text(rtype, rdata)


def comment(text: str) -> str:
    """Return a comment line; untrusted text cannot end it early."""
    safe = "".join(c if c.isprintable() else "?" for c in text)
    return f"; {safe}"


def _strings(rdata: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(rdata):
        length = rdata[at]
        yield rdata[at + 1 : at + 1 + length]
        at += 1 + length


def _quoted(string: bytes) -> str:
    inner = "".join(chr(o) if o in _PRINTABLE else _escaped(o) for o in string)
    return f'"{inner}"'


def _escaped(octet: int) -> str:
    return f"\\{chr(octet)}" if octet in b'"\\' else f"\\{octet:03d}"

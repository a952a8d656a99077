"""The catalog zone, which lists our other zones for secondaries (RFC 9432, version 2).

A secondary that consumes it copies a new domain or reverse zone without being configured for
it.  Its name is below `invalid`, where nobody else can have a zone.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR

CATALOG: Final = "catalog.containerdns.invalid."
VERSION: Final = b"2"
ID_DIGITS: Final = 16  # of the label that stands for a member; it must not change


def records_of(zones: Iterable[str], ttl: int) -> tuple[RR, ...]:
    """Return the records of the catalog without its SOA.

    Args:
        zones: The apexes of its members.
        ttl: Seconds, without a meaning here (RFC 9432 section 3).
    """
    version = bytes((len(VERSION),)) + VERSION
    return (
        _record(CATALOG, messages.NS, names.to_wire("invalid."), ttl),  # RFC 9432 section 4.1
        _record(names.join("version", CATALOG), messages.TXT, version, ttl),
        *(_record(_member(zone), messages.PTR, names.to_wire(zone), ttl) for zone in sorted(zones)),
    )


def _member(zone: str) -> str:
    """Return the owner of a member's PTR record: a label of its own for each zone."""
    label = sha256(zone.encode()).hexdigest()[:ID_DIGITS]
    return names.join(f"{label}.zones", CATALOG)


def _record(owner: str, rtype: int, rdata: bytes, ttl: int) -> RR:
    return RR(names.to_wire(owner), rtype, messages.IN, ttl, rdata)

"""The address records of a container that has one address, or one of each family.

They are made when the container changes, so that the first query for one of its names finds them
ready-made.  Owners are the pointer to the question, so they fit every name of the container.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from containerdns.core.protocol import messages
from containerdns.core.zone.policy import Publication, PublishedAddress

_RECORD = struct.Struct("!HHHIH")  # owner, type, class, TTL, length of the data
_TO_QUESTION = 0xC000 | messages.HEADER_OCTETS  # a pointer to the name asked for


class SoleAddresses(NamedTuple):
    """The addresses at a container's names, if these are at most one A and one AAAA record.

    Attributes:
        network: The id of the network of the addresses; "" for fixed addresses.
        a: The A record; b"" for none.
        aaaa: The AAAA record; b"" for none.
    """

    network: str
    a: bytes
    aaaa: bytes


def of_all_views(publication: Publication) -> SoleAddresses | None:
    """Return the records that every client gets; None if they are more, or views differ."""
    addresses = publication.addresses
    if publication.on_host or len({address.network_id for address in addresses}) > 1:
        return None
    return of_addresses(publication, addresses)


def of_addresses(
    publication: Publication, addresses: Sequence[PublishedAddress]
) -> SoleAddresses | None:
    """Return the records of addresses of a container; None if they are more, or a CNAME."""
    if publication.cname or len(addresses) > 2:
        return None
    found = {messages.A: b"", messages.AAAA: b""}
    for address in addresses:
        rtype = address.rtype
        if found[rtype]:
            return None
        octets = packed(address.text)
        head = _RECORD.pack(_TO_QUESTION, rtype, messages.IN, publication.ttl, len(octets))
        found[rtype] = head + octets
    network = addresses[0].network_id if addresses else ""
    return SoleAddresses(network, found[messages.A], found[messages.AAAA])


@lru_cache(maxsize=16384)
def packed(text: str) -> bytes:
    """Return the octets of an address; cached, as several names share one."""
    return ip_address(text).packed

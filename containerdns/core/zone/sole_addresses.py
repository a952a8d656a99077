"""The address records of a container that has one address, or one of each family.

They are made when the container changes, so that the first query for one of its names finds them
ready-made.  Owners are the pointer to the question, so they fit every name of the container.

Looking up such a name costs little more than waiting for the memory that it touches, as no other
query has touched it lately.  So the records are one step away from the name.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from containerdns.core.protocol import messages
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress

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


class SoleOwners:
    """The labels that one container alone has below every suffix, with the records of all views.

    Attributes:
        a: The A record of each; b"" for none.
        aaaa: The AAAA record of those that have one.
    """

    def __init__(self) -> None:
        self.a: dict[str, bytes] = {}
        self.aaaa: dict[str, bytes] = {}
        self._last: tuple[Publication | None, SoleAddresses | None] = None, None

    def set(self, claim: Claim, publication: Publication) -> None:
        """Add a claim that has no rival, of a publication; leave it out if it needs a choice."""
        owner = claim.owner
        held = self._held_by(publication) if is_plain(claim) else None
        if held is None or claim.network not in ("", held.network):
            self.remove(owner)
            return
        self.a[owner] = held.a
        if held.aaaa:
            self.aaaa[owner] = held.aaaa
        else:
            self.aaaa.pop(owner, None)

    def of(self, claim: Claim, publication: Publication) -> SoleAddresses | None:
        """Return what a publication has at one of its claims, if it has a label here.

        Args:
            claim: One that has its owner alone, such as one of several labels.
            publication: That of the claim, running.
        """
        label = publication.claims[0].owner
        record = self.a.get(label)
        network = publication.addresses[0].network_id if publication.addresses else ""
        if record is None or claim.network not in ("", network):
            return None
        return SoleAddresses(network, record, self.aaaa.get(label, b""))

    def remove(self, owner: str) -> None:
        """Remove an owner, if it is there."""
        if self.a.pop(owner, None) is not None:
            self.aaaa.pop(owner, None)

    def _held_by(self, publication: Publication) -> SoleAddresses | None:
        """Return the records of a publication; those of its claims are the same objects."""
        if self._last[0] is not publication:
            self._last = publication, of_all_views(publication)
        return self._last[1]


def is_plain(claim: Claim) -> bool:
    """Return whether the owner of a claim is a label whose text is its octets."""
    owner = claim.owner
    return not (claim.project or claim.proxy or "." in owner or "\\" in owner)


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


@lru_cache(maxsize=1024)
def packed(text: str) -> bytes:
    """Return the octets of an address, as canonical text; cached, as several names share one."""
    if ":" not in text:
        return bytes(map(int, text.split(".")))
    return ip_address(text).packed

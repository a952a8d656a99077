"""NXDOMAIN responses for new names, derived from those for similar names.

The response for a name directly below a domain of ours, a special name or the root is the same
for every other such name of that length, except for ID and label.  So a flood of random names
costs little more than checking whether a container has one of them.
"""

from typing import Final, NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone.ownership import Decision, Ownership
from containerdns.core.zone.zone import Zone

MAX_KNOWN: Final = 1024  # combinations of label length, type and EDNS; then all are cleared
LABEL_AT: Final = messages.HEADER_OCTETS + 1
PLAIN: Final = (
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"  # compared unchanged
)
TO_QUESTION: Final = bytes((0xC0, messages.HEADER_OCTETS))  # a pointer to the name itself


class Denied(NamedTuple):
    """A name that does not exist, and the response for it.

    Attributes:
        octets: The whole response.
        name: Canonical.
        qtype: The type's number.
        serial_at: The offset of the serial in `octets`.
        decision: The reason, unless it is that the zone has no such name.
        is_kept: It would otherwise be forwarded.
    """

    octets: bytes
    name: str
    qtype: int
    serial_at: int
    decision: Decision | None = None
    is_kept: bool = False

    @property
    def source(self) -> str:
        """As in `Reply`."""
        return "zone" if self.decision is None else "policy"


class _Known(NamedTuple):
    """The response for every name of one length below one domain."""

    head: bytes  # octets 2 to 12 of the response
    rest: bytes  # the query from its type on
    tail: bytes  # the response from its type on
    apex: str
    qtype: int
    serial_from_end: int
    decision: Decision | None
    is_kept: bool


class Denials:
    """Responses for names that do not exist, reusable for similar names."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}
        self._serial = -1

    def find(self, data: bytes, zone: Zone, ownership: Ownership) -> Denied | None:
        """Deny a name if the zone and the rules allow that directly.

        Args:
            data: An unparsed query.
            zone: The complete zone.
            ownership: The rules.
        """
        behind = LABEL_AT + (data[LABEL_AT - 1] if len(data) >= LABEL_AT else 0)
        known = self._known.get((data[2:LABEL_AT] + data[behind:]).lower())
        if known is None or not data.endswith(known.rest):
            return None
        label = data[LABEL_AT:behind]
        if zone.serial != self._serial or label.translate(None, PLAIN):
            return None
        text = label.lower().decode()
        name = names.join(text, known.apex)
        if known.decision is None:
            if not zone.is_free(text, known.apex):
                return None
        elif not label or not ownership.is_nobodys(text, name):
            return None
        asked = data[messages.HEADER_OCTETS : len(data) - len(known.rest)]
        octets = b"".join((data[:2], known.head, asked, known.tail))
        serial_at = len(octets) - known.serial_from_end
        return Denied(octets, name, known.qtype, serial_at, known.decision, known.is_kept)

    def learn(
        self, data: bytes, denied: Denied, apex: str, zone: Zone, ownership: Ownership
    ) -> None:
        """Record the response for a name.

        Args:
            data: The query, well-formed and without EDNS options.
            denied: The response.
            apex: The parent of the name: a domain of ours, if the zone has no such name.
            zone: The complete zone.
            ownership: The rules.
        """
        label = names.strip_suffix(denied.name, apex)
        if not names.is_single_label(label):
            return
        is_of_zone = denied.decision is None
        if not (
            zone.is_free(label, apex) if is_of_zone else ownership.is_nobodys(label, denied.name)
        ):
            return
        behind = LABEL_AT + data[LABEL_AT - 1]
        end = behind + len(names.to_wire(apex))
        header = data[2 : messages.HEADER_OCTETS]
        octets = denied.octets
        if header.lower() != header.upper() or TO_QUESTION in octets[end:]:
            return  # a letter in the header, which `find` would fold; or a pointer to this label
        if zone.serial != self._serial or len(self._known) >= MAX_KNOWN:
            self._known.clear()
            self._serial = zone.serial
        self._known[(data[2:LABEL_AT] + data[behind:]).lower()] = _Known(
            octets[2 : messages.HEADER_OCTETS],
            data[end:],
            octets[end:],
            apex,
            denied.qtype,
            len(octets) - denied.serial_at,
            denied.decision,
            denied.is_kept,
        )

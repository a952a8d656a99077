"""Ready-made NXDOMAIN for names that nobody has asked for before.

A response to a name one label below a domain of ours, below a special name or the root is
the same for every other such name of that length, but for ID and label.  So a flood of
random names costs little more than a look whether a container has one of them.
"""

from typing import Final, NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone.ownership import Decision, Ownership
from containerdns.core.zone.zone import Zone

MAX_KNOWN: Final = 1024  # lengths of labels, types, and EDNS variants; then all start anew
LABEL_AT: Final = messages.HEADER_OCTETS + 1
PLAIN: Final = (
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"  # read as they are
)
TO_QUESTION: Final = bytes((0xC0, messages.HEADER_OCTETS))  # a pointer to the name itself


class Denied(NamedTuple):
    """A name that does not exist, and the response that says so.

    Attributes:
        octets: The whole response.
        name: Canonical.
        qtype: The type's number.
        serial_at: Where the serial stands in `octets`.
        decision: Why, if not because the zone has no such name.
        is_kept: An upstream would else be asked for it.
    """

    octets: bytes
    name: str
    qtype: int
    serial_at: int
    decision: Decision | None = None
    is_kept: bool = False

    @property
    def source(self) -> str:
        """As of a reply."""
        return "zone" if self.decision is None else "policy"


class _Known(NamedTuple):
    """What is said of every name of one length below one domain."""

    head: bytes  # octets 2 to 12 of the response
    rest: bytes  # of the query, from its type on
    tail: bytes  # of the response, from there on
    apex: str
    qtype: int
    serial_from_end: int
    decision: Decision | None
    is_kept: bool


class Denials:
    """What was said of names that do not exist, for others like them."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}
        self._serial = -1

    def find(self, data: bytes, zone: Zone, ownership: Ownership) -> Denied | None:
        """Deny a name if that needs no more than a look at the zone and the rules.

        Args:
            data: A query, not yet looked at.
            zone: Which was listed whole.
            ownership: Its rules.
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
        """Take over what was said of a name.

        Args:
            data: The query, which is well-formed and has no EDNS option.
            denied: Its response.
            apex: What the name is below, by one label: a domain of ours, if the zone has none.
            zone: Which was listed whole.
            ownership: Its rules.
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
            return  # a letter in the header, which `find` would fold; or it points to this label
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

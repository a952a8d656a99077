"""NXDOMAIN responses for new names, derived from those for similar names.

The response for a name directly below a domain of ours, a special name or the root is the same
for every other such name of that length, except for ID and label.  So a flood of random names
costs little more than checking whether a container has one of them.
"""

from typing import Final, NamedTuple

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.zone.ownership import Decision, Listing, Ownership

MAX_KNOWN: Final = 1024  # combinations of label length, type and EDNS; then all are cleared
LABEL_AT: Final = messages.HEADER_OCTETS + 1
FOLDED_LABEL_AT: Final = LABEL_AT - 2  # behind the ID
PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_"  # the same in text
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


class Denial:
    """The response for every name of one length below one parent.

    It is the outcome of such queries in the history; see `query_history.Row`.

    Attributes:
        name: The parent: a domain of ours, if the zone has no such name.
        source: "zone" or "policy", as in `Reply`.
        serial_at: The offset of the serial in the response.
        hits: Number of uses since they were last counted.
    """

    __slots__ = (
        *("decision", "end", "has_letters", "head", "hits", "is_kept", "name"),
        *("qtype", "rest", "serial_at", "source", "tail"),
    )
    rcode: Final = messages.NXDOMAIN
    upstream: Final = None

    def __init__(self, data: bytes, denied: Denied, parent: str, end: int) -> None:
        self.head = denied.octets[2 : messages.HEADER_OCTETS]
        self.end = end  # of the question's name
        self.rest = data[end:]
        self.has_letters = _has_letters(self.rest)  # in its octets: compared as sent
        self.tail = denied.octets[end:]
        self.name = parent
        self.qtype = denied.qtype
        self.serial_at = denied.serial_at
        self.decision = denied.decision
        self.source = "zone" if denied.decision is None else "policy"
        self.is_kept = denied.is_kept
        self.hits = 0


class Denials:
    """Responses for names that do not exist, reusable for similar names."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._known: dict[bytes, Denial] = {}

    def use(self, ownership: Ownership) -> None:
        """Use other rules, and their zone, from now on."""
        self._zone = ownership.zone
        self._ownership = ownership
        self._forget()

    def find(self, data: bytes, folded: bytes) -> tuple[bytes, Denial, str] | None:
        """Deny a name if the zone and the rules allow that directly.

        The caller counts: `Denial.hits`, or otherwise for a `Reply`.

        Args:
            data: An unparsed query, at least as long as a header.
            folded: What follows its ID, in lower case.

        Returns:
            The response, what it was made from, and the label before `Denial.name`.
        """
        if len(folded) < FOLDED_LABEL_AT:
            return None
        behind = FOLDED_LABEL_AT + folded[FOLDED_LABEL_AT - 1]
        denial = self._known.get(folded[:FOLDED_LABEL_AT] + folded[behind:])
        if denial is None or (denial.has_letters and not data.endswith(denial.rest)):
            return None
        octets = folded[FOLDED_LABEL_AT:behind]
        if not octets.isalnum() and (not octets or octets.translate(None, PLAIN)):
            return None
        label, zone, ownership = octets.decode(), self._zone, self._ownership
        if zone.serial != self._serial or ownership.listing is not Listing.COMPLETE:
            return None
        if denial.decision is None:
            if not zone.is_free(label, denial.name):
                return None
        elif not ownership.is_nobodys(label, names.join(label, denial.name)):
            return None
        asked = data[messages.HEADER_OCTETS : denial.end]
        return data[:2] + denial.head + asked + denial.tail, denial, label

    def learn(self, data: bytes, denied: Denied, parent: str) -> None:
        """Record the response for a name.

        Args:
            data: The query, well-formed and without EDNS options.
            denied: The response.
            parent: The parent of the name: a domain of ours, if the zone has no such name.
        """
        zone = self._zone
        label = names.strip_suffix(denied.name, parent)
        if not names.is_single_label(label):
            return
        is_of_zone = denied.decision is None
        if not (
            zone.is_free(label, parent)
            if is_of_zone
            else self._ownership.is_nobodys(label, denied.name)
        ):
            return
        behind = LABEL_AT + data[LABEL_AT - 1]
        end = behind + len(names.to_wire(parent))
        header = data[2 : messages.HEADER_OCTETS]
        if _has_letters(header) or TO_QUESTION in denied.octets[end:]:
            return  # a letter in the header, which `find` would fold; or a pointer to this label
        if zone.serial != self._serial or len(self._known) >= MAX_KNOWN:
            self._forget()
        key = (data[2:LABEL_AT] + data[behind:]).lower()
        self._known[key] = Denial(data, denied, parent, end)

    def _forget(self) -> None:
        self.tally()
        self._known.clear()
        self._serial = self._zone.serial

    def tally(self) -> None:
        """Count the hits since the last call; must be called before reading counters."""
        for denial in self._known.values():
            hits, denial.hits = denial.hits, 0
            if hits:
                self._counters.asked("udp", denial.qtype, hits)
                self._counters.answered(denial.rcode, denial.source, hits)
                self._counters.kept_from_upstream += hits if denial.is_kept else 0


def _has_letters(octets: bytes) -> bool:
    return octets.lower() != octets.upper()

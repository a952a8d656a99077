"""Responses for names that were not asked for before, derived from those for similar names.

Queries of one *form* differ only in their ID and in the owner before a suffix; the owner has the
same number of octets, so that everything else is at the same place.  There are three responses
to such queries, each learned from one that was given: the name has the record asked for, it has
none of that type, or it does not exist.  So the first query for a name costs hardly more than
one whose response is cached: a look at the zone tells which of the three it is.
"""

from typing import Final, NamedTuple

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import AAAA, A
from containerdns.core.zone import records
from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.ownership import DELEGATION_TYPES, Decision, Listing, Ownership
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import BARE, NS_LABEL, Suffix, SuffixKind

MAX_FORMS: Final = 4096  # combinations of octets, suffix, type and EDNS; then all are cleared
NAME_AT: Final = messages.HEADER_OCTETS - 2  # behind the ID
LABEL_AT: Final = NAME_AT + 1
BEFORE_LABEL: Final = slice(LABEL_AT)
COMPLETE: Final = Listing.COMPLETE  # looking up a member of an enumeration takes 0.1 µs
PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_"  # the same in text
TO_QUESTION: Final = bytes((0xC0, messages.HEADER_OCTETS))  # a pointer to the name itself
SOA_LABELS: Final = frozenset({NS_LABEL, "hostmaster"})  # an SOA may point to these in a name
OTHER_DATA: Final = frozenset({messages.TXT, messages.SRV, messages.ANY})


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


class Given(NamedTuple):
    """A response about a name that exists.

    Attributes:
        octets: The whole response.
        qtype: The type's number.
        serial_at: The offset of the serial in `octets`; 0 if there is none.
        is_kept: The query would otherwise be forwarded.
    """

    octets: bytes
    qtype: int
    serial_at: int = 0
    is_kept: bool = False


class Template:
    """One of the responses to the queries of a form.

    It is the outcome of such queries in the history; see `query_history.Row`.

    Attributes:
        name: What the owners are below: a suffix of ours, or another parent.
        ending: What follows an owner in its absolute name.
        source: "zone" or "policy", as in `Reply`.
        serial_at: The offset of the serial in the response; 0 if it has none.
        hits: Number of uses since they were last counted.
    """

    __slots__ = (
        *("_serial_in_tail", "decision", "end", "ending", "head", "hits", "is_kept", "name"),
        *("qtype", "rcode", "serial", "serial_at", "source", "tail"),
    )
    upstream: Final = None

    def __init__(
        self, given: Denied | Given, name: str, end: int, tail_at: int, serial: int
    ) -> None:
        """Initialise from a response.

        Args:
            given: The response, and what else it depends on.
            name: See above.
            end: Where the question ends.
            tail_at: Where the part begins that follows what differs.
            serial: That of the zone.
        """
        self.head = given.octets[2 : messages.HEADER_OCTETS]
        self.rcode = given.octets[3] & messages.RCODE
        self.end = end
        self.tail = given.octets[tail_at:]
        self._serial_in_tail = given.serial_at - tail_at
        self.name = name
        self.ending = names.join("", name)
        self.qtype = given.qtype
        self.serial_at = given.serial_at
        self.serial = serial
        self.decision = given.decision if isinstance(given, Denied) else None
        self.source = "zone" if self.decision is None else "policy"
        self.is_kept = given.is_kept
        self.hits = 0

    def response(self, data: bytes, tail: bytes) -> bytes:
        """Return the whole response to a query, with what follows the question."""
        asked = data[messages.HEADER_OCTETS : self.end]
        return b"".join((data[:2], self.head, asked, tail))

    def renew(self, serial: int) -> None:
        """Use another serial of the zone from now on."""
        self.serial = serial
        at = self._serial_in_tail
        self.tail = self.tail[:at] + serial.to_bytes(4) + self.tail[at + 4 :]


class Form:
    """Queries that differ in the owner alone, and the responses to them.

    Attributes:
        rest: What follows the name, as sent.
        has_letters: It has some in its octets, so that it must be compared as sent.
        qtype: The type's number.
        suffix: The suffix of ours if containers may have the names; None otherwise.
        present: The response with an address record, which follows the question.
        nodata: The response for a container without such a record.
        absent: The response for names that do not exist.
    """

    __slots__ = ("absent", "has_letters", "nodata", "present", "qtype", "rest", "suffix")

    def __init__(self, rest: bytes, qtype: int) -> None:
        self.rest = rest
        self.has_letters = messages.has_letters(rest)
        self.qtype = qtype
        self.suffix: Suffix | None = None
        self.present: Template | None = None
        self.nodata: Template | None = None
        self.absent: Template | None = None


# What follows the question in the response, what that was made from, and the owner before its name.
Found = tuple[bytes, Template, str]


class SynthesisedAnswers:
    """Responses that are reusable for similar names."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._forms: dict[bytes, Form] = {}

    def use(self, ownership: Ownership) -> None:
        """Use other rules, and their zone, from now on."""
        self._zone = zone = ownership.zone
        self._running = zone.running_owners
        self._sole_a, self._sole_aaaa = zone.sole_owners.a, zone.sole_owners.aaaa
        self._held_back = zone.handovers.by_owner
        self._ownership = ownership
        self._forget()
        suffixes = zone.shape.domains + zone.shape.search_domains
        self._suffixes = tuple(map(names.to_wire, sorted(suffixes, key=len, reverse=True)))
        self._is_nested = ownership.has_nested_suffixes or any(
            names.is_below(CATALOG, suffix) for suffix in suffixes
        )

    def find(self, data: bytes, folded: bytes, view: View) -> Found | None:
        """Answer a query if the zone and the rules allow that directly.

        The response is the query's ID, `Template.head`, the question, and what this returns.
        The caller counts: `Template.hits`, or otherwise for a `Reply`.

        Args:
            data: An unparsed query, at least as long as a header.
            folded: What follows its ID, in lower case.
            view: Of a client that may ask.

        Returns:
            The end of the response, what it was made from, and the owner before `Template.name`.
        """
        if len(folded) < LABEL_AT:
            return None
        behind = LABEL_AT + folded[NAME_AT]
        form = self._forms.get(folded[BEFORE_LABEL] + folded[behind:])
        if form is None:
            return self._find_deeper(data, folded, view)
        if form.has_letters and not data.endswith(form.rest):
            return None
        octets = folded[LABEL_AT:behind]
        try:
            owner = octets.decode()
        except UnicodeDecodeError:
            return None
        zone, qtype = self._zone, form.qtype
        if self._ownership.listing is not COMPLETE:
            return None
        record = self._sole_a.get(owner)
        if record is None or zone.absolute_owners or owner in self._held_back:
            return self._think(octets, owner, form, view)
        if qtype != A:
            record = self._sole_aaaa.get(owner, b"") if qtype == AAAA else b""
        return self._present(owner, record, form)

    def _think(self, octets: bytes, owner: str, form: Form, view: View) -> Found | None:
        """Answer for a label that no container has, or one that needs a choice."""
        if not octets.isalnum() and (not octets or octets.translate(None, PLAIN)):
            return None
        if owner in self._running:
            return self._about_holder(form, owner, view)
        if (denial := form.absent) is None:
            return None
        if denial.decision is None:
            if not self._zone.is_free(owner, denial.name):
                return None
        elif not self._ownership.is_nobodys(owner, owner + denial.ending):
            return None
        if denial.serial != self._zone.serial and denial.serial_at:
            denial.renew(self._zone.serial)
        return denial.tail, denial, owner

    def _find_deeper(self, data: bytes, folded: bytes, view: View) -> Found | None:
        """Do the same for an owner of several labels, if a container has it."""
        end = folded.find(b"\0", NAME_AT) + 1
        name = folded[NAME_AT:end]
        for suffix in self._suffixes:
            if name.endswith(suffix):
                break
        else:
            return None
        before = len(name) - len(suffix)
        if before < 1 or self._ownership.listing is not COMPLETE:
            return None
        start = NAME_AT + before
        form = self._forms.get(folded[:NAME_AT] + bytes((before - 1,)) + folded[start:])
        if form is None or form.suffix is None:
            return None
        if form.has_letters and not data.endswith(form.rest):
            return None
        owner = _text_of(folded[NAME_AT:start])
        return self._about_holder(form, owner, view) if owner in self._running else None

    def _about_holder(self, form: Form, owner: str, view: View) -> Found | None:
        """Answer for a claimed owner, if one container alone has it."""
        suffix = form.suffix
        zone = self._zone
        claim = None if suffix is None else zone.sole_claim(owner, suffix)
        if claim is None:
            return None
        held = zone.sole_owners.of(claim, zone.holder(claim))
        held = held or records.sole_addresses(zone, claim, view)
        if held is None:
            return None
        return self._present(owner, {A: held.a, AAAA: held.aaaa}.get(form.qtype, b""), form)

    def _present(self, owner: str, record: bytes, form: Form) -> Found | None:
        """Answer for an owner with this record, or without one."""
        template = form.present if record else form.nodata
        if template is None:
            return None
        if template.serial != self._zone.serial and template.serial_at:
            template.renew(self._zone.serial)
        return record + template.tail, template, owner

    def learn_presence(self, data: bytes, given: Given, suffix: Suffix, view: View) -> None:
        """Record the response about a name that a container has, for similar names.

        Args:
            data: The query, well-formed and without EDNS options.
            given: The response.
            suffix: What makes the name ours.
            view: Of the client.
        """
        if suffix.kind not in (SuffixKind.DOMAIN, SuffixKind.SEARCH) and suffix != BARE:
            return
        if self._is_nested or given.qtype in OTHER_DATA:
            return
        if suffix == BARE and given.qtype in DELEGATION_TYPES:
            return  # forwarded for some names, such as those of top-level domains
        apex = names.to_wire(suffix.apex)
        end = data.find(b"\0", messages.HEADER_OCTETS) + 1
        before = end - messages.HEADER_OCTETS - len(apex)
        if before < 1 or data[end - len(apex) : end].lower() != apex:
            return
        owner = _text_of(data[messages.HEADER_OCTETS : end - len(apex)].lower())
        claim = self._zone.sole_claim(owner, suffix) if owner else None
        held = None if claim is None else records.sole_addresses(self._zone, claim, view)
        if held is None or owner.rpartition(".")[2] in SOA_LABELS:
            return
        form = self._form(data, before, given.qtype)
        if form is None:
            return
        form.suffix = suffix
        record = {A: held.a, AAAA: held.aaaa}.get(given.qtype, b"")
        end += messages.TYPE_AND_CLASS_OCTETS
        tail_at = end + len(record)
        count = int.from_bytes(given.octets[6:8])
        if count != bool(record) or given.octets[tail_at - len(record) : tail_at] != record:
            return  # it says something else
        template = Template(given, suffix.apex, end, tail_at, self._zone.serial)
        if record:
            form.present = template
        elif given.serial_at:
            form.nodata = template

    def learn(self, data: bytes, denied: Denied, parent: str) -> None:
        """Record the response for a name that does not exist.

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
        before = 1 + data[messages.HEADER_OCTETS]
        end = messages.HEADER_OCTETS + before + len(names.to_wire(parent))
        end += messages.TYPE_AND_CLASS_OCTETS
        if TO_QUESTION in denied.octets[end:]:
            return  # a pointer to this label
        form = self._form(data, before, denied.qtype)
        if form is not None:
            form.absent = Template(denied, parent, end, end, zone.serial)

    def _form(self, data: bytes, before: int, qtype: int) -> Form | None:
        """Return the form of a query whose owner has so many octets; None if it has none."""
        header = data[2 : messages.HEADER_OCTETS]
        if messages.has_letters(header):
            return None  # which `find` would fold
        behind = data[messages.HEADER_OCTETS + before :]
        key = header + bytes((before - 1,)) + behind.lower()
        form = self._forms.get(key)
        rest = behind[behind.find(b"\0") + 1 :]
        if form is not None and form.qtype == qtype and form.rest == rest:
            return form
        if len(self._forms) >= MAX_FORMS:
            self._forget()
        if form is not None:
            self._tally(form)
        form = self._forms[key] = Form(rest, qtype)
        return form

    def _forget(self) -> None:
        self.tally()
        self._forms.clear()

    def tally(self) -> None:
        """Count the hits since the last call; must be called before reading counters."""
        for form in self._forms.values():
            self._tally(form)

    def _tally(self, form: Form) -> None:
        for template in (form.present, form.nodata, form.absent):
            if template is None or not template.hits:
                continue
            hits, template.hits = template.hits, 0
            self._counters.asked("udp", template.qtype, hits)
            self._counters.answered(template.rcode, template.source, hits)
            self._counters.kept_from_upstream += hits if template.is_kept else 0


def _text_of(owner: bytes) -> str:
    """Return a relative name in text; "" if it is malformed, or its text would have escapes."""
    labels = []
    at = 0
    while at < len(owner):
        end = at + 1 + owner[at]
        label = owner[at + 1 : end]
        if end > len(owner) or not label or label.translate(None, PLAIN):
            return ""
        labels.append(label)
        at = end
    return b".".join(labels).decode()

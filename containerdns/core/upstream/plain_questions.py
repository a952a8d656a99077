"""Plain questions: queries that are forwarded after no more than a look at their name.

Nearly all queries for names that are not ours have one of a few *forms*: everything in them but
the ID and the name is the same.  What follows from a form is worked out once, on the slow path,
and a name is plain if no rule applies to it.  Such a question takes a path of its own, with one
object from the datagram to the answer:

    server/batch -> PlainQuestions.find -> upstream/plain_flights -> plain_answers -> server/batch

Whatever else happens on the way (another client asks the same, a response that is not a few
addresses, an error, silence) turns it into a flight, as which every other question begins.
"""

from typing import Final, NamedTuple, Protocol

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.query_variants import OPT_OCTETS
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.questions import Question
from containerdns.core.zone.ownership import Ownership

MAX_FORMS: Final = 256  # combinations of flags, type and EDNS; then all are cleared
MAX_PARENTS: Final = 4096  # names above plain ones; then all are cleared
NAME_AT: Final = messages.HEADER_OCTETS - 2  # behind the ID
LABEL_AT: Final = NAME_AT + 1
MAX_LABEL_END: Final = LABEL_AT + names.MAX_LABEL
MAX_NAME_END: Final = NAME_AT + names.MAX_NAME
PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_"  # the same in text


class PlainForm(NamedTuple):
    """What follows from everything in a query but its ID and its name.

    Attributes:
        qtype: The type's number.
        wants_dnssec: The DO flag.
        checking_disabled: The CD flag.
        rest: What follows the name, as sent.
        has_letters: It has some in its octets, so that it must be compared as sent.
        flags: Those of the response and its number of questions: with an answer that is not
            authentic, and one that is.
        counts: The numbers of records in the response's authority and additional sections.
        opt: The OPT record of the response; b"" for none.
        asked_head: What follows the ID in the query to the upstream.
        type_and_class: Of the question.
        asked_opt: The OPT record of the query to the upstream.
    """

    qtype: int
    wants_dnssec: bool
    checking_disabled: bool
    rest: bytes
    has_letters: bool
    flags: tuple[bytes, bytes]
    counts: bytes
    opt: bytes
    asked_head: bytes
    type_and_class: bytes
    asked_opt: bytes


class Asker(Protocol):
    """Where the answers to plain questions go."""

    def take_answer(self, plain: "PlainQuestion", answer: PlainAnswer, upstream: str) -> None:
        """Send an answer that can be passed on as it came.

        Args:
            plain: The question.
            answer: The answer.
            upstream: The upstream that it came from, as configured.
        """

    def take_resolution(self, plain: "PlainQuestion", resolution: Resolution) -> None:
        """Send the result of a question that had to become a flight."""


class PlainQuestion:
    """A client's question, from its datagram to the answer.

    Attributes:
        asker: Where the answer goes.
        data: The client's query.
        head: What the reply needs: the addresses, as received.
        client: The octets of the client's address.
        started: `time.monotonic()` when it arrived.
        form: The form of the query.
        name_octets: The name, in wire form and lower case.
        question: What the upstream is asked.
        spelled: The same as sent to the upstream, with type and class; its response repeats it.
        message_id: The ID it was sent with.
    """

    __slots__ = (
        *("asker", "client", "data", "form", "head", "message_id", "name_octets", "question"),
        *("spelled", "started"),
    )
    asker: Asker
    head: bytes
    client: bytes
    started: float
    spelled: bytes
    message_id: int

    def __init__(
        self, data: bytes, form: PlainForm, name_octets: bytes, question: Question
    ) -> None:
        self.data = data
        self.form = form
        self.name_octets = name_octets
        self.question = question

    def response(self, answer: PlainAnswer) -> bytes:
        """Return the client's response."""
        data, form = self.data, self.form
        return b"".join(
            (
                data[:2],
                form.flags[answer.is_authentic],
                answer.count_octets,
                form.counts,
                data[messages.HEADER_OCTETS : messages.HEADER_OCTETS + len(self.spelled)],
                answer.body.octets,
                form.opt,
            )
        )


class PlainQuestions:
    """Finds plain questions among queries."""

    def __init__(self) -> None:
        self._forms: dict[bytes, PlainForm] = {}
        self._parents: dict[bytes, str] = {}  # "" where a rule may apply to what is below
        self._ownership: Ownership | None = None
        self._apex: str | None = None

    def use(self, ownership: Ownership) -> None:
        """Use other rules, and their zone, from now on."""
        self._ownership = ownership
        self._apex = ownership.not_ours.forward_apex
        self._parents.clear()

    def find(self, data: bytes, folded: bytes, now: float) -> PlainQuestion | None:
        """Return the question of a query if it is plain.

        Args:
            data: An unparsed query of a client that may ask, with no ready-made response.
            folded: What follows its ID, in lower case.
            now: Seconds since the epoch.
        """
        end = folded.find(0, NAME_AT) + 1
        form = self._forms.get(folded[:NAME_AT] + folded[end:])
        if form is None or (form.has_letters and not data.endswith(form.rest)):
            return None
        behind = LABEL_AT + folded[NAME_AT]
        label = folded[LABEL_AT:behind]
        if not label.isalnum() and (not label or label.translate(None, PLAIN)):
            return None
        parent = self._parents.get(folded[behind:end])
        if parent is None:
            parent = self._parent(folded[behind:end])
        if not parent or behind > MAX_LABEL_END or end > MAX_NAME_END:
            return None
        name = f"{label.decode()}.{parent}"
        if self._ownership is None or not self._ownership.is_elsewhere_below(name, now):
            return None
        question = Question(name, form.qtype, form.wants_dnssec, form.checking_disabled, self._apex)
        return PlainQuestion(data, form, folded[NAME_AT:end], question)

    def learn(self, data: bytes, forward: Forward) -> None:
        """Record the form of a query that is forwarded.

        Args:
            data: The query, over UDP.
            forward: The decision about it.
        """
        query, edns = forward.query, forward.query.edns
        end = messages.HEADER_OCTETS + len(query.question) - messages.TYPE_AND_CLASS_OCTETS
        opt_octets = 0 if edns is None else OPT_OCTETS
        is_plain = len(data) == end + messages.TYPE_AND_CLASS_OCTETS + opt_octets
        header = data[2 : messages.HEADER_OCTETS]
        if not is_plain or not query.wants_recursion or messages.has_letters(header):
            return
        if len(self._forms) >= MAX_FORMS:
            self._forms.clear()
        self._forms[header + data[end:].lower()] = _form_of(query, data[end:])

    def _parent(self, wire: bytes) -> str:
        """Return the text of a name if no rule applies below it, else ""."""
        if len(self._parents) >= MAX_PARENTS:
            self._parents.clear()
        name = names.from_wire(wire) if messages.is_plain_name(wire) else ""
        if name and (self._ownership is None or self._ownership.rules_below(name)):
            name = ""
        self._parents[wire] = name
        return name


def _form_of(query: messages.Query, rest: bytes) -> PlainForm:
    """Work out what follows from the form of a query."""
    wants_dnssec = query.edns is not None and query.edns.dnssec_ok
    checking_disabled = bool(query.flags & messages.CD)
    question = Question(query.name, query.qtype, wants_dnssec, checking_disabled, None)
    flags = messages.QR | messages.RA | query.flags & (messages.RD | messages.CD)
    authentic = flags | messages.AD if wants_dnssec or query.flags & messages.AD else flags
    opt = b"" if query.edns is None else messages.opt_record(wants_dnssec)
    return PlainForm(
        query.qtype,
        wants_dnssec,
        checking_disabled,
        rest,
        messages.has_letters(rest),
        (flags.to_bytes(2) + b"\0\1", authentic.to_bytes(2) + b"\0\1"),
        b"\0\0\0\1" if opt else bytes(4),
        opt,
        question.flags.to_bytes(2) + b"\0\1\0\0\0\0\0\1",
        rest[: messages.TYPE_AND_CLASS_OCTETS],
        messages.opt_record(wants_dnssec),
    )

"""Plain questions: queries that are forwarded after no more than a look at their name.

Nearly all queries for names that are not ours have one of a few *forms*: everything in them but
the ID and the name is the same.  What follows from a form is worked out once, on the slow path,
and a name is plain if no rule applies to it.  Such a question takes a path of its own, with one
object from the datagram to the answer:

    server/batch -> PlainQuestions.find -> upstream/plain_flights -> plain_answers -> server/batch

Whatever else happens on the way (another client asks the same, a response of another form or
one that a rule applies to, an error, silence) turns it into a flight, as which every other
question begins.
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
ONE: Final = b"\0\1"  # a number of records
PLAIN: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_"  # the same in text


class PlainForm(NamedTuple):
    """What follows from everything in a query but its ID and its name.

    Attributes:
        qtype: The type's number.
        wants_dnssec: The DO flag.
        checking_disabled: The CD flag.
        wants_ad: The AD flag, see `Question`.
        rest: What follows the name, as sent.
        has_letters: It has some in its octets, so that it must be compared as sent.
        flags: Those of the response, whatever the answer is.
        passed: Those that it has if the answer has them: the rcode, and perhaps AD.
        opt: The OPT record of the response; b"" for none.
        opt_count: The number of its OPT records, in two octets.
        asked_head: What follows the ID in the query to the upstream.
        type_and_class: Of the question.
        asked_opt: The OPT record of the query to the upstream.
    """

    qtype: int
    wants_dnssec: bool
    checking_disabled: bool
    wants_ad: bool
    rest: bytes
    has_letters: bool
    flags: int
    passed: int
    opt: bytes
    opt_count: bytes
    asked_head: bytes
    type_and_class: bytes
    asked_opt: bytes


class Asker(Protocol):
    """Where the answers to plain questions go."""

    def may_pass(self, plain: "PlainQuestion", answer: PlainAnswer) -> bool:
        """Return whether no rule applies to an answer with targets, or with NXDOMAIN."""

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
                (form.flags | answer.flags & form.passed).to_bytes(2),
                ONE,
                answer.count_octets,
                form.opt_count,
                data[messages.HEADER_OCTETS : messages.HEADER_OCTETS + len(self.spelled)],
                answer.body.octets,
                form.opt,
            )
        )


class Parent(NamedTuple):
    """The names directly below one.

    Attributes:
        name: That one; "" if a rule may apply to what is below.
        apex: The domain of the `--forward` that covers them; None for `--upstream`.
    """

    name: str
    apex: str | None = None


UNKNOWN: Final = Parent("")


class PlainQuestions:
    """Finds plain questions among queries."""

    def __init__(self) -> None:
        self._forms: dict[bytes, PlainForm] = {}
        self._parents: dict[bytes, Parent] = {}
        self._ownership: Ownership | None = None

    def use(self, ownership: Ownership) -> None:
        """Use other rules, and their zone, from now on."""
        self._ownership = ownership
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
        above, apex = parent
        if not above or behind > MAX_LABEL_END or end > MAX_NAME_END:
            return None
        name = f"{label.decode()}.{above}"
        if self._ownership is None or not self._ownership.is_elsewhere_below(name, now):
            return None
        flags = form.wants_dnssec, form.checking_disabled
        question = Question(name, form.qtype, *flags, apex, form.wants_ad)
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

    def may_pass(self, plain: PlainQuestion, answer: PlainAnswer, now: float) -> bool:
        """Return whether no rule applies to what a plain question's answer says; see `finish`.

        Args:
            plain: The question.
            answer: One with targets, or with NXDOMAIN.
            now: Seconds since the epoch.
        """
        ownership, last = self._ownership, plain.question.name
        if ownership is None:
            return False
        for last in answer.targets:
            if not ownership.is_elsewhere(last, now):
                return False
        return answer.rcode != messages.NXDOMAIN or not ownership.is_above_ours(last)

    def _parent(self, wire: bytes) -> Parent:
        """Return what is known about the names directly below one."""
        if len(self._parents) >= MAX_PARENTS:
            self._parents.clear()
        found = UNKNOWN
        if self._ownership is not None and messages.is_plain_name(wire):
            name = names.from_wire(wire)
            decision = self._ownership.decision_below(name)
            found = UNKNOWN if decision is None else Parent(name, decision.forward_apex)
        self._parents[wire] = found
        return found


def _form_of(query: messages.Query, rest: bytes) -> PlainForm:
    """Work out what follows from the form of a query."""
    wants_dnssec = query.edns is not None and query.edns.dnssec_ok
    checking_disabled = bool(query.flags & messages.CD)
    wants_ad = not wants_dnssec and bool(query.flags & messages.AD)
    question = Question(query.name, query.qtype, wants_dnssec, checking_disabled, None, wants_ad)
    flags = messages.QR | messages.RA | query.flags & (messages.RD | messages.CD)
    opt = b"" if query.edns is None else messages.opt_record(wants_dnssec)
    return PlainForm(
        query.qtype,
        wants_dnssec,
        checking_disabled,
        wants_ad,
        rest,
        messages.has_letters(rest),
        flags,
        messages.RCODE | messages.AD if wants_dnssec or wants_ad else messages.RCODE,
        opt,
        ONE if opt else bytes(2),
        question.flags.to_bytes(2) + b"\0\1\0\0\0\0\0\1",
        rest[: messages.TYPE_AND_CLASS_OCTETS],
        messages.opt_record(wants_dnssec),
    )

"""A plain question is what the slow path would ask, and its response what that would send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import EMPTY_BODY
from containerdns.core.protocol.respond import Responder
from containerdns.core.upstream import plain_answers
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_answers import PlainAnswer
from containerdns.core.upstream.plain_questions import MAX_FORMS, PlainQuestion, PlainQuestions
from containerdns.core.upstream.questions import question_of
from containerdns.core.zone.ownership import Ownership
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import Shape, Zone
from tests.core.protocol.test_respond import NOW, PEER, forwarded, option, publication, query
from tests.core.protocol.test_respond import responder as made_of
from tests.core.upstream.test_plain_answers import CHAINS, DENIALS, PLAIN, Sent

DO, CD, AD = messages.opt_record(True), messages.RD | messages.CD, messages.RD | messages.AD
FORMS = {
    "no EDNS": query("www.example."),
    "EDNS": query("www.example.", opt=messages.opt_record()),
    "DO": query("www.example.", opt=DO),
    "CD": query("www.example.", flags=CD),
    "AD": query("www.example.", flags=AD, opt=messages.opt_record()),
    "AAAA": query("www.example.", messages.AAAA),
    "HTTPS": query("www.example.", messages.HTTPS),
    "a type like a letter": query("www.example.", 97),
    "a small payload": query("www.example.", opt=b"\0\0\x29\x02\0" + bytes(6)),
}
OTHERS = {
    "an EDNS option": query("www.example.", opt=option(messages.NSID_OPTION, b"")),
    "RD off": query("www.example.", flags=0),
    "a flag like a letter": query("www.example.", flags=messages.RD | 0x0041),
}


def responder() -> Responder:
    made = made_of(publication("web", "10.1.0.1"))
    made._zone.remembered.add(("gone.old.example.",), NOW)
    return made


def learned(data: bytes, made: Responder | None = None) -> Responder:
    """A responder that forwarded a query once."""
    made = made or responder()
    made.plain_questions.learn(data, forwarded(made, data))
    return made


def found(made: Responder, data: bytes) -> PlainQuestion | None:
    return made.plain_questions.find(data, data[2:].lower(), NOW)


def named(data: bytes, name: str) -> bytes:
    """The same query for another name."""
    end = data.index(b"\0", messages.HEADER_OCTETS) + 1
    return data[: messages.HEADER_OCTETS] + names.to_wire(name) + data[end:]


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_a_form_once_forwarded_is_plain_for_other_names(data: bytes) -> None:
    made = responder()
    other = named(data, "other.example.net.")
    assert found(made, other) is None
    plain = found(learned(data, made), other)
    assert plain is not None
    assert plain.question == question_of(forwarded(made, other))
    assert plain.name_octets == names.to_wire("other.example.net.")


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS)
def test_other_forms_are_left_to_the_slow_path(data: bytes) -> None:
    made = learned(data)
    assert found(made, data) is None
    assert found(learned(FORMS["EDNS"], made), data) is None


@pytest.mark.parametrize("learned_type", [messages.HTTPS, 97])
def test_types_that_differ_like_letters_are_kept_apart(learned_type: int) -> None:
    """`bytes.lower` makes 97 of 65."""
    made = learned(query("www.example.", learned_type))
    for qtype in (messages.HTTPS, 97):
        plain = found(made, query("other.example.", qtype))
        assert (plain is not None) == (qtype == learned_type)


NOT_PLAIN = {
    "a domain of ours": "web.docker.",
    "a bare name": "web.",
    "a top-level domain": "com.",
    "the root": ".",
    "a search domain": "corp.example.",
    "below a search domain": "www.corp.example.",
    "a special name": "www.test.",
    "loopback": "www.localhost.",
    "reverse": "1.0.0.10.in-addr.arpa.",
    "a name that was a container's": "gone.old.example.",
    "the DoH canary": "use-application-dns.net.",
    "an escape": "a\\.b.example.",
    "the catalog": "catalog.containerdns.invalid.",
}


@pytest.mark.parametrize("name", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_names_with_a_rule_are_not_plain(name: str) -> None:
    made = learned(FORMS["no EDNS"])
    assert found(made, query(name)) is None


def test_names_below_a_forward_are_plain_unless_another_rule_comes_first() -> None:
    """The order of rules: a container's name or a domain, then `--forward`, then special names."""
    made = learned(FORMS["no EDNS"])
    shape = Shape(
        domains=("docker.", "our.office.internal."), search_domains=("in.office.internal.",)
    )
    remembered = RememberedNames(60)
    remembered.add(("gone.office.internal.",), NOW)
    forwards = frozenset(
        {"office.internal.", "lab.office.internal.", "localhost.", "10.in-addr.arpa."}
    )
    made.use(Ownership(Zone(shape, 1, remembered), forwards=forwards))
    apexes = {
        "www.office.internal.": "office.internal.",
        "a.b.office.internal.": "office.internal.",
        "www.lab.office.internal.": "lab.office.internal.",
        "www.example.": None,
    }
    for name, apex in apexes.items():
        plain = found(made, query(name))
        assert plain is not None
        assert plain.question == question_of(forwarded(made, query(name)))
        assert plain.question.apex == apex
    for name in (
        "lab.office.internal.",
        "www.our.office.internal.",
        "www.in.office.internal.",
        "gone.office.internal.",
        "www.localhost.",
        "1.0.0.10.in-addr.arpa.",
        "www.internal.",
    ):
        assert found(made, query(name)) is None


TARGETS = {
    "elsewhere": ("cdn.net.", True),
    "two elsewhere": ("e1.cdn.net. cdn.net.", True),
    "a domain of ours": ("web.docker.", False),
    "ours behind another": ("cdn.net. web.docker.", False),
    "a bare name": ("web.", False),
    "near a search domain": ("www.corp.example.", False),
    "a name that was a container's": ("gone.old.example.", False),
    "a special name": ("www.test.", False),
}


@pytest.mark.parametrize(("targets", "passes"), TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("rcode", [messages.NOERROR, messages.NXDOMAIN])
def test_answers_pass_if_no_rule_applies_to_their_targets(
    targets: str, passes: bool, rcode: int
) -> None:
    made = learned(FORMS["no EDNS"])
    plain = found(made, query("www.example."))
    assert plain is not None
    answer = PlainAnswer(
        EMPTY_BODY, bytes(4), 60, messages.QR | rcode, None, tuple(targets.split())
    )
    assert made.plain_questions.may_pass(plain, answer, NOW) is passes


@pytest.mark.parametrize("name", ["old.example.", "cdn.net."])
def test_what_is_above_a_name_of_ours_must_not_be_denied(name: str) -> None:
    """RFC 8020: all below it would be denied."""
    made = learned(FORMS["no EDNS"])
    plain = found(made, query(name))
    assert plain is not None
    answer = PlainAnswer(EMPTY_BODY, bytes(4), 60, messages.QR | messages.NXDOMAIN, None)
    assert made.plain_questions.may_pass(plain, answer, NOW) is (name == "cdn.net.")
    plain = found(made, query("www.example."))
    assert plain is not None
    answer = answer._replace(targets=(name,))
    assert made.plain_questions.may_pass(plain, answer, NOW) is (name == "cdn.net.")


def test_other_rules_apply_at_once() -> None:
    made = learned(FORMS["no EDNS"])
    asked = query("www.corp.example.net.")
    assert found(made, asked) is not None
    shape = Shape(search_domains=("corp.example.net.",))
    made.use(Ownership(Zone(shape, 1, RememberedNames(60))))
    assert found(made, asked) is None


MALFORMED = {
    "a pointer": b"\xc0\x0c",
    "a long label": b"\x40" + b"a" * 64 + b"\7example\0",
    "a long name": b"\x3f" + b"a" * 63 + b"".join(b"\x3f" + b"b" * 63 for _ in range(3)) + b"\0",
    "a zero octet": b"\3a\0b\7example\0",
    "a label that is not whole": b"\7www\7example\0",
    "octets after the parent": b"\3www\7example\3com",
    "nothing": b"",
}


@pytest.mark.parametrize("name", MALFORMED.values(), ids=MALFORMED)
def test_malformed_names_are_left_to_the_slow_path(name: bytes) -> None:
    made = learned(FORMS["no EDNS"])
    assert found(made, query("www.example.")[: messages.HEADER_OCTETS] + name + b"\0\1\0\1") is None


def test_the_longest_name_is_plain() -> None:
    labels = ["a" * 61, *["b" * 63] * 3]
    made = learned(FORMS["no EDNS"])
    assert found(made, query(".".join(labels) + ".")) is not None


octets = st.sampled_from(b"\0\1\3\7\x3f\x40\xc0aZ.\\-_example")
mutants = st.lists(st.tuples(st.integers(0, 40), octets), max_size=3)


@given(mutants, st.sampled_from(list(FORMS.values())))
def test_whatever_is_plain_the_slow_path_forwards_too(
    changes: list[tuple[int, int]], data: bytes
) -> None:
    made = learned(data)
    mutant = bytearray(named(data, "a.corp.example.com."))
    for at, octet in changes:
        mutant[at % len(mutant)] = octet
    plain = found(made, bytes(mutant))
    if plain is not None:
        forward = forwarded(made, bytes(mutant))
        assert (forward.ttl_ceiling, forward.chain, forward.negative_becomes_servfail) == (
            None,
            (),
            False,
        )
        assert forward.query.wants_recursion
        assert plain.question == question_of(forward)


# Those to www.example. whose CNAMEs do not lead to a name of ours.
ANSWERS = {
    kind: case
    for kind, case in {**PLAIN, **CHAINS, **DENIALS}.items()
    if case.asked[:-4] == names.to_wire("www.example.") and not kind.startswith("to ")
}


@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("AAAA", "HTTPS")])
def test_the_response_is_that_of_the_slow_path(form: str, case: Sent) -> None:
    qtype = int.from_bytes(case.asked[-4:-2])
    data = bytearray(FORMS[form])
    end = data.index(b"\0", messages.HEADER_OCTETS) + 1
    data[end : end + 2] = qtype.to_bytes(2)
    made = learned(bytes(data))
    data[0:2], data[13:15] = b"\x12\x34", b"Ww"  # an ID and a spelling of its own
    plain = found(made, bytes(data))
    assert plain is not None
    plain.spelled = case.asked
    read = plain_answers.read(case.data, case.asked)
    assert read is not None
    resolution = Resolution(
        read.rcode, read.body, read.is_authentic, upstream="192.0.2.53", targets=read.targets
    )
    whole = made.finish(forwarded(made, bytes(data)), resolution, PEER, NOW)
    assert plain.response(read) == whole.octets


def test_forms_are_limited() -> None:
    made = responder()
    queries = [query("www.example.", qtype) for qtype in range(1000, 1000 + 2 * MAX_FORMS)]
    for data in queries:
        learned(data, made)
    assert found(made, queries[-1]) is not None
    assert sum(found(made, data) is not None for data in queries) <= MAX_FORMS


def test_without_rules_nothing_is_plain() -> None:
    plain = PlainQuestions()
    data = FORMS["no EDNS"]
    plain.learn(data, Forward(messages.parse_query(data), "www.example.", messages.A))
    assert plain.find(data, data[2:].lower(), NOW) is None

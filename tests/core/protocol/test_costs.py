"""What a message costs at most: steps are counted, not time, so that a busy machine says the same.

The worst messages are found by `python -m tests.fuzz.searching` and kept in its corpus.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.respond import Responder
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.errors import BadMessage
from tests.core.protocol.test_respond import NOW, PEER, TCP, option, publication, query, responder
from tests.fuzz.searching import CORPUS, read_corpus, response_of_pointers, worst_queries

STEPS_AT_LEAST = 2000  # lines of Python that a short query may cost, whatever it is
STEPS_OF_AN_OCTET = 12  # and of each octet of a message


def steps_of(call: Callable[[bytes], object], data: bytes) -> int:
    """The lines of Python that a call with a message executes."""
    steps = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call(data)
    finally:
        sys.settrace(before)
    return steps


def made() -> Responder:
    everything = Publication(
        "w",
        "w",
        claims=(
            Claim("web.front", Rank.LABEL, "label names", "w"),
            Claim("*.any", Rank.LABEL, "label names", "w"),
            Claim("search.example.", Rank.LABEL, "label fqdns", "w"),
        ),
        texts={"": ("x",), "key": ("y",)},
        services={"_http._tcp": (80,)},
        is_wildcard=True,
    )
    return responder(publication("web", "192.0.2.7"), everything)


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.hex")), ids=lambda file: file.name)
def test_no_message_costs_more_than_its_length(file: Path) -> None:
    """Issue 12: 8,160 pointers and 4,053 records that point to their end took 6.5 s."""
    for data in read_corpus(file):
        steps = steps_of(parsed if file.name == "responses.hex" else answered, data)
        assert steps <= STEPS_AT_LEAST + STEPS_OF_AN_OCTET * len(data), data[:80].hex()


def answered(data: bytes) -> None:
    made().respond(data, TCP, NOW)


def parsed(data: bytes) -> None:
    try:
        messages.parse_response(data)
    except BadMessage:
        return


@pytest.mark.parametrize("octets", [512, 2112, 65535])
def test_response_of_pointers_costs_what_its_length_is(octets: int) -> None:
    data = response_of_pointers(octets)
    assert steps_of(parsed, data) <= STEPS_AT_LEAST + STEPS_OF_AN_OCTET * octets


@pytest.mark.parametrize("octets", [512, 2112, 65535])
def test_query_costs_the_same_however_long_its_rest(octets: int) -> None:
    """Only what a query has use for is read: four records, 64 options."""
    for data in worst_queries(octets):
        assert steps_of(answered, data) <= 2 * STEPS_AT_LEAST


SUFFIXES = (
    "docker.",
    "front.docker.",
    "any.docker.",
    "key.web.front.docker.",
    "corp.example.",
    "docker.corp.example.",
    "localhost.",
    "internal.",
    "10.in-addr.arpa.",
    "ip6.arpa.",
    "example.",
    "search.example.",
)


@pytest.mark.parametrize("label", ["x.", "\\000.", "_x._tcp.", "1."])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_name_of_many_labels_costs_what_its_length_is(suffix: str, label: str) -> None:
    """Issue 12: the cost was cubic, 32 to 153 ms for 120 labels."""
    room = names.MAX_NAME - len(names.to_wire(suffix))
    count = room // (len(names.to_wire(label)) - 1)
    answering = made()

    def answer(data: bytes) -> None:
        answering.respond(data, PEER, NOW)

    answer(query(suffix))
    first = steps_of(answer, query(label * (count // 4) + suffix))
    last = steps_of(answer, query(label * count + suffix))
    assert last <= 4 * first + 100
    assert last <= STEPS_AT_LEAST + STEPS_OF_AN_OCTET * names.MAX_NAME


def test_most_that_a_query_has_use_for_is_read() -> None:
    """A signature, an OPT, and one or two more."""
    nothing = b"\0" + bytes((0, 16)) + bytes(8)
    for more, is_read in ((3, True), (4, False)):
        data = query("web.docker.", opt=option(12, b"") + nothing * more)
        data = data[:10] + (1 + more).to_bytes(2) + data[12:]
        assert _is_read(data) is is_read
    for count, is_read in ((64, True), (65, False)):
        assert _is_read(query("web.docker.", opt=_options(count))) is is_read


def _options(count: int) -> bytes:
    empty = option(65001, b"")
    return empty[:9] + (4 * count).to_bytes(2) + empty[11:] * count


def _is_read(data: bytes) -> bool:
    try:
        messages.parse_query(data)
    except BadMessage:
        return False
    return True

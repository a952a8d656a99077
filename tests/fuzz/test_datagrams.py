"""Whatever was asked before and happened since: a datagram has the reply of the slow path."""

import asyncio
import struct
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.query_history import History
from containerdns.core.protocol.respond import Reply
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.errors import BadMessage
from containerdns.server import batch
from containerdns.server.answering import Answering
from containerdns.server.udp import Datagrams
from tests.fuzz.generating import QTYPES, asked_names
from tests.fuzz.worlds import Change, World, changes, contents
from tests.server.batches import batches
from tests.server.serving import StubForwarder

pytestmark = pytest.mark.skipif(not batch.works(), reason="needs recvmmsg")

LOCAL = bytes((127, 0, 0, 1))
SUBNET_OPTION = 8  # RFC 7871


class Reload(NamedTuple):
    """The operator changes options."""

    options: dict[str, object]


class Cached(StubForwarder):
    """Has an address for every name in its cache."""

    def cached(self, forward: Forward) -> Resolution | None:
        owner = names.to_wire(forward.name)
        record = RR(owner, messages.A, messages.IN, 60, bytes((192, 0, 2, 1)))
        body = messages.encode(owner, [record])
        return Resolution(messages.NOERROR, body=body, source="cache", fresh_for=60.0)


def _subnet(family: int, source: int, scope: int, octets: int) -> tuple[int, bytes]:
    return SUBNET_OPTION, struct.pack("!HBB", family, source, scope) + bytes(octets)


options = st.lists(
    st.one_of(
        st.sampled_from(
            (
                *((messages.COOKIE_OPTION, bytes(octets)) for octets in (0, 7, 8, 15, 16, 24, 41)),
                (messages.COOKIE_OPTION, b"CookieA1"),
                (messages.COOKIE_OPTION, b"cookiea1"),
                (messages.NSID_OPTION, b""),
                (messages.PADDING_OPTION, bytes(31)),
                (65001, b"x"),
            )
        ),
        st.builds(
            _subnet,
            st.sampled_from((0, 1, 2, 3)),
            st.sampled_from((0, 1, 24, 32, 33, 56, 128, 129)),
            st.sampled_from((0, 24)),
            st.sampled_from((0, 3, 4, 7, 16)),
        ),
    ),
    max_size=3,
).map(lambda pairs: b"".join(c.to_bytes(2) + len(d).to_bytes(2) + d for c, d in pairs))
opts = st.builds(
    lambda size, ttl, data: b"\0" + struct.pack("!HHIH", 41, size, ttl, len(data)) + data,
    st.sampled_from((1232, 1232, 4096, 512, 0, 700, 1111, 65535)),
    st.sampled_from((0, 0, 0, 0x8000, 0x8000, 0x10000, 0x1000000, 1)),
    st.just(b"") | options,
)
flags = st.sampled_from((messages.RD,) * 4 + (0, 0x10, 0x20, 0x130)) | st.integers(0, 15).map(
    lambda bit: messages.RD ^ 1 << bit
)


def _queried(
    question: tuple[str, bool, int, int], header: tuple[int, int], records: list[bytes], rest: bytes
) -> bytes:
    """A query, as clients send it or nearly so.

    Args:
        question: Its name, whether that is in upper case, its type and class.
        header: Its flags, and its number of questions.
        records: Additional ones.
        rest: What follows them.
    """
    name, is_upper, qtype, qclass = question
    wire = names.to_wire(name)
    wire = (wire.upper() if is_upper else wire) + struct.pack("!HH", qtype, qclass)
    counts = struct.pack("!HHHHHH", 0, header[0], header[1], 0, 0, len(records))
    return counts + wire * header[1] + b"".join(records) + rest


def _compressed(data: bytes) -> bytes:
    """The same with a pointer to an octet of the header in place of the root of its name."""
    end = data.find(b"\0", messages.HEADER_OCTETS)
    return data if end < 0 else data[:end] + b"\xc0\x04" + data[end + 1 :]


whole_queries = st.builds(
    _queried,
    st.tuples(
        asked_names,
        st.booleans(),
        st.sampled_from((*QTYPES, 97)),
        st.sampled_from((1,) * 9 + (3, 255)),
    ),
    st.tuples(flags, st.sampled_from((1,) * 12 + (0, 2))),
    st.lists(opts, max_size=1) | st.lists(opts, min_size=1, max_size=2),
    st.sampled_from((b"",) * 9 + (b"\0", bytes(12))),
)
queries = st.one_of(
    whole_queries,
    whole_queries,
    whole_queries.map(_compressed),
    st.builds(lambda data, octets: data[:octets], whole_queries, st.integers(2, 60)),
)
reloads = st.sampled_from(
    (Reload({}), Reload({"wildcard": "true"}), Reload({"bare-names": "false"}))
)
steps = st.tuples(changes | reloads, st.lists(st.integers(0, 11), min_size=1, max_size=12))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(queries, min_size=12, max_size=12),
    st.lists(steps, min_size=2, max_size=6),
    st.lists(changes, max_size=4),
)
def test_datagram_has_the_reply_of_the_slow_path(
    datas: list[bytes], happened: list[tuple[Change | Reload, list[int]]], before: list[Change]
) -> None:
    """Each is asked six times, twice in a row: slowly, then ready-made, with the latest options."""
    world = World()
    for earlier in before:
        world.happen(earlier)
    answering = Answering(world.responder, Cached(), History(9), Counters())
    datagrams = Datagrams(world.writer.views, world.wire, answering)

    async def ask(asked: list[bytes]) -> None:
        for _ in range(3):
            for data, reply in zip(asked, await both.ask(*asked), strict=True):
                expected = answering.begin(data, datagrams.client(LOCAL, LOCAL).peer)
                fresh = expected.octets if isinstance(expected, Reply) else None
                assert _comparable(reply) == _comparable(fresh), data.hex()

    with batches(datagrams) as both:
        for change, numbers in happened:
            if isinstance(change, Reload):
                world.reload(**change.options)
            else:
                world.happen(change)
            asyncio.run(ask([datas[number] for number in numbers for _ in range(2)]))
    assert answering.counters.internal_errors == 0


def _comparable(octets: bytes | None) -> object:
    """A reply without the order of its records, and without the time in a cookie."""
    if octets is None:
        return None
    try:
        said = messages.parse_response(octets)
    except BadMessage:
        return octets[2:]
    options = () if said.edns is None else said.edns.options
    blanked = [
        (code, data[:8] + data[24:] if code == messages.COOKIE_OPTION else data)
        for code, data in options
    ]
    edns = None if said.edns is None else said.edns._replace(options=())
    return said.question, contents(octets), edns, blanked

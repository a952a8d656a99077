"""Whatever an upstream sends, it costs its own answer and nothing else."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Response
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.plain_questions import PlainQuestion
from containerdns.core.upstream.questions import Question
from containerdns.upstream import https, streams
from containerdns.upstream.connections import MAX_NOTIFIED
from containerdns.upstream.exchanges import Trouble
from tests.timing import MAX_WAIT
from tests.upstream.fakes import Reply, answer, upstream
from tests.upstream.forwarding import forwarder, question, records, settings

QUESTION = Question("www.example.", messages.A, False, False, None).wire
OTHER = Question("other.example.", messages.A, False, False, None).wire
GARBLED = 300
TRUE = bytes((192, 0, 2, 1))


def garble(octets: bytes, chance: random.Random) -> bytes:
    """Flip, cut or add a little behind the ID and the question."""
    garbled = bytearray(octets)
    for _ in range(chance.randint(1, 8)):
        garbled[chance.randrange(2, len(garbled))] = chance.randrange(256)
    if chance.random() < 0.3:
        del garbled[chance.randrange(12, len(garbled)) :]
    return bytes(garbled) + chance.randbytes(chance.choice((0, 0, 1, 40)))


def octets_of_addresses(asked: Forward, resolution: Resolution) -> list[bytes]:
    """The addresses that came back; garbled ones may have any length."""
    return [one.rdata for one in records(asked, resolution) if one.rtype == messages.A]


@pytest.mark.parametrize("proto", ["udp", "tcp"])
def test_garbled_answers_are_survived(proto: str) -> None:
    chance = random.Random(7)

    def script(query: DNSRecord, came_by: str) -> Reply:
        true = answer(query, "@ 60 CNAME a.example.", "a.example. 60 A 192.0.2.1")
        if came_by != proto:
            return bytes([true[0], true[1], true[2] | 2, *true[3:]])  # truncated
        return [garble(true, chance), true]

    async def scene() -> None:
        async with upstream(script) as fake, forwarder(settings(fake.port)) as forward:
            many = [question(f"n{n}.example.", client=b"") for n in range(GARBLED)]
            resolutions = await asyncio.gather(*map(forward.resolve, many))
            pairs = zip(many, resolutions, strict=True)
            right = sum(octets_of_addresses(*pair) == [TRUE] for pair in pairs)
            assert right > (GARBLED // 2 if proto == "udp" else 0)
            assert forward._counters.internal_errors == 0

    asyncio.run(scene())


class _Wire:
    """A transport that goes nowhere."""

    def write(self, data: bytes) -> None:
        """Lose it."""

    def abort(self) -> None:
        """Nothing to end."""

    def pause_reading(self) -> None:
        """Nothing comes anyway."""

    def resume_reading(self) -> None:
        """Nothing comes anyway."""

    def get_extra_info(self, _: str) -> Any:
        """Pretend that HTTP/2 was agreed on."""
        return self

    def selected_alpn_protocol(self) -> str:
        """As TLS would tell."""
        return "h2"


class NoPlain:
    """For connections on which nothing is asked plainly."""

    def read(self, data: bytes, plain: PlainQuestion) -> None:
        """Fail."""
        raise AssertionError(plain)

    def take(self, answers: Sequence[object]) -> None:
        """Fail."""
        raise AssertionError(answers)

    def become_flight(self, question: Question) -> None:
        """Fail."""
        raise AssertionError(question)


def receive(connection: streams._StreamConnection, data: bytes) -> None:
    """Hand octets to a connection as the event loop does, buffer by buffer."""
    while data:
        buffer = connection.get_buffer(-1)
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        connection.buffer_updated(count)
        data = data[count:]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


COUNT = 20  # responses that arrive together
_OUTCOMES: list[Response | Trouble] = []


@given(pieces=st.lists(st.binary(max_size=60), max_size=4))
def test_any_octets_over_tcp_are_survived(
    loop: asyncio.AbstractEventLoop, pieces: list[bytes]
) -> None:
    async def send() -> None:
        connection = streams._StreamConnection(loop, NoPlain())
        connection.connection_made(cast(asyncio.Transport, _Wire()))
        sent = connection.send(QUESTION, messages.RD, b"", _OUTCOMES.append)
        for piece in pieces:
            head = sent.message_id.to_bytes(2) + b"\x81\x80\0\1\0\1\0\0\0\0" + QUESTION
            receive(connection, len(head + piece).to_bytes(2) + head + piece)
            receive(connection, piece)
        connection.close()

    loop.run_until_complete(send())


async def test_many_long_responses_at_once_are_read_in_turns() -> None:
    """All that had arrived were read in one stretch; also those before the server's end count."""
    connection = streams._StreamConnection(asyncio.get_running_loop(), NoPlain())
    connection.connection_made(cast(asyncio.Transport, _Wire()))
    outcomes: list[Response | Trouble] = []
    has_all = asyncio.Event()

    def take(outcome: Response | Trouble) -> None:
        outcomes.append(outcome)
        if len(outcomes) == COUNT:
            has_all.set()

    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4"
    received = b""
    for _ in range(COUNT):
        sent = connection.send(QUESTION, messages.RD, b"", take)
        head = sent.message_id.to_bytes(2) + b"\x81\x80\0\1\1\x90\0\0\0\0" + QUESTION
        frame = head + b"".join(record + bytes((10, 0, n >> 8, n & 255)) for n in range(400))
        received += len(frame).to_bytes(2) + frame
    receive(connection, received)
    connection.connection_lost(None)
    assert 0 < len(outcomes) < COUNT
    async with asyncio.timeout(MAX_WAIT):
        await has_all.wait()
        await asyncio.sleep(0)
    assert all(isinstance(outcome, Response) for outcome in outcomes)
    assert connection.is_closed


async def test_questions_on_a_lost_connection_are_not_all_told_at_once() -> None:
    """With a thousand of them, queries waited for 42 ms."""
    connection = streams._StreamConnection(asyncio.get_running_loop(), NoPlain())
    connection.connection_made(cast(asyncio.Transport, _Wire()))
    outcomes: list[Response | Trouble] = []
    count = 5 * MAX_NOTIFIED
    for _ in range(count):
        connection.send(QUESTION, messages.RD, b"", outcomes.append)
    connection.connection_lost(None)
    most = told = len(outcomes)
    async with asyncio.timeout(MAX_WAIT):
        while told < count:
            await asyncio.sleep(0)
            most, told = max(most, len(outcomes) - told), len(outcomes)
    assert most == MAX_NOTIFIED
    assert not connection.waiting


async def test_late_answer_over_tcp_does_not_end_what_others_wait_for() -> None:
    """Its question timed out, and another one has got its ID since."""
    connection = streams._StreamConnection(asyncio.get_running_loop(), NoPlain())
    connection.connection_made(cast(asyncio.Transport, _Wire()))
    outcomes: list[Response | Trouble] = []
    sent = connection.send(QUESTION, messages.RD, b"", outcomes.append)
    head = sent.message_id.to_bytes(2) + b"\x81\x80\0\1\0\0\0\0\0\0"
    for asked in (OTHER, QUESTION):
        assert not outcomes
        frame = head + asked
        receive(connection, len(frame).to_bytes(2) + frame)
    assert [type(outcome) for outcome in outcomes] == [Response]
    assert not connection.is_closed
    connection.close()


@given(pieces=st.lists(st.binary(max_size=60), max_size=4))
def test_any_octets_over_http2_are_survived(
    loop: asyncio.AbstractEventLoop, pieces: list[bytes]
) -> None:
    connection = https._HTTPSConnection([(":method", "POST")], loop)
    connection.connection_made(cast(asyncio.Transport, _Wire()))
    connection.send(QUESTION, messages.query(0, 0, QUESTION), _OUTCOMES.append)
    settings_frame = b"\0\0\0\4\0\0\0\0\0"
    connection.data_received(settings_frame)
    for piece in pieces:
        for frame_type in b"\0\1\3\7":
            frame = len(piece).to_bytes(3) + bytes([frame_type, 4]) + (1).to_bytes(4) + piece
            if not connection.is_closed:
                connection.data_received(frame)
    connection.close()

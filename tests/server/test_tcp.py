"""DNS over TCP (RFC 7766) on real sockets of loopback."""

import asyncio
import struct
import time
import tracemalloc
from ipaddress import ip_network

import pytest

from containerdns.core.connections.places import MAX_CONNECTIONS_OF_A_CLIENT, MAX_STRANGERS, Limits
from containerdns.core.endpoints import Endpoint
from containerdns.server import tcp
from containerdns.tasks.turns import MAX_SLICE
from tests.server.serving import Served, query, serving
from tests.timing import MAX_WAIT, assert_within, best_of_three, until


async def connect(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*served.address)


def frame(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


async def receive(reader: asyncio.StreamReader, within: float = MAX_WAIT) -> bytes:
    async with asyncio.timeout(within):
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))


async def test_queries_are_pipelined_and_answered_out_of_order() -> None:
    """RFC 7766 section 6.2.1.1: a slow one does not delay those behind it."""
    async with serving() as served:
        reader, writer = await connect(served)
        writer.write(frame(query("slow.example", message_id=1)))
        writer.write(frame(query("web.docker", message_id=2)))
        assert (await receive(reader))[:2] == b"\0\2"
        served.forwarder.released.set()
        assert (await receive(reader))[:2] == b"\0\1"
        writer.close()


async def test_frame_may_come_octet_by_octet() -> None:
    async with serving() as served:
        reader, writer = await connect(served)
        for octet in frame(query("web.docker")) + frame(query("db.docker", message_id=2)):
            writer.write(bytes([octet]))
            await asyncio.sleep(0)
        await receive(reader)
        assert (await receive(reader))[:2] == b"\0\2"
        writer.close()


async def test_client_that_has_said_all_is_answered_and_then_closed() -> None:
    """A half-closed connection, as `nc` and some resolvers leave it."""
    async with serving() as served:
        reader, writer = await connect(served)
        writer.write(frame(query("slow.example")) + frame(query("web.docker")))
        writer.write_eof()
        await receive(reader)
        served.forwarder.released.set()
        await receive(reader)
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("length", [0, 1, 11], ids=["empty", "one octet", "less than a header"])
async def test_frame_without_a_message_ends_the_connection(length: int) -> None:
    async with serving() as served:
        reader, writer = await connect(served)
        writer.write(frame(bytes(length)))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await receive(reader)
        writer.close()


async def test_many_frames_at_once_are_all_answered() -> None:
    async with serving() as served:
        reader, writer = await connect(served)
        writer.write(b"".join(frame(query("web.docker", message_id=i)) for i in range(500)))
        ids = {(await receive(reader))[:2] for _ in range(500)}
        assert len(ids) == 500
        writer.close()


@best_of_three
async def test_unfinished_frame_and_idle_connection_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MAX_FRAME", 0.2)
    monkeypatch.setattr(tcp, "MAX_IDLE", 1.9)
    async with serving() as served:
        stalled, stalled_writer = await connect(served)
        idle, idle_writer = await connect(served)
        stalled_writer.write(frame(query("web.docker"))[:9])
        started = asyncio.get_running_loop().time()
        for reader in (stalled, idle):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await receive(reader)
            if reader is stalled:
                assert_within(asyncio.get_running_loop().time() - started, 1.8)
        assert served.counters.tcp_connections == 0
        stalled_writer.close()
        idle_writer.close()


async def test_longest_idle_connection_makes_room_for_the_next() -> None:
    async with serving() as served:
        open_ones = [await connect(served) for _ in range(MAX_CONNECTIONS_OF_A_CLIENT)]
        await asyncio.sleep(0.05)
        open_ones[0][1].write(frame(query("web.docker")))  # no longer the one idle longest
        await receive(open_ones[0][0])
        reader, writer = await connect(served)
        writer.write(frame(query("web.docker")))
        await receive(reader)
        assert served.counters.tcp_connections == MAX_CONNECTIONS_OF_A_CLIENT
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await receive(open_ones[1][0])
        for _, each in [*open_ones, (reader, writer)]:
            each.close()


async def test_client_that_does_not_read_holds_little_memory() -> None:
    """Ten thousand large answers are not made before the first ones were read."""
    async with serving() as served:
        _, writer = await connect(served)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(frame(query("big.docker")) * 2000)
        await asyncio.sleep(0.3)
        assert len(served.responder.asked) < 400
        reader, other = await connect(served)
        other.write(frame(query("web.docker")))
        await receive(reader)
        writer.transport.abort()
        other.close()


@best_of_three
async def test_many_connections_and_stalled_ones_hold_up_nobody() -> None:
    """200 connections of ten clients are open, 30 of them stalled in the midst of a frame."""
    async with serving(listen=(Endpoint("0.0.0.0", 0),)) as served:
        address = ("127.0.0.1", served.address[1])
        others = []
        for number in range(200):
            others.append(
                await asyncio.open_connection(*address, local_addr=(f"127.0.1.{number % 10}", 0))
            )
            if number < 30:
                others[-1][1].write(frame(query("web.docker"))[:7])
        await until(lambda: served.counters.tcp_connections >= 200)
        assert served.counters.tcp_connections == 200
        started = time.perf_counter()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(frame(query("web.docker")))
        await receive(reader)
        took = time.perf_counter() - started
        for _, each in [*others, (reader, writer)]:
            each.close()
    assert_within(took, 0.1)


async def test_connections_are_bounded_in_all() -> None:
    async with serving(tcp_limits=Limits(20, 5), listen=(Endpoint("0.0.0.0", 0),)) as served:
        address = ("127.0.0.1", served.address[1])
        others = [
            await asyncio.open_connection(*address, local_addr=(f"127.0.1.{number}", 0))
            for number in range(40)
        ]
        others[-1][1].write(frame(query("web.docker")))
        await receive(others[-1][0])
        assert served.counters.tcp_connections == 20
        for _, each in others:
            each.close()


async def test_strangers_take_no_place_of_a_client() -> None:
    """A client outside `--allow` is refused, and cannot keep others out by many connections."""
    allowed = (ip_network("127.0.0.1/32"),)
    limits = Limits(4, 4)
    async with serving(
        tcp_limits=limits, listen=(Endpoint("0.0.0.0", 0),), allow=allowed
    ) as served:
        address = ("127.0.0.1", served.address[1])
        mine = [await asyncio.open_connection(*address) for _ in range(4)]
        strangers = [
            await asyncio.open_connection(*address, local_addr=(f"127.0.1.{number}", 0))
            for number in range(2 * MAX_STRANGERS)
        ]
        strangers[-1][1].write(frame(query("web.docker")))
        assert (await receive(strangers[-1][0]))[3] & 15 == 5
        assert served.counters.tcp_connections == 4 + MAX_STRANGERS
        for reader, writer in mine:
            writer.write(frame(query("web.docker")))
            assert (await receive(reader))[3] & 15 == 0
        for _, each in [*mine, *strangers]:
            each.close()


async def test_answers_from_upstreams_wait_for_the_client_to_read() -> None:
    """128 answers of 60 KB that are ready at once are not held: 8 MB for each connection."""
    async with serving() as served:
        served.forwarder.records = 220
        reader, writer = await connect(served)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"".join(frame(query("slow.example", message_id=i)) for i in range(100)))
        writer.write(frame(query("big.docker", message_id=100)) * 200)
        await until(lambda: len(served.forwarder.resolved) == 100)
        await asyncio.sleep(0.1)
        tracemalloc.start()
        served.forwarder.released.set()
        await asyncio.sleep(0.3)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        seen: set[bytes] = set()
        while len(seen) < 101:
            seen.add((await receive(reader))[:2])
        writer.transport.abort()
    assert held < 1 << 20


async def test_queries_in_flight_are_bounded_by_their_octets() -> None:
    async with serving() as served:
        _, writer = await connect(served)
        plain, padding = query("slow.example"), struct.pack("!HH", 12, 30_000) + bytes(30_000)
        opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(padding)) + padding  # RFC 7830
        padded = plain[:11] + b"\1" + plain[12:] + opt
        writer.write(frame(padded) * 20)
        await until(lambda: len(served.forwarder.resolved) >= 3)
        await asyncio.sleep(0.1)
        assert len(served.forwarder.resolved) == 3
        writer.transport.abort()


async def test_a_pass_of_the_loop_answers_for_one_slice() -> None:
    """Frames that are pumped over many connections leave room for everybody else.

    Counted, not timed: of all connections together, a pass lets one go on.
    """
    async with serving() as served:
        pumping = [await connect(served) for _ in range(20)]
        asked = served.responder.asked
        served.responder.takes = MAX_SLICE  # the first of a turn uses it up
        for number, (_, writer) in enumerate(pumping):
            writer.write(b"".join(frame(query(f"n{number}-{i}.docker")) for i in range(20)))
        most, before = 0, 0
        while len(asked) < 400:
            await asyncio.sleep(0)
            most, before = max(most, len(asked) - before), len(asked)
        assert most <= 4  # two each, as the passes seen from here may overlap
        for _, writer in pumping:
            writer.transport.abort()


async def test_client_outside_allow_is_refused() -> None:
    async with serving(allow=()) as served:
        reader, writer = await connect(served)
        writer.write(frame(query("web.docker")))
        assert (await receive(reader))[3] & 15 == 5
        writer.close()


@best_of_three
async def test_server_stops_within_a_second_whatever_is_open() -> None:
    async with serving() as served:
        _, idle = await connect(served)
        reader, slow = await connect(served)
        slow.write(frame(query("slow.example")) + frame(query("web.docker")))
        await receive(reader)
        started = time.perf_counter()
    took = time.perf_counter() - started
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await receive(reader)
    idle.close()
    slow.close()
    assert_within(took, 1.0)

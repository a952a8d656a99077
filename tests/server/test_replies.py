"""Replies of a batch: which ones are sent together, and that each client gets its own."""

import asyncio
import ctypes
import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from dnslib import DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol import messages
from containerdns.server.batch import BatchLoop
from containerdns.server.replies import Replies, to_messages
from containerdns.tasks import udp_segmentation
from containerdns.tasks.many_datagrams import HEAD_OCTETS, HEADER_OCTETS, SLOTS
from containerdns.tasks.udp_segmentation import MAX_SEGMENTS, SOL_UDP
from tests.own_network import is_own
from tests.server.other_machine import NETWORKS, OURS, machine_beside
from tests.server.serving import Served, query, serving
from tests.timing import MAX_WAIT

UDP_GRO = 104  # linux/udp.h: messages are received as they were sent
KEY = slice(4, 8)
needs_it = pytest.mark.skipif(not udp_segmentation.works(), reason="needs Linux 4.18")
ADDRESSES = [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "::1"), ("::1", "::1")]
ADDRESS_IDS = ["IPv4 wildcard", "IPv4", "IPv6 wildcard", "IPv6"]


def head(peer: int) -> bytes:
    return bytes([2, 0, peer & 1, peer >> 1, 127, 0, 0, peer % 3]).ljust(HEAD_OCTETS, b"\0")


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from((0, 60, 61, 1232, 1300))),
        min_size=1,
        max_size=SLOTS,
    ),
    st.sets(st.integers(0, 2)),
)
def test_every_reply_is_sent_once_and_none_with_those_of_another_peer(
    replies: list[tuple[int, int]], refusing: set[int]
) -> None:
    heads = b"".join(head(peer) for peer, _ in replies).ljust(SLOTS * HEAD_OCTETS, b"\0")
    sizes = [size for _, size in replies]
    division = to_messages(heads, sizes, KEY, {head(peer)[KEY] for peer in refusing})
    assert sorted(division.order) == [slot for slot, size in enumerate(sizes) if size]
    assert sum(division.counts) == len(division.order)
    for number in range(len(division.counts)):
        slots = division.slots_of(number)
        assert len({head(replies[slot][0]) for slot in slots}) == 1
        assert len({sizes[slot] for slot in slots[:-1]}) <= 1
        assert sizes[slots[0]] >= sizes[slots[-1]]
        assert len(slots) <= MAX_SEGMENTS
        if len(slots) > 1:
            assert replies[slots[0]][0] % 3 not in refusing


def connected(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    client = socket.socket(family, socket.SOCK_DGRAM)
    client.setblocking(False)
    client.connect(address)
    return client


def at(served: Served, address: str) -> tuple[str, int]:
    return address, served.address[1]


async def replies_to(client: socket.socket, queries: Sequence[bytes]) -> list[bytes]:
    """Send queries that arrive together; the replies, as they come."""
    for data in queries:
        client.send(data)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(MAX_WAIT):
        return [await loop.sock_recv(client, 65536) for _ in queries]


def of_many_lengths(count: int, first_id: int = 0) -> list[bytes]:
    return [
        query(f"w{'x' * (number % 5)}.docker", message_id=first_id + number)
        for number in range(count)
    ]


def assert_answered(queries: Sequence[bytes], replies: Sequence[bytes]) -> None:
    """Each query has one reply that can be parsed and repeats its ID and question."""
    asked, answered = map(DNSRecord.parse, queries), list(map(DNSRecord.parse, replies))
    assert all(record.rr for record in answered)
    assert sorted((record.header.id, str(record.q)) for record in answered) == sorted(
        (record.header.id, str(record.q)) for record in asked
    )


@pytest.mark.parametrize("is_offloaded", [True, False], ids=["offloaded", "not offloaded"])
@pytest.mark.parametrize(("listen", "address"), ADDRESSES, ids=ADDRESS_IDS)
async def test_burst_of_many_lengths_is_answered_in_separate_datagrams(
    listen: str, address: str, is_offloaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_offloaded:
        monkeypatch.setattr(udp_segmentation, "works", lambda: False)
    queries = of_many_lengths(100)
    async with serving(listen=(Endpoint(listen, 0),)) as served:
        with connected(at(served, address)) as client:
            for _ in range(3):
                assert_answered(queries, await replies_to(client, queries))


@needs_it
@pytest.mark.parametrize(("listen", "address"), ADDRESSES, ids=ADDRESS_IDS)
async def test_replies_of_one_length_to_one_client_are_one_message(
    listen: str, address: str
) -> None:
    async with serving(listen=(Endpoint(listen, 0),)) as served:
        with connected(at(served, address)) as client:
            await replies_to(client, [query("web.docker")])
            client.setsockopt(SOL_UDP, UDP_GRO, 1)
            for number in range(10):
                client.send(query("web.docker", message_id=number))
            async with asyncio.timeout(MAX_WAIT):
                octets = await asyncio.get_running_loop().sock_recv(client, 65536)
    size = len(octets) // 10
    parts = [octets[start : start + size] for start in range(0, len(octets), size)]
    assert [int.from_bytes(part[:2]) for part in parts] == list(range(10))
    assert len({part[2:] for part in parts}) == 1


async def test_several_clients_get_their_own_replies() -> None:
    async with serving() as served:
        clients = [connected(served.address) for _ in range(5)]
        try:
            for _ in range(2):
                asked = [of_many_lengths(16, first_id=1000 * n) for n in range(5)]
                for queries in zip(*asked, strict=True):
                    for client, data in zip(clients, queries, strict=True):
                        client.send(data)
                loop = asyncio.get_running_loop()
                async with asyncio.timeout(MAX_WAIT):
                    for client, queries_of_one in zip(clients, asked, strict=True):
                        replies = [await loop.sock_recv(client, 65536) for _ in queries_of_one]
                        assert_answered(queries_of_one, replies)
                        with pytest.raises(BlockingIOError):
                            client.recv(65536)
        finally:
            for client in clients:
                client.close()


def long_ones(count: int) -> list[bytes]:
    """Queries whose replies have about 1,100 octets."""
    question, opt = query("forward.example")[messages.HEADER_OCTETS :], messages.opt_record()
    return [messages.query(number, messages.RD, question, opt) for number in range(count)]


def replies_of(served: Served) -> Replies:
    [loop] = served.servers._udp_loops
    assert isinstance(loop, BatchLoop)
    return loop._replies


@pytest.mark.skipif(not is_own(), reason="needs a network namespace")
@pytest.mark.parametrize(
    ("listen", "address", "mtu"),
    [
        ("0.0.0.0", OURS[0], 1500),
        ("::", OURS[1], 1280),
        ("0.0.0.0", OURS[0], 700),
        (OURS[0], OURS[0], 700),
    ],
    ids=["IPv4", "IPv6", "shorter than a reply", "one address, shorter"],
)
async def test_another_machine_gets_long_replies_whatever_its_packets_carry(
    listen: str, address: str, mtu: int
) -> None:
    """A message is not cut where a part does not fit into a packet: they are sent one by one."""
    allow = tuple(map(ip_network, NETWORKS))
    with machine_beside(mtu) as other:
        async with serving(listen=(Endpoint(listen, 0),), allow=allow) as served:
            served.forwarder.records = 4
            with other.datagrams(at(served, address)) as client:
                for queries in (long_ones(30), of_many_lengths(30), long_ones(30)):
                    replies = await replies_to(client, queries)
                    assert_answered(queries, replies)
                assert len(replies[0]) > 1000
                assert len(replies_of(served).refusing) == (mtu < 1000)


class Failing:
    """A `sendmmsg` in whose place messages of several parts fail with an error."""

    def __init__(self, replies: Replies, code: int) -> None:
        self.failed = 0
        self._real = replies._send
        self._segmented = replies._segmented
        self._code = code

    def __call__(self, descriptor: int, headers: int, count: int, flags: int) -> int:
        assert self._segmented is not None
        start = self._segmented.headers
        if start <= headers < start + SLOTS * HEADER_OCTETS:
            self.failed += 1
            ctypes.set_errno(self._code)
            return -1
        return int(self._real(descriptor, headers, count, flags))


@needs_it
@pytest.mark.parametrize(
    ("code", "is_remembered"),
    [(errno.EIO, True), (errno.EMSGSIZE, True), (errno.EOPNOTSUPP, True), (errno.ENOBUFS, False)],
    ids=["no checksums", "short packets", "not supported", "no memory"],
)
async def test_replies_that_cannot_be_sent_together_are_sent_one_by_one(
    code: int, is_remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client to whom that cannot be done has others beside it, to whom it can."""
    async with serving() as served:
        replies = replies_of(served)
        failing = Failing(replies, code)
        monkeypatch.setattr(replies, "_send", failing)
        with connected(served.address) as client:
            for _ in range(2):
                queries = of_many_lengths(20)
                assert_answered(queries, await replies_to(client, queries))
                failed, failing.failed = failing.failed, 0
        assert (failed > 0) == (not is_remembered)
        assert replies.refusing == ({b"\x7f\0\0\1"} if is_remembered else set())


@needs_it
async def test_clients_that_refuse_are_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("containerdns.server.replies.MAX_REFUSING", 2)
    async with serving() as served:
        replies = replies_of(served)
        monkeypatch.setattr(replies, "_send", Failing(replies, errno.EIO))
        for last in range(1, 6):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.bind((f"127.0.0.{last}", 0))
                client.setblocking(False)
                client.connect(served.address)
                queries = of_many_lengths(10)
                for _ in range(2):  # once a client and its queries are known, in one batch
                    assert_answered(queries, await replies_to(client, queries))
                assert 1 <= len(replies.refusing) <= 2

"""DNS over UDP on real sockets of loopback, through both loops."""

import asyncio
import contextlib
import socket
import sys
import time

import dnslib
import pytest

from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol import messages
from containerdns.core.zone.views import Rights
from containerdns.server import batch, udp
from containerdns.tasks.many_datagrams import SLOTS
from tests.server.serving import Served, StubResponder, query, serving, settings
from tests.timing import MAX_WAIT, assert_within, best_of_three, until

REFILL = 0.25  # seconds until a rate of 4 a second lets one more through


@pytest.fixture(params=[True, False], ids=["batch", "plain"])
def may_batch(request: pytest.FixtureRequest) -> bool:
    """Every test runs with many datagrams per system call, and with one."""
    assert not request.param or batch.works()
    return bool(request.param)


async def ask(served: Served, data: bytes, address: str | None = None) -> bytes:
    """Send a datagram from a connected socket, which takes replies of that address alone."""
    loop = asyncio.get_running_loop()
    host, port = served.address
    family = socket.AF_INET6 if ":" in (address or host) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect((address or host, port))
        client.send(data)
        async with asyncio.timeout(MAX_WAIT):
            return await loop.sock_recv(client, 4096)


async def test_query_is_answered(may_batch: bool) -> None:
    async with serving(may_batch) as served:
        response = dnslib.DNSRecord.parse(await ask(served, query("web.docker")))
    assert [str(record.rdata) for record in response.rr] == ["172.18.0.2"]
    assert response.header.id == 0x1234


async def test_second_same_query_is_ready_made_and_echoes_its_own_case_and_id(
    may_batch: bool,
) -> None:
    async with serving(may_batch) as served:
        await ask(served, query("web.docker"))
        octets = await ask(served, query("wEb.DocKer", message_id=7))
        assert len(served.responder.asked) == 1
        served.servers.tally()
        assert served.counters.requests["udp", 1] == 2
    assert octets[12:].startswith(b"\x03wEb\x06DocKer\0")
    assert octets[:2] == b"\0\x07"


@pytest.mark.parametrize(
    ("listen", "address"),
    [("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.1.2.3"), ("::", "::1"), ("127.0.0.9", "127.0.0.9")],
    ids=["wildcard", "another address of the wildcard", "IPv6 wildcard", "one address"],
)
async def test_reply_leaves_from_the_address_that_was_asked(
    listen: str, address: str, may_batch: bool
) -> None:
    async with serving(may_batch, listen=(Endpoint(listen, 0),)) as served:
        for name in ("web.docker", "web.docker", "forward.example"):
            await ask(served, query(name), address)
        assert {peer.local for _, peer in served.responder.asked} == {
            socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
        }


async def test_forwarded_answers_that_come_together_go_to_their_own_clients(
    may_batch: bool,
) -> None:
    count = SLOTS + 6
    async with serving(may_batch) as served, asyncio.TaskGroup() as asking:
        tasks = [
            asking.create_task(ask(served, query(f"slow.n{n}.example", message_id=n)))
            for n in range(count)
        ]
        await until(lambda: len(served.forwarder.resolved) == count)
        served.forwarder.released.set()
        found = [dnslib.DNSRecord.parse(await task) for task in tasks]
    assert [response.header.id for response in found] == list(range(count))
    assert [str(response.q.qname) for response in found] == [
        f"slow.n{n}.example." for n in range(count)
    ]


async def test_slow_forwarded_query_does_not_hold_up_a_local_one(may_batch: bool) -> None:
    async with serving(may_batch) as served:
        slow = asyncio.create_task(ask(served, query("slow.example")))
        await ask(served, query("web.docker"))
        assert not slow.done()
        served.forwarder.released.set()
        await slow


async def test_fault_of_ours_is_servfail_and_counted(
    caplog: pytest.LogCaptureFixture, may_batch: bool
) -> None:
    async with serving(may_batch) as served:
        octets = await ask(served, query("fault.docker"))
        assert served.counters.internal_errors == 1
    response = dnslib.DNSRecord.parse(octets)
    assert response.header.rcode == 2
    assert str(response.q.qname) == "fault.docker."
    assert "on purpose" in caplog.text


async def test_changed_views_hold_at_once(may_batch: bool) -> None:
    """What was ready-made for a client's former view is not given to it in its new one."""
    async with serving(may_batch) as served:
        await ask(served, query("web.docker"))
        served.views.set_rights(Rights((), (), (), ask_own=False))
        octets = await ask(served, query("web.docker"))
    assert octets[3] & 15 == 5


async def test_queries_are_in_the_history(may_batch: bool) -> None:
    async with serving(may_batch) as served:
        for name in ("web.docker", "web.docker", "forward.example"):
            await ask(served, query(name))
        rows = list(served.history.since(0, 10)[0])
    assert [(row["name"], row["source"], row["client"]) for row in rows] == [
        ("web.docker.", "zone", "127.0.0.1"),
        ("web.docker.", "zone", "127.0.0.1"),
        ("forward.example.", "upstream", "127.0.0.1"),
    ]


async def test_logged_query_has_its_fields(
    may_batch: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Ready-made answers are logged, too."""
    caplog.set_level("INFO", "containerdns.server.answering")
    async with serving(may_batch, log_queries=True) as served:
        for _ in range(2):
            await ask(served, query("web.docker"))
    first, second = (record.__dict__["fields"] for record in caplog.records)
    assert set(first) == set(second) >= {"client", "name", "type", "rcode", "source", "ms"}
    assert (second["client"], second["name"], second["type"]) == ("127.0.0.1", "web.docker.", "A")
    assert "query udp 127.0.0.1 web.docker. A: NOERROR from zone, " in caplog.text


async def test_health_check_of_this_host_is_neither_noted_nor_counted(may_batch: bool) -> None:
    """Contract section 6: /queries has the last queries, without those of health checks."""
    async with serving(may_batch) as served:
        await ask(served, query("web.docker", messages.TXT))
        await ask(served, query(messages.HEALTH_CHECK, messages.TXT))
        served.servers.tally()
        assert [row["name"] for row in list(served.history.since(0, 10)[0])] == ["web.docker."]
        assert served.counters.requests.total() == served.counters.responses.total() == 1
        assert sum(served.counters.durations["zone"].counts) == 1


@best_of_three
async def test_limited_client_is_slipped_and_dropped_beyond_its_rate(may_batch: bool) -> None:
    """Of 10 queries at once and 4 a second, 4 are answered, 3 dropped, 3 truncated."""
    async with serving(may_batch, rate_limit=4) as served:
        view = served.views.of(b"\x7f\0\0\1", b"\x7f\0\0\1")
        object.__setattr__(view, "is_limited", True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(served.address)
            begun = time.monotonic()
            for _ in range(10):
                client.send(query("web.docker"))
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(MAX_WAIT):
                flags = [(await loop.sock_recv(client, 512))[2] for _ in range(7)]
            assert_within(time.monotonic() - begun, REFILL)
            await asyncio.sleep(0.1)
            with pytest.raises(BlockingIOError):
                client.recv(512)
        assert [bool(flag & 2) for flag in flags] == [False] * 4 + [True] * 3
        assert served.counters.rate_limited == 6


async def test_reload_applies_another_rate_limit_to_clients_known_before(may_batch: bool) -> None:
    async with serving(may_batch, rate_limit=1) as served:
        view = served.views.of(b"\x7f\0\0\1", b"\x7f\0\0\1")
        object.__setattr__(view, "is_limited", True)
        await ask(served, query("web.docker"))
        limiter = served.servers.limiter
        served.servers.use(settings(rate_limit=1), ())
        assert served.servers.limiter is limiter  # what it knows of clients is kept
        served.servers.use(settings(rate_limit=0), ())
        for _ in range(5):
            await ask(served, query("web.docker"))
        assert served.counters.rate_limited == 0


async def test_client_with_a_valid_cookie_is_not_limited(may_batch: bool) -> None:
    """Its address is proved, so that nobody else is made to suffer (RFC 7873 section 5.2.4)."""
    async with serving(may_batch, rate_limit=1) as served:
        view = served.views.of(b"\x7f\0\0\1", b"\x7f\0\0\1")
        object.__setattr__(view, "is_limited", True)
        served.responder.proven.add("web.docker.")
        cookie = messages.opt_record(options=[(messages.COOKIE_OPTION, bytes(24))])
        proof = messages.query(7, messages.RD, query("web.docker")[12:], cookie)
        for _ in range(5):
            await ask(served, proof)
        assert served.counters.rate_limited == 0


async def test_responses_are_kept_again_after_the_views_were_forgotten(may_batch: bool) -> None:
    async with serving(may_batch) as served:
        await ask(served, query("web.docker"))
        served.packet_cache.forget_views()
        for _ in range(3):
            await ask(served, query("web.docker"))
        assert len(served.responder.asked) == 2


async def test_ready_made_response_does_not_wait_for_queries_that_need_thought() -> None:
    """A flood of first queries, each of 0.1 ms, kept those behind them waiting for seconds."""
    responder = StubResponder()
    async with serving(responder=responder) as served:
        await ask(served, query("web.docker"))
        responder.takes, count = 2 * udp.TURN, 100
        flood = [query(f"n{number}.docker") for number in range(count)]
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(served.address)
            for data in (*flood, query("web.docker", message_id=0x4321)):
                client.send(data)
            async with asyncio.timeout(MAX_WAIT):
                while not (await loop.sock_recv(client, 512)).startswith(b"\x43\x21"):
                    pass
                assert len(responder.asked) < count / 4
            await until(lambda: len(responder.asked) == 1 + count)
        served.servers.tally()
        assert served.counters.datagrams_dropped == 0


async def test_client_addresses_are_forgotten_when_there_are_too_many(
    may_batch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp, "MAX_CLIENTS", 3)
    async with serving(may_batch) as served:
        with contextlib.ExitStack() as stack:
            for last in range(1, 10):
                client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                client.bind((f"127.0.0.{last}", 0))
                client.setblocking(False)
                client.sendto(query("web.docker"), served.address)
                async with asyncio.timeout(MAX_WAIT):
                    assert await asyncio.get_running_loop().sock_recv(client, 512)
        assert len(served.servers._datagrams._clients) <= 4


@best_of_three
async def test_full_socket_does_not_hold_up_the_event_loop(may_batch: bool) -> None:
    """Docker's events, TCP and HTTP are served within 5 ms at full load.

    In our own time, as the flood may have the CPU meanwhile.
    """
    async with serving(may_batch) as served:
        flood = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FLOOD, str(served.address[1])
        )
        try:
            async with asyncio.timeout(MAX_WAIT):
                while served.counters.requests["udp", 1] <= 1000:
                    await asyncio.sleep(0.01)
                    served.servers.tally()
            waits = []
            for _ in range(300):
                before = time.process_time()
                await asyncio.sleep(0)
                waits.append(time.process_time() - before)
        finally:
            flood.kill()
            await flood.wait()
    assert_within(sorted(waits)[int(len(waits) * 0.95)], 0.005)


FLOOD = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.1", int(sys.argv[1])))
query = bytes.fromhex("123401000001000000000000037765620664 6f636b65720000010001")
while True:
    try:
        client.send(query)
    except OSError:
        pass
"""


async def test_burst_of_one_client_is_answered_whole(may_batch: bool) -> None:
    count = 200  # which the smallest usual buffers hold
    async with serving(may_batch) as served:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(served.address)
            for number in range(count):
                client.send(query(f"w{number}.docker", message_id=number))
            found: set[int] = set()
            async with asyncio.timeout(MAX_WAIT):
                while len(found) < count:
                    octets = await asyncio.get_running_loop().sock_recv(client, 4096)
                    found.add(int.from_bytes(octets[:2]))

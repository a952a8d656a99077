"""Zone transfers and NOTIFY, with a real NSD, Knot and BIND as secondaries."""

import asyncio
import contextlib
import shutil
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import dnslib
import pytest

from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol import messages, tsig
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.respond import Peer, Reply, Transfer
from containerdns.core.zone.secondary_copies import Copy, Work
from containerdns.errors import BadSettings
from containerdns.server.transfer import Notifier, Transfers, read_keys
from tests.engine.running import free_port
from tests.server import secondaries
from tests.server.serving import Served, StubResponder, query, serving
from tests.timing import MAX_WAIT, assert_within, best_of_three

APEX = b"\x06docker\0"
KEY = tsig.Key("transfer.docker.", "hmac-sha256.", b"0123456789abcdef0123456789abcdef")
WITHIN = 2.0  # seconds for a secondary to follow


class Changing:
    """A zone that changes when a test says so; what `secondary_copies` reads, and a feed of it."""

    def __init__(self, count: int = 3) -> None:
        self.serial = 1000
        self.hosts = {f"web{n}": address(n) for n in range(count)}
        self.copy = Copy(self)

    def soa(self) -> RR:
        times = struct.pack("!IIIII", self.serial, 3600, 60, 86400, 1)
        return RR(APEX, 6, 1, 5, b"\x02ns" + APEX + b"\x04root" + APEX + times)

    def names(self) -> Iterator[str]:
        yield from ("", *self.hosts)

    def records(self, name: str) -> tuple[RR, ...]:
        if name:
            return (self.hosts[name],) if name in self.hosts else ()
        server = RR(b"\x02ns" + APEX, 1, 1, 5, bytes([127, 0, 0, 1]))
        return (RR(APEX, 2, 1, 5, b"\x02ns" + APEX), server)

    async def current(self, apex: str) -> Copy | None:
        while self.copy.advance():  # noqa: ASYNC110 - what is waited for is done here
            await asyncio.sleep(0)
        assert self.copy.cut() is None
        return self.copy

    def is_large(self, name: str) -> bool:
        return False

    def later(self, name: str) -> Work:
        raise AssertionError(name)

    def add(self, number: int, notifier: Notifier | None = None) -> None:
        """Take one more host in, and the first one out."""
        self.serial += 1
        removed, added = next(iter(self.hosts)), f"web{number}"
        del self.hosts[removed]
        self.hosts[added] = address(number)
        self.copy.touch((removed, added))
        if notifier:
            notifier.changed("docker.", self.soa())


def address(number: int) -> RR:
    label = f"web{number}".encode()
    owner = bytes([len(label)]) + label + APEX
    return RR(owner, 1, 1, 5, bytes([172, 18, number // 256 % 256, number % 256]))


class ZoneResponder(StubResponder):
    """Allows every transfer, and tells the SOA."""

    zone: Changing

    def respond(
        self, data: bytes, peer: Peer, now: float, query: messages.Query | None = None
    ) -> Reply | Transfer | None:
        asked = messages.parse_query(data)
        if asked.qtype in (messages.AXFR, messages.IXFR):
            return Transfer(asked, "docker.", data)
        body = messages.encode(asked.question[:-4], [self.zone.soa()])
        octets = messages.assemble(asked, messages.AA, body, 1232)
        return Reply(octets, 0, "zone", asked.qtype, asked.name)


@contextlib.asynccontextmanager
async def primary(zone: Changing, keys: tuple[tsig.Key, ...] = ()) -> AsyncIterator[Served]:
    responder = ZoneResponder()
    responder.zone = zone
    transfers = Transfers(zone, keys)
    async with serving(responder=responder, transfers=transfers, keys=keys) as served:
        yield served


async def transfer(served: Served, asked: bytes) -> list[dnslib.DNSRecord]:
    """Ask for a transfer; give its messages up to the one that ends it."""
    reader, writer = await asyncio.open_connection(*served.address)
    writer.write(len(asked).to_bytes(2) + asked)
    got: list[dnslib.DNSRecord] = []
    async with asyncio.timeout(MAX_WAIT):
        while sum(r.rtype == 6 for m in got for r in m.rr) < 2:
            length = int.from_bytes(await reader.readexactly(2))
            got.append(dnslib.DNSRecord.parse(await reader.readexactly(length)))
            if got[-1].header.rcode or len(got) == len(got[0].rr) == 1:
                break
    writer.close()
    return got


def ixfr(serial: int) -> bytes:
    zone = Changing()
    zone.serial = serial
    asked = query("docker", messages.IXFR)
    record = zone.soa()
    header = asked[:8] + b"\0\1" + asked[10:]
    fixed = struct.pack("!HHIH", 6, 1, 0, len(record.rdata))
    return header + record.owner + fixed + record.rdata


async def test_whole_zone_begins_and_ends_with_its_soa() -> None:
    """RFC 5936 section 2.2; three thousand records do not fit into one message."""
    async with primary(Changing(3000)) as served:
        got = await transfer(served, query("docker", messages.AXFR))
        assert next(served.history.since(0, 1)[0])["type"] == "AXFR"
    records = [record for message in got for record in message.rr]
    assert len(got) > 3
    assert [records[0].rtype, records[-1].rtype] == [6, 6]
    assert len(records) == 3000 + 4
    assert {message.header.aa for message in got} == {1}


async def test_zone_that_changes_meanwhile_is_sent_as_it_was_at_one_moment() -> None:
    zone = Changing(3000)
    async with primary(zone) as served:

        async def change() -> None:
            for number in range(3000, 3400):
                zone.add(number)
                await asyncio.sleep(0)

        changing = asyncio.create_task(change())
        got = await transfer(served, query("docker", messages.AXFR))
        await changing
    records = [record for message in got for record in message.rr]
    serial = records[0].rdata.times[0]
    assert records[-1].rdata.times[0] == serial
    hosts = {str(record.rname) for record in records if str(record.rname).startswith("web")}
    assert hosts == {f"web{number}.docker." for number in range(serial - 1000, serial + 2000)}


class Counting(Changing):
    """Counts how often all records of the copy are read."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.reads = 0
        whole = self.copy.records

        def records() -> Iterator[RR]:
            self.reads += 1
            return whole()

        self.copy.records = records  # type: ignore[method-assign]


async def messages_of(transfers: Transfers, asked: bytes) -> AsyncIterator[dnslib.DNSRecord]:
    """Yield the messages of a transfer as they are made."""
    transfer = Transfer(messages.parse_query(asked), "docker.", asked)
    async with contextlib.aclosing(transfers.messages(transfer, bytes(4))) as made:
        async for octets in made:
            yield dnslib.DNSRecord.parse(octets)


async def hosts_of(transfers: Transfers, asked: bytes) -> set[str]:
    """Return the addresses that a transfer has, once its last message has come."""
    records = [rr async for message in messages_of(transfers, asked) for rr in message.rr]
    assert [records[0].rtype, records[-1].rtype] == [6, 6]
    return {str(rr.rname) for rr in records if str(rr.rname).startswith("web")}


async def test_all_who_copy_a_zone_get_the_same_messages() -> None:
    """Whether one begins when another is half done, has it, or is gone before the end."""
    zone = Counting(1000)
    transfers = Transfers(zone)
    first, second = query("docker", messages.AXFR), query("DOCKER", messages.AXFR)
    begun, gone = messages_of(transfers, first), messages_of(transfers, first)
    got = [await anext(begun), await anext(begun)]
    await anext(gone)
    await gone.aclose()  # type: ignore[attr-defined]
    later = [message async for message in messages_of(transfers, second)]
    got += [message async for message in begun]
    assert zone.reads == 1
    assert len(got) == len(later) > 3
    for mine, other in zip(got, later, strict=True):
        assert (mine.header.id, other.header.id) == (
            int.from_bytes(first[:2]),
            int.from_bytes(second[:2]),
        )
        assert [str(rr).lower() for rr in mine.rr] == [str(rr).lower() for rr in other.rr]
    assert await hosts_of(transfers, first) == {f"web{n}.docker." for n in range(1000)}
    assert zone.reads == 1


async def test_who_copies_a_zone_after_a_change_gets_the_change() -> None:
    zone = Counting(3)
    transfers = Transfers(zone)
    asked = query("docker", messages.AXFR)
    await hosts_of(transfers, asked)
    zone.add(3)
    assert await hosts_of(transfers, asked) == {f"web{n}.docker." for n in (1, 2, 3)}
    zone.hosts["web4"] = address(4)  # as a reload may change a zone without a new serial
    zone.copy.restart()
    assert await hosts_of(transfers, asked) == {f"web{n}.docker." for n in (1, 2, 3, 4)}
    assert zone.reads == 3


async def test_messages_are_dropped_when_nobody_copied_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("containerdns.server.transfer.KEEP", 0.0)
    zone = Counting(300)
    transfers = Transfers(zone)
    asked = query("docker", messages.AXFR)
    reading = messages_of(transfers, asked)
    await anext(reading)
    await hosts_of(transfers, asked)
    await asyncio.sleep(0.01)
    await hosts_of(transfers, asked)
    assert zone.reads == 1  # as the first client is still reading
    assert [message async for message in reading]
    await asyncio.sleep(0.01)
    await hosts_of(transfers, asked)
    assert zone.reads == 2


async def test_a_message_is_encoded_within_a_short_time() -> None:
    """At 4 to 10 µs a record; a query that comes meanwhile waits for it."""
    made = messages_of(Transfers(Changing(1000)), query("docker", messages.AXFR))
    assert max([len(message.rr) async for message in made]) <= 200


async def test_only_what_changed_is_sent() -> None:
    """RFC 1995 section 4: old SOA, what went, new SOA, what came; per change."""
    zone = Changing()
    async with primary(zone) as served:
        await zone.current("docker.")
        zone.add(7)
        await zone.current("docker.")
        zone.add(8)
        [message] = await transfer(served, ixfr(1000))
    shown = [r.rdata.times[0] if r.rtype == 6 else str(r.rname)[:4] for r in message.rr]
    assert shown == [1002, 1000, "web0", 1001, "web7", 1001, "web1", 1002, "web8", 1002]


@pytest.mark.parametrize("serial", [1002, 1005], ids=["the same", "a newer one"])
async def test_secondary_with_the_current_zone_gets_its_soa_alone(serial: int) -> None:
    zone = Changing()
    async with primary(zone) as served:
        zone.add(7)
        zone.add(8)
        [message] = await transfer(served, ixfr(serial))
    assert [record.rtype for record in message.rr] == [6]


async def test_secondary_that_is_too_far_behind_gets_the_whole_zone() -> None:
    zone = Changing()
    async with primary(zone) as served:
        zone.add(7)
        [message] = await transfer(served, ixfr(999))
    assert len(message.rr) == 3 + 4


@pytest.mark.parametrize(
    ("key", "later", "rcode"),
    [
        (KEY, 0, 0),
        (None, 0, 5),
        (tsig.Key("other.docker.", "hmac-sha256.", KEY.secret), 0, 9),
        (tsig.Key(KEY.name, KEY.algorithm, b"wrong"), 0, 9),
        (KEY, tsig.FUDGE + 5, 9),
    ],
    ids=["right", "unsigned", "unknown key", "wrong secret", "wrong time"],
)
async def test_transfer_needs_the_key(key: tsig.Key | None, later: float, rcode: int) -> None:
    asked = query("docker", messages.AXFR)
    if key is not None:
        asked = tsig.sign_query(asked, key, time.time() + later)
    async with primary(Changing(), (KEY,)) as served:
        got = await transfer(served, asked)
    assert [message.header.rcode for message in got] == [rcode]
    assert sum(len(message.rr) for message in got) == (0 if rcode else 7)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("transfer.docker. hmac-sha256", "NAME ALGORITHM BASE64"),
        ("transfer.docker. hmac-md5 AAAA", "one of hmac-sha1"),
        ("transfer.docker. hmac-sha256 A", "base64"),
    ],
    ids=["too little", "old algorithm", "no secret"],
)
def test_line_that_is_no_key_is_refused(line: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# secondaries\n\n{line}\n")
    with pytest.raises(BadSettings, match=expected) as caught:
        read_keys([path])
    assert caught.value.value == f"{path}:3"


def test_keys_are_read(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\ufeffTransfer.docker HMAC-SHA256 MDEyMzQ1Njc4OWFiY2RlZg== # for ns2\n")
    assert read_keys([path]) == (tsig.Key(KEY.name, KEY.algorithm, KEY.secret[:16]),)


@best_of_three
@pytest.mark.parametrize("program", sorted(secondaries.COMMANDS))
@pytest.mark.parametrize("keys", [(), (KEY,)], ids=["without a key", "TSIG"])
async def test_secondary_follows(program: str, keys: tuple[tsig.Key, ...], tmp_path: Path) -> None:
    """The first time by AXFR, then by IXFR, each told of by NOTIFY."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    zone = Changing(2000)
    port = free_port()
    notifier = Notifier([Endpoint("127.0.0.1", port)], keys[0] if keys else None)
    async with primary(zone, keys) as served:
        notifying = asyncio.create_task(notifier.run())
        command = secondaries.COMMANDS[program](tmp_path, port, served.address[1], bool(keys))
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await follow(port, zone)
            for number in range(5000, 5010):
                zone.add(number, notifier)
                if number % 5 == 0:
                    assert_within(await follow(port, zone), WITHIN)
            assert_within(await follow(port, zone), WITHIN)
            told = [row["type"] for row in list(served.history.since(0, 100)[0])]
            assert "IXFR" in told
            await until(lambda said: said == ["172.18.19.145"], port, "web5009.docker", 1)
            await until(lambda said: said == [], port, "web5.docker", 1)
        finally:
            notifying.cancel()
            process.terminate()
            await process.wait()


async def follow(port: int, zone: Changing) -> float:
    """Wait until a secondary has the zone's serial; the seconds that took."""
    begun = time.monotonic()
    await until(lambda said: said[2:3] == [str(zone.serial)], port, "docker", 6)
    return time.monotonic() - begun


async def until(holds: Callable[[list[str]], bool], port: int, name: str, qtype: int) -> None:
    """Ask until the words of the first record are right; old processes of NSD linger."""
    async with asyncio.timeout(MAX_WAIT):
        while True:
            with contextlib.suppress(TimeoutError, OSError):
                if holds((await ask(port, name, qtype)).split()):
                    return
            await asyncio.sleep(0.02)


async def ask(port: int, name: str, qtype: int) -> str:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", port))
        client.send(query(name, qtype))
        async with asyncio.timeout(1.0):
            response = dnslib.DNSRecord.parse(await loop.sock_recv(client, 4096))
    return str(response.rr[0].rdata) if response.rr else ""

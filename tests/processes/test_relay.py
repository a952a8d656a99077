"""With `--workers`, a secondary that meets any process is served by differences."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dnslib
import pytest

from tests.engine.running import Running
from tests.engine.simulated import SimulatedEngine
from tests.timing import MAX_WAIT

AXFR, IXFR, SOA = 252, 251, 6
ROUNDS = 5  # changes; each takes a second, that of its serial
SECONDARIES = 4  # so that both processes are met, except in one run in 500,000


class Secondary:
    """A client that takes the zone over a new connection each time.

    Attributes:
        serial: Of what it holds.
        held: The records, as text, without the SOA.
    """

    def __init__(self, port: int) -> None:
        self.serial = 0
        self.held: set[str] = set()
        self._port = port

    def take(self) -> bool:
        """Transfer the zone; return whether it came as differences."""
        records = self._records(IXFR if self.serial else AXFR)
        serial = int(records[0].rdata.times[0])
        marks = [place for place, record in enumerate(records) if record.rtype == SOA]
        if len(marks) == 1:  # up to date
            return True
        is_whole = marks == [0, len(records) - 1]
        if is_whole:
            self.held = set(map(str, records[1:-1]))
        for number, start in enumerate(marks[1:-1]):
            changed = set(map(str, records[start + 1 : marks[number + 2]]))
            if number % 2:
                self.held |= changed
            else:
                assert int(records[start].rdata.times[0]) == self.serial
                assert changed <= self.held
                self.held -= changed
            self.serial = int(records[start].rdata.times[0])
        assert is_whole or self.serial == serial
        self.serial = serial
        return not is_whole

    def _records(self, qtype: int) -> list[dnslib.RR]:
        query = dnslib.DNSRecord(q=dnslib.DNSQuestion("docker", qtype))
        if qtype == IXFR:
            soa = dnslib.SOA("ns.docker", "hostmaster.docker", (self.serial, 1, 1, 1, 1))
            query.add_auth(dnslib.RR("docker", SOA, rdata=soa))
        octets = bytes(query.pack())
        with socket.create_connection(("127.0.0.1", self._port), MAX_WAIT) as connection:
            connection.sendall(len(octets).to_bytes(2) + octets)
            stream = connection.makefile("rb")
            records: list[dnslib.RR] = []
            while not _is_whole(records, qtype):
                length = int.from_bytes(stream.read(2))
                records += dnslib.DNSRecord.parse(stream.read(length)).rr
        return records


def _is_whole(records: list[dnslib.RR], qtype: int) -> bool:
    """Whether a transfer is complete: the first SOA comes again, after differences twice."""
    if len(records) < 2:
        return bool(records) and qtype == IXFR  # up to date
    serials = [int(record.rdata.times[0]) for record in records if record.rtype == SOA]
    wanted = 3 if records[1].rtype == SOA else 2
    return records[-1].rtype == SOA and serials.count(serials[0]) == wanted


@asynccontextmanager
async def served(*options: str) -> AsyncIterator[tuple[SimulatedEngine, Running]]:
    with tempfile.TemporaryDirectory() as folder:
        async with SimulatedEngine(Path(folder) / "docker.sock", 200) as engine:
            server = await asyncio.to_thread(Running, *options, docker=engine.url)
            try:
                yield engine, server
            finally:
                await asyncio.to_thread(server.stop)


def serials(secondaries: list[Secondary]) -> list[int]:
    return [secondary.serial for secondary in secondaries]


async def _wait_for_change(serial: int, server: Running) -> None:
    """Wait until the zone has a newer serial."""
    async with asyncio.timeout(MAX_WAIT):
        while server.metric("zone_serial") <= serial:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2])
async def test_each_transfer_after_the_first_is_of_differences(workers: int) -> None:
    """Each process had a journal of its own: who met another one got the zone whole."""
    options = ("--workers", str(workers), "--host-address", "192.0.2.1")
    async with served(*options) as (engine, server):
        secondaries = [Secondary(server.port) for _ in range(SECONDARIES)]
        for secondary in secondaries:
            await asyncio.to_thread(secondary.take)
        for number in range(ROUNDS):
            if number % 3 < 2:
                container_id = engine.add(f"new{number}")
            else:
                engine.remove(container_id)
            await _wait_for_change(max(serials(secondaries)), server)
            for secondary in secondaries:
                assert await asyncio.to_thread(secondary.take)
        other = Secondary(server.port)
        for secondary in (*secondaries, other):
            await asyncio.to_thread(secondary.take)
        assert set(serials(secondaries)) == {other.serial}
        assert all(secondary.held == other.held for secondary in secondaries)
        assert any("new0.docker." in record for record in other.held)
        assert server.metric("dns_internal_errors_total") == 0


async def test_secondary_that_does_not_read_or_goes_costs_a_worker_nothing() -> None:
    async with served("--workers", "2", "--host-address", "192.0.2.1") as (_, server):
        query = bytes(dnslib.DNSRecord.question("docker", "AXFR").pack())
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port), MAX_WAIT) as connection:
                connection.sendall(len(query).to_bytes(2) + query)
        secondary = Secondary(server.port)
        await asyncio.to_thread(secondary.take)
        assert any("web-199.docker." in record for record in secondary.held)
        assert server.metric("dns_internal_errors_total") == 0

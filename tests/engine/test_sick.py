"""The whole program with sick containers, and before all names are known: nothing leaks.

The Engine is simulated, as a real one is not sick on demand.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.engine.running import RecordingUpstream, Running
from tests.engine.simulated import SimulatedEngine
from tests.timing import until

SUFFIXES = ("", ".docker", ".corp.example")
TYPES = ("A", "AAAA", "HTTPS")
HOST_NAME = "search"  # of each simulated container; only an inspect tells it


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    recording = RecordingUpstream()
    yield recording
    recording.close()


@asynccontextmanager
async def serving(
    engine: SimulatedEngine, upstream: RecordingUpstream, *, ready: bool = True
) -> AsyncIterator[Running]:
    """The program beside an Engine that runs on this event loop."""
    options = ("--search-domain", "corp.example", "--upstream", f"127.0.0.1:{upstream.port}")
    server = await asyncio.to_thread(Running, *options, docker=engine.url, ready=ready)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


def rcodes(server: Running, name: str) -> set[str]:
    """What a name is, below every suffix and in every type."""
    return {server.rcode(name + suffix, qtype) for suffix in SUFFIXES for qtype in TYPES}


@pytest.mark.parametrize("sickness", ["silence", "status 500"])
async def test_sick_container_is_answered_for_and_never_forwarded(
    tmp_path: Path, upstream: RecordingUpstream, sickness: str
) -> None:
    """A stuck shim or a dead NFS server; "RWLayer of container ... is unexpectedly nil"."""
    engine = SimulatedEngine(tmp_path / "docker.sock", 3)
    sick = engine.ids()[0]
    if sickness == "silence":
        engine.slow[sick] = 3600.0
    else:
        engine.statuses[f"/containers/{sick}/json"] = 500
    async with engine, serving(engine, upstream) as server:
        for name in ("web-0", "web-1", HOST_NAME):
            assert await asyncio.to_thread(rcodes, server, name) == {"NOERROR"}
        assert await asyncio.to_thread(server.addresses, "web-0.corp.example") == ["172.28.0.1"]
        zone = await asyncio.to_thread(server.get_json, "/zone?format=json")
        assert [item["container"] for item in zone["skipped"]] == ["web-0"]
        assert zone["engines"][0]["connected"]
        assert upstream.names() == []


async def test_container_with_a_huge_label_is_never_forwarded(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    engine = SimulatedEngine(tmp_path / "docker.sock", 1)
    engine.add("big", docker_labels={"text": "x" * (17 << 20)}, announce=False)
    async with engine, serving(engine, upstream) as server:
        assert await asyncio.to_thread(rcodes, server, "web-0") == {"NOERROR"}
        assert await asyncio.to_thread(rcodes, server, "big") == {"NXDOMAIN"}
        assert upstream.names() == []


async def test_host_name_is_neither_denied_nor_forwarded_while_containers_are_listed(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    """With more than 200 containers, and 30 ms an inspect, this was 0.5 s at each start."""

    def ask_until_known() -> set[str]:
        seen: set[str] = set()
        while "NOERROR" not in seen:
            for suffix in SUFFIXES:
                seen.add(server.rcode(HOST_NAME + suffix))
        return seen

    engine = SimulatedEngine(tmp_path / "docker.sock", 300)
    engine.inspect_delay = 0.03
    async with engine, serving(engine, upstream, ready=False) as server:
        assert await asyncio.to_thread(ask_until_known) <= {"SERVFAIL", "NOERROR"}
        assert upstream.names() == []


async def test_names_that_a_reconnect_finds_are_not_forwarded(
    tmp_path: Path, upstream: RecordingUpstream
) -> None:
    """From the moment that the list has shown a container, its names wait for its inspect."""

    def ask_until_known() -> set[str]:
        seen: set[str] = set()
        while "NOERROR" not in seen:
            seen |= {
                server.rcode(name + suffix) for name in ("new", HOST_NAME) for suffix in SUFFIXES
            }
        return seen

    engine = SimulatedEngine(tmp_path / "docker.sock")
    async with engine, serving(engine, upstream) as server:
        engine.inspect_delay = 1.0
        engine.cut()
        new = engine.add("new", announce=False)
        await until(lambda: engine.requests[f"/containers/{new}/json"])
        assert await asyncio.to_thread(ask_until_known) <= {"SERVFAIL", "NOERROR"}
        assert upstream.names() == []

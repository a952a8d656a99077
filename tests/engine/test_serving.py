"""The whole program on a real Engine: the founding fault, and what it must survive."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from tests.engine.dockerd import Dockerd
from tests.engine.running import Client, RecordingUpstream, Running, serving
from tests.timing import MAX_WAIT, assert_within, best_of_three

pytestmark = pytest.mark.engine

SEARCH = ("--search-domain", "localdomain", "--search-domain", "pek2.qingcloud.com")
SUFFIXES = ("", ".docker", ".localdomain", ".pek2.qingcloud.com")
TYPES = ("A", "AAAA", "HTTPS", "MX", "TXT", "SRV", "ANY", "PTR", "CAA", "SVCB")
STORM_SECONDS = 20.0
REDEPLOYS_LEAST = 10  # in a storm, which lasts for longer where the Engine is slow
MAX_STORM = 300.0  # seconds
CLIENTS = 8
ROUND_PAUSE = 0.002  # seconds, in which the Engine gets a machine's only core


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    """An upstream that says NXDOMAIN for a day to whatever leaks."""
    recording = RecordingUpstream({"public.test-site.example": "192.0.2.7"})
    yield recording
    recording.close()


def start(engine: Dockerd, upstream: RecordingUpstream, *options: str) -> Running:
    return Running(
        *SEARCH, "--upstream", f"127.0.0.1:{upstream.port}", *options, docker=engine.socket_url
    )


def test_redeployed_name_is_right_at_once_and_never_leaks(
    engine: Dockerd, upstream: RecordingUpstream
) -> None:
    """The founding fault (aacebedo/dnsdock#85): a redeploy must not lose the name."""
    engine.create_network("staging")
    name = "staging-search_elasticsearch_1"
    first = engine.run(name, network="staging", aliases=["search"])
    with start(engine, upstream) as server:
        before = server.addresses(name)
        assert before == [engine.address(first)]
        engine.remove(first)
        for suffix in SUFFIXES:
            for qtype in TYPES:
                assert server.rcode(name + suffix, qtype) == "NXDOMAIN", (suffix, qtype)
        engine.run("in-the-way", network="staging")  # so that the address changes
        second = engine.run(name, network="staging")
        after = [engine.address(second)]
        assert after != before
        for suffix in SUFFIXES:
            server.until(after, name + suffix)
            assert server.ask(name + suffix).rr[0].ttl <= 5
            for qtype in TYPES[1:-2]:
                if qtype != "ANY":
                    assert server.rcode(name + suffix, qtype) == "NOERROR", (suffix, qtype)
        assert server.addresses("public.test-site.example") == ["192.0.2.7"]
        assert set(upstream.names()) == {"public.test-site.example."}
        assert server.metric("dns_internal_errors_total") == 0


def test_rename_moves_the_name_at_once(engine: Dockerd, upstream: RecordingUpstream) -> None:
    container = engine.run("before")
    with start(engine, upstream) as server:
        address = [engine.address(container)]
        assert server.addresses("before.docker") == address
        engine.rename(container, "after")
        server.until(address, "after.docker")
        assert server.rcode("before") == "NXDOMAIN"
        assert server.rcode("before.pek2.qingcloud.com") == "NXDOMAIN"
        assert upstream.names() == []


def test_networks_come_and_go(engine: Dockerd, upstream: RecordingUpstream) -> None:
    engine.create_network("front")
    engine.create_network("back")
    container = engine.run("web", network="front", aliases=["www"])
    with start(engine, upstream) as server:
        front = engine.address(container, "front")
        assert server.addresses("www.front.docker") == [front]
        engine.connect("web", "back", aliases=["db"])
        back = engine.address(container, "back")
        server.until([front, back], "web")
        assert server.addresses("db.back.docker") == [back]
        engine.disconnect("web", "front")
        server.until([back], "web")
        assert server.rcode("www.front.docker") == "NXDOMAIN"


def test_signals_and_pauses_are_no_deaths(engine: Dockerd, upstream: RecordingUpstream) -> None:
    """Facts of the Engine: a `kill` event is not a death; only `die` is."""
    container = engine.run("stays", command=["sh", "-c", "trap : HUP; while :; do sleep 1; done"])
    with start(engine, upstream) as server:
        address = [engine.address(container)]
        engine.kill_container("stays", "HUP")
        engine.pause("stays")
        time.sleep(0.3)
        assert server.addresses("stays") == address
        engine.unpause("stays")
        engine.restart_container("stays")
        server.until([engine.address(container)], "stays")


def test_odd_containers_cost_nobody_anything(engine: Dockerd, upstream: RecordingUpstream) -> None:
    """One odd container has taken whole servers of this kind down (aacebedo/dnsdock#111)."""
    web = engine.run("web")
    engine.run("on-host", network="host")
    engine.run("alone", network="none")
    engine.run("beside", network="container:web")
    engine.create("never-started")
    engine.run("hidden", labels={"containerdns.enable": "false"})
    engine.run("hostile", labels={"containerdns.names": "..,a..b,\x00," + "x" * 300 + ",*"})
    with start(engine, upstream) as server:
        address = [engine.address(web)]
        assert server.addresses("web") == address
        assert server.addresses("beside") == address
        assert server.addresses("on-host") == ["127.0.0.1"]
        assert server.rcode("alone") == "NOERROR"
        assert server.addresses("alone") == []
        for name in ("never-started", "hidden"):
            assert server.rcode(f"{name}.pek2.qingcloud.com") == "NXDOMAIN"
        assert server.addresses("hostile") == [engine.address("hostile")]
        assert "hidden" in server.get("/zone")
        assert upstream.names() == []


@best_of_three
def test_engine_is_killed_and_returns(engine: Dockerd, upstream: RecordingUpstream) -> None:
    """The zone is kept while the Engine is gone, and is right within 2 s of its return."""
    engine.clear()
    engine.run("stays")
    engine.run("goes")
    with start(engine, upstream) as server:
        before = server.addresses("stays")
        engine.kill()
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert server.addresses("stays") == before
        engine.start()
        address = engine.address(engine.run("new"))
        assert_within(server.until([address], "new"), 2.0)


def test_docker_absent_at_the_start(engine: Dockerd, upstream: RecordingUpstream) -> None:
    """SERVFAIL for what may be a container's, never NXDOMAIN; public names work."""
    socket = f"unix://{engine.root}/not-there.sock"
    options = (*SEARCH, "--upstream", f"127.0.0.1:{upstream.port}")
    with serving(*options, docker=socket, ready=False) as server:
        for suffix in SUFFIXES:
            assert server.rcode(f"web{suffix}") == "SERVFAIL", suffix
        assert server.addresses("public.test-site.example") == ["192.0.2.7"]
        assert upstream.names() == ["public.test-site.example."]
        assert "not-there.sock" in server.log()


@best_of_three
def test_stops_within_a_second(engine: Dockerd, upstream: RecordingUpstream) -> None:
    server = start(engine, upstream)
    assert_within(server.stop(), 1.0)


def test_storm_of_redeploys_has_no_wrong_missing_or_leaked_answer(
    engine: Dockerd, upstream: RecordingUpstream
) -> None:
    """Eight clients ask for 20 s while names are redeployed, each time with a new address.

    From the moment that one of them was told the new address, no other is told anything else.
    """
    engine.create_network("storm")
    stable = engine.run("stable", network="storm")
    stable_address = engine.address(stable)
    first = engine.run("moving", network="storm")
    replica = {"moving": (0.0, {engine.address(first)})}
    lock = threading.Lock()
    wrong: list[str] = []
    missing: list[str] = []
    counts = {"answers": 0, "redeploys": 0}
    lags: list[float] = []
    stop = threading.Event()

    with start(engine, upstream) as server:

        def redeploy() -> None:
            old = first
            while not stop.is_set():
                with lock:
                    replica["moving"] = (time.monotonic(), set())  # in between: any or none
                engine.remove(old)
                filler = engine.run(network="storm")
                new = engine.run("moving", network="storm")
                address = engine.address(new)
                lags.append(until_told(server.port, address))
                engine.remove(filler)
                with lock:
                    replica["moving"] = (time.monotonic(), {address})
                    counts["redeploys"] += 1
                old = new
                stop.wait(0.1)

        def ask(number: int) -> None:
            client = Client(server.port)
            suffix = SUFFIXES[number % len(SUFFIXES)]
            while not stop.wait(ROUND_PAUSE):
                for name in ("stable", "moving"):
                    for qtype in ("A", "AAAA"):
                        with lock:
                            since, expected = replica.get(name, (0.0, {stable_address}))
                        response = client.ask(name + suffix, qtype)
                        with lock:
                            is_same = replica.get(name, (0.0, expected))[0] == since
                        counts["answers"] += 1
                        if response is None:
                            missing.append(f"{name}{suffix} {qtype}")
                            continue
                        found = {str(rr.rdata) for rr in response.rr}
                        if not expected or not is_same:
                            continue  # in the middle of a redeploy
                        right = expected if qtype == "A" else set()
                        if response.header.rcode or found != right:
                            wrong.append(f"{name}{suffix} {qtype}: {found}, not {right}")
            client.close()

        threads = [threading.Thread(target=redeploy)]
        threads += [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        while threads[0].is_alive() and (lasts := time.monotonic() - begun) < MAX_STORM:
            if lasts > STORM_SECONDS and counts["redeploys"] >= REDEPLOYS_LEAST:
                break
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join(MAX_WAIT)
        print(f"storm: {counts}, wrong {len(wrong)}, missing {len(missing)}")
        print(f"lags: {sorted(lags)}")
        assert counts["redeploys"] >= REDEPLOYS_LEAST
        assert sorted(lags)[len(lags) // 2] < 1.0
        assert wrong == []
        assert missing == []
        assert upstream.names() == []
        assert server.metric("dns_internal_errors_total") == 0


def until_told(port: int, address: str) -> float:
    """Ask until the moving container's address is told; the seconds that took."""
    begun = time.monotonic()
    with contextlib.closing(Client(port)) as client:
        while True:
            response = client.ask("moving.docker")
            assert response is not None
            if [str(rr.rdata) for rr in response.rr] == [address]:
                return time.monotonic() - begun
            assert time.monotonic() - begun < MAX_WAIT
            time.sleep(0.002)

"""What secondaries, restarts and other clients see around the first listing."""

import asyncio
import contextlib
import resource
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from dnslib import DNSRecord

from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running, serving
from tests.engine.simulated import SimulatedEngine
from tests.timing import wait_until
from tests.upstream.fakes import answer, upstream

NOWHERE = ("--upstream", "127.0.0.1:9")  # nobody listens there
CONTAINERS = 200


def transfer(server: Running) -> str:
    """What dig says about a whole zone."""
    command = ["dig", "@127.0.0.1", "-p", str(server.port), "AXFR", "docker", "+tries=1"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_no_empty_zone_is_copied_before_docker_is_listed(tmp_path: Path) -> None:
    """A secondary that took it would deny every name that it knows."""
    missing = f"unix://{tmp_path}/missing.sock"
    with serving(*NOWHERE, docker=missing, ready=False) as server:
        assert "Transfer failed" in transfer(server)
        assert server.rcode("docker", "IXFR") == "SERVFAIL"
        [explained] = server.get_json("/explain?name=docker.&type=AXFR")["queries"]
        assert explained["rcode"] == "SERVFAIL"


async def test_a_first_listing_is_one_change(tmp_path: Path) -> None:
    """A serial that counted containers would not be higher after a restart without --state."""
    async with SimulatedEngine(tmp_path / "docker.sock", containers=CONTAINERS) as engine:
        serials = []
        for _ in range(2):
            server = await asyncio.to_thread(Running, *NOWHERE, docker=engine.url)
            with server:
                serials.append(await asyncio.to_thread(server.metric, "zone_serial"))
                assert await asyncio.to_thread(server.rcode, "web-0") == "NOERROR"
            await asyncio.sleep(1.0)
        assert serials[0] <= time.time() + 2
        assert serials[1] > serials[0]


@pytest.mark.engine
def test_workers_and_the_copy_of_a_secondary_agree_after_a_first_listing(engine: Dockerd) -> None:
    engine.run("web")
    with serving(*NOWHERE, "--workers", "2", docker=engine.socket_url) as server:
        time.sleep(1.0)  # until the worker listens
        serials = {server.ask("docker", "SOA").rr[0].rdata.times[0] for _ in range(20)}
        assert len(serials) == 1
        assert f"web.docker.\t\t5\tIN\tA\t{engine.address('web')}" in transfer(server)


def test_cache_size_0_asks_each_time(tmp_path: Path) -> None:
    upstream = RecordingUpstream({"public.test-site.example": "192.0.2.7"})
    options = ("--upstream", f"127.0.0.1:{upstream.port}", "--cache-size", "0")
    missing = f"unix://{tmp_path}/missing.sock"
    with serving(*options, docker=missing, ready=False) as server:
        for _ in range(3):
            assert server.addresses("public.test-site.example") == ["192.0.2.7"]
        assert len(upstream.names()) == 3
    upstream.close()


def test_out_of_descriptors_is_one_line_and_udp_goes_on(tmp_path: Path) -> None:
    """A client that opens endless connections must not fill the log either."""
    missing = f"unix://{tmp_path}/missing.sock"
    with serving(*NOWHERE, docker=missing, ready=False) as server:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (32, 32))
        for _ in range(2):
            with contextlib.ExitStack() as connections:
                for _ in range(60):
                    address = ("127.0.0.1", server.port)
                    connections.enter_context(socket.create_connection(address))
                time.sleep(1.2)  # asyncio tries again after a second
                assert server.rcode("web.docker") == "SERVFAIL"  # nothing was listed yet
                assert server.rcode("x.localhost") == "NOERROR"
        assert server.log().count("cannot accept TCP connections") == 1
        assert "Traceback" not in server.log()
        wait_until(lambda: is_alive(server))


def is_alive(server: Running) -> bool:
    with contextlib.suppress(OSError):
        return server.get("/healthz") == "alive\n"
    return False


def test_a_state_file_out_of_reach_is_a_warning(tmp_path: Path) -> None:
    """A path below something that is no folder."""
    (tmp_path / "file").touch()
    state = tmp_path / "file" / "state.json"
    missing = f"unix://{tmp_path}/missing.sock"
    with serving(*NOWHERE, "--state", str(state), docker=missing, ready=False) as server:
        assert server.log().count("cannot be read") == 1


def sent(request: urllib.request.Request) -> str:
    """What a server sends; nothing if it says that nothing has changed."""
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request) as answer:
        return str(answer.read().decode())
    return ""


async def test_zone_is_sent_again_when_an_engine_is_lost(tmp_path: Path) -> None:
    async with SimulatedEngine(tmp_path / "docker.sock", containers=1) as engine:
        server = await asyncio.to_thread(Running, *NOWHERE, docker=engine.url)
        with server:
            request = urllib.request.Request(server.url + "/zone")
            tag = (await asyncio.to_thread(urllib.request.urlopen, request)).headers["ETag"]
            await engine.stop()
            request.add_header("If-None-Match", tag)
            await asyncio.to_thread(wait_until, lambda: "not connected" in sent(request))


async def test_an_upstreams_alias_leads_to_the_container_as_it_is_now(tmp_path: Path) -> None:
    """From the cache, too, and however often it is asked: nothing of it is kept ready-made."""

    def script(query: DNSRecord, _: str) -> bytes:
        return answer(query, "@ 3600 CNAME web-0.docker.", "web-0.docker. 3600 A 203.0.113.66")

    def check(server: Running, address: str) -> None:
        server.until([address], "web-0.docker")
        for _ in range(3):
            response = server.ask("search.example")
            records = [(r.ttl, str(r.rdata)) for r in response.rr]
            assert records[1:] == [(60, address)]
            assert records[0][0] <= 60
        [told] = server.get_json("/explain?name=search.example&type=A")["queries"]
        assert (told["rcode"], told["upstream"]) == ("NOERROR", server_name)
        assert [record["data"] for record in told["records"]] == [address]

    async with (
        SimulatedEngine(tmp_path / "docker.sock", containers=1) as engine,
        upstream(script) as fake,
    ):
        server_name = f"127.0.0.1:{fake.port}"
        options = ("--upstream", server_name, "--ttl", "60")
        [container_id] = engine.ids()
        with await asyncio.to_thread(Running, *options, docker=engine.url) as server:
            before = await asyncio.to_thread(server.addresses, "web-0.docker")
            await asyncio.to_thread(check, server, before[0])
            engine.move(container_id, "172.31.99.99")
            await asyncio.to_thread(check, server, "172.31.99.99")
            engine.die(container_id)
            await asyncio.to_thread(server.until, [], "web-0.docker")
            assert await asyncio.to_thread(server.rcode, "search.example") == "NXDOMAIN"
            assert await asyncio.to_thread(server.metric, "dns_internal_errors_total") == 0

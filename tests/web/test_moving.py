"""Whether each metric and document of the running program moves with what it tells of."""

import asyncio
import json
import signal
import socket
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dnslib

from tests.engine.running import Client, RecordingUpstream, Running, serving
from tests.engine.simulated import SimulatedEngine
from tests.timing import wait_until

PUBLIC = {"public.example": "192.0.2.7"}


def with_server(
    tmp_path: Path, test: Callable[[Running, SimulatedEngine, Callable[..., Any]], None], *more: str
) -> None:
    """Run a test in a thread beside a simulated Engine, which it changes by `at`."""

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def at(change: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            async def changed() -> Any:
                return change(*arguments, **named)

            return asyncio.run_coroutine_threadsafe(changed(), loop).result()

        upstream = RecordingUpstream(PUBLIC)
        options = ("--upstream", f"127.0.0.1:{upstream.port}", *more)
        async with SimulatedEngine(tmp_path / "docker.sock", containers=1) as engine:

            def tested() -> None:
                with serving(*options, docker=engine.url) as server:
                    test(server, engine, at)

            await asyncio.to_thread(tested)
        upstream.close()

    asyncio.run(run())


def _sockets(port: int) -> int:
    """How many UDP sockets are bound to a port, as the system tells (proc_net_udp(5))."""
    lines = Path("/proc/net/udp").read_text().splitlines()
    return sum(line.split()[1].endswith(f":{port:04X}") for line in lines[1:])


def ask_over_tcp(server: Running, name: str, qtype: str = "A") -> None:
    query = bytes(dnslib.DNSRecord.question(name, qtype).pack())
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as asking:
        asking.sendall(len(query).to_bytes(2, "big") + query)
        assert len(asking.recv(65535)) > 12


def test_every_metric_counts_what_it_says(tmp_path: Path) -> None:
    def test(server: Running, engine: SimulatedEngine, at: Callable[..., Any]) -> None:
        metric = server.metric
        udp, kept = (
            metric("dns_requests_total", proto="udp"),
            metric("names_kept_from_upstream_total"),
        )
        for name in ("web-0.docker", "web-0.docker", "public.example", "public.example"):
            assert server.rcode(name) == "NOERROR"
        assert server.rcode("nobody") == "NXDOMAIN"
        server.ask("web-0.docker", "TYPE65400")
        ask_over_tcp(server, "web-0.docker", "AAAA")
        assert metric("dns_requests_total", proto="udp") == udp + 6
        assert metric("dns_requests_total", proto="tcp", type="AAAA") == 1
        assert metric("dns_requests_total", type="other") == 1
        assert metric("dns_responses_total", rcode="NOERROR", source="zone") == 4
        assert metric("dns_responses_total", source="upstream") == 1
        assert metric("dns_responses_total", source="cache") == 1
        assert metric("dns_responses_total", rcode="NXDOMAIN") == 1
        for source, count in (("zone", 4), ("upstream", 1), ("cache", 1)):
            found = metric("dns_request_duration_seconds_count", source=source)
            assert found == metric("dns_responses_total", source=source) >= count
        assert metric("names_kept_from_upstream_total") > kept
        assert (metric("cache_hits_total"), metric("cache_entries")) == (1, 1)
        assert metric("cache_misses_total") == 1
        assert metric("upstream_requests_total", rcode="NOERROR") == 1
        assert metric("upstream_duration_seconds_count") >= 1
        assert metric("upstream_healthy") == 1
        assert metric("docker_connected", engine=engine.url) == 1
        assert metric("docker_resyncs_total", engine=engine.url, reason="start") == 1
        assert metric("docker_last_sync_timestamp_seconds") > 1e9
        assert metric("build_info") == 1

        serial, changes = metric("zone_serial"), metric("zone_changes_total")
        names, records = metric("zone_names"), metric("zone_records", type="A")
        added = at(engine.add, "second")
        server.until(["172.28.0.2"], "second")
        assert metric("docker_events_total", engine=engine.url, action="start") == 1
        assert metric("docker_event_lag_seconds_count") >= 1
        assert metric("containers", state="running") == 2
        wait_until(lambda: metric("zone_serial") > serial)  # which waits for the next second
        assert metric("zone_changes_total") > changes
        assert metric("zone_names") > names
        assert metric("zone_records", type="A") > records

        at(engine.die, added)
        server.until([], "second")
        assert (metric("containers", state="running"), metric("containers", state="exited")) == (
            1,
            1,
        )
        assert (metric("zone_names"), metric("zone_records", type="A")) == (names, records)
        at(engine.remove, added)
        wait_until(lambda: metric("containers", state="exited") == 0)
        assert 'containers{state="exited"} 0.0' in server.get("/metrics")

        at(engine.die, engine.ids()[0])
        server.until([], "web-0")
        text = server.get("/metrics")
        assert 'containerdns_containers{state="running"} 0.0' in text
        assert 'containerdns_zone_records{type="SRV"} 0.0' in text
        assert "containerdns_tcp_connections 0.0" in text
        with socket.create_connection(("127.0.0.1", server.port)):
            wait_until(lambda: metric("tcp_connections") == 1)
        wait_until(lambda: metric("tcp_connections") == 0)

    with_server(tmp_path, test)


def test_id_is_that_of_a_container_or_null(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.9 printer\n")

    def test(server: Running, _engine: SimulatedEngine, _at: Callable[..., Any]) -> None:
        wait_until(lambda: server.addresses("printer") == ["192.0.2.9"])
        records = server.get_json("/zone?format=json")["records"]
        ids = {(r["name"], r["container"]): r["id"] for r in records}
        assert ids["printer.docker.", None] is None
        assert ids["host.docker.", None] is None
        assert ids["web-0.docker.", "web-0"] == "000000000001"
        assert {r["rule"] for r in records if r["name"] == "printer."} == {f"hosts file {hosts}"}

    with_server(tmp_path, test, "--hosts", str(hosts))


def test_queries_of_several_workers_are_in_the_order_of_their_times(tmp_path: Path) -> None:
    def test(server: Running, _engine: SimulatedEngine, _at: Callable[..., Any]) -> None:
        wait_until(lambda: _sockets(server.port) == 2)
        for number in range(100):  # each from a port of its own, which chooses the worker
            client = Client(server.port)
            assert client.ask(f"nobody-{number}") is not None
            client.close()
        wait_until(lambda: len(server.get_json("/queries")["queries"]) == 100)
        times = [query["time"] for query in server.get_json("/queries")["queries"]]
        assert times == sorted(times)

    with_server(tmp_path, test, "--workers", "2")


def test_chart_and_list_of_the_page_give_a_query_the_same_outcome(tmp_path: Path) -> None:
    """A container that answers is no name that was kept from upstream."""

    def test(server: Running, _engine: SimulatedEngine, _at: Callable[..., Any]) -> None:
        for name, count in (("web-0", 3), ("nobody", 2), ("public.example", 1)):
            for _ in range(count):
                server.ask(name)
        listed = Counter(q["outcome"] for q in server.get_json("/queries")["queries"])
        assert listed == {"zone": 3, "kept": 2, "upstream": 1}
        wait_until(lambda: sum(_charted(server).values()) >= 6)
        assert _charted(server) == listed

    with_server(tmp_path, test)


def _charted(server: Running) -> Counter[str]:
    """The sums of what the page's chart shows."""
    with urllib.request.urlopen(server.url + "/events", timeout=10) as stream:
        assert stream.readline() == b"event: rates\n"
        points = json.loads(stream.readline().removeprefix(b"data: "))
    return +sum((Counter(point) for point in points), Counter())


def test_every_worker_takes_other_settings_over(tmp_path: Path) -> None:
    """SIGHUP reaches the one that watches; the others hear of it from there."""
    config = tmp_path / "containerdns.toml"
    config.write_text("ttl = 5\n")

    def test(server: Running, engine: SimulatedEngine, at: Callable[..., Any]) -> None:
        def seen(name: str) -> set[int]:
            found = set()
            for _ in range(24):  # from as many ports: every process gets some of them
                client = Client(server.port)
                response = client.ask(name)
                client.close()
                found.add(response.rr[0].ttl if response is not None and response.rr else -1)
            return found

        wait_until(lambda: _sockets(server.port) == 2)
        wait_until(lambda: seen("web-0.docker") == {5})
        config.write_text('ttl = 7\ndomain = ["lab"]\nlabel-prefix = "other"\n')
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: seen("web-0.lab") == {7})
        at(engine.add, "late")
        wait_until(lambda: seen("late.lab") == {7})

    with_server(tmp_path, test, "--workers", "2", "--config", str(config))

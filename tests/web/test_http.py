"""What each path gives, and to whom; over a real socket, with a fake of what lies behind."""

import asyncio
import gc
import gzip
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from containerdns.config import values
from containerdns.core.connections.places import Limits
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.errors import CannotListen
from containerdns.tasks.turns import MAX_SLICE
from containerdns.web import stream
from containerdns.web.http import HTTPServer
from containerdns.web.state import Document
from containerdns.web.stream import Rates
from tests.timing import MAX_WAIT, assert_within, best_of_three
from tests.web.fake import CHANGE, QUERY, RECORD, FakeState
from tests.web.serving import Got, Site, running_site, with_site

PATHS = [
    "/",
    "/zone",
    "/explain?name=web",
    "/queries",
    "/changes",
    "/containers",
    "/status",
    "/metrics",
    "/openapi.json",
    "/healthz",
    "/readyz",
]


def assert_problem(got: Got, status: int) -> Any:
    assert got.status == status
    assert got.headers["Content-Type"] == "application/problem+json"
    document = json.loads(got.body)
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_answers_get_and_head(path: str) -> None:
    async with running_site() as site:
        got, head = await site.get(path), await site.get(path, method="HEAD")
        assert (got.status, head.status) == (200, 200)
        assert got.body
        assert not head.body
        assert head.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize("path", ["/explain", "/zone?domain=nope", "/queries?x=1", "/nowhere"])
async def test_head_has_the_status_and_type_of_errors_too(path: str) -> None:
    """RFC 9110 section 9.3.2."""
    async with running_site() as site:
        got, head = await site.get(path), await site.get(path, method="HEAD")
        assert head.status == got.status >= 400
        assert not head.body
        assert head.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize("path", [*PATHS, "/events", "/nowhere"])
async def test_client_outside_allow_gets_nothing(path: str) -> None:
    async with running_site(FakeState(may_ask=False)) as site:
        assert "--allow" in assert_problem(await site.get(path), 403)["detail"]


async def test_zone_is_a_master_file_for_people() -> None:
    async with running_site() as site:
        got = await site.get("/zone", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
        assert got.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert got.text == "web.docker. 5 IN A 172.18.0.2\n"


@pytest.mark.parametrize(
    ("path", "accept", "is_json"),
    [
        ("/zone", "*/*", False),
        ("/zone", "application/json", True),
        ("/zone", "application/json, text/plain, */*", False),
        ("/zone", "application/json, text/plain;q=0.5", True),
        ("/zone", "application/json;q=0", False),
        ("/zone?format=json", "text/plain", True),
        ("/zone?format=text", "application/json", False),
        ("/explain?name=web", "*/*", True),
        ("/explain?name=web", "text/plain", False),
        ("/explain?name=web&format=text", "*/*", False),
    ],
)
async def test_form_is_chosen_by_parameter_then_accept(
    path: str, accept: str, is_json: bool
) -> None:
    async with running_site() as site:
        got = await site.get(path, Accept=accept)
        assert got.headers["Content-Type"].startswith("application/json") == is_json


async def test_zone_as_json_has_the_shape_of_the_contract() -> None:
    async with running_site() as site:
        document = await site.json("/zone?format=json&name=WEB.docker")
        assert document["records"] == [RECORD]
        assert set(document) >= {"serial", "engines", "zones", "records", "skipped", "remembered"}


@pytest.mark.parametrize(
    "path",
    [
        "/zone?format=xml",
        "/zone?domain=a..b",
        "/zone?name=" + "a" * 64,
        "/zone?doman=docker",
        "/zone?name=a&name=b",
        "/explain",
        "/explain?name=a..b",
        "/explain?name=web&type=NONSENSE",
        "/explain?name=web&client=web",
        "/explain?name=web&client=fe80::1%25eth0",
        "/explain?name=",
        "/explain?name=web&search=a..b",
        "/zone?name=" + "a." * 127 + "a",
        "/queries?limit=3",
    ],
)
async def test_bad_parameter_is_told(path: str) -> None:
    async with running_site() as site:
        assert_problem(await site.get(path), 400)


async def test_name_that_is_none_is_told_with_its_parameter() -> None:
    async with running_site() as site:
        for path, parameter in (("/zone?domain=a..b", "domain"), ("/explain?name=a..b", "name")):
            detail = assert_problem(await site.get(path), 400)["detail"]
            assert detail == f"{parameter}='a..b': expected a domain name (empty label)"
        detail = assert_problem(await site.get("/zone?domain=nowhere.example"), 404)["detail"]
        assert detail.startswith("domain='nowhere.example': expected a zone of this server")


async def test_unknown_zone_is_not_found() -> None:
    async with running_site() as site:
        assert_problem(await site.get("/zone?domain=nowhere.example"), 404)
        assert_problem(await site.get("/zone?format=json&domain=nowhere.example"), 404)


async def test_other_paths_and_methods_are_problems() -> None:
    async with running_site() as site:
        assert_problem(await site.get("/nowhere"), 404)
        assert_problem(await site.get("/static/../http.py"), 404)
        assert_problem(await site.get("/static/nothing.js"), 404)
        got = await site.get("/zone", method="POST")
        assert_problem(got, 405)
        assert got.headers["Allow"] == "GET,HEAD"


async def test_what_is_no_http_is_told_and_closed() -> None:
    async with running_site() as site:
        answer = await raw(site, b"\x16\x03\x01\x02\x00\r\n\r\n")
        assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        assert b"application/problem+json" in answer
        answer = await raw(site, b"GET /zone?name=" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b" 400 " in answer.splitlines()[0]


@pytest.mark.parametrize(
    "request_octets",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: a cat\r\nConnection: close\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: a\r\nExpect: a cat\r\nConnection: close\r\n\r\n",
    ],
    ids=["a word", "TLS", "method", "version", "no Host", "two Hosts", "header", "length",
         "long header", "expectation", "expectation nowhere"],
)  # fmt: skip
async def test_malformed_request_is_a_problem_as_all_others(request_octets: bytes) -> None:
    """RFC 9457, and not the name and version of a library for attackers."""

    async with running_site() as site:
        head, _, body = (await raw(site, request_octets)).partition(b"\r\n\r\n")
        status = int(head.split()[1])
        assert status in (400, 417)
        headers = head.decode().split("\r\n")
        assert "Content-Type: application/problem+json" in headers
        assert [line for line in headers if line.startswith("Server:")] == ["Server: containerdns"]
        assert "X-Content-Type-Options: nosniff" in headers
        document = json.loads(body)
        assert document["status"] == status
        assert "\n" not in document["detail"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("[fd00::1]", 200),
        ("localhost", 200),
        ("web.docker:8080", 200),
        ("HOST.docker", 200),
        ("web.docker.", 200),
        ("dns.corp.example:80", 200),
        ("evil.example", 421),
        ("evil.example:8080", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[web].evil.example", 421),
        ("[web]", 421),
        ("[::1", 421),
        ("[::1]x", 421),
        ("web:http", 421),
        ("web/", 421),
    ],
)
async def test_host_that_is_not_ours_is_refused(host: str, status: int) -> None:
    """DNS rebinding: a page of evil.example must not read the zone as its own origin."""

    async with running_site(hosts=("DNS.corp.example.",)) as site:
        for path in ("/", "/zone", "/queries"):
            got = await site.get(path, Host=host)
            assert got.status == status
        if status == 421:
            assert "--http-host" in assert_problem(got, 421)["detail"]
        for path in ("/metrics", "/healthz", "/readyz"):
            assert (await site.get(path, Host=host)).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"", b"400"),
        (b"Host: localhost\r\nHost: evil.example\r\n", b"400"),
        (b"Host: localhost\r\n", b"200"),
    ],
)
async def test_exactly_one_host_is_expected(headers: bytes, status: bytes) -> None:
    async with running_site() as site:
        request = b"GET /zone HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n"
        assert (await raw(site, request)).split()[1] == status


async def test_zone_is_not_sent_again_until_the_serial_changes() -> None:
    async with running_site() as site:
        tag = (await site.get("/zone")).headers["ETag"]
        assert str(site.state.number) in tag
        assert (await site.get("/zone?format=json")).headers["ETag"] != tag
        again = await site.get("/zone", If_None_Match=f'"other", {tag}')
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
        site.state.number += 1
        assert (await site.get("/zone", If_None_Match=tag)).status == 200


@pytest.mark.parametrize("path", ["/", "/zone", "/zone?format=json", "/containers", "/metrics"])
async def test_answers_are_compressed_for_who_can(path: str) -> None:
    async with running_site() as site:
        request = f"GET {path} HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"
        head, _, body = (await raw(site, request.encode())).partition(b"\r\n\r\n")
        assert b"Content-Encoding: gzip" in head
        assert gzip.decompress(body)


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip", True),
        ("GZIP, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("x-gzip", True),
        ("", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("br", False),
        ("deflate", False),
        ("gzipped", False),
    ],
)
async def test_answers_are_compressed_for_nobody_else(accepted: str, is_compressed: bool) -> None:
    """RFC 9110 section 12.5.3."""

    async with running_site() as site:
        for path in ("/", "/zone", "/explain?name=web", "/status", "/metrics", "/openapi.json"):
            request = f"GET {path} HTTP/1.0\r\nHost: a\r\nAccept-Encoding: {accepted}\r\n\r\n"
            head, _, body = (await raw(site, request.encode())).partition(b"\r\n\r\n")
            assert (b"Content-Encoding: gzip" in head) == is_compressed, path
            assert (b"Content-Encoding" in head) == is_compressed, path
            assert body.startswith(b"\x1f\x8b") == is_compressed, path
            assert b"Accept-Encoding" in head, path  # of Vary, for caches in between


async def test_headers_keep_browsers_strict() -> None:
    async with running_site() as site:
        for path in ("/", "/zone", "/nowhere"):
            headers = (await site.get(path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Server"] == "containerdns"
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    ("domain", "images"),
    [("docker.", "'self' http://*.docker"), ("_x.test.", "'self'")],
    ids=["any", "not a host of CSP"],
)
async def test_page_alone_may_look_up_names_of_ours(domain: str, images: str) -> None:
    class Named(FakeState):
        def status(self) -> Document:
            return {**super().status(), "domains": [domain]}

    async with running_site(Named()) as site:
        page, zone = await site.get("/"), await site.get("/zone")
        assert f"img-src {images};" in page.headers["Content-Security-Policy"]
        assert "img-src 'self';" in zone.headers["Content-Security-Policy"]


async def test_explain_asks_for_each_suffix_and_for_the_client() -> None:
    async with running_site() as site:
        path = "/explain?name=web&search=localdomain,corp.example&search=docker"
        queries = (await site.json(path))["queries"]
        names = ["web.localdomain.", "web.corp.example.", "web.docker.", "web."]
        assert [query["name"] for query in queries] == names
        assert "asked by 127.0.0.1" in queries[-1]["reason"]
        text = (await site.get("/explain?name=web&format=text&client=172.18.0.9")).text
        assert "1. web. A: 172.18.0.2, TTL 5 (zone)" in text
        assert "asked by 172.18.0.9" in text
        assert "5 A 172.18.0.2" in text


async def test_history_of_others_is_for_who_may_see_it() -> None:
    async with running_site() as site:
        site.state.history.append({**QUERY, "client": "172.18.0.9"})
        assert len((await site.json("/queries"))["queries"]) == 2
        site.state.may_see_history = False
        assert (await site.json("/queries"))["queries"] == [QUERY]


EVENTS = {"Accept": "text/event-stream"}
NEWS: dict[str, Document] = {
    "/queries": {**QUERY, "name": "new."},
    "/changes": {**CHANGE, "container": "shop"},
}


@pytest.mark.parametrize("path", NEWS)
async def test_news_is_streamed_as_it_comes(path: str) -> None:
    async with (
        running_site() as site,
        site.session.get(site.url + path, headers=EVENTS) as response,
    ):
        assert response.content_type == "text/event-stream"
        await response.content.readuntil(b"\n\n")
        (site.state.history if path == "/queries" else site.state.changed).append(NEWS[path])
        event = await asyncio.wait_for(response.content.readuntil(b"\n\n"), MAX_WAIT)
        assert json.loads(event.removeprefix(b"data: ")) == NEWS[path]


async def test_changes_are_listed() -> None:
    async with running_site() as site:
        assert (await site.json("/changes"))["changes"] == [CHANGE]


async def test_stream_ends_when_a_reload_takes_the_right_to_ask() -> None:
    """`--allow` holds for HTTP; a page may be open for days."""
    async with running_site() as site, site.session.get(site.url + "/events") as response:
        await response.content.readuntil(b"\n\n")
        site.state.may_ask = False
        await asyncio.wait_for(response.content.read(), MAX_WAIT)


async def test_client_config_is_for_the_address_that_was_reached() -> None:
    async with running_site() as site:
        for headers, query, server in (
            ({}, "", "127.0.0.1:53"),
            ({"Host": "[::1]:8080"}, "", "::1:53"),
            ({"Host": "web.docker"}, "", "127.0.0.1:53"),
            ({}, "?server=10.8.0.1", "10.8.0.1:53"),
        ):
            document = await site.json(f"/client-config{query}", **headers)
            assert document["servers"] == [server]
        assert_problem(await site.get("/client-config?server=web"), 400)


async def test_page_stream_has_status_queries_and_changes() -> None:
    async with running_site() as site:
        async with site.session.get(site.url + "/events") as response:
            seen: dict[str, Any] = {}
            while not {"rates", "queries", "changes", "status"} <= set(seen):
                event = await asyncio.wait_for(response.content.readuntil(b"\n\n"), MAX_WAIT)
                kind, data = event.decode().rstrip().split("\n", 1)
                seen[kind.removeprefix("event: ")] = json.loads(data.removeprefix("data: "))
        assert not any(sum(point.values()) for point in seen["rates"])
        assert seen["queries"] == [QUERY]
        assert seen["changes"] == [CHANGE]
        assert seen["status"]["serial"] == site.state.number
        assert seen["status"]["ready"] is True


async def test_streams_are_limited_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_STREAMS_OF_CLIENT", 1)

    async with running_site() as site:
        for _ in range(2):
            async with site.session.get(site.url + "/events") as response:
                assert response.status == 200
                assert_problem(await site.get("/events"), 503)
            deadline = time.monotonic() + MAX_WAIT
            while (await site.get("/events", method="HEAD")).status != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)


def test_rates_are_the_growth_by_outcome() -> None:
    counters = Counters()
    rates = Rates(counters)
    for source, rcode, count in (("zone", 0, 3), ("policy", 3, 2), ("zone", 5, 1), ("cache", 0, 1)):
        counters.answered(rcode, source, count)
        counters.took(source, 0.001, count)
    rates.take()
    rates.take()
    none = {"zone": 0, "cache": 0, "upstream": 0, "kept": 0, "refused": 0}
    first = {"zone": 3, "cache": 1, "upstream": 0, "kept": 2, "refused": 1}
    assert (list(rates.points), rates.taken) == ([first, none], 2)


async def test_ready_is_503_with_the_reason_until_it_is() -> None:
    async with running_site() as site:
        site.state.unready = "unix:///var/run/docker.sock was not listed yet"
        got = await site.get("/readyz")
        assert (got.status, got.text) == (503, site.state.unready + "\n")
        assert (await site.get("/healthz")).status == 200
        site.state.unready = ""
        assert (await site.get("/readyz")).status == 200


async def test_fault_of_ours_is_counted_and_told_without_details() -> None:
    async with running_site() as site:
        site.state.history = None  # type: ignore[assignment]
        got = await site.get("/queries")
        assert "NoneType" not in assert_problem(got, 500)["detail"]
        assert site.counters.internal_errors == 1


async def test_fault_in_the_middle_breaks_the_connection() -> None:
    """Half a zone must not look like a whole one."""

    class Broken(FakeState):
        def zone_text(self, domain: str | None, name: str | None) -> Iterator[str]:
            del domain, name
            yield "web.docker. 5 IN A 172.18.0.2"
            raise ValueError

    async with running_site(Broken()) as site:
        answer = await raw(site, b"GET /zone HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not answer.endswith(b"0\r\n\r\n")
        assert site.counters.internal_errors == 1


@best_of_three
def test_big_zone_does_not_hold_up_others() -> None:
    """10,000 containers of ten records each; the DNS server waits for the same thread.

    In our own time, as others may have the CPU meanwhile.
    """
    longest = 0.0

    async def test(site: Site) -> None:
        site.state.records = [{**RECORD, "name": f"web{n}.docker."} for n in range(100_000)]

        async def watch() -> None:
            nonlocal longest
            while True:
                before = time.thread_time()
                await asyncio.sleep(0)
                longest = max(longest, time.thread_time() - before)

        watcher = asyncio.create_task(watch())
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"GET /zone?format=json HTTP/1.0\r\nHost: a\r\n\r\n")
        octets = 0
        while part := await reader.read(1 << 16):
            octets += len(part)
        writer.close()
        watcher.cancel()
        assert octets > 10_000_000

    gc.disable()  # a full collection of all that pytest holds takes longer
    try:
        with_site(test)
    finally:
        gc.enable()
    assert_within(longest, 0.025)  # 5 ms without the noise of a slow machine


def test_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen) as caught:
            HTTPServer(Endpoint("127.0.0.1", port), FakeState(), Counters())
    said = str(caught.value)
    here = f"(process {os.getpid()}) on 127.0.0.1:{port}"
    assert said.startswith(f"cannot listen on 127.0.0.1:{port} (HTTP): in use by ")
    [works] = re.findall(re.escape(here) + r"; try --http (\S+), or off$", said)
    HTTPServer(values.endpoint(works), FakeState(), Counters()).close()


async def test_connection_that_asks_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("containerdns.web.http.REQUEST_TIMEOUT", 0.1)

    async with running_site() as site:
        assert await raw(site, b"GET /zone HTTP/1.1\r\n") == b""


async def test_longest_idle_connection_makes_room_for_the_next() -> None:
    """As over TCP: nobody is turned away as others have come first."""

    async with running_site(limits=Limits(8, 3)) as site:
        first = await asyncio.open_connection("127.0.0.1", site.port)
        others = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(2)]
        assert (await site.get("/healthz")).status == 200
        assert await asyncio.wait_for(first[0].read(), MAX_WAIT) == b""
        for _, writer in [first, *others]:
            writer.close()


async def test_strangers_keep_no_client_out() -> None:
    """256 connections of one stranger made the health check of the container fail."""

    class Choosy(FakeState):
        def rights(self, client: str) -> tuple[bool, bool]:
            return client == "127.0.0.1", False

    async with running_site(Choosy()) as site:
        strangers = [
            await asyncio.open_connection(
                "127.0.0.1", site.port, local_addr=(f"127.0.1.{number % 8}", 0)
            )
            for number in range(256)
        ]
        assert (await site.get("/readyz")).status == 200
        request = b"GET /zone HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        strangers[-1][1].write(request)
        answer = await asyncio.wait_for(strangers[-1][0].read(), MAX_WAIT)
        assert answer.split()[1] == b"403"
        for _, writer in strangers:
            writer.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "iframe",
                "Sec-Fetch-User": "?1",
            },
            403,
        ),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            403,
        ),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
                "Sec-Fetch-User": "?1",
            },
            200,
        ),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8080", "Host": "localhost:8080"}, 200),
        ({"Origin": "http://localhost:3000", "Host": "localhost:8080"}, 403),
    ],
    ids=["curl", "our page", "typed", "other site", "other port of ours", "sent elsewhere", "frame",
         "opened by a script", "clicked on", "origin", "sandboxed", "our origin", "other port"],
)  # fmt: skip
async def test_page_of_another_site_cannot_ask(headers: dict[str, str], status: int) -> None:
    """CORS hides the answer only: a page could have any visitor's browser send what is costly."""

    async with running_site() as site:
        for path in ("/explain?name=web", "/zone", "/events"):
            named = {name.replace("-", "_"): value for name, value in headers.items()}
            got = await site.get(path, method="HEAD", **named)
            assert got.status == status, path


async def test_page_may_be_linked_from_anywhere() -> None:
    async with running_site() as site:
        fetched = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
        assert (await site.get("/", Sec_Fetch_Site="cross-site", **fetched)).status == 200


@pytest.mark.parametrize(("count", "status"), [(16, 200), (17, 400)])
async def test_search_list_of_an_explanation_is_bounded(count: int, status: int) -> None:
    async with running_site() as site:
        listed = ",".join(f"s{n}.example" for n in range(count))
        repeated = "&".join(f"search=s{n}.example" for n in range(count))
        blank = f"search=a.example{'&search=+' * (count - 1)}"
        for query in (f"search={listed}", repeated, blank):
            path = f"/explain?name=web&{query}"
            got = await site.get(path)
            assert got.status == status
            if status == 400:
                assert "at most 16" in assert_problem(got, 400)["detail"]


async def test_requests_of_many_connections_share_the_turns() -> None:
    """Counted, not timed: of all connections together, a pass of the loop lets one go on."""

    class Slow(FakeState):
        served = 0

        def status(self) -> Document:
            Slow.served += 1
            until = time.perf_counter() + MAX_SLICE
            while time.perf_counter() < until:
                pass
            return super().status()

    async with running_site(Slow()) as site:
        asking = [await asyncio.open_connection("127.0.0.1", site.port) for _ in range(30)]
        for _, writer in asking:
            writer.write(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
        most, before = 0, 0
        while Slow.served < 150:
            await asyncio.sleep(0)
            most, before = max(most, Slow.served - before), Slow.served
        assert most <= 4  # two each, as the passes seen from here may overlap
        for _, writer in asking:
            writer.close()


@best_of_three
async def test_open_streams_do_not_hold_up_the_stop() -> None:
    """SIGTERM stops within a second, even with clients on the event stream."""
    server = HTTPServer(Endpoint("127.0.0.1", 0), FakeState(), Counters())
    running = asyncio.create_task(server.run())
    async with aiohttp.ClientSession() as session:
        urls = [f"http://{server.endpoint}/{path}" for path in ("events", "zone")]
        streams = [await session.get(url) for url in urls]
        before = asyncio.get_running_loop().time()
        running.cancel()
        await asyncio.wait([running], timeout=MAX_WAIT)
        took = asyncio.get_running_loop().time() - before
        for stream in streams:
            stream.close()
    assert_within(took, 0.8)


async def raw(site: Site, data: bytes) -> bytes:
    """Send octets, and give all that comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), MAX_WAIT)
    except ConnectionError:  # what we sent came after the close
        return b""
    finally:
        writer.close()

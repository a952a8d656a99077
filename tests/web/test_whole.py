"""The page and the interface of the whole program, with a real Engine behind it."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from playwright.async_api import Page, expect

from tests.engine.dockerd import Dockerd
from tests.timing import MAX_WAIT, wait_until
from tests.web.browsing import opened, shared_browser
from tests.web.fake import HOSTILE
from tests.web.test_openapi import STREAMING

EVENTUALLY = 120_000  # ms for what takes the Engine some time


@contextmanager
def program(engine_url: str) -> Iterator[tuple[str, str]]:
    """Run containerdns; give the URL of its HTTP and its DNS address and port."""
    options = [
        *("--docker", engine_url, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"),
        *("--upstream", "127.0.0.1:9"),  # nobody there: nothing leaves the machine
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "containerdns", "serve", *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stderr is not None
        said = ""
        try:
            deadline = time.monotonic() + MAX_WAIT
            while "HTTP on" not in said and time.monotonic() < deadline:
                said += process.stderr.readline()
            dns, http = re.findall(r"127\.0\.0\.1:(\d+)", said[said.index("DNS on") :])
            yield f"http://127.0.0.1:{http}", dns
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=MAX_WAIT)


def json_of(url: str) -> Any:
    with urlopen(Request(url, headers={"Accept": "application/json"})) as response:
        return json.load(response)


def answer_of(line: str) -> str:
    """Run a line of dig, and give the data of the answer."""
    ran = subprocess.run([*line.split(), "+short"], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def with_page(engine_url: str, test: Callable[[Page, str], Awaitable[None]]) -> None:
    """Run the program, open its page, run the test; nothing of ours may have failed."""

    async def run(url: str, port: str) -> None:
        async with opened(url + "/") as page:
            await test(page, port)

    with program(engine_url) as (url, port):
        shared_browser.run(run(url, port))
        with urlopen(url + "/metrics") as response:
            assert b"\ncontainerdns_dns_internal_errors_total 0.0\n" in response.read()


def test_page_follows_the_life_of_a_container(engine: Dockerd) -> None:
    async def test(page: Page, _port: str) -> None:
        shown = page.locator("#container-list")
        await expect(shown).to_contain_text("No containers yet", timeout=EVENTUALLY)
        container = engine.run(
            "shop",
            healthcheck={"Test": ["CMD", "test", "!", "-e", "/sick"], "Interval": 1_000_000_000},
        )
        await expect(shown).to_contain_text("shop", timeout=EVENTUALLY)
        await expect(shown).to_contain_text(engine.address(container))
        await expect(shown).to_contain_text("healthy", timeout=EVENTUALLY)
        await page.click(".container summary")
        await expect(page.locator(".more")).to_contain_text(container[:12])
        engine.rename(container, "store")
        await expect(page.locator(".called")).to_have_text("store", timeout=EVENTUALLY)
        engine.execute(container, "touch", "/sick")
        await expect(shown).to_contain_text("unhealthy", timeout=EVENTUALLY)
        engine.remove(container)
        await expect(shown).to_contain_text("No containers yet", timeout=EVENTUALLY)

    with_page(engine.socket_url, test)


def test_hostile_label_injects_nothing(engine: Dockerd) -> None:
    labels = {"containerdns.names": HOSTILE, "com.docker.compose.service": HOSTILE}

    async def test(page: Page, _port: str) -> None:
        await expect(page.locator(".container")).to_have_count(1, timeout=EVENTUALLY)
        await page.click(".container summary")
        await asyncio.sleep(0.5)
        assert await page.locator("img[src=x]").count() == 0
        assert await page.title() == "containerdns"

    engine.run("shop", labels=labels)
    with_page(engine.socket_url, test)


def test_queries_and_their_explanation_are_shown(engine: Dockerd) -> None:
    async def test(page: Page, port: str) -> None:
        await expect(page.locator(".container")).to_have_count(1, timeout=EVENTUALLY)
        assert answer_of(f"dig @127.0.0.1 -p {port} shop.docker")
        row = page.locator("#query-list .query")
        await expect(row).to_contain_text("shop.docker. A")
        await page.click("#query-list button")
        steps = page.locator(".steps > li")
        await expect(steps).to_have_count(1)
        await expect(steps).to_contain_text("NOERROR")
        await expect(steps).to_contain_text("shop")

    engine.run("shop")
    with_page(engine.socket_url, test)


def test_what_the_copy_buttons_give_works(engine: Dockerd) -> None:
    async def test(page: Page, port: str) -> None:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.click(".container .copy", timeout=EVENTUALLY)
        name = await page.evaluate("navigator.clipboard.readText()")
        assert name == "shop.docker"
        assert answer_of(f"dig @127.0.0.1 -p {port} {name}") == engine.address(container)
        await page.fill("#explain-name", name)
        await page.click("#explain-form .main")
        await page.click(".steps .copy >> nth=0")
        line = await page.evaluate("navigator.clipboard.readText()")
        assert answer_of(line) == engine.address(container)

    container = engine.run("shop")
    with_page(engine.socket_url, test)


def test_page_without_docker_says_what_to_do(tmp_path: Path) -> None:
    async def test(page: Page, _port: str) -> None:
        notice = page.locator(".notice").first
        await expect(notice).to_contain_text("nothing.sock", timeout=EVENTUALLY)
        await expect(notice).to_contain_text("-v /var/run/docker.sock")

    with_page(f"unix://{tmp_path}/nothing.sock", test)


def test_documents_are_described_as_they_are(engine: Dockerd) -> None:
    schemas = json.loads(
        (Path(__file__).parents[2] / "containerdns/web/static/openapi.json").read_text()
    )["components"]["schemas"]
    engine.run("shop")
    with program(engine.socket_url) as (url, _):
        wait_until(lambda: json_of(f"{url}/containers")["containers"])
        query = json_of(f"{url}/explain?name=shop")["queries"][0]
        explained = schemas["Explanation"]["properties"]["queries"]["items"]
        assert set(query) <= set(explained["properties"])
        container = json_of(f"{url}/containers")["containers"][0]
        contained = schemas["Containers"]["properties"]["containers"]["items"]
        assert set(container) <= set(contained["properties"])
        for path, schema in (("zone", "Zone"), ("status", "Status"), ("containers", "Containers")):
            assert set(json_of(f"{url}/{path}")) <= set(schemas[schema]["properties"]), path


def test_schemathesis_finds_nothing(engine: Dockerd, tmp_path: Path) -> None:
    """Systematic requests to the whole program; test_openapi has random ones."""
    schemathesis = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if schemathesis is None:
        pytest.skip("schemathesis is not installed")
    engine.run("shop", labels={"containerdns.ttl": "7", "containerdns.txt": "hello"})
    with program(engine.socket_url) as (url, _):
        ran = subprocess.run(
            [
                *(schemathesis, "run", url + "/openapi.json"),
                *("--exclude-path-regex", STREAMING, "--exclude-method", "HEAD"),
                *("--phases", "examples,coverage"),
                *("--seed", "1", "--request-timeout", "60", "--no-color"),
                *("--suppress-health-check", "all"),  # of how fast a machine is
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert ran.returncode == 0, ran.stdout

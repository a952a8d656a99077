"""Run a test's coroutine with the status page open in Debian's Chromium.

Starting one takes a second and a half of CPU, so that all tests of a process share it, and with it
the event loop that it is used in. Each has a context of its own, as new as that of a new browser.
"""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.web.fake import FakeState
from tests.web.serving import Site, with_site

CHROMIUM = "/usr/bin/chromium"
DEAF = Path(__file__).with_name("deaf.c")
WIDE = (1440, 900)
PHONE = (375, 812)
TIMEOUT = 60_000  # ms; a busy machine may leave a browser standing for some time

expect.set_options(timeout=TIMEOUT)


class SharedBrowser:
    """One Chromium, started when it is needed first, in an event loop of its own."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._stack = AsyncExitStack()
        self._browser: Browser | None = None

    def run(self, test: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the loop of the browser."""
        self._runner = self._runner or asyncio.Runner()
        self._runner.run(test)

    async def started(self) -> Browser:
        """Return the browser, in its loop; one that crashed is replaced."""
        if self._browser is None or not self._browser.is_connected():
            self._browser = await self._stack.enter_async_context(browser())
        return self._browser

    def close(self) -> None:
        """End the browser and its loop; another use starts it again."""
        if self._runner is not None:
            self._runner.run(self._stack.aclose())
            self._runner.close()
        self._runner, self._browser = None, None


shared_browser = SharedBrowser()


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser of its own."""
    with deaf_to_networks() as environment:
        async with async_playwright() as playwright:
            started = await playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=["--headless", "--no-sandbox", "--disable-gpu"],
                env=environment,
                timeout=TIMEOUT,
            )
            yield started
            await started.close()


@asynccontextmanager
async def opened(
    url: str, size: tuple[int, int] = WIDE, scheme: str = "light", complaint: str = ""
) -> AsyncIterator[Page]:
    """Open an address in the shared browser; what it complains about fails the test.

    Args:
        url: The address.
        size: Of the window, in pixels.
        scheme: "light" or "dark".
        complaint: A part of the complaints that the test expects.
    """
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    context = await (await shared_browser.started()).new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    try:
        page = await context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(url)
        yield page
    finally:
        await context.close()
    unexpected = [text for text in complaints if not complaint or complaint not in text]
    assert not unexpected, unexpected


@contextmanager
def deaf_to_networks() -> Iterator[dict[str, str | float | bool]]:
    """An environment in which Chromium does not mind the networks that come and go."""
    with tempfile.TemporaryDirectory(prefix="cdns-") as folder:
        library = f"{folder}/deaf.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, DEAF], check=True)
        yield {**os.environ, "LD_PRELOAD": library}


def with_page(
    test: Callable[[Page, Site], Awaitable[None]],
    state: FakeState | None = None,
    size: tuple[int, int] = WIDE,
    scheme: str = "light",
    complaint: str = "",
) -> None:
    """Start a server, open its page, run the test, stop both."""

    async def run(site: Site) -> None:
        async with opened(site.url + "/", size, scheme, complaint) as page:
            await page.wait_for_selector("#about:not(:empty)")
            await test(page, site)

    with_site(run, state, run=shared_browser.run)

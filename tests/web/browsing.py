"""Run a test's coroutine with the status page open in Debian's Chromium."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from playwright.async_api import ConsoleMessage, Page, async_playwright, expect

from tests.web.fake import FakeState
from tests.web.serving import Site, with_site

CHROMIUM = "/usr/bin/chromium"
WIDE = (1440, 900)
PHONE = (375, 812)
TIMEOUT = 60_000  # ms; a busy machine may leave a browser standing for some time

expect.set_options(timeout=TIMEOUT)


@asynccontextmanager
async def opened(
    url: str, size: tuple[int, int] = WIDE, scheme: str = "light", complaint: str = ""
) -> AsyncIterator[Page]:
    """Open an address in a fresh browser; what it complains about fails the test.

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

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        context = await browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = await context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(url)
        yield page
        await browser.close()
    unexpected = [text for text in complaints if not complaint or complaint not in text]
    assert not unexpected, unexpected


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

    with_site(run, state)

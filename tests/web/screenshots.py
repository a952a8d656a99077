"""Create the pictures of the status page: `python -m tests.web.screenshots FOLDER [NUMBER ...]`.

With numbers of containers, the whole page is pictured with so many, on three widths.

The names are those of the founding fault's project; nothing in them is random, so that a
picture changes only if the page does.
"""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count, cycle
from pathlib import Path

from containerdns.core.counters import Counters
from containerdns.web.state import Document
from tests.web.browsing import opened, shared_browser
from tests.web.fake import CHANGE, ENGINE, FakeState
from tests.web.serving import Site, with_site

SECONDS = 240  # of traffic in the chart
WIDTHS = (375, 768, 1440)
SIZES = {"phone": (375, 1600), "desktop": (1440, 1300)}
SERVICES = {
    "staging-search_elasticsearch_1": ("healthy", "search"),
    "staging-search_kibana_1": ("healthy", "search"),
    "staging-web_nginx_1": ("healthy", "frontend"),
    "staging-web_app_1": ("", "frontend"),
    "staging-web_app_2": ("starting", "frontend"),
    "staging-web_worker_1": ("unhealthy", "backend"),
    "staging-db_postgres_1": ("healthy", "backend"),
    "staging-db_redis_1": ("", "backend"),
    "vpn": ("", "bridge"),
    "staging-web_migrate_1": ("", "backend"),
}
CHANGES: tuple[
    tuple[int, str, str, float | None], ...
] = (  # seconds ago, kind, container, seconds without
    (5400, "came", "vpn", None),
    (3000, "came", "staging-web_migrate_1", None),
    (2990, "went", "staging-web_migrate_1", None),
    (420, "moved", "staging-search_elasticsearch_1", 2.4),
    (300, "moved", "staging-web_nginx_1", 0.6),
    (45, "health", "staging-web_worker_1", None),
)
PORTS = {"elasticsearch": [9200, 9300], "kibana": [5601], "nginx": [80, 443], "postgres": [5432]}


def main() -> None:
    """Write the pictures of the documents, or those of some numbers, into the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(text) for text in sys.argv[2:]]
    for number in numbers:
        state = state_of(number)
        take = partial(picture_widths, folder=folder, number=number)
        with_site(take, state, Counters(), shared_browser.run)
    if not numbers:
        take = partial(picture_all, folder=folder)
        with_site(take, busy_state(), Counters(), shared_browser.run)
    shared_browser.close()


async def picture_widths(site: Site, folder: Path, number: int) -> None:
    """Photograph the whole page, and once the part that connects devices, on a width each."""
    for width in WIDTHS:
        async with opened(site.url + "/", (width, 900)) as page:
            await page.wait_for_selector("#container-list > li")
            await page.fill("#explain-name", "vpn")
            await page.click("#explain-form .main")
            await page.wait_for_selector(".steps")
            await page.screenshot(path=folder / f"page-{number}-{width}.png", full_page=True)
            if number == max(0, *map(int, sys.argv[2:])):
                await page.goto(site.url + "/?view=connect&target=openvpn")
                await page.wait_for_selector("#connect-files pre")
                await page.screenshot(path=folder / f"connect-{width}.png", full_page=True)


def state_of(number: int) -> FakeState:
    """Return so many containers, in projects of ten."""
    state = busy_state()
    kinds = list(SERVICES.items())
    state.listed = [
        container(n, name.replace("staging", f"site{n // 10:03}"), row)
        for n, (name, row) in zip(range(number), cycle(kinds), strict=False)
    ]
    if not number:
        state.history, state.changed, state.skipped, state.kept = [], [], [], 0
    return state


async def picture_all(site: Site, folder: Path) -> None:
    """Let the traffic pass, then take the pictures while it goes on."""
    for second in range(SECONDS):
        pass_second(site, second)
        site.rates.take()
    passing = asyncio.create_task(pass_on(site))
    for size, pixels in SIZES.items():
        for scheme in ("light", "dark"):
            async with opened(site.url + "/", pixels, scheme) as page:
                await page.wait_for_selector(".container")
                await page.click(".container summary >> nth=2")
                await page.fill("#explain-name", "staging-search_elasticsearch_1")
                await page.fill("#explain-search", "localdomain corp.example")
                await page.click("#explain-form .main")
                await page.wait_for_selector(".steps")
                await page.evaluate("scrollTo(0, 0)")
                await asyncio.sleep(1.2)  # one more point of the chart
                await page.screenshot(path=folder / f"page-{size}-{scheme}.png")
    passing.cancel()


async def pass_on(site: Site) -> None:
    """Count a second's traffic for every point that the server takes."""
    for second in count(SECONDS):
        pass_second(site, second)
        taken = site.rates.taken
        while site.rates.taken == taken:  # noqa: ASYNC110 - it has no event, and needs none
            await asyncio.sleep(0.01)


def pass_second(site: Site, second: int) -> None:
    """Count what a second of a small office brings; a redeploy is at two thirds."""
    wave = abs(second % 60 - 30)
    took = site.counters.took
    took("zone", 0.0001, 40 + wave)
    took("cache", 0.0001, 14 + wave // 3)
    took("upstream", 0.01, 6 + second % 5)
    if 160 < second < 175:
        took("policy", 0.0001, 30)
    if second % 50 == 0:
        took("policy", 0.0001, 6)
        site.counters.responses[5, "policy"] += 6


def busy_state() -> FakeState:
    """Ten containers, one of each kind that the page tells apart."""
    state = FakeState(listed=[container(n, *row) for n, row in enumerate(SERVICES.items())])
    state.skipped = [
        {
            "container": "watchtower",
            "id": "5d1c99f0a2be",
            "reason": "label containerdns.enable=false",
        },
        {"container": "backup", "id": "77a0c3e1b842", "reason": "network none: no address"},
    ]
    now = datetime.now(UTC)
    state.engines = [{**state.engines[0], "last_sync": stamp(now - timedelta(seconds=8))}]
    state.upstreams[1] = {
        **state.upstreams[1],
        "aside_until": stamp(now + timedelta(seconds=20)),
    }
    state.history = [query(n, now - timedelta(seconds=(40 - n) * 0.7)) for n in range(40)]
    state.kept = 18_204
    state.changed = [change(*row, now) for row in CHANGES]
    return state


def change(seconds: int, kind: str, name: str, gap: float | None, now: datetime) -> Document:
    """Return a change that was so many seconds ago."""
    return {
        **CHANGE,
        "time": stamp(now - timedelta(seconds=seconds)),
        "change": kind,
        "container": name,
        "text": name,
        "before": [] if kind == "came" else ["172.19.0.7"],
        "after": [] if kind == "went" else ["172.19.0.9"],
        "healthy": False,
        "seconds_without": gap,
    }


def container(number: int, name: str, row: tuple[str, str]) -> Document:
    """Return a container of Compose as the page gets it."""
    health, network = row
    project, _, rest = name.partition("_")
    service = rest.rpartition("_")[0]
    names = [{"name": name, "rule": "container name"}]
    names.append({"name": f"{number:x}3f9a27c0b1{number:x}"[:12], "rule": "container id"})
    if service:
        names.append({"name": f"{service}.{project}", "rule": "Compose service"})
        names.append({"name": f"1.{service}.{project}", "rule": "Compose replica"})
    names.append({"name": f"{name}.{network}", "rule": "container name on a network"})
    is_out = service == "migrate"
    return {
        "name": name,
        "id": names[1]["name"],
        "engine": ENGINE,
        "project": project if service else "",
        "ports": PORTS.get(service, []),
        "state": "exited" if is_out else "running",
        "health": health,
        "ttl": 5,
        "names": [] if is_out else names,
        "addresses": []
        if is_out
        else [{"network": network, "address": f"172.{18 + len(network) % 3}.0.{number + 2}"}],
    }


def query(number: int, at: datetime) -> Document:
    """Return one of five kinds of queries."""
    client = f"172.31.99.{100 + number % 3}"
    name, qtype, rcode, source, upstream, outcome = (
        ("staging-search_elasticsearch_1.", "A", "NOERROR", "zone", None, "zone"),
        ("staging-search_elasticsearch_1.", "AAAA", "NOERROR", "zone", None, "zone"),
        ("www.example.com.", "A", "NOERROR", "cache", None, "cache"),
        ("registry.example.org.", "HTTPS", "NOERROR", "upstream", "1.1.1.1", "upstream"),
        ("staging-web_app_3.localdomain.", "A", "NXDOMAIN", "zone", None, "kept"),
        ("staging-web_nginx_1.docker.", "A", "NOERROR", "zone", None, "zone"),
        ("version.bind.", "ANY", "REFUSED", "policy", None, "refused"),
    )[number % 7]
    return {
        "time": stamp(at),
        "client": client,
        "client_name": "vpn" if number % 3 == 2 else None,
        "proto": "udp",
        "name": name,
        "type": qtype,
        "rcode": rcode,
        "source": source,
        "upstream": upstream,
        "ms": 14.2 if upstream else 0.02,
        "outcome": outcome,
    }


def stamp(at: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


if __name__ == "__main__":
    main()

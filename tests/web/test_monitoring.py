"""Rules and dashboard, by the real Prometheus: every expression gives data."""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from containerdns.core.counters import Counters
from tests.engine.running import free_port
from tests.web.fake import ENGINE
from tests.web.screenshots import busy_state
from tests.web.serving import Site, running_site
from tests.web.test_metrics import CONTRACT

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus/containerdns.rules.yml"
DASHBOARD = DEPLOY / "grafana/dashboards/containerdns.json"
START = 180.0  # seconds for Prometheus to start and scrape twice, on a busy machine


def test_rules_hold_what_their_tests_say() -> None:
    ran = subprocess.run(
        [program("promtool"), "test", "rules", "containerdns.test.yml"],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_example_configuration_is_valid() -> None:
    for name in ("prometheus.yml", "prometheus.compose.yml"):
        configuration = DEPLOY / "prometheus" / name
        subprocess.run([program("promtool"), "check", "config", configuration], check=True)


def test_every_alert_is_tested() -> None:
    rules = [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]
    tests = yaml.safe_load((RULES.parent / "containerdns.test.yml").read_text())["tests"]
    fired = {
        test["alertname"]
        for one in tests
        for test in one.get("alert_rule_test", [])
        if test.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules if "alert" in rule}


def test_every_alert_leads_to_its_section_of_the_runbook() -> None:
    page = (DEPLOY.parent / "docs/troubleshooting.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (ContainerDNS\w+)$", page, re.MULTILINE))
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    for rule in alerts:
        address = f"docs/troubleshooting.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"].endswith(address)
    assert headings == {rule["alert"] for rule in alerts}


def test_no_rule_and_no_panel_expects_a_job_of_a_certain_name() -> None:
    assert "job=" not in "".join(expressions()) + RULES.read_text()


def test_dashboard_shows_every_metric_of_the_contract() -> None:
    """A metric that nobody sees is one that nobody needs."""
    text = " ".join(expressions())
    shown = {re.sub("_bucket$", "", name) for name in re.findall(r"containerdns_(\w+)", text)}
    assert set(CONTRACT) - shown == set()


def test_dashboard_is_provisioned_with_its_datasource() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards/containerdns.yml").read_text())[
        "providers"
    ]
    dashboard = json.loads(DASHBOARD.read_text())
    assert source["type"] == dashboard["templating"]["list"][0]["query"]
    assert provider["type"] == "file"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


async def test_every_expression_of_dashboard_and_rules_gives_data(tmp_path: Path) -> None:
    async with running_site(busy_state()) as site:
        traffic = asyncio.create_task(make_traffic(site.counters))
        async with prometheus(site, tmp_path) as url:
            wanted = [*expressions(), *recorded(), 'up{job="containerdns"} == 1']
            missing = wanted
            deadline = time.monotonic() + START
            while time.monotonic() < deadline:
                missing = [text for text in missing if not await ask(site.session, url, text)]
                if not missing:
                    break
                await asyncio.sleep(1.0)
            assert missing == []
            while "unknown" in (health := await rules_health(site.session, url)):
                assert time.monotonic() < deadline
                await asyncio.sleep(1.0)
            assert health == {"ok"}
        traffic.cancel()


async def rules_health(session: aiohttp.ClientSession, url: str) -> set[str]:
    """How the rules are; "unknown" before they were evaluated first."""
    async with session.get(url + "/api/v1/rules") as response:
        groups = (await response.json())["data"]["groups"]
    return {rule["health"] for group in groups for rule in group["rules"]}


def expressions() -> list[str]:
    """All expressions of the dashboard, with Grafana's variables filled in."""
    dashboard = json.loads(DASHBOARD.read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [
        source["expr"].replace("$__rate_interval", "10s").replace("$instance", ".*")
        for source in (*targets, *dashboard["annotations"]["list"])
    ]


def recorded() -> list[str]:
    return re.findall(r"record: (\S+)", RULES.read_text())


async def make_traffic(counters: Counters) -> None:
    """Count everything that there is to count, until stopped."""
    for _ in count():
        counters.requests.update({("udp", 1): 5, ("tcp", 28): 1})
        counters.responses.update(
            {(0, "zone"): 3, (0, "cache"): 2, (3, "upstream"): 1, (2, "policy"): 1}
        )
        counters.took("zone", 0.00003, times=3)
        counters.took("upstream", 0.02)
        counters.engine_events[ENGINE, "start"] += 1
        counters.resyncs[ENGINE, "interval"] += 1
        counters.event_lag.add(0.002)
        counters.zone_changes += 1
        counters.kept_from_upstream += 1
        counters.cache_hits += 2
        counters.cache_misses += 1
        counters.upstream_requests["1.1.1.1", 3] += 1
        counters.upstream_took("1.1.1.1", 0.02)
        await asyncio.sleep(0.2)


@asynccontextmanager
async def prometheus(site: Site, folder: Path) -> AsyncIterator[str]:
    """Run a Prometheus that scrapes the site every second, under our rules."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [
                    {
                        "job_name": "containerdns",
                        "static_configs": [{"targets": [f"127.0.0.1:{site.port}"]}],
                    }
                ],
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        program("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        await process.wait()


async def ask(session: aiohttp.ClientSession, url: str, expression: str) -> list[Any]:
    """Return what Prometheus has for an expression; nothing while it starts."""
    try:
        async with session.get(url + "/api/v1/query", params={"query": expression}) as response:
            answer = await response.json()
    except aiohttp.ClientError:
        return []
    assert answer["status"] == "success", (expression, answer)
    return list(answer["data"]["result"])


def program(name: str) -> str:
    """Find one of Prometheus' programs; Debian's package prometheus has both."""
    path = shutil.which(name)
    assert path, f"{name} is missing: apt-get install prometheus"
    return path

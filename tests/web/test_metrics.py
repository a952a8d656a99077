"""The metrics: names and labels of the contract, checked with Prometheus' own tools."""

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import fields
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from containerdns.core.counters import DURATION_BOUNDS, Counters, Distribution
from containerdns.web.metrics import SAMPLES_AT_ONCE, Metrics
from tests.web.fake import ENGINE, FakeState
from tests.web.serving import running_site

CONTRACT = {  # section 7: name without the prefix, as exposed, and its labels
    "dns_requests_total": "proto type",
    "dns_responses_total": "rcode source",
    "dns_request_duration_seconds": "source",
    "dns_internal_errors_total": "",
    "zone_records": "type",
    "zone_names": "",
    "zone_serial": "",
    "zone_changes_total": "",
    "remembered_names": "",
    "names_lost": "",
    "names_kept_from_upstream_total": "",
    "docker_connected": "engine",
    "docker_left_out": "engine",
    "docker_events_total": "engine action",
    "docker_resyncs_total": "engine reason",
    "docker_last_sync_timestamp_seconds": "engine",
    "docker_event_lag_seconds": "",
    "containers": "state",
    "upstream_requests_total": "upstream rcode",
    "upstream_duration_seconds": "upstream",
    "upstream_healthy": "upstream",
    "cache_hits_total": "",
    "cache_misses_total": "",
    "cache_evictions_total": "",
    "cache_entries": "",
    "tcp_connections": "",
    "config_last_reload_successful": "",
    "rate_limited_total": "",
    "build_info": "version python",
}


KEYS: dict[str, Any] = {  # a key of each table of counts
    "requests": ("udp", 1),
    "responses": (0, "zone"),
    "part_restarts": "http",
    "upstream_requests": ("1.1.1.1", 0),
    "engine_events": (ENGINE, "start"),
    "resyncs": (ENGINE, "start"),
}


def busy_counters() -> Counters:
    counters = Counters()
    counters.requests.update({("udp", 1): 7, ("tcp", 28): 2, ("udp", 65280): 1, ("udp", 65281): 3})
    counters.responses.update({(0, "zone"): 5, (3, "upstream"): 2})
    counters.took("zone", 0.00007, times=3)
    counters.took("zone", 9.0)
    counters.took("upstream", 0.02)
    counters.engine_events.update({(ENGINE, "start"): 4})
    counters.resyncs.update({(ENGINE, "start"): 1})
    counters.event_lag.add(0.002)
    counters.upstream_requests.update({("1.1.1.1", 0): 3, ("1.1.1.1", -1): 1})
    counters.upstream_took("1.1.1.1", 0.02)
    counters.internal_errors = 2
    counters.part_restarts["statistics"] += 1
    return counters


def text_of(counters: Counters, accept: str = "text/plain") -> str:
    pieces, _ = Metrics(counters, FakeState().gauges).exposition(accept)
    return b"".join(pieces).decode()


def test_every_metric_of_the_contract_is_there_with_its_labels() -> None:
    seen: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text_of(busy_counters())):
        for sample in family.samples:
            name = re.sub("_(bucket|sum|count)$", "", sample.name)
            seen.setdefault(name, set()).update(sample.labels)
    for name, labels in CONTRACT.items():
        assert seen["containerdns_" + name] - {"le"} == set(labels.split()), name


@pytest.mark.parametrize("field", [field.name for field in fields(Counters)])
def test_every_count_is_exposed(field: str) -> None:
    """A counter that nobody reads would be counted for nothing."""
    counters, value = Counters(), getattr(Counters(), field)
    before = text_of(counters)
    match value:
        case bool():
            value = not value
        case int():
            value += 1
        case Distribution():
            value.add(0.01)
        case Counter():
            value[KEYS[field]] += 1
        case dict() if field == "workers":
            value[1] = Counters(tcp_connections=1)
        case dict():
            value["zone"] = Distribution(DURATION_BOUNDS)
            value["zone"].add(0.01)
    setattr(counters, field, value)
    assert text_of(counters) != before


def test_types_without_a_mnemonic_are_other() -> None:
    text = text_of(busy_counters())
    assert 'containerdns_dns_requests_total{proto="udp",type="A"} 7.0' in text
    assert 'containerdns_dns_requests_total{proto="udp",type="other"} 4.0' in text
    assert "TYPE65280" not in text


def test_histograms_are_cumulated() -> None:
    text = text_of(busy_counters())
    name = "containerdns_dns_request_duration_seconds"
    assert name + '_bucket{le="5e-05",source="zone"} 0.0' in text
    assert name + '_bucket{le="0.0001",source="zone"} 3.0' in text
    assert name + '_bucket{le="5.0",source="zone"} 3.0' in text
    assert name + '_bucket{le="+Inf",source="zone"} 4.0' in text
    assert name + '_count{source="zone"} 4.0' in text
    assert name + '_sum{source="zone"} 9.00021' in text


def test_upstream_without_response_has_the_rcode_none() -> None:
    text = text_of(busy_counters())
    assert 'containerdns_upstream_requests_total{rcode="none",upstream="1.1.1.1"} 1.0' in text


async def test_openmetrics_is_given_to_who_wants_it() -> None:
    async with running_site() as site:
        got = await site.get("/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert got.headers["Content-Type"].startswith("application/openmetrics-text")
        assert got.text.endswith("# EOF\n")
        plain = await site.get("/metrics")
        assert plain.headers["Content-Type"].startswith("text/plain; version=")


@pytest.mark.parametrize("counters", [Counters(), busy_counters()], ids=["at rest", "busy"])
def test_promtool_finds_nothing_to_say(counters: Counters) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "Debian's package prometheus has it"
    found = subprocess.run(
        [promtool, "check", "metrics"],
        input=text_of(counters),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text"])
def test_metric_with_many_samples_is_written_in_parts(accept: str) -> None:
    """All queries wait while a part is written; Prometheus wants the head of a metric once."""
    counters = busy_counters()
    counters.requests.update({(proto, n): 1 for proto in ("udp", "tcp") for n in range(300)})
    counters.durations |= {f"source {n}": Distribution(DURATION_BOUNDS) for n in range(9)}
    pieces, _ = Metrics(counters, FakeState().gauges).exposition(accept)
    written = list(pieces)
    assert max(piece.count(b"\n") for piece in written) < SAMPLES_AT_ONCE + 5
    types = re.findall(rb"# TYPE (\S+)", b"".join(written))
    assert len(types) == len(set(types))
    assert b"".join(written).count(b'source="source 8"') == len(DURATION_BOUNDS) + 3

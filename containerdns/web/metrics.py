"""The metrics in Prometheus' text formats: plain integers, read when scraped.

`prometheus_client` only formats what the program counted in `Counters`; its own counters
cost more time than a response does.
"""

import platform
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from itertools import chain
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from containerdns.core.counters import DURATION_BOUNDS, OTHER_RCODE, Counters, Distribution
from containerdns.core.protocol.messages import has_mnemonic, rcode_text, type_text
from containerdns.web.state import Gauges

PREFIX = "containerdns_"
END_OF_OPENMETRICS = b"# EOF\n"
SAMPLES_AT_ONCE = 32  # encoded within 0.2 ms
Labels = tuple[str, ...]  # their values, in the order of their names
Values = float | Mapping[Any, float]  # one value, or by `Labels`, or by the value of one label
SOURCES = ("zone", "cache", "upstream", "policy")


class Metrics:
    """All metrics of one server."""

    def __init__(self, counters: Counters, gauges: Callable[[], Iterator[Gauges | None]]) -> None:
        self._counters = counters
        self._gauges = gauges
        self._process = ProcessCollector(registry=None)

    def exposition(self, accept: str) -> tuple[Iterator[bytes], str]:
        """Return all metrics in pieces, in the format that an Accept header prefers.

        Returns:
            The text, some pieces of which may be empty, and its Content-Type.
        """
        encode, content_type = choose_encoder(accept)
        return self._pieces(encode), content_type

    def _pieces(self, encode: Callable[[Any], bytes]) -> Iterator[bytes]:
        end = b""
        for family in chain(self.collect(), self._process.collect()):
            if family is None:
                yield b""
                continue
            for number, part in enumerate(_parts(family)):
                piece = encode(_Single(part))
                if piece.endswith(END_OF_OPENMETRICS):
                    piece, end = piece.removesuffix(END_OF_OPENMETRICS), END_OF_OPENMETRICS
                yield piece if number == 0 else _without_head(piece)
        yield end

    def collect(self) -> Iterator[Metric | None]:
        """Yield all metrics with their current values, and None after other work."""
        gauges = None
        for found in self._gauges():  # first, as it updates the counters
            gauges = found
            yield None
        assert gauges is not None
        yield from _dns_metrics(self._counters)
        yield from _zone_metrics(self._counters, gauges)
        yield from _docker_metrics(self._counters, gauges)
        yield from _upstream_metrics(self._counters, gauges)
        yield from _process_metrics(self._counters, gauges)
        yield from _fleet_metrics(gauges)
        text = "Versions of containerdns and Python; always 1."
        versions = (gauges.version, platform.python_version())
        yield _gauge("build_info", text, {versions: 1}, "version", "python")


def _parts(family: Metric) -> Iterator[Metric]:
    """Yield a metric in parts with some of its samples each."""
    for start in range(0, max(len(family.samples), 1), SAMPLES_AT_ONCE):
        part = copy(family)
        part.samples = family.samples[start : start + SAMPLES_AT_ONCE]
        yield part


def _without_head(text: bytes) -> bytes:
    """Return an encoded metric without the comments before its samples."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))


class _Single:
    """One metric, as an encoder takes it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """Yield it."""
        yield self._family


def _dns_metrics(counters: Counters) -> Iterator[Metric]:
    requests: dict[Labels, float] = {("udp", "A"): 0, ("tcp", "A"): 0}
    for (proto, qtype), count in counters.requests.items():
        labels = (proto, type_text(qtype) if has_mnemonic(qtype) else "other")
        requests[labels] = requests.get(labels, 0) + count
    yield _counter("dns_requests", "DNS queries received.", requests, "proto", "type")
    responses: dict[Labels, float] = {("NOERROR", source): 0 for source in SOURCES}
    for (rcode, source), count in counters.responses.items():
        responses[_rcode(rcode), source] = count
    yield _counter("dns_responses", "DNS responses sent.", responses, "rcode", "source")
    text = "Time from receiving a DNS query to sending its response."
    durations = {source: Distribution(DURATION_BOUNDS) for source in SOURCES} | counters.durations
    yield _histogram("dns_request_duration_seconds", text, durations, "source")
    text = "Internal errors, each with a traceback in the log."
    yield _counter("dns_internal_errors", text, counters.internal_errors)


def _zone_metrics(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    text = "Records in the zone of the first domain."
    yield _gauge("zone_records", text, gauges.zone_records, "type")
    yield _gauge("zone_names", "Names that have records, in all zones.", gauges.zone_names)
    yield _gauge("zone_serial", "SOA serial of the first domain.", gauges.zone_serial)
    text = "Remembered names of removed containers."
    yield _gauge("remembered_names", text, gauges.remembered_names)
    text = "Names that a container claims and does not have, because another one has them."
    yield _gauge("names_lost", text, gauges.names_lost)
    yield _counter("zone_changes", "Changes of the zone.", counters.zone_changes)
    text = "Queries for containers' names outside the domains that were kept from upstreams."
    yield _counter("names_kept_from_upstream", text, counters.kept_from_upstream)
    text = "Invalid names and labels found on containers and skipped."
    yield _counter("bad_names", text, counters.bad_names)


def _docker_metrics(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    text = "1 if connected to an Engine and following its events, else 0."
    yield _gauge("docker_connected", text, gauges.docker_connected, "engine")
    text = (
        "1 if an Engine has been unreachable for --engine-grace seconds, so that its addresses"
        " are left out of answers that have others."
    )
    yield _gauge("docker_left_out", text, gauges.docker_left_out, "engine")
    text = "Events received from an Engine."
    yield _counter("docker_events", text, counters.engine_events, "engine", "action")
    text = "Full listings of an Engine, by reason."
    yield _counter("docker_resyncs", text, counters.resyncs, "engine", "reason")
    text = "Time of the last full listing of an Engine, in seconds since the epoch."
    yield _gauge("docker_last_sync_timestamp_seconds", text, gauges.docker_last_sync, "engine")
    text = "Time from an event, by the Engine's clock, to the change of the zone."
    yield _histogram("docker_event_lag_seconds", text, {(): counters.event_lag})
    text = "Containers skipped because their Engine's document could not be parsed."
    yield _counter("bad_documents", text, counters.bad_documents)
    yield _gauge("containers", "Existing containers, by state.", gauges.containers, "state")


def _upstream_metrics(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    text = "Queries sent to an upstream, by rcode of the response; none if there was no response."
    requests = {
        (upstream, "none" if rcode < 0 else _rcode(rcode)): count
        for (upstream, rcode), count in counters.upstream_requests.items()
    }
    yield _counter("upstream_requests", text, requests, "upstream", "rcode")
    text = "Response time of an upstream."
    yield _histogram("upstream_duration_seconds", text, counters.upstream_durations, "upstream")
    text = "1 if an upstream is in use, 0 while it is marked down."
    yield _gauge("upstream_healthy", text, gauges.upstream_healthy, "upstream")
    yield _counter("cache_hits", "Cache hits.", counters.cache_hits)
    yield _counter("cache_misses", "Cache misses.", counters.cache_misses)
    text = "Responses that left the cache to make room for others."
    yield _counter("cache_evictions", text, counters.cache_evictions)
    yield _gauge("cache_entries", "Cached responses.", gauges.cache_entries)
    text = "Queries not forwarded because too many were waiting for upstreams."
    yield _counter("forwards_refused", text, counters.forwards_refused)


def _fleet_metrics(gauges: Gauges) -> Iterator[Metric]:
    has_fleet = gauges.fleet_connected is not None
    text = "1 if the etcd of the fleet is being followed, 0 if not; absent without a fleet."
    yield _gauge("fleet_connected", text, {(): gauges.fleet_connected or 0} if has_fleet else {})
    yield _gauge("fleet_hosts", "Hosts of the fleet.", gauges.fleet_hosts, "state")
    text = "The etcd revision that the zone reflects; absent without a fleet."
    yield _gauge("fleet_revision", text, {(): gauges.fleet_revision} if has_fleet else {})


def _process_metrics(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    text = "Restarts of a part of the process after an internal error."
    yield _counter("part_restarts", text, counters.part_restarts, "part")
    text = "1 if a part of the process keeps failing with internal errors, 0 once it runs again."
    yield _gauge("part_failing", text, gauges.part_failing, "part")
    text = "Open DNS connections over TCP."
    yield _gauge("tcp_connections", text, counters.level("tcp_connections"))
    text = "1 if the configuration was valid when it was last read, else 0."
    yield _gauge("config_last_reload_successful", text, counters.has_reloaded)
    text = "Responses truncated or dropped by the rate limit."
    yield _counter("rate_limited", text, counters.rate_limited)
    text = "Queries lost because the system's receive buffer was full, or too many had to wait."
    yield _counter("datagrams_dropped", text, counters.level("datagrams_dropped"))


def _rcode(rcode: int) -> str:
    return "other" if rcode == OTHER_RCODE else rcode_text(rcode)


def _counter(name: str, text: str, values: Values, *labels: str) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for place, value in _samples(values):
        family.add_metric(place, value)
    return family


def _gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for place, value in _samples(values):
        family.add_metric(place, value)
    return family


def _histogram(name: str, text: str, values: Mapping[Any, Distribution], *labels: str) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for place, distribution in _samples(values):
        family.add_metric(place, _buckets(distribution), distribution.total)
    return family


def _samples(values: Any) -> list[tuple[Labels, Any]]:
    """Return values with their labels, sorted by label."""
    table = values if isinstance(values, Mapping) else {(): values}
    return sorted(
        ((key if isinstance(key, tuple) else (key,), value) for key, value in table.items()),
        key=lambda sample: sample[0],
    )


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Return cumulative counts, as the exposition format requires, up to "+Inf"."""
    bounds = [*(repr(bound) for bound in distribution.bounds), "+Inf"]
    buckets: list[tuple[str, float]] = []
    so_far = 0
    for bound, count in zip(bounds, distribution.counts, strict=True):
        so_far += count
        buckets.append((bound, float(so_far)))
    return buckets

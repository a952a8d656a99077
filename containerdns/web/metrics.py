"""The metrics in Prometheus' text formats: plain integers, read when scraped.

`prometheus_client` only formats what the program counted in `Counters`; its own counters
cost more time than a response does.
"""

import platform
from collections.abc import Callable, Iterator, Mapping
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
Samples = Mapping[Any, float]  # by label values, in the order of the labels
SOURCES = ("zone", "cache", "upstream", "policy")


class Metrics:
    """All metrics of one server."""

    def __init__(
        self, counters: Counters, gauges: Callable[[], Iterator[Gauges | None]], version: str
    ) -> None:
        self._counters = counters
        self._gauges = gauges
        self._version = version
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
            piece = b"" if family is None else encode(_Single(family))
            if piece.endswith(END_OF_OPENMETRICS):
                piece, end = piece.removesuffix(END_OF_OPENMETRICS), END_OF_OPENMETRICS
            yield piece
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
        yield _gauge(
            "build_info",
            "Versions of containerdns and Python; always 1.",
            ("version", "python"),
            {(self._version, platform.python_version()): 1},
        )


class _Single:
    """One metric, as an encoder takes it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """Yield it."""
        yield self._family


def _dns_metrics(counters: Counters) -> Iterator[Metric]:
    requests: dict[tuple[str, ...], float] = {("udp", "A"): 0, ("tcp", "A"): 0}
    for (proto, qtype), count in counters.requests.items():
        labels = (proto, type_text(qtype) if has_mnemonic(qtype) else "other")
        requests[labels] = requests.get(labels, 0) + count
    yield _counter("dns_requests", "DNS queries received.", ("proto", "type"), requests)

    responses: dict[tuple[str, ...], float] = {("NOERROR", source): 0 for source in SOURCES}
    for (rcode, source), count in counters.responses.items():
        responses[_rcode(rcode), source] = count
    yield _counter("dns_responses", "DNS responses sent.", ("rcode", "source"), responses)

    durations: dict[tuple[str, ...], Distribution] = {
        (source,): Distribution(DURATION_BOUNDS) for source in SOURCES
    }
    durations.update({(source,): taken for source, taken in counters.durations.items()})
    yield _histogram(
        "dns_request_duration_seconds",
        "Time from receiving a DNS query to sending its response.",
        ("source",),
        durations,
    )
    yield _counter(
        "dns_internal_errors",
        "Internal errors, each with a traceback in the log.",
        (),
        {(): counters.internal_errors},
    )


def _zone_metrics(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    yield _gauge(
        "zone_records",
        "Records in the zone of the first domain.",
        ("type",),
        {(rtype,): count for rtype, count in gauges.zone_records.items()},
    )
    yield _gauge(
        "zone_names", "Names that have records, in all zones.", (), {(): gauges.zone_names}
    )
    yield _gauge("zone_serial", "SOA serial of the first domain.", (), {(): gauges.zone_serial})
    yield _gauge(
        "remembered_names",
        "Names of removed containers that are still ours.",
        (),
        {(): gauges.remembered_names},
    )
    yield _gauge(
        "names_lost",
        "Names that a container claims and does not have, because another one has them.",
        (),
        {(): gauges.names_lost},
    )
    yield _counter("zone_changes", "Changes of the zone.", (), {(): counters.zone_changes})
    yield _counter(
        "names_kept_from_upstream",
        "Queries for containers' names outside the domains that were kept from upstreams.",
        (),
        {(): counters.kept_from_upstream},
    )
    yield _counter(
        "bad_names",
        "Invalid names and labels found on containers and skipped.",
        (),
        {(): counters.bad_names},
    )


def _docker_metrics(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    yield _gauge(
        "docker_connected",
        "1 if connected to an Engine and following its events, else 0.",
        ("engine",),
        {(engine,): int(is_so) for engine, is_so in gauges.docker_connected.items()},
    )
    yield _gauge(
        "docker_left_out",
        "1 if an Engine has been unreachable for --engine-grace seconds, so that its addresses"
        " are left out of answers that have others.",
        ("engine",),
        {(engine,): int(is_so) for engine, is_so in gauges.docker_left_out.items()},
    )
    yield _counter(
        "docker_events",
        "Events received from an Engine.",
        ("engine", "action"),
        counters.engine_events,
    )
    yield _counter(
        "docker_resyncs",
        "Full listings of an Engine, by reason.",
        ("engine", "reason"),
        counters.resyncs,
    )
    yield _gauge(
        "docker_last_sync_timestamp_seconds",
        "Time of the last full listing of an Engine, in seconds since the epoch.",
        ("engine",),
        {(engine,): at for engine, at in gauges.docker_last_sync.items()},
    )
    yield _histogram(
        "docker_event_lag_seconds",
        "Time from an event, by the Engine's clock, to the change of the zone.",
        (),
        {(): counters.event_lag},
    )
    yield _counter(
        "bad_documents",
        "Containers skipped because their Engine's document could not be parsed.",
        (),
        {(): counters.bad_documents},
    )
    yield _gauge(
        "containers",
        "Existing containers, by state.",
        ("state",),
        {(state,): count for state, count in gauges.containers.items()},
    )


def _upstream_metrics(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    yield _counter(
        "upstream_requests",
        "Queries sent to an upstream, by rcode of the response; none if there was no response.",
        ("upstream", "rcode"),
        {
            (upstream, "none" if rcode < 0 else _rcode(rcode)): count
            for (upstream, rcode), count in counters.upstream_requests.items()
        },
    )
    yield _histogram(
        "upstream_duration_seconds",
        "Response time of an upstream.",
        ("upstream",),
        {(upstream,): taken for upstream, taken in counters.upstream_durations.items()},
    )
    yield _gauge(
        "upstream_healthy",
        "1 if an upstream is in use, 0 while it is marked down.",
        ("upstream",),
        {(upstream,): int(is_so) for upstream, is_so in gauges.upstream_healthy.items()},
    )
    yield _counter("cache_hits", "Cache hits.", (), {(): counters.cache_hits})
    yield _counter("cache_misses", "Cache misses.", (), {(): counters.cache_misses})
    yield _counter(
        "cache_evictions",
        "Responses that left the cache to make room for others.",
        (),
        {(): counters.cache_evictions},
    )
    yield _gauge("cache_entries", "Cached responses.", (), {(): gauges.cache_entries})
    yield _counter(
        "forwards_refused",
        "Queries not forwarded because too many were waiting for upstreams.",
        (),
        {(): counters.forwards_refused},
    )


def _fleet_metrics(gauges: Gauges) -> Iterator[Metric]:
    is_connected = gauges.fleet_connected
    yield _gauge(
        "fleet_connected",
        "1 if the etcd of the fleet is being followed, 0 if not; absent without a fleet.",
        (),
        {} if is_connected is None else {(): int(is_connected)},
    )
    yield _gauge(
        "fleet_hosts",
        "Hosts of the fleet.",
        ("state",),
        {(state,): count for state, count in gauges.fleet_hosts.items()},
    )
    yield _gauge(
        "fleet_revision",
        "The revision of etcd at which the zone is; absent without a fleet.",
        (),
        {} if is_connected is None else {(): gauges.fleet_revision},
    )


def _process_metrics(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    yield _counter(
        "part_restarts",
        "Restarts of a part of the process after an internal error.",
        ("part",),
        {(part,): count for part, count in counters.part_restarts.items()},
    )
    yield _gauge(
        "part_failing",
        "1 if a part of the process keeps failing with internal errors, 0 once it runs again.",
        ("part",),
        {(part,): is_failing for part, is_failing in gauges.part_failing.items()},
    )
    yield _gauge(
        "tcp_connections",
        "Open DNS connections over TCP.",
        (),
        {(): counters.level("tcp_connections")},
    )
    yield _gauge(
        "config_last_reload_successful",
        "1 if the configuration was valid when it was last read, else 0.",
        (),
        {(): float(counters.has_reloaded)},
    )
    yield _counter(
        "rate_limited",
        "Responses truncated or dropped by the rate limit.",
        (),
        {(): counters.rate_limited},
    )
    yield _counter(
        "datagrams_dropped",
        "Queries lost because the system's receive buffer was full.",
        (),
        {(): counters.level("datagrams_dropped")},
    )


def _rcode(rcode: int) -> str:
    return "other" if rcode == OTHER_RCODE else rcode_text(rcode)


def _counter(name: str, text: str, labels: tuple[str, ...], values: Samples) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for place, value in sorted(values.items()):
        family.add_metric(place, value)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Samples) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for place, value in sorted(values.items()):
        family.add_metric(place, value)
    return family


def _histogram(
    name: str,
    text: str,
    labels: tuple[str, ...],
    distributions: Mapping[tuple[str, ...], Distribution],
) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for place, distribution in sorted(distributions.items(), key=lambda item: item[0]):
        family.add_metric(place, _buckets(distribution), distribution.total)
    return family


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Return cumulative counts, as the exposition format requires, up to "+Inf"."""
    bounds = [*(repr(bound) for bound in distribution.bounds), "+Inf"]
    buckets: list[tuple[str, float]] = []
    so_far = 0
    for bound, count in zip(bounds, distribution.counts, strict=True):
        so_far += count
        buckets.append((bound, float(so_far)))
    return buckets

"""Counters of all rooms as plain integers; `web/metrics` reads them when scraped."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Final

from containerdns.core.protocol.messages import has_mnemonic

DURATION_BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 5.0)
LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)

OTHER_TYPE = 0  # reserved, RFC 6895 section 3.1
OTHER_RCODE = 24  # above BADCOOKIE, the last assigned one


@dataclass(slots=True)
class Distribution:
    """A Prometheus histogram.

    Attributes:
        bounds: Upper bounds in seconds, ascending, without infinity.
        counts: Number of values in each bucket (not cumulative), the last beyond all bounds.
        total: The sum of all values in seconds.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def merge(self, other: "Distribution") -> None:
        """Add the counts of a distribution with the same bounds."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.total += seconds * times


class Scope(Enum):
    """Which process counts a field, and how the counts of workers are added."""

    EVERY = "every process that answers: a worker's counts since its last report are added"
    LEVEL = "every process that answers: a worker's current value, which is not a count"
    WATCHING = "only the process that watches the Engines"


LEVEL: Final = {"scope": Scope.LEVEL}
WATCHING: Final = {"scope": Scope.WATCHING}


@dataclass(slots=True)
class Counters:
    """All counters of the process; the names are those of the metrics.

    Adding up the counts of several processes depends only on the type and scope of each
    field.

    Attributes:
        requests: By (proto, qtype number).
        responses: By (rcode number, source).
        durations: By source.
        engine_events: By (engine, action).
        resyncs: By (engine, reason).
        upstream_requests: By (upstream, rcode number, or -1 for no response).
        upstream_durations: By upstream.
        part_restarts: By part of the process, see `parts`.
        has_reloaded: The configuration was valid when it was last read.
        workers: The last report of each worker by process id, for levels.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    responses: Counter[tuple[int, str]] = field(default_factory=Counter)
    durations: dict[str, Distribution] = field(default_factory=dict)
    internal_errors: int = 0
    part_restarts: Counter[str] = field(default_factory=Counter)
    kept_from_upstream: int = 0
    upstream_requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    upstream_durations: dict[str, Distribution] = field(default_factory=dict)
    cache_hits: int = 0
    cache_misses: int = 0
    cache_evictions: int = 0
    forwards_refused: int = 0
    rate_limited: int = 0

    tcp_connections: int = field(default=0, metadata=LEVEL)
    datagrams_dropped: int = field(default=0, metadata=LEVEL)

    zone_changes: int = field(default=0, metadata=WATCHING)
    engine_events: Counter[tuple[str, str]] = field(default_factory=Counter, metadata=WATCHING)
    resyncs: Counter[tuple[str, str]] = field(default_factory=Counter, metadata=WATCHING)
    event_lag: Distribution = field(
        default_factory=lambda: Distribution(LAG_BOUNDS), metadata=WATCHING
    )
    bad_names: int = field(default=0, metadata=WATCHING)
    bad_documents: int = field(default=0, metadata=WATCHING)
    has_reloaded: bool = field(default=True, metadata=WATCHING)
    workers: dict[int, "Counters"] = field(default_factory=dict, metadata=WATCHING)

    def take(self) -> "Counters":
        """Return the counts since the last call, and reset them."""
        taken, empty = Counters(), Counters()
        for name in _names_of(Scope.EVERY):
            setattr(taken, name, getattr(self, name))
            setattr(self, name, getattr(empty, name))
        for name in _names_of(Scope.LEVEL):
            setattr(taken, name, getattr(self, name))
        return taken

    def add(self, other: "Counters") -> None:
        """Add the counts of another process since its last report."""
        for name in _names_of(Scope.EVERY):
            setattr(self, name, _sum(getattr(self, name), getattr(other, name)))

    def level(self, name: str) -> int:
        """Return the sum of a level over all processes, such as "tcp_connections"."""
        return sum(getattr(counters, name) for counters in (self, *self.workers.values()))

    def asked(self, proto: str, qtype: int, times: int = 1) -> None:
        """Count queries; all types without a mnemonic are one, as clients may send 65,536."""
        self.requests[proto, qtype if has_mnemonic(qtype) else OTHER_TYPE] += times

    def answered(self, rcode: int, source: str, times: int = 1) -> None:
        """Count responses; all unassigned rcodes are one, as upstreams may send 4,096."""
        self.responses[min(rcode, OTHER_RCODE), source] += times

    def upstream_answered(self, upstream: str, rcode: int, times: int = 1) -> None:
        """Count queries to an upstream by the rcode of the response, -1 if there was none."""
        self.upstream_requests[upstream, min(rcode, OTHER_RCODE)] += times

    def took(self, source: str, seconds: float, times: int = 1) -> None:
        """Count the duration of a response by its source."""
        distribution = self.durations.get(source)
        if distribution is None:
            distribution = self.durations[source] = Distribution(DURATION_BOUNDS)
        distribution.add(seconds, times)

    def upstream_took(self, upstream: str, seconds: float, times: int = 1) -> None:
        """Count the response time of an upstream."""
        distribution = self.upstream_durations.get(upstream)
        if distribution is None:
            distribution = self.upstream_durations[upstream] = Distribution(DURATION_BOUNDS)
        distribution.add(seconds, times)


def _names_of(scope: Scope) -> Iterator[str]:
    """Yield the fields of a scope."""
    return (f.name for f in fields(Counters) if f.metadata.get("scope", Scope.EVERY) is scope)


def _sum(mine: Any, other: Any) -> Any:
    """Add two counts of one field: numbers, tables of numbers, or tables of distributions."""
    if isinstance(mine, Counter):
        mine.update(other)
    elif isinstance(mine, dict):
        for key, distribution in other.items():
            mine.setdefault(key, Distribution(distribution.bounds)).merge(distribution)
    else:
        mine += other
    return mine

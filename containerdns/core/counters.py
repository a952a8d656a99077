"""Plain integers that all rooms count in; `web/metrics` reads them when scraped."""

from collections import Counter
from dataclasses import dataclass, field

from containerdns.core.messages import has_mnemonic

DURATION_BOUNDS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 5.0)
LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)

OTHER_TYPE = 0  # reserved, RFC 6895 section 3.1
OTHER_RCODE = 24  # above BADCOOKIE, the last that is assigned


@dataclass(slots=True)
class Distribution:
    """How often a measure fell into each of some bounds: a Prometheus histogram.

    Attributes:
        bounds: Upper bounds in seconds, ascending, without infinity.
        counts: How many fell into each (not cumulated), the last beyond all bounds.
        total: The sum of all measures in seconds.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def merge(self, other: "Distribution") -> None:
        """Add what another distribution of the same bounds counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a measure."""
        place = 0
        for bound in self.bounds:
            if seconds <= bound:
                break
            place += 1
        self.counts[place] += times
        self.total += seconds * times


@dataclass(slots=True)
class Counters:
    """All counts of the process; names are those of the metrics.

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
        elsewhere: By process id of a worker: its TCP connections, and dropped datagrams.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    responses: Counter[tuple[int, str]] = field(default_factory=Counter)
    durations: dict[str, Distribution] = field(default_factory=dict)
    internal_errors: int = 0
    zone_changes: int = 0
    kept_from_upstream: int = 0
    engine_events: Counter[tuple[str, str]] = field(default_factory=Counter)
    resyncs: Counter[tuple[str, str]] = field(default_factory=Counter)
    event_lag: Distribution = field(default_factory=lambda: Distribution(LAG_BOUNDS))
    bad_names: int = 0
    bad_documents: int = 0
    part_restarts: Counter[str] = field(default_factory=Counter)
    upstream_requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    upstream_durations: dict[str, Distribution] = field(default_factory=dict)
    cache_hits: int = 0
    cache_misses: int = 0
    forwards_refused: int = 0
    rate_limited: int = 0
    tcp_connections: int = 0
    has_reloaded: bool = True
    datagrams_dropped: int = 0
    elsewhere: dict[int, tuple[int, int]] = field(default_factory=dict)

    def take(self) -> "Counters":
        """Give what was counted, and begin again at nothing; what is no count stays."""
        taken = Counters(tcp_connections=self.tcp_connections)
        taken.datagrams_dropped = self.datagrams_dropped
        for name in _COUNTS:
            setattr(taken, name, getattr(self, name))
            setattr(self, name, 0)
        for name in _TABLES:
            getattr(taken, name).update(getattr(self, name))
            getattr(self, name).clear()
        for name in _DURATIONS:
            setattr(taken, name, getattr(self, name))
            setattr(self, name, {})
        return taken

    def add(self, other: "Counters") -> None:
        """Add what was counted elsewhere."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _TABLES:
            getattr(self, name).update(getattr(other, name))
        for name in _DURATIONS:
            mine = getattr(self, name)
            for key, distribution in getattr(other, name).items():
                mine.setdefault(key, Distribution(distribution.bounds)).merge(distribution)

    def asked(self, proto: str, qtype: int, times: int = 1) -> None:
        """Count queries; types without a mnemonic are one, as clients may send all 65,536."""
        self.requests[proto, qtype if has_mnemonic(qtype) else OTHER_TYPE] += times

    def answered(self, rcode: int, source: str, times: int = 1) -> None:
        """Count responses; rcodes that are not assigned are one, as upstreams may send 4,096."""
        self.responses[min(rcode, OTHER_RCODE), source] += times

    def upstream_answered(self, upstream: str, rcode: int) -> None:
        """Count a query to an upstream by its response, -1 if there was none."""
        self.upstream_requests[upstream, min(rcode, OTHER_RCODE)] += 1

    def took(self, source: str, seconds: float, times: int = 1) -> None:
        """Count how long a response took, by its source."""
        distribution = self.durations.get(source)
        if distribution is None:
            distribution = self.durations[source] = Distribution(DURATION_BOUNDS)
        distribution.add(seconds, times)

    def upstream_took(self, upstream: str, seconds: float) -> None:
        """Count how long an upstream took to answer."""
        distribution = self.upstream_durations.get(upstream)
        if distribution is None:
            distribution = self.upstream_durations[upstream] = Distribution(DURATION_BOUNDS)
        distribution.add(seconds)


_TABLES = ("requests", "responses", "upstream_requests", "part_restarts")
_DURATIONS = ("durations", "upstream_durations")
_COUNTS = (
    "internal_errors",
    "kept_from_upstream",
    "cache_hits",
    "cache_misses",
    "forwards_refused",
    "rate_limited",
)

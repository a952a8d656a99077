"""Responses of upstreams by question, for as long as their TTLs allow.

An expired response is kept for a while, to be served stale if no upstream answers (RFC 8767).
Failures are cached too (RFC 9520): with an expired response, a failure only sets until when that
one is served without asking.
"""

from collections import OrderedDict
from dataclasses import dataclass

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Body
from containerdns.core.upstream.forwarding import Resolution
from containerdns.core.upstream.questions import Question

STALE_ANSWER, CACHED_ERROR, STALE_NXDOMAIN = 3, 13, 19  # RFC 8914 section 4
MAX_STALE = 3600.0  # seconds after expiry, contract section 5
STALE_TTL = 30  # seconds, RFC 8767 section 4
FAILURE_TTL = 5  # seconds, RFC 9520 section 3.2 allows 1 to 300
MAX_OCTETS_PER_RESPONSE = 1024  # on average in a full cache, including overhead
OVERHEAD_OCTETS = 600  # of the objects of one response, measured with sys.getsizeof
MIN_READY, MAX_READY = 1.0, 30.0  # seconds until a ready-made response is built again
READY_PART = 0.05  # of the TTL, within these bounds
HOT_HITS = 3  # such periods with a hit that make a response worth prefetching
PREFETCH_PART = 0.1  # of the TTL left when a hot response is prefetched, or up to twice that
MIN_PREFETCH = 10  # seconds; shorter ones would be queried all the time
PREFETCH_TAKES = 0.25  # seconds; then the new response is looked for


@dataclass(slots=True)
class Cached:
    """One response, as received.

    Attributes:
        resolution: As returned to the first client; SERVFAIL for a cached failure.
        since: When it was received.
        expires: When its lowest TTL ends.
        failing_until: All upstreams failed: served stale until then, without asking.
        hits: How often it was served.
        prefetched_at: When it is prefetched, as it is hot; 0 for never.
    """

    resolution: Resolution
    since: float
    expires: float
    failing_until: float = 0.0
    hits: int = 0
    prefetched_at: float = 0.0

    def given_out(self, now: float, reason: str = "") -> Resolution:
        """Return the response with current TTLs.

        Args:
            now: The time.
            reason: Why it is served stale, if it is.
        """
        resolution = self.resolution
        error, why = resolution.extended_error, "cached"
        if resolution.rcode == messages.SERVFAIL:
            error = CACHED_ERROR, (error[1] if error else "")
            why = f"every upstream failed less than {FAILURE_TTL} s ago"
        elif now >= self.expires:
            is_nxdomain = resolution.rcode == messages.NXDOMAIN
            error = (STALE_NXDOMAIN if is_nxdomain else STALE_ANSWER), reason
            why = f"stale, as no upstream answers: {reason}" if reason else "stale"
        return resolution._replace(
            body=self.aged(now),
            source="cache",
            extended_error=error,
            reason=why,
            fresh_for=self.fresh_for(now),
            ages_in=0.0 if now >= self.expires else 1.0 - (now - self.since) % 1.0,
        )

    def aged(self, now: float) -> Body:
        """Return the sections with TTLs counted down, or capped if stale."""
        body = self.resolution.body
        if now >= self.expires:
            return messages.with_ttls(messages.with_ttls(body, 0, 0), -STALE_TTL)
        age = int(now - self.since)
        return messages.with_ttls(body, age) if age else body

    def fresh_for(self, now: float) -> float:
        """Return the seconds for which it may be reused, with its TTLs counted down.

        If it may be prefetched, that is short enough to notice its use, and the new response.
        """
        if now >= self.expires:
            return max(self.failing_until - now, 0.0)
        piece = ready_for(self.expires - self.since)
        if now < self.prefetched_at:
            return min(piece, self.prefetched_at - now)
        return min(PREFETCH_TAKES if self.is_wanted_again(now) else piece, self.expires - now)

    def is_wanted_again(self, now: float) -> bool:
        """Return whether it is hot and near its expiry, and should be prefetched."""
        return 0 < self.prefetched_at <= now and now >= self.failing_until

    @property
    def octets(self) -> int:
        """The approximate memory that it takes."""
        body, targets = self.resolution.body, self.resolution.targets
        octets = OVERHEAD_OCTETS + len(body.octets) + 32 * len(body.ends)
        return octets + sum([60 + len(target) for target in targets]) if targets else octets


def ready_for(ttl: float) -> float:
    """Return the seconds for which a new response with this TTL may be reused as it is."""
    piece = max(ttl * READY_PART, MIN_READY) if ttl >= MIN_PREFETCH else MAX_READY
    return min(piece, MAX_READY, ttl)


def _prefetched_at(question: Question, cached: Cached) -> float:
    """Return when a hot response is prefetched; 0 for never.

    Each name has a moment of its own: many that came together would otherwise be asked for
    together each time, and delay other answers.
    """
    ttl = cached.expires - cached.since
    if ttl < MIN_PREFETCH:
        return 0.0
    return cached.expires - ttl * PREFETCH_PART * (1 + hash(question) % 1000 / 1000)


class Cache:
    """A limited number of responses; the least recently used is evicted.

    Attributes:
        capacity: The maximum number of responses.
        octets: The approximate memory that they take.
        evictions: The number of evicted responses.
    """

    def __init__(self, capacity: int) -> None:
        """Create an empty cache.

        Args:
            capacity: The maximum number of responses; 0 disables it.
        """
        self.capacity = capacity
        self.octets = 0
        self.evictions = 0
        # A dict would find its oldest entry only after all the slots of removed ones.
        self._responses: OrderedDict[Question, Cached] = OrderedDict()

    def __len__(self) -> int:
        return len(self._responses)

    def __contains__(self, question: Question) -> bool:
        """Return whether there is a response, however old, or a failure."""
        return question in self._responses

    def has(self, question: Question, now: float) -> bool:
        """Return whether `fresh` would return a response, without counting a use."""
        cached = self._responses.get(question)
        return cached is not None and (now < cached.expires or now < cached.failing_until)

    def fresh(self, question: Question, now: float) -> Cached | None:
        """Return a response that is fresh, or stale while all upstreams fail."""
        if not self.has(question, now):
            return None
        cached = self._responses[question]
        cached.hits += 1
        if cached.hits == HOT_HITS:
            cached.prefetched_at = _prefetched_at(question, cached)
        self._responses.move_to_end(question)
        return cached

    def renewed(self, question: Question, since: float, now: float) -> Cached | None:
        """Return a response that is used again, if it is still the one of a moment, and fresh."""
        cached = self._responses.get(question)
        if cached is None or cached.since != since or now >= cached.expires:
            return None
        return self.fresh(question, now)

    def stale(self, question: Question, now: float) -> Cached | None:
        """Return a response to serve if no upstream answers."""
        cached = self._responses.get(question)
        if cached is None or cached.resolution.rcode == messages.SERVFAIL:
            return None
        if now >= cached.expires + MAX_STALE:
            self._drop(question)
            return None
        return cached

    def peek(self, question: Question, now: float) -> Cached | None:
        """Return a fresh response or None, without counting a use."""
        cached = self._responses.get(question)
        return None if cached is None or now >= cached.expires else cached

    def put(self, question: Question, cached: Cached) -> None:
        """Cache a response, replacing an earlier one."""
        if not self.capacity or cached.expires <= cached.since:
            return
        self._drop(question)
        self._responses[question] = cached
        self.octets += cached.octets
        self._make_room()

    def put_failure(self, question: Question, error: tuple[int, str] | None, now: float) -> None:
        """Cache that every upstream failed; an expired response is served meanwhile."""
        old = self.stale(question, now)
        if old is not None:
            old.failing_until = now + FAILURE_TTL
            return
        failure = Resolution(messages.SERVFAIL, extended_error=error)
        self.put(question, Cached(failure, now, now + FAILURE_TTL))

    def resize(self, capacity: int) -> None:
        """Set the capacity."""
        self.capacity = capacity
        self._make_room()

    def clear(self) -> None:
        """Remove all responses."""
        self._responses.clear()
        self.octets = 0

    def forget_apex(self, apex: str | None) -> None:
        """Remove the responses of one list of upstreams, as it has changed."""
        for question in [q for q in self._responses if q.apex == apex]:
            self._drop(question)

    def forget_failures(self) -> None:
        """Remove cached failures, as the servers have changed."""
        for question, cached in list(self._responses.items()):
            cached.failing_until = 0.0
            if cached.resolution.rcode == messages.SERVFAIL:
                self._drop(question)

    def _make_room(self) -> None:
        octets_most = self.capacity * MAX_OCTETS_PER_RESPONSE
        while len(self._responses) > self.capacity or self.octets > octets_most:
            self._drop(next(iter(self._responses)))
            self.evictions += 1

    def _drop(self, question: Question) -> None:
        cached = self._responses.pop(question, None)
        if cached is not None:
            self.octets -= cached.octets

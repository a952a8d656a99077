"""Responses of upstreams by question, for as long as their TTLs allow.

An expired response stays for a while, to be given out stale if no upstream
answers (RFC 8767).  A failure is remembered too (RFC 9520): beside a response it
only says until when that one is given out without asking.
"""

from collections import OrderedDict
from dataclasses import dataclass

from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import Body
from containerdns.core.upstream.forwarding import Resolution
from containerdns.core.upstream.questions import Question

STALE_ANSWER, CACHED_ERROR, STALE_NXDOMAIN = 3, 13, 19  # RFC 8914 section 4
MAX_STALE = 3600.0  # seconds after its end, issue 5
STALE_TTL = 30  # seconds, RFC 8767 section 4
FAILURE_TTL = 5  # seconds, RFC 9520 section 3.2 allows 1 to 300
OCTETS_PER_RESPONSE = 1024  # the mean that a full cache may have, overhead included
OVERHEAD_OCTETS = 600  # of the objects that hold one response, measured with sys.getsizeof
MIN_READY, MAX_READY = 1.0, 5.0  # seconds until a ready-made response is made anew
READY_PART = 0.05  # of the TTL, within these bounds
HOT_HITS = 3  # such pieces of time with a hit, for a response to be asked for ahead of its end
PREFETCH_PART = 0.1  # of the TTL that is left when a hot response is asked for again
PREFETCH_SHORTEST = 10  # seconds; shorter ones would be asked for all the time


@dataclass(slots=True)
class Cached:
    """One response, as received.

    Attributes:
        resolution: As returned to the first client; SERVFAIL for a remembered failure.
        since: When it was received.
        expires: When the first of its TTLs is over.
        failing_until: All upstreams failed: given out stale until then, without asking.
        hits: How often it was given out.
    """

    resolution: Resolution
    since: float
    expires: float
    failing_until: float = 0.0
    hits: int = 0

    def given_out(self, now: float, reason: str = "") -> Resolution:
        """Return the response as it is now.

        Args:
            now: When it is given out.
            reason: Why it is given out stale, if it is.
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
        """The sections with their TTLs counted down, or for a stale one capped."""
        body = self.resolution.body
        if now >= self.expires:
            return messages.with_ttls(messages.with_ttls(body, 0, 0), -STALE_TTL)
        age = int(now - self.since)
        return messages.with_ttls(body, age) if age else body

    def fresh_for(self, now: float) -> float:
        """Seconds for which it may be given out again, with its TTLs counted down.

        If it may be asked for ahead of its end, that is short enough to notice.
        """
        if now >= self.expires:
            return max(self.failing_until - now, 0.0)
        ttl = self.expires - self.since
        piece = max(ttl * READY_PART, MIN_READY) if ttl >= PREFETCH_SHORTEST else MAX_READY
        return min(piece, MAX_READY, self.expires - now)

    def is_wanted_again(self, now: float) -> bool:
        """Return whether it is hot, near its end, and worth asking for in advance."""
        ttl = self.expires - self.since
        return (
            self.hits >= HOT_HITS
            and ttl >= PREFETCH_SHORTEST
            and self.expires - now < ttl * PREFETCH_PART
        )

    @property
    def octets(self) -> int:
        """About what it occupies."""
        body, targets = self.resolution.body, self.resolution.targets
        octets = len(body.octets) + 32 * len(body.ends)
        return OVERHEAD_OCTETS + octets + sum(60 + len(target) for target in targets)


class Cache:
    """A bounded number of responses; the one longest unused makes room.

    Attributes:
        capacity: Responses at most.
        octets: About what all of them occupy.
        evictions: Responses that made room for others, ever.
    """

    def __init__(self, capacity: int) -> None:
        """Make an empty cache.

        Args:
            capacity: Responses; 0 keeps none.
        """
        self.capacity = capacity
        self.octets = 0
        self.evictions = 0
        # A dict would find its oldest entry only after all the slots of removed ones.
        self._responses: OrderedDict[Question, Cached] = OrderedDict()

    def __len__(self) -> int:
        return len(self._responses)

    def fresh(self, question: Question, now: float) -> Cached | None:
        """Return what may be given out without asking: fresh, or stale while all fail."""
        cached = self._responses.get(question)
        if cached is None or (now >= cached.expires and now >= cached.failing_until):
            return None
        cached.hits += 1
        self._responses.move_to_end(question)
        return cached

    def stale(self, question: Question, now: float) -> Cached | None:
        """Return what may be given out if no upstream answers."""
        cached = self._responses.get(question)
        if cached is None or cached.resolution.rcode == messages.SERVFAIL:
            return None
        if now >= cached.expires + MAX_STALE:
            self._drop(question)
            return None
        return cached

    def peek(self, question: Question, now: float) -> Cached | None:
        """Return a fresh response, None without one; counts as no use."""
        cached = self._responses.get(question)
        return None if cached is None or now >= cached.expires else cached

    def put(self, question: Question, cached: Cached) -> None:
        """Keep a response, in the place of an earlier one."""
        if not self.capacity or cached.expires <= cached.since:
            return
        self._drop(question)
        self._responses[question] = cached
        self.octets += cached.octets
        self._make_room()

    def put_failure(self, question: Question, error: tuple[int, str] | None, now: float) -> None:
        """Remember that every upstream failed; what there is of old may stand in."""
        old = self.stale(question, now)
        if old is not None:
            old.failing_until = now + FAILURE_TTL
            return
        failure = Resolution(messages.SERVFAIL, extended_error=error)
        self.put(question, Cached(failure, now, now + FAILURE_TTL))

    def resize(self, capacity: int) -> None:
        """Keep another number of responses."""
        self.capacity = capacity
        self._make_room()

    def clear(self) -> None:
        """Forget everything."""
        self._responses.clear()
        self.octets = 0

    def forget_apex(self, apex: str | None) -> None:
        """Forget what came through one list of upstreams, as it is another now."""
        for question in [q for q in self._responses if q.apex == apex]:
            self._drop(question)

    def forget_failures(self) -> None:
        """Ask again for what failed, as other servers are asked now."""
        for question, cached in list(self._responses.items()):
            cached.failing_until = 0.0
            if cached.resolution.rcode == messages.SERVFAIL:
                self._drop(question)

    def _make_room(self) -> None:
        octets_most = self.capacity * OCTETS_PER_RESPONSE
        while len(self._responses) > self.capacity or self.octets > octets_most:
            self._drop(next(iter(self._responses)))
            self.evictions += 1

    def _drop(self, question: Question) -> None:
        cached = self._responses.pop(question, None)
        if cached is not None:
            self.octets -= cached.octets

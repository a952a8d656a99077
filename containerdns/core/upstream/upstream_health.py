"""The health of one upstream: its round trips, and whether it is marked down.

Only silence marks a server down.  Any response, even SERVFAIL, shows that it is alive, and a name
that it has to resolve first takes longer than its round trips suggest.
"""

from dataclasses import dataclass

MIN_TIMEOUT = 0.2  # seconds
MAX_TIMEOUT = 2.0
TIMEOUT_UNMEASURED = 0.3  # enough for a distant public resolver
SILENCES = 3  # consecutive timeouts that mark a server down
MIN_SILENCE = 1.3  # seconds that they last in total: nearly 0.2 + 0.4 + 0.8
NEVER = float("-inf")  # before any time
MIN_PAUSE = 1.0  # seconds down after the first time
MAX_PAUSE = 4.0  # a server that returns is used again within 5 s
MAX_DISTRUST = 60.0  # seconds between checks of a bad certificate; renewing one takes longer


@dataclass(slots=True)
class Health:
    """Round trips and silences of one upstream; times are by the caller's clock.

    Attributes:
        smoothed: The mean round trip, RFC 6298 section 2; 0 before the first.
        deviation: Its mean deviation.
        heard_at: When it last responded.
        silences: Consecutive timeouts since then.
        silence_began: When the first of them began.
        silence_ended: When the last of them ended.
        pause: Seconds between trials while it is down; 0 if it is up.
        aside_until: When it is tried again, while it is down.
        silent_since: When it was marked down.
        last_failure: The last failure in words; "" if there was none.
        is_distrusted: It is down because of its certificate, and must not be used before the
            next trial.
    """

    smoothed: float = 0.0
    deviation: float = 0.0
    heard_at: float = NEVER
    silences: int = 0
    silence_began: float = 0.0
    silence_ended: float = NEVER
    pause: float = 0.0
    aside_until: float = 0.0
    silent_since: float = 0.0
    last_failure: str = ""
    is_distrusted: bool = False

    @property
    def is_aside(self) -> bool:
        """Whether it is marked down, so that others are used instead."""
        return self.pause > 0

    def timeout(self, attempt: int) -> float:
        """Return the seconds to wait, doubled with each attempt (RFC 6298 section 5.5)."""
        if not self.smoothed:
            return min(TIMEOUT_UNMEASURED * (1 << attempt), MAX_TIMEOUT)
        measured = self.smoothed + 4 * self.deviation
        return min(max(measured, MIN_TIMEOUT) * (1 << attempt), MAX_TIMEOUT)

    def heard(self, round_trip: float, now: float) -> bool:
        """Record a response; return whether it was down before.

        Every response counts as a round trip, including answers to probes and from its cache.
        That these are fast does no harm: nothing is sent again after a timeout, and a
        server that keeps responding is not marked down.
        """
        if self.smoothed:
            self.deviation += (abs(self.smoothed - round_trip) - self.deviation) / 4
            self.smoothed += (round_trip - self.smoothed) / 8
        else:
            self.smoothed, self.deviation = round_trip, round_trip / 2
        was_aside = self.is_aside
        self.heard_at = now
        self.silences, self.pause, self.is_distrusted = 0, 0.0, False
        return was_aside

    def distrust(self, reason: str, now: float) -> bool:
        """Mark it down because of its certificate; return whether it was up before.

        Args:
            reason: In words.
            now: When that was found.
        """
        self.last_failure = reason
        if self.is_aside and now < self.aside_until:
            return False
        is_new = not self.is_aside
        if is_new:
            self.silent_since = now
        self.is_distrusted = True
        self.pause = min(self.pause * 2 or MIN_PAUSE, MAX_DISTRUST)
        self.aside_until = now + self.pause
        return is_new

    def was_silent(self, reason: str, since: float, now: float) -> bool:
        """Record a timeout; return whether that marks it down, or extends its time down.

        It counts only if there was no response at all in that time, and only once for all
        overlapping timeouts: the questions of one page are sent, and may be slow, together.

        Args:
            reason: In words.
            since: The start of the wait.
            now: Its end.
        """
        self.last_failure = reason
        if since < max(self.heard_at, self.silence_ended):
            return False
        if not self.silences:
            self.silence_began = since
        self.silences += 1
        self.silence_ended = now
        if self.silences < SILENCES or now - self.silence_began < MIN_SILENCE:
            return False
        if self.is_aside and now < self.aside_until:
            return False
        if not self.is_aside:
            self.silent_since = now
        self.pause = min(self.pause * 2 or MIN_PAUSE, MAX_PAUSE)
        self.aside_until = now + self.pause
        return True

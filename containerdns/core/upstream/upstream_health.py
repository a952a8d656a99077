"""How one upstream is doing: its round trips, and whether it is set aside.

Only silence sets a server aside.  What it says, even SERVFAIL, shows that it lives, and
a name that it must first ask others for takes it longer than its round trips tell.
"""

from dataclasses import dataclass

TIMEOUT_SHORTEST = 0.2  # seconds, issue 5
MAX_TIMEOUT = 2.0
TIMEOUT_UNMEASURED = 0.3  # a public resolver far away, with some room
SILENCES = 3  # time-outs in a row that set a server aside
SILENCE_SHORTEST = 1.3  # seconds that they last together: nearly 0.2 + 0.4 + 0.8
NEVER = float("-inf")  # before any time
PAUSE_SHORTEST = 1.0  # seconds aside after the first time
MAX_PAUSE = 4.0  # a server that returns is used again within 5 s
MAX_DISTRUST = 60.0  # between two looks at a bad certificate; renewing one takes longer


@dataclass(slots=True)
class Health:
    """Round trips and silences of one upstream; times are `now` as the caller counts it.

    Attributes:
        smoothed: The mean round trip, RFC 6298 section 2; 0 before the first.
        deviation: Its mean deviation.
        heard_at: When it last said something.
        silences: Time-outs one after the other since then.
        silence_began: When the first of them began.
        silence_ended: When the last of them ended.
        pause: Seconds that it is left aside for, between two trials; 0 if it is not.
        aside_until: When it is tried again.
        silent_since: When it was set aside.
        last_failure: What went wrong last, in words; "" if nothing ever did.
        is_distrusted: It is aside as its certificate cannot be trusted, and must not be
            asked before the next trial.
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
        """Whether others are asked in its place."""
        return self.pause > 0

    def timeout(self, attempt: int) -> float:
        """Seconds to wait for it, doubled with each attempt (RFC 6298 section 5.5)."""
        if not self.smoothed:
            return min(TIMEOUT_UNMEASURED * (1 << attempt), MAX_TIMEOUT)
        measured = self.smoothed + 4 * self.deviation
        return min(max(measured, TIMEOUT_SHORTEST) * (1 << attempt), MAX_TIMEOUT)

    def heard(self, round_trip: float, now: float) -> bool:
        """Note that it said something; tell whether that ends a time aside.

        Whatever it says is a round trip measured, our probe for loops too, and an answer
        from its cache.  That these are quick does no harm: when a time-out is over,
        nothing is sent again, and a server that goes on answering is not set aside.
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
        """Set it aside as its certificate is bad; return whether it was not before.

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
        self.pause = min(self.pause * 2 or PAUSE_SHORTEST, MAX_DISTRUST)
        self.aside_until = now + self.pause
        return is_new

    def was_silent(self, reason: str, since: float, now: float) -> bool:
        """Note a time-out; tell whether that sets it aside, or leaves it there for longer.

        It counts if nothing at all was heard in that time, and once with all others that
        it overlaps: the questions of one page are asked, and may be slow, together.

        Args:
            reason: In words.
            since: When the waiting began.
            now: When it was over.
        """
        self.last_failure = reason
        if since < max(self.heard_at, self.silence_ended):
            return False
        if not self.silences:
            self.silence_began = since
        self.silences += 1
        self.silence_ended = now
        if self.silences < SILENCES or now - self.silence_began < SILENCE_SHORTEST:
            return False
        if self.is_aside and now < self.aside_until:
            return False
        if not self.is_aside:
            self.silent_since = now
        self.pause = min(self.pause * 2 or PAUSE_SHORTEST, MAX_PAUSE)
        self.aside_until = now + self.pause
        return True

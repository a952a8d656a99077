"""How one upstream is doing: its round trips, and whether it is set aside.

Only silence sets a server aside.  What it says, even SERVFAIL, shows that it lives.
"""

from dataclasses import dataclass

TIMEOUT_SHORTEST = 0.2  # seconds, issue 5
TIMEOUT_LONGEST = 2.0
TIMEOUT_UNMEASURED = 0.3  # a public resolver far away, with some room
SILENCES = 3  # time-outs in a row that set a server aside
PAUSE_SHORTEST = 1.0  # seconds aside after the first time
PAUSE_LONGEST = 4.0  # a server that returns is used again within 5 s


@dataclass(slots=True)
class Health:
    """Round trips and silences of one upstream; times are `now` as the caller counts it.

    Attributes:
        smoothed: The mean round trip, RFC 6298 section 2; 0 before the first.
        deviation: Its mean deviation.
        silences: Time-outs since it last said something.
        pause: Seconds that it is left aside for, between two trials; 0 if it is not.
        aside_until: When it is tried again.
        silent_since: When it was set aside.
        last_failure: What went wrong last, in words; "" if nothing ever did.
    """

    smoothed: float = 0.0
    deviation: float = 0.0
    silences: int = 0
    pause: float = 0.0
    aside_until: float = 0.0
    silent_since: float = 0.0
    last_failure: str = ""

    @property
    def is_aside(self) -> bool:
        """Whether others are asked in its place."""
        return self.pause > 0

    def timeout(self, attempt: int) -> float:
        """Seconds to wait for it, doubled with each attempt (RFC 6298 section 5.5)."""
        if not self.smoothed:
            return min(TIMEOUT_UNMEASURED * (1 << attempt), TIMEOUT_LONGEST)
        measured = self.smoothed + 4 * self.deviation
        return min(max(measured, TIMEOUT_SHORTEST) * (1 << attempt), TIMEOUT_LONGEST)

    def answered(self, round_trip: float) -> bool:
        """Note that it said something; tell whether that ends a time aside."""
        if self.smoothed:
            self.deviation += (abs(self.smoothed - round_trip) - self.deviation) / 4
            self.smoothed += (round_trip - self.smoothed) / 8
        else:
            self.smoothed, self.deviation = round_trip, round_trip / 2
        was_aside = self.is_aside
        self.silences, self.pause = 0, 0.0
        return was_aside

    def was_silent(self, reason: str, now: float) -> bool:
        """Note a time-out; tell whether that sets it aside, or leaves it there for longer."""
        self.silences += 1
        self.last_failure = reason
        if self.silences < SILENCES or (self.is_aside and now < self.aside_until):
            return False
        if not self.is_aside:
            self.silent_since = now
        self.pause = min(self.pause * 2 or PAUSE_SHORTEST, PAUSE_LONGEST)
        self.aside_until = now + self.pause
        return True

"""Response rate limiting: the number of answers to a client prefix over UDP.

It prevents reflection attacks, where queries with a forged source address make a server flood
the victim.  Above the limit, every second response is truncated (slip 2), so that a legitimate
client in the same prefix retries over TCP, which proves its address; the others are dropped.
"""

from collections import OrderedDict
from typing import Final, Literal

MAX_PREFIXES: Final = 65536  # about 8 MB; the one that was idle longest is dropped
PREFIX_OCTETS: Final = 8  # octets of an IPv6 address: /64; IPv4 addresses count individually
SLIP: Final = 2  # every second one above the limit is truncated, as in NSD and Knot

Verdict = Literal["answer", "slip", "drop"]


class Limiter:
    """A token bucket per prefix, filled at `rate` per second up to one second's worth."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        # Tokens, time, number above the limit; the prefix that was idle longest is first.
        self._buckets: OrderedDict[bytes, list[float]] = OrderedDict()

    def take(self, address: bytes, now: float) -> Verdict:
        """Return what to do with the response to a query from an address.

        Args:
            address: 4 or 16 octets.
            now: Monotonic seconds.
        """
        prefix = address if len(address) == 4 else address[:PREFIX_OCTETS]
        bucket = self._buckets.get(prefix)
        if bucket is None:
            if len(self._buckets) >= MAX_PREFIXES:
                self._buckets.popitem(last=False)
            bucket = self._buckets[prefix] = [float(self._rate), now, 0.0]
        self._buckets.move_to_end(prefix)
        bucket[0] = min(bucket[0] + (now - bucket[1]) * self._rate, float(self._rate))
        bucket[1] = now
        if bucket[0] >= 1:
            bucket[0] -= 1
            return "answer"
        bucket[2] += 1
        return "slip" if bucket[2] % SLIP == 0 else "drop"

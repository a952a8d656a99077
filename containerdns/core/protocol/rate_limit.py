"""Response rate limiting: how many answers a client prefix gets over UDP.

Against reflection: whoever forges a victim's address makes us answer to the victim,
so that what goes to one prefix is bounded.  Over the limit every second response
is truncated (slip 2), so that an honest client in the same prefix comes back over
TCP, which proves its address; the others are dropped.
"""

from collections import OrderedDict
from typing import Final, Literal

MAX_PREFIXES: Final = 65536  # about 8 MB; the one that was quiet longest gives way
PREFIX_OCTETS: Final = 8  # of an IPv6 address: /64; IPv4 addresses count singly
SLIP: Final = 2  # every second one over the limit is truncated, as NSD and Knot do

Verdict = Literal["answer", "slip", "drop"]


class Limiter:
    """A bucket per prefix, filled by `rate` a second and never fuller than one second's."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        # Tokens, when, how many were over; the prefix that was quiet longest stands first.
        self._buckets: OrderedDict[bytes, list[float]] = OrderedDict()

    def take(self, address: bytes, now: float) -> Verdict:
        """Say what becomes of the response to a query from an address.

        Args:
            address: 4 or 16 octets.
            now: Seconds that never go back.
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

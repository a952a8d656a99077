"""The last queries, stored as tuples and formatted only when they are read.

The server adds a row per query, a tuple of existing objects; texts and dictionaries are created
when `since` is read.  Streams continue from the number that `since` returns, so that no
callback is needed per query.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from itertools import islice
from typing import NamedTuple, Protocol

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.times import rfc3339


class QueryStamp:
    """When queries arrived and how long they took; shared by a whole batch.

    Attributes:
        proto: "udp" or "tcp".
        time: Time of arrival, seconds since the epoch.
        ms: From the receipt to the sending of the response.
    """

    __slots__ = ("ms", "proto", "time")

    def __init__(self, proto: str, time: float, ms: float = 0.0) -> None:
        self.proto = proto
        self.time = time
        self.ms = ms


class Outcome(Protocol):
    """The outcome of a query; implemented by `Reply` and `packet_cache.Entry`."""

    @property
    def name(self) -> str:
        """The canonical name asked for."""

    @property
    def qtype(self) -> int:
        """The type's number."""

    @property
    def rcode(self) -> int:
        """The response's rcode."""

    @property
    def source(self) -> str:
        """One of "zone", "cache", "upstream" and "policy"."""

    @property
    def upstream(self) -> str | None:
        """The upstream that answered, if any."""


class PastOutcome(NamedTuple):
    """An outcome that keeps no octets alive."""

    name: str
    qtype: int
    rcode: int
    source: str
    upstream: str | None


# When, the octets of the client's address, and how it went; with a fourth item, the outcome is
# that of many queries, and the name asked for is this label below the outcome's name.
Row = tuple[QueryStamp, bytes, Outcome] | tuple[QueryStamp, bytes, Outcome, str]


class History:
    """The last queries; the oldest are dropped.

    Attributes:
        total: The number of queries ever added, which numbers the next row.
        is_shared: Workers add to it, with some delay.
    """

    def __init__(self, capacity: int) -> None:
        self.total = 0
        self.is_shared = False
        self._rows: deque[Row] = deque(maxlen=capacity)

    def resize(self, capacity: int) -> None:
        """Set the capacity, keeping the newest queries."""
        self._rows = deque(self._rows, maxlen=capacity)

    def extend(self, rows: list[Row]) -> None:
        """Add the queries of a batch, in the order of arrival."""
        self.total += len(rows)
        self._rows.extend(rows)

    def add(self, stamp: QueryStamp, address: bytes, outcome: Outcome) -> None:
        """Add one query that was not answered from the packet cache."""
        self.total += 1
        self._rows.append((stamp, address, _outcome_of((stamp, address, outcome))))

    def rows_since(self, number: int, limit: int) -> tuple[list[Row], int]:
        """Return the rows since a number, for another process, and the number to use next."""
        new = min(self.total - number, len(self._rows), limit)
        rows = islice(self._rows, len(self._rows) - new, None)
        return [(row[0], row[1], _outcome_of(row)) for row in rows], self.total

    def since(
        self, number: int, limit: int, client: bytes | None = None
    ) -> tuple[Iterator[dict[str, object]], int]:
        """Return the queries from a number on, and the number to use next.

        Dropped rows and the oldest ones beyond the limit are left out, so that a stream costs at
        most `limit` rows at a time, however busy the server is.  The rows are those of this
        moment; they are formatted one by one, as they are read.

        Args:
            number: As returned by an earlier call; 0 for all.
            limit: The maximum number of queries, of the newest.
            client: The octets of an address, to return only its queries.
        """
        new = min(self.total - number, len(self._rows))
        rows: Iterable[Row] = islice(reversed(self._rows), new)
        if client is not None:
            rows = (row for row in rows if row[1] == client)
        wanted = list(islice(rows, limit))
        wanted.reverse()
        if self.is_shared:
            wanted.sort(key=lambda row: row[0].time)
        return map(readable, wanted), self.total


def readable(row: Row) -> dict[str, object]:
    """Return a query as `/queries` shows it."""
    stamp, address = row[:2]
    outcome = _outcome_of(row)
    return {
        "time": rfc3339(stamp.time, "milliseconds"),
        "client": str(ip_address(address)),
        "proto": stamp.proto,
        "name": outcome.name,
        "type": messages.type_text(outcome.qtype) if outcome.name else "",
        "rcode": messages.rcode_text(outcome.rcode),
        "source": outcome.source,
        "upstream": outcome.upstream,
        "ms": round(stamp.ms, 3),
    }


def _outcome_of(row: Row) -> PastOutcome:
    outcome = row[2]
    name = names.join(row[3], outcome.name) if len(row) == 4 else outcome.name
    return PastOutcome(name, outcome.qtype, outcome.rcode, outcome.source, outcome.upstream)

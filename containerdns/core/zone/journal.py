"""The latest changes of a zone, for IXFR (RFC 1995)."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from containerdns.core.protocol.messages import RR

MAX_RECORDS: Final = (
    50_000  # records per zone; a secondary that is further behind transfers the whole zone
)
MAX_CHANGES: Final = 5_000  # per zone; some minutes of a busy redeploy
SERIAL_AT: Final = slice(-20, -16)  # in the data of an SOA record


class Difference(NamedTuple):
    """The changes of a zone from one serial to the next.

    Attributes:
        before: The serial before.
        after: The serial after.
        removed: Without the SOA.
        added: Without the SOA.
    """

    before: int
    after: int
    removed: Sequence[RR]
    added: Sequence[RR]

    @property
    def records(self) -> int:
        """The number of records in a transfer of it, with both SOAs."""
        return len(self.removed) + len(self.added) + 2


class Journal:
    """The latest changes of one zone, without gaps."""

    def __init__(self, *, keeps_each_serial: bool = False) -> None:
        """Begin empty.

        Args:
            keeps_each_serial: Each change happened at its last serial; at those between, the
                zone was as before.
        """
        self._keeps_each_serial = keeps_each_serial
        self._changes: deque[Difference] = deque()
        self._records = 0

    def add(self, change: Difference) -> None:
        """Append a change; one that does not follow the last clears the earlier ones."""
        if self._changes and self._changes[-1].after != change.before:
            self.clear()
        self._changes.append(change)
        self._records += change.records
        while self._records > MAX_RECORDS or len(self._changes) > MAX_CHANGES:
            self._records -= self._changes.popleft().records

    def clear(self) -> None:
        """Forget all changes, so that every secondary transfers the whole zone."""
        self._changes.clear()
        self._records = 0

    def since(self, serial: int) -> list[Difference] | None:
        """Return the changes since a serial, oldest first; None if not all are known."""
        chain: list[Difference] = []
        for change in reversed(self._changes):
            chain.append(change)
            if change.before == serial:
                return chain[::-1]
            if self._keeps_each_serial and is_newer(serial, change.before):
                if not is_newer(change.after, serial):
                    return None
                chain[-1] = change._replace(before=serial)
                return chain[::-1]
        return None


def with_serial(soa: RR, serial: int) -> RR:
    """Return an SOA record with another serial."""
    rdata = soa.rdata[: SERIAL_AT.start] + serial.to_bytes(4) + soa.rdata[SERIAL_AT.stop :]
    return soa._replace(rdata=rdata)


def serial_of(soa: RR) -> int:
    """The serial in an SOA record."""
    return int.from_bytes(soa.rdata[SERIAL_AT])


def is_newer(serial: int, other: int) -> bool:
    """Return whether a serial comes after another (RFC 1982)."""
    return 0 < (serial - other) % 2**32 < 2**31

"""What changed in each zone of late, for IXFR (RFC 1995)."""

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from containerdns.core.messages import RR

MOST_RECORDS: Final = 50_000  # of a zone; a secondary that is further behind takes it whole
MOST_CHANGES: Final = 5_000  # of a zone; some minutes of a busy redeploy
SERIAL_AT: Final = slice(-20, -16)  # in the data of an SOA record


class Change(NamedTuple):
    """One step of a zone from one serial to the next.

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
        """How many records tell of it, with both SOAs."""
        return len(self.removed) + len(self.added) + 2


class Journal:
    """The latest changes of each zone, an unbroken chain."""

    def __init__(self) -> None:
        self._changes: dict[str, deque[Change]] = {}
        self._records: dict[str, int] = {}

    def add(self, apex: str, change: Change) -> None:
        """Note a change; one that does not follow on the last starts the chain anew."""
        changes = self._changes.setdefault(apex, deque())
        if changes and changes[-1].after != change.before:
            changes.clear()
            self._records[apex] = 0
        changes.append(change)
        records = self._records.get(apex, 0) + change.records
        while changes and (records > MOST_RECORDS or len(changes) > MOST_CHANGES):
            records -= changes.popleft().records
        self._records[apex] = records

    def since(self, apex: str, serial: int, current: int) -> list[Change] | None:
        """Give the changes that lead from a serial to the current one, or None."""
        chain: list[Change] = []
        for change in reversed(self._changes.get(apex, ())):
            if change.after != (chain[-1].before if chain else current):
                return None
            chain.append(change)
            if change.before == serial:
                return chain[::-1]
        return None


def with_serial(soa: RR, serial: int) -> RR:
    """The SOA record as it was or will be at another serial."""
    rdata = soa.rdata[: SERIAL_AT.start] + serial.to_bytes(4) + soa.rdata[SERIAL_AT.stop :]
    return soa._replace(rdata=rdata)


def serial_of(soa: RR) -> int:
    """The serial in an SOA record."""
    return int.from_bytes(soa.rdata[SERIAL_AT])


def is_newer(serial: int, other: int) -> bool:
    """Tell whether a serial comes after another (RFC 1982)."""
    return 0 < (serial - other) % 2**32 < 2**31

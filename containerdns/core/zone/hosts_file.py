"""Static records in hosts-file form: addresses and names, one line each (hosts(5)).

A dotted name is absolute, a single label is relative like a container's name.  All addresses
of a name are one publication.  When a file changes, only the lines that differ are parsed and
their names republished.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.endpoints import address_text
from containerdns.core.zone.policy import (
    Claim,
    Publication,
    PublicationChange,
    PublishedAddress,
    Rank,
)
from containerdns.errors import BadName

NAMES_AT_ONCE = 100  # of a line, within 0.2 ms


class Line(NamedTuple):
    """A parsed line, or a part of one.

    Attributes:
        address: Canonical text; "" if there is none.
        owners: As in `Claim.owner`.
        faults: The invalid parts, each with a reason.
    """

    address: str = ""
    owners: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


class HostsFile:
    """The contents of one file, and its publications.

    Attributes:
        faults: Invalid lines found by the last reading.
    """

    def __init__(self, path: str) -> None:
        self.faults: list[str] = []
        self._path = path
        self._text = ""
        self._ttl: int | None = None
        self._addresses: dict[str, tuple[str, ...]] = {}  # by owner; twice if on two lines
        self._touched: dict[str, None] = {}  # owners whose change was not yielded yet
        self._is_whole = True

    def read(self, text: str, ttl: int) -> Iterator[PublicationChange | None]:
        """Parse a file; yield each change, or None after each line that was parsed.

        Other work can be done between steps.  If the iteration is not finished, the whole file
        is parsed the next time.

        Args:
            text: The whole file.
            ttl: Seconds.
        """
        if ttl != self._ttl or not self._is_whole:
            self._touched.update(dict.fromkeys(self._addresses))
        if not self._is_whole:
            self._text, self._addresses = "", {}
        self._is_whole = False
        self.faults = []
        start, old_end, new_end = _difference(self._text, text)
        for line in _lines(self._text, start, old_end):
            for found in read_line(line):
                self._withdraw(found)
                yield None
        for number, line in enumerate(_lines(text, start, new_end), text.count("\n", 0, start) + 1):
            for found in read_line(line):
                self.faults += [f"{self._path}, line {number}: {fault}" for fault in found.faults]
                self._enter(found)
                yield None
        for owner in list(self._touched):
            yield self._change(owner, ttl)
        self._text, self._ttl, self._touched, self._is_whole = text, ttl, {}, True

    def ids(self) -> Iterator[str]:
        """Yield the ids of all publications."""
        return (self._id(owner) for owner in list(self._addresses))

    def _withdraw(self, line: Line) -> None:
        for owner in line.owners:
            self._touched[owner] = None
            left = list(self._addresses[owner])
            left.remove(line.address)
            if left:
                self._addresses[owner] = tuple(left)
            else:
                del self._addresses[owner]

    def _enter(self, line: Line) -> None:
        for owner in line.owners:
            self._touched[owner] = None
            self._addresses[owner] = (*self._addresses.get(owner, ()), line.address)

    def _id(self, owner: str) -> str:
        return f"hosts:{self._path}:{owner}"

    def _change(self, owner: str, ttl: int) -> PublicationChange:
        publication_id = self._id(owner)
        addresses = self._addresses.get(owner)
        if addresses is None:
            return publication_id, None
        return publication_id, Publication(
            id=publication_id,
            container_name="",
            ttl=ttl,
            claims=(Claim(owner, Rank.LABEL, f"hosts file {self._path}", publication_id),),
            addresses=tuple(PublishedAddress(text, "", "") for text in sorted(set(addresses))),
        )


def publications(text: str, path: str, ttl: int) -> tuple[list[Publication], list[str]]:
    """Parse a whole hosts file.

    Args:
        text: The whole file.
        path: Used in the rule and in the ids.
        ttl: Seconds.

    Returns:
        One publication per name, and the invalid lines with their errors.
    """
    file = HostsFile(path)
    found = [change[1] for change in file.read(text, ttl) if change]
    return [p for p in found if p is not None], file.faults


def read_line(line: str) -> Iterator[Line]:
    """Parse one line, leaving out what is invalid; yield it in parts, as it may be long.

    A name that is on the line twice is in one part alone.
    """
    fields = line.partition("#")[0].split()
    if not fields:
        yield Line()
        return
    address = address_text(fields[0])
    if not address:
        yield Line(faults=(f"{fields[0]!r} is not an IP address",))
        return
    if len(fields) == 1:
        yield Line(faults=(f"no name after {fields[0]}",))
    seen: set[str] = set()
    for start in range(1, len(fields), NAMES_AT_ONCE):
        yield _part(address, fields[start : start + NAMES_AT_ONCE], seen)


def _part(address: str, fields: list[str], seen: set[str]) -> Line:
    owners, faults = [], []
    for field in fields:
        try:
            owner = _owner(field)
        except BadName as bad:
            faults.append(str(bad))
            continue
        if owner not in seen:
            seen.add(owner)
            owners.append(owner)
    return Line(address, tuple(owners), tuple(faults))


def _owner(field: str) -> str:
    name = names.canonical(field)
    if name == names.ROOT or name.startswith("*."):
        raise BadName(field, "not allowed as a static record")
    return names.relative(field) if names.is_single_label(name) else name


def _lines(text: str, start: int, end: int) -> Iterator[str]:
    """Yield the lines of a part of a text, without splitting all of it."""
    while start < end:
        found = text.find("\n", start, end)
        stop = end if found < 0 else found
        yield text[start:stop]
        start = stop + 1


def _difference(old: str, new: str) -> tuple[int, int, int]:
    """Return where the lines of two texts differ: the start, and the ends in old and new."""
    most = min(len(old), len(new))
    alike = _longest(most, lambda low, high: old[low:high] == new[low:high])
    start = new.rfind("\n", 0, alike) + 1
    from_end = _longest(
        most - start,
        lambda low, high: (
            old[len(old) - high : len(old) - low] == new[len(new) - high : len(new) - low]
        ),
    )
    newline = new.find("\n", len(new) - from_end)  # it may be in the middle of a line
    end = len(new) if newline < 0 else newline + 1
    return start, len(old) - (len(new) - end), end


def _longest(most: int, is_alike: Callable[[int, int], bool]) -> int:
    """Return the length of the common part, without comparing equal text twice."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if is_alike(low, middle):
            low = middle
        else:
            high = middle - 1
    return low

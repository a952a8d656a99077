"""Limits of connections: in total, and per client.

Used for both DNS over TCP and HTTP.  A new connection always gets a place: the one that was
idle longest is closed (RFC 7766 section 6.2.3), or if none is idle, the least active one of the
client with the most.  Clients outside `--allow` have a few places of their own, so that they
can never keep out an allowed client.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from containerdns.core.connections.descriptors import share_of

MAX_CONNECTIONS: Final = 256  # per protocol
MAX_CONNECTIONS_OF_A_CLIENT: Final = 32
MAX_STRANGERS: Final = 16  # connections of clients outside `--allow`, until they are refused
MAX_STRANGERS_OF_A_CLIENT: Final = 4
# asyncio's `backlog` is also how many connections it accepts in one pass of the loop; each
# costs a tenth of a millisecond, and a flood of them must not delay everything else.
ACCEPTED_AT_ONCE: Final = 4


class Guest(Protocol):
    """The interface of a connection."""

    @property
    def address(self) -> bytes:
        """The octets of the client's address."""

    @property
    def active_at(self) -> float:
        """The time of its last request or response."""

    @property
    def is_busy(self) -> bool:
        """Whether it is waiting for an answer."""

    def abort(self) -> None:
        """Close it immediately."""


class Limits(NamedTuple):
    """Maximum numbers of connections."""

    in_all: int = MAX_CONNECTIONS
    of_a_client: int = MAX_CONNECTIONS_OF_A_CLIENT


STRANGERS: Final = Limits(MAX_STRANGERS, MAX_STRANGERS_OF_A_CLIENT)


def limits_by(descriptors: int) -> Limits:
    """Return the limits of one protocol, given the process's limit of descriptors.

    Upstreams have a separate share, so that a descriptor is left for new connections.
    """
    most = min(MAX_CONNECTIONS, share_of(descriptors))
    return Limits(most, min(MAX_CONNECTIONS_OF_A_CLIENT, max(most // 2, 1)))


class Places:
    """The connections of one protocol."""

    def __init__(self, limits: Limits) -> None:
        self._known = _Room(limits)
        self._strangers = _Room(STRANGERS)

    def __len__(self) -> int:
        return len(self._known.guests) + len(self._strangers.guests)

    def __iter__(self) -> Iterator[Guest]:
        return iter([*self._known.guests, *self._strangers.guests])

    def admit(self, guest: Guest, *, may_ask: bool) -> None:
        """Add a connection, and close another one if there are too many."""
        (self._known if may_ask else self._strangers).admit(guest)

    def leave(self, guest: Guest) -> None:
        """Remove a closed connection."""
        self._known.guests.pop(guest, None)
        self._strangers.guests.pop(guest, None)


class _Room:
    """Places shared by a group of clients."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.guests: dict[Guest, None] = {}

    def admit(self, guest: Guest) -> None:
        same = [other for other in self.guests if other.address == guest.address]
        if len(same) >= self._limits.of_a_client:
            self._make_room(same)
        elif len(self.guests) >= self._limits.in_all:
            self._make_room(list(self.guests))
        self.guests[guest] = None

    def _make_room(self, guests: list[Guest]) -> None:
        idle = [guest for guest in guests if not guest.is_busy] or _of_the_greediest(guests)
        longest = min(idle, key=lambda guest: guest.active_at)
        del self.guests[longest]
        longest.abort()


def _of_the_greediest(guests: list[Guest]) -> list[Guest]:
    """Return the connections of the client with the most."""
    ((greediest, _),) = Counter(guest.address for guest in guests).most_common(1)
    return [guest for guest in guests if guest.address == greediest]

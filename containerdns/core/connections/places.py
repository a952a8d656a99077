"""Who has a place among connections: so many in all, so many of one client.

The same for DNS over TCP and for HTTP.  A new connection always gets a place: the one
that was idle longest makes room (RFC 7766 section 6.2.3), and if none is idle, the
quietest of the client that has the most.  Clients that may not ask are kept apart, in a
few places of their own, so that no number of them keeps out a client that may.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from containerdns.core.connections.descriptors import share_of

MAX_CONNECTIONS: Final = 256  # of one protocol
MAX_CONNECTIONS_OF_A_CLIENT: Final = 32
MAX_STRANGERS: Final = 16  # connections of clients outside `--allow`, until they are refused
MAX_STRANGERS_OF_A_CLIENT: Final = 4


class Guest(Protocol):
    """A connection, as far as its place is concerned."""

    @property
    def address(self) -> bytes:
        """The octets of the client's address."""

    @property
    def active_at(self) -> float:
        """When it last asked or was last answered."""

    @property
    def is_busy(self) -> bool:
        """Whether it waits for an answer of ours."""

    def abort(self) -> None:
        """End it at once."""


class Limits(NamedTuple):
    """How many connections there may be."""

    in_all: int = MAX_CONNECTIONS
    of_a_client: int = MAX_CONNECTIONS_OF_A_CLIENT


STRANGERS: Final = Limits(MAX_STRANGERS, MAX_STRANGERS_OF_A_CLIENT)


def limits_by(descriptors: int) -> Limits:
    """Return the limits of one protocol in a process that may open so many descriptors.

    Upstreams have a share of their own, so that whoever connects still finds a descriptor.
    """
    most = min(MAX_CONNECTIONS, share_of(descriptors))
    return Limits(most, min(MAX_CONNECTIONS_OF_A_CLIENT, max(most // 2, 1)))


class Places:
    """The connections of one protocol."""

    def __init__(self, limits: Limits, strangers: Limits = STRANGERS) -> None:
        self._known = _Room(limits)
        self._strangers = _Room(strangers)

    def __len__(self) -> int:
        return len(self._known.guests) + len(self._strangers.guests)

    def __iter__(self) -> Iterator[Guest]:
        return iter([*self._known.guests, *self._strangers.guests])

    def admit(self, guest: Guest, *, may_ask: bool) -> None:
        """Take a connection in, and end the one that has to make room, if one has to."""
        (self._known if may_ask else self._strangers).admit(guest)

    def leave(self, guest: Guest) -> None:
        """Forget a connection that is over."""
        self._known.guests.pop(guest, None)
        self._strangers.guests.pop(guest, None)


class _Room:
    """Places that are shared by some clients."""

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
    """The connections of the client that has the most."""
    ((greediest, _),) = Counter(guest.address for guest in guests).most_common(1)
    return [guest for guest in guests if guest.address == greediest]

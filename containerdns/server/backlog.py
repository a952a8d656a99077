"""Queries over UDP that wait for the slow path, while ready-made responses go out.

A flood of queries that need thought, each from another client, at another address of this machine
or for another name, costs far more than it takes to send.  So only a short time of each
pass is spent on such queries, and the others wait here: those of known clients and those of
strangers in two lines, in each of which clients take turns.
"""

from collections import OrderedDict, deque
from typing import Final, NamedTuple

MAX_KNOWN: Final = 8192  # queries of known clients, a burst as large as the socket's buffer holds
MAX_STRANGERS: Final = 1024  # queries of strangers, less than a second's work


class Late(NamedTuple):
    """A query that waits.

    Attributes:
        head: What the reply needs: the addresses, as received.
        data: The query.
    """

    head: bytes
    data: bytes


class Backlog:
    """Both lines of one socket.

    Attributes:
        dropped: Number of queries that were dropped.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._known, self._strangers = _Line(MAX_KNOWN), _Line(MAX_STRANGERS)
        self._next, self._other = self._known, self._strangers

    def __len__(self) -> int:
        return self._known.waiting + self._strangers.waiting

    def add(self, client: bytes, late: Late, *, is_known: bool) -> None:
        """Add a query; if there are too many, an older one is dropped."""
        line = self._known if is_known else self._strangers
        self.dropped += line.add(client, late)

    def take(self) -> Late:
        """Remove and return the next query, in turn from both lines.

        Raises:
            KeyError: There is none.
        """
        self._next, self._other = self._other, self._next
        return (self._other if self._other.waiting else self._next).take()


class _Line:
    """Queries by client, the next client first."""

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self._most = most
        self._of_client: OrderedDict[bytes, deque[Late]] = OrderedDict()

    def add(self, client: bytes, late: Late) -> int:
        """Add a query; return how many were dropped: 0 or 1.

        A client that has more than its share of a full line drops its own oldest.
        """
        queue = self._of_client.get(client)
        if queue is None:
            queue = self._of_client[client] = deque()
        queue.append(late)
        self.waiting += 1
        if self.waiting <= self._most:
            return 0
        if len(queue) * len(self._of_client) > self.waiting:
            queue.popleft()
            self.waiting -= 1
        else:
            self.take()
        return 1

    def take(self) -> Late:
        """Remove and return the next query; its client comes last from now on."""
        client, queue = self._of_client.popitem(last=False)
        late = queue.popleft()
        self.waiting -= 1
        if queue:
            self._of_client[client] = queue
        return late

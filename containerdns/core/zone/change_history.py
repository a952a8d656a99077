"""The history of containers: started, stopped, moved, renamed or changed health.

It derives entries from publications before and after a change of the zone.  A container that
gets a name which another one has just left is a redeploy: it counts as moved, with the seconds
during which the name had no answer.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator, KeysView
from itertools import islice
from typing import Final, NamedTuple

from containerdns.core.zone.fleet import host_in
from containerdns.core.zone.policy import Publication

MAX_KEPT: Final = 1000  # changes, the contract's number
MAX_GONE: Final = 1000  # container names that may return, to measure the time between
MAX_GAP: Final = 3600.0  # seconds; a later return is not a redeploy

CAME, WENT, MOVED, RENAMED, HEALTH = "came", "went", "moved", "renamed", "health"


class ContainerChange(NamedTuple):
    """One change of one container.

    Attributes:
        time: When the zone changed, seconds since the epoch.
        change: "came", "went", "moved" (other addresses), "renamed" or "health".
        container: The container's name, after the change.
        id: Its whole id.
        engine: The URL of its Engine.
        names: The owners that it claims or claimed.
        before: Its addresses before, or those of the previous holder of its name.
        after: Its addresses after.
        is_healthy: Whether its health keeps it in answers.
        seconds_without: How long the name had no container; 0 if never, None if unknown.
        lost: The owners that it claimed before and claims no more.
    """

    time: float
    change: str
    container: str
    id: str
    engine: str
    names: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    is_healthy: bool
    seconds_without: float | None
    lost: frozenset[str] = frozenset()


class ChangeHistory:
    """The last changes; the oldest are dropped.

    Attributes:
        total: The number of changes ever recorded, which numbers the next one.
    """

    def __init__(self) -> None:
        self.total = 0
        self._kept: deque[ContainerChange] = deque(maxlen=MAX_KEPT)
        self._gone: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()

    def note(self, old: Publication | None, new: Publication | None, now: float) -> None:
        """Record a change from the publications of a container before and after it.

        Args:
            old: None if the container was unknown.
            new: None if it was removed.
            now: Seconds since the epoch.
        """
        was = old if old is not None and old.is_running else None
        is_now = new if new is not None and new.is_running else None
        if is_now is not None:
            self._note_running(was, is_now, now)
        elif was is not None:
            self._keep(_change(WENT, was, now, _addresses(was), None))
            self._leave(was, now)

    def since(self, number: int) -> tuple[Iterator[ContainerChange], int]:
        """Return the changes from a number on, the oldest first, and the number to use next."""
        new = min(self.total - number, len(self._kept))
        return iter([*islice(reversed(self._kept), new)][::-1]), self.total

    def last_holder(self, owner: str) -> ContainerChange | None:
        """Return the last change of a container that had an owner, among those kept."""
        kept = reversed(self._kept)
        return next((c for c in kept if owner in c.names or owner in c.lost), None)

    def _note_running(self, was: Publication | None, new: Publication, now: float) -> None:
        change = self._change_of_running(was, new, now)
        if change is not None and was is not None:
            change = change._replace(lost=frozenset(_owners(was) - set(change.names)))
        if change is not None:
            self._keep(change)

    def _change_of_running(
        self, was: Publication | None, new: Publication, now: float
    ) -> ContainerChange | None:
        if was is None or was.container_name != new.container_name:
            before, gap = self._gap(new.container_name, now)
            if gap is not None:  # a redeploy; Compose renames the new container at the end
                return _change(MOVED, new, now, before, gap)
            if was is None:
                return _change(CAME, new, now, (), None)
            return _change(RENAMED, new, now, _addresses(was), 0.0)
        if _addresses(was) != _addresses(new):
            return _change(MOVED, new, now, _addresses(was), 0.0)
        if was.is_healthy != new.is_healthy:
            return _change(HEALTH, new, now, _addresses(was), 0.0)
        return None

    def _gap(self, container_name: str, now: float) -> tuple[tuple[str, ...], float | None]:
        """Return the addresses of a name's previous holder, and the seconds since, or None."""
        left = self._gone.pop(container_name, None)
        if left is None or now - left[0] > MAX_GAP:
            return (), None
        return left[1], max(now - left[0], 0.0)

    def _leave(self, publication: Publication, now: float) -> None:
        self._gone.pop(publication.container_name, None)
        self._gone[publication.container_name] = (now, _addresses(publication))
        if len(self._gone) > MAX_GONE:
            self._gone.popitem(last=False)

    def _keep(self, change: ContainerChange) -> None:
        self.total += 1
        self._kept.append(change)


def _change(
    change: str,
    publication: Publication,
    now: float,
    before: tuple[str, ...],
    gap: float | None,
) -> ContainerChange:
    return ContainerChange(
        now,
        change,
        publication.container_name,
        publication.id,
        publication.engine,
        tuple(_owners(publication)),
        before,
        () if change == WENT else _addresses(publication),
        publication.is_healthy,
        gap,
    )


def _owners(publication: Publication) -> KeysView[str]:
    """Return the owners that it claims, in order, each once."""
    return dict.fromkeys([claim.owner for claim in publication.claims]).keys()


NO_ADDRESS = "no address"


def line(change: ContainerChange) -> str:
    """Return the log line of a change, such as "~ web 10.212.0.2 -> 10.212.0.5, 0.8 s without".

    That of another host's container names the host.
    """
    host = host_in(change.engine)
    return f"{_own_line(change)}, on host {host}" if host else _own_line(change)


def _own_line(change: ContainerChange) -> str:
    before = ", ".join(change.before) or NO_ADDRESS
    after = ", ".join(change.after) or NO_ADDRESS
    match change.change:
        case "came":
            names = len(change.names)
            return f"+ {change.container} {after} ({names} name{'s' * (names != 1)})"
        case "went":
            return f"- {change.container} {before}"
        case "health":
            return f"~ {change.container} is {'healthy' if change.is_healthy else 'unhealthy'}"
        case "renamed":
            return f"~ {change.container} {after}, renamed"
    gap = f", {change.seconds_without:.1f} s without" if change.seconds_without else ""
    moved = after if before == after else f"{before} -> {after}"
    return f"~ {change.container} {moved}{gap}"


def _addresses(publication: Publication) -> tuple[str, ...]:
    return ("host",) if publication.on_host else tuple([a.text for a in publication.addresses])

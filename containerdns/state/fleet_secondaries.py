"""What secondaries of a fleet get: the zone at each revision of etcd, the same from every server.

It is a zone of its own, beside the one that answers: made of what all hosts wrote, this one
included, without what only one server knows (hosts files, handovers, its own address).  A
secondary that goes from one server to the next finds its serial in the other's journal, so each
step is one difference.

Steps are kept, and computed when a secondary asks; from then on, or with `--notify`, as they
come.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from containerdns.core.zone.catalog import CATALOG
from containerdns.core.zone.fleet import Change, Step, Together
from containerdns.core.zone.policy import Publication
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.reverse import Reverse, reverse_name
from containerdns.core.zone.secondary_copies import Copy
from containerdns.core.zone.special_names import nearest
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Zone
from containerdns.state.secondaries import GATHER, ChangeListener, Feed, NotifyQueue
from containerdns.tasks.turns import turns

MAX_STEPS: Final = 1000  # that are kept: 20 s of a busy fleet, minutes of a quiet one
MAX_CHANGES: Final = 5000  # in these
MAX_WAIT: Final = 5.0  # seconds for the step that a reload causes


class Steps:
    """The latest steps of a fleet's zone, and what it was before them.

    Attributes:
        serial: Of the last step; 0 before the first.
        together: As of the last step.
        count: How many steps there were.
        published: What containers publish as of the last step, by id.
    """

    def __init__(self) -> None:
        self.serial = 0
        self.together = Together()
        self.count = 0
        self.published: dict[str, Publication] = {}
        self._before: dict[str, Publication] = {}
        self._first = Step(0, (), Together())  # without its changes, which are in `_before`
        self._kept: deque[Step] = deque()
        self._changes = 0

    def add(self, step: Step) -> None:
        """Append a step; the oldest ones are given up."""
        self._kept.append(step)
        self._changes += len(step.changes)
        self.count += 1
        self.serial, self.together = step.serial, step.together
        _change(self.published, step.changes)
        while len(self._kept) > MAX_STEPS or self._changes > MAX_CHANGES:
            self._give_up_first()

    def give_up_all(self) -> None:
        """Keep nothing but what there is now."""
        while self._kept:
            self._give_up_first()

    def _give_up_first(self) -> None:
        first = self._kept.popleft()
        self._changes -= len(first.changes)
        _change(self._before, first.changes)
        self._first = first._replace(changes=())

    def beginning(self) -> tuple[int, list[Publication], Step]:
        """Return how many steps were given up, what was published then, and the last of them."""
        return self.count - len(self._kept), list(self._before.values()), self._first

    def at(self, number: int) -> Step | None:
        """Return a step by its number, from 0; None if it was given up or is not there yet."""
        place = number - (self.count - len(self._kept))
        return self._kept[place] if 0 <= place < len(self._kept) else None


def _change(published: dict[str, Publication], changes: Iterable[Change]) -> None:
    for publication_id, publication in changes:
        if publication is None:
            published.pop(publication_id, None)
        else:
            published[publication_id] = publication


class _Silent:
    """Whom the feed of the copied zone would notify: nobody."""

    def changed(self, apex: str, soa: object) -> None:
        """Do nothing."""


class _Place(NamedTuple):
    """How far the copied zone is.

    Attributes:
        zone: The zone.
        feed: Its copies.
        next: The number of the next step.
    """

    zone: Zone
    feed: Feed
    next: int


class FleetFeed:
    """Keeps the zone of a fleet for its secondaries; in the place of a `Feed`.

    Attributes:
        notifies: There are secondaries to notify.
    """

    def __init__(
        self, zone: Zone, steps: Steps, notifier: ChangeListener, *, notifies: bool
    ) -> None:
        """Begin without copies.

        Args:
            zone: That answers; only its shape is read, and its SOA for NOTIFY.
            steps: The steps of the fleet's zone; `stepped` is called after each.
            notifier: Sends NOTIFY.
            notifies: There are secondaries to notify.
        """
        self.notifies = notifies
        self._answering = zone
        self._shape = zone.shape
        self._steps = steps
        self._queue = NotifyQueue(zone, notifier, None)
        self._lock = asyncio.Lock()
        self._at: _Place | None = None
        self._together = Together()
        self._stale_serial = 0  # under which the zone had another shape
        self._news = asyncio.Event()
        self._reverse = Reverse()

    # -- called by the replica --------------------------------------------------------------

    def stepped(self, step: Step, had: Iterable[Publication | None]) -> None:
        """Record a step that was added.

        Args:
            step: The step.
            had: What each of its changes had published before.
        """
        self._news.set()
        if not self.notifies:
            return
        known = frozenset(self._reverse.apexes())
        self._reverse.set_networks(step.together.networks)
        apexes = frozenset(self._reverse.apexes())
        now = (publication for _, publication in step.changes)
        addresses = {a for p in (*had, *now) if p is not None for a in p.pointers}
        touched = {nearest(reverse_name(address), apexes) for address in addresses} - {""}
        self._queue.add({*self._shape.domains, *touched, *([] if apexes == known else [CATALOG])})

    def renewed(self) -> None:
        """Record other settings: the zone is copied again, under the next serial."""
        if self._answering.shape != self._shape:
            self._shape = self._answering.shape
            self._at = None
            self._steps.give_up_all()  # the settings before made other records of them
            self._stale_serial = self._steps.serial

    def all_changed(self) -> None:
        """Notify of all zones, as there is a new secondary."""
        if self.notifies and self._steps.serial:
            self._queue.add({*self._shape.domains, *self._reverse.apexes(), CATALOG})

    def changed(self, changed: Iterable[str]) -> None:
        """Do nothing: changes come with the steps."""

    def grown(self) -> None:
        """Do nothing: serials come with the steps."""

    def regrouped(self) -> None:
        """Do nothing: networks come with the steps."""

    def look_again(self) -> None:
        """Do nothing: the address of this server alone is not in the zone."""

    # -- called by transfers ----------------------------------------------------------------

    async def current(self, apex: str) -> Copy | None:
        """Return the copy of a zone as of the last step, or None if there is none yet."""
        if not self._steps.serial:
            return None
        async with self._lock:
            await self._wait_for_step()
            if self._stale_serial == self._steps.serial:
                return None  # they keep what they have
            at = await self._catch_up()
            return await at.feed.current(apex)

    async def run(self) -> None:
        """Work steps out as they come, until cancelled, if anybody asked or is notified."""
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(GATHER)
            if self._at is not None or self.notifies:
                async with self._lock:
                    await self._catch_up()

    async def _wait_for_step(self) -> None:
        """Wait for the serial of the present shape, which without etcd does not come."""
        until = asyncio.get_running_loop().time() + MAX_WAIT
        while self._stale_serial == self._steps.serial:
            if asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(GATHER)

    async def _catch_up(self) -> _Place:
        """Apply all steps to the copied zone, in turns."""
        while True:
            at = self._at or await self._begin()
            if at.next >= self._steps.count:
                return at
            step = self._steps.at(at.next)
            if step is None:  # given up meanwhile
                self._at = None
                continue
            await self._apply(at, step)
            if self._at is at:  # unless a reload came in between
                self._at = at._replace(next=at.next + 1)

    async def _begin(self) -> _Place:
        """Build the zone as it was before the steps that are kept, with copies of it."""
        number, published, first = self._steps.beginning()
        zone = Zone(self._shape, first.serial, RememberedNames(0))
        zone.follows_clock = False
        self._together = first.together
        for publication in published:
            zone.replace(publication.id, publication, 0.0, hands_over=False)
            await turns().offer("the fleet's copies")
        if self._shape is not zone.shape:  # a reload came in between
            return await self._begin()
        zone.reverse.set_networks(first.together.networks)
        zone.lost_engines, zone.is_ahead = first.together.lost, False
        feed = Feed(zone, self._view, _Silent(), notifies=False, keeps_each_serial=True)
        self._at = at = _Place(zone, feed, number)
        if first.serial and first.serial != self._stale_serial:
            await _copy_all(feed)
        return at

    async def _apply(self, at: _Place, step: Step) -> None:
        """Apply one step, and take what it changed into the journals."""
        zone, feed = at.zone, at.feed
        changed: set[str] = set()
        for publication_id, publication in step.changes:
            changed |= zone.replace(publication_id, publication, 0.0, hands_over=False)
        had, self._together = self._together, step.together
        zone.serial, zone.is_ahead = step.serial, False
        if step.together.networks != had.networks:
            zone.reverse.set_networks(step.together.networks)
            feed.regrouped()
        if step.together.lost != had.lost:
            zone.lost_engines = step.together.lost
            feed.renewed()
        if step.together.addresses != had.addresses:
            feed.see_again()
        feed.changed(changed)
        if not feed.has_copies:
            await _copy_all(feed)
        for apex in feed.take_touched():
            await feed.current(apex)

    def _view(self) -> View:
        """Return the view of secondaries: any server answers, and `host` is any host."""
        addresses = self._together.addresses
        return View(True, True, True, False, frozenset(), addresses, addresses)


async def _copy_all(feed: Feed) -> None:
    """Copy all zones, so that each has a journal from here on."""
    for apex in feed.apexes():
        await feed.current(apex)

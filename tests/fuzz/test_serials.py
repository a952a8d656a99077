"""The serial as secondaries see it, over changes, restarts, several processes, and the clock."""

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from containerdns.config.settings import load
from containerdns.core.counters import Counters
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone.journal import is_newer
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.core.zone.secondary_copies import Copy
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import next_serial
from containerdns.state.replica import Replica
from containerdns.state.secondaries import Feed
from containerdns.state.state_file import SavedState
from tests.fuzz.generating import ENGINE

BEGUN = 1_795_000_000
VIEW = View(True, True, True, False, frozenset(), ("192.0.2.1",), ("192.0.2.1",))
SETTINGS = load({"docker": ENGINE}, {})
OTHERS = load({"docker": ENGINE, "ttl": "7"}, {})
APEX = "docker."
PROCESSES = 2

steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 4)),
        st.tuples(st.just("put"), st.integers(0, 4)),
        st.tuples(st.just("remove"), st.integers(0, 4)),
        st.tuples(st.just("reload"), st.booleans()),
        st.tuples(st.just("take"), st.integers(0, PROCESSES - 1)),
        st.tuples(st.just("take"), st.integers(0, PROCESSES - 1)),
        st.tuples(st.just("wait"), st.integers(1, 2500)),
        st.tuples(st.just("wait"), st.integers(1, 300)),
        st.tuples(st.just("restart"), st.booleans()),
    ),
    min_size=5,
    max_size=60,
)


class Notified:
    """No secondary; the feed needs one."""

    def changed(self, apex: str, soa: RR) -> None:
        """Do nothing."""


@dataclass
class Process:
    """One of the processes that answer."""

    replica: Replica
    feed: Feed


class Life:
    """Processes that replay each other's changes, from a start to its end."""

    def __init__(self, now: float, last_serial: int) -> None:
        serial = next_serial(last_serial, now)
        self.processes = [_process(serial) for _ in range(PROCESSES)]
        for process in self.processes:
            process.replica.zone.is_ahead = True

    @property
    def serial(self) -> int:
        """What all answer."""
        [serial] = {process.replica.zone.serial for process in self.processes}
        return serial

    def do(self, method: str, *arguments: Any) -> None:
        """Call a method of all replicas."""
        for process in self.processes:
            getattr(process.replica, method)(*arguments)

    async def take(self, number: int) -> Copy | None:
        """What one process transfers now; None if the client has to wait."""
        try:
            async with asyncio.timeout(0.02):
                return await self.processes[number].feed.current(APEX)
        except TimeoutError:
            return None


class Client:
    """A secondary that asks this process and that, by IXFR where it can."""

    def __init__(self) -> None:
        self._known: dict[int, frozenset[RR]] = {}  # what was transferred, by serial
        self._serial = 0

    def follow(self, copy: Copy) -> None:
        """Read what a process sends, and compare it with all that was sent before."""
        held = set(self._known.get(self._serial, ()))
        for step in copy.since(self._serial) or ():
            held = (held - set(step.removed)) | set(step.added)
            self._serial = step.after
        whole = frozenset(copy.records())
        assert self._serial != copy.serial or held == whole
        assert self._known.setdefault(copy.serial, whole) == whole
        self._serial = copy.serial


def _process(serial: int) -> Process:
    replica = Replica(
        SETTINGS, Counters(), PacketCache(Counters()), frozenset(), SavedState(serial)
    )
    feed = replica.feed = Feed(replica.zone, lambda: VIEW, Notified(), notifies=False)
    return Process(replica, feed)


def publication(number: int, version: int) -> Publication:
    """A container whose records differ with each version."""
    publication_id = f"{number:064x}"
    claim = Claim(f"web{number}", Rank.CONTAINER, "container name", publication_id)
    texts = {"": (f"version {version}",)}
    return Publication(publication_id, f"web{number}", ttl=5, claims=(claim,), texts=texts)


@settings(max_examples=150, deadline=None)
@given(steps)
def test_no_serial_has_two_contents_or_runs_ahead_or_goes_back(
    happened: list[tuple[str, int]],
) -> None:
    """RFC 1982 and 1995: of all processes, and over restarts with and without `--state`."""
    asyncio.run(_live(happened))


async def _live(happened: list[tuple[str, int]]) -> None:
    now = float(BEGUN)
    client = Client()
    life = Life(now, 0)
    highest = life.serial
    for version, (verb, argument) in enumerate(happened):
        match verb:
            case "put":
                life.do("change", [(f"{argument:064x}", publication(argument, version))], now)
            case "remove":
                life.do("change", [(f"{argument:064x}", None)], now)
            case "reload":
                life.do("use", OTHERS if argument else SETTINGS, now)
            case "wait":
                until = now + argument / 1000
                while int(now) < int(until):
                    now = float(int(now) + 1)
                    life.do("tick", now)
                now = until
            case "restart":
                life = Life(now, life.serial if argument else 0)
            case _:
                copy = await life.take(argument)
                if copy is not None:
                    client.follow(copy)
        assert life.serial == highest or is_newer(life.serial, highest)
        highest = life.serial
        assert highest <= now

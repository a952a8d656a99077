"""Turns: however many pieces of work are long, a pass of the event loop has one slice."""

import asyncio

from containerdns.tasks.turns import MAX_SLICE, Turns, turns

UNIT = MAX_SLICE / 5  # seconds on the tests' clock that one unit of work takes


class Work:
    """Units of work on a clock of its own, each noted with the pass it was done in."""

    def __init__(self) -> None:
        self.now = 0.0
        self.number = 0
        self.done: list[tuple[int, str]] = []
        self.turns = Turns(asyncio.get_running_loop(), lambda: self.now)

    async def count_passes(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)

    def unit(self, who: str) -> None:
        self.now += UNIT
        self.done.append((self.number, who))

    async def piece(self, who: str, units: int) -> None:
        await self.turns.take(who)
        for _ in range(units):
            self.unit(who)
            await self.turns.offer(who)

    def seconds_of_passes(self) -> list[float]:
        """How long each pass was held up by units of work."""
        passes = [number for number, _ in self.done]
        return [passes.count(number) * UNIT for number in sorted(set(passes))]


async def _run(work: Work, *pieces: "asyncio.Future[None]") -> None:
    counting = asyncio.ensure_future(work.count_passes())
    await asyncio.gather(*pieces)
    counting.cancel()


async def test_64_pieces_together_take_one_slice_a_pass() -> None:
    work = Work()
    await _run(work, *(asyncio.ensure_future(work.piece(f"{n}", 20)) for n in range(64)))
    assert len(work.done) == 64 * 20
    assert max(work.seconds_of_passes()) <= MAX_SLICE + UNIT


async def test_callbacks_share_the_slice_with_tasks() -> None:
    work = Work()
    left = dict.fromkeys(range(32), 20)
    finished = asyncio.Event()

    def go_on(n: int) -> None:
        while left[n]:
            if work.turns.is_over():
                work.turns.call(n, lambda: go_on(n))
                return
            work.unit(str(n))
            left[n] -= 1
        if not any(left.values()):
            finished.set()

    for n in left:
        work.turns.call(n, lambda n=n: go_on(n))  # type: ignore[misc]
    await _run(work, *(asyncio.ensure_future(work.piece(f"t{n}", 20)) for n in range(32)))
    await finished.wait()
    assert max(work.seconds_of_passes()) <= 2 * (MAX_SLICE + UNIT)


async def test_many_pieces_of_one_client_get_no_more_than_one_of_another() -> None:
    work = Work()
    many = [asyncio.ensure_future(work.piece("greedy", 40)) for _ in range(31)]
    await asyncio.sleep(0)
    await _run(work, *many, asyncio.ensure_future(work.piece("modest", 40)))
    last = max(place for place, (_, who) in enumerate(work.done) if who == "modest")
    assert last < 40 * 2 + 20


async def test_a_cancelled_piece_costs_no_one_its_turn() -> None:
    work = Work()
    gone = asyncio.ensure_future(work.piece("gone", 1))
    await asyncio.sleep(0)
    gone.cancel()
    await _run(work, asyncio.ensure_future(work.piece("here", 7)))
    assert [who for _, who in work.done] == ["here"] * 7


async def test_nothing_is_scheduled_once_nobody_works() -> None:
    """An idle server must sleep, and not go round and round."""
    work = Work()
    await work.piece("one", 12)
    assert not work.turns.is_idle
    for _ in range(3):
        await asyncio.sleep(0)
    assert work.turns.is_idle


async def test_all_of_a_loop_share_the_same_turns() -> None:
    assert turns() is turns()

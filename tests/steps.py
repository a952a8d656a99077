"""How long a piece of work is: its steps, not its time, so that a busy machine says the same."""

import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

MAX_STEPS = 6000  # lines of Python in one piece, about half a millisecond


def most_steps(pieces: Iterable[object]) -> int:
    """The lines of Python that the longest piece took."""
    steps = most = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return trace

    iterator: Iterator[object] = iter(pieces)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in iterator:
            most, steps = max(most, steps), 0
    finally:
        sys.settrace(before)
    return max(most, steps)

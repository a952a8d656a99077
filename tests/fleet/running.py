"""An Engine without containers, for servers that only read the fleet."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.engine.simulated import SimulatedEngine


@contextlib.contextmanager
def quiet_engine(folder: Path) -> Iterator[str]:
    """A simulated Engine that has nothing, on a loop of its own; its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    engine = SimulatedEngine(folder / "quiet.sock")
    asyncio.run_coroutine_threadsafe(engine.start(), loop).result(10)
    try:
        yield engine.url
    finally:
        asyncio.run_coroutine_threadsafe(engine.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

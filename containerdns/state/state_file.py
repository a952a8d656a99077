"""The file of `--state`: written in pieces, and validated when read.

A JSON object: `version`; `serial`; `remembered`, pairs of an owner and its expiry time;
`claimed`, the owners that containers had when it was written.  Anything invalid in the file is
ignored at the start.
"""

import json
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Final, NamedTuple

from containerdns.config.files import text_of
from containerdns.core import names
from containerdns.core.pieces import emptied
from containerdns.core.zone.remembered_names import MAX_REMEMBERED
from containerdns.core.zone.zone import Zone
from containerdns.errors import BadName

VERSION: Final = 1
MAX_SERIAL: Final = 0xFFFFFFFF
OWNERS_PER_PIECE: Final = 256  # encoded in about 0.1 ms

log = logging.getLogger(__name__)


class SavedState(NamedTuple):
    """The state saved by the previous process.

    Attributes:
        serial: Of the zone; 0 if unknown.
        remembered: Owners and their expiry times, the oldest first.
    """

    serial: int = 0
    remembered: tuple[tuple[str, float], ...] = ()


def read(path: Path, now: float, lifetime: float) -> SavedState:
    """Read a state file; log one warning if it is damaged or cannot be read.

    Owners that were claimed when it was written may have been removed since: they are
    remembered from now on, until a listing shows their containers.

    Args:
        path: It need not exist.
        now: Seconds since the epoch.
        lifetime: Seconds for which owners are remembered, at most.
    """
    try:
        document = json.loads(text_of(path))
        serial, remembered, claimed = (document[k] for k in ("serial", "remembered", "claimed"))
        items = [*remembered, *((owner, math.inf) for owner in claimed)]
    except FileNotFoundError:
        return SavedState()
    # From JSON: ValueError, or RecursionError for very deep nesting.
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        is_foreign = isinstance(error, TypeError | LookupError)
        reason = "not a state file of containerdns" if is_foreign else error
        log.warning("--state %s: cannot be read (%s), starting without it", path, reason)
        return SavedState()
    known = [_remembered(item, now + lifetime) for item in items]
    found = dict(filter(None, known))
    has_serial = isinstance(serial, int) and 0 < serial <= MAX_SERIAL
    if not has_serial or None in known:
        log.warning("--state %s: damaged, using what can be read", path)
    kept = sorted((i for i in found.items() if i[1] > now), key=lambda item: item[1])
    return SavedState(serial if has_serial else 0, tuple(kept[-MAX_REMEMBERED:]))


def _remembered(item: object, latest: float) -> tuple[str, float] | None:
    """Validate an owner and its expiry time, which is limited; return None if invalid."""
    match item:
        case [str() as owner, int() | float() as until] if until > 0:  # excludes NaN
            try:
                name = names.canonical(owner)
            except BadName:
                return None
            return (owner, min(until, latest)) if name.rstrip(".") == owner.rstrip(".") else None
        case _:
            return None


def pieces(zone: Zone) -> Iterator[bytes]:
    """Yield the document in pieces, each generated in a fraction of a millisecond.

    The zone may change between pieces.  An owner claimed meanwhile is still in one of the lists,
    as the remembered owners are read before the claimed ones; and so is one that is removed, as
    those remembered since are added at the end.
    """
    yield b'{"version": %d, "serial": %d, "remembered": [' % (VERSION, zone.serial)
    last = ""
    for earlier in zone.remembered.owners():
        if earlier is None:
            yield b""
            continue
        last = earlier[-1] if earlier else ""
        until = ((owner, zone.remembered.until(owner)) for owner in emptied(earlier))
        yield from _listed(item if item[1] else None for item in until)
    yield b'], "claimed": ['
    yield from _listed(chain(zone.owners_to_keep(), _remembered_since(last, zone)))
    yield b"]}\n"


def _remembered_since(last: str, zone: Zone) -> Iterator[str]:
    """Yield the owners that were remembered after another one, which may be forgotten."""
    most = OWNERS_PER_PIECE
    while last not in (newest := zone.remembered.newest(most)) and len(newest) == most:
        most *= 2
    yield from takewhile(lambda owner: owner != last, newest)


def _listed(items: Iterable[object]) -> Iterator[bytes]:
    """Yield the items of an array but for None, with the commas between them."""
    rest, comma = iter(items), b""
    while batch := list(islice(rest, OWNERS_PER_PIECE)):
        kept = [item for item in batch if item is not None]
        yield comma + json.dumps(kept)[1:-1].encode() if kept else b""
        comma = comma or (b", " if kept else b"")


def write(path: Path, document: Iterable[bytes]) -> None:
    """Write the state to a new file and rename it, so that no partial file is ever visible.

    A symbolic link is followed, not replaced.

    Raises:
        OSError: It cannot be written; no new file is left.
    """
    target = path.resolve()
    beside = target.with_name(target.name + ".new")
    try:
        with beside.open("wb") as file:
            file.writelines(document)
        beside.replace(target)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise

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
from itertools import chain, islice
from pathlib import Path
from typing import Final, NamedTuple

from containerdns.config.files import text_of
from containerdns.core import names
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
    found = dict(filter(None, (_remembered(item, now + lifetime) for item in items)))
    has_serial = isinstance(serial, int) and 0 < serial <= MAX_SERIAL
    if not has_serial or len(found) < len({str(item) for item in items}):
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

    The zone may change between pieces.  An owner removed meanwhile is still in one of the
    lists, since remembered owners are read before and after the claimed ones.
    """
    lifetime = zone.remembered.lifetime
    earlier = zone.remembered.snapshot()
    yield b'{"version": %d, "serial": %d, "claimed": [' % (VERSION, zone.serial)
    yield from _listed(zone.owners_to_keep())
    yield b'], "remembered": ['
    later = zone.remembered.snapshot()
    missed = ((owner, since) for owner, since in earlier.items() if owner not in later)
    remembered = chain(missed, later.items())
    yield from _listed((owner, since + lifetime) for owner, since in remembered)
    yield b"]}\n"


def _listed(items: Iterable[object]) -> Iterator[bytes]:
    """Yield the items of an array, with the commas between them."""
    rest, comma = iter(items), b""
    while batch := list(islice(rest, OWNERS_PER_PIECE)):
        yield comma + json.dumps(batch)[1:-1].encode()
        comma = b", "


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

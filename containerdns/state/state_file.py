"""The file of `--state`: what outlives the process, written in pieces and read with distrust.

A JSON object: `version`; `serial`; `remembered`, pairs of an owner and until when it is ours;
`claimed`, the owners that containers had when it was written.  Whatever else a file holds, the
start goes on without what cannot be used.
"""

import json
import logging
import math
import stat
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final, NamedTuple

from containerdns.core import names
from containerdns.core.zone.remembered_names import MAX_REMEMBERED
from containerdns.core.zone.zone import Zone
from containerdns.errors import BadName

VERSION: Final = 1
MAX_SERIAL: Final = 0xFFFFFFFF
MAX_OCTETS: Final = 256 << 20  # of a file that is read; 100,000 long names are 30 MB
OWNERS_PER_PIECE: Final = 256  # encoded in about 0.1 ms

log = logging.getLogger(__name__)


class SavedState(NamedTuple):
    """What the last life left.

    Attributes:
        serial: Of the zone; 0 if it is not known.
        remembered: Owners and until when they are ours, the oldest first.
    """

    serial: int = 0
    remembered: tuple[tuple[str, float], ...] = ()


def read(path: Path, now: float, lifetime: float) -> SavedState:
    """Read a state file; one that is damaged, or cannot be read, costs one warning.

    What was claimed when it was written may have been removed since: it is remembered from
    now on, until a listing shows its container.

    Args:
        path: It need not exist.
        now: Seconds since the epoch.
        lifetime: Seconds for which owners are remembered; no owner is ours for longer.
    """
    try:
        document = json.loads(_text_of(path))
        serial, remembered, claimed = (document[k] for k in ("serial", "remembered", "claimed"))
        items = [*remembered, *((owner, math.inf) for owner in claimed)]
    except FileNotFoundError:
        return SavedState()
    # Of JSON: ValueError; RecursionError for very many brackets.
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        log.warning("--state %s: cannot be read (%s); starting without it", path, error)
        return SavedState()
    found = dict(filter(None, (_remembered(item, now + lifetime) for item in items)))
    has_serial = isinstance(serial, int) and 0 < serial <= MAX_SERIAL
    if not has_serial or len(found) < len({str(item) for item in items}):
        log.warning("--state %s: damaged; what can be read of it is used", path)
    kept = sorted((i for i in found.items() if i[1] > now), key=lambda item: item[1])
    return SavedState(serial if has_serial else 0, tuple(kept[-MAX_REMEMBERED:]))


def _text_of(path: Path) -> str:
    """Read a file, if it is one: a FIFO would never end, nor would a device."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    if status.st_size > MAX_OCTETS:
        raise OSError(f"larger than {MAX_OCTETS >> 20} MiB")
    return path.read_text(encoding="utf-8")


def _remembered(item: object, latest: float) -> tuple[str, float] | None:
    """Read an owner and until when it is ours, which is cut; None if that is no such pair."""
    match item:
        case [str() as owner, int() | float() as until] if until > 0:  # NaN is not
            try:
                name = names.canonical(owner)
            except BadName:
                return None
            return (owner, min(until, latest)) if name.rstrip(".") == owner.rstrip(".") else None
        case _:
            return None


def pieces(zone: Zone) -> Iterator[bytes]:
    """Yield the document of a zone's state in pieces, each made in a fraction of a millisecond.

    The zone may change between two pieces.  An owner that was removed meanwhile is then still
    in one of both lists, as memory is looked at before and after those that are claimed.
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
    """Write the state beside the file, then rename it, so that it is never half.

    Raises:
        OSError: It cannot be written.
    """
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.writelines(document)
    beside.replace(path)

"""Ready-made responses, cached per view and query, and invalidated per name.

The key of an entry is the whole query after its ID, in lower case, so that a query is answered
with one lookup.  `bytes.lower` is safe for the name (length octets are below 0x41) but also
changes octets elsewhere (type 65, HTTPS, becomes 97): so queries with such an octet in the
header are not cached, and what follows the name is compared as sent.  The question is echoed
with its original spelling.

There are three shelves with separate limits, so that a flood of random names does not evict
hot entries: names that exist, absent names, and responses of upstreams for a short time.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from containerdns.core.counters import Counters
from containerdns.core.protocol import messages
from containerdns.core.protocol.query_variants import OPT_OCTETS, PLAIN_ENDS
from containerdns.core.protocol.respond import Reply
from containerdns.core.zone.views import View

MAX_ENTRIES: Final = {"name": 65536, "absent": 8192, "fresh": 16384}
MAX_OCTETS: Final = {"name": 24 << 20, "absent": 2 << 20, "fresh": 8 << 20}
MAX_OF_A_NAME: Final = 256  # types, EDNS variants and views of one name
MAX_QUERY: Final = 300  # octets: a header, a name of 255, an OPT without options
ENTRY_OCTETS: Final = 500  # overhead of an entry: objects and table slots
MAX_TABLES: Final = 1024  # views; each queried address of ours has its own
MAX_TABLES_COMPARED: Final = 8  # least recently used tables considered, to find the emptiest
MAX_ENTRIES_COMPARED: Final = 16  # of each of these, to find whether they are in use
NAME_OCTETS: Final = 400  # cost of each further name that it depends on
MAX_NAMES: Final = 64  # names that one entry may depend on
MAX_ASKED_ONCE: Final = 16384  # absent names queried once, while the shelf is full
MAX_ENDED: Final = 16384  # queries of upstreams' responses that have ended; then all are forgotten
FREED_AT_ONCE: Final = 64  # entries per step; freeing all invalidated ones would delay queries
TALLIED_AT_ONCE: Final = 2000  # entries, within a fraction of a millisecond
SECOND_CHANCES: Final = 4  # recently used entries skipped to evict one

# Seconds for which an upstream's response is renewed; then what it depends on is looked at again.
MAX_RENEWED: Final = 300.0

ERA: Final = 0.1  # seconds after which responses that vary are looked at again


class Table:
    """The responses of one view.

    Attributes:
        by_query: By the query after its ID, in lower case.
        before_opt: Those of them that take options, by what precedes the query's OPT record: in
            a table without DO, and one with it.
    """

    __slots__ = ("before_opt", "by_query")

    def __init__(self) -> None:
        self.by_query: dict[bytes, Entry] = {}
        self.before_opt: tuple[dict[bytes, Entry], dict[bytes, Entry]] = ({}, {})

    def __len__(self) -> int:
        return len(self.by_query)

    def clear(self) -> None:
        """Remove all responses."""
        for responses in (self.by_query, *self.before_opt):
            responses.clear()


class Era:
    """A time in which a response stays the same.

    A response that varies with the serial or with time is worked out once in each era, so that
    most queries only look whether its era is the current one.
    """

    __slots__ = ("is_current",)

    def __init__(self, *, is_current: bool) -> None:
        self.is_current = is_current


ALWAYS: Final = Era(is_current=True)
NEVER: Final = Era(is_current=False)


class _Used:
    """What each use of an entry looks at.

    The slots of a base class come first: so these are together in memory, as hardly any entry
    is in the processor's cache when a query needs it.
    """

    __slots__ = ("end", "era", "has_letters", "head", "hits", "tail")


class Entry(_Used):
    """A response without the parts taken from the query.

    Attributes:
        head: The response's octets 2 to 12.
        end: Where the question's name ends in the query.
        rest: The rest of the query, as sent.
        has_letters: `rest` has some in its octets, so that it must be compared as sent.
        tail: The rest of the response.
        era: When `tail` is right; at other times, `PacketCache.tail_of` computes it.
        takes_options: Query and response end in an OPT record without options, which follows
            the question in the query; so either can be replaced.
        before_opt: The table that it is in by what precedes the query's OPT record; None if that
            is not enough to recognise the query.
        hits: Number of uses since they were last counted.
    """

    __slots__ = (
        "ages_at",
        "before_opt",
        "is_kept",
        "is_used",
        "kept_tail",
        "key",
        "name",
        "names",
        "qtype",
        "rcode",
        "renewal",
        "renewed_until",
        "rest",
        "rotation",
        "serial",
        "serial_at",
        "shelf",
        "source",
        "table",
        "takes_options",
        "ttls_at",
        "turn",
        "until",
        "upstream",
    )  # fmt: skip

    def __init__(self, table: Table, query: bytes, end: int, reply: Reply, now: float) -> None:
        self.table = table
        self.key = query[2:].lower()
        self.end = end
        self.rest = query[end:]
        self.head = reply.octets[2:12]
        self.kept_tail = reply.octets[end:]
        self.name = reply.name
        self.names = tuple(dict.fromkeys((reply.name, *reply.depends_on)))
        self.qtype = reply.qtype
        self.rcode = reply.rcode
        self.source = reply.source
        self.upstream = reply.upstream
        self.serial_at = reply.serial_at - end if reply.serial_at else 0
        self.serial = self.kept_tail[self.serial_at : self.serial_at + 4]
        self.rotation = tuple(
            (start - end, octets, records)
            for start, octets, records in reply.rotation
            if records > 1
        )
        self.is_kept = reply.is_kept
        self.turn = 0
        is_fresh = reply.keeping == "fresh"
        self.until = now + reply.fresh_for if is_fresh else 0.0
        self.renewal = reply.renewal
        self.renewed_until = now + MAX_RENEWED
        self.ages_at = now + reply.ages_in
        self.ttls_at = tuple(at - end for at in reply.ttl_offsets) if reply.ages_in else ()
        self.hits = 0
        self.is_used = False
        self.shelf = reply.keeping
        is_plain = self.source == "zone" and not (self.rotation or self.serial_at or is_fresh)
        self.tail = self.kept_tail
        self.era = ALWAYS if is_plain else NEVER
        is_alone = len(self.rest) == messages.TYPE_AND_CLASS_OCTETS + OPT_OCTETS
        self.takes_options = is_alone and self.kept_tail.endswith(PLAIN_ENDS)
        self.has_letters = messages.has_letters(self.rest)
        self.before_opt = None if self.has_letters else self._table_before_opt()

    def _table_before_opt(self) -> dict[bytes, "Entry"] | None:
        opt = self.rest[messages.TYPE_AND_CLASS_OCTETS :]
        if not self.takes_options or opt not in PLAIN_ENDS:
            return None
        return self.table.before_opt[PLAIN_ENDS.index(opt)]

    @property
    def octets(self) -> int:
        """The approximate memory that it takes."""
        of_names = NAME_OCTETS * (len(self.names) - 1)
        return len(self.key) + 2 * len(self.kept_tail) + ENTRY_OCTETS + of_names

    def stays_until(self, moment: float) -> bool:
        """Return whether time changes nothing before a moment."""
        expires = 0 < self.until < moment
        return not expires and not (self.ttls_at and self.ages_at < moment)

    def is_renewed(self, now: float) -> bool:
        """Return whether the response may still be used, though its time is up."""
        if self.renewal is None or now >= self.renewed_until:
            return False
        seconds = self.renewal()
        self.until = now + seconds
        return seconds > 0

    def count_down(self, now: float) -> None:
        """Count TTLs down by the seconds that have passed since they were right."""
        age = int(now - self.ages_at) + 1
        self.ages_at += age
        tail = bytearray(self.kept_tail)
        for at in self.ttls_at:
            ttl = int.from_bytes(tail[at : at + 4])
            tail[at : at + 4] = max(ttl - age, 0).to_bytes(4)
        self.kept_tail = bytes(tail)


# In place of an entry where there is none: its tail is empty.
UNKNOWN: Final = Entry(Table(), b"", 0, Reply(b"", messages.NOERROR, "zone"), 0.0)


class PacketCache:
    """The cache of ready-made responses.

    Attributes:
        has_unusual: There may have been hits with another source than "zone" in this era.
        epoch: Increases when tables returned before are no longer filled.
    """

    def __init__(self, counters: Counters) -> None:
        self.has_unusual = False
        self.epoch = 0
        self._era = Era(is_current=True)
        self._era_ends = 0.0
        self._counters = counters
        self._tables: OrderedDict[View, Table] = OrderedDict()  # least recently used first
        self._shelves: dict[str, OrderedDict[Entry, None]] = {}
        self._octets: dict[str, int] = {}
        self._of_name: dict[str, dict[Entry, None]] = {}
        self._variants: Counter[str] = Counter()
        self._forgotten: list[dict[Any, Any]] = []
        self._empty()
        self._asked_once: set[int] = set()
        self._ended: set[bytes] = set()
        self._serial = b""  # until it is known, entries have their own

    def __len__(self) -> int:
        return sum(map(len, self._shelves.values()))

    def table(self, view: View) -> Table:
        """Return the table of a view, which the server reads and only this class changes.

        A table returned before may have been evicted: it then stays empty, so callers must
        ask again periodically.
        """
        table = self._tables.get(view)
        if table is not None:
            self._tables.move_to_end(view)
            return table
        if len(self._tables) >= MAX_TABLES:
            self._drop_a_table()
        table = self._tables[view] = Table()
        return table

    def _drop_a_table(self) -> None:
        """Evict the emptiest of the least recently used tables, but none that is in use.

        Clients with a ready-made response do not ask for their table, so its entries tell.
        """
        oldest = list(islice(self._tables.items(), MAX_TABLES_COMPARED))
        used = [view for view, table in oldest if self._was_used(table)]
        unused = [item for item in oldest if item[0] not in used]
        view, table = min(unused or oldest, key=lambda item: len(item[1]))
        for other in used:
            self._tables.move_to_end(other)
        del self._tables[view]
        for entry in list(table.by_query.values()):
            self._remove(entry)

    def _was_used(self, table: Table) -> bool:
        """Return whether some entries of a table had hits since this was last asked."""
        used = [
            e for e in islice(table.by_query.values(), MAX_ENTRIES_COMPARED) if e.hits or e.is_used
        ]
        for entry in used:
            self._count(entry)
            entry.is_used = False
        return bool(used)

    def answer(self, table: Table, data: bytes, now: float) -> tuple[bytes, Entry] | None:
        """Answer a query from the cache; `server/batch` has the same inline.

        The caller counts: `entry.hits`, or otherwise over TCP.
        """
        entry = table.by_query.get(data[2:].lower())
        if entry is None or (entry.has_letters and not data.endswith(entry.rest)):
            return None
        if now >= self._era_ends:
            self._begin_era(now)
        tail = entry.tail if entry.era.is_current else self.tail_of(entry, now)
        if tail is None:
            return None
        return b"".join((data[:2], entry.head, data[12 : entry.end], tail)), entry

    def tail_of(self, entry: Entry, now: float) -> bytes | None:
        """Return the current tail of an entry that varies; None if it is stale."""
        if entry.until and now >= entry.until and not entry.is_renewed(now):
            self._remove(entry)
            self._record_end(entry.key)
            return None
        if entry.source != "zone":
            self.has_unusual = True
        if entry.ttls_at and now >= entry.ages_at:
            entry.count_down(now)
        if entry.serial_at and entry.serial != self._serial and self._serial:
            at = entry.serial_at
            tail = entry.kept_tail
            entry.kept_tail = tail[:at] + self._serial + tail[at + 4 :]
            entry.serial = self._serial
        if not entry.rotation:
            entry.tail = entry.kept_tail
            entry.era = self._era if entry.stays_until(self._era_ends) else NEVER
            return entry.tail
        entry.turn += 1
        return _turned(entry.kept_tail, entry.rotation, entry.turn)

    def _record_end(self, key: bytes) -> None:
        if len(self._ended) >= MAX_ENDED:
            self._ended.clear()
        self._ended.add(key)

    def has_ended(self, query: bytes) -> bool:
        """Return whether the response to a query has ended lately, and is worth keeping again."""
        return bool(self._ended) and query[2:].lower() in self._ended

    def begin_batch(self, now: float) -> None:
        """Prepare for a batch of queries; must be called before `Entry.era` is looked at."""
        if now >= self._era_ends:
            self._begin_era(now)
            self.has_unusual = False

    def _begin_era(self, now: float) -> None:
        self._end_era()
        self._era_ends = now + ERA

    def _end_era(self) -> None:
        self._era.is_current = False
        self._era = Era(is_current=True)

    def keep(self, view: View, query: bytes, reply: Reply, now: float) -> None:
        """Cache a response for identical queries, if possible.

        Args:
            view: The client's view.
            query: The query, as received.
            reply: Its response, including the question.
            now: In the same clock as that of `answer`.
        """
        if self._forgotten:
            self._free_some()
        shelf = reply.keeping
        if shelf == "no" or len(query) > MAX_QUERY or messages.has_letters(query[2:12]):
            return
        if len(reply.depends_on) > MAX_NAMES:
            return
        if shelf == "fresh" and (reply.fresh_for <= 0 or reply.source == "upstream"):
            return  # most names are asked for once: what the upstream cache has is kept here
        end = query.find(b"\0", 12) + 1
        if end < 13 or not _same_question(query, reply.octets, end):
            return  # a name with a zero octet in a label, or an answer without a question
        if shelf == "absent" and not self._is_worth_keeping(query, reply):
            return
        entry = Entry(self.table(view), query, end, reply, now)
        if (former := entry.table.by_query.get(entry.key)) is not None:
            self._remove(former)
        self._make_room(entry)
        self._ended.discard(entry.key)
        entry.table.by_query[entry.key] = entry
        if entry.before_opt is not None:
            entry.before_opt[entry.key[:-OPT_OCTETS]] = entry
        self._shelves[shelf][entry] = None
        self._octets[shelf] += entry.octets
        self._variants[entry.name] += 1
        for name in entry.names:
            self._of_name.setdefault(name, {})[entry] = None

    def is_asked_again(self, key: bytes) -> bool:
        """Return whether a query was seen here before, and record it.

        So a flood of random names neither costs caching, nor evicts the names that clients do
        query repeatedly.
        """
        mark = hash(key)
        if mark in self._asked_once:
            return True
        if len(self._asked_once) >= MAX_ASKED_ONCE:
            self._asked_once.clear()
        self._asked_once.add(mark)
        return False

    def set_serial(self, serial: int) -> None:
        """Set the zone's serial, for negative answers from now on."""
        self._serial = serial.to_bytes(4)
        self._end_era()

    def forget(self, names: Iterable[str]) -> None:
        """Remove the entries of canonical names that have changed."""
        for name in self._of_name.keys() & names:
            for entry in list(self._of_name.get(name, ())):
                self._remove(entry)

    def forget_absent(self) -> None:
        """Remove the entries of absent names, as a wildcard or a zone changed."""
        for entry in list(self._shelves["absent"]):
            self._remove(entry)

    def forget_all(self) -> None:
        """Remove all entries; their hits are counted later."""
        for table in self._tables.values():
            table.clear()
        dropped: list[dict[Any, Any]] = [*self._shelves.values(), self._of_name, self._variants]
        self._forgotten += [places for places in dropped if places]
        self._ended.clear()
        self._empty()

    def forget_views(self) -> None:
        """Remove all tables; those returned before stay empty."""
        self.epoch += 1
        self.forget_all()
        self._tables.clear()

    def tally(self) -> None:
        """Count the hits since the last call; must be called before reading counters."""
        for _ in self.tally_in_pieces():
            pass

    def tally_in_pieces(self) -> Iterator[None]:
        """Do the same with pauses; entries that go meanwhile are counted as they go."""
        forgotten = (places for places in self._forgotten if isinstance(places, OrderedDict))
        for shelf in (*self._shelves.values(), *forgotten):
            for number, entry in enumerate(list(shelf)):
                if number % TALLIED_AT_ONCE == 0:
                    yield
                if entry.hits:
                    self._count(entry)

    def _empty(self) -> None:
        # A dict would find its oldest entry only after all the slots of removed ones.
        self._shelves = {shelf: OrderedDict() for shelf in MAX_ENTRIES}
        self._octets = dict.fromkeys(MAX_ENTRIES, 0)
        self._of_name = {}
        self._variants = Counter()

    def _free_some(self) -> None:
        """Count and free some of the removed entries."""
        last = self._forgotten[-1]
        for _ in range(min(FREED_AT_ONCE, len(last))):
            freed, _ = last.popitem()
            if isinstance(freed, Entry):
                self._count(freed)
        if not last:
            self._forgotten.pop()

    def _is_worth_keeping(self, query: bytes, reply: Reply) -> bool:
        """Return whether there is room for an absent name, or it was queried before."""
        octets = len(query) + 2 * len(reply.octets) + ENTRY_OCTETS
        has_places = len(self._shelves["absent"]) < MAX_ENTRIES["absent"]
        if has_places and self._octets["absent"] + octets <= MAX_OCTETS["absent"]:
            return True
        return self.is_asked_again(query[2:].lower())

    def _make_room(self, entry: Entry) -> None:
        shelf, kind = self._shelves[entry.shelf], entry.shelf
        while shelf and (
            len(shelf) >= MAX_ENTRIES[kind] or self._octets[kind] + entry.octets > MAX_OCTETS[kind]
        ):
            self._evict(shelf)
        if self._variants[entry.name] >= MAX_OF_A_NAME:
            self._evict_of(entry.name)

    def _evict_of(self, name: str) -> None:
        """Evict the oldest entry of a name that was not used since the others were looked at.

        So unusual flags, sizes and types do not evict those that clients do use.
        """
        of_name = self._of_name[name]  # with those of other names that depend on it
        for _ in range(MAX_OF_A_NAME):
            oldest = next(entry for entry in of_name if entry.name == name)
            if not (oldest.hits or oldest.is_used):
                break
            self._count(oldest)
            oldest.is_used = False
            of_name[oldest] = of_name.pop(oldest)
        else:  # all were used; then the newest, as the oldest has proved useful for longest
            oldest = next(entry for entry in reversed(of_name) if entry.name == name)
        self._remove(oldest)

    def _evict(self, entries: OrderedDict[Entry, None]) -> None:
        """Evict the oldest entry that was not used recently."""
        for _ in range(SECOND_CHANCES):
            oldest = next(iter(entries))
            if not (oldest.hits or oldest.is_used):
                break
            self._count(oldest)
            oldest.is_used = False
            entries.move_to_end(oldest)
        self._remove(next(iter(entries)))

    def _remove(self, entry: Entry) -> None:
        self._count(entry)
        if entry.table.by_query.get(entry.key) is entry:
            del entry.table.by_query[entry.key]
            if entry.before_opt is not None:
                del entry.before_opt[entry.key[:-OPT_OCTETS]]
        if entry not in self._shelves[entry.shelf]:
            return
        del self._shelves[entry.shelf][entry]
        self._octets[entry.shelf] -= entry.octets
        self._variants[entry.name] -= 1
        if not self._variants[entry.name]:
            del self._variants[entry.name]
        for name in entry.names:
            of_name = self._of_name.get(name)
            if of_name is not None:
                of_name.pop(entry, None)
                if not of_name:
                    del self._of_name[name]

    def _count(self, entry: Entry) -> None:
        hits, entry.hits = entry.hits, 0
        if not hits:
            return
        entry.is_used = True
        self._counters.asked("udp", entry.qtype, hits)
        self._counters.answered(entry.rcode, entry.source, hits)
        self._counters.kept_from_upstream += hits if entry.is_kept else 0
        if entry.source == "cache":
            self._counters.cache_hits += hits


def _turned(tail: bytes, rotation: tuple[tuple[int, int, int], ...], turn: int) -> bytes:
    """Move the first `turn` records of each run to its end."""
    for start, octets, records in rotation:
        middle = start + turn % records * octets
        stop = start + octets * records
        tail = b"".join((tail[:start], tail[middle:stop], tail[start:middle], tail[stop:]))
    return tail


def _same_question(query: bytes, response: bytes, end: int) -> bool:
    return len(query) >= end + 4 and response[12 : end + 4] == query[12 : end + 4]

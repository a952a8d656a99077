"""A copy of a zone: each state is whole, and differences lead from one to the next."""

from collections.abc import Iterator

from containerdns.core.protocol.messages import RR
from containerdns.core.zone import secondary_copies
from containerdns.core.zone.secondary_copies import Copy, Cut, Seen, Work


class Book:
    """A zone as a dict from names to numbers.

    Attributes:
        serial: Of its SOA.
        numbers: What it holds.
        read: Names that were looked at.
        large_names: Those that take long.
    """

    def __init__(self, **numbers: int) -> None:
        self.serial = 1
        self.numbers = numbers
        self.read: list[str] = []
        self.large_names: set[str] = set()

    def soa(self) -> RR:
        return RR(b"\0", 6, 1, 5, b"\0\0" + self.serial.to_bytes(4) + bytes(16))

    def names(self) -> Iterator[str]:
        yield from list(self.numbers)

    def records(self, name: str) -> tuple[RR, ...]:
        self.read.append(name)
        return (record(self.numbers[name]),) if name in self.numbers else ()

    def is_large(self, name: str) -> bool:
        return name in self.large_names

    def later(self, name: str) -> Work:
        return iter((None, self.records(name)))

    def put(self, copy: Copy, **numbers: int) -> None:
        """Change some names under a new serial; 0 takes one away."""
        self.serial += 1
        self.numbers.update(numbers)
        self.numbers = {name: number for name, number in self.numbers.items() if number}
        copy.touch(numbers)


def record(number: int) -> RR:
    return RR(b"\0", 1, 1, 5, number.to_bytes(4))


def finish(copy: Copy) -> Copy:
    while copy.advance():
        pass
    cut = copy.cut()
    assert cut is None or copy.paste(cut, worked_out(cut))
    return copy


def worked_out(cut: Cut) -> dict[str, Seen]:
    """What a cut holds when all pieces are done."""
    seen: dict[str, Seen] = {}
    for _ in cut.work_out(seen):
        pass
    return seen


def numbers(found: object) -> list[int]:
    """The numbers of some records, in order."""
    assert isinstance(found, Iterator | tuple | list)
    return sorted(int.from_bytes(r.rdata) for r in found)


def test_copy_is_the_zone_and_its_serial() -> None:
    copy = finish(Copy(Book(a=1, b=2)))
    assert (copy.serial, numbers(copy.records())) == (1, [1, 2])


def test_difference_has_what_went_and_what_came() -> None:
    book = Book(a=1, b=2, c=3)
    copy = finish(Copy(book))
    book.put(copy, a=0, b=4, d=5)
    finish(copy)
    [change] = copy.since(1) or ()
    assert (change.before, change.after) == (1, 2)
    assert (numbers(change.removed), numbers(change.added)) == ([1, 2], [4, 5])
    assert numbers(copy.records()) == [3, 4, 5]


def test_change_that_was_taken_back_is_no_difference() -> None:
    book = Book(a=1)
    copy = finish(Copy(book))
    book.put(copy, a=2)
    book.put(copy, a=1)
    [change] = finish(copy).since(1) or ()
    assert (change.after, change.removed, change.added) == (3, [], [])


def test_change_that_was_seen_under_one_serial_and_taken_back_is_no_difference() -> None:
    """A reload that is undone before its serial comes."""
    book = Book(a=1)
    copy = finish(Copy(book))
    book.numbers["a"] = 2
    copy.touch(["a"])
    finish(copy)
    book.put(copy, a=1)
    [change] = finish(copy).since(1) or ()
    assert (change.after, change.removed, change.added) == (2, [], [])
    assert numbers(copy.records()) == [1]


def test_only_changed_names_are_looked_at_again() -> None:
    book = Book(a=1, b=2)
    copy = finish(Copy(book))
    book.read.clear()
    book.put(copy, b=3)
    finish(copy)
    assert book.read == ["b"]


def test_zone_that_changes_while_it_is_read_is_copied_as_it_is_at_the_end() -> None:
    book = Book(a=1, b=2)
    copy = Copy(book)
    copy.advance()
    book.put(copy, a=3, c=4)
    finish(copy)
    assert (copy.serial, numbers(copy.records())) == (2, [2, 3, 4])


def test_change_while_changes_are_looked_at_is_part_of_the_same_step() -> None:
    book = Book(a=1, b=2)
    copy = finish(Copy(book))
    book.put(copy, a=3, b=4)
    copy.advance()
    copy.advance()
    book.put(copy, a=5)
    [change] = finish(copy).since(1) or ()
    assert (change.after, numbers(change.added)) == (3, [4, 5])


def test_records_that_are_being_sent_do_not_change() -> None:
    book = Book(a=1, b=2)
    copy = finish(Copy(book))
    sending = copy.records()
    next(sending)
    book.put(copy, a=3, b=4)
    finish(copy)
    assert numbers(sending) == [2]


def test_zone_that_changes_under_one_serial_is_sent_as_it_was_before() -> None:
    """A reload is many changes and one serial at its end; half of it belongs to no serial."""
    book = Book(a=1)
    copy = finish(Copy(book))
    book.numbers["a"] = 2
    copy.touch(["a"])
    assert numbers(finish(copy).records()) == [1]
    book.serial = 2
    [change] = finish(copy).since(1) or ()
    assert (numbers(change.removed), numbers(change.added)) == ([1], [2])


def test_nothing_follows_on_a_serial_under_which_a_zone_was_read_twice() -> None:
    """Secondaries with that serial may have either content; all take the zone whole."""
    book = Book(a=1)
    copy = finish(Copy(book))
    book.numbers["a"] = 2
    copy.restart()
    finish(copy)
    book.put(copy, a=3)
    assert finish(copy).since(1) is None
    book.put(copy, a=4)
    assert finish(copy).since(2) is not None


def test_restart_forgets_differences() -> None:
    book = Book(a=1)
    copy = finish(Copy(book))
    book.put(copy, a=2)
    finish(copy)
    copy.restart()
    book.serial = 3
    finish(copy)
    assert (copy.since(1), copy.since(2), numbers(copy.records())) == (None, None, [2])


def test_too_many_changed_names_are_a_zone_to_be_read_anew() -> None:
    book = Book(a=1)
    copy = finish(Copy(book))
    book.serial = 2
    copy.touch(map(str, range(secondary_copies.MAX_CHANGED)))
    assert finish(copy).since(1) is not None
    book.serial = 3
    copy.touch(map(str, range(secondary_copies.MAX_CHANGED + 1)))
    assert finish(copy).since(1) is None


def test_nothing_is_kept_of_changes_before_somebody_asks() -> None:
    book = Book(a=1)
    copy = Copy(book)
    for number in range(2, 5):
        book.put(copy, a=number)
    finish(copy)
    assert book.read == ["a"]


def test_soa_has_the_serial_of_the_copy() -> None:
    book = Book(a=1)
    copy = finish(Copy(book))
    book.serial = 9
    assert copy.soa.rdata[2:6] == (1).to_bytes(4)


def test_name_that_takes_long_is_copied_as_it_was_at_the_cut() -> None:
    """However often it changes while it is worked out: else a busy zone is never current."""
    book = Book(a=1, b=2)
    book.large_names.add("b")
    copy = finish(Copy(book))
    book.put(copy, a=3, b=4)
    while copy.advance():
        pass
    cut = copy.cut()
    assert cut is not None
    book.put(copy, a=5, b=6)
    assert copy.paste(cut, worked_out(cut))
    assert (copy.serial, numbers(copy.records())) == (2, [3, 4])
    finish(copy)
    [first, second] = copy.since(1) or ()
    assert (first.after, numbers(first.removed), numbers(first.added)) == (2, [1, 2], [3, 4])
    assert (second.after, numbers(second.removed), numbers(second.added)) == (3, [3, 4], [5, 6])


def test_cut_of_a_copy_that_was_begun_anew_is_not_taken() -> None:
    book = Book(a=1)
    book.large_names.add("a")
    copy = Copy(book)
    assert copy.advance()
    assert not copy.advance()
    cut = copy.cut()
    assert cut is not None
    copy.restart()
    assert not copy.paste(cut, worked_out(cut))
    assert numbers(finish(copy).records()) == [1]

"""Hosts files: names of addresses, and what a bad line costs."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core.zone import hosts_file
from containerdns.core.zone.policy import Publication, PublicationChange


def read(text: str) -> tuple[dict[str, list[str]], list[str]]:
    found, faults = hosts_file.publications(text, "/etc/hosts", 5)
    assert all(p.id.startswith("hosts:") and ":" in p.id and p.ttl == 5 for p in found)
    return {p.claims[0].owner: [a.text for a in p.addresses] for p in found}, faults


def test_single_label_is_relative_and_dotted_name_absolute() -> None:
    """The contract, option --hosts."""
    found, faults = read("192.0.2.1 Printer printer.corp.example other.example.\n")
    assert found == {
        "printer": ["192.0.2.1"],
        "printer.corp.example.": ["192.0.2.1"],
        "other.example.": ["192.0.2.1"],
    }
    assert faults == []


def test_all_addresses_of_a_name_are_one_publication() -> None:
    found, _ = read("192.0.2.1 a b\n2001:DB8::1 a\n192.0.2.1 a\n")
    assert found == {"a": ["192.0.2.1", "2001:db8::1"], "b": ["192.0.2.1"]}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense web", "line 2: 'nonsense' is not an IP address"),
        ("192.0.2.300 web", "line 2: '192.0.2.300' is not an IP address"),
        ("192.0.2.1", "line 2: no name after 192.0.2.1"),
        ("192.0.2.1 a..b", "line 2: 'a..b': empty label"),
        ("192.0.2.1 *.web", "line 2: '*.web': not allowed as a static record"),
        ("192.0.2.1 *", "line 2: '*': not allowed as a static record"),
        ("192.0.2.1 .", "line 2: '.': not allowed as a static record"),
        ("192.0.2.1 w\u00e4b", "line 2: 'w\u00e4b': not ASCII"),
    ],
)
def test_bad_line_costs_itself_alone(line: str, told: str) -> None:
    found, faults = read(f"192.0.2.9 good\n{line}\n192.0.2.8 other # {line}\n")
    assert found == {"good": ["192.0.2.9"], "other": ["192.0.2.8"]}
    assert faults == [f"/etc/hosts, {told}"]


@pytest.mark.parametrize("text", ["", "\n\n", "# 192.0.2.1 web", "   # x", "\t\r\n"])
def test_empty_lines_and_comments_say_nothing(text: str) -> None:
    assert read(text) == ({}, [])


class Following:
    """What a zone would hold of a file that changes."""

    def __init__(self) -> None:
        self.file = hosts_file.HostsFile("/etc/hosts")
        self.published: dict[str, Publication] = {}

    def read(self, text: str, ttl: int = 5) -> int:
        """Read the file again; return how many publications and lines that cost."""
        units = list(self.file.read(text, ttl))
        for change in units:
            if change is not None:
                self.take(change)
        return len(units)

    def take(self, change: PublicationChange) -> None:
        publication_id, publication = change
        if publication is None:
            self.published.pop(publication_id, None)
        else:
            self.published[publication_id] = publication


def anew(text: str, ttl: int = 5) -> dict[str, Publication]:
    return {p.id: p for p in hosts_file.publications(text, "/etc/hosts", ttl)[0]}


LINES = st.sampled_from(
    ["192.0.2.1 a", "192.0.2.2 a b", "192.0.2.1 a b c.example", "", "# x", "bad a", "::1 b",
     "192.0.2.1 a\r", "192.0.2.1 x"]
)  # fmt: skip
TEXTS = st.builds(
    lambda lines, end: "\n".join(lines) + end,
    st.lists(LINES, max_size=8),
    st.sampled_from(["", "\n", "\n\n"]),
)


@given(st.lists(st.tuples(TEXTS, st.integers(5, 6)), max_size=6))
def test_file_read_again_says_what_one_read_first_says(versions: list[tuple[str, int]]) -> None:
    following = Following()
    for text, ttl in versions:
        following.read(text, ttl)
        assert following.published == anew(text, ttl)


@given(TEXTS, TEXTS, TEXTS, st.integers(0, 12))
def test_reading_that_was_not_finished_is_made_up_for(
    first: str, second: str, third: str, units: int
) -> None:
    """Housekeeping starts again after an internal error in the midst of a file."""
    following = Following()
    following.read(first)
    for change in islice(following.file.read(second, 5), units):
        if change is not None:
            following.take(change)
    following.read(third)
    assert following.published == anew(third)


def test_one_changed_line_costs_that_line() -> None:
    lines = [f"10.0.{n >> 8}.{n & 255} host-{n}" for n in range(10_000)]
    following = Following()
    following.read("\n".join(lines))
    lines[5000] = "10.0.19.136 renamed"
    assert following.read("\n".join(lines)) <= 2 * 2 + 3  # two lines twice, and three names
    assert "hosts:/etc/hosts:renamed" in following.published
    assert "hosts:/etc/hosts:host-5000" not in following.published
    assert following.read("\n".join(lines)) <= 3  # nothing has changed


def test_faults_are_told_of_the_lines_that_were_read() -> None:
    following = Following()
    following.read("192.0.2.1 a\nbad b\n")
    assert following.file.faults == ["/etc/hosts, line 2: 'bad' is not an IP address"]
    following.read("192.0.2.1 a\nbad b\n192.0.2.1 a..b\n")
    assert following.file.faults == ["/etc/hosts, line 3: 'a..b': empty label"]


def test_long_line_is_read_in_small_pieces() -> None:
    """A line of 80 KB was one piece of 40 ms."""
    file = hosts_file.HostsFile("/etc/hosts")
    for text, count in (
        (f"192.0.2.1 {' '.join(f'n{n}' for n in range(20_000))} n7\n", 20_000),
        ("", 0),
    ):
        before = len(list(file.ids()))
        pieces = []
        for change in file.read(text, 5):
            left = len(list(file.ids())) if change is None else count
            pieces.append(abs(left - before))
            before = left
        assert max(pieces) <= hosts_file.NAMES_AT_ONCE
        assert before == count

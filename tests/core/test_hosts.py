"""Hosts files: names of addresses, and what a bad line costs."""

import pytest

from containerdns.core import hosts


def read(text: str) -> tuple[dict[str, list[str]], list[str]]:
    found, faults = hosts.publications(text, "/etc/hosts", 5)
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
        ("nonsense web", "line 2: 'nonsense' is no IP address"),
        ("192.0.2.300 web", "line 2: '192.0.2.300' is no IP address"),
        ("192.0.2.1", "line 2: no name behind 192.0.2.1"),
        ("192.0.2.1 a..b", "line 2: 'a..b': empty label"),
        ("192.0.2.1 *.web", "line 2: '*.web': no name for a static record"),
        ("192.0.2.1 *", "line 2: '*': no name for a static record"),
        ("192.0.2.1 .", "line 2: '.': no name for a static record"),
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

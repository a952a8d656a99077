"""Master file text: whatever a container says stays inside its quotes."""

import pytest

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone import master_file
from containerdns.core.zone.records import MAX_OF_TYPE, Record
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import Shape, Suffix, SuffixKind, Zone

DOCKER = Suffix("docker.", SuffixKind.DOMAIN)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", '"plain text"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("; no comment", '"; no comment"'),
        ("a\nb", '"a\\010b"'),
        ("\x00\x7f", '"\\000\\127"'),
        ("\u00e4", '"\\195\\164"'),
        ("", '""'),
    ],
)
def test_text_is_quoted(text: str, shown: str) -> None:
    octets = text.encode()
    assert master_file.data_text(messages.TXT, bytes([len(octets)]) + octets) == shown


def test_strings_of_one_text_stand_side_by_side() -> None:
    rdata = b"\xff" + b"x" * 255 + b"\1y"
    assert master_file.data_text(messages.TXT, rdata) == f'"{"x" * 255}" "y"'


def test_srv_has_its_numbers_and_its_target() -> None:
    rdata = bytes(4) + (8080).to_bytes(2) + names.to_wire("o\\.d.docker.")
    assert master_file.data_text(messages.SRV, rdata) == "0 0 8080 o\\.d.docker."


@pytest.mark.parametrize(
    "text", ["a\nb IN A 1.2.3.4", "a\r\n$INCLUDE /etc/shadow", "\x1b[2J", "\u2028x"]
)
def test_comment_stays_on_its_line(text: str) -> None:
    line = master_file.comment(text)
    assert line.startswith("; ")
    assert line.isprintable()


def test_line_has_owner_ttl_class_type_and_data() -> None:
    record = Record("web.docker.", messages.A, 5, bytes((10, 0, 0, 1)))
    assert master_file.line(record) == "web.docker.\t5\tIN\tA\t10.0.0.1"


@pytest.mark.parametrize(
    ("suffix", "knows_address", "target"),
    [
        (DOCKER, True, "ns.docker."),
        (DOCKER, False, master_file.NOWHERE),
        (Suffix("18.172.in-addr.arpa.", SuffixKind.REVERSE), False, "ns.docker."),
    ],
    ids=["known", "unknown", "of another zone"],
)
def test_server_without_an_address_is_not_named_in_its_own_zone(
    suffix: Suffix, knows_address: bool, target: str
) -> None:
    """BIND refuses a zone whose name server lies in it and has no address."""
    zone = Zone(Shape(), 1, RememberedNames(0))
    ns = Record(suffix.apex, messages.NS, 5, names.to_wire("ns.docker."))
    lines = list(master_file.lines(zone, suffix, [ns], knows_address))
    assert lines[:2] == [f"$ORIGIN {suffix.apex}", "$TTL 5"]
    assert lines[-1] == f"{suffix.apex}\t5\tIN\tNS\t{target}"


@pytest.mark.parametrize(
    ("more", "comments"),
    [
        (0, []),
        (1, ["; 1 more A record of web.docker. is left out, as BIND loads at most 100"]),
        (2, ["; 2 more A records of web.docker. are left out, as BIND loads at most 100"]),
    ],
)
def test_records_that_bind_does_not_load_are_counted(more: int, comments: list[str]) -> None:
    zone = Zone(Shape(), 1, RememberedNames(0))
    found = [
        Record("web.docker.", messages.A, 5, bytes((10, 0, 0, number)))
        for number in range(MAX_OF_TYPE + more)
    ]
    text = [line for line in master_file.lines(zone, DOCKER, found, True) if line]
    assert [line for line in text if line.startswith(";")] == comments
    assert len(text) == 2 + MAX_OF_TYPE + len(comments)

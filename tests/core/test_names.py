"""Names: text and wire form are one to one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.errors import BadName

LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=4)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web", "web."),
        ("web.", "web."),
        ("Web.Docker", "web.docker."),
        (".", "."),
        ("a_b-c.d", "a_b-c.d."),
        ("web\\.apps", "web\\.apps."),
        ("web\\046apps.", "web\\.apps."),
        ("\\065\\066", "ab."),
        ("\\000\\255", "\\000\\255."),
        ("a\\\\.b", "a\\\\.b."),
        ("\\.", "\\.."),
        ("a b", "a\\032b."),
        ("\\@\\$", "\\@\\$."),
        ("a" * 63, "a" * 63 + "."),
        ("*.web", "*.web."),
    ],
    ids=[
        "without final dot", "with it", "capitals", "root", "underscore", "escaped dot",
        "the same in digits", "escaped letters", "lowest and highest octet",
        "backslash before a dot", "a dot alone", "blank", "needlessly escaped", "longest label",
        "wildcard",
    ],
)  # fmt: skip
def test_text_becomes_its_canonical_name(text: str, name: str) -> None:
    assert names.canonical(text) == name
    assert names.canonical(name) == name


@pytest.mark.parametrize(
    "text",
    ["", "..", ".web", "web..docker", "a" * 64, "\\256", "a\\", "ä", "\u212a", "a." * 126 + "abcd"],
    ids=[
        "empty", "two dots", "dot in front", "empty label", "label of 64", "escape above 255",
        "backslash at the end", "umlaut", "Kelvin sign, which lower() makes a k",
        "wire form of 258",
    ],
)  # fmt: skip
def test_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        names.canonical(text)


def test_longest_name_has_255_octets_in_wire_form() -> None:
    """RFC 1035 section 2.3.4."""
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    assert len(names.to_wire(longest + ".")) == 255
    with pytest.raises(BadName, match="longer than 255"):
        names.canonical(longest + "d")


@pytest.mark.parametrize(
    "text", [".", "a\\.", "x.a\\046"], ids=["root", "dot at the end", "digits"]
)
def test_relative_name_that_would_look_absolute_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        names.relative(text)


def test_relative_name_has_no_final_dot() -> None:
    assert names.relative("Web.Frontend.") == names.relative("web.frontend") == "web.frontend"


@given(LABELS)
def test_wire_form_comes_back_in_lower_case(labels: list[bytes]) -> None:
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(wire) > names.MAX_NAME:
        return
    name = names.from_wire(wire)
    assert names.to_wire(name) == wire.lower()
    assert len(names.labels_of_text(name)) == len(labels)


@pytest.mark.parametrize(
    ("name", "apex", "is_below"),
    [
        ("web.docker.", "docker.", True),
        ("docker.", "docker.", True),
        ("webdocker.", "docker.", False),
        ("web\\.docker.", "docker.", False),
        ("web\\\\.docker.", "docker.", True),
        ("web.docker.", ".", True),
        ("docker.", "web.docker.", False),
    ],
    ids=["below", "itself", "a longer label", "escaped dot", "escaped backslash", "root", "above"],
)
def test_name_is_below_whole_labels_only(name: str, apex: str, is_below: bool) -> None:
    assert names.is_below(name, apex) is is_below


@pytest.mark.parametrize(
    ("name", "parents"),
    [
        (".", []),
        ("docker.", ["."]),
        ("a.b.c.", ["b.c.", "c.", "."]),
        ("a\\.b.c.", ["c.", "."]),
        ("a.b\\.c.d.", ["b\\.c.d.", "d.", "."]),
    ],
    ids=["root", "one label", "three", "escaped dot first", "escaped dot above"],
)
def test_parents_are_nearest_first(name: str, parents: list[str]) -> None:
    assert list(names.parents(name)) == parents


@pytest.mark.parametrize(
    ("name", "is_single"),
    [("web.", True), ("web", True), ("a.b.", False), ("a\\.b.", True), (".", False), ("", False)],
    ids=["absolute", "relative", "two labels", "escaped dot", "root", "nothing"],
)
def test_single_label_is_told(name: str, is_single: bool) -> None:
    assert names.is_single_label(name) is is_single


@pytest.mark.parametrize("apex", [".", "docker.", "a.b."], ids=["root", "one label", "two"])
def test_join_and_strip_suffix_are_inverse(apex: str) -> None:
    assert names.strip_suffix(names.join("web.x", apex), apex) == "web.x"


def test_text_is_not_read_if_it_is_longer_than_any_name() -> None:
    """Docker accepts a label of 17 MiB, which took seconds."""
    longest = ".".join(("\\001" * 63, "\\001" * 63, "\\001" * 63, "\\001" * 61))
    assert len(longest) < names.MAX_TEXT
    assert names.canonical(longest) == longest + "."
    with pytest.raises(BadName, match="name longer than 255 octets") as caught:
        names.canonical("\\001" * 255 + "a")
    assert len(str(caught.value)) < 200


@given(st.text("ab1-_.*\\A ", max_size=12) | st.text("ab.", min_size=250, max_size=258))
def test_canonical_names_are_those_of_their_wire_form(text: str) -> None:
    """Nearly all texts are canonical already, and are not taken apart: it must not show."""
    try:
        name = names.canonical(text)
    except BadName:
        plain = text.removesuffix(".")
        labels = plain.split(".")
        assert len(plain) > 253 or not all(labels) or "\\" in text or len(max(labels)) > 63
    else:
        assert names.from_wire(names.to_wire(name)) == name


@pytest.mark.parametrize("length", [63, 64])
def test_label_of_63_octets_is_the_longest(length: int) -> None:
    """RFC 1035 section 2.3.4."""
    if length == 63:
        assert names.canonical("a" * length) == "a" * length + "."
    else:
        with pytest.raises(BadName):
            names.canonical("a" * length)


@pytest.mark.parametrize("octets", [255, 256])
def test_name_of_255_octets_is_the_longest(octets: int) -> None:
    """RFC 1035 section 2.3.4: with a length octet before each label, and a final zero."""
    text = ".".join(["a" * 63] * 3 + ["a" * (octets - 3 * 64 - 2)])
    if octets == 255:
        assert len(names.to_wire(names.canonical(text))) == octets
    else:
        with pytest.raises(BadName):
            names.canonical(text)

"""Arrays in pieces: what is decoded, what is skipped, and at which cost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.engine import decoding
from containerdns.engine.decoding import MAX_DOCUMENT, ArrayDecoder, SkippedItem

PIECE = 1 << 16  # octets, as a connection gives them

VALUES = st.recursive(
    st.text(alphabet='a"\\\\[]{},: é', max_size=6) | st.integers() | st.none() | st.booleans(),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3)
    ),
    max_leaves=8,
)


def decoded(octets: bytes, step: int = PIECE) -> list[Any]:
    """Decode a whole array that comes in pieces."""
    decoder = ArrayDecoder()
    found = []
    for at in range(0, len(octets), step):
        found += list(decoder.feed(octets[at : at + step]))
    assert decoder.is_complete
    return found


@given(st.lists(st.dictionaries(st.text(max_size=4), VALUES), max_size=6), st.integers(1, 9))
def test_array_is_decoded_however_it_is_cut(items: list[Any], step: int) -> None:
    for escaped in (True, False):
        octets = json.dumps(items, ensure_ascii=escaped).encode(errors="replace")
        assert decoded(octets, step) == json.loads(octets)


@given(st.dictionaries(st.text(max_size=4), VALUES, min_size=1), st.integers(1, 9))
def test_long_item_is_skipped_however_it_is_cut(item: dict[str, Any], step: int) -> None:
    """With a limit of nothing at all, each item is one that is too long when it is cut."""
    octets = json.dumps([item, {"Id": "after"}]).encode()
    longest, decoding.MAX_DOCUMENT = decoding.MAX_DOCUMENT, 0
    try:
        found = decoded(octets, step)
    finally:
        decoding.MAX_DOCUMENT = longest
    assert len(found) == 2


@pytest.mark.parametrize("octets", [b"", b"[", b"[{}", b"[{},", b"[nonsense]", b'[{"a": }]'])
def test_broken_array_is_never_complete(octets: bytes) -> None:
    decoder = ArrayDecoder()
    list(decoder.feed(octets))
    assert not decoder.is_complete


def test_no_array_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="array"):
        list(ArrayDecoder().feed(b'{"message": "no"}'))


@pytest.mark.parametrize(
    "filling", ["x", '"', "\\", "{["], ids=["plain", "quotes", "slashes", "open"]
)
def test_item_of_many_megabytes_is_skipped_alone(filling: str) -> None:
    """An Engine accepts a label of 17 MiB; what it begins with is known all the same."""
    big = {
        "Id": "big",
        "Names": ["/web"],
        "Labels": {"text": filling * ((17 << 20) // len(filling))},
    }
    before, found, after = decoded(json.dumps([{"Id": "a"}, big, {"Id": "b"}]).encode())
    assert (before, after) == ({"Id": "a"}, {"Id": "b"})
    assert isinstance(found, SkippedItem)
    assert found.fields == {"Id": "big", "Names": ["/web"]}
    assert str(MAX_DOCUMENT) in found.reason


def test_item_that_is_nested_too_deep_is_skipped_alone() -> None:
    deep = '{"Id": "deep", "Names": ["/web"], "Labels": ' + "[" * 100_000 + "]" * 100_000 + "}"
    found, after = decoded(f'[{deep}, {{"Id": "b"}}]'.encode())
    assert isinstance(found, SkippedItem)
    assert found.fields == {"Id": "deep", "Names": ["/web"]}
    assert after == {"Id": "b"}


def test_each_character_of_a_long_item_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: decoding again with each piece looked at 2.3 GB of 17 MiB."""
    seen = 0

    def decode(text: str, at: int = 0) -> tuple[Any, int]:
        nonlocal seen
        seen += len(text) - at
        return json.JSONDecoder().raw_decode(text, at)

    monkeypatch.setattr(decoding, "_decode", decode)
    octets = json.dumps([{"Id": "a", "text": "x" * (17 << 20)}]).encode()
    decoded(octets)
    assert seen < 1 << 20

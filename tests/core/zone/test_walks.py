"""Lookups that walk down from the suffix find what the definitions find, label by label."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.zone import Node, Shape, Suffix, SuffixKind, Zone

SHAPE = Shape(domains=("docker.",), search_domains=("corp.example.", "x.docker.", "y.x.docker."))
SUFFIXES = [
    *(Suffix(apex, SuffixKind.DOMAIN) for apex in SHAPE.domains),
    *(Suffix(apex, SuffixKind.SEARCH) for apex in SHAPE.search_domains),
]
LABELS = ("a", "b", "x", "y", "*", "_t", "a\\.b", "\\000")
owners = st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(".".join)


def node(zone: Zone, owner: str, suffix: Suffix) -> Node | None:
    """The definition: the nearest owner above whose holders have what is before it."""
    holders = zone.holders(owner, suffix)
    if holders:
        return Node(owner, "", holders)
    labels = names.labels_of_text(owner)
    for count in range(1, len(labels)):
        base, before = ".".join(labels[count:]), ".".join(labels[:count])
        having = tuple(c for c in zone.holders(base, suffix) if before in zone.befores_of(c))
        if having:
            return Node(base, before, having)
    return None


def exists(zone: Zone, owner: str, suffix: Suffix) -> bool:
    name = suffix.name_of(owner)
    inner = [s for s in SUFFIXES if s != suffix and names.is_below(name, s.apex)]
    inner = [s for s in inner if len(s.apex) > len(suffix.apex)]
    return bool(
        node(zone, owner, suffix)
        or zone.is_empty_non_terminal(owner, suffix)
        or any(name != s.apex and node(zone, s.owner_of(name), s) for s in inner)
    )


def wildcard(zone: Zone, owner: str, suffix: Suffix) -> Node | None:
    """RFC 4592 section 3.3.1: the wildcard at the closest encloser, or none."""
    labels = names.labels_of_text(owner)
    for count in range(1, len(labels)):
        encloser = ".".join(labels[count:])
        if exists(zone, encloser, suffix):
            return node(zone, f"*.{encloser}", suffix)
    return node(zone, "*", suffix)


@st.composite
def zones(draw: st.DrawFn) -> Zone:
    zone = Zone(SHAPE, 1, RememberedNames(60))
    for number in range(draw(st.integers(0, 4))):
        claimed = draw(st.lists(owners, min_size=1, max_size=3, unique=True))
        suffixes = draw(st.sampled_from(("", "", "", ".docker.", ".b.x.docker.")))
        publication = Publication(
            str(number),
            str(number),
            claims=tuple(
                Claim(
                    owner + suffixes, Rank.LABEL, "label names", str(number),
                    project=draw(st.sampled_from(("", "", "p", "q"))),
                )
                for owner in claimed
            ),
            texts=draw(st.sampled_from((None, {"b.a": ("x",)}, {"y": ("x",)}))),
            services=draw(st.sampled_from((None, {"_t.a": (80,)}))),
            is_wildcard=draw(st.booleans()),
        )  # fmt: skip
        zone.replace(str(number), publication, 1.0)
    return zone


@given(zones(), owners, st.sampled_from(SUFFIXES))
def test_walks_find_what_the_definitions_find(zone: Zone, owner: str, suffix: Suffix) -> None:
    assert zone.node(owner, suffix) == node(zone, owner, suffix)
    assert zone.wildcard(owner, suffix) == wildcard(zone, owner, suffix)


@pytest.mark.parametrize(
    ("owner", "steps"),
    [
        ("a", [("a", "")]),
        ("a.b.c", [("c", "a.b"), ("b.c", "a"), ("a.b.c", "")]),
        ("a\\.b", [("a\\.b", "")]),
        ("a\\.b.\\\\.c", [("c", "a\\.b.\\\\"), ("\\\\.c", "a\\.b"), ("a\\.b.\\\\.c", "")]),
    ],
    ids=["one label", "three", "a dot in a label", "escapes"],
)
def test_walk_from_the_top_splits_at_labels(owner: str, steps: list[tuple[str, str]]) -> None:
    assert list(names.from_the_top(owner)) == steps
    assert names.enclosers(owner) == tuple(reversed([name for name, _ in steps[:-1]]))
    assert names.parents(owner + ".") == (*(f"{e}." for e in names.enclosers(owner)), ".")

"""Explanations: the search list of a client, and the document. See tests/fuzz for the rest."""

from typing import Any

import pytest

from containerdns.core.protocol import messages
from containerdns.core.protocol.explain import (
    Explanation,
    Search,
    UpstreamExplanation,
    as_document,
    explain,
    mark_unsent,
)
from containerdns.core.zone.ownership import Listing, Ownership
from containerdns.core.zone.policy import Claim, Publication, PublishedAddress, Rank
from containerdns.core.zone.records import Record
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Shape, Zone
from containerdns.errors import BadName

NOW = 1000.0
LIST = ("localdomain", "corp.example")


@pytest.mark.parametrize(
    ("text", "domains", "asked"),
    [
        ("web", LIST, ["web.localdomain.", "web.corp.example.", "web."]),
        ("Web", (), ["web."]),
        ("web.", LIST, ["web."]),
        ("a.b", LIST, ["a.b.", "a.b.localdomain.", "a.b.corp.example."]),
        ("a\\.b", LIST, ["a\\.b.localdomain.", "a\\.b.corp.example.", "a\\.b."]),
        (".", LIST, ["."]),
    ],
    ids=["single label", "no list", "absolute", "with a dot", "escaped dot", "root"],
)  # fmt: skip
def test_client_asks_in_the_order_of_its_search_list(
    text: str, domains: tuple[str, ...], asked: list[str]
) -> None:
    """resolv.conf(5), ndots:1."""
    assert Search(text, domains).names() == asked


@pytest.mark.parametrize("text", ["", "a..b", "a" * 64])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        Search(text, LIST).names()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("web.docker.", "the container web is running"),
        (
            "old.",
            "its container was removed; the name is kept from upstreams until 1970-01-01T00:17:40Z",
        ),
        ("other.docker.", "no running container has this name"),
    ],
)
def test_reason_says_why_there_is_nothing(name: str, reason: str) -> None:
    zone = Zone(Shape(search_domains=("corp.example.",)), 1, RememberedNames(60))
    for one in ("web", "old"):
        claims = (Claim(one, Rank.CONTAINER, "container name", one),)
        made = Publication(
            one, one, claims=claims, addresses=(PublishedAddress("10.0.0.1", "", ""),)
        )
        zone.replace(one, made, NOW)
    zone.replace("old", None, NOW)
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    view = View(True, True, True, False, frozenset(), ())
    assert explain(ownership, name, messages.A, view, NOW).reason == reason


def test_document_has_the_keys_of_the_contract() -> None:
    record = Record(
        "web.", messages.A, 5, bytes((172, 18, 0, 2)), "web", "0" * 64, "frontend", "container name"
    )
    told = Explanation(
        "web.", messages.A, "zone", "bare container name", 0, (record,), reason="it is running"
    )
    assert as_document(told, UpstreamExplanation()) == {
        "name": "web.",
        "type": "A",
        "decision": "zone",
        "rule": "bare container name",
        "rcode": "NOERROR",
        "ttl": 5,
        "ttl_ceiling": None,
        "upstream": None,
        "records": [
            {
                "name": "web.",
                "type": "A",
                "ttl": 5,
                "data": "172.18.0.2",
                "container": "web",
                "network": "frontend",
            }
        ],
        "reason": "it is running",
        "sent": True,
    }


def test_document_of_a_forwarded_query_says_what_the_upstream_would() -> None:
    told = Explanation("x.example.", messages.A, "upstream", "not ours", None, ttl_ceiling=5)
    found = as_document(told, UpstreamExplanation("cache", "1.1.1.1", 3, "NOERROR", "cached"))
    assert [found[key] for key in ("decision", "rcode", "ttl", "upstream", "reason")] == [
        "cache",
        "NOERROR",
        3,
        "1.1.1.1",
        "cached",
    ]


def _outcome(name: str, qtype: str, rcode: str | None, *found: str) -> dict[str, Any]:
    return {"name": name, "type": qtype, "rcode": rcode, "records": [{"type": t} for t in found]}


@pytest.mark.parametrize(
    ("outcomes", "sent"),
    [
        ([("a.x.", "A", "NXDOMAIN"), ("a.", "A", "NOERROR", "A")], [True, True]),
        (
            [
                ("a.x.", "A", "NOERROR", "A"),
                ("a.x.", "AAAA", "NOERROR"),
                ("a.", "A", "NOERROR", "A"),
                ("a.", "AAAA", "NOERROR"),
            ],
            [True, True, False, False],
        ),
        (
            [
                ("a.x.", "A", "NOERROR"),
                ("a.x.", "AAAA", "NOERROR", "AAAA"),
                ("a.", "A", "NOERROR", "A"),
            ],
            [True, True, False],
        ),
        ([("a.x.", "A", "NOERROR"), ("a.", "A", "NOERROR", "A")], [True, True]),
        ([("a.x.", "A", "NOERROR", "CNAME"), ("a.", "A", "NOERROR", "A")], [True, True]),
        ([("a.x.", "A", "NOERROR", "CNAME", "A"), ("a.", "A", "NOERROR", "A")], [True, False]),
        ([("a.x.", "A", None), ("a.", "A", "NOERROR", "A")], [True, True]),
        ([("a.x.", "A", "SERVFAIL"), ("a.", "A", "NOERROR", "A")], [True, True]),
    ],
    ids=[
        "NXDOMAIN goes on",
        "data ends the search, after both types of its name",
        "data of either type",
        "NODATA goes on, as in glibc",
        "alias without an address is no answer",
        "alias with an address",
        "what an upstream says is not known",
        "SERVFAIL goes on",
    ],
)
def test_queries_behind_an_answer_are_not_sent(
    outcomes: list[tuple[str, ...]], sent: list[bool]
) -> None:
    """glibc, resolv/res_query.c: data ends the search, NODATA does not."""
    queries = [_outcome(*outcome) for outcome in outcomes]
    mark_unsent(queries)
    assert [query["sent"] for query in queries] == sent

"""Explanations: the search list of a client, and the document. See tests/fuzz for the rest."""

from dataclasses import replace

import pytest

from containerdns.core.protocol import messages
from containerdns.core.protocol.explain import (
    Explanation,
    Search,
    UpstreamExplanation,
    as_document,
    explain,
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
        ("stopped.docker.", "the container stopped exists, but: it does not run"),
        ("hidden.corp.example.", "the container hidden exists, but: label x=false"),
        ("old.", "its container was removed; the name stays ours until 1970-01-01T00:17:40Z"),
        ("other.docker.", "no running container has this name"),
    ],
)
def test_reason_says_why_there_is_nothing(name: str, reason: str) -> None:
    zone = Zone(Shape(search_domains=("corp.example.",)), 1, RememberedNames(60))
    for one, changes in (
        ("web", {}),
        ("old", {}),
        ("stopped", {"is_running": False}),
        ("hidden", {"is_running": False, "skipped": "label x=false"}),
    ):
        claims = (Claim(one, Rank.CONTAINER, "container name", one),)
        made = Publication(
            one, one, claims=claims, addresses=(PublishedAddress("10.0.0.1", "", ""),)
        )
        zone.replace(one, replace(made, **changes), NOW)
    zone.replace("old", None, NOW)
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    view = View(True, True, True, False, frozenset(), ())
    assert explain(zone, ownership, name, messages.A, view, NOW).reason == reason


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

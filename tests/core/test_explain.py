"""Explanations: the search list of a client, and the document. See tests/fuzz for the rest."""

import pytest

from containerdns.core import messages
from containerdns.core.explain import Explanation, Search, Upstream, as_document
from containerdns.core.records import Record
from containerdns.errors import BadName

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


def test_document_has_the_keys_of_the_contract() -> None:
    record = Record(
        "web.", messages.A, 5, bytes((172, 18, 0, 2)), "web", "0" * 64, "frontend", "container name"
    )
    told = Explanation(
        "web.", messages.A, "zone", "bare container name", 0, (record,), reason="it is running"
    )
    assert as_document(told, Upstream()) == {
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
    found = as_document(told, Upstream("cache", "1.1.1.1", 3, "NOERROR", "cached"))
    assert [found[key] for key in ("decision", "rcode", "ttl", "upstream", "reason")] == [
        "cache",
        "NOERROR",
        3,
        "1.1.1.1",
        "cached",
    ]

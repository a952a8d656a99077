"""The text of an explanation: what follows each outcome."""

from typing import Any

import pytest

from containerdns.core.protocol.explanation_text import lines


def query(name: str, qtype: str, rcode: str | None = "NOERROR", data: str = "") -> dict[str, Any]:
    records = [{"type": qtype, "data": data, "container": "web", "network": ""}] if data else []
    asked = {"name": name, "type": qtype, "decision": "zone", "rule": "r", "upstream": None}
    said = {"rcode": rcode, "ttl": 5, "records": records, "reason": f"r {bool(data)}", "sent": True}
    return asked | said


def following(*queries: dict[str, Any]) -> list[str]:
    text = lines({"queries": list(queries)})
    return [line.removeprefix("   next: ") for line in text if line.startswith("   next: ")]


SATISFIED = "the client has its answer and stops"
FAILS = "nothing is left to try: the client fails"


@pytest.mark.parametrize(
    ("queries", "expected"),
    [
        (
            (query("web.", "A", data="10.0.0.1"), query("web.", "AAAA")),
            [SATISFIED, "the client has the A record and stops"],
        ),
        ((query("web.", "A"), query("web.", "AAAA")), [FAILS]),
        (
            (query("web.a.", "A"), query("web.a.", "AAAA"), query("web.", "A", "NXDOMAIN")),
            ["glibc goes on with the next name, musl stops", FAILS],
        ),
        ((query("web.", "A"),), ["the client's other type, AAAA, may have data"]),
        ((query("2.0.0.10.in-addr.arpa.", "PTR"),), [FAILS]),
        ((query("web.", "HTTPS"),), ["the client does without"]),
        (
            (query("web.a.", "A", "NXDOMAIN"), query("web.", "A", data="10.0.0.1")),
            ["the client goes on", SATISFIED],
        ),
    ],
    ids=["one type", "neither", "search", "asked for one", "pointer", "other type", "denied"],
)
def test_what_follows_an_outcome(queries: tuple[dict[str, Any], ...], expected: list[str]) -> None:
    """glibc's res_query.c asks on after NODATA; musl's name_from_dns does not."""
    assert following(*queries) == expected

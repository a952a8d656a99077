"""What is counted is bounded, whatever clients and upstreams send."""

from containerdns.core.counters import OTHER_RCODE, OTHER_TYPE, Counters


def test_types_that_nobody_knows_are_counted_as_one() -> None:
    """A client may ask for all 65,536; each would be kept for ever, and read at every scrape."""
    counters = Counters()
    for qtype in range(1 << 16):
        counters.asked("udp", qtype)
    assert len(counters.requests) < 128
    assert counters.requests["udp", 1] == 1
    assert counters.requests.total() == 1 << 16
    assert counters.requests["udp", OTHER_TYPE] > 65_000


def test_rcodes_that_nobody_knows_are_counted_as_one() -> None:
    counters = Counters()
    for rcode in range(1 << 12):
        counters.answered(rcode, "upstream")
        counters.upstream_answered("192.0.2.1", rcode)
    assert len(counters.responses) == len(counters.upstream_requests) == OTHER_RCODE + 1
    assert counters.responses[OTHER_RCODE, "upstream"] == (1 << 12) - OTHER_RCODE

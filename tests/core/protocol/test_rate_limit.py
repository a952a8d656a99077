"""Response rate limiting."""

import pytest

from containerdns.core.protocol import rate_limit
from containerdns.core.protocol.rate_limit import Limiter

CLIENT = bytes([192, 0, 2, 1])


def verdicts(limiter: Limiter, address: bytes, count: int, now: float) -> list[str]:
    return [limiter.take(address, now) for _ in range(count)]


def test_rate_is_answered_then_every_second_is_slipped() -> None:
    limiter = Limiter(3)
    assert verdicts(limiter, CLIENT, 7, 100.0) == ["answer"] * 3 + ["drop", "slip"] * 2


def test_bucket_fills_with_time_and_never_over_a_second() -> None:
    limiter = Limiter(4)
    verdicts(limiter, CLIENT, 10, 100.0)
    assert verdicts(limiter, CLIENT, 2, 100.26).count("answer") == 1
    assert verdicts(limiter, CLIENT, 9, 200.0).count("answer") == 4


@pytest.mark.parametrize(
    ("other", "is_shared"),
    [
        (bytes([192, 0, 2, 2]), False),
        (bytes.fromhex("20010db800000000ffffffffffffffff"), True),
        (bytes.fromhex("20010db8000000010000000000000000"), False),
    ],
    ids=["next IPv4 address", "same /64", "next /64"],
)
def test_prefix_shares_its_rate(other: bytes, is_shared: bool) -> None:
    limiter = Limiter(1)
    first = CLIENT if len(other) == 4 else bytes.fromhex("20010db8000000000000000000000001")
    limiter.take(first, 0.0)
    assert (limiter.take(other, 0.0) != "answer") is is_shared


def test_table_is_bounded_and_keeps_the_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_PREFIXES", 10)
    limiter = Limiter(1)
    for number in range(1000):
        limiter.take(number.to_bytes(4), 0.0)
        limiter.take(CLIENT, 0.0)
    assert len(limiter._buckets) == 10
    assert limiter.take(CLIENT, 0.0) != "answer"


def test_prefix_that_was_idle_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood from very many addresses must not give a busy one a fresh bucket."""
    monkeypatch.setattr(rate_limit, "MAX_PREFIXES", 2)
    limiter = Limiter(1)
    busy, idle, new = (bytes([192, 0, 2, last]) for last in (1, 2, 3))
    assert [limiter.take(address, 0.0) for address in (busy, idle)] == ["answer"] * 2
    assert limiter.take(busy, 0.0) == "drop"
    assert limiter.take(new, 0.0) == "answer"
    assert limiter.take(busy, 0.0) == "slip"
    assert limiter.take(idle, 0.0) == "answer"

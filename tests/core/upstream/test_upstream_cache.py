"""What the cache returns, and until when."""

import pytest

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR, Body
from containerdns.core.upstream.forwarding import Resolution
from containerdns.core.upstream.questions import Question
from containerdns.core.upstream.upstream_cache import (
    OVERHEAD_OCTETS,
    PREFETCH_TAKES,
    Cache,
    Cached,
)

QNAME = names.to_wire("www.example.")
WWW = Question("www.example.", messages.A, False, False, None)


def body(ttl: int = 60, octets: int = 4) -> Body:
    return messages.encode(QNAME, [RR(QNAME, messages.A, 1, ttl, bytes(octets))])


def cached(ttl: int = 60, now: float = 1000.0) -> Cached:
    return Cached(Resolution(messages.NOERROR, body(ttl)), now, now + ttl)


def ttl_of(aged: Body) -> int:
    return messages.decode(QNAME, aged)[0][0].ttl


def numbered(number: int) -> Question:
    return WWW._replace(name=f"n{number}.example.")


def test_response_is_fresh_until_its_ttl_and_not_at_it() -> None:
    cache = Cache(8)
    cache.put(WWW, cached())
    assert cache.fresh(WWW, 1059.9) is not None
    assert cache.fresh(WWW, 1060.0) is None


@pytest.mark.parametrize(
    ("now", "ttl"), [(1000.0, 60), (1000.9, 60), (1001.0, 59), (1059.9, 1), (1060.0, 30)]
)
def test_ttls_are_counted_down_and_stale_ones_are_30(now: float, ttl: int) -> None:
    assert ttl_of(cached().aged(now)) == ttl


@pytest.mark.parametrize(("now", "ages_in"), [(1000.0, 1.0), (1000.25, 0.75), (1059.5, 0.5)])
def test_ttls_are_counted_down_from_the_next_second(now: float, ages_in: float) -> None:
    assert cached().given_out(now).ages_in == pytest.approx(ages_in)


@pytest.mark.parametrize(
    ("ttl", "now", "fresh_for"),
    [
        (9, 1000.0, 9.0),
        (10, 1000.0, 1.0),
        (60, 1000.0, 3.0),
        (60, 1059.5, 0.5),
        (86400, 1000.0, 30.0),
    ],
    ids=[
        "never asked for ahead of its end",
        "at least a second",
        "a twentieth",
        "not beyond its end",
        "at most half a minute",
    ],
)
def test_response_is_ready_made_for_a_part_of_its_ttl(
    ttl: int, now: float, fresh_for: float
) -> None:
    assert cached(ttl=ttl).fresh_for(now) == pytest.approx(fresh_for)


@pytest.mark.parametrize(
    "other",
    [
        WWW._replace(name="other.example."),
        WWW._replace(qtype=messages.AAAA),
        WWW._replace(wants_dnssec=True),
        WWW._replace(checking_disabled=True),
        WWW._replace(apex="example."),
    ],
    ids=["name", "type", "DO", "CD", "list"],
)
def test_other_questions_are_kept_apart(other: Question) -> None:
    cache = Cache(8)
    cache.put(WWW, cached())
    assert cache.fresh(other, 1000.0) is None


@pytest.mark.parametrize(("now", "is_given"), [(4659.9, True), (4660.0, False)])
def test_stale_for_an_hour(now: float, is_given: bool) -> None:
    cache = Cache(8)
    cache.put(WWW, cached())
    assert (cache.stale(WWW, now) is not None) == is_given


def test_the_one_longest_unused_makes_room() -> None:
    cache = Cache(3)
    for number in range(3):
        cache.put(numbered(number), cached())
    assert cache.fresh(numbered(0), 1001.0) is not None
    cache.put(numbered(3), cached())
    assert [cache.fresh(numbered(n), 1001.0) is not None for n in range(4)] == [
        True, False, True, True,
    ]  # fmt: skip
    assert len(cache) == 3
    assert cache.evictions == 1


def test_octets_are_bounded_too() -> None:
    cache = Cache(10)
    for number in range(10):
        big = Cached(Resolution(messages.NOERROR, body(60, 3000)), 1000.0, 1060.0)
        cache.put(numbered(number), big)
    assert len(cache) == 2
    assert cache.evictions == 8
    assert 2 * (3000 + OVERHEAD_OCTETS) < cache.octets < 10 * 1024


def test_replacing_and_clearing_keep_the_count_of_octets() -> None:
    cache = Cache(10)
    cache.put(WWW, cached())
    octets = cache.octets
    cache.put(WWW, cached(now=1001.0))
    assert cache.octets == octets
    cache.clear()
    assert (cache.octets, len(cache)) == (0, 0)


@pytest.mark.parametrize(("capacity", "ttl"), [(0, 60), (8, 0)], ids=["no cache", "TTL 0"])
def test_what_is_not_to_be_kept_is_not(capacity: int, ttl: int) -> None:
    cache = Cache(capacity)
    cache.put(WWW, cached(ttl))
    assert len(cache) == 0


def test_a_failure_is_remembered_for_5_s_and_never_stale() -> None:
    """RFC 9520 section 3.2."""
    cache = Cache(8)
    cache.put_failure(WWW, (22, "silent"), 1000.0)
    failure = cache.fresh(WWW, 1004.9)
    assert failure is not None
    assert failure.resolution == Resolution(messages.SERVFAIL, extended_error=(22, "silent"))
    given_out = failure.given_out(1004.9)
    assert (given_out.rcode, given_out.extended_error) == (messages.SERVFAIL, (13, "silent"))
    assert cache.fresh(WWW, 1005.0) is None
    assert cache.stale(WWW, 1005.0) is None


def test_a_failure_lets_what_is_stale_stand_in_for_5_s() -> None:
    cache = Cache(8)
    cache.put(WWW, cached())
    cache.put_failure(WWW, None, 1100.0)
    stale = cache.fresh(WWW, 1104.9)
    assert stale is not None
    assert ttl_of(stale.aged(1104.9)) == 30
    assert stale.fresh_for(1104.0) == pytest.approx(1.0)
    assert stale.given_out(1104.0).ages_in == 0
    assert cache.fresh(WWW, 1105.0) is None


def test_response_is_renewed_until_its_end_or_a_newer_one() -> None:
    cache, response = Cache(8), cached()
    cache.put(WWW, response)
    assert cache.renewed(WWW, 1000.0, 1059.9) is response
    assert response.hits == 1, "as it was used"
    assert cache.renewed(WWW, 1000.0, 1060.0) is None
    cache.put(WWW, cached(now=1001.0))
    assert cache.renewed(WWW, 1000.0, 1002.0) is None
    assert cache.renewed(numbered(1), 1000.0, 1002.0) is None


def test_renewed_response_is_not_the_least_recently_used() -> None:
    cache = Cache(2)
    for number in (1, 2):
        cache.put(numbered(number), cached())
    cache.renewed(numbered(1), 1000.0, 1001.0)
    cache.put(numbered(3), cached())
    assert numbered(1) in cache
    assert numbered(2) not in cache


def hot(cache: Cache, question: Question = WWW, ttl: int = 60) -> Cached:
    response = cached(ttl=ttl)
    cache.put(question, response)
    for _ in range(3):
        cache.fresh(question, 1001.0)
    return response


def test_a_hot_response_is_wanted_again_near_its_end() -> None:
    response = hot(Cache(8))
    assert not response.is_wanted_again(1047.9)
    assert response.is_wanted_again(1054.0)
    assert not hot(Cache(8), ttl=9).is_wanted_again(1008.9), "asked for all the time"
    unused = cached()
    Cache(8).put(WWW, unused)
    assert not unused.is_wanted_again(1054.0)


def test_a_hot_response_is_looked_at_when_it_is_wanted_and_when_the_new_one_is_there() -> None:
    response = hot(Cache(8), ttl=10)
    before = response.prefetched_at - 0.125
    assert response.fresh_for(before) == pytest.approx(0.125)
    assert response.fresh_for(response.prefetched_at) == PREFETCH_TAKES
    assert response.fresh_for(1009.875) == 0.125


def test_responses_that_came_together_are_not_wanted_again_together() -> None:
    """A thousand questions within a tenth of a second would delay all other answers."""
    cache = Cache(100)
    moments = sorted(hot(cache, numbered(n), ttl=10).prefetched_at for n in range(100))
    assert 1008.0 <= moments[0] < 1008.4
    assert 1008.6 < moments[-1] <= 1009.0


def test_a_failure_to_prefetch_is_not_repeated_at_once() -> None:
    cache = Cache(8)
    response = hot(cache)
    cache.put_failure(WWW, None, 1054.0)
    assert not response.is_wanted_again(1058.9)
    assert response.is_wanted_again(1059.0)


def test_lists_are_forgotten_one_by_one() -> None:
    cache = Cache(8)
    cache.put(WWW, cached())
    cache.put(WWW._replace(apex="example."), cached())
    cache.forget_apex("example.")
    peeked = cache.peek(WWW, 1001.0)
    assert peeked is not None
    assert peeked.expires == 1060.0
    assert cache.peek(WWW._replace(apex="example."), 1001.0) is None


def test_smaller_cache_keeps_those_used_last() -> None:
    """A reload of --cache-size."""
    cache = Cache(8)
    for number in range(4):
        cache.put(numbered(number), cached())
    cache.resize(1)
    assert [cache.fresh(numbered(n), 1000.0) is not None for n in range(4)] == [*[False] * 3, True]
    assert cache.evictions == 3


@pytest.mark.parametrize(
    ("rcode", "code"), [(messages.NOERROR, 3), (messages.NXDOMAIN, 19)], ids=["answer", "NXDOMAIN"]
)
def test_stale_response_says_that_it_is(rcode: int, code: int) -> None:
    """RFC 8914 sections 4.4 and 4.20: Stale Answer and Stale NXDOMAIN Answer."""
    kept = Cached(Resolution(rcode, body()), 1000.0, 1060.0)
    assert kept.given_out(1059.9).extended_error is None
    assert kept.given_out(1060.0, "timeout").extended_error == (code, "timeout")

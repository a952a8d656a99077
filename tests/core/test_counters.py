"""What is counted is bounded, whatever clients and upstreams send."""

from collections import Counter
from dataclasses import fields
from typing import Any

from containerdns.core.counters import OTHER_RCODE, OTHER_TYPE, Counters, Distribution, Scope


def test_types_that_nobody_knows_are_counted_as_one() -> None:
    """A client may ask for all 65,536; each would be kept forever, and read at every scrape."""
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


def taken(times: int) -> Distribution:
    distribution = Distribution((1.0,))
    distribution.add(0.5, times)
    return distribution


def counted() -> Counters:
    """Something in every field, each a value of its own."""
    counters = Counters()
    for place, each in enumerate(fields(Counters), 1):
        value: Any = getattr(counters, each.name)
        if isinstance(value, Counter):
            value["a", "b"] += place
        elif isinstance(value, dict):
            value.update({} if each.name == "workers" else {"a": taken(place)})
        elif isinstance(value, Distribution):
            value.add(0.5, place)
        else:
            setattr(counters, each.name, type(value)(0 if value is True else place))
    return counters


def of_scope(scope: Scope) -> list[str]:
    return [f.name for f in fields(Counters) if f.metadata.get("scope", Scope.EVERY) is scope]


def test_whatever_a_worker_counts_is_added_and_nothing_twice() -> None:
    """Every field, so that a new one cannot be forgotten."""
    worker, main = counted(), Counters()
    main.add(worker.take())
    main.add(worker.take())
    whole = counted()
    for name in of_scope(Scope.EVERY):
        assert getattr(main, name) == getattr(whole, name), name
        assert getattr(worker, name) == getattr(Counters(), name), name


def test_counts_of_several_workers_are_summed() -> None:
    main = counted()
    main.add(counted().take())
    assert main.internal_errors == 2 * counted().internal_errors
    assert main.requests.total() == 2 * counted().requests.total()
    assert main.durations["a"].counts == [2 * n for n in counted().durations["a"].counts]


def test_what_only_the_watching_process_counts_is_not_taken_over() -> None:
    """A worker replays each change of the zone; the change is one all the same."""
    main = Counters()
    main.add(counted().take())
    for name in of_scope(Scope.WATCHING):
        assert getattr(main, name) == getattr(Counters(), name), name


def test_level_is_that_of_all_processes_as_they_last_reported() -> None:
    main = Counters(tcp_connections=1)
    for pid, connections in ((10, 2), (11, 3), (10, 4)):
        main.workers[pid] = Counters(tcp_connections=connections).take()
    assert main.level("tcp_connections") == 1 + 4 + 3

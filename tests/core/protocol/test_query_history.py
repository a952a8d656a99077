"""The last queries, as `/queries` shows them."""

from containerdns.core.protocol.query_history import History, PastOutcome, QueryStamp

CLIENT, OTHER = bytes([172, 31, 99, 100]), bytes(15) + b"\1"


def fill(history: History, count: int) -> None:
    for number in range(count):
        address = OTHER if number % 2 else CLIENT
        stamp = QueryStamp("udp", 1795507200.123 + number, 0.0204)
        history.add(stamp, address, PastOutcome(f"web{number}.", 1, 0, "zone", None))


def test_query_is_shown_as_the_contract_says() -> None:
    history = History(10)
    fill(history, 1)
    assert list(history.since(0, 10)[0]) == [
        {
            "time": "2026-11-24T08:00:00.123Z",
            "client": "172.31.99.100",
            "proto": "udp",
            "name": "web0.",
            "type": "A",
            "rcode": "NOERROR",
            "source": "zone",
            "upstream": None,
            "ms": 0.02,
        }
    ]


def test_only_the_last_ones_are_kept_oldest_first() -> None:
    history = History(3)
    fill(history, 5)
    assert [row["name"] for row in list(history.since(0, 10)[0])] == ["web2.", "web3.", "web4."]
    assert [row["name"] for row in list(history.since(0, 1)[0])] == ["web4."]


def test_none_are_kept_with_a_capacity_of_0() -> None:
    history = History(0)
    fill(history, 5)
    assert list(history.since(0, 10)[0]) == []
    queries, number = history.since(0, 10)
    assert (list(queries), number) == ([], 5)


def test_client_sees_its_own() -> None:
    history = History(10)
    fill(history, 4)
    assert {row["client"] for row in list(history.since(0, 10, OTHER)[0])} == {"::1"}
    assert len(list(history.since(0, 10, OTHER)[0])) == 2


def test_stream_goes_on_where_it_was_and_skips_what_is_too_much() -> None:
    history = History(10)
    fill(history, 2)
    first, number = history.since(0, 5)
    fill(history, 20)
    second, number = history.since(number, 5)
    assert len(list(first)) == 2
    assert [row["name"] for row in second] == [f"web{n}." for n in range(15, 20)]
    third, number = history.since(number, 5)
    assert (list(third), number) == ([], 22)


class _Denial:
    """The outcome of all queries for names below one parent."""

    name, qtype, rcode, source, upstream = "docker.", 28, 3, "zone", None


def test_row_of_a_name_below_the_outcome_has_the_whole_name() -> None:
    history = History(10)
    stamp = QueryStamp("udp", 1795507200.0, 0.02)
    history.extend([(stamp, CLIENT, _Denial(), "x1")])
    shown = next(history.since(0, 1)[0])
    assert (shown["name"], shown["type"], shown["rcode"]) == ("x1.docker.", "AAAA", "NXDOMAIN")
    (row,), _ = history.rows_since(0, 10)
    assert row[2] == PastOutcome("x1.docker.", 28, 3, "zone", None)

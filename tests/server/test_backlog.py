"""Queries that wait for the slow path: in rotation, bounded, known clients beside strangers."""

from collections import Counter

import pytest

from containerdns.server.backlog import MAX_KNOWN, MAX_STRANGERS, Backlog, Late


def late(client: str, number: int = 0) -> Late:
    return Late(client.encode(), str(number).encode())


def add(backlog: Backlog, client: str, number: int = 0, *, is_known: bool = True) -> None:
    backlog.add(client.encode(), late(client, number), is_known=is_known)


def test_clients_take_turns_and_each_has_its_own_order() -> None:
    backlog = Backlog()
    for number in range(3):
        add(backlog, "greedy", number)
    add(backlog, "modest")
    taken = [backlog.take() for _ in range(4)]
    assert taken == [late("greedy"), late("modest"), late("greedy", 1), late("greedy", 2)]
    assert not len(backlog)
    with pytest.raises(KeyError):
        backlog.take()


def test_known_clients_have_every_second_turn_however_many_strangers_there_are() -> None:
    backlog = Backlog()
    for number in range(100):
        add(backlog, f"stranger {number}", is_known=False)
    for number in range(5):
        add(backlog, "known", number)
    first = Counter(backlog.take().head == b"known" for _ in range(10))
    assert first == {True: 5, False: 5}
    assert [backlog.take() for _ in range(95)][-1] == late("stranger 99")


def test_a_burst_of_one_client_waits_as_a_whole() -> None:
    backlog = Backlog()
    for number in range(MAX_KNOWN):
        add(backlog, "resolver", number)
    assert backlog.dropped == 0
    assert [backlog.take() for _ in range(3)] == [late("resolver", n) for n in range(3)]


def test_a_client_with_more_than_its_share_pushes_out_its_own_oldest() -> None:
    backlog = Backlog()
    add(backlog, "modest")
    for number in range(MAX_KNOWN + 9):
        add(backlog, "greedy", number)
    assert len(backlog) == MAX_KNOWN
    assert backlog.dropped == 10
    assert [backlog.take(), backlog.take()] == [late("modest"), late("greedy", 10)]


def test_strangers_push_out_strangers_alone() -> None:
    backlog = Backlog()
    add(backlog, "known")
    for number in range(MAX_STRANGERS + 10):
        add(backlog, f"stranger {number}", is_known=False)
    assert len(backlog) == MAX_STRANGERS + 1
    assert backlog.dropped == 10
    assert {backlog.take(), backlog.take()} == {late("known"), late("stranger 10")}

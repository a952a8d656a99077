"""Random octets, which are taken from the system many at a time."""

import os

from containerdns.upstream.exchanges import RANDOM_OCTETS, random_octets

COUNT = 16  # octets, too many for any to be the same by chance


def test_random_octets_are_given_out_once() -> None:
    taken = [random_octets(COUNT) for _ in range(2 * RANDOM_OCTETS // COUNT)]
    assert {len(octets) for octets in taken} == {COUNT}
    assert len(set(taken)) == len(taken)


def test_more_than_are_taken_at_a_time() -> None:
    assert len(random_octets(RANDOM_OCTETS + 1)) == RANDOM_OCTETS + 1
    assert random_octets(COUNT) != random_octets(COUNT)


def test_a_process_that_is_forked_has_others() -> None:
    """The IDs of one would otherwise tell those of the other."""
    random_octets(1)
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, random_octets(COUNT))
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reads, COUNT)
    os.close(reads)
    os.close(writes)
    assert len(theirs) == COUNT
    assert theirs != random_octets(COUNT)

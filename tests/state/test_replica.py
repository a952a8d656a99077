"""What a process answers from, and how the others follow it."""

from containerdns.config.groups import Settings
from containerdns.core.counters import Counters
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.state.replica import Replica
from containerdns.state.state_file import SavedState

ID = "c" * 64
WEB = Publication(ID, "web", ttl=5, claims=(Claim("web", Rank.CONTAINER, "container name", ID),))


def test_other_processes_are_sent_a_change_before_it_is_applied() -> None:
    """They apply it while this one does, and none of them answers wrongly for long."""
    counters = Counters()
    replica = Replica(Settings(), counters, PacketCache(counters), frozenset(), SavedState(1))
    known: list[tuple[str, bool]] = []
    replica.mirrors.append(
        lambda method, _: known.append((method, replica.zone.publication(ID) is not None))
    )
    replica.change([(ID, WEB)], 0.0)
    replica.change([(ID, None)], 1.0)
    assert known == [("change", False), ("change", True)]
    assert replica.zone.publication(ID) is None

"""What the fleet says of other hosts, and to whom: the writer of the zone implements it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from containerdns.core.zone.fleet import Change, Step


class FleetSink(Protocol):
    """The side that names are made on; all calls on the event loop, synchronous and cheap."""

    def remote_changed(self, changes: Iterable[Change]) -> None:
        """Publications of other hosts are like this now; None takes one away."""

    def fleet_listed(self, revision: int) -> None:
        """All other hosts have been read."""

    def fleet_moved(self, revision: int) -> None:
        """The fleet is at a revision of etcd."""

    def fleet_hosts(
        self, hosts: Mapping[str, str], engines: frozenset[str], lost: frozenset[str]
    ) -> None:
        """The hosts of the fleet, or what is known of them, have changed.

        Args:
            hosts: By name, "alive", "late" (in its lease of grace), "lost" (without its Engines)
                or "own".
            engines: Those of the other hosts.
            lost: Those of them that are lost.
        """

    def fleet_shared(self, step: Step) -> None:
        """Secondaries get this from now on."""

    def fleet_serial(self) -> int:
        """Return the serial that secondaries have got last; 0 if there was none."""

    def fleet_connected(self) -> None:
        """The cluster of etcd answers."""

    def fleet_disconnected(self, cause: str) -> None:
        """The cluster of etcd is lost, or was not there in the first place."""

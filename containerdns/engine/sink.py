"""What a watcher tells, and whom: the side that names are made on implements it."""

from typing import Protocol

from containerdns.core.zone.containers import Container, Network


class Sink(Protocol):
    """Who is told; all calls on the event loop, synchronous and cheap.

    An `event_time` is the Engine's time, in seconds, of the event that caused the
    call, and None if a listing did.
    """

    def container_changed(
        self, engine: str, container: Container, event_time: float | None
    ) -> None:
        """A container, running or not, now exists like this."""

    def container_died(
        self,
        engine: str,
        container_id: str,
        event_time: float | None,
        exit_status: int | None = None,
    ) -> None:
        """A container does not run any more, but exists."""

    def container_removed(self, engine: str, container_id: str, event_time: float | None) -> None:
        """A container does not exist any more."""

    def container_unreadable(
        self, engine: str, container_id: str, container_name: str, reason: str
    ) -> None:
        """A container exists, but not all its documents can be read.

        What can be, its name at least, `container_changed` has said before.
        """

    def networks_changed(self, engine: str, networks: tuple[Network, ...]) -> None:
        """These are all networks now."""

    def incomplete(self, engine: str) -> None:
        """A listing has found containers whose names are not all known; until `listed`."""

    def listed(self, engine: str) -> None:
        """A full listing has been applied."""

    def connected(self, engine: str) -> None:
        """The Engine answers, and its events are followed."""

    def disconnected(self, engine: str, cause: str) -> None:
        """The Engine is lost, or was not there in the first place."""

    def event_seen(self, engine: str, action: str) -> None:
        """An event came; the actions are few."""

    def resynced(self, engine: str, reason: str) -> None:
        """A full listing was compared: "start", "reconnect", "periodic", "watchdog", "reload"."""

    def list_failed(self, engine: str, cause: str) -> None:
        """A full listing could not be had."""

"""Callbacks that a watcher invokes; implemented by the zone's writer."""

from typing import Protocol

from containerdns.core.zone.containers import Container, Network


class Sink(Protocol):
    """The callbacks; all are called on the event loop, synchronous and cheap.

    `event_time` is when the event that caused the call happened, by the Engine's clock in
    seconds; None if the cause was a listing.
    """

    def container_changed(
        self, engine: str, container: Container, event_time: float | None
    ) -> None:
        """A container, running or not, was created or changed."""

    def container_died(
        self,
        engine: str,
        container_id: str,
        event_time: float | None,
        exit_status: int | None = None,
    ) -> None:
        """A container stopped running but still exists."""

    def container_removed(self, engine: str, container_id: str, event_time: float | None) -> None:
        """A container was removed."""

    def container_unreadable(
        self, engine: str, container_id: str, container_name: str, reason: str
    ) -> None:
        """A container exists, but not all of its documents can be read.

        What is known of it, at least its name, was passed to `container_changed` before.
        """

    def networks_changed(self, engine: str, networks: tuple[Network, ...]) -> None:
        """The networks changed; these are all of them."""

    def incomplete(self, engine: str) -> None:
        """A listing found containers whose names are not all known, until `listed`."""

    def listed(self, engine: str) -> None:
        """A full listing has been applied."""

    def connected(self, engine: str) -> None:
        """The Engine responds, and its events are being followed."""

    def disconnected(self, engine: str, cause: str) -> None:
        """The connection to the Engine was lost or could not be made."""

    def event_seen(self, engine: str, action: str) -> None:
        """An event arrived; there are only a few different actions."""

    def resynced(self, engine: str, reason: str) -> None:
        """A full listing was compared; "start", "reconnect", "periodic" or "watchdog"."""

    def list_failed(self, engine: str, cause: str) -> None:
        """A full listing failed."""

"""The interface between HTTP and the rest of the program.

docs/http.md describes the documents.  An "iterable" in a document may be a generator; it is
read piece by piece while queries are answered in between, so it must work on a snapshot.
None in it stands for nothing, found after some work: others may have a turn.
Invalid parameters raise errors in the call itself, never in such a generator.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gauges:
    """Current values for the metrics; all other metrics are counters.

    Attributes:
        version: Of containerdns.
        zone_records: Number of records by type mnemonic.
        zone_names: Number of owner names, in all zones.
        zone_serial: The serial of the first domain.
        remembered_names: Names of removed containers that are still ours.
        names_lost: Claims of containers to names that others have.
        docker_connected: By the Engine's URL.
        docker_left_out: By the Engine's URL, see `--engine-grace`.
        docker_last_sync: By the Engine's URL, seconds since the epoch; absent if never.
        containers: Number of existing containers by state.
        upstream_healthy: By upstream, as configured.
        cache_entries: Number of cached upstream responses.
        fleet_connected: Whether the etcd of the fleet answers; None without a fleet.
        fleet_hosts: Hosts of the fleet by state.
        fleet_revision: The revision of etcd at which the zone is.
        part_failing: For each part of the process that was ever restarted, whether it is failing.
    """

    version: str
    zone_records: Mapping[str, int]
    zone_names: int
    zone_serial: int
    remembered_names: int
    names_lost: int
    docker_connected: Mapping[str, bool]
    docker_left_out: Mapping[str, bool]
    docker_last_sync: Mapping[str, float]
    containers: Mapping[str, int]
    upstream_healthy: Mapping[str, bool]
    cache_entries: int
    part_failing: Mapping[str, bool]
    fleet_connected: bool | None
    fleet_hosts: Mapping[str, int]
    fleet_revision: int


class State(Protocol):
    """The state of the running server, as needed by HTTP."""

    def tag(self) -> str:
        """Return an entity tag that changes whenever `zone_json` or `zone_text` would."""

    def zone_json(self, domain: str | None, name: str | None) -> Document | None:
        """Return the document of /zone.

        Args:
            domain: As typed; the zone's apex, "." for bare names; None for all zones.
            name: As typed; only records of that name; None for all.

        Returns:
            `records`, `skipped`, `without_address` and `remembered` may be iterables; None: no such
            zone.

        Raises:
            BadName: `domain` or `name` is not a domain name.
        """

    def zone_text(self, domain: str | None, name: str | None) -> Iterable[str | None] | None:
        """Return the lines of a master file without line ends, or None as for `zone_json`.

        Args:
            domain: As for `zone_json`, but None is the first domain.
            name: As for `zone_json`.
        """

    async def explain(
        self, name: str, qtype: str | None, client: str, search: Sequence[str]
    ) -> Document:
        """Return the document of /explain: the outcome of each query that such a client sends.

        Raises:
            BadName: The name or a search domain is not a domain name.
            BadSettings: The type or the client is invalid.
        """

    def queries(
        self, after: int, client: str | None, limit: int | None = None
    ) -> tuple[int, Iterable[Document]]:
        """Return the queries of /queries since a position in the history, newest last.

        Each may have two more keys: `outcome`, "zone", "cache", "upstream", "kept" (from
        upstream) or "refused"; and `client_name`, the container of that address, or null.

        Args:
            after: A position returned by an earlier call; 0 for the whole history.
            client: The address of one client; None for all clients.
            limit: The maximum number, of the newest; None for no limit.

        Returns:
            The position for the next call, and the queries, generated lazily.
        """

    def changes(self, after: int) -> tuple[int, Iterable[Document]]:
        """Return the changes of containers since a position; otherwise as `queries`."""

    def rights(self, client: str) -> tuple[bool, bool]:
        """Return whether an address is in `--allow`, and whether it is in `--allow-history`."""

    def is_our_name(self, host: str) -> bool:
        """Return whether a Host header, without its port, is a name served here."""

    def readiness(self) -> tuple[bool, str]:
        """Return whether every Engine was listed and every socket is open, and if not, why."""

    def status(self) -> Document:
        """Return the server's status for the page; small, read once a second per open page.

        Keys: `version`; `serial`; `revision`, which changes whenever `containers` would (health,
        for example, may change without the serial); `domains` and
        `search_domains`, names; `dns`, the "address:port" that answer DNS; `subnets` of the
        Engines' own networks; `engines` (url, connected, last_sync, lag_ms or null, error or
        null, optional left_out); `upstreams` in the order in which they are asked (name, for: a
        domain or null, healthy, rtt_ms or null, aside_until: RFC 3339 or null, perhaps
        last_failure); `counts` (containers, running, names, skipped, remembered); `failing`,
        parts of the process with their errors; `kept` (day, total, since: RFC 3339), questions
        kept from upstreams; `documentation`, a URL or null.
        """

    def containers(self) -> Document:
        """Return the containers for the page.

        Keys: `serial`; `containers`, an iterable (name, id: 12 digits, engine, state, health or
        "", ttl, names: [{name: relative or absolute with a final dot, rule}], addresses:
        [{network, address}], all as DNS answers, perhaps cname: what its names lead to, or "";
        on_host: its address is the host's; unanswered: why it has no names, or ""; project: of
        Compose, or ""; ports: TCP ports that it exposes); `skipped`, an iterable (container, id,
        reason); perhaps `faults`, invalid names and labels (container,
        id, text, reason, of: "name" or "label"), and `losses`, names that another has (owner,
        loser, winner or null, rule).
        """

    def client_config(self, server: str, *, is_given: bool) -> Document:
        """Return what clients of every kind are configured with.

        Args:
            server: The address at which the client reached HTTP, or that it gave.
            is_given: The client gave it, so it is used even if DNS is answered on others only.

        Returns:
            `servers`, "address:port"; `domains`; `targets`: each as `client-config --format json`
            prints it.
        """

    def gauges(self) -> Iterator[Gauges | None]:
        """Bring the counters up to date, and yield the current values for the metrics.

        Yields None after each piece of that work, and the values at last.
        """

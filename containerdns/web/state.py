"""What the HTTP room asks of the rest of the program; `app.py` gives it.

Documents have the shapes of the contract (docs/http.md).  Where a document says
"iterable", it may be a generator over a snapshot: it is read piece by piece while
queries are answered in between, so it must not look at what changes meanwhile.
Faults of parameters are raised by the call itself, never by such a generator.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is true now, for the metrics; the rest of them are counts.

    Attributes:
        zone_records: By the type's mnemonic.
        zone_names: Owners of records, in all zones.
        zone_serial: The serial of the first domain.
        remembered_names: Names of removed containers that are still ours.
        names_lost: Claims of containers to names that others have.
        docker_connected: By the Engine's URL.
        docker_left_out: By the Engine's URL; see `--engine-grace`.
        docker_last_sync: By the Engine's URL, seconds since the epoch; absent if never.
        containers: By state; those that exist, running or not.
        upstream_healthy: By upstream, as configured.
        cache_entries: Responses of upstreams that are kept.
        fleet_connected: Whether the etcd of the fleet answers; None without a fleet.
        fleet_hosts: Hosts of the fleet by state.
        fleet_revision: The revision of etcd at which the zone is.
        part_failing: By part of the process that was ever restarted: whether it is failing.
    """

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
    """The running server, as HTTP sees it."""

    def serial(self) -> int:
        """Return the serial; it grows with every change of any zone."""

    def tag(self) -> str:
        """Return what differs whenever `zone_json` or `zone_text` would give something else."""

    def zone_json(self, domain: str | None, name: str | None) -> Document | None:
        """Return the zone as records, the first shape of the contract.

        Args:
            domain: As typed; the zone's apex, "." for bare names; None for all zones.
            name: As typed; only records of that name; None for all.

        Returns:
            `records`, `skipped` and `remembered` may be iterables; None: no such zone.

        Raises:
            BadName: One of the two is no name.
        """

    def zone_text(self, domain: str | None, name: str | None) -> Iterable[str] | None:
        """Return the lines of a master file, without line ends; otherwise as `zone_json`.

        Args:
            domain: As for `zone_json`, but None is the first domain.
            name: As for `zone_json`.
        """

    async def explain(
        self, name: str, qtype: str | None, client: str, search: Sequence[str]
    ) -> Document:
        """Return what becomes of each query that such a client sends, the second shape.

        Raises:
            BadName: The name or a search domain is no name.
            BadSettings: The type or the client cannot be read.
        """

    def queries(
        self, after: int, client: str | None, limit: int | None = None
    ) -> tuple[int, Iterable[Document]]:
        """Return the queries since a position in the history, newest last, the third shape.

        Each may have two more keys: `outcome`, "zone", "cache", "upstream", "kept" (from
        upstream) or "refused"; and `client_name`, the container of that address, or null.

        Args:
            after: A position that an earlier call gave; 0 for all that is kept.
            client: Whose; None for those of all clients.
            limit: How many at most, the newest; None for all that is kept.

        Returns:
            The position to ask from the next time, and the queries, made as they are taken.
        """

    def changes(self, after: int) -> tuple[int, Iterable[Document]]:
        """Return the changes of containers since a position, newest last; as `queries`."""

    def rights(self, client: str) -> tuple[bool, bool]:
        """Return whether an address may ask (`--allow`) and see all queries (`--allow-history`)."""

    def is_our_name(self, host: str) -> bool:
        """Return whether a Host header, without its port, is a name that we answer."""

    def readiness(self) -> tuple[bool, str]:
        """Return whether every Engine was listed and every socket is open; if not, why."""

    def status(self) -> Document:
        """Return what the page shows of the whole; small, asked once a second per open page.

        Keys: `version`; `serial`; `revision`, which differs whenever `containers` would give
        something else (a health, for example, may change without the serial); `domains` and
        `search_domains`, names; `dns`, the "address:port" that answer DNS; `subnets` of the
        Engines' own networks; `engines` (url, connected, last_sync, lag_ms or null, error or
        null, perhaps left_out); `upstreams` in the order in which they are asked (name, for: a
        domain or null, healthy, rtt_ms or null, aside_until: RFC 3339 or null, perhaps
        last_failure); `counts` (containers, running, names, skipped, remembered); `failing`,
        parts of the process with their errors; `kept` (day, total, since: RFC 3339), questions
        that no upstream saw; `documentation`, a URL or null.
        """

    def containers(self) -> Document:
        """Return what the page shows of the containers.

        Keys: `serial`; `containers`, an iterable (name, id: 12 digits, engine, state, health or
        "", ttl, names: [{name: relative or absolute with a final dot, rule}], addresses:
        [{network, address}], all as DNS answers, perhaps cname: what its names lead to, or "";
        on_host: its address is the host's; unanswered: why it has no names, or ""; project: of
        Compose, or ""; ports: TCP ports that it exposes); `skipped`, an iterable (container, id,
        reason); perhaps `faults`, names that are none and labels that cannot be read (container,
        id, text, reason, of: "name" or "label"), and `losses`, names that another has (owner,
        loser, winner or null, rule).
        """

    def client_config(self, server: str, *, is_given: bool) -> Document:
        """Give what clients of every kind are configured with.

        Args:
            server: The address at which the client reached HTTP, or that it gave.
            is_given: The client gave it, so it holds even if DNS is answered on others alone.

        Returns:
            `servers`, "address:port"; `domains`; `targets`: each as `client-config --format json`
            prints it.
        """

    def gauges(self) -> Gauges:
        """Return the present values for the metrics."""

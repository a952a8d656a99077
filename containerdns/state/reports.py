"""The documents that the running server provides over HTTP.

Nothing is decided here; the zone, the rules and the forwarder are called as for a query.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from importlib.metadata import version as package_version
from ipaddress import ip_address
from itertools import chain, product
from typing import Any, Protocol

from containerdns.config import client_targets
from containerdns.config.client_targets import Ours
from containerdns.config.machine import address_towards
from containerdns.core import names
from containerdns.core.endpoints import DNS_PORT, Endpoint
from containerdns.core.last_day import LastDay
from containerdns.core.protocol import messages, typed_names
from containerdns.core.protocol.explain import (
    Explanation,
    Search,
    UpstreamExplanation,
    as_document,
    explain,
    led_home,
    mark_unsent,
    with_clues,
)
from containerdns.core.protocol.query_history import History
from containerdns.core.times import rfc3339
from containerdns.core.zone import master_file, records, zone_dump
from containerdns.core.zone.change_history import ContainerChange, line
from containerdns.core.zone.clues import Clues, lack_of_address, whose_address
from containerdns.core.zone.containers import RUNNING_STATES, SHORT_ID_DIGITS, Container
from containerdns.core.zone.fleet import host_in
from containerdns.core.zone.ownership import WAITING
from containerdns.core.zone.policy import COMPOSE, SERVICE_ID, Publication
from containerdns.core.zone.records import Record
from containerdns.core.zone.reverse import reverse_name
from containerdns.core.zone.views import View, packed
from containerdns.core.zone.zone import HOST_OWNER, Loss, Suffix, SuffixKind
from containerdns.errors import BadName, BadSettings
from containerdns.state import fleet_report
from containerdns.state.record_count import RecordCount
from containerdns.state.zone_writer import ZoneWriter
from containerdns.tasks.turns import turns
from containerdns.upstream.forwarder import Forwarder, Prospect
from containerdns.web.state import Document, Gauges

TALLY_AFTER = 10.0  # seconds between two looks at all ready-made responses, for the page
EXPLAINING, COUNTING = "explain", "counting"  # keys of the turns; one for all reports
PUBLICATIONS_AT_ONCE = 200  # that are looked at between two turns, within 0.1 ms
USUAL_TYPES = (messages.A, messages.AAAA)  # the types that a client asks for
# Present from the start, since absence cannot be distinguished from 0.
STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
PROJECT_LABEL = f"{COMPOSE}project"


@cache  # it reads files of the package, a millisecond each time
def version() -> str:
    """Return the version of the installed package."""
    try:
        return package_version("containerdns")
    except PackageNotFoundError:
        return "0+unknown"


@cache
def documentation() -> str | None:
    """Return the URL of the documents, from the package's metadata."""
    try:
        urls = metadata("containerdns").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    named = dict(url.split(", ", 1) for url in urls if ", " in url)
    return named.get("Documentation")


class DNSServers(Protocol):
    """The DNS sockets, as needed for the documents."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The addresses that DNS is answered on."""

    def tally_in_pieces(self) -> Iterator[None]:
        """Update the counters of the process, with pauses."""


class Reports:
    """Implements `web.state.State`."""

    def __init__(
        self,
        writer: ZoneWriter,
        forwarder: Forwarder,
        history: History,
        servers: DNSServers,
        failing: Mapping[str, str],
    ) -> None:
        """Set the sources of the documents.

        Args:
            writer: The zone and the Engines.
            forwarder: The upstreams.
            history: The last queries.
            servers: The DNS sockets.
            failing: Parts of the process that are failing, each with its error.
        """
        self._failing = failing
        self._writer = writer
        self._forwarder = forwarder
        self._history = history
        self._counters = writer.counters
        self._servers = servers
        self._record_count = RecordCount()
        self._kept_of_day = LastDay()
        self._tallied_at = -TALLY_AFTER
        self._is_count_wanted = False
        self._started_at = time.time()

    # -- the zone ----------------------------------------------------------------

    def tag(self) -> str:
        """Return an entity tag that changes whenever `/zone` would."""
        writer, zone = self._writer, self._writer.zone
        of_fleet = 0 if writer.fleet is None else writer.fleet.revision
        versions = (zone.serial, writer.revision, len(zone.remembered), of_fleet)
        return "-".join(map(str, (int(self._started_at), *versions)))

    def zone_json(self, domain: str | None, name: str | None) -> Document | None:
        """Return the document of /zone."""
        suffixes = self._suffixes()
        if domain is not None:
            suffixes = [s for s in suffixes if s.apex == names.canonical(domain)]
            if not suffixes:
                return None
        zone = self._writer.zone
        found = self._records(suffixes, name)
        return {
            "serial": zone.serial,
            "engines": self._engines(),
            "fleet": fleet_report.document(self._writer.fleet),
            "zones": [{"apex": s.apex, "serial": zone.serial} for s in self._suffixes()],
            "records": (each and _record_document(each[1], each[0]) for each in found),
            "skipped": self._skipped(),
            "without_address": self._without_address(),
            "remembered": (
                item and {"name": item[0], "until": rfc3339(item[1])}
                for item in self._remembered(name)
            ),
            "faults": self._faults(),
            "losses": (loss and _loss_document(loss) for loss in zone.losses_in_pieces()),
        }

    def _remembered(self, name: str | None) -> Iterator[tuple[str, float] | None]:
        """Yield one remembered owner, or all, with their expiry times, and None in between."""
        remembered = self._writer.zone.remembered
        if name is None:
            yield from remembered.items()
        elif (owner := name.rstrip(".")) in remembered:
            yield owner, remembered.until(owner)

    def zone_text(self, domain: str | None, name: str | None) -> Iterable[str | None] | None:
        """Return the lines of a master file."""
        apex = self._writer.zone.shape.domains[0] if domain is None else names.canonical(domain)
        suffix = next((s for s in self._suffixes() if s.apex == apex), None)
        if suffix is None:
            return None
        return self._text(suffix, self._records([suffix], name))

    def _text(
        self, suffix: Suffix, found: Iterator[tuple[str, Record] | None]
    ) -> Iterator[str | None]:
        zone = self._writer.zone
        yield master_file.comment(f"containerdns {version()}: zone {suffix.apex} as of now")
        for other in self._suffixes():
            yield master_file.comment(f"zone {other.apex} ({other.kind.value})")
        for engine in self._engines():
            state = "connected" if engine["connected"] else _not_connected(engine["error"])
            if engine["left_out"]:
                state += "; its addresses are left out of answers that have others"
            yield master_file.comment(f"engine {engine['url']}: {state}")
        yield from map(master_file.comment, fleet_report.lines(self._writer.fleet))
        for item in self._skipped():
            where = f" on host {item['host']}" if item and item.get("host") else ""
            text = item and f"skipped {item['container']} ({item['id']}){where}: {item['reason']}"
            yield master_file.comment(text) if text else None
        for lone in self._without_address():
            lack = lone and f"{lone['container']} has no address: {lone['reason']}"
            yield master_file.comment(lack) if lack else None
        for fault in self._faults():
            bad = fault and f"bad {fault['container']}: {fault['text']}: {fault['reason']}"
            yield master_file.comment(bad) if bad else None
        for loss in zone.losses_in_pieces():
            yield loss and master_file.comment(_loss_text(loss))
        for kept in zone.remembered.items():
            text = kept and f"remembered {kept[0]} until {rfc3339(kept[1])}"
            yield master_file.comment(text) if text else None
        view = self._neutral_view()
        if not view.host_addresses:
            text = "whose address is unknown here: left out"
            yield master_file.comment(f"{HOST_OWNER} is the host, {text}")
            for publication in self._publications():
                if publication is None:
                    yield None
                elif publication.on_host and publication.is_running:
                    name = publication.container_name
                    yield master_file.comment(f"{name} is on the host, {text}")
        knows_address = bool(view.server_addresses)
        dumped = (each and each[1] for each in found)
        yield from master_file.lines(zone, suffix, dumped, knows_address)

    def _records(
        self, suffixes: Iterable[Suffix], name: str | None
    ) -> Iterator[tuple[str, Record] | None]:
        """Yield records with their apex, of one name or of all, and None in between."""
        wanted = None if name is None else names.canonical(name)
        is_absolute = name is None or name.endswith(".")
        return self._dumped(list(suffixes), wanted, is_absolute=is_absolute)

    def _dumped(
        self, suffixes: list[Suffix], wanted: str | None, *, is_absolute: bool
    ) -> Iterator[tuple[str, Record] | None]:
        zone, view = self._writer.zone, self._neutral_view()
        for suffix in suffixes:
            if wanted is None:
                dumps = [zone_dump.dump(zone, suffix, view)]
            else:
                asked = [wanted] if is_absolute else [wanted, names.join(wanted[:-1], suffix.apex)]
                dumps = [zone_dump.dump_name(zone, n, suffix, view) for n in dict.fromkeys(asked)]
            for record in chain.from_iterable(dumps):
                yield None if record is None else (suffix.apex, record)

    def _suffixes(self) -> list[Suffix]:
        zone = self._writer.zone
        return [
            *(Suffix(domain, SuffixKind.DOMAIN) for domain in zone.shape.domains),
            *(Suffix(domain, SuffixKind.SEARCH) for domain in zone.shape.search_domains),
            *((Suffix(names.ROOT, SuffixKind.BARE),) if zone.shape.bare_names else ()),
            *(Suffix(apex, SuffixKind.REVERSE) for apex in zone.reverse.apexes()),
        ]

    def _neutral_view(self) -> View:
        return self._writer.neutral_view(self._servers.endpoints)

    def _publications(self) -> Iterator[Publication | None]:
        """Yield all publications, and None between some of them."""
        for number, publication in enumerate(self._writer.zone.publications()):
            if number % PUBLICATIONS_AT_ONCE == 0:
                yield None
            yield publication

    def _skipped(self) -> Iterator[dict[str, str | None] | None]:
        for container_id, (name, reason) in list(self._writer.inventory.unreadable.items()):
            shown = _shown_id(container_id)
            yield {"container": name, "id": shown, "reason": f"unreadable: {reason}"}
        for p in self._publications():
            if p is None:
                yield None
            elif p.skipped:
                yield {
                    "container": p.container_name,
                    "id": _shown_id(p.id),
                    "host": host_in(p.id) or None,
                    "reason": p.skipped,
                }

    def _without_address(self) -> Iterator[dict[str, str] | None]:
        """Yield the running containers of this server's Engines that have names alone."""
        inventory = self._writer.inventory
        for p in self._publications():
            if p is None:
                yield None
                continue
            container = inventory.get(p.id)
            if container is not None and p.is_running and p.claims and not p.has_address:
                reason = lack_of_address(container, inventory.get, inventory.policy)
                yield {"container": p.container_name, "id": _shown_id(p.id), "reason": reason}

    def _faults(self) -> Iterator[dict[str, str] | None]:
        for p in self._publications():
            if p is None:
                yield None
                continue
            for text, reason in p.faults:
                yield {
                    "container": p.container_name,
                    "id": _shown_id(p.id),
                    "text": text,
                    "reason": reason,
                    "of": "label" if self._is_of_label(text) else "name",
                }

    def _is_of_label(self, text: str) -> bool:
        """Return whether a fault's text is a label, `PREFIX.KEY=VALUE` or `PREFIX.*`."""
        is_ours = text.startswith(f"{self._writer.settings.policy.label_prefix}.")
        return is_ours and ("=" in text or text.endswith(".*"))

    def _engines(self) -> list[dict[str, Any]]:
        return [
            {
                "url": engine.url,
                "connected": engine.is_connected,
                "last_sync": rfc3339(engine.last_sync) if engine.last_sync else None,
                "lag_ms": None if engine.lag is None else round(engine.lag * 1000, 3),
                "error": engine.cause or None,
                "left_out": engine.url in self._writer.zone.lost_engines,
            }
            for engine in self._writer.engines.values()
        ]

    # -- explain -----------------------------------------------------------------------

    async def explain(
        self, name: str, qtype: str | None, client: str, search: Sequence[str]
    ) -> Document:
        """Explain each query that such a client sends, the second shape."""
        typed = typed_names.read(name)
        qtypes = _types(qtype, is_address=bool(typed.address))
        try:
            address = packed(client)
        except ValueError:
            raise BadSettings("client", client, "an IP address") from None
        view = self._writer.views.of(address, self._local_for(address))
        now = time.time()
        if typed.address:
            asked = [names.canonical(typed.host)]
        else:
            asked = Search(typed.host, search).names()
        told = []
        for one, number in product(asked, qtypes):
            told.append(explain(self._writer.ownership, one, number, view, now))
            await turns().offer(EXPLAINING)
        remarks = [typed.remark] if typed.remark else []
        if typed.address:
            remarks.append(await self._who_has(typed.address))
        clues = await self._clues([t for t in told if not t.records])
        queries = []
        for each in told:
            known = self._with_cause(fleet_report.with_hosts(with_clues(each, clues), self._writer))
            queries.append(self._told(known, view, now))
            await turns().offer(EXPLAINING)
        mark_unsent(queries)
        return {"queries": queries, "remarks": remarks}

    def _with_cause(self, told: Explanation) -> Explanation:
        """Add why no Engine was listed, of those that are not connected."""
        lost = [e.cause for e in self._writer.engines.values() if not e.is_connected and e.cause]
        if told.reason != WAITING or not lost:
            return told
        return replace(told, reason=f"{WAITING}: {'; '.join(lost)}")

    async def _clues(self, unanswered: Sequence[Explanation]) -> Clues:
        """Look around some names, with turns for others."""
        inventory = self._writer.inventory
        last_holder = self._writer.changes.last_holder
        clues = Clues(self._writer.zone, inventory.get, inventory.policy, last_holder)
        owners = {told.owner for told in unanswered if told.owner}
        for _ in clues.look(owners, {told.name for told in unanswered}):
            await turns().offer(EXPLAINING)
        return clues

    async def _who_has(self, address: str) -> str:
        """Return which container has an address, taking turns with other work."""
        holders = []
        for publication in self._writer.zone.publications():
            if publication.is_running and any(a.text == address for a in publication.addresses):
                holders.append(publication)
            await turns().offer(EXPLAINING)
        return whose_address(address, holders, self._writer.inventory.networks())

    def _told(self, told: Explanation, view: View, now: float) -> dict[str, object]:
        """Add what the forwarder would do, without querying upstreams."""
        if told.decision != "upstream":
            return as_document(told, UpstreamExplanation())
        prospect = self._forwarder.describe(told.asks, told.qtype)
        if prospect.cached is not None:
            told = led_home(self._writer.ownership, told, view, prospect.cached, now)
        return as_document(told, _upstream_of(told, prospect))

    def _local_for(self, address: bytes) -> bytes:
        """Return an address of ours that such a client would send its query to; b"" if none."""
        towards = address_towards(str(ip_address(address)))
        source = packed(towards) if towards else b""
        own = {packed(e.host): e for e in self._servers.endpoints}
        same_family = {octets: e for octets, e in own.items() if len(octets) == len(address)}
        if source in same_family or any(e.is_wildcard for e in same_family.values()):
            return source
        return next(iter(same_family), b"")

    # -- queries -----------------------------------------------------------------------

    def queries(
        self, after: int, client: str | None, limit: int | None = None
    ) -> tuple[int, Iterable[Document]]:
        """Return the queries of /queries since a position in the history, newest last."""
        most = self._writer.settings.dns.query_history
        whose = None if client is None else packed(client)
        found, total = self._history.since(after, most if limit is None else limit, whose)
        return total, (
            {
                **query,
                "outcome": self._outcome_of(query),
                "client_name": self._name_at(str(query["client"])),
            }
            for query in found
        )

    def _name_at(self, address: str) -> str | None:
        """Return the container with an address, by its PTR record, without the domain."""
        zone = self._writer.zone
        publication = zone.publication(zone.reverse.holder(reverse_name(address)) or "")
        return None if publication is None else publication.container_name or None

    def _outcome_of(self, query: Document) -> str:
        if query["rcode"] == "REFUSED":
            return "refused"
        is_kept = query["source"] == "policy" or (
            query["rcode"] == "NXDOMAIN"
            and query["source"] == "zone"
            and not any(names.is_below(query["name"], d) for d in self._writer.zone.shape.domains)
        )
        return "kept" if is_kept else query["source"]

    def changes(self, after: int) -> tuple[int, Iterable[Document]]:
        """Return the changes of containers since a position, newest last."""
        found, total = self._writer.changes.since(after)
        return total, map(_change_document, found)

    def rights(self, client: str) -> tuple[bool, bool]:
        """Return whether an address may query, and whether it sees all queries."""
        view = self._writer.views.of(packed(client))
        return view.may_ask, view.may_see_history

    def is_our_name(self, host: str) -> bool:
        """Return whether a Host header, without its port, is a name served here."""
        try:
            name = names.canonical(host)
        except BadName:
            return False
        return self._writer.ownership.answers(name, time.time())

    # -- status ----------------------------------------------------------------------

    def readiness(self) -> tuple[bool, str]:
        """Return whether all Engines were listed, all sockets are open and all parts run."""
        if not self._servers.endpoints:
            return False, "no socket is open yet"
        if self._failing:
            failing = "; ".join(f"{part}: {error}" for part, error in self._failing.items())
            return False, f"restarting after an internal error: {failing}"
        return self._writer.readiness()

    def status(self) -> Document:
        """Return the server's status for the page."""
        zone = self._writer.zone
        return {
            "version": version(),
            "serial": zone.serial,
            "revision": self._writer.revision,
            "domains": list(zone.shape.domains),
            "search_domains": list(zone.shape.search_domains),
            "dns": [str(endpoint) for endpoint in self._servers.endpoints],
            "engines": self._engines(),
            "fleet": fleet_report.document(self._writer.fleet),
            "failing": dict(self._failing),
            "kept": self.kept(),
            "documentation": documentation(),
            "subnets": self._subnets(),
            "upstreams": [
                {
                    "name": upstream.name,
                    "for": upstream.apex,
                    "healthy": upstream.is_healthy,
                    "rtt_ms": round(upstream.round_trip * 1000, 2) or None,
                    "aside_until": rfc3339(time.time() + upstream.aside_for)
                    if upstream.aside_for
                    else None,
                    "last_failure": upstream.last_failure or None,
                }
                for upstream in self._forwarder.status()
            ],
            "counts": {
                **self._container_counts(),
                "names": len(zone),
                "remembered": len(zone.remembered),
            },
        }

    def client_config(self, server: str, *, is_given: bool) -> Document:
        """Return what clients of every kind are configured with, as `client-config` prints it."""
        shape = self._writer.zone.shape
        ours = Ours(
            self._endpoints_for_clients(server, is_given=is_given),
            tuple(domain.rstrip(".") for domain in shape.domains),
            tuple(domain.rstrip(".") for domain in shape.search_domains),
            tuple(self._subnets()),
        )
        snippets = {target: client_targets.write(target, ours) for target in client_targets.WRITERS}
        return {
            "servers": [str(endpoint) for endpoint in ours.endpoints],
            "domains": list(ours.domains),
            "targets": [snippet.document(target, ours) for target, snippet in snippets.items()],
        }

    def _endpoints_for_clients(self, server: str, *, is_given: bool) -> tuple[Endpoint, ...]:
        """Return the DNS addresses for a client that reached `server` over HTTP, or gave it."""
        listening = self._servers.endpoints
        everywhere = [e for e in listening if e.is_wildcard]
        same = [e for e in listening if e.host == server]
        if is_given or same or everywhere or not listening:
            port = next((e.port for e in (*same, *everywhere, *listening)), DNS_PORT)
            return (Endpoint(server, port),)
        return tuple(listening)

    def kept(self) -> Document:
        """Return how many questions no upstream saw, within a day and since the start.

        The ready-made responses among them are those of some seconds ago, see `take_sample`.
        """
        self._is_count_wanted = time.monotonic() - self._tallied_at >= TALLY_AFTER
        total = self._counters.kept_from_upstream
        return {
            "day": self._kept_of_day.growth(total),
            "total": total,
            "since": rfc3339(self._started_at),
        }

    async def take_sample(self) -> None:
        """Record how many questions were kept so far."""
        now = time.monotonic()
        if self._kept_of_day.is_due(now) or self._is_count_wanted:
            for _ in self._servers.tally_in_pieces():
                await turns().offer(COUNTING)
            self._is_count_wanted, self._tallied_at = False, now
            self._kept_of_day.note(self._counters.kept_from_upstream, now)

    def _container_counts(self) -> dict[str, int]:
        """Count containers, without a look at each."""
        inventory = self._writer.inventory
        return {
            "containers": inventory.states.total(),
            "running": sum(inventory.states[state] for state in RUNNING_STATES),
            "skipped": self._writer.zone.skipped + len(inventory.unreadable),
        }

    def _subnets(self) -> list[str]:
        """Return the subnets of bridge and overlay networks, which clients need routes to."""
        own = {
            subnet
            for network in self._writer.inventory.networks()
            if network.driver in ("bridge", "overlay")
            for subnet in network.subnets
        }
        return sorted(own)

    def containers(self) -> Document:
        """Return the containers for the page."""
        return {
            "serial": self._writer.zone.serial,
            "containers": (
                self._container_document(p) for p in list(self._writer.zone.publications())
            ),
            "skipped": self._skipped(),
            "faults": self._faults(),
            "losses": (
                loss and _loss_document(loss) for loss in self._writer.zone.losses_in_pieces()
            ),
        }

    def _container_document(self, publication: Publication) -> Document:
        container = self._writer.inventory.get(publication.id)
        held = list(records.held_by(self._writer.zone, publication, self._neutral_view()))
        addresses = {
            (record.network, master_file.data_text(record.rtype, record.rdata))
            for _, own in held
            for record in own
            if record.rtype in USUAL_TYPES
        }
        return {
            "name": publication.container_name or publication.id,
            "id": _shown_id(publication.id),
            "engine": publication.engine,
            "host": host_in(publication.engine) or None,
            "project": container.docker_labels.get(PROJECT_LABEL, "") if container else "",
            "ports": _tcp_ports(container) if container and container.is_running else [],
            "state": container.state if container else "running",
            "health": container.health if container else "",
            "ttl": publication.ttl,
            "names": [{"name": claim.owner, "rule": claim.rule} for claim, _ in held],
            "addresses": [{"network": n, "address": text} for n, text in sorted(addresses)],
            "cname": publication.cname if held else "",
            "on_host": publication.on_host,
            "unanswered": _unanswered(publication) if not held else "",
        }

    def gauges(self) -> Iterator[Gauges | None]:
        """Yield None after each piece of work, and then the current values for the metrics."""
        yield from self._servers.tally_in_pieces()
        zone = self._writer.zone
        yield from self._record_count.bring_up_to_date(zone, self._neutral_view())
        fleet = self._writer.fleet
        yield Gauges(
            version=version(),
            zone_records=self._record_count.by_type,
            zone_names=len(zone),
            zone_serial=zone.serial,
            remembered_names=len(zone.remembered),
            names_lost=self._record_count.lost,
            docker_connected={e.url: e.is_connected for e in self._writer.engines.values()},
            docker_left_out={
                e.url: e.url in zone.lost_engines for e in self._writer.engines.values()
            },
            docker_last_sync={
                e.url: e.last_sync for e in self._writer.engines.values() if e.last_sync
            },
            containers=dict.fromkeys(STATES, 0) | self._writer.inventory.states,
            upstream_healthy={u.name: u.is_healthy for u in self._forwarder.status()},
            cache_entries=self._forwarder.cache_entries,
            part_failing={part: part in self._failing for part in self._counters.part_restarts},
            fleet_connected=None if fleet is None else fleet.is_connected,
            fleet_hosts=fleet_report.count(fleet.hosts) if fleet else {},
            fleet_revision=fleet.revision if fleet else 0,
        )

    def count_on(self) -> bool:
        """Count some more records; return whether there is nothing to count for now."""
        return self._record_count.go_on(self._writer.zone, self._neutral_view())


def _tcp_ports(container: Container) -> list[int]:
    """Return the TCP ports that a container exposes, at its own addresses."""
    return sorted({binding.port for binding in container.ports if binding.protocol == "tcp"})


def _types(qtype: str | None, *, is_address: bool) -> Sequence[int]:
    """Return the types to explain: the given one, or the usual ones.

    Raises:
        BadSettings: There is no such type.
    """
    if not qtype:
        return (messages.PTR,) if is_address else USUAL_TYPES
    number = messages.type_number(qtype)
    if number is None:
        raise BadSettings("type", qtype, "the mnemonic of a type, or TYPE and its number")
    return (number,)


def _unanswered(publication: Publication) -> str:
    """Return why no name resolves to a container."""
    if publication.skipped or not publication.is_running:
        return publication.skipped or "not running"
    return (
        "other containers have all of its names" if publication.claims else "it has no valid name"
    )


def _upstream_of(told: Explanation, prospect: Prospect) -> UpstreamExplanation:
    """Return what the forwarder would do about an explained query."""
    listed, server, left, cached = prospect
    if left is not None and cached is not None:
        ttl = int(left) if told.ttl_ceiling is None else min(int(left), told.ttl_ceiling)
        reason = f"{told.reason}; cached for another {left:.0f} s"
        return UpstreamExplanation("cache", cached.resolution.upstream, ttl, None, reason)
    if server is None:
        return UpstreamExplanation(
            "upstream", None, None, "SERVFAIL", f"{listed} has no server to ask"
        )
    return UpstreamExplanation(
        "upstream", server, None, None, f"{told.reason}; {server} is tried first"
    )


def _not_connected(error: str | None) -> str:
    return f"not connected: {error}" if error else "not connected"


def _shown_id(publication: str) -> str:
    """Return the first digits of the id of a container or service, else ""."""
    if host_in(publication):
        return publication.rpartition("/")[2][:SHORT_ID_DIGITS]
    kind, _, own = publication.rpartition(":")
    return own[:12] if kind in ("", SERVICE_ID.rstrip(":")) else ""


def _change_document(change: ContainerChange) -> Document:
    return {
        "time": rfc3339(change.time, "milliseconds"),
        "change": change.change,
        "container": change.container,
        "id": _shown_id(change.id),
        "engine": change.engine,
        "host": host_in(change.engine) or None,
        "names": list(change.names),
        "before": list(change.before),
        "after": list(change.after),
        "healthy": change.is_healthy,
        "seconds_without": None
        if change.seconds_without is None
        else round(change.seconds_without, 3),
        "text": line(change),
    }


def _record_document(record: Record, apex: str) -> Document:
    is_bare = apex == names.ROOT and names.is_single_label(record.name)
    bare = "bare " if is_bare and record.container else ""
    return {
        "name": record.name,
        "type": messages.type_text(record.rtype),
        "ttl": record.ttl,
        "data": master_file.data_text(record.rtype, record.rdata),
        "container": record.container or None,
        "id": _shown_id(record.container_id) or None,
        "host": host_in(record.container_id) or None,
        "network": record.network or None,
        "rule": bare + record.rule if record.rule else None,
    }


def _loss_text(loss: Loss) -> str:
    if loss.held_for:
        text = f"held back {loss.owner}: for {loss.held_for} until {rfc3339(loss.until)}"
        return f"{text}, then {loss.loser} may have it ({loss.rule})"
    winner = loss.winner or "nobody, as several projects have it"
    return f"lost {loss.owner}: {loss.loser} to {winner} ({loss.rule})"


def _loss_document(loss: Loss) -> Document:
    until = rfc3339(loss.until) if loss.until else None
    return {**loss._asdict(), "held_for": loss.held_for or None, "until": until}

"""A running server as HTTP sees it, without one: for speed, scale and odd moments."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from containerdns.config import client_targets
from containerdns.config.client_targets import Ours
from containerdns.core.endpoints import Endpoint
from containerdns.core.names import canonical, is_single_label, join
from containerdns.core.protocol import typed_names
from containerdns.core.protocol.explain import mark_unsent
from containerdns.core.protocol.messages import type_number
from containerdns.errors import BadSettings
from containerdns.web.state import Document, Gauges

HOSTILE = '<img src=x onerror="document.title=`pwned`">'
ENGINE = "unix:///var/run/docker.sock"
WEB: dict[str, Any] = {
    "name": "web",
    "id": "0123456789ab",
    "engine": ENGINE,
    "project": "",
    "ports": [80, 9000],
    "state": "running",
    "health": "healthy",
    "ttl": 5,
    "names": [
        {"name": "web", "rule": "container name"},
        {"name": "0123456789ab", "rule": "container id"},
        {"name": "web.frontend", "rule": "container name on a network"},
    ],
    "addresses": [{"network": "frontend", "address": "172.18.0.2"}],
}
SUFFIXES = (".", ".docker.", ".localdomain.")
RECORD = {
    "name": "web.docker.",
    "type": "A",
    "ttl": 5,
    "data": "172.18.0.2",
    "container": "web",
    "id": "0123456789ab",
    "network": "frontend",
    "rule": "container name",
}
QUERY = {
    "time": "2026-11-24T08:00:00.123Z",
    "client": "127.0.0.1",
    "client_name": None,
    "proto": "udp",
    "name": "web.",
    "type": "A",
    "rcode": "NOERROR",
    "source": "zone",
    "upstream": None,
    "ms": 0.02,
    "outcome": "zone",
}
CHANGE = {
    "time": "2026-11-24T08:00:00.123Z",
    "change": "moved",
    "container": "web",
    "id": "0123456789ab",
    "engine": ENGINE,
    "names": ["web"],
    "before": ["172.18.0.2"],
    "after": ["172.18.0.5"],
    "healthy": True,
    "seconds_without": 0.8,
    "text": "~ web 172.18.0.2 -> 172.18.0.5, 0.8 s without",
}


@dataclass
class FakeState:
    """Everything that a test may change."""

    number: int = 1795515600
    records: list[Document] = field(default_factory=lambda: [RECORD])
    history: list[Document] = field(default_factory=lambda: [QUERY])
    listed: list[Document] = field(default_factory=lambda: [WEB])
    skipped: list[Document] = field(default_factory=list)
    engines: list[Document] = field(
        default_factory=lambda: [
            {
                "url": ENGINE,
                "connected": True,
                "last_sync": "2026-11-24T08:00:00Z",
                "lag_ms": 2.1,
                "error": None,
            }
        ]
    )
    upstreams: list[Document] = field(
        default_factory=lambda: [
            {"name": "1.1.1.1", "for": None, "healthy": True, "rtt_ms": 12.4, "aside_until": None},
            {
                "name": "8.8.8.8",
                "for": None,
                "healthy": False,
                "rtt_ms": None,
                "aside_until": "2026-11-24T08:01:00Z",
            },
        ]
    )
    changed: list[Document] = field(default_factory=lambda: [CHANGE])
    may_ask: bool = True
    may_see_history: bool = True
    unready: str = ""
    failing: dict[str, str] = field(default_factory=dict)
    kept: int = 0

    def tag(self) -> str:
        return str(self.number)

    def zone_json(self, domain: str | None, name: str | None) -> Document | None:
        if domain and canonical(domain) not in ("docker.", "."):
            return None
        wanted = canonical(name) if name else None
        return {
            "serial": self.number,
            "engines": self.engines,
            "zones": [{"apex": "docker.", "serial": self.number}],
            "records": (r for r in self.records if wanted in (None, r["name"])),
            "skipped": self.skipped,
            "remembered": [],
        }

    def zone_text(self, domain: str | None, name: str | None) -> Iterable[str] | None:
        document = self.zone_json(domain, name)
        if document is None:
            return None
        return (f"{r['name']} {r['ttl']} IN {r['type']} {r['data']}" for r in document["records"])

    async def explain(
        self, name: str, qtype: str | None, client: str, search: Sequence[str]
    ) -> Document:
        if qtype and type_number(qtype) is None:
            raise BadSettings("type", qtype, "a type")
        typed = typed_names.read(name)
        asked = [canonical(suffix) for suffix in search]
        names = [canonical(typed.host), *(join(typed.host.rstrip("."), s) for s in asked)]
        queries = [dict(self._explained(one, client)) for one in [*names[1:], names[0]]]
        mark_unsent(queries)
        return {"queries": queries, "remarks": [typed.remark] if typed.remark else []}

    def _explained(self, name: str, client: str) -> Document:
        listed = {
            f"{c['name']}{end}": c
            for c in self.listed
            for end in (".", ".docker.", ".localdomain.")
        }
        is_ours = name in listed
        return {
            "name": name,
            "type": "A",
            "decision": "zone" if is_ours else "upstream",
            "rule": ("bare " * is_single_label(name) + "container name") if is_ours else "not ours",
            "rcode": "NOERROR" if is_ours else None,
            "ttl": 5 if is_ours else None,
            "upstream": None if is_ours else "1.1.1.1",
            "records": [
                {
                    "type": "A",
                    "data": at["address"],
                    "container": one["name"],
                    "network": at["network"],
                }
                for one in ([listed[name]] if is_ours else [])
                for at in one["addresses"]
            ],
            "reason": f"the container {listed[name]['name']} is running; asked by {client}"
            if is_ours
            else "forwarded to the upstreams: not ours; 1.1.1.1 is tried first",
        }

    def queries(
        self, after: int, client: str | None, limit: int | None = None
    ) -> tuple[int, Iterable[Document]]:
        found = [query for query in self.history[after:] if client in (None, query["client"])]
        return len(self.history), iter(found[-limit:] if limit else found)

    def changes(self, after: int) -> tuple[int, Iterable[Document]]:
        return len(self.changed), iter(self.changed[after:])

    def rights(self, client: str) -> tuple[bool, bool]:
        del client
        return self.may_ask, self.may_see_history

    def is_our_name(self, host: str) -> bool:
        return host in ("web.docker", "host.docker")

    def readiness(self) -> tuple[bool, str]:
        return not self.unready, self.unready

    def status(self) -> Document:
        return {
            "version": "1.0.0",
            "serial": self.number,
            "revision": self.number,
            "domains": ["docker."],
            "search_domains": ["localdomain."],
            "dns": ["0.0.0.0:53"],
            "engines": self.engines,
            "upstreams": self.upstreams,
            "failing": self.failing,
            "kept": {"day": self.kept, "total": self.kept, "since": "2026-11-24T08:00:00Z"},
            "documentation": "https://docs.example/",
            "counts": {
                "containers": len(self.listed),
                "running": len(self.listed),
                "names": len(self.records),
                "skipped": len(self.skipped),
                "remembered": 0,
            },
        }

    def containers(self) -> Document:
        return {
            "serial": self.number,
            "containers": iter(self.listed),
            "skipped": iter(self.skipped),
        }

    def client_config(self, server: str, *, is_given: bool) -> Document:
        del is_given
        ours = Ours((Endpoint(server, 53),), ("docker",), ("localdomain",))
        return {
            "servers": [f"{server}:53"],
            "domains": ["docker"],
            "targets": [
                client_targets.write(t, ours).document(t, ours) for t in client_targets.WRITERS
            ],
        }

    def gauges(self) -> Iterator[Gauges | None]:
        yield None
        yield Gauges(
            version="1.0.0",
            zone_records={"A": len(self.records)},
            zone_names=len(self.records),
            zone_serial=self.number,
            remembered_names=3,
            names_lost=1,
            docker_connected={e["url"]: e["connected"] for e in self.engines},
            docker_left_out={e["url"]: False for e in self.engines},
            docker_last_sync={e["url"]: 1795515600.0 for e in self.engines},
            containers={"running": len(self.listed)},
            upstream_healthy={u["name"]: u["healthy"] for u in self.upstreams},
            part_failing={"statistics": True},
            fleet_connected=None,
            fleet_hosts={},
            fleet_revision=0,
            cache_entries=0,
        )

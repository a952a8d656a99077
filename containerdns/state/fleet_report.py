"""What `/zone`, `/explain`, the page and the metrics show of a fleet."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

from containerdns.core.protocol.explain import REMOVED, Explanation
from containerdns.core.times import rfc3339
from containerdns.core.zone.fleet import host_in
from containerdns.state.zone_writer import FleetStatus, ZoneWriter
from containerdns.web.state import Document

STATES = ("own", "alive", "late", "lost")
TROUBLES = {
    "late": "not heard of since etcd came back; it has one lease of grace",
    "lost": "its Engines are lost; its addresses are left out of answers that have others",
}


def document(fleet: FleetStatus | None) -> Document | None:
    """Return what is known of a fleet; None without one."""
    if fleet is None:
        return None
    return {
        "connected": fleet.is_connected,
        "revision": fleet.revision,
        "error": fleet.cause or None,
        "hosts": [{"name": name, "state": state} for name, state in sorted(fleet.hosts.items())],
    }


def lines(fleet: FleetStatus | None) -> Iterator[str]:
    """Yield lines about a fleet, if there is one; of its hosts, those in trouble."""
    if fleet is None:
        return
    cause = f" ({fleet.cause})" if fleet.cause else ""
    state = "connected" if fleet.is_connected else f"not connected{cause}"
    yield f"fleet: {state}, revision {fleet.revision}, hosts: {len(fleet.hosts)}"
    for name, state in sorted(fleet.hosts.items()):
        if state in TROUBLES:
            yield f"fleet host {name}: {TROUBLES[state]}"


def count(hosts: Mapping[str, str]) -> dict[str, int]:
    """Count the hosts of a fleet by state."""
    return dict.fromkeys(STATES, 0) | Counter(hosts.values())


def with_hosts(explanation: Explanation, writer: ZoneWriter) -> Explanation:
    """Add the hosts that the containers of an answer are on, or the last one was on."""
    if writer.fleet is None:
        return explanation
    if not explanation.records and explanation.reason.startswith(REMOVED):
        where = _last_host(explanation.owner, writer, writer.fleet)
    else:
        found = dict.fromkeys(host_in(record.container_id) for record in explanation.records)
        shown = ", ".join(host for host in found if host)
        where = f"on host {shown}" if shown else ""
    return replace(explanation, reason=f"{explanation.reason}; {where}") if where else explanation


def _last_host(owner: str, writer: ZoneWriter, fleet: FleetStatus) -> str:
    """Return where the last container of a name was, and whether that host is lost."""
    last = writer.changes.last_holder(owner)
    host = host_in(last.engine) if last is not None else ""
    if last is None or not host:
        return ""
    if host in fleet.hosts:
        return f"it was on host {host}"
    return f"it was on host {host}, which the fleet has lost since {rfc3339(last.time)}"

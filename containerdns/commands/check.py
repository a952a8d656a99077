"""`containerdns check`: validate everything that `serve` needs.

Each function examines one part (settings, files, sockets, Engines, names, upstreams) and
yields findings.  Nothing is changed: sockets are closed again, files are only read.
"""

import asyncio
import http.client
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from containerdns.commands import http_client
from containerdns.commands.terminal import count_of
from containerdns.config.files import text_of
from containerdns.config.groups import Settings
from containerdns.config.machine import has_address
from containerdns.config.settings import unknown_variables
from containerdns.config.top_level_domains import top_level_domains
from containerdns.core import names
from containerdns.core.counters import Counters
from containerdns.core.endpoints import Endpoint
from containerdns.core.protocol import messages
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone import docker_labels, hosts_file, special_names
from containerdns.core.zone.policy import Publication, proxy_kind
from containerdns.core.zone.proxy_labels import hosts_of
from containerdns.core.zone.views import packed
from containerdns.core.zone.zone import Loss
from containerdns.engine.watcher import Watcher
from containerdns.errors import BadSettings, CannotListen
from containerdns.server import sockets
from containerdns.server.transfer import read_keys
from containerdns.state.zone_writer import ZoneWriter
from containerdns.upstream.forwarder import Forwarder
from containerdns.web.http import bound

ENGINE_PATIENCE = 10.0  # seconds for the first listing
UPSTREAM_PATIENCE = 1.0  # seconds for an answer; clients wait for at most five
OWN_PATIENCE = 0.5  # seconds for an answer of a local server, which comes from memory
CORRECT = "correct the container's labels or name"
MAX_LISTED = 5  # containers in one finding
OPEN_PREFIX = 8  # a public network this wide or wider in --allow makes an open resolver
# RFC 6762 and 7686: clients never send names below these to a DNS server.
NEVER_ASKED = frozenset({"local.", "onion."})

# CH TXT version.bind., which a running containerdns answers.
VERSION_QUERY = messages.query(
    0x6364, 0, names.to_wire("version.bind.") + struct.pack("!2H", messages.TXT, messages.CH)
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of an examination.

    Attributes:
        level: "ok", "warning" or "error".
        text: What was found.
        remedy: What to do about it; "" if nothing.
    """

    level: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All findings.

    Attributes:
        findings: In the order of the examinations.
        served: By container, the names below the first domain that would be answered.
    """

    findings: tuple[Finding, ...]
    served: Mapping[str, tuple[str, ...]]

    @property
    def errors(self) -> int:
        """The number of findings that are errors."""
        return sum(finding.level == "error" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {
            "findings": [
                {"level": f.level, "text": f.text, "remedy": f.remedy} for f in self.findings
            ],
            "names": {container: list(served) for container, served in self.served.items()},
            "errors": self.errors,
            "warnings": sum(finding.level == "warning" for finding in self.findings),
        }


def check(settings: Settings, environment: Mapping[str, str]) -> CheckReport:
    """Examine what `serve` would need, without serving.

    Args:
        settings: As loaded for `serve`.
        environment: Checked for misspelt variables.
    """
    return asyncio.run(_check(settings, environment))


async def _check(settings: Settings, environment: Mapping[str, str]) -> CheckReport:
    upstreams = asyncio.ensure_future(_of_upstreams(settings))
    writer = await _listed(settings)
    findings = (
        *_of_settings(settings, environment),
        *_of_files(settings),
        *_of_sockets(settings),
        *_of_engines(writer),
        *_of_networks(writer),
        *_of_names(writer),
        *_of_proxies(writer),
        *await upstreams,
    )
    return CheckReport(findings, dict(_served(writer)))


# Settings.


def _of_settings(settings: Settings, environment: Mapping[str, str]) -> Iterator[Finding]:
    searched = ", ".join(settings.zone.search_domains)
    also = f"; names of containers also below {searched}" if searched else ""
    yield Finding("ok", f"ours: everything below {', '.join(settings.zone.domains)}{also}")
    for variable in unknown_variables(environment):
        yield Finding(
            "warning", f"{variable}: ignored, no option has this name", "correct it or unset it"
        )
    yield from _of_domains(settings)
    for network in settings.rights.ask:
        if (network.prefixlen <= OPEN_PREFIX and network.is_global) or not network.prefixlen:
            remedy = (
                "allow only the networks of your clients; open resolvers are abused within hours"
            )
            yield Finding(
                "error", f"--allow {network} allows queries from the whole internet", remedy
            )


def _of_domains(settings: Settings) -> Iterator[Finding]:
    public = top_level_domains()
    for domain in settings.zone.domains:
        if domain in public:
            remedy = "use a name that is not public, such as --domain docker, or a subdomain"
            yield Finding("error", f"--domain {domain} hides a public top-level domain", remedy)
        elif special_names.special_name_above(domain) in NEVER_ASKED:
            remedy = (
                "clients do not send it to DNS servers (RFC 6762, RFC 7686); use another domain"
            )
            yield Finding("error", f"--domain {domain} is a special name", remedy)
    for domain in settings.zone.search_domains:
        if domain in public:
            remedy = "use a domain of your own below it"
            text = f"--search-domain {domain}: containers hide public names, as web.{domain}"
            yield Finding("warning", text, remedy)


# Files.


def _of_files(settings: Settings) -> Iterator[Finding]:
    for path in settings.state.hosts:
        yield from _of_hosts_file(path, settings.zone.ttl)
    if settings.state.file is not None:
        yield _of_state_file(settings.state.file)
    try:
        read_keys(settings.transfer.keys)
    except BadSettings as bad:
        yield Finding("error", str(bad), "expected one key per line: NAME ALGORITHM BASE64")


def _of_hosts_file(path: Path, ttl: int) -> Iterator[Finding]:
    try:
        text = text_of(path, errors="replace")
    except OSError as error:
        remedy = "create the file or correct --hosts; until then its names are not served"
        yield Finding("error", f"--hosts {path}: {error.strerror or error}", remedy)
        return
    found, faults = hosts_file.publications(text, str(path), ttl)
    yield Finding("ok", f"--hosts {path}: {count_of(len(found), 'name')}")
    remedy = "correct or remove the line: ADDRESS NAME [NAME]..."
    yield from (Finding("warning", f"--hosts {fault}", remedy) for fault in faults)


def _of_state_file(path: Path) -> Finding:
    # A new file is written there before it replaces the old one.
    if not os.access(path.parent, os.W_OK | os.X_OK) or not path.parent.is_dir():
        reason = f"cannot be written: no access to {path.parent}"
    elif path.is_dir():
        reason = "is a directory"
    else:
        return Finding("ok", f"--state {path} is writable")
    remedy = "without it, names are lost at a restart; use a directory that this user can write to"
    return Finding("error", f"--state {path} {reason}", remedy)


# Sockets.


def _of_sockets(settings: Settings) -> Iterator[Finding]:
    for endpoint in settings.dns.listen:
        yield from _of_listening(endpoint)
    if settings.http.listen is None:
        yield Finding("ok", "HTTP is off")
        return
    try:
        bound(settings.http.listen).close()
    except CannotListen as fault:
        if _is_ours(settings.http.listen):
            yield Finding("ok", f"HTTP on {settings.http.listen}, in use by a running containerdns")
        else:
            yield Finding("error", str(fault), "stop what is there, or use another --http")
    else:
        yield Finding("ok", f"HTTP on {settings.http.listen}")


def _of_listening(endpoint: Endpoint) -> Iterator[Finding]:
    try:
        listeners = sockets.open_all((endpoint,))
    except CannotListen as fault:
        if _is_running_at(endpoint):
            yield Finding("ok", f"DNS on {endpoint}, in use by a running containerdns")
        elif not (
            endpoint.is_default
            and fault.reason.startswith("the system supports neither IPv4 nor IPv6")
        ):
            remedy = "stop what is there, or use another --listen"
            yield Finding("error", str(fault), remedy)
        return
    for listener in listeners:
        listener.close()
    if not has_address(endpoint.host):
        remedy = (
            "it will be served once it appears, such as a VPN's address; otherwise correct --listen"
        )
        yield Finding(
            "warning", f"{endpoint.host} is not an address of this machine at the moment", remedy
        )
    else:
        yield Finding("ok", f"DNS on {endpoint}")


def _is_running_at(endpoint: Endpoint) -> bool:
    """Return whether a containerdns answers DNS at an address."""
    with suppress(OSError):
        response = http_client.ask_dns(endpoint.from_here(), VERSION_QUERY, OWN_PATIENCE)
        return b"containerdns" in response
    return False


def _is_ours(endpoint: Endpoint) -> bool:
    """Return whether a containerdns answers HTTP at an address."""
    host = endpoint.from_here().host
    connection = http.client.HTTPConnection(host, endpoint.port, timeout=OWN_PATIENCE)
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("HEAD", "/healthz")
        return connection.getresponse().getheader("Server") == "containerdns"
    return False


# Engines, networks and names.


async def _listed(settings: Settings) -> ZoneWriter:
    """Return a zone built from the listings of the Engines that answer in time."""
    writer = ZoneWriter(settings, counters := Counters(), PacketCache(counters), frozenset())
    watching = [
        asyncio.ensure_future(
            Watcher(url, settings.engines.tls, writer, verifies=settings.engines.verifies).run()
        )
        for url in settings.engines.urls
    ]
    until = time.monotonic() + ENGINE_PATIENCE
    while any(not e.last_sync and not e.cause for e in writer.engines.values()):
        if time.monotonic() > until:
            break
        await asyncio.sleep(0.05)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    writer.read_hosts()
    return writer


def _of_engines(writer: ZoneWriter) -> Iterator[Finding]:
    for engine in writer.engines.values():
        if engine.last_sync:
            count = sum(1 for c in writer.inventory if c.engine == engine.url)
            source = writer.settings.engines.source
            yield Finding("ok", f"{engine.url} ({source}): {count_of(count, 'container')} listed")
        else:
            cause = engine.cause or f"no listing within {ENGINE_PATIENCE:g} s"
            remedy = "check that the Engine is running and that this user may open its socket"
            yield Finding("error", f"{engine.url}: {cause}", remedy)


def _of_networks(writer: ZoneWriter) -> Iterator[Finding]:
    settings = writer.settings
    known = {network.name for network in writer.inventory.networks()}
    is_listed = any(engine.last_sync for engine in writer.engines.values())
    for name in settings.policy.networks if is_listed else ():
        if name not in known:
            yield Finding(
                "error",
                f"--network {name}: no Engine has a network of this name",
                _nearest(name, known),
            )
    for network in writer.inventory.networks():
        for subnet in network.subnets if network.driver == "bridge" else ():
            first = packed(str(next(ip_network(subnet).hosts())))
            if not writer.views.of(first).may_ask:
                remedy = f"its containers are refused; if they should ask: --allow {subnet}"
                where = f"the Docker network {network.name}, {subnet}, is outside --allow"
                yield Finding("warning", where, remedy)


def _nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the network that may have been meant; Compose prefixes the project's name."""
    known = sorted(known)
    nearest = [k for k in known if k.endswith(f"_{name}")] or get_close_matches(name, known, 2)
    if nearest:
        return f"did you mean {' or '.join(nearest)}?"
    return f"existing networks: {', '.join(known) or 'none'}"


def _of_names(writer: ZoneWriter) -> Iterator[Finding]:
    zone = writer.zone
    running = sum(1 for container in writer.inventory if container.is_running)
    domains = ", ".join(writer.settings.zone.domains)
    counted = f"{count_of(len(zone), 'name')}, {count_of(running, 'running container')}"
    yield Finding("ok", f"{counted} below {domains}")
    for publication in sorted(zone.publications(), key=lambda p: p.container_name):
        who = publication.container_name
        causes = [f"{text}: {reason}" for text, reason in publication.faults]
        if publication.skipped:
            is_fault = any(cause in publication.skipped for cause in causes)
            remedy = (
                CORRECT if is_fault else "ignore this if the container is meant to have no names"
            )
            yield Finding("warning", f"{who} is skipped: {publication.skipped}", remedy)
        for cause in causes:
            if cause not in publication.skipped:
                yield Finding("warning", f"{who}: {cause}", CORRECT)
    yield from map(_of_loss, zone.losses())


def _of_loss(loss: Loss) -> Finding:
    has = f"{loss.winner} has it" if loss.winner else "several projects claim it, so nobody has it"
    remedy = "rename one of them, or set the label containerdns.names on one"
    return Finding("warning", f"{loss.loser} does not get the name {loss.owner}: {has}", remedy)


def _of_proxies(writer: ZoneWriter) -> Iterator[Finding]:
    """Examine whether the host names of `--proxy-labels` have a proxy to lead to."""
    policy = writer.inventory.policy
    if not policy.proxy_labels or policy.proxy_addresses:
        return
    running = [c for c in writer.inventory if c.is_running]
    present = {(c.engine, proxy_kind(c, policy)) for c in running}
    missing: dict[str, list[str]] = {}
    for container in running:
        hosts = hosts_of(container.docker_labels, container.virtual_host)
        for kind in {host.kind for host in hosts if not host.fault}:
            if (container.engine, kind) not in present:
                missing.setdefault(kind, []).append(container.container_name)
    for kind, sites in sorted(missing.items()):
        of = ", ".join(sorted(sites)[:MAX_LISTED])
        text = f"--proxy-labels: no {kind} is running for the host names of {of}"
        label = f"{policy.label_prefix}.{docker_labels.PROXY.key}={kind}"
        yield Finding(
            "warning", text, f"set the label {label} on its container, or --proxy-address"
        )


def _served(writer: ZoneWriter) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each running container with the names that resolve to it."""
    lost = {(loss.owner, loss.loser) for loss in writer.zone.losses()}
    apex = writer.settings.zone.domains[0]
    publications = (p for p in writer.zone.publications() if p.is_running and p.claims)
    for publication in sorted(publications, key=lambda p: p.container_name):
        owners = dict.fromkeys(
            claim.owner
            for claim in publication.claims
            if (claim.owner, publication.container_name) not in lost
        )
        served = (o if o.endswith(".") else names.join(o, apex) for o in owners)
        yield _called(publication), tuple(name.removesuffix(".") for name in served)


def _called(publication: Publication) -> str:
    return publication.container_name or publication.id.partition(":")[2]


# Upstreams.


async def _of_upstreams(settings: Settings) -> list[Finding]:
    forwarder = Forwarder(settings.upstream, Counters(), lambda _: False)
    running = asyncio.ensure_future(forwarder.run())
    try:
        examined = await forwarder.examine(UPSTREAM_PATIENCE)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    if not settings.upstream.servers and not settings.upstream.forwards:
        return [Finding("ok", "no upstream: all names but those of containers are refused")]
    remedy = "the next one would be used; check the address, the route and the firewall"
    return [
        Finding("warning", f"upstream {name}: {fault}", remedy)
        if fault
        else Finding("ok", f"upstream {name} answers")
        for name, fault in examined.items()
    ]

"""Forwarders for tests: settings around a list of upstreams, and how to ask them."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from containerdns.core import messages, names
from containerdns.core.counters import Counters
from containerdns.core.forwarding import Forward, Resolution
from containerdns.core.messages import RR, Edns, Query
from containerdns.settings import Settings, UpstreamServer
from containerdns.upstream.forwarder import Forwarder

_NOTHING: dict[str, Any] = dict(
    docker=(), docker_tls=None, listen=(), http=None, http_hosts=(), query_history=0,
    allow_history=(), domains=("docker.",), search_domains=(), bare_names=True, ttl=5,
    negative_ttl=1, remember=0, state=None, upstreams=(), forwards=(), cache_size=1000,
    hosts=(), networks=(), expose_by_default=True, drop_unhealthy=True, host_addresses=(),
    host_mode=False, wildcard=False, name_templates=(), label_prefix="containerdns", allow=(),
    allow_transfer=(), transfer_keys=(), notify=(), rebind_protection=False, rebind_allow=(),
    workers=1, doh_canary=True, rate_limit=0, log_level="info", log_format="text",
    log_queries=False,
)  # fmt: skip


def settings(*ports: int, **changes: Any) -> Settings:
    """Settings with upstreams on ports of loopback."""
    upstreams = tuple(local(port) for port in ports)
    return Settings(**{**_NOTHING, "upstreams": upstreams, **changes})


def local(port: int) -> UpstreamServer:
    """An upstream on loopback."""
    return UpstreamServer("udp", "127.0.0.1", port)


def is_below_docker(name: str) -> bool:
    """What the tests' zone owns."""
    return names.is_below(name, "docker.") or names.is_single_label(name)


@asynccontextmanager
async def forwarder(
    wanted: Settings, is_ours: Callable[[str], bool] = is_below_docker
) -> AsyncIterator[Forwarder]:
    """Run a forwarder."""
    made = Forwarder(wanted, Counters(), is_ours)
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.wait((running,))
        if not running.cancelled():
            running.result()


def question(
    name: str,
    qtype: int = messages.A,
    *,
    dnssec: bool = False,
    flags: int = messages.RD,
    client: bytes = b"client",
    apex: str | None = None,
) -> Forward:
    """A client's question."""
    wire = names.to_wire(name) + qtype.to_bytes(2) + b"\0\1"
    query = Query(7, flags, wire, name, qtype, messages.IN, Edns(1232, 0, dnssec))
    return Forward(query, name, qtype, client=client, apex=apex)


def records(asked: Forward, resolution: Resolution, section: int = 0) -> list[RR]:
    """The records of one section of what came back."""
    return list(messages.decode(names.to_wire(asked.name), resolution.body)[section])


def addresses(asked: Forward, resolution: Resolution) -> list[str]:
    """The IPv4 addresses that came back."""
    return [
        str(ipaddress.IPv4Address(record.rdata))
        for record in records(asked, resolution)
        if record.rtype == messages.A
    ]

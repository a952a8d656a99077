"""The settings of `serve` in groups, one for each part that reads them.

Each field but those named below is one option of `settings.OPTIONS`, which says what it means;
its default here is that of the option.  What the zone, the publications of containers and the
rights of clients depend on are values of core, and groups as they are.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import gethostname

from containerdns.core.endpoints import DNS_PORT, Endpoint, UpstreamServer
from containerdns.core.zone.policy import Policy
from containerdns.core.zone.views import Rights
from containerdns.core.zone.zone import Shape

DEFAULT_HTTP = Endpoint("0.0.0.0", 8080)
DEFAULT_SOCKET = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Which Docker Engines are watched, and how.

    Attributes:
        source: What named the Engines, for the log; no option.
        verifies: Whether the certificate of an Engine is verified; no option.
    """

    urls: tuple[str, ...] = (DEFAULT_SOCKET,)
    tls: Path | None = None
    grace: int = 60
    source: str = "the default socket"
    verifies: bool = True


@dataclass(frozen=True, slots=True)
class DNSSettings:
    """How DNS is answered."""

    listen: tuple[Endpoint, ...] = (
        Endpoint("0.0.0.0", DNS_PORT, is_default=True),
        Endpoint("::", DNS_PORT, is_default=True),
    )
    workers: int = 1
    rate_limit: int = 200
    query_history: int = 1000
    log_queries: bool = False
    doh_canary: bool = True


@dataclass(frozen=True, slots=True)
class HTTPSettings:
    """Where HTTP is answered, and to which Host names."""

    listen: Endpoint | None = DEFAULT_HTTP
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Who is asked for what is not ours, and what is kept of the responses.

    Attributes:
        ttl: That of the zone; no option.
        suffixes: The domains and search domains of the zone; no option.
        listen: Where DNS is answered: ourselves are no upstream; no option.
    """

    servers: tuple[UpstreamServer, ...] = (
        UpstreamServer("udp", "1.1.1.1", DNS_PORT),
        UpstreamServer("udp", "8.8.8.8", DNS_PORT),
    )
    forwards: tuple[tuple[str, tuple[UpstreamServer, ...]], ...] = ()
    cache_size: int = 10000
    rebind_protection: bool = False
    rebind_allow: tuple[str, ...] = ()
    ttl: int = 5
    suffixes: tuple[str, ...] = ()
    listen: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class StateSettings:
    """What the zone holds besides containers, and what outlives the process."""

    file: Path | None = None
    remember: int = 86400
    hosts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """What secondaries need, and which of them are notified."""

    keys: tuple[Path, ...] = ()
    notify: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How this host shares its names with others, through etcd."""

    urls: tuple[str, ...] | None = None
    host: str | None = None
    lease: int = 10
    prefix: str = "/containerdns/"
    tls: Path | None = None
    publish: str = "auto"

    @property
    def name(self) -> str:
        """The name of this host in the fleet; "" without one."""
        if not self.urls:
            return ""
        return self.host or gethostname().partition(".")[0].lower()


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is logged, and in which form."""

    level: str = "info"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of `serve`, checked; names are canonical. See docs/options.md.

    What two groups need is an option of one; making the settings copies it to the other.
    """

    engines: EngineSettings = field(default_factory=EngineSettings)
    dns: DNSSettings = field(default_factory=DNSSettings)
    http: HTTPSettings = field(default_factory=HTTPSettings)
    zone: Shape = field(default_factory=Shape)
    policy: Policy = field(default_factory=Policy)
    rights: Rights = field(default_factory=Rights)
    upstream: UpstreamSettings = field(default_factory=UpstreamSettings)
    state: StateSettings = field(default_factory=StateSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    fleet: FleetSettings = field(default_factory=FleetSettings)
    logs: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        ttl, suffixes = self.zone.ttl, self.zone.domains + self.zone.search_domains
        host = self.fleet.name
        policy = replace(self.policy, ttl=ttl, suffixes=suffixes, fleet_host=host)
        upstream = replace(self.upstream, ttl=ttl, suffixes=suffixes, listen=self.dns.listen)
        object.__setattr__(self, "policy", policy)  # frozen, but for the one that makes it
        object.__setattr__(self, "upstream", upstream)

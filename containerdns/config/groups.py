"""The settings of `serve` in groups, one for each part that reads them.

Except where noted, each field is an option in `settings.OPTIONS`, where it is described; its
default is here.  The settings of the zone, of the publications of containers and of the rights of
clients are values of core.
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
        source: Where the URLs come from, for the log; not an option.
        verifies: Whether the certificates of Engines are verified; not an option.
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
    """The upstreams, and how their responses are cached and filtered.

    Attributes:
        ttl: That of the zone; not an option.
        suffixes: The domains and search domains of the zone; not an option.
        listen: Where DNS is answered, to recognise ourselves as an upstream; not an option.
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
    """Static records, and the state that outlives the process."""

    file: Path | None = None
    remember: int = 86400
    hosts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """Zone transfers and NOTIFY."""

    keys: tuple[Path, ...] = ()
    notify: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Sharing names with other hosts through etcd."""

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

    A value that two groups need is an option of one, and copied to the other here.
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
        object.__setattr__(self, "policy", policy)  # frozen, except during initialisation
        object.__setattr__(self, "upstream", upstream)

"""The settings: one registry of every option of `serve`.

The flags, the environment variables, the keys of the TOML file, docs/options.md and the
error messages are all derived from `OPTIONS`, so they cannot disagree.  Flags override the
environment, which overrides the file, which overrides the defaults.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from containerdns.config import docker_context, values
from containerdns.config.files import ENCODING
from containerdns.config.groups import DEFAULT_SOCKET, Settings
from containerdns.core.endpoints import PRIVATE
from containerdns.core.zone.docker_labels import MAX_TTL
from containerdns.errors import BadName, BadSettings

ENVIRONMENT_PREFIX = "CONTAINERDNS_"
CONFIG_VARIABLE = "CONTAINERDNS_CONFIG"
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "CONTAINERDNS_URL", "CONTAINERDNS_DNS"})

MAX_ENGINE_GRACE = 366 * 86400  # seconds
MAX_HANDOVER = 86400  # seconds
MAX_REMEMBER = 366 * 86400  # seconds
MAX_ENTRIES = 10_000_000  # in caches and histories; far more than fits in memory


@dataclass(frozen=True, slots=True)
class Option:
    """One option of `serve`.

    Attributes:
        key: In the TOML file; the flag is this with two hyphens before it.
        field: Its group and field in `Settings`, such as "zone.ttl", which has the default.
        read: Parses one text; raises ValueError or `BadName` if it is invalid, and OSError if it
            is a path that this user may not look at.
        expected: What a valid text is, for error messages and the documents.
        meaning: What it does, a sentence.
        why: Why it exists, or why its default is what it is, a sentence.
        default_text: The default in the documents, if the field alone is not enough.
        metavar: The placeholder for its value; "" for a switch.
        is_repeatable: It may be given several times; an empty value means an empty list.
        is_needed: For a repeatable option: the list must not be empty.
        separator: Between values in an environment variable: "list" is spaces and commas,
            "forwards" leaves a value without an equals sign with the one before it, "templates"
            is spaces and commas outside braces.
        needs_restart: A change takes effect at the next start, not at a reload.
    """

    key: str
    field: str
    read: Callable[[str], Any]
    expected: str
    meaning: str
    why: str
    default_text: str = ""
    metavar: str = ""
    is_repeatable: bool = False
    is_needed: bool = False
    separator: str = "list"
    needs_restart: bool = False

    @property
    def flag(self) -> str:
        """The command line flag, such as `--ttl`."""
        return f"--{self.key}"

    @property
    def variable(self) -> str:
        """The environment variable, such as `CONTAINERDNS_TTL`."""
        return ENVIRONMENT_PREFIX + self.key.replace("-", "_").upper()

    @property
    def parameter(self) -> str:
        """What a command that takes the flag calls its value."""
        return self.key.replace("-", "_")

    @property
    def default(self) -> tuple[str, ...]:
        """The default as texts; at most one unless the option is repeatable."""
        value = self.of(DEFAULTS)
        if self.is_switch:
            return ("true" if value else "false",)
        listed = value if self.is_repeatable else () if value is None else (value,)
        return tuple(str(item).removesuffix(".") for item in listed)

    def of(self, settings: Settings) -> Any:
        """Return its value."""
        group, _, field = self.field.partition(".")
        return getattr(getattr(settings, group), field)

    def put(self, settings: Settings, value: Any) -> Settings:
        """Return the settings with another value of it."""
        group, _, field = self.field.partition(".")
        return replace(settings, **{group: replace(getattr(settings, group), **{field: value})})

    @property
    def is_switch(self) -> bool:
        """Whether it is boolean, so that its flag takes no value."""
        return self.read is values.boolean


DEFAULTS = Settings()

OPTIONS: tuple[Option, ...] = (
    Option(
        "docker", "engines.urls", values.engine_url,
        "unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST",
        "Docker Engines whose containers are published.",
        "The default is the Engine that the docker command would use; the log says which one that "
        "is, and why.",
        default_text="`DOCKER_HOST`, else that of the Docker context (`DOCKER_CONTEXT`, `docker "
        "context use`), else `unix:///var/run/docker.sock`, else the rootless "
        "`$XDG_RUNTIME_DIR/docker.sock`",
        metavar="URL", is_repeatable=True, is_needed=True, needs_restart=True,
    ),
    Option(
        "docker-tls", "engines.tls", values.tls_directory,
        "a directory with ca.pem, cert.pem and key.pem",
        "Certificates for `tcp://` Engines.",
        "An Engine that listens on TCP without TLS gives root to everyone who can reach it.",
        default_text="`DOCKER_CERT_PATH` if `DOCKER_HOST` and `DOCKER_TLS_VERIFY` are set; that "
        "of the Docker context",
        metavar="DIR", needs_restart=True,
    ),
    Option(
        "engine-grace", "engines.grace", values.whole(0, MAX_ENGINE_GRACE),
        f"seconds, 0 to {MAX_ENGINE_GRACE}",
        "How long the addresses of an unreachable Engine are treated like any others; after that "
        "they are left out of answers that have others.",
        "An Engine that restarts is back within seconds and its containers keep running; after a "
        "minute, the whole machine is probably down.",
        metavar="SECONDS",
    ),
    Option(
        "listen", "dns.listen", values.endpoint, "an address and a port, 0.0.0.0:53 or [::]:53",
        "Addresses to serve DNS on, over UDP and TCP. An address that does not exist yet, such as "
        "a VPN's, is bound anyway.",
        "Most clients can use port 53 only. If the system lacks IPv4 or IPv6, the default address "
        "of that family is skipped with a line in the log; an address given explicitly is not.",
        metavar="ADDR:PORT", is_repeatable=True, is_needed=True,
        needs_restart=True,
    ),
    Option(
        "http", "http.listen", values.endpoint_or_off,
        "an address and a port, 0.0.0.0:8080, or off",
        "Address to serve the status page, `/zone` and `/metrics` on; `off` disables HTTP.",
        "`--allow` applies to HTTP too, so listening on all addresses is a safe default.",
        metavar="ADDR:PORT", needs_restart=True,
    ),
    Option(
        "http-host", "http.hosts", values.host_name, "a host name",
        "Additional Host header names to accept over HTTP, besides addresses, single labels and "
        "names served here.",
        "Protects against DNS rebinding, where a foreign page's name is made to resolve to this "
        "server; the name of a reverse proxy has to be listed.",
        metavar="NAME", is_repeatable=True,
    ),
    Option(
        "query-history", "dns.query_history", values.whole(0, MAX_ENTRIES),
        "a number of queries, 0 to 10000000",
        "Number of recent queries to keep for `/queries`, `containerdns queries` and the status "
        "page; 0 keeps none.",
        "Enough for someone to debug the last few minutes, in well under a megabyte.",
        metavar="N",
    ),
    Option(
        "allow-history", "rights.history", values.network, "a network such as 127.0.0.0/8",
        "Clients that may see everyone's queries; others see their own only.",
        "What people look up is private, even among colleagues.",
        metavar="CIDR", is_repeatable=True,
    ),
    Option(
        "domain", "zone.domains", values.domain, "a domain name other than the root",
        "Domains that this server is authoritative for: an unknown name below them is NXDOMAIN. "
        "PTR records point into the first one.",
        "Only a domain of its own is certain not to hide any public name.",
        metavar="NAME", is_repeatable=True, is_needed=True,
    ),
    Option(
        "search-domain", "zone.search_domains", values.domain, "a domain name other than the root",
        "Domains in which container names are answered as well, while all other names are "
        "forwarded. An empty value means none.",
        "Clients append their search list to what is typed, so a container's name is first asked "
        "for below it; `localdomain` is the most common.",
        metavar="NAME", is_repeatable=True,
    ),
    Option(
        "bare-names", "zone.bare_names", values.boolean, "true or false",
        "Answer container names without a domain, such as `web`.",
        "That is what people type, and no public host name has a single label.",
    ),
    Option(
        "ttl", "zone.ttl", values.whole(0, MAX_TTL), "seconds, 0 to 3600",
        "TTL of container records.",
        "A redeployed container gets a new address; no client should keep the old one for more "
        "than a moment.",
        metavar="SECONDS",
    ),
    Option(
        "negative-ttl", "zone.negative_ttl", values.whole(0, MAX_TTL), "seconds, 0 to 3600",
        "TTL and MINIMUM of the SOA record in negative answers.",
        "Clients often ask for a name while its container is still starting; the negative answer "
        "must have expired by their next try.",
        metavar="SECONDS",
    ),
    Option(
        "remember", "state.remember", values.whole(0, MAX_REMEMBER),
        f"seconds, 0 to {MAX_REMEMBER}",
        "How long the names of removed containers, bare and in search domains, are still never "
        "forwarded. At most 100,000 names are kept.",
        "While a container is being replaced, a public server would deny its name, and that may "
        "be cached for a day.",
        metavar="SECONDS",
    ),
    Option(
        "handover", "zone.handover", values.whole(0, MAX_HANDOVER), f"seconds, 0 to {MAX_HANDOVER}",
        "How long a name is held back (NXDOMAIN) after its container stopped or was removed, "
        "before it passes to a container of another project or of lower rank that only derives it "
        "(from a Compose service, alias, swarm service or host name).",
        "While one project's `db` is redeployed, its clients must not reach another project's "
        "database. A container that claims the name by its container name or a label, or has the "
        "same project and rank, gets it at once.",
        metavar="SECONDS",
    ),
    Option(
        "state", "state.file", values.path, "the path of a file",
        "File that keeps remembered names and serials across restarts.",
        "Without it, a restart forgets the names of containers removed earlier; most users never "
        "notice, and need no volume.",
        default_text="none", metavar="FILE", needs_restart=True,
    ),
    Option(
        "upstream", "upstream.servers", values.upstream,
        "IP[:PORT], tls://IP[:PORT]#NAME, https://HOST/dns-query or system",
        "Servers to forward all other names to, strictly in this order; `system` means those in "
        "/etc/resolv.conf, except for this server and 127.0.0.11; changes of the file are "
        "followed. An empty value means none.",
        "Servers that know different names must not be raced, or the answer depends on luck.",
        metavar="SERVER", is_repeatable=True,
    ),
    Option(
        "forward", "upstream.forwards", values.forward,
        "DOMAIN=SERVER[,SERVER], each server as for --upstream",
        "Upstreams for one domain and everything below it.",
        "Only a company's own servers know its internal domain and the reverse zone of its LAN.",
        metavar="DOMAIN=SERVER[,SERVER]", is_repeatable=True, separator="forwards",
    ),
    Option(
        "cache-size", "upstream.cache_size", values.whole(0, MAX_ENTRIES),
        "a number of responses, 0 to 10000000",
        "Maximum number of cached upstream responses; 0 disables the cache.",
        "Enough for an office; a response takes about a kilobyte.",
        metavar="N",
    ),
    Option(
        "hosts", "state.hosts", values.path, "the path of a file",
        "Static records in hosts file format, read again when the file changes. A dotted name is "
        "absolute; a single label is relative, like a container's name.",
        "Some hosts that people want to reach are not containers.",
        default_text="none", metavar="FILE", is_repeatable=True,
    ),
    Option(
        "network", "policy.networks", values.text, "the name of a Docker network",
        "Publish only addresses on these networks, in order of preference.",
        "Clients may be unable to reach a container's other networks.",
        default_text="all", metavar="NAME", is_repeatable=True,
    ),
    Option(
        "expose-by-default", "policy.expose_by_default", values.boolean, "true or false",
        "Publish every container; if off, only those labelled `containerdns.enable=true`.",
        "A name does not grant access, so most users want them all.",
    ),
    Option(
        "unhealthy", "zone.unhealthy", values.one_of("drop", "keep"), "drop or keep",
        "Whether to leave unhealthy containers out of answers, unless that would leave none; "
        "`starting` counts as healthy.",
        "A replica that fails its health check should get no new clients, but a single container "
        "is better tried than hidden.",
        metavar="drop|keep",
    ),
    Option(
        "host-address", "rights.host_addresses", values.address, "an IP address",
        "Address of containers on the host network and of `host.DOMAIN`; once for IPv4 and once "
        "for IPv6.",
        "The client can certainly reach the address that its query arrived on.",
        default_text="the address that the query arrived on; in a container with a network of its "
        "own, the gateway of a bridge network, if any",
        metavar="IP", is_repeatable=True,
    ),
    Option(
        "host-mode", "policy.host_mode", values.boolean, "true or false",
        "Answer with `--host-address` and published ports instead of container addresses.",
        "For clients that reach the host but not its container networks.",
    ),
    Option(
        "wildcard", "policy.wildcard", values.boolean, "true or false",
        "`anything.NAME` answers as `NAME`.",
        "Useful for virtual hosts behind one container; for all others it would hide mistakes.",
    ),
    Option(
        "name-template", "policy.name_templates", values.template,
        "fields in braces: label:KEY, name, id, hostname, service, project, number",
        "Additional names built from labels, such as `{label:com.example.app}.{name}`. A "
        "container without the label gets none.",
        "Naming schemes that exist in labels already need not be repeated.",
        default_text="none", metavar="TEXT", is_repeatable=True, separator="templates",
    ),
    Option(
        "proxy-labels", "policy.proxy_labels", values.boolean, "true or false",
        "Answer host names in the labels of Traefik and Caddy, and in nginx-proxy's "
        "`VIRTUAL_HOST`, with the proxy's address. The proxy is the container labelled "
        "`containerdns.proxy=traefik`, `caddy` or `nginx-proxy`, else `--proxy-address`.",
        "Host names that a proxy already has need not be repeated; off by default, since this "
        "changes which names resolve.",
    ),
    Option(
        "proxy-domain", "policy.proxy_domains", values.domain, "a domain name",
        "Further domains whose host names `--proxy-labels` publishes, exactly those, besides the "
        "domains and search domains.",
        "A label could name any public site; only names below a domain listed here are published.",
        metavar="NAME", is_repeatable=True,
    ),
    Option(
        "proxy-address", "policy.proxy_addresses", values.address, "an IP address",
        "Where the reverse proxy of `--proxy-labels` is reached, unless a running container of "
        "the same Engine has the label `containerdns.proxy`.",
        "A proxy that runs on the host, or elsewhere, has no label.",
        metavar="IP", is_repeatable=True,
    ),
    Option(
        "label-prefix", "policy.label_prefix", values.docker_label_prefix,
        "letters, digits and dots",
        "Prefix of the Docker labels that this server reads.",
        "Lets two servers on one Engine use different labels.",
        metavar="TEXT",
    ),
    Option(
        "allow", "rights.ask", values.network, "a network such as 10.0.0.0/8",
        "Clients that may query this server; others get REFUSED, and 403 over HTTP.",
        "An open resolver is abused for attacks within days. The machine's own addresses are "
        "allowed because Docker masquerades what local processes send to a bridge's gateway, so "
        "that it may arrive from a public address.",
        default_text=", ".join(f"`{network}`" for network in PRIVATE)
        + ", this machine's own addresses, and the subnets of Docker's own bridge and overlay "
        "networks", metavar="CIDR", is_repeatable=True,
    ),
    Option(
        "allow-transfer", "rights.transfer", values.network, "a network such as 127.0.0.0/8",
        "Clients that may transfer zones (AXFR, IXFR).",
        "The complete list of names is for secondaries and the operator.",
        metavar="CIDR", is_repeatable=True,
    ),
    Option(
        "transfer-key", "transfer.keys", values.path, "the path of a file",
        "TSIG keys, one NAME ALGORITHM BASE64 per line; if there are any, transfers must be "
        "signed.",
        "A key on the command line would show up in the process list.",
        default_text="none", metavar="FILE", is_repeatable=True,
    ),
    Option(
        "notify", "transfer.notify", values.dns_endpoint, "IP[:PORT]",
        "Secondaries to send NOTIFY to when the zone changes.",
        "A secondary that only polls lags by its refresh interval.",
        default_text="none", metavar="IP[:PORT]", is_repeatable=True,
    ),
    Option(
        "rebind-protection", "upstream.rebind_protection", values.boolean, "true or false",
        "Drop private addresses from upstream answers.",
        "Protects devices on the clients' networks from DNS rebinding; off by default, since "
        "companies do publish private addresses under public names.",
    ),
    Option(
        "rebind-allow", "upstream.rebind_allow", values.domain, "a domain name other than the root",
        "Domains exempt from `--rebind-protection`.",
        "In your own domain, private addresses are intentional.",
        default_text="none", metavar="DOMAIN", is_repeatable=True,
    ),
    Option(
        "fleet", "fleet.urls", values.fleet, "etcd://HOST[:PORT] or etcds://..., with commas",
        "The etcd cluster through which the servers of many hosts share their names.",
        "A single host, a swarm and several `--docker` need no etcd.",
        default_text="none", metavar="URL,...", needs_restart=True,
    ),
    Option(
        "fleet-host", "fleet.host", values.label, "a single label",
        "The name of this host in the fleet: its containers are `NAME.HOST.DOMAIN` as well.",
        "Two hosts with the same name would overwrite each other, so the second does not write.",
        default_text="the host name", metavar="NAME", needs_restart=True,
    ),
    Option(
        "fleet-lease", "fleet.lease", values.whole(2, 60), "seconds, 2 to 60",
        "How long the names of a host are kept after it has stopped responding.",
        "A short lease detects a dead host sooner, but is more work for etcd.",
        metavar="SECONDS", needs_restart=True,
    ),
    Option(
        "fleet-prefix", "fleet.prefix", values.etcd_prefix, "a prefix of keys, /containerdns/",
        "Prefix of the fleet's keys in etcd.",
        "Several fleets, or other programs, can share one etcd.",
        metavar="TEXT", needs_restart=True,
    ),
    Option(
        "fleet-tls", "fleet.tls", values.directory, "a directory",
        "Certificates for `etcds://`: ca.pem, and for etcd with client certificates cert.pem and "
        "key.pem. A file `user` in it has USER:PASSWORD of etcd.",
        "Anyone who can write to etcd controls what names resolve to.",
        default_text="none", metavar="DIR", needs_restart=True,
    ),
    Option(
        "fleet-publish", "fleet.publish", values.one_of("auto", "container", "host"),
        "auto, container or host",
        "How containers of other hosts are published: by their own addresses, by their host's "
        "address and published ports, or (`auto`) by their own unless two hosts use the subnet.",
        "Docker uses the same subnets on every host, and they are not reachable from outside.",
        metavar="auto|container|host", needs_restart=True,
    ),
    Option(
        "workers", "dns.workers", values.whole(1, 64), "a number of processes, 1 to 64",
        "Number of processes that answer queries; one of them watches Docker.",
        "One is enough for a company; each of them costs memory, and with several the system no "
        "longer notices a second server on the same port.",
        metavar="N", needs_restart=True,
    ),
    Option(
        "doh-canary", "dns.doh_canary", values.boolean, "true or false",
        "Answer `use-application-dns.net` with NXDOMAIN.",
        "It tells browsers to use this network's DNS rather than DNS over HTTPS, which does not "
        "know any container.",
    ),
    Option(
        "rate-limit", "dns.rate_limit", values.whole(0, MAX_ENTRIES),
        "responses per second, 0 to 10000000",
        "Responses per second to a client prefix (/32, /64) outside loopback and private ranges, "
        "beyond which UDP answers are truncated or dropped; 0 means no limit.",
        "Limits reflection attacks with forged source addresses. Private clients are not limited, "
        "since a VPN's users may share one address; gateways of Docker networks are, since anyone "
        "may be behind Docker's proxy.",
        metavar="N",
    ),
    Option(
        "log-level", "logs.level", values.one_of("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "Minimum level to log.",
        "At `info`, nothing is logged per query.",
        metavar="debug|info|warning|error",
    ),
    Option(
        "log-format", "logs.format", values.one_of("text", "json"), "text or json",
        "Lines of text, or JSON objects for log collectors, in which a query has fields.",
        "People read the log first.",
        metavar="text|json",
    ),
    Option(
        "log-queries", "dns.log_queries", values.boolean, "true or false",
        "Log every query.",
        "It costs speed, and what people look up is private; `containerdns queries` shows recent "
        "queries without it.",
    ),
)  # fmt: skip

_BY_KEY = {option.key: option for option in OPTIONS}


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Path | None = None,
) -> Settings:
    """Read all settings from flags, environment and file, and nothing else.

    Args:
        flags: Those given, by key: a text, a number, a boolean, or a list of them.
        environ: `os.environ`.
        file: The TOML file, or none.

    Raises:
        BadSettings: A setting is invalid, or two contradict each other.
    """
    is_from_environment = file is not None and environ.get(CONFIG_VARIABLE) == str(file)
    source = CONFIG_VARIABLE if is_from_environment else "--config"
    given = dict([*_of_file(file, source), *_of_environment(environ), *_of_flags(flags)])
    settings = DEFAULTS
    for key, texts in given.items():
        settings = _BY_KEY[key].put(settings, _value(_BY_KEY[key], texts))
    if "docker" in given:
        found: dict[str, Any] = {"source": "--docker"}
    else:
        found = _engine_of_environment(environ, settings.engines.tls)
    shape = settings.zone
    if "search-domain" not in given:  # the default must not contradict --domain
        searched = tuple(d for d in shape.search_domains if d not in shape.domains)
        shape = replace(shape, search_domains=searched)
    settings = replace(
        settings,
        engines=replace(settings.engines, **found),
        zone=shape,
        rights=replace(settings.rights, ask_own="allow" not in given),
    )
    _refuse_contradictions(settings, given)
    return settings


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The outcome of a reload.

    Attributes:
        settings: In effect from now on; those that need a restart are unchanged.
        applied: The options that have changed.
        waiting: Those whose new value takes effect at the next start.
    """

    settings: Settings
    applied: tuple[Option, ...]
    waiting: tuple[Option, ...]


def reloaded(old: Settings, new: Settings) -> Reloaded:
    """Return the settings after a reload: the new ones, except for those that need a restart.

    Args:
        old: In effect so far.
        new: As loaded.
    """
    changed = [o for o in OPTIONS if o.of(new) != o.of(old)]
    settings = replace(new, engines=old.engines)  # set together with --docker
    for option in OPTIONS:
        settings = option.put(settings, option.of(old if option.needs_restart else new))
    return Reloaded(
        settings,
        tuple(o for o in changed if not o.needs_restart),
        tuple(o for o in changed if o.needs_restart),
    )


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the variables with our prefix that belong to no option: probably misspelt."""
    known = OTHER_VARIABLES | {option.variable for option in OPTIONS}
    return sorted(v for v in environ if v.startswith(ENVIRONMENT_PREFIX) and v not in known)


@dataclass(frozen=True, slots=True)
class _Given:
    """The texts that one source has for an option, and that source's name for it."""

    source: str
    texts: tuple[str, ...]


def _of_flags(flags: Mapping[str, Any]) -> Iterator[tuple[str, _Given]]:
    for key, value in flags.items():
        yield key, _Given(_BY_KEY[key].flag, _texts(value))


def _of_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for option in OPTIONS:
        value = environ.get(option.variable, "").strip()
        if value:  # Compose passes unset variables as empty ones
            texts = _split(value, option.separator) if option.is_repeatable else (value,)
            yield option.key, _Given(option.variable, texts)


def _of_file(file: Path | None, named: str) -> Iterator[tuple[str, _Given]]:
    if file is None:
        return
    try:
        document = tomllib.loads(file.read_text(encoding=ENCODING))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadSettings(named, str(file), f"a readable file ({reason})") from error
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(named, str(file), f"a TOML file ({error})") from error
    given = set()
    for key, value in document.items():
        source = f"{file}: {key}"
        option = _BY_KEY.get(key.replace("_", "-"))
        if option is None:
            raise BadSettings(source, str(value), _another_key(key))
        if option.key in given:
            raise BadSettings(source, str(value), f"{option.key} once, also with underscores")
        given.add(option.key)
        if not _fits(option, value):
            raise BadSettings(source, str(value), option.expected)
        yield option.key, _Given(source, _texts(value))


def _another_key(key: str) -> str:
    close = get_close_matches(key.replace("_", "-"), _BY_KEY, n=1)
    perhaps = f", perhaps {close[0]}" if close else ""
    return f"a key that is the name of an option{perhaps}; `containerdns serve --help` lists them"


def _fits(option: Option, value: object) -> bool:
    """Return whether a TOML value has a type that the option takes."""
    if isinstance(value, list) and option.is_repeatable:
        return all(isinstance(item, str | int | float) for item in value)
    return isinstance(value, str | int | float)


def _texts(value: object) -> tuple[str, ...]:
    """Convert the value of a flag or a TOML key to texts."""
    match value:
        case bool():
            return ("true" if value else "false",)
        case list() | tuple():
            return tuple(text for item in value for text in _texts(item))
        case _:
            return (str(value),)


def _split(value: str, separator: str) -> tuple[str, ...]:
    match separator:
        case "forwards":  # each DOMAIN= begins one; a URL of a server may have an equals sign, too
            return tuple(re.split(r"[\s,]+(?=[^\s,:=]*=)", value.strip(", \t\n")))
        case "templates":
            return tuple(re.findall(r"(?:\{[^{}]*\}|[^\s,])+", value))
        case _:
            return tuple(value.replace(",", " ").split())


def _value(option: Option, given: _Given) -> Any:
    """Read what an option was given."""
    if option.is_repeatable:
        wanted = () if given.texts == ("",) else given.texts
        if option.is_needed and not wanted:
            raise BadSettings(given.source, "", option.expected)
        return tuple(dict.fromkeys(_read(option, given.source, text) for text in wanted))
    if len(given.texts) != 1:
        raise BadSettings(given.source, " ".join(given.texts), f"one value: {option.expected}")
    return _read(option, given.source, given.texts[0])


def _read(option: Option, source: str, text: str) -> Any:
    try:
        return option.read(text)
    except BadName as bad:
        raise BadSettings(source, text, f"{option.expected} ({bad.reason})") from bad
    except ValueError as error:
        raise BadSettings(source, text, option.expected) from error
    except OSError as error:
        raise BadSettings(source, text, f"{option.expected} ({error.strerror})") from error


def _engine_of_environment(environ: Mapping[str, str], tls: Path | None) -> dict[str, Any]:
    """Return the settings of the Engine that the docker command would use.

    Args:
        environ: `os.environ`.
        tls: The value of `--docker-tls`.
    """
    if url := environ.get("DOCKER_HOST", ""):
        return {
            "urls": (_read(_BY_KEY["docker"], "DOCKER_HOST", url),),
            "tls": tls or _certificates_of_environment(environ),
            "source": "DOCKER_HOST",
        }
    if context := docker_context.current(environ):
        source = f"the Docker context {context.name}"
        return {
            "urls": (_read(_BY_KEY["docker"], source, context.host),),
            "tls": tls or context.tls,
            "source": source,
            "verifies": context.verifies,
        }
    rootless = Path(environ.get("XDG_RUNTIME_DIR", "/nonexistent"), "docker.sock")
    # Not Path.exists, which raises PermissionError if that directory is another user's.
    usual = os.access(DEFAULT_SOCKET.removeprefix("unix://"), os.F_OK)
    if not usual and os.access(rootless, os.F_OK):
        return {"urls": (f"unix://{rootless}",), "source": "the rootless socket"}
    return {"source": "the default socket"}


def _certificates_of_environment(environ: Mapping[str, str]) -> Path | None:
    """Return the directory of the certificates for DOCKER_HOST, if TLS is enabled."""
    if not environ.get("DOCKER_TLS_VERIFY"):
        return None
    usual = environ.get("DOCKER_CONFIG") or f"{environ.get('HOME', '')}/.docker"
    certificates = environ.get("DOCKER_CERT_PATH") or usual
    return cast(Path, _read(_BY_KEY["docker-tls"], "DOCKER_CERT_PATH", certificates))


def _refuse_contradictions(settings: Settings, given: Mapping[str, _Given]) -> None:
    for key, value, expected in _contradictions(settings):
        source = given[key].source if key in given else _BY_KEY[key].flag
        raise BadSettings(source, value, expected)


def _contradictions(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield settings that contradict each other: key, value, what was expected."""
    for domain in settings.zone.search_domains:
        if domain in settings.zone.domains:
            yield "search-domain", domain, "a domain that is not a --domain as well"
    apexes = [apex for apex, _ in settings.upstream.forwards]
    for apex in apexes:
        if apexes.count(apex) > 1:
            yield "forward", apex, "each domain once; its servers are separated by commas"
    for version in (4, 6):
        addresses = [a for a in settings.rights.host_addresses if (":" in a) is (version == 6)]
        if len(addresses) > 1:
            yield "host-address", addresses[1], f"at most one IPv{version} address"

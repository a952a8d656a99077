"""The settings: one registry of every option of `serve`.

From `OPTIONS` come the flags, the environment variables, the keys of the TOML file,
docs/options.md and the error messages, so that none of them can differ.  Flags beat
environment beats file beats default.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from containerdns.config import docker_context, values
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
MAX_ENTRIES = 10_000_000  # of caches and histories; far above what memory holds


@dataclass(frozen=True, slots=True)
class Option:
    """One option of `serve`.

    Attributes:
        key: In the TOML file; the flag is this with two hyphens before it.
        field: Of `Settings`: group and field of it, "zone.ttl"; the default is what stands there.
        read: One text to one value; ValueError or one of our errors if it is none.
        expected: What a text must be, for error messages and the documents.
        meaning: What it does, a sentence.
        why: Why it exists, or why its default is what it is, a sentence.
        default_text: What the documents say of a default that the field alone does not tell.
        metavar: Of its value; "" of a switch, which is on or off.
        is_repeatable: It may be given several times; an empty value means none at all.
        is_needed: Of a repeatable one: there must be at least one.
        separator: Of values in an environment variable: "list" is spaces and commas, "spaces"
            is spaces alone, "templates" is spaces and commas outside braces.
        needs_restart: SIGHUP does not apply a change of it; the log and the documents say so.
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
        """The flag."""
        return f"--{self.key}"

    @property
    def variable(self) -> str:
        """The environment variable."""
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
        """Whether it is on or off, and its flag takes no value."""
        return self.read is values.boolean


DEFAULTS = Settings()

OPTIONS: tuple[Option, ...] = (
    Option(
        "docker", "engines.urls", values.engine_url,
        "unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST",
        "Docker Engines whose containers get names.",
        "Whoever uses the docker command means the same Engine here; the log says which one it "
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
        "An Engine that listens on TCP without TLS gives root to everybody who reaches it.",
        default_text="`DOCKER_CERT_PATH` if `DOCKER_HOST` and `DOCKER_TLS_VERIFY` are set; that "
        "of the Docker context",
        metavar="DIR", needs_restart=True,
    ),
    Option(
        "engine-grace", "engines.grace", values.whole(0, MAX_ENGINE_GRACE),
        f"seconds, 0 to {MAX_ENGINE_GRACE}",
        "How long the addresses of a lost Engine count as good as those of others; after that "
        "they are left out of answers that have others.",
        "An Engine that restarts is back within seconds, and its containers have run on; one "
        "that is gone for a minute may have taken its machine along.",
        metavar="SECONDS",
    ),
    Option(
        "listen", "dns.listen", values.endpoint, "an address and a port, 0.0.0.0:53 or [::]:53",
        "Where DNS is answered, over UDP and TCP. An address that is not there yet, such as "
        "a VPN's, is bound all the same.",
        "53 is the only port that clients ask. A default whose family the system lacks is "
        "skipped with a line in the log; one that was asked for is not.",
        metavar="ADDR:PORT", is_repeatable=True, is_needed=True,
        needs_restart=True,
    ),
    Option(
        "http", "http.listen", values.endpoint_or_off,
        "an address and a port, 0.0.0.0:8080, or off",
        "Where the status page, `/zone` and `/metrics` are; `off` disables them.",
        "`--allow` holds here too, so that all addresses are a safe default.",
        metavar="ADDR:PORT", needs_restart=True,
    ),
    Option(
        "http-host", "http.hosts", values.host_name, "a host name",
        "Further Host names that HTTP answers to, besides addresses, single labels and the "
        "names of this server.",
        "A page elsewhere whose name suddenly leads here (DNS rebinding) must learn nothing; "
        "a reverse proxy's name has to be listed.",
        metavar="NAME", is_repeatable=True,
    ),
    Option(
        "query-history", "dns.query_history", values.whole(0, MAX_ENTRIES),
        "a number of queries, 0 to 10000000",
        "Queries kept for `/queries`, `containerdns queries` and the page; 0 keeps none.",
        "Enough for the last minutes of one person who looks for a fault, in well under a "
        "megabyte.",
        metavar="N",
    ),
    Option(
        "allow-history", "rights.history", values.network, "a network such as 127.0.0.0/8",
        "Who sees the queries of all clients; others see their own only.",
        "What somebody looks up is private, even in front of colleagues.",
        metavar="CIDR", is_repeatable=True,
    ),
    Option(
        "domain", "zone.domains", values.domain, "a domain name other than the root",
        "Domains that we own: everything below them is ours, and NXDOMAIN if unknown. The "
        "first one is where reverse names lead.",
        "A domain of its own is the only place where no public name can be hidden.",
        metavar="NAME", is_repeatable=True, is_needed=True,
    ),
    Option(
        "search-domain", "zone.search_domains", values.domain, "a domain name other than the root",
        "Domains in which container names are answered too, but whose other names are "
        "forwarded. An empty value means none.",
        "Clients append their search list to what a person types, so a container's name "
        "arrives below it first; `localdomain` is what most have.",
        metavar="NAME", is_repeatable=True,
    ),
    Option(
        "bare-names", "zone.bare_names", values.boolean, "true or false",
        "Answer single-label container names as they are, `web`.",
        "It is what people type. No public name has a single label.",
    ),
    Option(
        "ttl", "zone.ttl", values.whole(0, MAX_TTL), "seconds, 0 to 3600",
        "TTL of container records.",
        "A redeployed container has another address at once; nobody should have the old one "
        "for longer than it takes to notice.",
        metavar="SECONDS",
    ),
    Option(
        "negative-ttl", "zone.negative_ttl", values.whole(0, MAX_TTL), "seconds, 0 to 3600",
        "TTL and minimum of the SOA in our negative answers.",
        "A name is asked for most while its container starts; the answer that it does not "
        "exist must be forgotten by the next try.",
        metavar="SECONDS",
    ),
    Option(
        "remember", "state.remember", values.whole(0, MAX_REMEMBER),
        f"seconds, 0 to {MAX_REMEMBER}",
        "How long the names of removed containers stay ours, bare and in search domains, so "
        "that they are never forwarded. At most 100,000 are kept.",
        "While a container is being replaced, a public server would say that its name does "
        "not exist, for as long as a day.",
        metavar="SECONDS",
    ),
    Option(
        "handover", "zone.handover", values.whole(0, MAX_HANDOVER), f"seconds, 0 to {MAX_HANDOVER}",
        "How long a name stays with nobody (NXDOMAIN) after its holder stopped or went, before "
        "it passes to a container that only derives it (Compose service, alias, swarm, host "
        "name) and is of another project or of a lower rank.",
        "While one project's `db` is redeployed, its clients must not reach another project's "
        "database. Who asks for the name by a container name or a label, and who is of the same "
        "project and rank, has it at once.",
        metavar="SECONDS",
    ),
    Option(
        "state", "state.file", values.path, "the path of a file",
        "Keeps remembered names and serials across restarts.",
        "Without it, a restart forgets the names of containers that were removed before it; "
        "most people never notice, and need no volume.",
        default_text="none", metavar="FILE", needs_restart=True,
    ),
    Option(
        "upstream", "upstream.servers", values.upstream,
        "IP[:PORT], tls://IP[:PORT]#NAME, https://HOST/dns-query or system",
        "Servers for every other name, asked strictly in this order; `system` stands for "
        "those of /etc/resolv.conf, but for ourselves and 127.0.0.11, read again when the file "
        "changes. An empty value means none.",
        "Servers that know different names must not be raced, or answers depend on luck.",
        metavar="SERVER", is_repeatable=True,
    ),
    Option(
        "forward", "upstream.forwards", values.forward,
        "DOMAIN=SERVER[,SERVER], each server as for --upstream",
        "Another list of upstreams for a domain and everything below it.",
        "A company's domain, or the reverse zone of its LAN, is known to its own servers only.",
        metavar="DOMAIN=SERVER[,SERVER]", is_repeatable=True, separator="spaces",
    ),
    Option(
        "cache-size", "upstream.cache_size", values.whole(0, MAX_ENTRIES),
        "a number of responses, 0 to 10000000",
        "Responses of upstreams that are kept; 0 disables the cache.",
        "Names of one office fit; a response takes about a kilobyte.",
        metavar="N",
    ),
    Option(
        "hosts", "state.hosts", values.path, "the path of a file",
        "Static records in the form of a hosts file, read again when it changes. A dotted "
        "name is absolute, a single label is relative as a container's.",
        "Some neighbours are no containers.",
        default_text="none", metavar="FILE", is_repeatable=True,
    ),
    Option(
        "network", "policy.networks", values.text, "the name of a Docker network",
        "Publish only addresses on these networks; the order is the order of preference.",
        "A container's other networks may be unreachable for those who ask.",
        default_text="all", metavar="NAME", is_repeatable=True,
    ),
    Option(
        "expose-by-default", "policy.expose_by_default", values.boolean, "true or false",
        "Publish every container; off: only those labelled `containerdns.enable=true`.",
        "A name is no access, so that most people want all of them.",
    ),
    Option(
        "unhealthy", "zone.unhealthy", values.one_of("drop", "keep"), "drop or keep",
        "Leave unhealthy containers out of an answer, unless that would leave nothing; "
        "`starting` counts as healthy.",
        "A replica that fails its health check should get no new clients, but a lone one is "
        "better tried than hidden.",
        metavar="drop|keep",
    ),
    Option(
        "host-address", "rights.host_addresses", values.address, "an IP address",
        "What containers on the host's network resolve to, and `host.DOMAIN`; once for IPv4 and "
        "once for IPv6.",
        "The address that the query came in on is one that this client can reach.",
        default_text="the address that the query came in on; in a container of its own "
        "network, the gateway of a bridge network (without one, unknown)",
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
        "Virtual hosts behind one container need it; for all others it would hide mistakes.",
    ),
    Option(
        "name-template", "policy.name_templates", values.template,
        "fields in braces: label:KEY, name, id, hostname, service, project, number",
        "Further names made from labels: `{label:com.example.app}.{name}`. A container that "
        "lacks a label gets none.",
        "Names that a company already has in its labels need not be written twice.",
        default_text="none", metavar="TEXT", is_repeatable=True, separator="templates",
    ),
    Option(
        "proxy-labels", "policy.proxy_labels", values.boolean, "true or false",
        "Host names in the labels of Traefik and Caddy, and in nginx-proxy's `VIRTUAL_HOST`, are "
        "names of ours, answered with the proxy's address. The proxy is the container labelled "
        "`containerdns.proxy=traefik`, `caddy` or `nginx-proxy`, else `--proxy-address`.",
        "What the proxy answers for need not be written twice; it is off, as it changes what "
        "resolves.",
    ),
    Option(
        "proxy-domain", "policy.proxy_domains", values.domain, "a domain name",
        "Further domains whose host names `--proxy-labels` publishes, exactly those, besides the "
        "domains and search domains.",
        "A label could name any public site; only what is below a domain listed here is believed.",
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
        "What the Docker labels that we obey begin with.",
        "Two servers on one Engine can be told apart.",
        metavar="TEXT",
    ),
    Option(
        "allow", "rights.ask", values.network, "a network such as 10.0.0.0/8",
        "Who may ask; others get REFUSED, and 403 over HTTP.",
        "A server that answers the whole internet is used for attacks on others within days. A "
        "process on this machine may arrive with its public address, as Docker masquerades what "
        "is sent to a bridge's gateway.",
        default_text=", ".join(f"`{network}`" for network in PRIVATE)
        + ", this machine's own addresses, and the subnets of Docker's own bridge and overlay "
        "networks", metavar="CIDR", is_repeatable=True,
    ),
    Option(
        "allow-transfer", "rights.transfer", values.network, "a network such as 127.0.0.0/8",
        "Who may transfer zones (AXFR, IXFR).",
        "The whole list of names is for secondaries and the operator.",
        metavar="CIDR", is_repeatable=True,
    ),
    Option(
        "transfer-key", "transfer.keys", values.path, "the path of a file",
        "TSIG keys, NAME ALGORITHM BASE64, one a line; with one, transfers need it.",
        "A key in a file is not in the list of processes, as one on the command line is.",
        default_text="none", metavar="FILE", is_repeatable=True,
    ),
    Option(
        "notify", "transfer.notify", values.dns_endpoint, "IP[:PORT]",
        "Who gets NOTIFY when the zone changes.",
        "A secondary that polls is late by its refresh interval.",
        default_text="nobody", metavar="IP[:PORT]", is_repeatable=True,
    ),
    Option(
        "rebind-protection", "upstream.rebind_protection", values.boolean, "true or false",
        "Drop private addresses from the answers of upstreams.",
        "Against DNS rebinding of the clients' own devices; off, as companies publish private "
        "addresses in public names.",
    ),
    Option(
        "rebind-allow", "upstream.rebind_allow", values.domain, "a domain name other than the root",
        "Domains whose private addresses are kept.",
        "An own domain's private addresses are meant.",
        default_text="none", metavar="DOMAIN", is_repeatable=True,
    ),
    Option(
        "fleet", "fleet.urls", values.fleet, "etcd://HOST[:PORT] or etcds://..., with commas",
        "The etcd cluster through which the servers of many hosts share their names.",
        "On one host nothing is shared; Swarm and several `--docker` need no etcd.",
        default_text="none", metavar="URL,...", needs_restart=True,
    ),
    Option(
        "fleet-host", "fleet.host", values.label, "a single label",
        "The name of this host in the fleet: its containers are `NAME.HOST.DOMAIN` as well.",
        "Two hosts with one name would write over each other, so the second one does not write.",
        default_text="the host name", metavar="NAME", needs_restart=True,
    ),
    Option(
        "fleet-lease", "fleet.lease", values.whole(2, 60), "seconds, 2 to 60",
        "How long the names of a host stay after it was last heard of.",
        "A short lease finds a dead host sooner, and costs etcd more.",
        metavar="SECONDS", needs_restart=True,
    ),
    Option(
        "fleet-prefix", "fleet.prefix", values.etcd_prefix, "the beginning of keys, /containerdns/",
        "What the keys of the fleet begin with.",
        "Several fleets, or other programs, can share one etcd.",
        metavar="TEXT", needs_restart=True,
    ),
    Option(
        "fleet-tls", "fleet.tls", values.directory, "a directory",
        "Certificates for `etcds://`: ca.pem, and for etcd with client certificates cert.pem and "
        "key.pem. A file `user` in it has USER:PASSWORD of etcd.",
        "Whoever may write to etcd decides where names lead.",
        default_text="none", metavar="DIR", needs_restart=True,
    ),
    Option(
        "fleet-publish", "fleet.publish", values.one_of("auto", "container", "host"),
        "auto, container or host",
        "How containers of other hosts are published: by their own addresses, by their host's "
        "address and published ports, or (`auto`) by their own unless two hosts have the subnet.",
        "Docker gives every host the same subnets, which lead nowhere from outside.",
        metavar="auto|container|host", needs_restart=True,
    ),
    Option(
        "workers", "dns.workers", values.whole(1, 64), "a number of processes, 1 to 64",
        "Processes that answer; one of them watches Docker.",
        "One suffices for a company; more cost memory each, and a second server on the same "
        "port is then not noticed by the system.",
        metavar="N", needs_restart=True,
    ),
    Option(
        "doh-canary", "dns.doh_canary", values.boolean, "true or false",
        "`use-application-dns.net` is NXDOMAIN.",
        "Browsers take it as the wish of this network to be asked, instead of DNS over HTTPS "
        "elsewhere, where no container has a name.",
    ),
    Option(
        "rate-limit", "dns.rate_limit", values.whole(0, MAX_ENTRIES),
        "responses per second, 0 to 10000000",
        "Responses per second to a client's prefix (/32, /64) outside loopback and private "
        "ranges, before UDP answers are truncated or dropped; 0 is no limit.",
        "A forged sender must not get a flood from us. Private clients are not limited, as a "
        "VPN's users may share one address; gateways of Docker's networks are, as behind "
        "Docker's proxy stands anyone.",
        metavar="N",
    ),
    Option(
        "log-level", "logs.level", values.one_of("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "What is logged.",
        "At `info` nothing is logged per query.",
        metavar="debug|info|warning|error",
    ),
    Option(
        "log-format", "logs.format", values.one_of("text", "json"), "text or json",
        "A line for people, or a JSON object for collectors; of a query, its fields too.",
        "People read it first.",
        metavar="text|json",
    ),
    Option(
        "log-queries", "dns.log_queries", values.boolean, "true or false",
        "Log every query.",
        "It costs speed, and what somebody looks up is private; `containerdns queries` shows "
        "the last ones without it.",
    ),
)  # fmt: skip

_BY_KEY = {option.key: option for option in OPTIONS}


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: Path | None = None,
) -> Settings:
    """Read all settings; nothing but these sources decides them.

    Args:
        flags: By key, those that were given: a text, a number, a boolean, or a list of them.
        environ: `os.environ`.
        file: The TOML file, or none.

    Raises:
        BadSettings: One cannot be used, or two contradict each other.
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
    if "search-domain" not in given:  # a default that the operator owns whole is not searched
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
    """What a reload makes of the settings.

    Attributes:
        settings: In effect from now on; what needs a restart is as before.
        applied: The options that have changed.
        waiting: Those whose new value takes effect at the next start.
    """

    settings: Settings
    applied: tuple[Option, ...]
    waiting: tuple[Option, ...]


def reloaded(old: Settings, new: Settings) -> Reloaded:
    """Return the settings after a reload: the new ones, but for what needs a restart.

    Args:
        old: In effect so far.
        new: As loaded.
    """
    changed = [o for o in OPTIONS if o.of(new) != o.of(old)]
    settings = replace(new, engines=old.engines)  # what comes with --docker waits with it
    for option in OPTIONS:
        settings = option.put(settings, option.of(old if option.needs_restart else new))
    return Reloaded(
        settings,
        tuple(o for o in changed if not o.needs_restart),
        tuple(o for o in changed if o.needs_restart),
    )


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return the variables with our prefix that no option has: misspelt ones, mostly."""
    known = OTHER_VARIABLES | {option.variable for option in OPTIONS}
    return sorted(v for v in environ if v.startswith(ENVIRONMENT_PREFIX) and v not in known)


@dataclass(frozen=True, slots=True)
class _Given:
    """The texts that one source gives for an option, and what it calls the option."""

    source: str
    texts: tuple[str, ...]


def _of_flags(flags: Mapping[str, Any]) -> Iterator[tuple[str, _Given]]:
    for key, value in flags.items():
        yield key, _Given(_BY_KEY[key].flag, _texts(value))


def _of_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, _Given]]:
    for option in OPTIONS:
        value = environ.get(option.variable, "").strip()
        if value:  # Compose files pass variables that nobody set as empty ones
            texts = _split(value, option.separator) if option.is_repeatable else (value,)
            yield option.key, _Given(option.variable, texts)


def _of_file(file: Path | None, named: str) -> Iterator[tuple[str, _Given]]:
    if file is None:
        return
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(named, str(file), f"a readable file ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(named, str(file), f"a TOML file ({error})") from error
    for key, value in document.items():
        source = f"{file}: {key}"
        option = _BY_KEY.get(key.replace("_", "-"))
        if option is None:
            raise BadSettings(source, str(value), _another_key(key))
        if not _fits(option, value):
            raise BadSettings(source, str(value), option.expected)
        yield option.key, _Given(source, _texts(value))


def _another_key(key: str) -> str:
    close = get_close_matches(key.replace("_", "-"), _BY_KEY, n=1)
    perhaps = f", perhaps {close[0]}" if close else ""
    return f"a key that is the name of an option{perhaps}; `containerdns serve --help` lists them"


def _fits(option: Option, value: object) -> bool:
    """Return whether a TOML value can be one of the option's, or a list of them if it takes one."""
    if isinstance(value, list) and option.is_repeatable:
        return all(isinstance(item, str | int | float) for item in value)
    return isinstance(value, str | int | float)


def _texts(value: object) -> tuple[str, ...]:
    """Bring what a flag or a TOML value is to texts."""
    match value:
        case bool():
            return ("true" if value else "false",)
        case list() | tuple():
            return tuple(text for item in value for text in _texts(item))
        case _:
            return (str(value),)


def _split(value: str, separator: str) -> tuple[str, ...]:
    match separator:
        case "spaces":  # commas are part of the values
            return tuple(value.split())
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


def _engine_of_environment(environ: Mapping[str, str], tls: Path | None) -> dict[str, Any]:
    """Find the Engine that the docker command would use, and how it was found.

    Args:
        environ: `os.environ`.
        tls: As `--docker-tls` says.
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
    if not Path(DEFAULT_SOCKET.removeprefix("unix://")).exists() and rootless.exists():
        return {"urls": (f"unix://{rootless}",), "source": "the rootless socket"}
    return {"source": "the default socket"}


def _certificates_of_environment(environ: Mapping[str, str]) -> Path | None:
    """Find the certificates that go with DOCKER_HOST."""
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
    """Yield what is right by itself but not together: key, value, what was expected."""
    for domain in settings.zone.search_domains:
        if domain in settings.zone.domains:
            yield "search-domain", domain, "none of the --domain names, which are ours whole"
    apexes = [apex for apex, _ in settings.upstream.forwards]
    for apex in apexes:
        if apexes.count(apex) > 1:
            yield "forward", apex, "each domain once; its servers are separated by commas"
    for version in (4, 6):
        addresses = [a for a in settings.rights.host_addresses if (":" in a) is (version == 6)]
        if len(addresses) > 1:
            yield "host-address", addresses[1], f"at most one IPv{version} address"

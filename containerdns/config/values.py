"""How the values of settings are read from text.

A reader takes one text as typed and returns a value.  For invalid text it raises ValueError
or `BadName`, for a path without permission OSError; `settings` adds which option it was and what
was expected.
"""

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from containerdns.core import names
from containerdns.core.endpoints import (
    DNS_PORT,
    MAX_PORT,
    SYSTEM,
    Endpoint,
    IPNetwork,
    UpstreamServer,
)
from containerdns.core.zone.policy import check_template
from containerdns.errors import BadSettings

DNS_OVER_TLS_PORT = 853  # RFC 7858 section 3.1
HTTPS_PORT = 443
ETCD_PORT = 2379
SWITCH = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)
TLS_FILES = ("ca.pem", "cert.pem", "key.pem")  # as the docker command names them


def text(value: str) -> str:
    """Read any printable text that is not empty."""
    if not value or not value.isprintable():
        raise ValueError(value)
    return value


def template(value: str) -> str:
    """Read a name template, with fields in braces."""
    try:
        check_template(value)
    except BadSettings as bad:
        raise ValueError(value) from bad
    return value


def boolean(value: str) -> bool:
    """Read `true`, `1`, `yes`, `on` or their opposites, in any case."""
    found = SWITCH.get(value.lower())
    if found is None:
        raise ValueError(value)
    return found


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `lowest` to `highest`."""

    def read(value: str) -> int:
        if not re.fullmatch("[0-9]{1,12}", value) or not lowest <= int(value) <= highest:
            raise ValueError(value)
        return int(value)

    return read


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader of one of several words."""

    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(value)
        return value

    return read


def path(value: str) -> Path:
    """Read a file path; the file need not exist yet."""
    return Path(text(value))


def tls_directory(value: str) -> Path:
    """Read a directory, which must contain the certificates for an Engine."""
    directory = path(value)
    if not all((directory / file).is_file() for file in TLS_FILES):
        raise ValueError(value)
    return directory


def engine_url(value: str) -> str:
    """Read the URL of an Engine: unix:///PATH, tcp://HOST[:PORT], ssh://[USER@]HOST[:PORT].

    A path may also have one slash in front (`unix:/run/docker.sock`) or two, as for the docker
    command; the value has three.  `engine/transport` parses the value.
    """
    scheme, _, path = text(value).partition(":")
    if scheme.lower() == "unix" and path.strip("/"):
        if not path.startswith("/"):
            raise ValueError(value)
        return f"unix:///{path.lstrip('/')}"
    url = urlsplit(value)
    _ = url.port  # raises ValueError if invalid
    match url.scheme:
        case "tcp" if url.hostname and url.path in ("", "/"):
            return value
        case "ssh" if url.hostname:
            return value
    raise ValueError(value)


def endpoint(value: str) -> Endpoint:
    """Read ADDRESS:PORT or [ADDRESS]:PORT."""
    host, port = _host_and_port(value)
    if port is None:
        raise ValueError(value)
    return Endpoint(_address(host), port)


def endpoint_or_off(value: str) -> Endpoint | None:
    """Read ADDRESS:PORT or `off`, including what YAML and TOML turn `off` into."""
    return None if SWITCH.get(value.lower()) is False else endpoint(value)


def dns_endpoint(value: str) -> Endpoint:
    """Read IP[:PORT] of a server to send to; the default port is 53."""
    host, port = _host_and_port(value)
    return Endpoint(_destination(host), _used_port(port, DNS_PORT))


def address(value: str) -> str:
    """Read an IP address that stands for one machine; the value is its canonical text."""
    return _destination(value)


def network(value: str) -> IPNetwork:
    """Read a CIDR; a plain address is a network of one, and host bits are cleared."""
    return ipaddress.ip_network(value, strict=False)


def domain(value: str) -> str:
    """Read a domain other than the root.

    DNS allows any octet, but a space or comma here separates domains, and a colon precedes a
    port.  The slash occurs in reverse zones smaller than a /24 (RFC 2317).
    """
    name = names.canonical(value)
    if not re.fullmatch(r"[a-z0-9_./-]+", name) or name == names.ROOT:
        raise ValueError(value)
    return name


def host_name(value: str) -> str:
    """Read a name as in a Host header, without port; the result has no final dot."""
    if "/" in value:
        raise ValueError(value)
    return domain(value).removesuffix(".")


def fleet(value: str) -> tuple[str, ...]:
    """Read an etcd cluster: etcd://HOST[:PORT] or etcds://, several with commas or spaces."""
    return tuple(_etcd_url(part) for part in re.split(r"\s*,\s*|\s+", text(value).strip()))


def _etcd_url(value: str) -> str:
    url = urlsplit(value)
    is_bare = url.path in ("", "/") and not (url.username or url.query or url.fragment)
    if url.scheme not in ("etcd", "etcds") or not url.hostname or not is_bare:
        raise ValueError(value)
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{url.scheme}://{host}:{url.port or ETCD_PORT}"


def label(value: str) -> str:
    """Read one DNS label, as host names have."""
    name = names.canonical(value)
    if not re.fullmatch(r"[a-z0-9_-]+\.", name):
        raise ValueError(value)
    return name.removesuffix(".")


def directory(value: str) -> Path:
    """Read the path of a directory, which must be there."""
    if not (found := path(value)).is_dir():
        raise ValueError(value)
    return found


def etcd_prefix(value: str) -> str:
    """Read a prefix of keys; with or without slashes around it, it is the same one."""
    return f"/{text(value).strip('/')}/".replace("//", "/")


def web_url(value: str) -> str:
    """Read the URL of a running server: http://HOST[:PORT], possibly with a path."""
    url = urlsplit(text(value))
    _ = url.port  # raises ValueError if invalid
    if url.scheme not in ("http", "https") or not url.hostname or " " in value:
        raise ValueError(value)
    return value


def docker_label_prefix(value: str) -> str:
    """Read the prefix of Docker labels; a final dot is dropped."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?\.?", value):
        raise ValueError(value)
    return value.removesuffix(".")


def upstream(value: str) -> UpstreamServer:
    """Read IP[:PORT], tls://IP[:PORT]#NAME, https://HOST/PATH, or `system`."""
    if value == "system":
        return SYSTEM
    if value.startswith("https://"):
        return _https_upstream(value)
    if value.startswith("tls://"):
        where, _, server_name = value.removeprefix("tls://").partition("#")
        host, port = _host_and_port(where)
        used = _used_port(port, DNS_OVER_TLS_PORT)
        return UpstreamServer("tls", _destination(host), used, host_name(server_name))
    host, port = _host_and_port(value)
    return UpstreamServer("udp", _destination(host), _used_port(port, DNS_PORT))


def forward(value: str) -> tuple[str, tuple[UpstreamServer, ...]]:
    """Read DOMAIN=SERVER[,SERVER]."""
    apex, _, servers = value.partition("=")
    listed = (upstream(server) for server in re.split(r"\s*,\s*|\s+", servers.strip()))
    return domain(apex.strip()), tuple(dict.fromkeys(listed))


def _https_upstream(value: str) -> UpstreamServer:
    url = urlsplit(text(value))
    if not url.hostname or "@" in url.netloc or url.query or url.fragment or " " in value:
        raise ValueError(value)
    if ":" not in url.hostname:  # else an IPv6 address
        host_name(url.hostname)
    return UpstreamServer("https", url.hostname, _used_port(url.port, HTTPS_PORT), url=value)


def _host_and_port(value: str) -> tuple[str, int | None]:
    """Split HOST, HOST:PORT, [HOST], [HOST]:PORT and a bare IPv6 address."""
    bracketed = re.fullmatch(r"\[([^\[\]]*:[^\[\]]*)\](?::([0-9]{1,5}))?", value)
    plain = re.fullmatch(r"([^:\[\]]*)(?::([0-9]{1,5}))?", value)
    match = bracketed or plain
    if match is None:
        return value, None  # a bare IPv6 address, or invalid, which `_address` detects
    port = int(match[2]) if match[2] else None
    if port is not None and port > MAX_PORT:
        raise ValueError(value)
    return match[1], port


def _used_port(port: int | None, usual: int) -> int:
    """Return the port to send to; 0 is invalid."""
    if port == 0:
        raise ValueError(port)
    return usual if port is None else port


def _address(value: str) -> str:
    """Check an IP address and return its canonical text."""
    return str(ipaddress.ip_address(value))


def _destination(value: str) -> str:
    """Check an IP address that can be sent to, which a wildcard cannot."""
    address = ipaddress.ip_address(value)
    if address.is_unspecified:
        raise ValueError(value)
    return str(address)

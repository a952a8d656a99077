"""Host names in the labels of reverse proxies: Traefik, Caddy and nginx-proxy.

A container behind a reverse proxy has labels or a variable that the proxy reads.  This module
reads the same ones and finds the host names; `policy` decides which of them are ours, and which
address they have.

Sources: Traefik's rule syntax of v2 and v3 (doc.traefik.io, "Rules & Priority" of HTTP and TCP
routers), caddy-docker-proxy's README, and nginx-proxy's "Virtual hosts".
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

TRAEFIK, CADDY, NGINX_PROXY = "traefik", "caddy", "nginx-proxy"
KINDS = (TRAEFIK, CADDY, NGINX_PROXY)
VIRTUAL_HOST = "VIRTUAL_HOST"  # the variable that nginx-proxy reads
MAX_RULE = 8192  # characters of one label; longer ones are skipped

_TRAEFIK_RULE = re.compile(r"traefik\.(?:http|tcp)\.routers\.[^.]+\.rule", re.IGNORECASE)
_TRAEFIK_ENABLE = "traefik.enable"
_PREFIXES = ("traefik.", "caddy")
_CADDY = re.compile(r"caddy(?:_[0-9]+)?")
# A literal between back quotes or double quotes, one that does not end, a word, or one other
# character.  Nothing is read twice: the end of a literal is looked for only once.
_TOKEN = re.compile(
    r"`(?P<raw>[^`]*+)`|\"(?P<quoted>(?:[^\"\\]|\\.)*+)\"|(?P<open>[`\"].*)|(?P<word>\w+)|(?P<sign>\S)",
    re.DOTALL,
)
_HOST_MATCHERS = frozenset({"host", "hostsni"})  # in any case
_PATTERN = re.compile(r"[*~{}()^$]")  # found in patterns, not in a single host name
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


Reader = Callable[[str], Iterable[str]]


class ProxiedHost(NamedTuple):
    """A host name that a reverse proxy answers for.

    Attributes:
        kind: The proxy, one of `KINDS`.
        host: As written, without scheme, port and path.
        source: The label or variable that contains it.
        fault: Why it is not a host name; "" if it may be one.
    """

    kind: str
    host: str
    source: str
    fault: str = ""


def hosts_of(docker_labels: Mapping[str, str], virtual_host: str) -> Iterator[ProxiedHost]:
    """Yield the host names that proxies answer for with a container.

    Args:
        docker_labels: All labels of the container.
        virtual_host: Its variable VIRTUAL_HOST; "" for none.
    """
    is_off = docker_labels.get(_TRAEFIK_ENABLE, "").strip().lower() in ("false", "0")
    for label, text in docker_labels.items():
        if not is_off and _TRAEFIK_RULE.fullmatch(label):
            yield from _read(TRAEFIK, label, text, traefik_hosts)
        elif _CADDY.fullmatch(label):
            yield from _read(CADDY, label, text, caddy_hosts)
    yield from _read(NGINX_PROXY, VIRTUAL_HOST, virtual_host, nginx_hosts)


def kinds_of(docker_labels: Mapping[str, str], virtual_host: str) -> tuple[str, ...]:
    """Return the proxies that may serve host names of a container; usually none."""
    marked = [label for label in docker_labels if label.startswith(_PREFIXES)]
    found = {TRAEFIK if label.startswith("traefik.") else CADDY for label in marked}
    if virtual_host:
        found.add(NGINX_PROXY)
    return tuple(sorted(found))


def _read(kind: str, source: str, text: str, read: Reader) -> Iterator[ProxiedHost]:
    if len(text) > MAX_RULE:
        yield ProxiedHost(kind, "", source, f"longer than {MAX_RULE} characters")
        return
    for host in read(text):
        fault = "a pattern is not a host name" if _PATTERN.search(host) else ""
        yield ProxiedHost(kind, host, source, fault)


def traefik_hosts(rule: str) -> Iterator[str]:
    r"""Yield the hosts of a rule: Host(`a`), Host(`a`, `b`) of v2, HostSNI(`a`).

    Negated matchers, HostRegexp, and HostSNI(`*`), which matches any host, are skipped.
    """
    tokens = list(_TOKEN.finditer(rule))
    negated: list[bool] = [False]  # by depth of parentheses
    matcher = ""
    pending = False  # after a "!"
    for token in tokens:
        word, sign = token["word"], token["sign"]
        if word is not None:
            matcher = word.lower()
        elif sign == "!":
            pending = True
        elif sign == "(":
            negated.append(negated[-1] != pending)
            pending = False
        elif sign == ")":
            negated = negated[:-1] or [False]
            matcher = ""
        elif sign in ("&", "|"):
            matcher, pending = "", False
        elif token["raw"] is not None or token["quoted"] is not None:
            text = token["raw"] if token["raw"] is not None else token["quoted"]
            if matcher in _HOST_MATCHERS and not negated[-1] and text.strip() not in ("", "*"):
                yield text.strip()


def caddy_hosts(text: str) -> Iterator[str]:
    """Yield the hosts of a site address list, "a.example, https://b.example:8443/path".

    Snippets, "(name)", named routes, "&(name)", and addresses with only a port have none.
    """
    for word in re.split(r"[\s,]+", text):
        if word.startswith(("(", "&(", ":", "/")) or not word:
            continue
        scheme = _SCHEME.match(word)
        address = re.split(r"[/?#]", word[scheme.end() :] if scheme else word, maxsplit=1)[0]
        host = re.sub(r":[0-9]*$", "", address)
        if host and not host.startswith("["):
            yield host


def nginx_hosts(text: str) -> Iterator[str]:
    """Yield the hosts of VIRTUAL_HOST, separated by commas, without ports."""
    for item in text.split(","):
        host = re.sub(r":[0-9]+$", "", item.strip())
        if host:
            yield host

"""The Docker labels of this server: names, meanings and values.

Parsing, error messages, suggestions for misspelt labels, docs/labels.md and the fuzz test are all
derived from `LABELS`, so they cannot disagree.  `policy` applies the values.  Labels are named
here without their prefix.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Generic, Protocol, TypeVar

from containerdns.core import names
from containerdns.core.endpoints import MAX_PORT, address_text
from containerdns.core.zone.proxy_labels import KINDS
from containerdns.errors import BadName

MAX_NAMES = 100  # that one Docker label may add; a Compose file has a handful
MAX_TEXT = 4096  # octets of one TXT record; a hundred of them fit into a TCP message
MAX_ADDRESSES = 1000  # in one Docker label; an answer has a hundred
MAX_LABELS = 1000  # of ours on one container
MAX_VALUE = 32768  # characters of one Docker label: MAX_NAMES long names; Docker has no limit
MAX_TTL = 3600  # seconds; longer ones outlive redeploys
MAX_DIGITS = 6  # of a number in a label; Python rejects thousands of digits
SWITCH = {"true": True, "false": False}

T = TypeVar("T")


class FaultReporter(Protocol):
    """Called with the reason why a value, or a part of it, is invalid."""

    def __call__(self, reason: str, shown: str | None = None) -> None:
        """Report a fault.

        Args:
            reason: What was expected, or what is wrong.
            shown: Shown instead of the value if that is too long.
        """


@dataclass(frozen=True, slots=True)
class DockerLabel(Generic[T]):
    """One label, or a family of labels with a common prefix.

    Attributes:
        key: After the prefix; of a family, the author chooses the part in capitals.
        meaning: What it does, in Markdown.
        limits: Its valid values, in Markdown.
        read: Parses a text, which is stripped except for TXT data, and reports what is invalid;
            returns None if nothing is left.
        examples: Key and value; each has an effect of its own.
        wrong: Invalid values.
        holds_for_one_offs: In a container of `docker compose run`, too, to which Compose
            copies all labels of the service.
    """

    key: str
    meaning: str
    limits: str
    read: Callable[[str, FaultReporter], T | None]
    examples: tuple[tuple[str, str], ...]
    wrong: tuple[str, ...] = ()
    holds_for_one_offs: bool = False

    @property
    def beginning(self) -> str:
        """The common prefix of a family; "" for a single label."""
        start, dot, author = self.key.partition(".")
        return start + dot if author else ""


def switch(text: str) -> bool | None:
    """Read `true` or `false`, in any case; None for anything else."""
    return SWITCH.get(text.lower())


def items(text: str) -> Iterable[str]:
    """Split a list at commas, without blanks around items and empty items."""
    return (item for item in (part.strip() for part in text.split(",")) if item)


def spelling_fault(text: str) -> str:
    """Return what is wrong if a URL or a port was written instead of a name; else ""."""
    if "/" in text:
        return "expected only a name, not a URL or a path"
    return "expected only a name, without a port" if ":" in text else ""


def _switch(text: str, report: FaultReporter) -> bool | None:
    value = switch(text)
    if value is None:
        report("expected true or false")
    return value


def _as_it_is(text: str, _: FaultReporter) -> str:
    return text


def _text(text: str, report: FaultReporter) -> str | None:
    if len(text.encode("utf-8", "replace")) <= MAX_TEXT:
        return text
    report(f"text longer than {MAX_TEXT} octets")
    return None


def _names(text: str, report: FaultReporter) -> list[str]:
    found = list(items(text))
    if len(found) > MAX_NAMES:
        report(f"more than {MAX_NAMES} names", f"{len(found)} names")
    return found[:MAX_NAMES]


def _number(least: int, most: int, kind: str) -> Callable[[str, FaultReporter], int | None]:
    def read(text: str, report: FaultReporter) -> int | None:
        is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
        if is_number and least <= int(text) <= most:
            return int(text)
        report(f"expected {kind}, {least} to {most}")
        return None

    return read


def _target(text: str, report: FaultReporter) -> str | None:
    try:
        target = names.canonical(text)
    except BadName as bad:
        report(bad.reason)
        return None
    if target == names.ROOT:
        fault = "the root cannot be a target"
    elif text.split() != [text]:
        fault = "a space in the name; there is one target"
    elif not (fault := spelling_fault(text)) and address_text(target[:-1]):
        fault = "expected a name; the label address takes IPs"
    if fault:
        report(fault)
    return None if fault else target


def _addresses(text: str, report: FaultReporter) -> tuple[str, ...] | None:
    listed = list(items(text))
    if len(listed) > MAX_ADDRESSES:
        report(f"more than {MAX_ADDRESSES} addresses", f"{len(listed)} addresses")
    found = {item: address_text(item) for item in listed[:MAX_ADDRESSES]}
    for item in (item for item, address in found.items() if not address):
        report(f"{item!r} is not an IP address")
    return tuple(filter(None, found.values())) or None


def _proxy(text: str, report: FaultReporter) -> str | None:
    if text.lower() in KINDS:
        return text.lower()
    report(f"expected one of {', '.join(KINDS)}")
    return None


_SWITCH = "`true` or `false`"
_NAMES = f"{MAX_NAMES} names; 63 octets a label, 255 a name"
_TEXTS = f"{MAX_TEXT} octets a text, {MAX_NAMES} texts"

ENABLE = DockerLabel(
    "enable",
    "Publish this container or not, whatever [`--expose-by-default`](options.md) says.",
    _SWITCH,
    _switch,
    (("enable", "true"), ("enable", "false")),
    ("maybe", "yes"),
    holds_for_one_offs=True,
)
NAMES = DockerLabel(
    "names",
    "Further relative names: below every domain and search domain, and bare if they are a"
    " single label.",
    _NAMES,
    _names,
    (("names", "search,find.logs"),),
    (",".join(f"n{number}" for number in range(MAX_NAMES + 1)), 64 * "a"),
)
FQDNS = DockerLabel(
    "fqdns",
    "Absolute names. Exactly these are answered, and nothing below them.",
    f"{_NAMES}; not the root, no wildcard",
    _names,
    (("fqdns", "search.corp.example"),),
    ("*.example", "."),
)
NETWORK = DockerLabel(
    "network",
    "The one network whose address is published.",
    "a network that the container is on; else it has no address",
    _as_it_is,
    (("network", "frontend"),),
    ("nowhere",),
    holds_for_one_offs=True,
)
TTL = DockerLabel(
    "ttl",
    "The TTL of this container's records, instead of `--ttl`.",
    f"seconds, 0 to {MAX_TTL}",
    _number(0, MAX_TTL, "seconds"),
    (("ttl", "2"),),
    (str(MAX_TTL + 1),),
    holds_for_one_offs=True,
)
WILDCARD = DockerLabel(
    "wildcard",
    "`anything.NAME` answers as `NAME`, below the domains and search domains.",
    _SWITCH,
    _switch,
    (("wildcard", "true"),),
    ("2",),
)
SRV = DockerLabel(
    "srv._SERVICE._PROTOCOL",
    "A record `_SERVICE._PROTOCOL.NAME SRV`, besides those of exposed ports (`_9200._tcp.NAME`).",
    f"a port, 1 to {MAX_PORT}",
    _number(1, MAX_PORT, "a port"),
    (("srv._http._tcp", "8080"),),
    ("0", str(MAX_PORT + 1)),
)
TXT = DockerLabel(
    "txt",
    "A TXT record at each name; one longer than 255 octets is split.",
    _TEXTS,
    _text,
    (("txt", "owner=search-team"),),
    ((MAX_TEXT + 1) * "t",),
)
TXT_KEY = DockerLabel(
    "txt.KEY",
    "A TXT record at `KEY.NAME`.",
    _TEXTS,
    _text,
    (("txt.version", "8.11"),),
    ((MAX_TEXT + 1) * "t",),
)
CNAME = DockerLabel(
    "cname",
    "The names are aliases of the target, and nothing else: no addresses, TXT or SRV.",
    "a name other than the root",
    _target,
    (("cname", "search.corp.example."),),
    (".", "192.0.2.7", "a.example b.example"),
)
ADDRESS = DockerLabel(
    "address",
    "Publish these addresses instead of the container's own.",
    "IPv4 and IPv6 addresses; without one that can be read, its own",
    _addresses,
    (("address", "192.0.2.7,2001:db8::7"),),
    ("192.0.2.256",),
)

PROXY = DockerLabel(
    "proxy",
    "This container is the reverse proxy whose host names"
    " [`--proxy-labels`](options.md) publishes.",
    ", ".join(f"`{kind}`" for kind in KINDS),
    _proxy,
    (("proxy", "traefik"),),
    ("haproxy",),
)

LABELS: tuple[DockerLabel[Any], ...] = (
    *(ENABLE, NAMES, FQDNS, NETWORK, TTL, WILDCARD, SRV, TXT, TXT_KEY, CNAME, ADDRESS, PROXY),
)


def find(key: str) -> DockerLabel[Any] | None:
    """Return a label, or the family it belongs to; None if it is unknown."""
    for label in LABELS:
        if key == label.key or (label.beginning and key.startswith(label.beginning)):
            return label
    return None


def nearest(key: str) -> str:
    """Return the label that was probably meant; "" if none is similar."""
    by_word = {label.key.partition(".")[0]: label for label in reversed(LABELS)}
    close = get_close_matches(key.lower(), by_word, n=1)
    return by_word[close[0]].key if close else ""


def own(docker_labels: Iterable[tuple[str, str]], prefix: str) -> dict[str, str]:
    """Return our labels without their prefix; values are stripped, except for texts.

    An empty value counts as no label: Compose produces it from an unset variable.

    Args:
        docker_labels: All labels of a container.
        prefix: Without its dot.
    """
    start = prefix + "."
    return {
        key[len(start) :]: text if find(key[len(start) :]) in (TXT, TXT_KEY) else text.strip()
        for key, text in docker_labels
        if key.startswith(start) and text.strip()
    }

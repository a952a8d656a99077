"""What a person typed in place of a name: an address, a URL, or a host with a port.

A browser's address bar, a `curl` command and a log line have more than a name in them.
`explain` looks up the host in it, and says what it left out.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from containerdns.core.zone.reverse import reverse_name

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PORT = re.compile(r":[0-9]{1,5}$")


@dataclass(frozen=True, slots=True)
class Typed:
    """The host in a text.

    Attributes:
        host: A name as typed, not checked, or the reverse name of an address.
        address: Canonical text of the address that was typed; "" for a name.
        remark: What was left out, in words; "" if nothing was.
    """

    host: str
    address: str = ""
    remark: str = ""


def read(text: str) -> Typed:
    """Find the host in a text; a name alone is returned as it is."""
    text = text.strip()
    host = _host_in(text)
    remark = f"only the host of {text} is looked up: {host}" if host != text else ""
    try:
        address = str(ip_address(host))
    except ValueError:
        return Typed(host, remark=remark)
    return Typed(reverse_name(address), address, remark)


def _host_in(text: str) -> str:
    if _is_address(text):
        return text
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0] if scheme or "/" in rest else rest
    if scheme or "@" in authority:
        authority = authority.rpartition("@")[2]
    if authority.startswith("[") and "]" in authority:
        inner = authority[1 : authority.index("]")]
        return inner if _is_address(inner) else text
    return _PORT.sub("", authority) or text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True

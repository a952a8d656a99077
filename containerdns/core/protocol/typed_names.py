"""What a person typed in place of a name: an address, a URL, or a host with a port.

A browser's address bar, a `curl` command and a log line have more than a name in them.
`explain` looks up the host in it, and says what it left out.
"""

import re
from dataclasses import dataclass

from containerdns.core.endpoints import address_text
from containerdns.core.zone.reverse import reverse_name

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PORT = re.compile(r":[0-9]{1,5}$")
MAX_TEXT = 253  # characters: the longest name without escapes, RFC 1035 section 2.3.4


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
    address = address_text(host)
    return Typed(reverse_name(address) if address else host, address, remark)


def for_url(text: str) -> Typed:
    """Shorten a text to what `/explain` takes: ASCII, and no longer than a name.

    A name in other letters becomes its A-label (RFC 5890 section 2.3.2.1), by Python's IDNA of
    2003.  What cannot be converted is returned as it is, for the server to refuse.
    """
    if text.isascii() and len(text) <= MAX_TEXT:
        return Typed(text)
    typed = read(text)
    if typed.address:
        return Typed(typed.address, remark=typed.remark)
    if typed.host.isascii():
        return typed
    try:
        host = typed.host.encode("idna").decode()
    except UnicodeError:
        return typed
    return Typed(host, remark=f"{typed.host} is looked up as {host}")


def _host_in(text: str) -> str:
    if address_text(text):
        return text
    scheme = _SCHEME.match(text)
    rest = text[scheme.end() :] if scheme else text
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0] if scheme or "/" in rest else rest
    if scheme or "@" in authority:
        authority = authority.rpartition("@")[2]
    if authority.startswith("[") and "]" in authority:
        inner = authority[1 : authority.index("]")]
        return inner if address_text(inner) else text
    return _PORT.sub("", authority) or text

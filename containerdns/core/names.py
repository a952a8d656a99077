r"""Domain names: canonical text, and conversion to and from wire form.

A *name* is absolute and lower case, in presentation form: "web.docker.", with
its final dot; the root is ".".  Octets that would be ambiguous in text are
escaped (RFC 1035 section 5.1), so that text and wire form correspond one to one:
a label with the octets "web.apps" is "web\.apps", one label and not two.  All
other modules may assume this; only this one handles names as typed.

A *relative name* is the same without the final dot: "web", "web.frontend".
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate

from containerdns.errors import BadName

MAX_LABEL = 63  # octets, RFC 1035 section 2.3.4
MAX_NAME = 255  # octets in wire form, RFC 1035 section 2.3.4
MAX_TEXT = 4 * MAX_NAME  # characters of a name as typed, if each octet is escaped

ROOT = "."

_LENGTHS = tuple(bytes((octets,)) for octets in range(MAX_LABEL + 1))

_MAX_PLAIN_TEXT = MAX_NAME - 2  # characters of an absolute name in the pattern, without its dot
_CANONICAL = re.compile(r"[a-z0-9_-]{1,63}+(?:\.[a-z0-9_-]{1,63}+)*+")  # nearly all names are
_DOT_OR_ESCAPE = re.compile(r"\\.|\.", re.DOTALL)
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_*/+=!#%&,:<>?[]^`{|}~'")
_PLAIN_OCTETS = bytes(sorted(_PLAIN))
_TEXT_OF_OCTET = tuple(chr(o) if o in _PLAIN else f"\\{o:03d}" for o in range(256))
_SPECIAL = {ord("."): "\\.", ord("\\"): "\\\\", ord('"'): '\\"', ord(";"): "\\;",
            ord("@"): "\\@", ord("$"): "\\$", ord("("): "\\(", ord(")"): "\\)"}  # fmt: skip
_ESCAPED = tuple(_SPECIAL.get(o, _TEXT_OF_OCTET[o]) for o in range(256))


def canonical(text: str) -> str:
    """Return the canonical name for a text from a person, a label or a file.

    A final dot is optional; escapes are decoded.

    Raises:
        BadName: The text is empty or not ASCII, a label is empty or too long, or the name is.
    """
    if len(text) <= _MAX_PLAIN_TEXT and _CANONICAL.fullmatch(text):
        return text + "."
    if text == ROOT:
        return ROOT
    if not text:
        raise BadName(text, "empty")
    if len(text) > MAX_TEXT:
        raise BadName(f"{text[:MAX_LABEL]}...", f"name longer than {MAX_NAME} octets")
    if _is_open(text):  # an appended dot would be escaped
        raise BadName(text, "ends in a backslash")
    try:
        wire = to_wire(text if _is_absolute(text) else text + ".")
    except BadName as bad:
        raise BadName(text, bad.reason) from None
    return from_wire(wire)


def relative(text: str) -> str:
    """Return the canonical relative name for a text; its final dot is dropped.

    Raises:
        BadName: As `canonical`, and for the root, which is not relative.
    """
    if len(text) <= _MAX_PLAIN_TEXT and _CANONICAL.fullmatch(text):
        return text
    name = canonical(text)
    if name == ROOT:
        raise BadName(text, "the root is not a relative name")
    if name.endswith("\\.."):  # without its final dot it would look absolute
        raise BadName(text, "a dot in the last label")
    return name[:-1]


@lru_cache(maxsize=1024)
def to_wire(name: str) -> bytes:
    """Encode a name without compression, lower case (RFC 1035 section 3.1).

    Returns:
        1 to 255 octets: a length octet before each label, then a zero octet.

    Raises:
        BadName: The name is too long, or a label is empty or too long.
    """
    if name == ROOT:
        return b"\0"
    if "\\" not in name and name.isascii():  # nearly always
        labels = name.removesuffix(".").lower().encode().split(b".")
    else:
        labels = [_octets_of(label, name) for label in labels_of_text(name)]
    if b"" in labels:
        raise BadName(name, "empty label")
    try:
        wire = b"".join([_LENGTHS[len(label)] + label for label in labels]) + b"\0"
    except IndexError:
        raise BadName(name, f"label longer than {MAX_LABEL} octets") from None
    if len(wire) > MAX_NAME:
        raise BadName(name, f"name longer than {MAX_NAME} octets")
    return wire


def fits(name: str) -> bool:
    """Return whether a name, possibly joined from two, is short enough."""
    try:
        to_wire(name)
    except BadName:
        return False
    return True


def from_wire(wire: bytes) -> str:
    """Decode an uncompressed wire form to a canonical name, in lower case."""
    wire = wire.lower()  # safe: length octets are below 0x41
    if len(wire) == 1:
        return ROOT
    parts = []
    at = 0
    while length := wire[at]:
        label = wire[at + 1 : at + 1 + length]
        is_plain = not label.translate(None, _PLAIN_OCTETS)
        parts.append(label.decode() if is_plain else "".join([_ESCAPED[octet] for octet in label]))
        at += 1 + length
    parts.append("")
    return ".".join(parts)


def labels_of_text(name: str) -> list[str]:
    """Return the labels of a name, absolute or relative; the root has none."""
    if name == ROOT:
        return []
    text = name[:-1] if _is_absolute(name) else name
    if "\\" not in text:
        return text.split(".")
    starts = _starts(text)
    return [
        text[start : following - 1]
        for start, following in zip(starts, [*starts[1:], len(text) + 1], strict=True)
    ]


@lru_cache(maxsize=16)
def _starts(text: str) -> tuple[int, ...]:
    """Return where each label starts in a name without its final dot."""
    if "\\" in text:
        return (0, *(f.end() for f in _DOT_OR_ESCAPE.finditer(text) if f.group() == "."))
    return (0, *accumulate(map((1).__add__, map(len, text.split(".")[:-1]))))


def parent(name: str) -> str:
    """Return the name above: "docker." for "web.docker.", "." for "docker."."""
    if "\\" not in name:
        return name.partition(".")[2] or ROOT
    rest = ".".join(labels_of_text(name)[1:])
    return rest + "." if rest else ROOT


@lru_cache(maxsize=8)
def parents(name: str) -> tuple[str, ...]:
    """Return all names above an absolute name, nearest first, the root last.

    Cached for a few names, since one decision needs them several times; the cached texts also
    keep their hashes.
    """
    if name == ROOT:
        return ()
    if "\\" in name:
        return (*(name[start:] for start in _starts(name[:-1])[1:]), ROOT)
    above = []
    start = name.find(".") + 1
    while start < len(name):
        above.append(name[start:])
        start = name.find(".", start) + 1
    return (*above, ROOT)


def enclosers(owner: str) -> tuple[str, ...]:
    """Return all relative names above a relative name: "b.c" and "c" for "a.b.c"."""
    if "\\" in owner:
        return tuple(owner[start:] for start in _starts(owner)[1:])
    above = []
    start = owner.find(".") + 1
    while start:
        above.append(owner[start:])
        start = owner.find(".", start) + 1
    return tuple(above)


@lru_cache(maxsize=1024)  # a redeploy asks for the same ones several times
def above_owner(owner: str) -> tuple[str, ...]:
    """Return the names between an owner, relative or absolute, and its suffix."""
    rest = owner.partition(".")[2]
    if "." not in rest and "\\" not in owner:  # nearly all
        return (rest,) if rest else ()
    return parents(owner)[:-1] if owner.endswith(".") else enclosers(owner)


def above_service(owner: str) -> str:
    """Return the relative name that has a service: "web" for "_80._tcp.web"; "" for others."""
    if not owner.startswith("_"):
        return ""
    above = enclosers(owner)
    return above[1] if len(above) > 1 and above[0].startswith("_") else ""


def from_the_top(owner: str) -> Iterator[tuple[str, str]]:
    """Walk down to a relative name from its last label: of "a.b.c", "c", "b.c", "a.b.c".

    The cost of a step does not depend on the labels below, so a walk that ends at the last
    existing name is short.

    Yields:
        The name so far, and the labels before it: ("c", "a.b"), ("b.c", "a"), ("a.b.c", "").
    """
    if "\\" in owner:
        for start in reversed(_starts(owner)[1:]):
            yield owner[start:], owner[: start - 1]
    else:
        stop = len(owner)
        while (dot := owner.rfind(".", 0, stop)) >= 0:
            yield owner[dot + 1 :], owner[:dot]
            stop = dot
    yield owner, ""


def is_below(name: str, apex: str) -> bool:
    """Return whether an absolute name is at or below an apex."""
    if apex in (ROOT, name):
        return True
    if not name.endswith(apex):
        return False
    before = name[: -len(apex)]
    return before.endswith(".") and _is_absolute(before)


def is_single_label(name: str) -> bool:
    """Return whether a name, absolute or relative, has exactly one label."""
    text = name.removesuffix(".")
    if "\\" not in text:
        return "." not in text and text != ""
    return len(labels_of_text(name)) == 1


def strip_suffix(name: str, apex: str) -> str:
    """Return the relative name of an absolute name below an apex, not at it."""
    return name[:-1] if apex == ROOT else name[: -len(apex) - 1]


def join(relative_name: str, apex: str) -> str:
    """Return the absolute name of a relative name below an apex."""
    return relative_name + "." if apex == ROOT else f"{relative_name}.{apex}"


def _is_absolute(text: str) -> bool:
    """Return whether the text ends in a dot that is not escaped."""
    return text.endswith(".") and not _is_open(text[:-1])


def _is_open(text: str) -> bool:
    """Return whether the text ends in an unescaped backslash."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _octets_of(label: str, name: str) -> bytes:
    """Return the octets of one label in text form, in lower case."""
    if not label.isascii():  # before lower(), which converts some letters to ASCII
        raise BadName(name, "not ASCII")
    if "\\" not in label:
        return label.lower().encode()
    octets = bytearray()
    at = 0
    while at < len(label):
        if label[at] != "\\":
            octets.append(ord(label[at]))
            at += 1
        elif (digits := label[at + 1 : at + 4]).isdigit() and len(digits) == 3:
            if int(digits) > 255:
                raise BadName(name, "an escape above 255")
            octets.append(int(digits))
            at += 4
        elif at + 1 < len(label):
            octets.append(ord(label[at + 1]))
            at += 2
        else:
            raise BadName(name, "ends in a backslash")
    return bytes(octets).lower()

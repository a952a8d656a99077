"""JSON arrays that arrive in pieces, decoded item by item at a cost that is linear.

A listing of 10,000 containers is 15 MB, and a single label may have 17 MiB.  Each item
is decoded when it is complete, and looked at once until then.  An item that is too long
is skipped, so that it costs its own container and nobody else's answer.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_DOCUMENT = 1 << 20  # octets or characters; some hundred times what a container has
MAX_HEAD = 1 << 14  # characters at the head of a skipped item that are decoded
MAX_SCALAR = 64  # characters of an item that is neither an object, an array nor a text

_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """An item that is too long, or nested too deep.

    Attributes:
        fields: Those at its head that could be decoded; Engines begin with Id and Names.
        reason: Why it was skipped.
    """

    fields: dict[str, Any]
    reason: str


class ArrayDecoder:
    """Decodes a JSON array that arrives in pieces, item by item.

    Attributes:
        is_complete: The end of the array has come; never that of a broken one.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._has_begun = False
        self._is_broken = False
        self._text = ""  # not consumed yet; begins with the item that is incomplete
        self._end: _EndOfValue | None = None  # of that item
        self._skipped: SkippedItem | None = None  # what that item is given as
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, octets: bytes) -> Iterator[Any]:
        """Yield the items that are complete with these octets.

        Raises:
            ValueError: It is no array.
        """
        text = self._text + self._characters.decode(octets)
        at = 0
        while not self.is_complete and not self._is_broken:
            at = at if self._end else _after_blanks(text, at)
            if at == len(text):
                break
            if not self._has_begun:
                if text[at] != "[":
                    raise ValueError("no array")
                self._has_begun = True
                at += 1
            elif self._end is None and text[at] == "]":
                self.is_complete = True
            elif self._end is None and text[at] == ",":
                at += 1
            else:
                found, at = self._item(text, at)
                if not found:
                    break
                yield from found
        self._text = text[at:]

    def _item(self, text: str, at: int) -> tuple[list[Any], int]:
        """Decode the item at an index: return it, unless it is incomplete, and what is consumed."""
        if self._end is None:
            try:
                item, end = _decode(text, at)
            except (ValueError, RecursionError):
                if text[at] not in '{["':
                    self._is_broken = len(text) - at > MAX_SCALAR
                    return [], at
                self._end = _EndOfValue()
            else:
                return [item], end
        after = self._end.find(text, at)
        if after is not None:
            return self._finished(text[at:after]), after
        if self._skipped is None and len(text) - at > MAX_DOCUMENT:
            self._skip(text[at:], f"longer than {MAX_DOCUMENT} characters")
        if self._skipped is None:
            return [], at
        return [], at + self._end.forget()

    def _finished(self, text: str) -> list[Any]:
        """Return the item whose end has come; a text that is no JSON breaks the array."""
        self._end, skipped, self._skipped = None, self._skipped, None
        if skipped is not None:
            return [skipped]
        try:
            return [_decode(text)[0]]
        except ValueError:
            self._is_broken = True
            return []
        except RecursionError:
            return [SkippedItem(_leading_fields(text[:MAX_HEAD]), "nested too deep")]

    def _skip(self, text: str, reason: str) -> None:
        self._skipped = SkippedItem(_leading_fields(text[:MAX_HEAD]), reason)


class _EndOfValue:
    """Finds the end of a JSON object, array or text that arrives in pieces."""

    _IN_TEXT = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
    _STRUCTURE = re.compile(r'["{}\[\]]')

    def __init__(self) -> None:
        self._seen = 0  # characters of the value
        self._depth = 0
        self._is_in_text = False

    def find(self, text: str, begin: int) -> int | None:
        """Return the index after the value that begins at an index; None if it is incomplete."""
        at = begin + self._seen
        while at < len(text):
            if self._is_in_text:
                at = self._IN_TEXT.match(text, at).end()  # type: ignore[union-attr]
                if at == len(text) or text[at] == "\\":
                    break  # what a last backslash escapes is still to come
                self._is_in_text = False
                at += 1
            else:
                found = self._STRUCTURE.search(text, at)
                if found is None:
                    at = len(text)
                    break
                at = found.end()
                self._is_in_text = found[0] == '"'
                self._depth += (found[0] in "{[") - (found[0] in "}]")
            if not self._depth and not self._is_in_text:
                return at
        self._seen = at - begin
        return None

    def forget(self) -> int:
        """Return how many characters have been seen, and go on as if the value began there."""
        seen, self._seen = self._seen, 0
        return seen


def _leading_fields(text: str) -> dict[str, Any]:
    """Return the fields of an object, of which only the head is known, as far as they go."""
    fields: dict[str, Any] = {}
    at = 1
    try:
        while text[0] == "{":
            at = _after_blanks(text, at)
            at = _after_blanks(text, at + (text[at] == ","))
            key, at = _decode(text, at)
            at = _after_blanks(text, at) + 1  # its colon
            fields[str(key)], at = _decode(text, _after_blanks(text, at))
    except (ValueError, IndexError, RecursionError):
        pass  # the rest is cut off
    return fields


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at

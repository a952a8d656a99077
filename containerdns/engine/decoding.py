"""Decoding of JSON arrays that arrive in pieces, item by item in linear time.

A listing of 10,000 containers is 15 MB, and a single label may have 17 MiB.  Each item is
decoded once it is complete, and scanned only once before that.  An item that is too long is
skipped, so that it affects only its own container.
"""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_DOCUMENT = 1 << 20  # octets or characters; about a hundred times the usual size
MAX_HEAD = 1 << 14  # characters at the head of a skipped item to decode
MAX_SCALAR = 64  # characters of an item that is not an object, array or string

_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class SkippedItem:
    """An item that is too long or nested too deeply.

    Attributes:
        fields: Those at its head that could be decoded; Engines begin with Id and Names.
        reason: Why it was skipped.
    """

    fields: dict[str, Any]
    reason: str


class ArrayDecoder:
    """Decodes a JSON array that arrives in pieces, item by item.

    Attributes:
        is_complete: The end of the array was reached; never true for a malformed one.
    """

    def __init__(self) -> None:
        self.is_complete = False
        self._has_begun = False
        self._is_broken = False
        self._text = ""  # not consumed yet; begins with the incomplete item
        self._end: _EndOfValue | None = None  # of that item
        self._skipped: SkippedItem | None = None  # to yield instead of that item
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, octets: bytes) -> Iterator[Any]:
        """Yield the items that these octets complete.

        Raises:
            ValueError: The text is not an array.
        """
        text = self._text + self._characters.decode(octets)
        at = 0
        while not self.is_complete and not self._is_broken:
            at = at if self._end else _after_blanks(text, at)
            if at == len(text):
                break
            if not self._has_begun:
                if text[at] != "[":
                    raise ValueError("not an array")
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
        """Decode the item at an index; return it unless incomplete, and the characters consumed."""
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
        """Return a complete item; invalid JSON makes the array malformed."""
        self._end, skipped, self._skipped = None, self._skipped, None
        if skipped is not None:
            return [skipped]
        try:
            return [_decode(text)[0]]
        except ValueError:
            self._is_broken = True
            return []
        except RecursionError:
            return [SkippedItem(_leading_fields(text[:MAX_HEAD]), "nested too deeply")]

    def _skip(self, text: str, reason: str) -> None:
        self._skipped = SkippedItem(_leading_fields(text[:MAX_HEAD]), reason)


class _EndOfValue:
    """Finds the end of a JSON object, array or string that arrives in pieces."""

    _IN_TEXT = re.compile(r'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
    _STRUCTURE = re.compile(r'["{}\[\]]')

    def __init__(self) -> None:
        self._seen = 0  # characters of the value
        self._depth = 0
        self._is_in_text = False

    def find(self, text: str, begin: int) -> int | None:
        """Return the index after the value that starts at an index; None if it is incomplete."""
        at = begin + self._seen
        while at < len(text):
            if self._is_in_text:
                at = self._IN_TEXT.match(text, at).end()  # type: ignore[union-attr]
                if at == len(text) or text[at] == "\\":
                    break  # the character after a final backslash is still missing
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
        """Return the number of characters seen, and continue as if the value began there."""
        seen, self._seen = self._seen, 0
        return seen


def _leading_fields(text: str) -> dict[str, Any]:
    """Return the complete fields at the head of a truncated object."""
    fields: dict[str, Any] = {}
    at = 1
    try:
        while text[0] == "{":
            at = _after_blanks(text, at)
            at = _after_blanks(text, at + (text[at] == ","))
            key, at = _decode(text, at)
            at = _after_blanks(text, at) + 1  # the colon
            fields[str(key)], at = _decode(text, _after_blanks(text, at))
    except (ValueError, IndexError, RecursionError):
        pass  # truncated
    return fields


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at

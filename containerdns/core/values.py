"""Changed copies of frozen values."""

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")

_put = object.__setattr__


def with_fields(value: T, **fields: Any) -> T:
    """Return a copy of a frozen dataclass that has slots, with other values of some fields.

    The same as `dataclasses.replace`, in a fraction of its time, as the fields are known to be
    the slots.  Not for classes that check their fields (`__post_init__`).

    Raises:
        AttributeError: There is no such field.
    """
    kind = value.__class__
    copy = object.__new__(kind)
    names, values_of = _slots_of(kind)  # type: ignore[arg-type]  # classes are hashable
    for name, field in zip(names, values_of(value), strict=True):
        _put(copy, name, field)
    for name, other in fields.items():
        _put(copy, name, other)
    return copy


@cache
def _slots_of(kind: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """Return the slots of a class with several, and what reads all of them."""
    names: tuple[str, ...] = kind.__slots__  # type: ignore[attr-defined]  # see above
    return names, attrgetter(*names)

"""Changed copies of frozen values."""

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
    copy: T = object.__new__(value.__class__)
    names: tuple[str, ...] = value.__slots__  # type: ignore[attr-defined]  # see above
    for name in names:
        _put(copy, name, getattr(value, name))
    for name, other in fields.items():
        _put(copy, name, other)
    return copy

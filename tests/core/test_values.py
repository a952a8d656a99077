"""Changed copies of frozen values."""

from dataclasses import fields, replace
from typing import Any

import pytest

from containerdns.core.values import with_fields
from containerdns.core.zone.containers import Attachment, Container
from containerdns.core.zone.policy import Publication

VALUES: tuple[Any, ...] = (
    Attachment("frontend", "1" * 64, ("172.18.0.2",)),
    Container("2" * 64, "web", "unix:///docker.sock", "running", hostname="www"),
    Publication("2" * 64, "web", ttl=7, addresses=()),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_fields_change_as_with_replace(value: Any) -> None:
    for field in fields(value):
        changed = with_fields(value, **{field.name: "other"})
        assert changed == replace(value, **{field.name: "other"}) != value
        assert getattr(changed, field.name) == "other"
    assert with_fields(value) == value


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(AttributeError):
        with_fields(VALUES[0], colour="blue")

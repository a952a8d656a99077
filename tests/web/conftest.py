"""Fixtures: the private Engine, for the page of the whole program."""

from tests.engine.conftest import dockerd, engine  # noqa: F401 - pytest finds them by name here

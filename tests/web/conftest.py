"""A fixture: the browser ends with the last test that may use it."""

from collections.abc import Iterator

import pytest

from tests.web.browsing import shared_browser


@pytest.fixture(scope="session", autouse=True)
def browser_ends(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the shared browser, if one was started, before what is left is looked for."""
    request.getfixturevalue("nothing_is_left_behind")
    yield
    shared_browser.close()

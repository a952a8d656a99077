"""What the log looks like, in both forms."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from containerdns import logs

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
QUERY = {"client": "192.0.2.1", "name": "web.", "type": "A", "rcode": "NOERROR", "ms": 0.02}

log = logging.getLogger("containerdns.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_begins_with_the_time_and_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """RFC 3339, in UTC; a name with a line end must not look like another line."""
    logs.configure("info", "text")
    log.warning("no container %s", "web\nERROR forged")
    time, rest = capsys.readouterr().err.split(" ", 1)
    assert RFC_3339.fullmatch(time)
    assert rest == "WARNING no container web?ERROR forged\n"


def test_json_has_the_fields_of_a_line_beside_its_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("info", "json")
    log.info("query %s", "web.", extra={"fields": QUERY | {"level": "never", "time": "never"}})
    line = json.loads(capsys.readouterr().err)
    assert {key: line[key] for key in QUERY} == QUERY
    assert (line["level"], line["message"]) == ("info", "query web.")
    assert RFC_3339.fullmatch(line["time"])


def test_json_has_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        int("no number")
    except ValueError:
        log.exception("internal error")
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "error"
    assert line["traceback"].splitlines()[-1].startswith("ValueError: invalid literal")

"""The description of the interface: complete, and true (by schemathesis, on a live server)."""

import asyncio
import json
import re
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from containerdns.core.counters import Counters
from containerdns.core.protocol.messages import type_number
from containerdns.web.http import Paths
from containerdns.web.metrics import Metrics
from containerdns.web.stream import Rates
from tests.web.fake import FakeState
from tests.web.screenshots import busy_state
from tests.web.serving import Site, running_site, with_site

SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
STREAMING = "/(events|queries|changes)"  # endless, if asked to; the second is tried by itself


def description() -> Any:
    return json.loads((resources.files("containerdns.web") / "static/openapi.json").read_text())


def test_every_path_is_described_and_no_other() -> None:
    state, counters = FakeState(), Counters()
    paths = Paths(state, Metrics(counters, state.gauges), Rates(counters))
    assert set(description()["paths"]) == set(paths.handlers())


def test_every_reference_leads_somewhere() -> None:
    document = description()
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
        place = document
        for step in reference.split("/"):
            place = place[step]
        assert place


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/zone?format=json", "Zone"),
        ("/explain?name=vpn", "Explanation"),
        ("/queries", "Queries"),
        ("/changes", "Changes"),
        ("/containers", "Containers"),
        ("/status", "Status"),
        ("/client-config", "ClientConfig"),
    ],
)
def test_documents_have_no_key_that_is_not_described(path: str, schema: str) -> None:
    """The required ones schemathesis wants; these would be forgotten silently."""

    async def test(site: Site) -> None:
        assert set(await site.json(path)) <= set(schemas[schema]["properties"])

    schemas = description()["components"]["schemas"]
    with_site(test, busy_state())


def test_types_that_are_described_are_known() -> None:
    parameters = description()["paths"]["/explain"]["get"]["parameters"]
    (types,) = [p["schema"]["anyOf"][0]["enum"] for p in parameters if p["name"] == "type"]
    assert [text for text in types if type_number(text) is None] == []
    assert {"A", "AAAA", "HTTPS", "SRV"} <= set(types)


@pytest.mark.skipif(SCHEMATHESIS is None, reason="schemathesis is not installed")
async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Of HEAD, test_http says that it has the status and the headers of GET."""
    async with running_site(busy_state()) as site:
        found = await asyncio.create_subprocess_exec(
            *(str(SCHEMATHESIS), "run", site.url + "/openapi.json"),
            *("--exclude-path-regex", STREAMING, "--exclude-method", "HEAD"),
            *("--phases", "examples,fuzzing"),  # of coverage, see test_whole
            *("--max-examples", "25", "--seed", "1", "--request-timeout", "60", "--no-color"),
            *("--suppress-health-check", "all"),  # of how fast a machine is
            stdout=asyncio.subprocess.PIPE,
            cwd=tmp_path,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(found.communicate(), 600)
        assert found.returncode == 0, output.decode()
        assert site.counters.internal_errors == 0

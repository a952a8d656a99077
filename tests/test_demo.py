"""`make demo` still tells the story that docs/demo.txt does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.resolvers import lack, program
from tests.engine.dockerd import CannotStart, require_machine

RECORDED = Path(__file__).parents[1] / "docs/demo.txt"
VARYING = (
    (r"\b10\.\d+\.", "10.0."),  # the network that is free
    (r"(?m)^[0-9a-f]{12}$", "ID"),
    (r"\. (5[5-9]\d|600) IN A", ". 600 IN A"),
    (r"\. 863\d\d IN SOA|\. 86400 IN SOA", ". 86400 IN SOA"),
    (r"hostmaster\.docker\. \d+", "hostmaster.docker. SERIAL"),
)


def told(text: str) -> list[str]:
    """The lines, without what differs from run to run."""
    for pattern, constant in VARYING:
        text = re.sub(pattern, constant, text)
    return text.strip().splitlines()


@pytest.mark.engine
@pytest.mark.slow
def test_demo_tells_what_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: on a second Engine, and without time to read."""
    try:
        require_machine()
    except CannotStart as fault:
        lack(str(fault))
    for needed in ("dnsmasq", "curl", "dig", "docker-compose"):
        program(needed)
    monkeypatch.setenv("DEMO_PAUSE", "0")
    command = [sys.executable, "-m", "tests.demo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert told(done.stdout) == told(RECORDED.read_text())

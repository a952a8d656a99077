"""A real Knot and BIND that consume the catalog zone: nothing is configured there but its name."""

import signal
import subprocess
from pathlib import Path

import pytest

from containerdns.core.zone.catalog import CATALOG
from tests.engine.running import free_port, serving
from tests.fleet.running import quiet_engine
from tests.server import secondaries
from tests.timing import wait_until

pytestmark = pytest.mark.engine


def soa_of(port: int, zone: str) -> str:
    """The SOA of a zone at a server of loopback; "" without one."""
    command = ["dig", "@127.0.0.1", "-p", str(port), "+short", "+time=1", "+tries=1", zone, "SOA"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@pytest.mark.parametrize("program", sorted(secondaries.OF_CATALOGS))
def test_new_domain_appears_at_a_secondary_that_knows_the_catalog_alone(
    tmp_path: Path, program: str
) -> None:
    """RFC 9432; and one that is taken away goes."""
    port = free_port()
    config = tmp_path / "containerdns.toml"
    config.write_text('domain = ["docker"]\n')
    with (
        quiet_engine(tmp_path) as engine,
        serving("--config", str(config), "--notify", f"127.0.0.1:{port}", docker=engine) as server,
        secondaries.following(secondaries.OF_CATALOGS[program], tmp_path, port, [server.port]),
    ):
        wait_until(lambda: soa_of(port, "docker"))
        assert server.rcode(CATALOG, "SOA") == "NOERROR"
        config.write_text('domain = ["docker", "corp.example"]\n')
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: soa_of(port, "corp.example"))
        config.write_text('domain = ["docker"]\n')
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: not soa_of(port, "corp.example"))
        assert soa_of(port, "docker")

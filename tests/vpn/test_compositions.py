"""Compose reads every Compose file of deploy/."""

from pathlib import Path

import pytest

from tests.vpn.networks import DEPLOY, compose, run

FILES = sorted(DEPLOY.rglob("compose*.yaml"))
SETTINGS = dict.fromkeys(
    (
        *("DOCKER_GID", "VPN_IPSEC_PSK", "VPN_USER", "VPN_PASSWORD", "GRAFANA_PASSWORD"),
        *("FLEET_ETCD", "FLEET_HOST", "FLEET_ADDRESS", "FLEET_A", "FLEET_B", "FLEET_C"),
    ),
    "999",
)


def test_there_are_compositions() -> None:
    assert len(FILES) >= 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_compose_accepts_the_file(file: Path) -> None:
    run(*compose(), "-f", file, "config", "--quiet", environment=SETTINGS)

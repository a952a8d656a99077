"""Servers of others that copy our zones: their configurations, and how they are started."""

from collections.abc import Sequence
from pathlib import Path

ZONES = ("docker",)
SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def nsd(
    folder: Path, port: int, primary_port: int, has_key: bool, zones: Sequence[str] = ZONES
) -> list[str]:
    """NSD, which answers on a port of loopback and follows zones of a server there."""
    key = "transfer.docker." if has_key else "NOKEY"
    path = folder / "nsd.conf"
    path.write_text(
        f"""
server:
    ip-address: 127.0.0.1@{port}
    port: {port}
    username: ""
    chroot: ""
    database: ""
    zonesdir: "{folder}"
    pidfile: "{folder}/nsd.pid"
    xfrdfile: "{folder}/xfrd.state"
    xfrdir: "{folder}"
    zonelistfile: "{folder}/zone.list"
    server-count: 1
    xfrd-reload-timeout: 0
remote-control:
    control-enable: no
key:
    name: "transfer.docker."
    algorithm: hmac-sha256
    secret: "{SECRET}"
"""
        + "".join(
            f"""
zone:
    name: "{zone}"
    zonefile: "{zone}.zone"
    request-xfr: 127.0.0.1@{primary_port} {key}
    allow-notify: 127.0.0.1 {key}
"""
            for zone in zones
        )
    )
    return ["nsd", "-d", "-c", str(path)]


def knot(
    folder: Path, port: int, primary_port: int, has_key: bool, zones: Sequence[str] = ZONES
) -> list[str]:
    """Knot, likewise."""
    key = "    key: transfer.docker.\n" if has_key else ""
    path = folder / "knot.conf"
    path.write_text(
        f"""
server:
    listen: 127.0.0.1@{port}
    rundir: "{folder}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
key:
  - id: transfer.docker.
    algorithm: hmac-sha256
    secret: {SECRET}
remote:
  - id: primary
    address: 127.0.0.1@{primary_port}
{key}
acl:
  - id: notify
    address: 127.0.0.1
    action: notify
{key}
zone:
"""
        + "".join(
            f"""
  - domain: {zone}.
    storage: "{folder}"
    master: primary
    acl: notify
"""
            for zone in zones
        )
    )
    return ["knotd", "-c", str(path)]


def bind(
    folder: Path, port: int, primary_port: int, has_key: bool, zones: Sequence[str] = ZONES
) -> list[str]:
    """BIND, likewise."""
    key = ' key "transfer.docker."' if has_key else ""
    notify = key or "127.0.0.1"
    path = folder / "named.conf"
    path.write_text(
        f"""
options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file "{folder}/named.pid";
    session-keyfile "{folder}/session.key";
    managed-keys-directory "{folder}";
    recursion no;
    dnssec-validation no;
    notify no;
}};
controls {{ }};
key "transfer.docker." {{ algorithm hmac-sha256; secret "{SECRET}"; }};
"""
        + "".join(
            f"""
zone "{zone}" {{
    type secondary;
    file "{zone}.zone";
    primaries {{ 127.0.0.1 port {primary_port}{key}; }};
    allow-notify {{ {notify}; }};
}};
"""
            for zone in zones
        )
    )
    return ["named", "-f", "-n", "1", "-c", str(path)]


COMMANDS = {"knotd": knot, "named": bind, "nsd": nsd}

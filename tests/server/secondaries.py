"""Servers of others that copy our zones: their configurations, and how they are started."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from containerdns.core.zone.catalog import CATALOG
from tests.clients.resolvers import lack

ZONES = ("docker",)
SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def nsd(
    folder: Path, port: int, primary_port: int, has_key: bool, zones: Sequence[str] = ZONES
) -> list[str]:
    """NSD, which answers on a port of loopback and follows zones of a server there."""
    return _nsd(folder, port, [primary_port], has_key, zones)


def nsd_of_primaries(folder: Path, port: int, primary_ports: Sequence[int]) -> list[str]:
    """NSD with several primaries; it consumes no catalog."""
    return _nsd(folder, port, primary_ports, False, ZONES)


def _nsd(
    folder: Path, port: int, primary_ports: Sequence[int], has_key: bool, zones: Sequence[str]
) -> list[str]:
    key = "transfer.docker." if has_key else "NOKEY"
    path = folder / "nsd.conf"
    requests = "".join(f"    request-xfr: 127.0.0.1@{p} {key}\n" for p in primary_ports)
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
{requests}
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
        _knot_head(folder, port)
        + f"""
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
        _bind_options(folder, port)
        + f"""
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


def _knot_head(folder: Path, port: int) -> str:
    return f"""
server:
    listen: 127.0.0.1@{port}
    rundir: "{folder}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
"""


def _bind_options(folder: Path, port: int) -> str:
    """The options, which are not closed yet."""
    return f"""
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
"""


COMMANDS = {"knotd": knot, "named": bind, "nsd": nsd}


def knot_of_catalog(folder: Path, port: int, primary_ports: Sequence[int]) -> list[str]:
    """Knot, which knows the catalog zone and nothing else; the first primary is asked first."""
    path = folder / "knot.conf"
    remotes = "".join(
        f"  - id: primary{n}\n    address: 127.0.0.1@{p}\n" for n, p in enumerate(primary_ports)
    )
    masters = ", ".join(f"primary{n}" for n in range(len(primary_ports)))
    path.write_text(
        _knot_head(folder, port)
        + f"""
remote:
{remotes}
acl:
  - id: notify
    address: 127.0.0.1
    action: notify
template:
  - id: default
    storage: "{folder}"
    master: [{masters}]
    acl: notify
  - id: member
    storage: "{folder}"
    master: [{masters}]
    acl: notify
zone:
  - domain: {CATALOG}
    catalog-role: interpret
    catalog-template: member
log:
  - target: stderr
    any: info
"""
    )
    return ["knotd", "-c", str(path)]


def bind_of_catalog(folder: Path, port: int, primary_ports: Sequence[int]) -> list[str]:
    """BIND, likewise."""
    path = folder / "named.conf"
    primaries = "".join(f"127.0.0.1 port {p}; " for p in primary_ports)
    path.write_text(
        _bind_options(folder, port)
        + f"""
    catalog-zones {{
        zone "{CATALOG}" default-primaries {{ {primaries}}} min-update-interval 1;
    }};
}};
controls {{ }};
zone "{CATALOG}" {{
    type secondary;
    file "catalog.zone";
    primaries {{ {primaries}}};
}};
"""
    )
    return ["named", "-g", "-n", "1", "-c", str(path)]


OF_CATALOGS = {"knotd": knot_of_catalog, "named": bind_of_catalog}
OF_PRIMARIES = {**OF_CATALOGS, "nsd": nsd_of_primaries}


@contextlib.contextmanager
def following(
    make: Callable[[Path, int, Sequence[int]], list[str]],
    folder: Path,
    port: int,
    primary_ports: Sequence[int],
) -> Iterator[Path]:
    """Run a secondary of the catalog; where its log is."""
    command = make(folder, port, primary_ports)
    shutil.which(command[0]) or lack(f"{command[0]} is not installed")
    path = folder / "secondary.log"
    with path.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield path
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""NSD and Knot on loopback, each with the zones that we wrote for it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.engine.running import free_port

PATIENCE = 60.0  # seconds for a server to answer first, on a busy machine

NSD = """
server:
    ip-address: 127.0.0.1@{port}
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: "{folder}/nsd.pid"
    xfrdfile: "{folder}/xfrd.state"
    zonelistfile: "{folder}/zone.list"
    xfrdir: "{folder}"
    logfile: "{folder}/nsd.log"
    minimal-responses: yes
    rrl-ratelimit: 0
remote-control:
    control-enable: no
"""
NSD_ZONE = """
zone:
    name: "{apex}"
    zonefile: "{file}"
"""
KNOT = """
server:
    listen: 127.0.0.1@{port}
    rundir: "{folder}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
log:
  - target: "{folder}/knot.log"
    any: info
zone:
"""
KNOT_ZONE = """
  - domain: "{apex}"
    file: "{file}"
    semantic-checks: on
"""


def are_installed() -> bool:
    """Return whether both servers are installed."""
    return all(_program(name) for name in ("nsd", "knotd"))


def _program(name: str) -> str | None:
    return shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/sbin")


@contextmanager
def serving(zones: Mapping[str, str], folder: Path) -> Iterator[dict[str, int]]:
    """Run both with these zones, text by apex; give their ports.

    Raises:
        AssertionError: One of them does not take a zone.
    """
    files = {}
    for number, (apex, text) in enumerate(zones.items()):
        file = folder / f"zone{number}"
        file.write_text(text, encoding="utf-8")
        files[apex] = file
    processes = []
    ports = {}
    try:
        for name, program, config in (("nsd", "nsd", NSD), ("knot", "knotd", KNOT)):
            ports[name] = free_port()
            own = folder / name
            own.mkdir()
            zone = NSD_ZONE if name == "nsd" else KNOT_ZONE
            text = config.format(port=ports[name], folder=own)
            text += "".join(zone.format(apex=a, file=f) for a, f in files.items())
            (own / "config").write_text(text, encoding="utf-8")
            path = _program(program)
            assert path is not None
            flags = ["-d"] if name == "nsd" else []
            processes.append(
                subprocess.Popen(
                    [path, *flags, "-c", str(own / "config")],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        for name, port in ports.items():
            for apex in zones:
                _wait_for(apex, port, folder / name / f"{name}.log")
        yield ports
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(PATIENCE)


def ask(port: int, data: bytes) -> bytes:
    """Ask over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        client.send(data)
        return client.recv(65535)


def _wait_for(apex: str, port: int, log: Path) -> None:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in apex.split(".") if part)
    query = b"\0\1\0\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\6\0\1"
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            response = ask(port, query)
        except OSError:
            time.sleep(0.05)
            continue
        if not response[3] & 0xF and response[7]:
            return
        time.sleep(0.05)
    told = log.read_text(encoding="utf-8") if log.exists() else "no log"
    raise AssertionError(f"{apex} is not served: {told}")

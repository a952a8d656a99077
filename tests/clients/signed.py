"""A small signed Internet: a root, the top-level domain `app`, and who serves them.

A validating resolver that asks us needs a chain of trust, and ours may not break it; the
real root is not at hand in a test.
"""

import contextlib
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dnslib

from tests.clients.resolvers import program, started
from tests.engine.running import free_port

SOA = "@ 86400 IN SOA ns.test. hostmaster.test. 1 1800 900 604800 86400\n@ 86400 IN NS ns.app.\n"
ROOT = SOA + "app. 86400 IN NS ns.app.\nns.app. 86400 IN A 127.0.0.1\n"
APP = SOA + "ns 300 IN A 127.0.0.1\nsite 300 IN A 127.0.0.9\n"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed Internet that is served.

    Attributes:
        port: Of its only name server, on 127.0.0.1; behind it stands one who notes.
        anchor: The root's key, as a resolver wants it.
        asked: The names that came, lower case; the latest last.
    """

    port: int
    anchor: str
    asked: list[str]


@contextlib.contextmanager
def signed_internet(folder: Path) -> Iterator[Signed]:
    """Sign the zones and serve them with NSD, on a port that is free."""
    app_key = _sign(folder, "app.", "app", APP)
    delegation = (folder / "dsset-app.").read_text()
    root_key = _sign(folder, ".", "root", ROOT + delegation)
    assert app_key != root_key
    port = free_port()
    configuration = folder / "nsd.conf"
    configuration.write_text(
        f'server:\n  ip-address: 127.0.0.1@{port}\n  username: ""\n  zonesdir: "{folder}"\n'
        f'  pidfile: ""\n  zonelistfile: "{folder}/list"\n  xfrdfile: ""\n  xfrdir: "{folder}"\n'
        f'  database: ""\n  logfile: "{folder}/log"\n  server-count: 1\n'
        "remote-control:\n  control-enable: no\n"
        'zone:\n  name: "."\n  zonefile: "root.signed"\n'
        'zone:\n  name: "app."\n  zonefile: "app.signed"\n'
    )
    asked: list[str] = []
    words = [program("nsd"), "-d", "-c", str(configuration)]
    with started(words, lambda: _answers(port)), _noting(port, asked) as door:
        yield Signed(door, root_key, asked)


@contextlib.contextmanager
def _noting(port: int, asked: list[str]) -> Iterator[int]:
    """A port before a server's, which notes the names that pass."""
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind(("127.0.0.1", 0))
    ended, end = socket.socketpair()

    def serve() -> None:
        while ended not in (readable := select.select([door, ended], [], [])[0]):
            assert readable
            query, client = door.recvfrom(4096)
            name = str(dnslib.DNSRecord.parse(query).q.qname).lower()
            if ".loop-" not in name:
                asked.append(name)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
                inner.settimeout(10)
                inner.sendto(query, ("127.0.0.1", port))
                with contextlib.suppress(OSError):
                    door.sendto(inner.recv(4096), client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        end.close()
        thread.join(5)
        door.close()
        ended.close()


def _sign(folder: Path, origin: str, file: str, text: str) -> str:
    """Sign a zone with a new key; give the key, in one line."""
    making = [program("dnssec-keygen"), "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", origin]
    key = folder / _output(folder, *making).strip()
    (folder / file).write_text(text + key.with_name(key.name + ".key").read_text())
    signing = [program("dnssec-signzone"), "-z", "-O", "full", "-o", origin]
    _output(folder, *signing, "-f", f"{file}.signed", file, key.name)
    lines = key.with_name(key.name + ".key").read_text().splitlines()
    return next(line for line in lines if not line.startswith(";"))


def _output(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        dnslib.DNSRecord.question("app", "NS").send("127.0.0.1", port, timeout=1)
        return True
    return False

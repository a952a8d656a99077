"""How NSD, Knot and BIND follow a large zone that changes, and how long others wait.

    python -m tests.bench.secondaries [--containers N] [--events PER_SECOND] [--seconds N]

Each of the three copies the domain and a reverse zone, and is notified.  Meanwhile a client
sends 1,000 queries a second over UDP (`tests.bench.steady`).  The server has one CPU, the
secondaries and the Engine the other.  The containers are simulated; see `tests.engine.simulated`.
"""

import argparse
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dnslib import DNSRecord

from tests.bench import peers, steady
from tests.bench.peers import CLIENT_CPU
from tests.bench.scale import settle
from tests.engine.running import Running, free_port
from tests.engine.simulated import SimulatedEngine
from tests.server import secondaries

ALONE = 5.0  # seconds of queries before any secondary comes
ZONES = ("docker", "200.31.172.in-addr.arpa")
CATCHING_UP = 2.0  # seconds after the last has the domain
PATIENCE = 240.0  # seconds for a secondary to have a zone
TRANSFER = re.compile(r"(AXFR|IXFR) of (\S+)\. to \S+: ([a-z ]+), ")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=10_000)
    parser.add_argument("--events", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.containers, options.events, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def measure(containers: int, events: float, seconds: float) -> list[dict[str, Any]]:
    """Let secondaries come one after the other while the zone changes; print what happened."""
    names = [name for name in sorted(secondaries.COMMANDS) if shutil.which(name)]
    ports = {name: free_port() for name in names}
    notify = [word for port in ports.values() for word in ("--notify", f"127.0.0.1:{port}")]
    with tempfile.TemporaryDirectory() as folder, engine(Path(folder), containers, events) as url:
        options = ("--host-address", "192.0.2.1", "--rate-limit", "0", *notify)
        with Running(*options, docker=url) as server:
            settle(server.pid)
            peers.give_core(server.pid)
            return list(_measure(server, ports, Path(folder), seconds))


def _measure(
    server: Running, ports: dict[str, int], folder: Path, seconds: float
) -> Iterator[dict[str, Any]]:
    with steady.echo() as floor:
        yield _row("a bare echo", *steady.measured_beside(floor.port, ALONE))
    yield _row("nobody copies", *steady.measured_beside(server.port, ALONE))
    with contextlib.ExitStack() as stack:
        finish = stack.enter_context(steady.machine())
        asking = steady.Client(server.port)
        for name, port in ports.items():
            stack.enter_context(secondary(name, folder, port, server.port))
            wait_for(port)
        time.sleep(CATCHING_UP)
        yield _row(f"{', '.join(ports)} copy all", asking.finish(), finish())
        _, begun = transfers(server)
        row = _row("the same follow", *steady.measured_beside(server.port, seconds))
        seen, _ = transfers(server, begun)
        behind = {name: serial(server.port) - serial(port) for name, port in ports.items()}
        print(f"{dict(seen)}; serials behind: {behind}")
        yield row | {"transfers": seen, "behind": behind}


def _row(what: str, taken: list[float], machine: list[float]) -> dict[str, Any]:
    of_machine = steady.summary(machine)["p99.9"]
    row = {"what": what, **steady.summary(taken), "machine p99.9": of_machine}
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def transfers(server: Running, after: int = 0) -> tuple[Counter[str], int]:
    """The transfers in a server's log, by kind, from a place in it; and where it ends."""
    log = server.log()
    found = TRANSFER.finditer(log, after)
    return Counter(f"{m[1]} of {m[2]}: {m[3]}" for m in found), len(log)


def serial(port: int) -> int:
    """The serial of the domain at a server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1.0)
        client.connect(("127.0.0.1", port))
        client.send(bytes(DNSRecord.question("docker", "SOA").pack()))
        answer = DNSRecord.parse(client.recv(4096)).rr
    return int(answer[0].rdata.times[0]) if answer else 0


def wait_for(port: int) -> None:
    """Wait until a secondary has the domain."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if serial(port):
                return
        time.sleep(0.1)
    raise AssertionError("the secondary does not have the zone")


@contextlib.contextmanager
def secondary(name: str, folder: Path, port: int, primary: int) -> Iterator[None]:
    """Run one of the others' servers."""
    own = folder / name
    own.mkdir()
    command = secondaries.COMMANDS[name](own, port, primary, False, ZONES)
    with running(command):
        yield


@contextlib.contextmanager
def engine(folder: Path, containers: int, events: float) -> Iterator[str]:
    """Run a simulated Engine in a process of its own; its URL."""
    path = folder / "docker.sock"
    program = [sys.executable, "-m", "tests.engine.simulated", str(path)]
    with running([*program, "--containers", str(containers), "--churn", str(events / 2)]):
        while not path.exists():
            time.sleep(0.05)
        yield SimulatedEngine(path).url


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[None]:
    """Run a program until the end of the block."""
    command = ["taskset", "-c", CLIENT_CPU, *command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

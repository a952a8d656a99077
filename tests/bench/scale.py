"""What 100 and 10,000 containers cost, with a simulated Engine (documents of a real one).

    python -m tests.bench.scale [--json FILE]

Time to the first answer and to all names, resident memory, CPU per event, and how long
answers take at 1,000 queries a second while everything is compared with a full listing.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dnslib import DNSRecord

from tests.bench import steady
from tests.bench.peers import SERVER_CPU, resident_mb
from tests.engine.running import Client, Running

FEW, MANY = 100, 10_000  # containers
TICK = os.sysconf("SC_CLK_TCK")
PATIENCE = 60.0  # seconds
QUIET = 0.25  # seconds of CPU in a second; what churn alone needs is less
COMPARISON = 65.0  # seconds, in which there is one full comparison
CHURN = 50  # containers that come and go, a second
CHURN_SECONDS = 10.0
RELOADING = 5.0  # seconds
QUESTION = bytes(DNSRecord.question("web-1.docker").pack())


def main() -> None:
    """Measure, print a table, and write JSON if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, default=MANY, help="containers, beside 100")
    parser.add_argument("--comparison", type=float, default=COMPARISON, help="seconds of queries")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = [measure(FEW, 0.0), measure(options.many, options.comparison)]
    for row in found:
        for what, value in row.items():
            print(f"{row['containers']:>6} containers  {what:34} {value}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def measure(count: int, comparison: float) -> dict[str, Any]:
    """All figures of one number of containers.

    Args:
        count: Containers.
        comparison: Seconds of queries, in which there should be a full comparison; 0 for no
            queries.
    """
    row: dict[str, Any] = {"containers": count}
    with tempfile.TemporaryDirectory() as folder, engine(Path(folder), count, 0) as url:
        started = time.monotonic()
        with Running(docker=url, ready=False) as server:
            row["first answer, s"] = round(_until_answered(server) - started, 3)
            _until_ready(server)
            row["all listed, s"] = round(time.monotonic() - started, 3)
            settle(server.pid)
            row["resident, MB"] = round(resident_mb(server.pid), 1)
            if comparison:
                row |= _delays(server, comparison)
    with (
        tempfile.TemporaryDirectory() as folder,
        engine(Path(folder), count, CHURN) as url,
        Running(docker=url) as server,
    ):
        settle(server.pid)
        events, cpu = server.metric("docker_events_total"), _cpu(server.pid)
        time.sleep(CHURN_SECONDS)
        cpu = _cpu(server.pid) - cpu
        events = server.metric("docker_events_total") - events
        row["CPU per event, ms"] = round(cpu / events * 1000, 3)
        row["resident under churn, MB"] = round(resident_mb(server.pid), 1)
    return row


def _delays(server: Running, comparison: float) -> dict[str, float]:
    """How long answers take while everything is compared, and after a reload."""
    os.sched_setaffinity(server.pid, {int(SERVER_CPU)})
    comparing = _longest(server, comparison)
    server.send_signal(signal.SIGHUP)
    return {
        "answers at 1,000/s while comparing, p99.9, ms": comparing,
        "answers at 1,000/s while reloading, p99.9, ms": _longest(server, RELOADING),
    }


def _longest(server: Running, seconds: float) -> float:
    """The 99.9th percentile of how long answers take, in milliseconds."""
    return steady.summary(steady.measured(server.port, seconds))["p99.9"]


def settle(pid: int) -> None:
    """Wait until everything was inspected: little CPU is used in a second."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        before = _cpu(pid)
        time.sleep(1.0)
        if _cpu(pid) - before < QUIET:
            return


@contextlib.contextmanager
def engine(folder: Path, count: int, churn: int) -> Iterator[str]:
    """A simulated Engine in a process of its own; gives its URL."""
    socket = folder / "engine.sock"
    command = [sys.executable, "-m", "tests.engine.simulated", str(socket)]
    command += ["--containers", str(count), "--churn", str(churn)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def _until_answered(server: Running) -> float:
    client = Client(server.port)
    until = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until:
            if client.ask_octets(QUESTION)[7]:
                return time.monotonic()
            time.sleep(0.002)
    finally:
        client.close()
    raise AssertionError("no answer")


def _until_ready(server: Running) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            server.get("/readyz")
            return
        time.sleep(0.01)
    raise AssertionError("not ready")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


if __name__ == "__main__":
    main()

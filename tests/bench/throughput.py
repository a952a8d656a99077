"""How many queries we answer, beside dnsmasq, Knot and NSD with the same names.

    python -m tests.bench.throughput [--names N]... [--case CASE]... [--json FILE]

Needs dnsperf, and those peers that are to be measured.  Names come from a simulated
Engine.  Servers and dnsperf have a CPU each; the servers are asked in turns, and what
is told is the median of the ratios of each turn, as other work on the machine then
troubles all alike.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dnslib import DNSRecord

TICK = os.sysconf("SC_CLK_TCK")
CASES = ("positive", "nodata", "nxdomain", "mixed", "public", "random")
RANDOM_NAMES = 200_000
PUBLIC_NAMES = 1000
START_PATIENCE = 60.0  # seconds
STOP_PATIENCE = 5.0  # seconds
SERVER_CPU, CLIENT_CPU = "0", "1"


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True)
class Measure:
    """One turn of one server.

    Attributes:
        queries: Answered per second.
        cpu_us: Microseconds of CPU per query.
        lost: Queries without an answer.
    """

    queries: float
    cpu_us: float
    lost: int


def main() -> None:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--names", type=int, action="append", help="containers; default 1000")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--peer", action="append", help="default: dnsmasq, knot and nsd")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--churn", type=float, default=0.0, help="containers that come and go, /s")
    parser.add_argument("--ours", default=f"{sys.executable} -m containerdns serve")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told = []
    for count in options.names or [1000]:
        with tempfile.TemporaryDirectory() as folder:
            told += measure_all(count, Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def measure_all(count: int, folder: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure all cases with so many names."""
    told: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(simulated_engine(folder, count, options.churn))
        upstream = stack.enter_context(running("upstream", knot(folder, {"example": PUBLIC})))
        servers = []
        for name, command in commands(folder, count, engine, upstream.port, options.ours).items():
            is_wanted = name == "containerdns" or name in (options.peer or (name,))
            if is_wanted and shutil.which(command[0]) is not None:
                quiet = 1.0 if options.churn else 0.05  # seconds of CPU in a second
                servers.append(stack.enter_context(running(name, command, quiet)))
        for case in options.case or CASES:
            queries = folder / case
            queries.write_text("".join(f"{line}\n" for line in questions(case, count)))
            asked = [s for s in servers if case != "public" or s.name not in ("knot", "nsd")]
            for server in asked if case != "random" else ():  # every name once, to warm up
                load(server, queries, case, ["-n", "1"])
            length = ["-l", str(options.seconds)]
            turns = [
                {server.name: load(server, queries, case, length) for server in asked}
                for _ in range(options.turns)
            ]
            told += [tell(case, count, server.name, turns) for server in asked]
    return told


def tell(case: str, count: int, name: str, turns: list[dict[str, Measure]]) -> dict[str, object]:
    """Print what a server came to, and how we compare."""
    both = ("containerdns", name)  # dnsperf may have had no CPU
    turns = [turn for turn in turns if all(turn[each].queries >= 1 for each in both)]
    mine = [turn[name] for turn in turns]
    ratios = [turn["containerdns"].queries / turn[name].queries for turn in turns]
    cpu_ratios = [turn["containerdns"].cpu_us / turn[name].cpu_us for turn in turns]
    result = {
        "case": case,
        "names": count,
        "server": name,
        "queries": round(statistics.median(turn.queries for turn in mine)),
        "cpu_us": round(statistics.median(turn.cpu_us for turn in mine), 2),
        "lost": sum(turn.lost for turn in mine),
        "our_queries_ratio": round(statistics.median(ratios), 2),
        "our_cpu_ratio": round(statistics.median(cpu_ratios), 2),
        "turns": [asdict(turn) for turn in mine],
    }
    print(
        f"{case:9} {count:6} {name:13} {result['queries']:8}/s {result['cpu_us']:7} us"
        f"   ours: {result['our_queries_ratio']:5} times the queries,"
        f" {result['our_cpu_ratio']:5} times the CPU"
        + (f"   LOST {result['lost']}" if result["lost"] else ""),
        flush=True,
    )
    return result


def questions(case: str, count: int) -> Iterator[str]:
    """What dnsperf asks, line by line."""
    match case:
        case "positive":
            yield from (f"web-{n}.docker A" for n in range(count))
        case "nodata":
            yield from (f"web-{n}.docker AAAA" for n in range(count))
        case "nxdomain":
            yield from (f"missing-{n}.docker A" for n in range(1000))
        case "mixed":
            for n in range(count):
                yield from (f"web-{n}.docker A", f"web-{n}.docker AAAA")
                if n % 10 == 0:
                    yield f"missing-{n % 1000}.docker A"
        case "public":
            yield from (f"www{n}.example A" for n in range(PUBLIC_NAMES))
        case "random":
            yield from (f"x{n:x}.docker A" for n in range(RANDOM_NAMES))


def load(server: Server, queries: Path, case: str, length: list[str]) -> Measure:
    """Ask a server with eight clients, for as long as dnsperf's options tell."""
    before = cpu_seconds(server.pid)
    command = ["taskset", "-c", CLIENT_CPU, "dnsperf", "-s", "127.0.0.1", "-p", str(server.port)]
    command += ["-d", str(queries), "-c", "8", "-T", "1", *length]
    command += ["-e"] if case == "mixed" else []
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = cpu_seconds(server.pid) - before
    completed = int(_found(r"Queries completed:\s+(\d+)", done))
    return Measure(
        float(_found(r"per second:\s+([\d.]+)", done)),
        used / max(completed, 1) * 1e6,
        int(_found(r"Queries lost:\s+(\d+)", done)),
    )


PUBLIC = "".join(f"www{n} A 192.0.2.{n % 250}\n" for n in range(PUBLIC_NAMES))


def commands(
    folder: Path, count: int, engine: str, upstream_port: int, ours: str
) -> dict[str, list[str]]:
    """How each server is started, on a port that stands in for `PORT`."""
    hosts = folder / "hosts"
    addresses = [f"172.28.{n + 1 >> 8}.{n + 1 & 255}" for n in range(count)]
    hosts.write_text("".join(f"{a} web-{n}.docker\n" for n, a in enumerate(addresses)))
    records = "".join(f"web-{n} A {address}\n" for n, address in enumerate(addresses))
    dnsmasq = (
        f"dnsmasq --no-daemon --no-resolv --no-hosts --addn-hosts={hosts} --port=PORT"
        f" --conf-file=/dev/null --local=/docker/ --local-ttl=5 --cache-size=10000"
        f" --server=127.0.0.1#{upstream_port} --user=root --pid-file={folder}/dnsmasq.pid"
    )
    mine = (
        f"{ours} --http off --docker {engine} --listen 0.0.0.0:PORT"
        f" --upstream 127.0.0.1:{upstream_port}"
    )
    peers = folder / "peers"
    peers.mkdir()
    return {
        "containerdns": mine.split(),
        "dnsmasq": dnsmasq.split(),
        "knot": knot(peers, {"docker": records}),
        "nsd": nsd(peers, {"docker": records}),
    }


def knot(folder: Path, zones: dict[str, str]) -> list[str]:
    """Write a configuration for Knot, and tell how it is started."""
    path = folder / "knot.conf"
    text = f"""server:
  listen: 0.0.0.0@PORT
  rundir: "{folder}"
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "{folder}"
zone:
"""
    for apex, records in zones.items():
        text += f"  - domain: {apex}.\n    file: {_zone_file(folder, apex, records)}\n"
    path.write_text(text)
    return ["knotd", "-c", str(path)]


def nsd(folder: Path, zones: dict[str, str]) -> list[str]:
    """Write a configuration for NSD, and tell how it is started."""
    path = folder / "nsd.conf"
    text = f"""server:
  ip-address: 0.0.0.0@PORT
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{folder}"
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd.state"
  zonelistfile: "{folder}/zone.list"
  server-count: 1
  rrl-ratelimit: 0
remote-control:
  control-enable: no
"""
    for apex, records in zones.items():
        file = _zone_file(folder, apex, records)
        text += f'zone:\n  name: "{apex}"\n  zonefile: "{file}"\n'
    path.write_text(text)
    return ["nsd", "-d", "-c", str(path)]


def _zone_file(folder: Path, apex: str, records: str) -> Path:
    path = folder / f"{apex}.zone"
    head = f"$ORIGIN {apex}.\n$TTL 5\n@ SOA ns root 1 3600 60 86400 1\n@ NS ns\nns A 127.0.0.1\n"
    path.write_text(head + records)
    return path


@contextlib.contextmanager
def simulated_engine(folder: Path, count: int, churn: float) -> Iterator[str]:
    """Run an Engine of so many containers in a process of its own."""
    command = [sys.executable, "-m", "tests.engine.simulated", str(folder / "docker.sock")]
    command += ["--containers", str(count), "--churn", str(churn)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        try:
            yield ready[1]
        finally:
            process.kill()


@contextlib.contextmanager
def running(name: str, command: list[str], quiet: float = 0.05) -> Iterator[Server]:
    """Run a server on a free port until it answers and has settled, and end it."""
    port = _free_port()
    for part in command:
        if part.endswith(".conf"):
            Path(part).write_text(Path(part).read_text().replace("PORT", str(port)))
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CPU, *(part.replace("PORT", str(port)) for part in command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(name, port)
        pid = process.pid if name != "nsd" else _last_descendant(process.pid)
        _settle(pid, quiet)
        yield Server(name, port, pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            print(f"{name} did not stop", file=sys.stderr)
            process.kill()
            process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _last_descendant(pid: int) -> int:
    """The process of NSD that answers: the last one that was started."""
    below = [pid]
    for parent in below:
        below += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return max(below)


def _settle(pid: int, quiet: float) -> None:
    """Wait until a server does little of its own; ours inspects containers at first."""
    ends = time.monotonic() + START_PATIENCE
    while time.monotonic() < ends:
        before = cpu_seconds(pid)
        time.sleep(1)
        if cpu_seconds(pid) - before <= quiet:
            return


def _wait_for(name: str, port: int) -> None:
    asked = "www0.example." if name == "upstream" else "web-0.docker."
    query = bytes(DNSRecord.question(asked).pack())
    ends = time.monotonic() + START_PATIENCE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        asking.connect(("127.0.0.1", port))
        while time.monotonic() < ends:
            with contextlib.suppress(OSError):
                asking.send(query)
                if DNSRecord.parse(asking.recv(4096)).rr:
                    return
            time.sleep(0.1)
    raise SystemExit(f"{name} does not answer on port {port}")


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trying:
        trying.bind(("127.0.0.1", 0))
        return int(trying.getsockname()[1])


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else "nan"


if __name__ == "__main__":
    main()

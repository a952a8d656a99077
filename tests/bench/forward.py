"""How fast we forward, beside dnsmasq and Unbound over the same local upstream.

    python -m tests.bench.forward [--queries N] [--turns N] [--tls] [--aliases] [--only NAME]...
                                  [--json FILE]

Needs dnsmasq, unbound and dnsperf; with `--tls`, the upstream is asked over TLS, which dnsmasq
cannot do.  An Unbound with local data is the upstream of all; with `--aliases`, one with a zone
in which every name is a CNAME.
For each server: queries per second and CPU per query for misses (every name new) and
for cached answers, and what a miss costs over asking the upstream directly.  Each
server has one CPU, the upstream and dnsperf the other.  The servers are asked in turns; what is
told is the median, and the median of the ratios of each turn.
"""

import argparse
import contextlib
import json
import math
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dnslib import DNSRecord

from tests.bench.peers import CLIENT_CPU, SERVER_CPU, cpu_seconds
from tests.bench.throughput import spread
from tests.upstream.unbound import NAME, make_certificate

HIT_NAMES = 1000
LATENCY_QUERIES = 1000
CACHE_SIZE = 10000
ALIASES = """$ORIGIN example.
$TTL 300
@ SOA ns root 1 3600 600 86400 60
@ NS ns
ns A 192.0.2.1
* CNAME edge.cdn
edge.cdn A 192.0.2.10
"""


@dataclass(frozen=True)
class Server:
    """A running server: its name, port and process."""

    name: str
    port: int
    pid: int


class Tls(NamedTuple):
    """Files of the upstream's authority, certificate and key, and its port."""

    authority: Path
    certificate: Path
    key: Path
    port: int


class Turn(NamedTuple):
    """One turn of one server: queries per second and microseconds of CPU a query."""

    misses: float
    miss_cpu_us: float
    hits: float
    hit_cpu_us: float


def main() -> None:
    """Measure them in turns, and print how we compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=2000, help="misses in a turn")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--aliases", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tls = Tls(*make_certificate(folder), _free_port()) if options.tls else None
        source = stack.enter_context(upstream(folder, tls, ALIASES if options.aliases else ""))
        direct = statistics.median(latencies(source.port, "direct"))
        print(f"{'upstream itself':14} latency p50 {direct * 1e3:.3f} ms")
        servers = [
            stack.enter_context(running(name, command))
            for name, command in commands(folder, source.port, tls).items()
            if name in (options.only or [name])
        ]
        turns = [
            {server.name: measure(server, turn, options.queries, folder) for server in servers}
            for turn in range(options.turns)
        ]
        rows = [tell(server, turns, direct) for server in servers]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(server: Server, turn: int, queries: int, folder: Path) -> Turn:
    """Ask one server for names that nobody asked it for before, then for those that it has.

    dnsmasq's cache is emptied before, as a full one makes its misses three times as dear.
    """
    if server.name == "dnsmasq":
        os.kill(server.pid, signal.SIGHUP)
    misses, hits = folder / "misses", folder / "hits"
    lines = (f"t{turn}m{n}.bench{n % 97}.example A\n" for n in range(queries))
    misses.write_text("".join(lines))
    hits.write_text("".join(f"h{n}.example A\n" for n in range(HIT_NAMES)))
    missed = load(server, misses, 1)
    load(server, hits, 1)
    return Turn(*missed, *load(server, hits, max(queries // HIT_NAMES, 1)))


def tell(server: Server, turns: list[dict[str, Turn]], direct: float) -> dict[str, object]:
    """Print the medians of a server, and those of our ratios to it in each turn."""
    ratios, spreads = [math.nan] * 4, [[math.nan] * 2] * 4
    own = [turn[server.name] for turn in turns]
    miss, miss_cpu, hit, hit_cpu = (statistics.median(column) for column in zip(*own, strict=True))
    added = sorted(seconds - direct for seconds in latencies(server.port, server.name))
    print(
        f"{server.name:14} miss {miss:7.0f}/s {miss_cpu:6.1f} us CPU"
        f"   cached {hit:7.0f}/s {hit_cpu:6.1f} us CPU"
        f"   added by a miss p50 {statistics.median(added) * 1e3:.3f} ms"
        f" p99 {added[len(added) * 99 // 100] * 1e3:.3f} ms"
    )
    if "containerdns" in turns[0]:
        ours = [turn["containerdns"] for turn in turns]
        of_turns = [
            [mine / its for mine, its in zip(*pair, strict=True)]
            for pair in zip(zip(*ours, strict=True), zip(*own, strict=True), strict=True)
        ]
        ratios = [statistics.median(each) for each in of_turns]
        spreads = [spread(each) for each in of_turns]
        print(
            f"{'':14} ours: {ratios[0]:.2f} times the misses, {ratios[1]:.2f} times the CPU;"
            f" cached {ratios[2]:.2f} and {ratios[3]:.2f} times"
        )
    return {
        "server": server.name,
        "queries": round(miss),
        "cpu_us": round(miss_cpu, 1),
        "our_queries_ratio": round(ratios[0], 2),
        "our_queries_spread": spreads[0],
        "our_cpu_ratio": round(ratios[1], 2),
        "our_cpu_spread": spreads[1],
        "turns": len(turns),
        "added_p50": round(statistics.median(added) * 1e3, 3),
        "added_p99": round(added[len(added) * 99 // 100] * 1e3, 3),
    }


def load(server: Server, names: Path, rounds: int) -> tuple[float, float]:
    """Ask all names some times; queries per second, and microseconds of CPU a query."""
    before = cpu_seconds(server.pid)
    command = f"dnsperf -s 127.0.0.1 -p {server.port} -d {names} -n {rounds} -c 8 -q 100".split()
    done = subprocess.run(
        ["taskset", "-c", CLIENT_CPU, *command], capture_output=True, text=True, check=True
    )
    used = cpu_seconds(server.pid) - before
    completed = int(_found(r"Queries completed:\s+(\d+)", done.stdout))
    lost = int(_found(r"Queries lost:\s+(\d+)", done.stdout))
    if lost or "NOERROR" not in done.stdout:
        print(f"{server.name}: {lost} lost\n{done.stdout}", file=sys.stderr)
    return float(_found(r"per second:\s+([\d.]+)", done.stdout)), used / completed * 1e6


def latencies(port: int, tag: str) -> list[float]:
    """Ask new names one after the other; seconds for each."""
    taken = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("127.0.0.1", port))
        asking.settimeout(5)
        for number in range(LATENCY_QUERIES):
            query = bytes(DNSRecord.question(f"{tag}{number}.latency.example.").pack())
            begun = time.perf_counter()
            asking.send(query)
            asking.recv(4096)
            taken.append(time.perf_counter() - begun)
    return taken


def commands(folder: Path, upstream_port: int, tls: Tls | None) -> dict[str, list[str]]:
    """How each server is started on a port that stands in for `PORT`."""
    asked, bundle, over_tls = f"127.0.0.1@{upstream_port}", "", "no"
    ours_asks = f"127.0.0.1:{upstream_port}"
    if tls is not None:
        asked, over_tls = f"127.0.0.1@{tls.port}#{NAME}", "yes"
        bundle = f'tls-cert-bundle: "{tls.authority}"'
        ours_asks = f"tls://127.0.0.1:{tls.port}#{NAME}"
    unbound = folder / "forwarder.conf"
    unbound.write_text(f"""server:
  {_UNBOUND}
  directory: "{folder}"
  interface: 127.0.0.1@PORT
  msg-cache-size: 16m
  rrset-cache-size: 16m
  do-not-query-localhost: no
  local-zone: "example." nodefault
  module-config: "iterator"
  {bundle}
forward-zone:
  name: "."
  forward-addr: {asked}
  forward-tls-upstream: {over_tls}
remote-control:
  control-enable: no
""")
    dnsmasq = (
        "dnsmasq --no-daemon --no-resolv --no-hosts --conf-file=/dev/null --bind-interfaces"
        f" --listen-address=127.0.0.1 --port=PORT --server=127.0.0.1#{upstream_port}"
        f" --cache-size={CACHE_SIZE} --dns-forward-max=1000"
    )
    ours = (
        f"{sys.executable} -m containerdns serve --http off --docker unix://{folder}/none.sock"
        f" --listen 127.0.0.1:PORT --upstream {ours_asks}"
        f" --cache-size {CACHE_SIZE}"
    )
    both = {"unbound": ["unbound", "-d", "-c", str(unbound)], "containerdns": ours.split()}
    if tls is None:
        return {"dnsmasq": dnsmasq.split(), **both}
    both["containerdns"] = ["env", f"SSL_CERT_FILE={tls.authority}", *both["containerdns"]]
    return both


@contextlib.contextmanager
def upstream(folder: Path, tls: Tls | None, zone: str = "") -> Iterator[Server]:
    """Run the upstream of all: local data, or a zone, so that it is faster than any forwarder."""
    configuration = folder / "upstream.conf"
    listening = "" if tls is None else _listening_for(tls)
    (folder / "example.zone").write_text(zone)
    configuration.write_text(f"""server:
  {_UNBOUND}
  directory: "{folder}"
  interface: 127.0.0.1@PORT
  {listening}
  {_AUTH_ZONE if zone else _LOCAL_DATA}
remote-control:
  control-enable: no
""")
    with running("upstream", ["unbound", "-d", "-c", str(configuration)], CLIENT_CPU) as server:
        yield server


@contextlib.contextmanager
def running(name: str, command: list[str], cpu: str = SERVER_CPU) -> Iterator[Server]:
    """Run a server on a free port until it answers, and end it."""
    port = _free_port()
    for part in command:
        if part.endswith(".conf"):
            Path(part).write_text(Path(part).read_text().replace("PORT", str(port)))
    process = subprocess.Popen(
        ["taskset", "-c", cpu, *(part.replace("PORT", str(port)) for part in command)],
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield Server(name, port, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def _listening_for(tls: Tls) -> str:
    return f"""interface: 127.0.0.1@{tls.port}
  tls-port: {tls.port}
  tls-service-pem: "{tls.certificate}"
  tls-service-key: "{tls.key}"
"""


_LOCAL_DATA = """local-zone: "example." redirect
  local-data: "example. 300 IN A 192.0.2.10\""""
_AUTH_ZONE = """local-zone: "example." nodefault
auth-zone:
  name: "example."
  zonefile: "example.zone"
  for-upstream: no"""

_UNBOUND = """chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  num-threads: 1"""


def _wait_for(port: int) -> None:
    query = bytes(DNSRecord.question("ready.example.").pack())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        asking.connect(("127.0.0.1", port))
        for _ in range(50):
            with contextlib.suppress(OSError):
                asking.send(query)
                asking.recv(4096)
                return
            time.sleep(0.1)
    raise SystemExit(f"nobody answers on port {port}")


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trying:
        trying.bind(("127.0.0.1", 0))
        return int(trying.getsockname()[1])


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else "nan"


if __name__ == "__main__":
    main()

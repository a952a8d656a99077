"""The servers that are measured side by side: how each is set up, started and ended.

Each has the same names: those of a simulated Engine, or the same in its own form.
"""

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dnslib import DNSRecord

from tests.engine.running import free_port

PUBLIC_NAMES = 1000
PUBLIC = "".join(f"www{n} A 192.0.2.{n % 250}\n" for n in range(PUBLIC_NAMES))
START_PATIENCE = 60.0  # seconds
STOP_PATIENCE = 5.0  # seconds
SERVER_CPU, CLIENT_CPU = "0", "1"


@dataclass(frozen=True)
class Program:
    """A server that can be started.

    Attributes:
        name: What it is called in tables.
        command: Its words; `PORT` in one, and in files that end in .conf, stands for the port.
        environment: What it needs besides ours.
        pid_file: Where it leaves its process id, if it leaves the process that we started.
        forks: Whether the last process that it starts is the one that answers.
    """

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    pid_file: Path | None = None
    forks: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether this machine has it."""
        return shutil.which(self.command[0]) is not None


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    port: int
    pid: int


def containerdns(engine: str, upstream_port: int, ours: str) -> Program:
    """Ours, with everything on but HTTP, which nothing asks here."""
    options = f"--http off --docker {engine} --listen 0.0.0.0:PORT"
    command = f"{ours} {options} --upstream 127.0.0.1:{upstream_port}"
    return Program("containerdns", command.split())


def others(folder: Path, count: int, upstream_port: int) -> list[Program]:
    """The peers, with so many names each."""
    addresses = {f"web-{n}": f"172.28.{n + 1 >> 8}.{n + 1 & 255}" for n in range(count)}
    records = "".join(f"{name} A {address}\n" for name, address in addresses.items())
    return [
        dnsmasq(folder, addresses, upstream_port),
        unbound(folder, addresses, upstream_port),
        knot(folder, "docker", records),
        nsd(folder, "docker", records),
        aardvark(folder, addresses),
    ]


def dnsmasq(folder: Path, addresses: dict[str, str], upstream_port: int) -> Program:
    """Names from a hosts file."""
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{a} {name}.docker\n" for name, a in addresses.items()))
    command = (
        f"dnsmasq --no-daemon --no-resolv --no-hosts --addn-hosts={hosts} --port=PORT"
        f" --conf-file=/dev/null --local=/docker/ --local=// --local=/localdomain/"
        f" --local-ttl=5 --cache-size=10000"
        f" --server=127.0.0.1#{upstream_port} --user=root --pid-file={folder}/dnsmasq.pid"
    )
    return Program("dnsmasq", command.split())


def unbound(folder: Path, addresses: dict[str, str], upstream_port: int) -> Program:
    """Names as local data, which it answers with authority."""
    path = folder / "unbound.conf"
    soa = "docker. 5 IN SOA ns.docker. root.docker. 1 3600 60 86400 1"
    data = [soa, *(f"{name}.docker. 5 IN A {a}" for name, a in addresses.items())]
    local = "".join(f'  local-data: "{line}"\n' for line in data)
    path.write_text(f"""server:
  chroot: ""
  username: ""
  pidfile: ""
  directory: "{folder}"
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  interface: 0.0.0.0@PORT
  access-control: 0.0.0.0/0 allow
  do-not-query-localhost: no
  module-config: "iterator"
  msg-cache-size: 16m
  rrset-cache-size: 16m
  local-zone: "docker." static
{local}forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{upstream_port}
remote-control:
  control-enable: no
""")
    return Program("unbound", ["unbound", "-d", "-c", str(path)])


def knot(folder: Path, apex: str, records: str, ttl: int = 5) -> Program:
    """Names as a zone; two of them need a folder each."""
    own = folder / f"knot-{apex}"
    own.mkdir()
    path = own / "knot.conf"
    path.write_text(f"""server:
  listen: 0.0.0.0@PORT
  rundir: "{own}"
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "{own}"
acl:
  - id: transfers
    address: 127.0.0.1
    action: transfer
zone:
  - domain: {apex}.
    acl: transfers
    file: {_zone_file(own, apex, records, ttl)}
""")
    return Program("knot", ["knotd", "-c", str(path)])


def nsd(folder: Path, apex: str, records: str) -> Program:
    """Names as a zone."""
    path = folder / "nsd.conf"
    path.write_text(f"""server:
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
zone:
  name: "{apex}"
  zonefile: "{_zone_file(folder, apex, records)}"
  provide-xfr: 127.0.0.1 NOKEY
""")
    return Program("nsd", ["nsd", "-d", "-c", str(path)], forks=True)


def aardvark(folder: Path, addresses: dict[str, str]) -> Program:
    """Names as those of containers on a network of Podman, of which the client is one.

    To others than containers it compares all names one by one.  It would ask
    /etc/resolv.conf for every name that it does not know; it is told not to.
    """
    configuration = folder / "aardvark"
    configuration.mkdir()
    lines = ["127.0.0.1", f"{0:064x} 127.0.0.1  client"]
    named = enumerate(addresses.items(), start=1)
    lines += [f"{number:064x} {address}  {name}.docker" for number, (name, address) in named]
    (configuration / "bench").write_text("".join(f"{line}\n" for line in lines))
    command = f"/usr/lib/podman/aardvark-dns --config {configuration} --port PORT run".split()
    environment = {"AARDVARK_NO_PROXY": "1"}
    return Program("aardvark-dns", command, environment, configuration / "aardvark.pid")


def _zone_file(folder: Path, apex: str, records: str, ttl: int = 5) -> Path:
    path = folder / f"{apex}.zone"
    head = (
        f"$ORIGIN {apex}.\n$TTL {ttl}\n@ SOA ns root 1 3600 60 86400 1\n@ NS ns\nns A 127.0.0.1\n"
    )
    path.write_text(head + records)
    return path


@contextlib.contextmanager
def simulated_engine(folder: Path, count: int, churn: float = 0) -> Iterator[str]:
    """Run an Engine of so many containers in a process of its own; give its URL."""
    with engine_process(folder, count, churn) as (url, _):
        yield url


@contextlib.contextmanager
def engine_process(folder: Path, count: int, churn: float = 0) -> Iterator[tuple[str, int]]:
    """Do the same; give also its process id, as SIGUSR1 pauses or resumes the churn."""
    command = [sys.executable, "-m", "tests.engine.simulated", str(folder / "docker.sock")]
    command += ["--containers", str(count), "--churn", str(churn)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        try:
            yield ready[1], process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def public_upstream(folder: Path) -> Iterator[Server]:
    """Run the upstream of those that forward: Knot, with public names."""
    program = knot(folder, "example", PUBLIC, ttl=300)  # so that they stay cached
    with running(program, asked="www0.example.") as server:
        yield server


@contextlib.contextmanager
def running(
    program: Program, quiet: float = 0.05, asked: str = "web-0.docker."
) -> Iterator[Server]:
    """Run a server on a free port until it answers and has settled, and end it.

    Args:
        program: Which.
        quiet: Seconds of CPU in a second; less, and it has settled.
        asked: A name that it has.
    """
    port = free_port()
    for part in program.command:
        if part.endswith(".conf"):
            Path(part).write_text(Path(part).read_text().replace("PORT", str(port)))
    words = [part.replace("PORT", str(port)) for part in program.command]
    process = subprocess.Popen(
        ["taskset", "-c", SERVER_CPU, *words],
        env=os.environ | program.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(program.name, port, asked)
        pid = _answering_pid(program, process.pid)
        _settle(pid, quiet)
        yield Server(program.name, port, pid)
    finally:
        _end(program, process)


def _answering_pid(program: Program, started: int) -> int:
    if program.pid_file is not None:
        return int(program.pid_file.read_text())
    return max(descendants(started)) if program.forks else started


def _end(program: Program, process: subprocess.Popen[bytes]) -> None:
    if program.pid_file is not None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(program.pid_file.read_text()), 15)
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        print(f"{program.name} did not stop", file=sys.stderr)
        process.kill()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process's threads; its stat file counts in ticks of 10 ms."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def give_core(pid: int) -> None:
    """Pin a server's threads to its core, where they go before other work of the machine."""
    for thread in _threads(pid):
        os.sched_setaffinity(thread, {int(SERVER_CPU)})
    go_first(pid)


def go_first(pid: int) -> None:
    """Have a server's threads go before other work of the machine.

    The tails of what it does are then not those of another program, such as a compiler.
    """
    _put_session_first()
    with contextlib.suppress(PermissionError):
        for thread in _threads(pid):
            os.setpriority(os.PRIO_PROCESS, thread, -20)


def _threads(pid: int) -> Iterator[int]:
    for process in descendants(pid):
        for thread in Path(f"/proc/{process}/task").iterdir():
            yield int(thread.name)


@cache
def _put_session_first() -> None:
    """Do the same for all of this session, as Linux shares cores out between sessions first."""
    group = Path("/proc/self/autogroup")
    with contextlib.suppress(OSError):
        before = group.read_text().rpartition(" ")[2]
        group.write_text("-20")
        atexit.register(group.write_text, before)


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def descendants(pid: int) -> list[int]:
    """A process and all below it."""
    below = [pid]
    for parent in below:
        below += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return below


def _settle(pid: int, quiet: float) -> None:
    """Wait until a server does little of its own; ours inspects containers at first."""
    ends = time.monotonic() + START_PATIENCE
    while time.monotonic() < ends:
        before = cpu_seconds(pid)
        time.sleep(1)
        if cpu_seconds(pid) - before <= quiet:
            return


def _wait_for(name: str, port: int, asked: str) -> None:
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

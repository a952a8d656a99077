"""Three members of etcd, each in a network namespace with a link to hosts and one to the others."""

import contextlib
import json
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Self

from tests.clients.resolvers import lack
from tests.left_behind import own_name
from tests.timing import wait_until

MEMBERS = 3
TO_HOSTS, TO_MEMBERS = "10.77.1.{}", "10.77.2.{}"  # links: the machine has .1, members .11 on


class Members:
    """The cluster; links may be cut and members killed, numbered from 0."""

    def __init__(self) -> None:
        self._folder = Path()
        self._stack = contextlib.ExitStack()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        shutil.which("etcd") or lack("etcd is not installed")
        try:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            for kind, network in (("h", TO_HOSTS), ("m", TO_MEMBERS)):
                bridge = own_name(f"f{kind}")
                run(f"ip link add {bridge} type bridge")
                self._stack.callback(run, f"ip link del {bridge}")
                run(f"ip addr add {network.format(1)}/24 dev {bridge}")
                run(f"ip link set {bridge} up")
            for number in range(MEMBERS):
                self._connect(number)
                self.start(number)
            wait_until(lambda: all(self.is_healthy(n) for n in range(MEMBERS)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for number in list(self._processes):
            self.kill(number)
        self._stack.close()

    def url(self, *numbers: int) -> str:
        """What `--fleet` takes, of some members in this order."""
        return ",".join(f"etcd://{TO_HOSTS.format(11 + number)}:2379" for number in numbers)

    def start(self, number: int) -> None:
        """Start a member."""
        at, peer = TO_HOSTS.format(11 + number), f"http://{TO_MEMBERS.format(11 + number)}:2380"
        members = (f"m{n}=http://{TO_MEMBERS.format(11 + n)}:2380" for n in range(MEMBERS))
        command = [
            *("ip", "netns", "exec", self._namespace(number), "etcd", "--name", f"m{number}"),
            *("--data-dir", str(self._folder / f"data{number}"), "--logger", "zap"),
            *("--listen-client-urls", f"http://{at}:2379"),
            *("--advertise-client-urls", f"http://{at}:2379"),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", ",".join(members)),
        ]
        with (self._folder / f"log{number}").open("ab") as log:
            self._processes[number] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, number: int) -> None:
        """Kill a member with SIGKILL; its data stay."""
        process = self._processes.pop(number)
        process.kill()
        process.wait()

    def cut(self, number: int, *, from_hosts: bool = False, from_members: bool = False) -> None:
        """Take links of a member down."""
        self._set_links(number, "down", from_hosts, from_members)

    def mend(self, number: int) -> None:
        """Take both links of a member up."""
        self._set_links(number, "up", True, True)

    def is_healthy(self, number: int) -> bool:
        """Return whether a member answers, and has a leader."""
        url = f"http://{TO_HOSTS.format(11 + number)}:2379/health"
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                return bool(json.loads(response.read())["health"] == "true")
        except OSError:
            return False

    def _set_links(self, number: int, state: str, to_hosts: bool, to_members: bool) -> None:
        for kind, is_meant in (("h", to_hosts), ("m", to_members)):
            if is_meant:
                run(f"ip link set {self._link(kind, number)} {state}")

    def _connect(self, number: int) -> None:
        namespace = self._namespace(number)
        run(f"ip netns add {namespace}")
        self._stack.callback(run, f"ip netns del {namespace}")
        run(f"ip -n {namespace} link set lo up")
        for kind, network in (("h", TO_HOSTS), ("m", TO_MEMBERS)):
            link = self._link(kind, number)
            run(f"ip link add {link} type veth peer name eth{kind} netns {namespace}")
            run(f"ip link set {link} master {own_name(f'f{kind}')} up")
            run(f"ip -n {namespace} addr add {network.format(11 + number)}/24 dev eth{kind}")
            run(f"ip -n {namespace} link set eth{kind} up")

    def _namespace(self, number: int) -> str:
        return f"{own_name('f')}-{number}"

    def _link(self, kind: str, number: int) -> str:
        return f"{own_name(f'f{kind}')}-{number}"


def run(command: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"

"""A private Podman for the tests, as root, which leaves no trace.

It has its own storage, state, networks and socket; what it starts are containers of the same
image as those of the private Docker Engine.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.engine.dockerd import CannotStart, busybox_tar, free_subnet, mount_cgroups

IMAGE = "localhost/tests/busybox:latest"
SLEEP = ("sleep", "1000000")
MAX_COMMAND = 120.0  # seconds; one is usual
SETTINGS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "localhost/tests/busybox:latest"
"""


class Podman:
    """One private Podman and its service; its containers are named through it.

    Attributes:
        root: The folder of all its files.
        socket_url: What `--docker` takes.
        subnet: All addresses of its networks lie in it, IPv4.
        pid: Of the service.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="cdns-"))
        self.socket = self.root / "podman.sock"
        self.socket_url = f"unix://{self.socket}"
        self.subnet = free_subnet()
        self._pools = list(self.subnet.subnets(new_prefix=24))[-2:]  # a dockerd's are the first
        self._service: subprocess.Popen[bytes] | None = None
        self._had_rules = "NETAVARK" in _rules()
        settings = self.root / "containers.conf"
        settings.write_text(SETTINGS)
        self._environment = {**os.environ, "CONTAINERS_CONF": str(settings)}

    @property
    def pid(self) -> int:
        assert self._service is not None, "the service is down"
        return self._service.pid

    def set_up(self) -> None:
        """Import the image, make the networks `front` and `back`, start the service.

        Raises:
            CannotStart: Not root, or Podman is missing or fails.
        """
        require_podman()
        mount_cgroups()
        image = self.root / "busybox.tar"
        image.write_bytes(busybox_tar())
        change = f"CMD {json.dumps(SLEEP)}"  # of a pod's infra container
        self("import", "-q", "--change", change, str(image), IMAGE.removeprefix("localhost/"))
        image.unlink()
        for name, subnet in zip(("front", "back"), self._pools, strict=False):
            self("network", "create", "--disable-dns", "--subnet", str(subnet), name)
        self.start()

    def start(self) -> None:
        """Start the service, and return once it accepts connections."""
        self._service = subprocess.Popen(
            self._command("system", "service", "--time=0", self.socket_url),
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + MAX_COMMAND
        while not self._accepts():
            if self._service.poll() is not None or time.monotonic() > deadline:
                raise CannotStart("podman system service does not answer")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop the service; containers live on, as Podman has no daemon."""
        if self._service is not None:
            self._service.send_signal(signal.SIGKILL)
            self._service.wait(MAX_COMMAND)
            self.socket.unlink(missing_ok=True)
            self._service = None

    def tear_down(self) -> None:
        """End everything and remove every trace of it."""
        with contextlib.suppress(CannotStart):
            self.clear()
            self("network", "rm", "-f", "front", "back")
        self.stop()
        for line in Path("/proc/mounts").read_text().splitlines():
            if (point := line.split()[1]).startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", point], capture_output=True, check=False)
        if not self._had_rules:
            _remove_rules()
        shutil.rmtree(self.root, ignore_errors=True)

    def clear(self) -> None:
        """Remove all containers and pods."""
        self("pod", "rm", "-f", "-a", "-t", "0")
        self("rm", "-f", "-a", "-t", "0")

    def __call__(self, *words: str) -> str:
        """Run a command of Podman beside the service; return what it printed.

        Raises:
            CannotStart: It failed.
        """
        with tempfile.TemporaryFile() as output:  # conmon would hold a pipe open
            done = subprocess.run(
                self._command(*words),
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=MAX_COMMAND,
            )
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if done.returncode != 0:
            raise CannotStart(f"podman {' '.join(words)}: {said}")
        return said

    def run(self, name: str, *options: str, network: str = "front") -> None:
        """Create and start a container that sleeps."""
        place = [] if "--pod" in options else ["--network", network]
        self("run", "-d", "--stop-signal=KILL", "--name", name, *place, *options, IMAGE, *SLEEP)

    def address(self, container: str, network: str = "front") -> str:
        """The IPv4 address on a network."""
        field = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
        return self("inspect", "-f", field, container).splitlines()[-1]

    def _command(self, *words: str) -> list[str]:
        return [
            "podman",
            *("--root", str(self.root / "storage"), "--runroot", str(self.root / "run")),
            *("--tmpdir", str(self.root / "tmp"), "--network-config-dir", str(self.root / "net")),
            *("--storage-driver", "vfs", "--log-level", "error"),
            *words,
        ]

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as attempt:
            return attempt.connect_ex(str(self.socket)) == 0


def require_podman() -> None:
    """Check what a private Podman needs.

    Raises:
        CannotStart: Not root, or a program is missing.
    """
    if os.geteuid() != 0:
        raise CannotStart("a private Podman needs root")
    for program in ("podman", "iptables", "busybox"):
        if shutil.which(program) is None:
            raise CannotStart(f"{program} is not installed")


def _rules() -> str:
    done = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False)
    return done.stdout


def _remove_rules() -> None:
    """Remove the chains that Podman's netavark leaves behind."""
    for table in ("filter", "nat"):
        saved = subprocess.run(
            ["iptables-save", "-t", table], capture_output=True, text=True, check=False
        ).stdout.splitlines()
        rules = [shlex.split(line) for line in saved if line.startswith("-A")]
        chains = [line[1:].split()[0] for line in saved if line.startswith(":NETAVARK")]
        commands = [["-D", *rule[1:]] for rule in rules if "NETAVARK" in " ".join(rule)]
        commands += [["-F", chain] for chain in chains] + [["-X", chain] for chain in chains]
        for command in commands:
            subprocess.run(
                ["iptables", "-w", "-t", table, *command], capture_output=True, check=False
            )

"""A private Docker Engine for the tests, which leaves no trace.

It has its own data, socket, bridge, address range and network namespace, so that it disturbs
neither the machine's Docker nor another test run beside it.
"""

import contextlib
import fcntl
import io
import ipaddress
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker

from tests import own_network
from tests.left_behind import CGROUPS, SHARED, own_name
from tests.timing import wait_until

IMAGE = "tests/busybox:latest"
NO_REGISTRY = "127.0.0.1:1/busybox"  # the same image, of a registry that refuses at once
MAX_DAEMON_START = 120.0  # seconds; 5 are usual
MAX_CLEAR = 30.0  # seconds
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")


class CannotStart(Exception):
    """No private Engine runs on this machine; the text says why."""


class Dockerd:
    """One private Engine; its containers are named and removed through it.

    Attributes:
        root: The folder of all its files.
        socket_url: What `--docker` takes.
        subnet: All addresses of its networks lie in it, IPv4.
        api: The low-level client of the docker SDK; gone while the daemon is down.
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="cdns-"))
        self.socket = self.root / "docker.sock"
        self.socket_url = f"unix://{self.socket}"
        self.subnet = free_subnet()
        # Not by --default-address-pool: with it, a dockerd that restarts removes docker0,
        # which may be the machine's.
        self._pools = itertools.cycle(list(self.subnet.subnets(new_prefix=24))[1:100])
        self._bridge = own_name("")
        self._daemon: subprocess.Popen[bytes] | None = None
        self._api: Any = None

    @property
    def api(self) -> Any:
        assert self._api is not None, "the daemon is down"
        return self._api

    @property
    def pid(self) -> int:
        assert self._daemon is not None, "the daemon is down"
        return self._daemon.pid

    @property
    def is_up(self) -> bool:
        """Whether the daemon runs; it may not answer yet."""
        return self._daemon is not None and self._daemon.poll() is None

    # The daemon.

    def set_up(self) -> None:
        """Start the daemon for the first time and make its image.

        Raises:
            CannotStart: This machine lacks something, or the daemon fails.
        """
        require_machine()
        if not own_network.is_own():
            raise CannotStart("a private dockerd needs a network namespace of its own")
        mount_cgroups()
        gateway = f"{next(self.subnet.hosts())}/24"
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "addr", "add", gateway, "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")
        self.start()
        self.api.import_image_from_data(
            busybox_tar(),
            repository=IMAGE.partition(":")[0],
            tag="latest",
            changes=['CMD ["sleep", "1000000"]'],
        )

    def start(self, wait: bool = True) -> None:
        """Start the daemon; with `wait`, return once it answers."""
        (self.root / "pid").unlink(missing_ok=True)
        log = (self.root / "log").open("ab")
        self._daemon = subprocess.Popen(
            [
                "dockerd",
                *("--data-root", self.root / "data", "--exec-root", self.root / "exec"),
                *("--pidfile", self.root / "pid", "-H", self.socket_url),
                *("--bridge", self._bridge),
                *("--containerd-namespace", self._bridge),
                *("--containerd-plugins-namespace", f"{self._bridge}-plugins"),
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(self.root)},  # where containerd writes its stacks
        )
        log.close()
        if wait:
            self.wait_until_up()

    def wait_until_up(self) -> None:
        """Return once the daemon answers, with a fresh client."""
        deadline = time.monotonic() + MAX_DAEMON_START
        while time.monotonic() < deadline:
            if self._daemon is None or self._daemon.poll() is not None:
                raise CannotStart("dockerd ended: " + self.log_tail())
            if self._accepts():  # the SDK leaves its socket open if nobody listens
                with contextlib.suppress(docker.errors.DockerException):
                    self._api = docker.APIClient(self.socket_url, version="auto", timeout=120)
                    return
            time.sleep(0.02)
        raise CannotStart("dockerd does not answer: " + self.log_tail())

    def kill(self) -> None:
        """Kill the daemon with SIGKILL, as a crash would; containers are left behind."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()
        self._forget_client()
        # Its containerd dies with it; where no init reaps it, the next daemon would
        # take the process id in this file for one that still runs.
        (self.root / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop the daemon with SIGTERM and wait for its end; its containers end too."""
        assert self._daemon is not None
        self._daemon.terminate()
        try:
            self._daemon.wait(30)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._forget_client()

    def log_tail(self) -> str:
        """The last lines that the daemon logged."""
        log = self.root / "log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def tear_down(self) -> None:
        """End every process of this Engine and remove every trace of it."""
        if self._api is not None:
            with contextlib.suppress(Exception):  # what remains is removed by force below
                self.clear()
        if self._daemon is not None and self._daemon.poll() is None:
            self.stop()
        self._end_processes()
        self._unmount()
        _remove_links(self.subnet, self._bridge)  # its rules go with the network namespace
        shutil.rmtree(self.root, ignore_errors=True)

    # Containers.

    def create(
        self,
        name: str | None = None,
        *,
        network: str | None = None,
        aliases: Sequence[str] = (),
        ip: str | None = None,
        command: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        hostname: str | None = None,
        domainname: str | None = None,
        healthcheck: Mapping[str, Any] | None = None,
        ports: Mapping[int, int | None] | None = None,
        restart: bool = False,
        environment: Mapping[str, str] | None = None,
        sysctls: Mapping[str, str] | None = None,
    ) -> str:
        """Create a container and give its id; `network` may be "host", "container:X", "none".

        `ports` maps container ports to host ports, None only exposes; of `healthcheck`,
        see the Engine API.
        """
        api = self.api
        host_config: dict[str, Any] = {"Init": False}
        if network is not None:
            host_config["NetworkMode"] = network
        if sysctls is not None:
            host_config["Sysctls"] = dict(sysctls)
        if restart:
            host_config["RestartPolicy"] = {"Name": "always"}
        document: dict[str, Any] = {
            "Image": IMAGE,
            "StopSignal": "SIGKILL",  # sleep as process 1 ignores SIGTERM
            "Labels": dict(labels or {}),
            "HostConfig": host_config,
            "Env": [f"{key}={value}" for key, value in (environment or {}).items()],
        }
        if ports:
            document["ExposedPorts"] = {f"{port}/tcp": {} for port in ports}
            host_config["PortBindings"] = {
                f"{port}/tcp": [{"HostPort": str(host_port)}]
                for port, host_port in ports.items()
                if host_port is not None
            }
        optional = {
            "Cmd": list(command) if command else None,
            "Hostname": hostname,
            "Domainname": domainname,
            "Healthcheck": healthcheck,
        }
        document.update((key, value) for key, value in optional.items() if value is not None)
        if network is not None and (aliases or ip):
            endpoint: dict[str, Any] = {"Aliases": list(aliases)}
            if ip is not None:
                endpoint["IPAMConfig"] = {"IPv4Address": ip}
            document["NetworkingConfig"] = {"EndpointsConfig": {network: endpoint}}
        return str(api.create_container_from_config(document, name)["Id"])

    def run(self, name: str | None = None, **options: Any) -> str:
        """Create and start a container and give its id; options as `create`."""
        container_id = self.create(name, **options)
        self.start_container(container_id)
        return container_id

    def create_service(
        self,
        name: str,
        *,
        replicas: int = 1,
        labels: Mapping[str, str] | None = None,
        aliases: Sequence[str] = (),
    ) -> str:
        """Create a service of a swarm on the network "overlay" and give its id.

        It has its virtual address then, which the manager allots after the request.  The agent
        asks the image's registry first, and tasks get ten seconds to end, which sleep as
        process 1 would take.
        """
        self.api.tag(IMAGE, NO_REGISTRY)
        container = docker.types.ContainerSpec(
            f"{NO_REGISTRY}:latest", command=["sleep", "1000000"], stop_grace_period=0
        )
        network = {"Target": "overlay", "Aliases": list(aliases)}
        template = docker.types.TaskTemplate(container, networks=[network])
        mode = docker.types.ServiceMode("replicated", replicas)
        made = self.api.create_service(template, name=name, mode=mode, labels=labels)
        service_id = str(made["ID"])
        wait_until(lambda: self.api.inspect_service(service_id)["Endpoint"].get("VirtualIPs"))
        return service_id

    def start_container(self, container: str) -> None:
        self.api.start(container)

    def stop_container(self, container: str) -> None:
        self.api.stop(container, timeout=1)

    def restart_container(self, container: str) -> None:
        self.api.restart(container, timeout=1)

    def kill_container(self, container: str, signal_name: str = "KILL") -> None:
        self.api.kill(container, signal_name)

    def remove(self, container: str) -> None:
        """Remove a container, running or not."""
        self.api.remove_container(container, force=True, v=True)

    def rename(self, container: str, name: str) -> None:
        self.api.rename(container, name)

    def pause(self, container: str) -> None:
        self.api.pause(container)

    def unpause(self, container: str) -> None:
        self.api.unpause(container)

    def connect(
        self, container: str, network: str, aliases: Sequence[str] = (), ip: str | None = None
    ) -> None:
        """Connect to a network; an address only works on one created with a subnet."""
        self.api.connect_container_to_network(
            container, network, aliases=list(aliases) or None, ipv4_address=ip
        )

    def disconnect(self, container: str, network: str) -> None:
        self.api.disconnect_container_from_network(container, network)

    def inspect(self, container: str) -> dict[str, Any]:
        """The document of ContainerInspect, through the SDK."""
        return dict(self.api.inspect_container(container))

    def address(self, container: str, network: str | None = None) -> str:
        """The IPv4 address on a network, of the only one if none is named."""
        networks = self.inspect(container)["NetworkSettings"]["Networks"]
        endpoint = networks[network] if network else next(iter(networks.values()))
        return str(endpoint["IPAddress"])

    def execute(self, container: str, *command: str) -> str:
        """Run a command in a container and give what it printed."""
        job = self.api.exec_create(container, list(command))
        return str(self.api.exec_start(job["Id"]).decode(errors="replace"))

    # Networks.

    def create_network(
        self, name: str, subnet: str | None = None, driver: str = "bridge", ipv6: str | None = None
    ) -> str:
        """Create a network and give its id; a bridge has a subnet of ours if none is given."""
        if subnet is None and driver == "bridge":
            subnet = str(next(self._pools))
        pools = [{"Subnet": text} for text in (subnet, ipv6) if text]
        ipam = {"Driver": "default", "Config": pools} if pools else None
        made = self.api.create_network(
            name, driver=driver, ipam=ipam, enable_ipv6=ipv6 is not None, attachable=None
        )
        return str(made["Id"])

    def remove_network(self, name: str) -> None:
        self.api.remove_network(name)

    def subnet_of(self, third_octet: int) -> str:
        """A free /24 for `create_network`, which the Engine does not assign by itself."""
        return str(list(self.subnet.subnets(new_prefix=24))[100 + third_octet])

    def clear(self) -> None:
        """Remove all containers and all networks that tests made.

        What the Engine itself is just removing, or has not let go yet, it refuses for a moment.
        """
        deadline = time.monotonic() + MAX_CLEAR
        while True:
            try:
                self._remove_all()
            except docker.errors.APIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _remove_all(self) -> None:
        for item in self.api.containers(all=True, quiet=True):
            with contextlib.suppress(docker.errors.NotFound):
                self.remove(item["Id"])
        for network in self.api.networks():
            if network["Name"] in ("bridge", "host", "none", "ingress"):
                continue
            if network["Name"] == "docker_gwbridge":  # may stay in use when a swarm was left early
                with contextlib.suppress(docker.errors.APIError):
                    self.api.disconnect_container_from_network(
                        "gateway_ingress-sbox", network["Id"], force=True
                    )
            is_left_behind = network["Scope"] == "swarm"  # by a swarm that was left; it goes soon
            with contextlib.suppress(*[docker.errors.APIError] * is_left_behind):
                self.remove_network(network["Id"])

    # Inside.

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as attempt:
            return attempt.connect_ex(str(self.socket)) == 0

    def _forget_client(self) -> None:
        if self._api is not None:
            self._api.close()
        self._api = None

    def _end_processes(self) -> None:
        """Kill what names our folder in its command: containerd, shims, proxies of ports."""
        deadline = time.monotonic() + 10
        while pids := _processes_of(self.root, self._bridge):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def _unmount(self) -> None:
        for _ in range(5):
            lines = Path("/proc/self/mountinfo").read_text().splitlines()
            points = [line.split()[4] for line in lines]
            ours = [point for point in points if point.startswith(f"{self.root}/")]
            if not ours:
                return
            for point in sorted(ours, key=len, reverse=True):
                subprocess.run(["umount", "-l", point], capture_output=True, check=False)


def require_machine() -> None:
    """Check what a private Engine needs.

    Raises:
        CannotStart: Not root, or a program is missing.
    """
    if os.geteuid() != 0:
        raise CannotStart("a private dockerd needs root")
    for program in ("dockerd", "iptables", "ip", "busybox"):
        if shutil.which(program) is None:
            raise CannotStart(f"{program} is not installed")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until nobody else is in such a block, on this machine; no file remains."""
    folder = os.open(SHARED, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def mount_cgroups() -> None:
    """Mount the cgroup hierarchies where the machine, mostly a bare one, has none."""
    with _alone():
        _mount_cgroups()


def _mount_cgroups() -> None:
    if any(line.split()[2].startswith("cgroup") for line in _mounts()):
        return
    if (CGROUPS / "cgroup.controllers").exists():
        return
    enabled = [line.split()[0] for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", str(CGROUPS))
    for controller in CONTROLLERS:
        if controller in enabled:
            (CGROUPS / controller).mkdir()
            _run("mount", "-t", "cgroup", "-o", controller, "cgroup", str(CGROUPS / controller))


def busybox_tar() -> bytes:
    """A file system of one program and its links, as `docker import` takes it."""
    program = shutil.which("busybox")
    assert program is not None
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "etc", "tmp", "proc", "sys", "dev"):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        tar.add(os.path.realpath(program), "bin/busybox")
        for applet in _output(program, "--list").split():
            if applet != "busybox":
                member = tarfile.TarInfo(f"bin/{applet}")
                member.type, member.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(member)
    return buffer.getvalue()


def free_subnet() -> ipaddress.IPv4Network:
    """A /16 that nobody on this machine uses."""
    used = [
        ipaddress.ip_network(f"{info['local']}/{info['prefixlen']}", strict=False)
        for link in json.loads(_output("ip", "-j", "-4", "addr"))
        for info in link["addr_info"]
    ]
    for step in range(50):
        subnet = ipaddress.IPv4Network(f"10.{202 + (os.getpid() + step) % 50}.0.0/16")
        if not any(subnet.overlaps(other) for other in used if other.version == 4):
            return subnet
    raise CannotStart("no free /16 between 10.202 and 10.251")


def _processes_of(root: Path, bridge: str) -> list[int]:
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes().split(b"\0")
                is_shim = b"-namespace" in command and bridge.encode() in command
                is_daemon = command[0].endswith((b"dockerd", b"containerd")) and any(
                    os.fsencode(root) in word for word in command
                )
                if is_shim or is_daemon:
                    pids += [int(entry.name), *_descendants(int(entry.name))]
    return pids


def _descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has ended
                for child in (task / "children").read_text().split():
                    found += [int(child), *_descendants(int(child))]
    return found


def _remove_links(subnet: ipaddress.IPv4Network, bridge: str) -> None:
    for link in json.loads(_output("ip", "-j", "-4", "addr")):
        inside = any(ipaddress.ip_address(info["local"]) in subnet for info in link["addr_info"])
        if inside or link["ifname"] == bridge:
            subprocess.run(["ip", "link", "del", link["ifname"]], capture_output=True, check=False)


def _mounts() -> list[str]:
    return Path("/proc/mounts").read_text().splitlines()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotStart(f"{' '.join(command)}: {done.stderr.strip()}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout

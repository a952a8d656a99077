"""A VPN for real: its server as our Compose files run it, and a laptop far from Docker.

The laptop is a network namespace with one link, on whose other end only the port of the
VPN is of any use: it has no route to a container but the tunnel's.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import dnslib

from tests.clients.resolvers import REPOSITORY, beside, program
from tests.engine.dockerd import IMAGE, Dockerd
from tests.engine.running import free_port
from tests.left_behind import own_name
from tests.timing import MAX_WAIT

DEPLOY = REPOSITORY / "deploy"
MTU = 1280
# Where the machine's programs and their libraries are; containers of the tests borrow them.
BORROWED = ("/bin", "/sbin", "/usr", "/lib", "/lib64", "/etc/alternatives", "/etc/ssl")
PYTHON = (sys.prefix, sys.base_prefix, str(REPOSITORY))  # Debian's is in one that is borrowed
MAX_COMMAND = 180.0  # seconds
AT_ONCE = 64  # questions
MAX_TRIES = 5  # of them, as any may be lost on the way


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed; what it printed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=MAX_COMMAND,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def compose() -> list[str]:
    """The words of Compose, the Engine's plugin or the program of its own."""
    with contextlib.suppress(AssertionError, FileNotFoundError):
        run("docker", "compose", "version")
        return ["docker", "compose"]
    return [program("docker-compose")]


class Server:
    """A composition of deploy/ on a private Engine, with the machine's programs in its images.

    Attributes:
        kind: The folder, "openvpn" or "wireguard".
        network: The Docker network of the containers that clients reach.
        tunnel: The device of the tunnel.
        port: Where the VPN is reached on the machine.
    """

    def __init__(self, kind: str, engine: Dockerd, folder: Path) -> None:
        self.kind = kind
        self.engine = engine
        self.network = "vpn"
        self.tunnel = {"openvpn": "tun0", "wireguard": "wg0"}[kind]
        self.port = free_port()
        self.keys = folder / "keys"
        self._environment = {
            "DOCKER_HOST": engine.socket_url,
            "DOCKER_GID": "0",
            "CONTAINERS": engine.subnet_of(1),
            "VPN_KEYS": str(self.keys),
            "VPN_PORT": str(self.port),
            "SEARCH_DOMAINS": "localdomain pek2.qingcloud.com",
        }
        override = folder / "override.json"
        override.write_text(json.dumps(self._override()))
        files = ["-f", str(DEPLOY / kind / "compose.yaml"), "-f", str(override)]
        self._compose = [*compose(), *files, "-p", f"cdns{kind}"]

    def make_keys(self, host: str, client: str) -> Path:
        """Create the keys as deploy/ does; the configuration of the client."""
        words = (DEPLOY / self.kind / "make-keys", f"{host}:{self.port}", client)
        return Path(run(*words, environment=self._environment).strip())

    @contextlib.contextmanager
    def up(self) -> Iterator[None]:
        """Run it for a block; its keys must exist."""
        try:
            run(*self._compose, "up", "-d", "--no-build", environment=self._environment)
            yield
        except AssertionError:
            print(run(*self._compose, "logs", "--no-color", environment=self._environment))
            raise
        finally:
            self.engine.clear()  # of what a network keeps, too
            run(*self._compose, "down", "-v", "-t", "2", environment=self._environment)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        words = (*self._compose, "ps", "-q", service)
        return run(*words, environment=self._environment).strip()

    def queries(self) -> list[dict[str, Any]]:
        """The last queries that containerdns noted, the newest first."""
        command = (sys.executable, "-m", "containerdns", "queries", "--format", "json")
        said = self.engine.execute(self.container("containerdns"), *command)
        return list(json.loads(said)["queries"])

    def _override(self) -> dict[str, Any]:
        """What stands in for the images, which need a registry; all else is as in deploy/."""
        borrowed = [f"{path}:{path}:ro" for path in BORROWED if Path(path).is_dir()]
        python = [f"{path}:{path}:ro" for path in dict.fromkeys(PYTHON) if path not in BORROWED]
        start = DEPLOY / self.kind / "start"
        return {
            "services": {
                "network": {"image": IMAGE, "entrypoint": ["sleep", "1000000"]},
                "vpn": {
                    "image": IMAGE,
                    "entrypoint": ["/start"],
                    "volumes": [*borrowed, f"{start}:/start:ro"],
                },
                "containerdns": {
                    "image": IMAGE,
                    "entrypoint": [sys.executable, "-m", "containerdns"],
                    "command": ["serve"],
                    "volumes": [
                        *borrowed,
                        *python,
                        f"{self.engine.socket}:/var/run/docker.sock:ro",
                    ],
                },
            }
        }


class Laptop:
    """A network namespace with a link of MTU 1280 to the machine, and a resolv.conf.

    Attributes:
        gateway: The machine's address on the link.
        resolv_conf: What its programs see as /etc/resolv.conf; no server stands in it at first.
    """

    SEARCH = "localdomain pek2.qingcloud.com"  # of the client of the founding fault

    def __init__(self, engine: Dockerd, folder: Path) -> None:
        prefix = engine.subnet_of(2).removesuffix(".0/24")
        self.gateway = f"{prefix}.1"
        self._address = f"{prefix}.2"
        self._namespace = own_name("v")
        self._link = own_name("l")
        self.resolv_conf = folder / "resolv.conf"
        self.resolv_conf.write_text(f"search {self.SEARCH}\n")

    def __enter__(self) -> Self:
        namespace, link = self._namespace, self._link
        run("ip", "netns", "add", namespace)
        run(*f"ip link add {link} type veth peer name eth0 netns {namespace}".split())
        run(*f"ip addr add {self.gateway}/24 dev {link}".split())
        run(*f"ip link set {link} mtu {MTU} up".split())
        self.run("ip", "addr", "add", f"{self._address}/24", "dev", "eth0")
        self.run(*f"ip link set eth0 mtu {MTU} up".split())
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["ip", "link", "del", self._link], capture_output=True, check=False)
        run("ip", "netns", "del", self._namespace)

    @property
    def enter(self) -> list[str]:
        """The words that enter its network alone."""
        return ["ip", "netns", "exec", self._namespace]

    def words(self, *command: str | Path) -> list[str | Path]:
        """The words that run a command here."""
        return [*self.enter, *beside(self.resolv_conf), *command]

    def run(self, *command: str | Path) -> str:
        """Run a command here that must succeed; what it printed."""
        return run(*self.words(*command))

    def fetch(self, url: str, longest: float = 60.0) -> str:
        """Fetch a page as people do."""
        return self.run(program("curl"), "-sS", "--max-time", str(longest), url)

    def until_fetched(self, url: str, longest: float = 120.0) -> str:
        """Fetch a page as soon as that works."""
        started = time.monotonic()
        while True:
            try:
                return self.fetch(url, 5.0)
            except AssertionError:
                if time.monotonic() - started > longest:
                    raise
                time.sleep(0.1)

    def lose(self, rule: str) -> None:
        """Lose packets that match a rule of iptables: CHAIN MATCHES."""
        self.run(program("iptables"), "-w", "-A", *rule.split(), "-j", "DROP")

    def lost(self) -> int:
        """How many packets were lost."""
        rules = self.run(program("iptables"), "-w", "-nvxL").splitlines()
        return sum(int(line.split()[0]) for line in rules if " DROP " in line)


@contextlib.contextmanager
def openvpn(laptop: Laptop, configuration: Path, folder: Path) -> Iterator[None]:
    """OpenVPN's client, with a hook as distributions have it for resolv.conf."""
    hook = folder / "up"
    hook.write_text(
        "#!/bin/sh\n"
        "for option in $(env | grep '^foreign_option_' | tr ' ' '+'); do\n"
        '    case $option in *+DNS+*) servers="$servers ${option##*+}" ;; esac\n'
        "done\n"
        f"{{ echo 'search {laptop.SEARCH}'; echo 'options timeout:1'\n"
        f'  for server in $servers; do echo "nameserver $server"; done; }} >{laptop.resolv_conf}\n'
    )
    hook.chmod(0o755)
    words = [program("openvpn"), "--config", str(configuration), "--script-security", "2"]
    command = laptop.words(*words, "--up", str(hook))
    with (folder / "client.log").open("wb") as log:
        client = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        client.terminate()
        client.wait(MAX_WAIT)


@contextlib.contextmanager
def wireguard(laptop: Laptop, configuration: Path, folder: Path) -> Iterator[None]:
    """wg-quick, which passes its DNS settings to a resolvconf."""
    tools = folder / "tools"
    tools.mkdir()
    resolvconf = tools / "resolvconf"
    resolvconf.write_text(
        "#!/bin/sh\n"
        '[ "$1" = -a ] || exit 0\n'
        f"{{ grep nameserver; echo 'search {laptop.SEARCH}'; echo 'options timeout:1'; }} "
        f">{laptop.resolv_conf}\n"
    )
    resolvconf.chmod(0o755)
    path = f"PATH={tools}:{os.environ['PATH']}"
    program("wireguard-go")  # without a module in the kernel, wg-quick takes it
    file = configuration.with_name(f"{own_name('w')}.conf")  # names the interface
    configuration.rename(file)
    laptop.run("env", path, program("wg-quick"), "up", file)
    try:
        yield
    finally:
        laptop.run("env", path, program("wg-quick"), "down", file)


def ask_at_once(resolver: str, name: str, qtype: str) -> None:
    """Ask one question many times from one socket; what was lost on the way again, a few times."""
    query = dnslib.DNSRecord.question(name, qtype)
    query.add_ar(dnslib.EDNS0(udp_len=1232))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((resolver, 53))
        asking.settimeout(2.0)
        left = set(range(AT_ONCE))
        for _ in range(MAX_TRIES):
            for number in left:
                query.header.id = number
                asking.send(query.pack())
            with contextlib.suppress(TimeoutError):
                while left:
                    response = dnslib.DNSRecord.parse(asking.recv(4096))
                    assert response.rr, response
                    left.discard(response.header.id)
    assert not left, f"{len(left)} of {AT_ONCE} without a response"


CLIENTS = {"openvpn": openvpn, "wireguard": wireguard}

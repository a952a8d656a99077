"""The fault that containerdns exists to end, retold on a private Engine: `make demo`.

dnsmasq over Docker's resolver and a public one loses a redeployed container's name for a
day (aacebedo/dnsdock#85); containerdns in its place does not.  All programs are the real
ones, except the public resolver, which answers as the real one did.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests import own_network
from tests.clients.resolvers import beside, program, started, write_resolv_conf
from tests.engine.dockerd import IMAGE, CannotStart, Dockerd, require_machine
from tests.engine.running import RecordingUpstream
from tests.left_behind import own_folder
from tests.timing import listens, wait_until

PROJECT, SERVICE = "staging-search", "elasticsearch"
NAME = f"{PROJECT}_{SERVICE}_1"
SEARCH = ("localdomain", "pek2.qingcloud.com")
URL = f"{NAME}:9200"
PAGE = "mkdir /page; echo I am $$(hostname -i), and well >/page/index.html; "
COMPOSE_FILE = f"""\
services:
  {SERVICE}:
    image: {IMAGE}
    stop_signal: SIGKILL
    command: ["sh", "-c", "{PAGE} exec httpd -f -p 9200 -h /page"]
networks:
  default:
    external: true
    name: staging
"""
FAR = 0.3  # seconds to the public resolver: dnsmasq takes the first answer, which is Docker's then
PAUSE = float(os.environ.get("DEMO_PAUSE", "1.2"))  # seconds to read a step in


class Story:
    """A network with a VPN container, the container that people want, and a laptop.

    Attributes:
        public: The public resolver, and what it was asked.
    """

    def __init__(self, engine: Dockerd, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._resolv_conf = folder / "resolv.conf"
        (folder / "compose.yml").write_text(COMPOSE_FILE)
        network = engine.api.inspect_network(engine.create_network("staging"))
        subnet = network["IPAM"]["Config"][0]["Subnet"]
        self._public_address = subnet.replace(".0/24", ".1")  # the machine's on this network
        self.public = RecordingUpstream(where=(self._public_address, 53), delay=FAR)
        host_config = {"NetworkMode": "staging", "Dns": [self._public_address]}
        document = {"Image": IMAGE, "HostConfig": host_config}
        self._vpn = str(engine.api.create_container_from_config(document, "vpn")["Id"])
        engine.start_container(self._vpn)
        self._vpn_address = engine.address(self._vpn)
        write_resolv_conf(self._resolv_conf, self._vpn_address, *SEARCH)

    def act(self, command: str, doing: Callable[[], object] = lambda: None) -> None:
        """Show a command and what it printed."""
        print(f"$ {command}", flush=True)
        said = doing()
        if said:
            print(said, flush=True)
        time.sleep(PAUSE)

    def tell(self, *lines: str) -> None:
        """Print a paragraph."""
        print("\n" + "\n".join(f"# {line}" for line in lines), flush=True)
        time.sleep(PAUSE)

    def deploy(self) -> None:
        """Start the service that people want; its page says its address."""

        def started() -> str:
            said = self._compose("up", "-d")
            wait_until(lambda: listens(self._engine.address(NAME), 9200))
            return said

        self.act("docker-compose up -d", started)

    def remove(self) -> None:
        """Remove it; another container gets its address."""
        words = ("rm", "--stop", "--force")
        self.act(shlex.join(("docker-compose", *words)), lambda: self._compose(*words))

    def take_its_address(self) -> None:
        """Start another container, which gets the address that is free."""
        run = "docker run -d --network staging --name another busybox"
        self.act(run, lambda: self._engine.run("another", network="staging")[:12])

    def fetch(self) -> None:
        """Fetch the page as the laptop does."""
        self.act(f"curl {URL}", lambda: self._on_laptop("curl", "-sS", "--max-time", "5", URL))

    def dig(self) -> None:
        """Ask for the name as the laptop's resolver does last."""
        words = ["dig", "+noall", "+comments", "+answer", "+authority", f"@{self._vpn_address}"]

        def asked() -> str:
            told = self._on_laptop(*words, NAME)
            records = [line.split() for line in told.splitlines() if line and line[0] != ";"]
            status = re.search(r"status: (\w+)", told)
            return "\n".join([status[1] if status else told, *map(" ".join, records)])

        self.act(f"dig {NAME}", asked)

    def leaked(self) -> None:
        """Print what the public resolver was asked for."""
        names = list(dict.fromkeys(self.public.names()))
        self.tell("What the public resolver was asked for meanwhile:", *(names or ["nothing"]))

    def clear(self) -> None:
        """Remove what the first half left."""
        for name in (NAME, "another"):
            self._engine.remove(name)
        self.public.asked.clear()

    @contextlib.contextmanager
    def dnsmasq(self) -> Iterator[int]:
        """The VPN container's dnsmasq, as it was; its process id."""
        servers = ("127.0.0.11", self._public_address)
        shown = ["dnsmasq", "--no-resolv", *(f"--server={server}" for server in servers)]
        more = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--user=root"]
        more += [f"--listen-address={self._vpn_address}", "--bind-interfaces", "--pid-file"]
        with self._in_vpn(shown, more) as pid:
            yield pid

    @contextlib.contextmanager
    def containerdns(self) -> Iterator[None]:
        """The same place, and who ought to be in it."""
        search = [word for domain in SEARCH for word in ("--search-domain", domain)]
        shown = ["containerdns", "serve", *search, "--upstream", self._public_address]
        more = [f"--docker={self._engine.socket_url}", f"--listen={self._vpn_address}:53"]
        with self._in_vpn(shown, [*more, "--http=off"]):
            yield

    @contextlib.contextmanager
    def _in_vpn(self, shown: Sequence[str], more: Sequence[str]) -> Iterator[int]:
        """Run a program in the VPN container's network; `more` is of the stage only."""
        self.act(shlex.join(shown) + " &")
        pid = self._engine.inspect(self._vpn)["State"]["Pid"]
        words = [sys.executable, "-m", "containerdns"] if "serve" in shown else [program(shown[0])]
        command = ["nsenter", "-n", "-t", str(pid), *words, *shown[1:], *more]
        with started(command, self._answers) as started_pid:
            self.public.asked.clear()
            yield started_pid

    def _compose(self, *words: str) -> str:
        """Run Compose, and return what it says it has done."""
        done = subprocess.run(
            [program("docker-compose"), "-p", PROJECT, "-f", self._folder / "compose.yml", *words],
            env={**os.environ, "DOCKER_HOST": self._engine.socket_url},
            capture_output=True,
            text=True,
            check=True,
        )
        return "\n".join(line for line in done.stderr.splitlines() if line.endswith("done"))

    def _answers(self) -> bool:
        asked = self._on_laptop("dig", "+tries=1", "+time=1", f"@{self._vpn_address}", "vpn")
        return "status: NOERROR" in asked

    def _on_laptop(self, *words: str) -> str:
        """What a program prints whose resolver is the VPN's."""
        command = [*beside(self._resolv_conf), program(words[0]), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).strip()


def play(story: Story) -> None:
    """Play the story, both ways."""
    story.tell(
        "A laptop on a VPN reaches containers by name. Its DNS server is the VPN container's:",
        "dnsmasq, over Docker's own resolver and a public one.",
    )
    with story.dnsmasq() as dnsmasq:
        story.deploy()
        story.fetch()
        story.dig()
        story.tell(
            "600 seconds: after a redeploy, dnsmasq tells the old address for as long. That is the",
            "lesser fault. Later (here: a signal, which empties dnsmasq's cache) the container is",
            "redeployed. For a moment there is none, and just then the laptop asks.",
        )
        story.act("pkill -HUP dnsmasq", lambda: os.kill(dnsmasq, signal.SIGHUP))
        story.remove()
        story.fetch()
        story.take_its_address()
        story.deploy()
        story.tell("It is back, with another address. The laptop tries again:")
        story.fetch()
        story.tell("And again, ten seconds later:")
        time.sleep(min(10, 10 * PAUSE))
        story.fetch()
        story.dig()
        story.tell(
            "Docker's resolver knew no such container, and asked the public one. That one said: no",
            "such name, for a day. dnsmasq says so until tomorrow, or until a restart.",
        )
        story.leaked()
    story.clear()
    story.tell("The same once more, with containerdns in the place of dnsmasq.")
    with story.containerdns():
        story.deploy()
        story.fetch()
        story.dig()
        story.remove()
        story.fetch()
        story.dig()
        story.tell("No such name, for one second. Nobody else was asked.")
        story.take_its_address()
        story.deploy()
        story.fetch()
        story.dig()
        story.leaked()


def main() -> int:
    """Play on an Engine of its own, of which nothing remains."""
    try:
        require_machine()
    except CannotStart as fault:
        print(f"the demo needs a private Docker Engine: {fault}", file=sys.stderr)
        return 1
    own_network.enter()
    with own_folder() as folder:
        engine = Dockerd()
        try:
            engine.set_up()
            story = Story(engine, folder)
            try:
                play(story)
            finally:
                story.public.close()
        finally:
            engine.tear_down()
    return 0


if __name__ == "__main__":
    sys.exit(main())

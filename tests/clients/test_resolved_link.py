"""systemd-resolved on a laptop, configured by what `client-config` prints: who is asked what.

The laptop is a network namespace with two links: the network that it is in, whose server
knows the internet, and the VPN's, on which we are. A D-Bus and a resolved of its own run there.
"""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from containerdns.config.client_targets import Ours, write
from containerdns.core.endpoints import Endpoint
from tests.clients.resolvers import UNPACKED, program, started
from tests.engine.dockerd import CannotStart, require_machine
from tests.engine.running import RecordingUpstream
from tests.left_behind import own_name
from tests.timing import wait_until

pytestmark = pytest.mark.engine

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<auth>EXTERNAL</auth><policy context="default"><allow user="*"/><allow own="*"/>
<allow send_type="method_call"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>
"""
PUBLIC = {"www.example.net": "192.0.2.80"}
CONTAINER = {"web.docker": "172.18.0.2", "web.localdomain": "172.18.0.2"}


class Laptop:
    """A network namespace with the links `lan` and `tun`, each to a server of its own.

    Attributes:
        lan: What the server of the network that it is in was asked.
        vpn: What we were asked.
        vpn_address: Where we are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = own_name("r")
        self._prefix = f"10.{random.randrange(64, 128)}.{random.randrange(256)}"
        self.vpn_address = f"{self._prefix}.129"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            run("ip", "netns", "add", self._name)
            stack.callback(run, "ip", "netns", "del", self._name)
            for link, first in (("lan", 0), ("tun", 128)):
                outside = f"{self._name}{link[0]}"
                words = f"ip link add {outside} type veth peer name {link} netns {self._name}"
                run(*words.split())
                stack.callback(
                    subprocess.run, ["ip", "link", "del", outside], capture_output=True, check=False
                )
                run(*f"ip addr add {self._prefix}.{first + 1}/25 dev {outside}".split())
                run(*f"ip link set {outside} up".split())
                inside = ("ip", "-n", self._name)
                run(*inside, *f"addr add {self._prefix}.{first + 2}/25 dev {link}".split())
                run(*inside, *f"link set {link} up".split())
            run("ip", "-n", self._name, "link", "set", "lo", "up")
            lan_address = f"{self._prefix}.1"
            run(*f"ip -n {self._name} route add default via {lan_address}".split())
            self.lan = RecordingUpstream(PUBLIC, (lan_address, 53))
            stack.callback(self.lan.close)
            self.vpn = RecordingUpstream(CONTAINER, (self.vpn_address, 53))
            stack.callback(self.vpn.close)
            self._pid = stack.enter_context(self._resolved())
            self.shell(f"resolvectl dns lan {lan_address}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def _resolved(self) -> Iterator[int]:
        run_folder = self._folder / "run"
        settings = run_folder / "systemd/resolved.conf.d/test.conf"
        settings.parent.mkdir(parents=True)
        settings.write_text("[Resolve]\nDNSSEC=no\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\n")
        (run_folder / "dbus").mkdir()
        (self._folder / "bus.conf").write_text(BUS)
        users = "systemd-resolve:x:0:0::/:/usr/sbin/nologin\n"  # whom it wants to become
        (self._folder / "passwd").write_text(users + Path("/etc/passwd").read_text())
        script = (
            f"mount --bind {self._folder}/passwd /etc/passwd; mount --bind {run_folder} /run; "
            f"{program('dbus-daemon')} --config-file={self._folder}/bus.conf --nofork & "
            "bus=$!; trap 'kill $bus $resolved; wait' TERM; "
            "while [ ! -S /run/dbus/system_bus_socket ]; do :; done; "
            f"{program('systemd-resolved')} & resolved=$!; wait"
        )
        words = ["ip", "netns", "exec", self._name, "unshare", "--mount", "sh", "-ec", script]
        is_up = (run_folder / "systemd/resolve/stub-resolv.conf").exists
        with started(words, is_up) as pid:
            self._pid = pid
            wait_until(lambda: self.try_shell("resolvectl status") == 0)
            yield pid

    def try_shell(self, script: str) -> int:
        """Run a script on the laptop; its exit status."""
        return self._run(script).returncode

    def shell(self, script: str) -> str:
        """Run a script on the laptop that must succeed; what it printed."""
        done = self._run(script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _run(self, script: str) -> subprocess.CompletedProcess[str]:
        path = f"{UNPACKED}/usr/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
        words = ["nsenter", "-t", str(self._pid), "-m", "-n", "sh", "-ec", script]
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "PATH": path},
        )


def run(*words: str) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    """A laptop that has started."""
    try:
        require_machine()
    except CannotStart as fault:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(fault))
    with Laptop(tmp_path) as started_laptop:
        yield started_laptop


def test_our_names_go_to_us_alone_and_all_others_to_the_link_alone(laptop: Laptop) -> None:
    """Global settings would send every name to both, and the quicker answer would win."""
    ours = Ours((Endpoint(laptop.vpn_address, 53),), ("docker",), ("localdomain",))
    files = dict(write("systemd-resolved", ours).files)
    laptop.shell(files[""])

    assert "172.18.0.2" in laptop.shell("resolvectl query --legend=no web")
    assert "172.18.0.2" in laptop.shell("resolvectl query --legend=no web.docker")
    assert "172.18.0.2" in laptop.shell("resolvectl query --legend=no web.localdomain")
    assert "192.0.2.80" in laptop.shell("resolvectl query --legend=no www.example.net")
    assert laptop.try_shell("resolvectl query gone.docker") != 0

    asked_of_us = set(laptop.vpn.names())
    asked_of_lan = set(laptop.lan.names())
    assert {"web.docker.", "web.localdomain.", "gone.docker."} <= asked_of_us
    assert "www.example.net." in asked_of_lan
    assert [n for n in asked_of_us if not n.endswith(("docker.", "localdomain."))] == []
    assert [n for n in asked_of_lan if n.endswith(("docker.", "localdomain."))] == []

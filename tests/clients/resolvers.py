"""Real resolvers: the C libraries' and languages' own, and programs that forward to us.

A stub runs in a mount namespace of its own, in which /etc/resolv.conf says what the test
wants, so that it reads its settings as it always does; the machine's stay as they are.
"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
UNPACKED = REPOSITORY / ".programs"  # of tools/install-test-programs
MAX_START = 60.0  # seconds until a started program answers, on a busy machine
MAX_LOOKUP = 60.0  # seconds; a stub resolver gives up by itself before
NOT_FOUND = re.compile(
    "not known|does not resolve|no usable address|no address associated"  # glibc, musl
    "|no such host|not found|no data",  # Go, c-ares
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a lookup.

    Attributes:
        addresses: Sorted, each once.
        fault: What the program said if there are none.
    """

    addresses: tuple[str, ...]
    fault: str = ""

    @property
    def is_absent(self) -> bool:
        """Whether the name has no such address, rather than that a server failed."""
        return not self.addresses and NOT_FOUND.search(self.fault) is not None


@dataclass(frozen=True, slots=True)
class Stub:
    """A program that looks names up as /etc/resolv.conf says.

    Attributes:
        command: Gives its words for a name and a family, "4", "6" or "" for both.
        pattern: Finds the addresses in all that it says.
        environment: Beside the usual one.
    """

    command: Callable[[str, str], Sequence[str]]
    pattern: str = r"(?m)^([0-9a-f:.]+)$"
    environment: Mapping[str, str] | None = None

    def look_up(
        self, name: str, resolv_conf: Path, family: str = "", inside: Sequence[str] = ()
    ) -> Found:
        """Look a name up with a resolv.conf, inside of what those words enter."""
        command = [*inside, *beside(resolv_conf), *self.command(name, family)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=MAX_LOOKUP,
            check=False,
            env={**os.environ, **(self.environment or {})},
        )
        said = done.stdout + done.stderr
        addresses = set(re.findall(self.pattern, said))
        return Found(tuple(sorted(addresses)), "" if addresses else said)


def beside(resolv_conf: Path) -> list[str]:
    """Words that run a program with another /etc/resolv.conf, and without mDNS or resolved."""
    switch = resolv_conf.with_name("nsswitch.conf")
    switch.write_text("hosts: files dns\npasswd: files\ngroup: files\n")
    script = (
        f"mount --bind {resolv_conf} /etc/resolv.conf; "
        f"mount --bind {switch} /etc/nsswitch.conf; "
        'exec "$@"'
    )
    return ["unshare", "--mount", "sh", "-ec", script, "sh"]


def stubs(folder: Path) -> dict[str, Stub]:
    """All stubs that this machine has the programs for, built in a folder."""
    glibc, musl, cares = folder / "glibc", folder / "musl", folder / "cares"
    compile_program(program("gcc"), str(HERE / "getaddrinfo.c"), "-o", str(glibc))
    compile_program(program("musl-gcc"), "-static", str(HERE / "getaddrinfo.c"), "-o", str(musl))
    compile_program(program("gcc"), str(HERE / "cares.c"), "-o", str(cares), "-lcares")
    promtool = program("promtool")  # a program in Go that says where it failed to connect
    return {
        "glibc": Stub(lambda name, family: [str(glibc), name, *family]),
        "musl": Stub(lambda name, family: [str(musl), name, *family]),
        "c-ares": Stub(lambda name, family: [str(cares), name, *family]),
        "go": Stub(
            lambda name, _: [promtool, "query", "instant", f"http://{name}:9/", "up"],
            r"dial tcp \[?([0-9a-f:.]+)\]?:9: connect: connection refused",
            {"GODEBUG": "netdns=go"},
        ),
    }


def compile_program(*command: str) -> None:
    """Run a compiler."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lack(f"{command[0]} compiles nothing, {done.stderr}")


def program(name: str) -> str:
    """Where a program is; without it, see `lack`."""
    places = [str(UNPACKED / "lib/systemd"), "/lib/systemd", "/usr/sbin", "/usr/bin", "/sbin"]
    path = shutil.which(name) or shutil.which(name, path=":".join(places))
    return path or lack(f"{name} is not installed")


def lack(reason: str) -> NoReturn:
    """Skip a test that this machine cannot run; fail it under CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def write_resolv_conf(path: Path, server: str, *search: str, options: str = "") -> Path:
    """Write a resolv.conf."""
    lines = [f"nameserver {server}", "options timeout:2 attempts:2 " + options]
    lines += [f"search {' '.join(search)}"] * bool(search)
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def started(command: Sequence[str | Path], is_up: Callable[[], bool]) -> Iterator[int]:
    """A program in the foreground that has come up, and ends with the block; its process id."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def told() -> str:
            log.seek(0)
            return log.read().decode(errors="replace")[-3000:]

        try:
            until = time.monotonic() + MAX_START
            while not is_up():
                assert process.poll() is None, f"{command[0]} ended: {told()}"
                assert time.monotonic() < until, f"{command[0]} does not answer: {told()}"
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(MAX_START)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

"""Whatever a process that runs tests leaves on the machine: found at its end, removed if killed.

The process has a temporary folder of its own. Its path is what the things of the process have in
common: files lie in it, mounts below it, and programs inherit it as TMPDIR, name it in their
command, or, in a container, have their root file system on it. Links are looked for in the network
namespace of the process, and named namespaces by the process id, which `own_name` puts in.

A process that is killed cannot look. For it another one waits, the *reaper*, with nothing but the
read end of a pipe: its end is the death of the process that has the other end, however it came.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests import own_network

ROOT = Path(__file__).parents[1]
MAX_END = 30.0  # seconds until a program that was told to end has ended, on a busy machine
CGROUPS = Path("/sys/fs/cgroup")
NAMED_NAMESPACES = Path("/run/netns")
SHARED = Path(tempfile.gettempdir())  # the machine's temporary folder
OWN_LINKS = {"lo", "outside", "nowhere"}  # those of tests/own_network


def own_name(kind: str) -> str:
    """Return a name for a network namespace or a link of this process, at most 12 characters.

    Args:
        kind: At most three letters, to tell several apart.
    """
    return f"cdns{kind}{os.getpid() % 100_000}"


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Have a temporary folder of its own, with a path short enough for sockets in it.

    What belongs to it is removed at the end of the block or of this process, whichever comes first.
    The folders of `tmp_path` stay in the machine's, where pytest keeps those of failed tests.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(SHARED))
    folder = Path(tempfile.mkdtemp(prefix="cdns-", dir="/tmp"))
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    with _reaper(folder):
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            os.environ.pop("TMPDIR")
            if before[0] is not None:
                os.environ["TMPDIR"] = before[0]
            tempfile.tempdir = before[1]


@contextlib.contextmanager
def _reaper(folder: Path) -> Iterator[None]:
    """Have another process remove everything of a folder after this block, or this process.

    Nothing of that process names the folder, or that of a run around this one: it would be taken
    for something to remove.  Signals to the group of this process do not reach it.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.left_behind"],
        stdin=subprocess.PIPE,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write(f"{os.getpid()}\n{folder}\n".encode())
        process.stdin.flush()
        yield


def main() -> None:
    """Wait until the process at the other end of standard input ends, and remove what it left."""
    pid, folder = sys.stdin.read().split()
    remove(Path(folder), int(pid))


def remove(folder: Path, pid: int) -> None:
    """End, unmount and delete all that belongs to a folder, and the namespaces of a process.

    Its links go with the network namespace that it had.
    """
    deadline = time.monotonic() + MAX_END
    while (running := list(_processes(folder))) and time.monotonic() < deadline:
        for number, _ in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.05)
    while points := list(_mounts(folder)):
        for point in reversed(points):
            subprocess.run(["umount", "-l", point], check=False)
        if time.monotonic() > deadline:
            break
    for name in _namespaces(pid):
        subprocess.run(["ip", "netns", "del", name], check=False)
    for container in folder.glob("**/data/containers/*"):
        for group in CGROUPS.glob(f"**/docker/{container.name}"):
            with contextlib.suppress(OSError):  # busy, or gone
                group.rmdir()
    shutil.rmtree(folder, ignore_errors=True)


def wait_for_nothing(folder: Path, longest: float = MAX_END) -> list[str]:
    """Return what is left, in words, once no process is left or the time is over."""
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline and any(_processes(folder)):
        time.sleep(0.1)
    return found(folder)


def found(folder: Path, pid: int | None = None) -> list[str]:
    """Return what is left now of this process, or another, in words."""
    kinds: dict[str, Callable[[], Iterator[str]]] = {
        "file": lambda: (str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))),
        "process": lambda: (f"{pid} {command}" for pid, command in _processes(folder)),
        "mount": lambda: _mounts(folder),
        "link": _links,
        "namespace": lambda: _namespaces(pid or os.getpid()),
    }
    return [f"{kind} {what}" for kind, look in kinds.items() for what in look()]


def _processes(folder: Path) -> Iterator[tuple[int, str]]:
    """Programs started by the tests; ended ones that wait to be reaped lack these texts."""
    name = os.fsencode(folder)
    mounts = Path("/proc/self/ns/mnt").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            texts = command + (entry / "environ").read_bytes()
            if (entry / "ns/mnt").readlink() != mounts:
                texts += (entry / "mountinfo").read_bytes()
            if name in texts:
                yield int(entry.name), command.replace(bytes(1), b" ").decode(errors="replace")


def _mounts(folder: Path) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (point := line.split()[4]).startswith(f"{folder}/"):
            yield point


def _links() -> Iterator[str]:
    if not own_network.is_own():
        return
    shown = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout
    for link in json.loads(shown):
        if link["ifname"] not in OWN_LINKS:
            yield link["ifname"]


def _namespaces(pid: int) -> Iterator[str]:
    ours = re.compile(rf"cdns\D*{pid % 100_000}(\D.*)?")
    if NAMED_NAMESPACES.is_dir():
        yield from (path.name for path in NAMED_NAMESPACES.iterdir() if ours.fullmatch(path.name))


if __name__ == "__main__":
    main()

"""Whatever a process that runs tests leaves on the machine, found at its end.

The process has a temporary folder of its own. Its path is what the things of the process have in
common: files lie in it, mounts below it, and programs inherit it as TMPDIR, name it in their
command, or, in a container, have their root file system on it. Links are looked for in the network
namespace of the process, and named namespaces by the process id, which `own_name` puts in.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import own_network

MAX_END = 30.0  # seconds until a program that was told to end has ended, on a busy machine
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

    The folders of `tmp_path` stay in the machine's, where pytest keeps those of failed tests.
    """
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(SHARED))
    folder = Path(tempfile.mkdtemp(prefix="cdns-", dir="/tmp"))
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop("TMPDIR")
        if before[0] is not None:
            os.environ["TMPDIR"] = before[0]
        tempfile.tempdir = before[1]
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fail the last test of the process if anything is left."""
    with own_folder() as folder:
        yield
        left = wait_for_nothing(folder)
        assert not left, "tests left behind: " + "; ".join(left)


def wait_for_nothing(folder: Path, longest: float = MAX_END) -> list[str]:
    """Return what is left, in words, once no process is left or the time is over."""
    deadline = time.monotonic() + longest
    while time.monotonic() < deadline and any(_processes(str(folder).encode())):
        time.sleep(0.1)
    return found(folder)


def found(folder: Path) -> list[str]:
    """Return what is left now, in words."""
    kinds: dict[str, Callable[[], Iterator[str]]] = {
        "file": lambda: (str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))),
        "process": lambda: _processes(str(folder).encode()),
        "mount": lambda: _mounts(f"{folder}/"),
        "link": _links,
        "namespace": _namespaces,
    }
    return [f"{kind} {what}" for kind, look in kinds.items() for what in look()]


def _processes(folder: bytes) -> Iterator[str]:
    """Programs started by the tests; ended ones that wait to be reaped lack these texts."""
    mounts = Path("/proc/self/ns/mnt").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        if entry.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            texts = command + (entry / "environ").read_bytes()
            if (entry / "ns/mnt").readlink() != mounts:
                texts += (entry / "mountinfo").read_bytes()
            if folder in texts:
                yield f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace')}"


def _mounts(below: str) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if (point := line.split()[4]).startswith(below):
            yield point


def _links() -> Iterator[str]:
    if not own_network.is_own():
        return
    shown = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout
    for link in json.loads(shown):
        if link["ifname"] not in OWN_LINKS:
            yield link["ifname"]


def _namespaces() -> Iterator[str]:
    ours = re.compile(rf"cdns\D*{os.getpid() % 100_000}(\D.*)?")
    if NAMED_NAMESPACES.is_dir():
        yield from (path.name for path in NAMED_NAMESPACES.iterdir() if ours.fullmatch(path.name))

"""What tests leave behind is found, of each kind, and fails the run."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import own_network
from tests.left_behind import found, own_folder, own_name, wait_for_nothing
from tests.timing import wait_until

SLEEP = ["sleep", "1000"]
KILLED = """
import os, pathlib, signal, subprocess
from tests import own_network
from tests.engine.dockerd import Dockerd
from tests.left_behind import own_folder, own_name

own_network.enter()
with own_folder() as folder:
    print(os.getpid(), folder, flush=True)
    {what}
    os.kill(os.getpid(), signal.SIGKILL)
"""
TEST = """
import tempfile
from tests.conftest import nothing_is_left_behind

def test_that_leaves_a_folder():
    tempfile.mkdtemp()
"""


@contextmanager
def a_folder() -> Iterator[str]:
    path = tempfile.mkdtemp()
    yield f"file {Path(path).name}"
    Path(path).rmdir()


@contextmanager
def a_socket_in_a_folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as path:
        (Path(path) / "engine.sock").touch()
        yield f"file {Path(path).name}/engine.sock"


@contextmanager
def a_process() -> Iterator[str]:
    with running(SLEEP) as pid:
        yield f"process {pid} sleep 1000 "


@contextmanager
def a_process_that_only_names_the_folder() -> Iterator[str]:
    command = ["sh", "-c", "sleep 1000; :", tempfile.gettempdir()]
    with running(["env", "-i", *command]) as pid:
        yield f"process {pid} {' '.join(command)} "


@contextmanager
def a_mount() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as path, ExitStack() as stack:
        subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
        stack.callback(subprocess.run, ["umount", path], check=True)
        yield f"mount {path}"


@contextmanager
def a_bridge() -> Iterator[str]:
    name = own_name("t")
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    yield f"link {name}"
    subprocess.run(["ip", "link", "del", name], check=True)


@contextmanager
def a_named_namespace() -> Iterator[str]:
    name = f"{own_name('t')}-0"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield f"namespace {name}"
    subprocess.run(["ip", "netns", "del", name], check=True)


@contextmanager
def running(command: list[str]) -> Iterator[int]:
    process = subprocess.Popen(command, start_new_session=True)
    yield process.pid
    os.killpg(process.pid, 9)
    process.wait()


def skip_without_root() -> None:
    if not (own_network.is_own() and shutil.which("dockerd")):
        pytest.skip("needs root and a Docker Engine")


@pytest.mark.parametrize(
    "thing",
    [
        a_folder, a_socket_in_a_folder, a_process, a_process_that_only_names_the_folder,
        a_mount, a_bridge, a_named_namespace,
    ],
)  # fmt: skip
def test_what_is_left_is_found(thing: Callable[[], AbstractContextManager[str]]) -> None:
    if thing in (a_mount, a_bridge, a_named_namespace):
        skip_without_root()
    with own_folder() as folder:
        earlier = found(folder)  # the bridge of an Engine that other tests of the process use
        with thing() as left:
            while left not in found(folder):  # a program becomes itself after it was started
                pass
        assert left not in earlier
        assert wait_for_nothing(folder) == earlier


def test_run_that_leaves_a_folder_fails_though_its_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert "1 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "tests left behind: file tmp" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("what", "needs_root"),
    [
        ("(folder / 'file').touch()", False),
        ("subprocess.Popen(['sleep', '1000'], start_new_session=True)", False),
        ("subprocess.run(['mount', '-m', '-t', 'tmpfs', 'none', folder / 'on'], check=True)", True),
        ("subprocess.run(['ip', 'netns', 'add', own_name('t')], check=True)", True),
        ("engine = Dockerd(); engine.set_up(); engine.run('web', restart=True)", True),
    ],
    ids=["file", "process", "mount", "namespace", "Engine"],
)
def test_what_a_killed_run_leaves_is_removed(what: str, needs_root: bool, tmp_path: Path) -> None:
    if needs_root:
        skip_without_root()
    command = [sys.executable, "-c", KILLED.format(what=what)]
    killed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    pid, folder = killed.stdout.split()
    wait_until(lambda: not Path(folder).exists())
    earlier = found(tmp_path / "named by no process")  # links of other tests
    assert found(Path(folder), int(pid)) == earlier

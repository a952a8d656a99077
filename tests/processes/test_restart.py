"""A secondary of a server that restarts: never wrong, never stuck."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.resolvers import lack
from tests.engine.running import free_port, serving
from tests.fleet.running import simulated
from tests.server import secondaries
from tests.timing import wait_until


@contextmanager
def following(program: str, folder: Path, port: int, primary_port: int) -> Iterator[None]:
    """Run a secondary of a server on loopback."""
    if shutil.which(program) is None:
        lack(f"{program} is not installed")
    command = secondaries.COMMANDS[program](folder, port, primary_port, False)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def answer(port: int, name: str, qtype: str = "A") -> str:
    """The answer of a server of loopback, by dig; "" for none."""
    command = ["dig", "@127.0.0.1", "-p", str(port), "+short", "+time=1", "+tries=1", name, qtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout.strip()


@pytest.mark.parametrize("program", sorted(secondaries.COMMANDS))
@pytest.mark.parametrize("is_kept", [True, False], ids=["with --state", "without"])
def test_secondary_has_what_changed_during_a_restart(
    program: str, is_kept: bool, tmp_path: Path
) -> None:
    """The zone may come whole once, under a higher serial; afterwards differences again."""
    port, copied = free_port(), free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--notify", f"127.0.0.1:{copied}"]
    options += ["--host-address", "192.0.2.1"]
    if is_kept:
        options += ["--state", str(tmp_path / "state.json")]
    with simulated(tmp_path) as engine, following(program, tmp_path, copied, port):
        stays, goes = engine.add("stays", "10.1.0.1"), engine.add("goes", "10.1.0.2")
        with serving(*options, docker=engine.url):
            wait_until(lambda: answer(copied, "goes.docker") == "10.1.0.2")
            before = answer(copied, "docker", "SOA")
        engine.remove(goes)
        engine.add("comes", "10.1.0.3")
        with serving(*options, docker=engine.url) as server:
            wait_until(lambda: answer(copied, "comes.docker") == "10.1.0.3")
            assert answer(copied, "goes.docker") == ""
            assert answer(copied, "stays.docker") == "10.1.0.1"
            assert int(answer(copied, "docker", "SOA").split()[2]) > int(before.split()[2])
            whole = server.log().count("IXFR of docker. to 127.0.0.1: the whole zone")
            engine.remove(stays)
            wait_until(lambda: answer(copied, "stays.docker") == "")
            log = server.log()
            assert log.count("IXFR of docker. to 127.0.0.1: the whole zone") == whole, log
            assert "IXFR of docker. to 127.0.0.1: differences" in log

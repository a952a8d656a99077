"""Which Engine is followed, and why: as the docker command would have it.

The contexts are made by the real docker command, in a home of the test's own.
"""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from containerdns.config import settings as settings_module
from containerdns.config.groups import Settings
from containerdns.config.settings import load
from containerdns.errors import BadSettings
from tests.certificates import make_certificates
from tests.clients.resolvers import lack

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, for us and for the docker command."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


def docker(*words: str) -> None:
    """Run the docker command, which needs no Engine for its contexts."""
    program = shutil.which("docker") or lack("docker is not installed")
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def loaded(**flags: object) -> Settings:
    return load(flags, os.environ)


def test_context_that_is_in_use_names_the_engine() -> None:
    docker("context", "create", "remote", "--docker", "host=tcp://192.0.2.7:2375")
    assert loaded().engines.urls == ("unix:///var/run/docker.sock",), "it is not used yet"
    docker("context", "use", "remote")
    found = loaded()
    assert found.engines.urls == ("tcp://192.0.2.7:2375",)
    assert (found.engines.tls, found.engines.source) == (None, "the Docker context remote")


def test_variable_beats_the_context_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    docker("context", "create", "remote", "--docker", "host=tcp://192.0.2.7:2375")
    docker("context", "create", "other", "--docker", "host=ssh://ops@engine.example")
    docker("context", "use", "remote")
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    assert loaded().engines.urls == ("ssh://ops@engine.example",)
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert loaded().engines.source == "the default socket"


def test_host_of_the_environment_beats_every_context(monkeypatch: pytest.MonkeyPatch) -> None:
    docker("context", "create", "remote", "--docker", "host=tcp://192.0.2.7:2375")
    docker("context", "use", "remote")
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.8:2375")
    found = loaded()
    assert (found.engines.urls, found.engines.source) == (("tcp://192.0.2.8:2375",), "DOCKER_HOST")
    found = loaded(docker="unix:///run/a.sock")
    assert (found.engines.urls, found.engines.source) == (("unix:///run/a.sock",), "--docker")


@pytest.mark.parametrize(("skips", "verifies"), [("false", True), ("true", False)])
def test_context_brings_its_certificates(tmp_path: Path, skips: str, verifies: bool) -> None:
    made = tmp_path / "made"
    made.mkdir()
    make_certificates(made)
    files = ",".join(f"{key}={made}/{key}.pem" for key in ("ca", "cert", "key"))
    host = f"host=tcp://192.0.2.7:2376,skip-tls-verify={skips},{files}"
    docker("context", "create", "remote", "--docker", host)
    docker("context", "use", "remote")
    found = loaded()
    assert found.engines.verifies is verifies
    assert found.engines.tls is not None
    for name in ("ca.pem", "cert.pem", "key.pem"):
        assert (found.engines.tls / name).read_text() == (made / name).read_text()


def test_context_that_does_not_exist_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    docker("context", "create", "remote", "--docker", "host=tcp://192.0.2.7:2375")
    docker("context", "use", "remote")
    monkeypatch.setenv("DOCKER_CONTEXT", "none")
    with pytest.raises(BadSettings, match=r"^DOCKER_CONTEXT='none': expected a Docker context; "):
        loaded()


def test_damaged_context_stops_the_start(home: Path) -> None:
    docker("context", "create", "remote", "--docker", "host=tcp://192.0.2.7:2375")
    docker("context", "use", "remote")
    [meta] = (home / ".docker/contexts/meta").glob("*/meta.json")
    meta.write_text("{")
    with pytest.raises(BadSettings, match="a readable Docker context"):
        loaded()


def test_rootless_socket_serves_where_there_is_no_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = f"unix://{home}/none.sock"
    monkeypatch.setattr(settings_module, "DEFAULT_SOCKET", absent)
    rootless = home / "run" / "docker.sock"
    rootless.parent.mkdir()
    assert loaded().engines.source == "the default socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(rootless))
        found = loaded()
    assert (found.engines.urls, found.engines.source) == (
        (f"unix://{rootless}",),
        "the rootless socket",
    )


def test_without_a_configuration_the_sdk_is_not_imported() -> None:
    """It costs 50 ms at every start, of the health check, too."""
    code = (
        "import os, sys; from containerdns.config.settings import load; load({}, os.environ); "
        "sys.exit('docker' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may give up capabilities")
@pytest.mark.parametrize("variable", ["HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"])
def test_directory_of_another_user_is_ignored(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `su` and `sudo -E`; the docker command, too, goes on with its defaults."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    foreign.chmod(0o700)
    os.chown(foreign, 12345, 12345)
    monkeypatch.setenv(variable, str(foreign))
    rights = "-dac_override,-dac_read_search"
    program = "import os; from containerdns.config.settings import load; load({}, os.environ)"
    done = subprocess.run(
        [
            "setpriv",
            f"--bounding-set={rights}",
            f"--inh-caps={rights}",
            sys.executable,
            "-c",
            program,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may give up capabilities")
def test_certificates_of_another_user_are_an_invalid_value(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    foreign.chmod(0o700)
    os.chown(foreign, 12345, 12345)
    rights = "-dac_override,-dac_read_search"
    within = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
    command = [sys.executable, "-m", "containerdns", "serve", "--docker-tls", str(foreign)]
    done = subprocess.run([*within, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "ca.pem, cert.pem and key.pem (Permission denied)" in done.stderr

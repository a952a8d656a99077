"""The door to the Engine: ways to reach it, refusals, and listings in pieces."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from containerdns.config.settings import load
from containerdns.engine.client import EngineClient, Event
from containerdns.engine.transport import EngineAddress, parse_url
from containerdns.errors import BadDocument, EngineUnavailable
from tests.certificates import make_certificates
from tests.engine.dockerd import Dockerd
from tests.engine.recorder import watching
from tests.engine.simulated import SimulatedEngine
from tests.timing import until


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


@pytest.mark.parametrize(
    ("url", "with_tls", "address"),
    [
        ("unix:///run/docker.sock", False, ("unix", "/run/docker.sock", "", 0)),
        ("tcp://engine.example", False, ("http", "", "engine.example", 2375)),
        ("tcp://192.0.2.1:4000", True, ("https", "", "192.0.2.1", 4000)),
        ("tcp://[2001:db8::1]", True, ("https", "", "2001:db8::1", 2376)),
        ("ssh://ops@engine.example:2222", False, ("ssh", "", "ops@engine.example", 2222)),
        ("ssh://engine.example", False, ("ssh", "", "engine.example", 0)),
    ],
)
def test_url_is_read(url: str, with_tls: bool, address: tuple[str, str, str, int]) -> None:
    assert parse_url(url, with_tls) == EngineAddress(url, *address)


@pytest.mark.parametrize(
    "url",
    ["unix:/run/docker.sock", "unix://run/docker.sock", "UNIX:///run/docker.sock",
     "unix:////run/docker.sock"],
)  # fmt: skip
def test_option_and_client_read_the_same_url(url: str) -> None:
    """The option took unix:/PATH, and the client retried forever."""
    assert load({"docker": [url]}, {}).engines.urls == ("unix:///run/docker.sock",)
    address = parse_url(url, with_tls=False)
    assert address == EngineAddress("unix:///run/docker.sock", "unix", "/run/docker.sock")


@pytest.mark.parametrize("url", ["", "docker", "ftp://x", "tcp://", "tcp://x:port", "ssh://"])
def test_url_of_no_engine_is_refused(url: str) -> None:
    with pytest.raises(EngineUnavailable, match="expected unix:///PATH"):
        parse_url(url, with_tls=False)


async def refusal(url: str, tls: Path | None = None) -> str:
    """The cause that a first question ends with."""
    client = EngineClient(url, tls)
    with pytest.raises(EngineUnavailable) as caught:
        await client.negotiate()
    await client.close()
    return caught.value.cause


async def test_absent_socket_is_told_with_what_to_do(socket: Path) -> None:
    assert await refusal(f"unix://{socket}") == (
        f"no Docker socket {socket}: start Docker, or use another one with --docker"
    )


async def test_socket_without_a_listener_is_told(socket: Path) -> None:
    async with SimulatedEngine(socket):
        pass
    os.mknod(socket, stat.S_IFSOCK | 0o600)
    assert "connection refused:" in await refusal(f"unix://{socket}")


async def test_other_server_is_told_as_none_of_docker(socket: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(greet, socket)
    async with server:
        assert "does not respond like an Engine" in await refusal(f"unix://{socket}")


async def test_gone_container_is_none_and_a_failure_is_a_bad_document(socket: Path) -> None:
    async with SimulatedEngine(socket, 1) as engine:
        client = EngineClient(engine.url)
        await client.negotiate()
        assert await client.inspect("0" * 64) is None
        [container_id] = engine.ids()
        engine.statuses[f"/containers/{container_id}/json"] = 500
        with pytest.raises(BadDocument, match="status 500"):
            await client.inspect(container_id)
        await client.close()


@pytest.mark.parametrize("status", [400, 403, 499, 503])
async def test_document_that_is_refused_is_none(status: int, socket: Path) -> None:
    """By a socket proxy, or by an Engine that is no manager of a swarm."""
    async with SimulatedEngine(socket) as engine:
        engine.statuses["/networks"] = status
        client = EngineClient(engine.url)
        await client.negotiate()
        assert await client.networks() is None
        await client.close()


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_document_of_an_engine_that_fails_is_a_fault(status: int, socket: Path) -> None:
    async with SimulatedEngine(socket) as engine:
        engine.statuses["/networks"] = status
        client = EngineClient(engine.url)
        await client.negotiate()
        with pytest.raises(EngineUnavailable, match=f"status {status}"):
            await client.networks()
        await client.close()


async def test_engine_whose_version_is_refused_is_asked_without_one(socket: Path) -> None:
    """Of the socket proxies some forbid /version."""
    async with SimulatedEngine(socket, 1) as engine:
        engine.statuses["/version"] = 403
        client = EngineClient(engine.url)
        version = await client.negotiate()
        assert (version.engine, version.api) == ("", "")
        assert await client.inspect(engine.ids()[0]) is not None
        await client.close()


async def test_inspect_of_many_megabytes_is_a_bad_document(socket: Path) -> None:
    """An Engine accepts a label of 17 MiB."""
    async with SimulatedEngine(socket) as engine:
        big = engine.add("big", docker_labels={"text": "x" * (17 << 20)})
        small = engine.add("small")
        client = EngineClient(engine.url)
        await client.negotiate()
        with pytest.raises(BadDocument, match="longer than"):
            await client.inspect(big)
        assert await client.inspect(small) is not None
        await client.close()


@pytest.mark.parametrize("order", ["old", "new"])
async def test_event_of_many_megabytes_is_read_by_its_ends(socket: Path, order: str) -> None:
    """Events carry all labels; old Engines begin with other fields than new ones."""
    head = '"status":"start","id":"0a","from":"web",' if order == "old" else ""
    label = '\\"Type\\":\\"network\\"' * 100_000
    event = (
        f'{{{head}"Type":"container","Action":"health_status: healthy",'
        f'"Actor":{{"ID":"0a","Attributes":{{"text":"{label}","name":"web"}}}},'
        '"scope":"local","time":1700000000,"timeNano":1700000000123456789}\n'
    )
    async with SimulatedEngine(socket, 1) as engine:
        client = EngineClient(engine.url)
        async with client.events() as stream:
            await until(lambda: engine.requests["/events"])
            engine.send(event.encode())
            engine.emit("container", "start", "0b")
            found: list[Event] = []
            while len(found) < 2:
                found += await stream.next()
        await client.close()
    assert found[0] == Event("container", "health_status", "0a", {}, 1_700_000_000_123_456_789)
    assert found[1].actor_id == "0b"


async def test_connection_that_was_closed_while_idle_is_replaced(socket: Path) -> None:
    engine = SimulatedEngine(socket)
    await engine.start()
    client = EngineClient(engine.url)
    await client.negotiate()
    await engine.stop()
    await engine.start()
    await client.negotiate()
    await client.close()
    await engine.stop()


def is_running(pid: str) -> bool:
    return Path("/proc", pid).exists()


async def test_engine_is_reached_over_ssh(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ssh command is a stand-in, which carries `docker system dial-stdio`.

    It does not end with its input, as over a network that is gone.
    """
    command, started = tmp_path / "ssh", tmp_path / "started"
    command.write_text(
        f"#!{sys.executable}\n"
        "import socket, sys, threading, os\n"
        "assert sys.argv[-2:] == ['ops@engine.example', 'docker system dial-stdio'], sys.argv\n"
        f"print(os.getpid(), file=open({str(started)!r}, 'a'))\n"
        "engine = socket.socket(socket.AF_UNIX)\n"
        f"engine.connect({str(socket)!r})\n"
        "def forward():\n"
        "    while octets := os.read(0, 65536):\n"
        "        engine.sendall(octets)\n"
        "threading.Thread(target=forward, daemon=True).start()\n"
        "while octets := engine.recv(65536):\n"
        "    os.write(1, octets)\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    async with (
        SimulatedEngine(socket, 5) as engine,
        watching("ssh://ops@engine.example") as (recorder, _),
    ):
        await recorder.until_listed()
        assert len(recorder.running()) == 5
        engine.add("late")
        await recorder.until(lambda: "late" in recorder.running())
    pids = started.read_text().split()
    assert pids
    assert not any(map(is_running, pids))


async def test_missing_certificates_are_told(tmp_path: Path) -> None:
    assert "lacks ca.pem" in await refusal("tcp://127.0.0.1:1", tmp_path)


async def test_engine_is_reached_over_tls_with_certificates(
    engine: Dockerd, tmp_path: Path
) -> None:
    """A real Engine listens; the certificates are made for this test."""
    make_certificates(tmp_path)
    async with tls_front(engine.socket, tmp_path) as port:
        url = f"tcp://127.0.0.1:{port}"
        async with watching(url, tmp_path) as (recorder, _):
            await recorder.until_listed()
            await asyncio.to_thread(engine.run, "web")
            await recorder.until(lambda: "web" in recorder.running())
        other = tmp_path / "other"
        other.mkdir()
        make_certificates(other)
        assert "TLS failed" in await refusal(url, other)


async def test_tls_says_what_is_wrong_with_a_certificate(socket: Path, tmp_path: Path) -> None:
    """Not CERTIFICATE_VERIFY_FAILED, whatever it is."""
    expired, other = tmp_path / "expired", tmp_path / "other"
    for folder, days in ((expired, -1), (other, 2)):
        folder.mkdir()
        make_certificates(folder, days)
    async with tls_front(socket, expired) as port:
        url = f"tcp://127.0.0.1:{port}"
        assert await refusal(url, expired) == "TLS failed: certificate has expired"
        assert "self-signed certificate in certificate chain" in await refusal(url, other)


async def test_name_that_cannot_be_resolved_is_told_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no resolver answers, too: in less time than a connection may take (resolv.conf(5))."""
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")
    told = await refusal("tcp://engine.invalid:2375")
    assert "cannot resolve its host name (" in told
    assert "if this machine uses containerdns" in told


@asynccontextmanager
async def tls_front(socket: Path, certificates: Path) -> AsyncIterator[int]:
    """Stand before a socket as a TLS server that wants a client's certificate."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FRONT, str(socket), str(certificates)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    try:
        yield int(await program.stdout.readline())
    finally:
        program.kill()
        await program.wait()


FRONT = """
import asyncio, ssl, sys
socket, folder = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
context.load_verify_locations(folder + "/ca.pem")
context.verify_mode = ssl.CERT_REQUIRED

async def pump(reader, writer):
    while octets := await reader.read(65536):
        writer.write(octets)
        await writer.drain()
    writer.close()

async def serve(reader, writer):
    engine_reader, engine_writer = await asyncio.open_unix_connection(socket)
    await asyncio.gather(pump(reader, engine_writer), pump(engine_reader, writer))

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""

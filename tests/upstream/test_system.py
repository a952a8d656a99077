"""`--upstream system`: the servers of resolv.conf, which may be empty at boot, and change."""

import random
from functools import partial
from pathlib import Path

import pytest

from containerdns.core.endpoints import SYSTEM, Endpoint, UpstreamServer
from containerdns.core.protocol import messages
from containerdns.upstream.forwarder import Forwarder
from containerdns.upstream.system import SystemServers
from tests.timing import until
from tests.upstream.fakes import upstream
from tests.upstream.forwarding import addresses, forwarder, question, settings
from tests.upstream.test_forwarder import WWW, answers_of, is_silent, says

RESOLV_CONF = """\
# made by hand
search corp.example
nameserver 127.0.0.11
nameserver 127.0.0.2
nameserver 10.0.0.53
nameserver fd00::53
nameserver nonsense
nameserver
nameserver 10.0.0.53
options ndots:5
"""


def servers(folder: Path, text: str, *listening: str) -> list[str]:
    path = folder / "resolv.conf"
    path.write_text(text)
    own = [Endpoint(host, int(port or 53)) for host, _, port in map(_split, listening)]
    return [str(server) for server in SystemServers(path).servers(own)]


def _split(text: str) -> tuple[str, str, str]:
    return text.partition("@")


def write(path: Path, *hosts: str) -> None:
    """Write a new resolv.conf and move it over the old one, as programs do."""
    beside = path.with_suffix(".new")
    beside.write_text("".join(f"nameserver {host}\n" for host in hosts))
    beside.rename(path)


def test_they_are_what_the_file_says_but_for_us_and_docker(tmp_path: Path) -> None:
    """resolv.conf(5); Docker's resolver may ask the host's, and that may be us."""
    assert servers(tmp_path, RESOLV_CONF, "127.0.0.2") == ["10.0.0.53", "fd00::53"]


def test_a_server_on_another_port_of_ours_is_not_us(tmp_path: Path) -> None:
    assert "127.0.0.2" in servers(tmp_path, RESOLV_CONF, "127.0.0.2@5353")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.53", "::1"])
def test_a_wildcard_listens_on_every_address_of_this_machine(tmp_path: Path, host: str) -> None:
    text = f"nameserver {host}\nnameserver 10.0.0.53\n"
    assert servers(tmp_path, text, "0.0.0.0", "::") == ["10.0.0.53"]


def test_no_server_is_warned_of_once_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "resolv.conf"
    system = SystemServers(path)
    assert (system.servers(()), system.servers(())) == ((), ())
    assert [path.name in record.message for record in caplog.records] == [True]
    write(path, "10.0.0.53")
    assert system.look()
    assert system.servers(()) == (UpstreamServer("udp", "10.0.0.53", 53),)
    assert not system.look()
    write(path)
    assert system.look()
    assert system.servers(()) == ()
    assert len(caplog.records) == 2


def test_a_file_that_is_rewritten_with_the_same_servers_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    write(path, "10.0.0.53")
    system = SystemServers(path)
    write(path, "10.0.0.53", "10.0.0.53")
    assert not system.look()


def loopback() -> str:
    """An address of loopback that nobody else uses: servers of resolv.conf have port 53."""
    return f"127.{random.randrange(64, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def is_asked(forward: Forwarder, host: str) -> bool:
    return [server.name for server in forward.status()] == [host]


async def test_an_empty_file_at_boot_starts_and_the_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    write(path)
    one, two = loopback(), loopback()
    async with (
        upstream(says("192.0.2.1"), host=one, port=53),
        upstream(says("192.0.2.2"), host=two, port=53),
        forwarder(settings(servers=(SYSTEM,)), path) as forward,
    ):
        resolution = await forward.resolve(WWW)
        assert (resolution.rcode, resolution.source) == (messages.SERVFAIL, "policy")
        for host, address in ((one, "192.0.2.1"), (two, "192.0.2.2")):
            write(path, host)
            await until(partial(is_asked, forward, host))
            assert addresses(WWW, await forward.resolve(WWW)) == [address]


async def test_a_file_that_is_empty_for_a_while_keeps_what_is_cached(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    host = loopback()
    write(path, host)
    async with (
        upstream(says("192.0.2.1"), host=host, port=53) as fake,
        forwarder(settings(servers=(SYSTEM,)), path) as forward,
    ):
        await forward.resolve(WWW)
        write(path)
        await until(lambda: not forward.status())
        assert (await forward.resolve(question("other.example."))).rcode == messages.SERVFAIL
        write(path, host)
        await until(forward.status)
        assert forward.cached(WWW) is not None
        other = question("other.example.")
        assert addresses(other, await forward.resolve(other)) == ["192.0.2.1"]
        assert fake.names.count("www.example.") == 1


async def test_a_server_of_the_file_that_leads_back_to_us_is_not_asked(tmp_path: Path) -> None:
    """Nobody chose it, so that it does not stop the start."""
    path = tmp_path / "resolv.conf"
    hosts = loopback(), loopback()
    write(path, *hosts)
    async with (
        upstream(is_silent, host=hosts[0], port=53) as ourselves,
        upstream(says("192.0.2.2"), host=hosts[1], port=53),
        forwarder(settings(servers=(SYSTEM,)), path) as forward,
    ):
        ourselves.script = answers_of(forward)
        await forward.detect_loop(())
        assert addresses(WWW, await forward.resolve(WWW)) == ["192.0.2.2"]
        assert [server.is_healthy for server in forward.status()] == [False, True]


async def test_a_server_that_comes_later_and_leads_back_to_us_is_not_asked(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    write(path)
    host = loopback()
    async with (
        upstream(is_silent, host=host, port=53) as ourselves,
        forwarder(settings(servers=(SYSTEM,)), path) as forward,
    ):
        ourselves.script = answers_of(forward)
        write(path, host)
        await until(lambda: any("leads back" in s.last_failure for s in forward.status()))

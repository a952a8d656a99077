"""SIGHUP on a running server: every option is either applied or named as waiting.

One server for all; each case loads a value, reloads another, and looks from outside at what
the option is about.  An option of the registry without a case fails.
"""

import ast
import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import dnslib
import pytest

from containerdns.config.settings import OPTIONS, Option, load, reloaded
from tests.engine.running import RecordingUpstream, Running, serving
from tests.engine.simulated import SimulatedEngine
from tests.timing import MAX_WAIT, wait_until

WEB, PAIR, SICK = "172.28.9.1", "172.28.9.2", "172.28.9.3"
LEFT, HEIR = "172.28.9.4", "172.28.9.5"
OLD_KEY = "old-key hmac-sha256 b2xkIHNlY3JldCBvZiBhIHRlc3Q="
SIGNED = "hmac-sha256:" + ":".join(OLD_KEY.split()[::2])  # as dig wants it
NEW_KEY = "new-key hmac-sha256 bmV3IHNlY3JldCBvZiBhIHRlc3Q="
WAITING = [option for option in OPTIONS if option.needs_restart]
APPLIED = [option for option in OPTIONS if not option.needs_restart]


class World:
    """A running server with all that its options may be about.

    Attributes:
        server: It.
        engine: Its Engine, which must be touched by way of `change` alone.
        folder: For files.
        first: An upstream.
        second: Another one, which knows other addresses.
        secondary: A socket that NOTIFY may be sent to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._config = folder / "config.toml"
        self.first = RecordingUpstream(
            {
                "public.example": "93.184.216.34",
                "private.example": "10.1.2.3",
                "use-application-dns.net": "93.184.216.35",
            }
        )
        self.second = RecordingUpstream(
            {"public.example": "93.184.216.36", "intra.corp.example": "93.184.216.37"}
        )
        self.secondary = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.secondary.bind(("127.0.0.1", 0))
        self.secondary.setblocking(False)
        self._supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._supervisor.bind(str(folder / "notify"))
        self._supervisor.settimeout(MAX_WAIT)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.engine = SimulatedEngine(folder / "engine")
        self.change(self._fill)
        asyncio.run_coroutine_threadsafe(self.engine.start(), self._loop).result()
        self.server: Running

    def _fill(self) -> None:
        labels = {"com.example.app": "shop", "other.names": "second"}
        self.engine.add("web", address=WEB, docker_labels=labels)
        self.engine.add("good", address=PAIR, docker_labels={"containerdns.names": "pair"})
        sick = self.engine.add("sick", address=SICK, docker_labels={"containerdns.names": "pair"})
        self.engine.set_health(sick, "unhealthy")

    def change(self, step: Callable[[], object]) -> None:
        """Run a step on the Engine's event loop."""

        async def taken() -> None:
            step()

        asyncio.run_coroutine_threadsafe(taken(), self._loop).result()

    def write(self, options: dict[str, Any]) -> None:
        """Write the configuration: these options, and an upstream that is ours."""
        given = {"upstream": [f"127.0.0.1:{self.first.port}"], **options}
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in given.items()]
        self._config.write_text("".join(lines))

    def start(self) -> Running:
        self.write({})
        os.environ["NOTIFY_SOCKET"] = str(self.folder / "notify")
        try:
            return Running("--config", str(self._config), docker=self.engine.url)
        finally:
            del os.environ["NOTIFY_SOCKET"]

    def reload(self, options: dict[str, Any]) -> None:
        """Reload with these options; return when it is done."""
        self.write(options)
        self.server.send_signal(signal.SIGHUP)
        while self._supervisor.recv(4096) != b"RELOADING=1":
            pass
        while self._supervisor.recv(4096) != b"READY=1":
            pass

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.engine.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.first.close()
        self.second.close()
        self.secondary.close()
        self._supervisor.close()

    # What cases look at.

    def http_status(self, host: str) -> int:
        request = urllib.request.Request(f"{self.server.url}/status", headers={"Host": host})
        try:
            with urllib.request.urlopen(request, timeout=MAX_WAIT) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def queries(self) -> list[dict[str, Any]]:
        for number in range(5):
            self.server.ask(f"query{number}.docker")
        return list(self.server.get_json("/queries")["queries"])

    def sees_another(self) -> bool:
        """Whether /queries shows what another client asked."""
        query = bytes(dnslib.DNSRecord.question("another.docker").pack())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.bind(("127.0.0.9", 0))
            asking.settimeout(MAX_WAIT)
            asking.sendto(query, ("127.0.0.1", self.server.port))
            asking.recv(4096)
        shown = self.server.get_json("/queries")["queries"]
        return any(query["client"] == "127.0.0.9" for query in shown)

    def ttl(self, name: str) -> int:
        response = self.server.ask(name)
        return int((response.rr or response.auth)[0].ttl)

    def remembers_one(self) -> bool:
        """Whether the name of a container that was just removed is remembered."""
        self.change(lambda: self.engine.add("gone"))
        wait_until(lambda: self.server.addresses("gone.docker") != [])
        self.change(lambda: self.engine.remove(self.engine.ids()[-1]))
        wait_until(lambda: self.server.addresses("gone.docker") == [])
        return bool(self.server.get_json("/zone?format=json&name=gone")["remembered"])

    def passes_at_once(self) -> bool:
        """Whether a Compose service inherits the name of a container that was just removed."""
        labels = {"com.docker.compose.project": "p", "com.docker.compose.service": "left"}
        self.change(lambda: self.engine.add("heir", address=HEIR, docker_labels=labels))
        heir = self.engine.ids()[-1]
        self.change(lambda: self.engine.add("left", address=LEFT))
        wait_until(lambda: self.server.addresses("left.docker") == [LEFT])
        wait_until(lambda: self.server.addresses("heir.docker") == [HEIR])
        self.change(lambda: self.engine.remove(self.engine.ids()[-1]))
        wait_until(lambda: self.server.addresses("left.docker") != [LEFT])
        found = self.server.addresses("left.docker") == [HEIR]
        self.change(lambda: self.engine.remove(heir))
        return found

    def cached(self) -> bool:
        self.server.ask("public.example")
        return self.server.metric("cache_entries") > 0

    def notified(self) -> bool:
        """Whether the secondary receives NOTIFY for a change."""
        count = len(self.engine.ids())
        self.change(lambda: self.engine.add(f"news{count}"))
        wait_until(lambda: self.server.addresses(f"news{count}.docker") != [])
        if "notify" not in self._config.read_text():
            return _received(self.secondary)
        wait_until(lambda: _received(self.secondary))
        return True

    def logged(self, step: Callable[[], object], text: str) -> bool:
        """Whether a step is logged within a moment, like a mark that always is."""
        before = len(self.server.log())
        step()
        return text in self.server.log()[before:]

    def tells_changes(self) -> bool:
        """Whether a change of the zone is logged, which is done at INFO.

        With a later serial than that of now, if the zone changed within this second already.
        """
        before = len(self.server.log())
        self.notified()
        if 'log-level = "warning"' not in self._config.read_text():
            wait_until(lambda: "zone docker. serial" in self.server.log()[before:])
        return "zone docker. serial" in self.server.log()[before:]


def transfers_from(port: int, *options: str) -> bool:
    """Whether a server transfers its zone to us; `options` are dig's."""
    command = ["dig", "+tries=1", "+time=10", "@127.0.0.1", "-p", str(port)]
    command += [*options, "docker", "AXFR"]
    return WEB in subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _received(secondary: socket.socket) -> bool:
    with suppress(BlockingIOError):
        return secondary.recv(4096)[2] >> 3 & 15 == 4  # the opcode, NOTIFY
    return False


class Case(NamedTuple):
    """An option's two values, and what is seen of each.

    Attributes:
        before: Of the configuration.
        after: Likewise.
        look: At the running server.
        seen: What that shows before and after.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    look: Callable[[World], object]
    seen: tuple[object, object]


def addresses(name: str) -> Callable[[World], object]:
    return lambda world: world.server.addresses(name)


def cases(world: World) -> dict[str, Case]:
    """One case an option; those of several are about the one that they are named for."""
    first, second = (f"127.0.0.1:{u.port}" for u in (world.first, world.second))
    hosts, old, new = (world.folder / name for name in ("hosts", "old", "new"))
    hosts.write_text("192.0.2.9 printer\n")
    old.write_text(OLD_KEY)
    new.write_text(NEW_KEY)
    nobody = ["192.0.2.0/24"]
    port = world.secondary.getsockname()[1]
    at = {"host-address": ["192.0.2.1"]}
    protected = {"rebind-protection": True}
    return {
        "http-host": Case(
            {},
            {"http-host": ["status.corp.example"]},
            lambda w: w.http_status("status.corp.example"),
            (421, 200),
        ),
        "query-history": Case(
            {}, {"query-history": 3}, lambda w: len(w.queries()) > 3, (True, False)
        ),
        "allow-history": Case(
            {}, {"allow-history": nobody}, lambda w: w.sees_another(), (True, False)
        ),
        "domain": Case({}, {"domain": ["corp"]}, addresses("web.corp"), ([], [WEB])),
        "search-domain": Case(
            {}, {"search-domain": ["lan.example"]}, addresses("web.lan.example"), ([], [WEB])
        ),
        "bare-names": Case({}, {"bare-names": False}, addresses("web"), ([WEB], [])),
        "ttl": Case({}, {"ttl": 9}, lambda w: w.ttl("web.docker"), (5, 9)),
        "negative-ttl": Case({}, {"negative-ttl": 4}, lambda w: w.ttl("none.docker"), (1, 4)),
        "remember": Case({}, {"remember": 0}, lambda w: w.remembers_one(), (True, False)),
        "handover": Case({}, {"handover": 0}, lambda w: w.passes_at_once(), (False, True)),
        "upstream": Case(
            {"upstream": [first]},
            {"upstream": [second]},
            addresses("public.example"),
            (["93.184.216.34"], ["93.184.216.36"]),
        ),
        "forward": Case(
            {},
            {"forward": [f"corp.example={second}"]},
            addresses("intra.corp.example"),
            ([], ["93.184.216.37"]),
        ),
        "cache-size": Case({}, {"cache-size": 0}, lambda w: w.cached(), (True, False)),
        "hosts": Case(
            {}, {"hosts": [str(hosts)]}, addresses("printer.docker"), ([], ["192.0.2.9"])
        ),
        "network": Case({}, {"network": ["another"]}, addresses("web.docker"), ([WEB], [])),
        "expose-by-default": Case(
            {}, {"expose-by-default": False}, addresses("web.docker"), ([WEB], [])
        ),
        "unhealthy": Case(
            {}, {"unhealthy": "keep"}, addresses("pair.docker"), ([PAIR], [PAIR, SICK])
        ),
        "host-address": Case(
            at,
            {"host-address": ["192.0.2.2"]},
            addresses("host.docker"),
            (["192.0.2.1"], ["192.0.2.2"]),
        ),
        "host-mode": Case(
            at, {**at, "host-mode": True}, addresses("web.docker"), ([WEB], ["192.0.2.1"])
        ),
        "wildcard": Case({}, {"wildcard": True}, addresses("any.web.docker"), ([], [WEB])),
        "name-template": Case(
            {},
            {"name-template": ["{label:com.example.app}.apps"]},
            addresses("shop.apps.docker"),
            ([], [WEB]),
        ),
        "label-prefix": Case(
            {}, {"label-prefix": "other"}, addresses("second.docker"), ([], [WEB])
        ),
        "allow": Case(
            {}, {"allow": nobody}, lambda w: w.server.rcode("web.docker"), ("NOERROR", "REFUSED")
        ),
        "allow-transfer": Case(
            {}, {"allow-transfer": nobody}, lambda w: transfers_from(w.server.port), (True, False)
        ),
        "transfer-key": Case(
            {"transfer-key": [str(old)]},
            {"transfer-key": [str(new)]},
            lambda w: transfers_from(w.server.port, "-y", SIGNED),
            (True, False),
        ),
        "notify": Case(
            {}, {"notify": [f"127.0.0.1:{port}"]}, lambda w: w.notified(), (False, True)
        ),
        "rebind-protection": Case({}, protected, addresses("private.example"), (["10.1.2.3"], [])),
        "rebind-allow": Case(
            protected,
            {**protected, "rebind-allow": ["private.example"]},
            addresses("private.example"),
            ([], ["10.1.2.3"]),
        ),
        "doh-canary": Case(
            {},
            {"doh-canary": False},
            addresses("use-application-dns.net"),
            ([], ["93.184.216.35"]),
        ),
        "log-level": Case(
            {"log-level": "warning"},
            {"log-level": "info"},
            lambda w: w.tells_changes(),
            (False, True),
        ),
        "log-format": Case(
            {}, {"log-format": "json"}, lambda w: w.server.log()[-2:], ("d\n", "}\n")
        ),
        "log-queries": Case(
            {},
            {"log-queries": True},
            lambda w: w.logged(lambda: w.server.ask("web.docker"), "query udp 127.0.0.1 web."),
            (False, True),
        ),
    }


RELOAD = "state/test_reload.py::test_"
PROXY = f"{RELOAD}host_names_of_a_reverse_proxy_come_and_go_with_its_options"
ELSEWHERE = {
    # Clients on loopback are not limited.
    "rate-limit": "server/test_udp.py::"
    "test_reload_applies_another_rate_limit_to_clients_known_before",
    "proxy-labels": PROXY,
    "proxy-domain": PROXY,
    "proxy-address": PROXY,
    # Of one Engine nothing is left out.
    "engine-grace": f"{RELOAD}engine_lost_for_less_than_its_grace_counts_as_before",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("reload"))
    try:
        world.server = world.start()
        yield world
        world.reload({})
        assert world.server.metric("dns_internal_errors_total") == 0, world.server.log()
    finally:
        if hasattr(world, "server"):
            world.server.stop()
        world.stop()


def test_every_option_has_a_case(world: World) -> None:
    assert {option.key for option in APPLIED} == cases(world).keys() | ELSEWHERE.keys()
    assert not cases(world).keys() & ELSEWHERE.keys()


@pytest.mark.parametrize("key", ELSEWHERE)
def test_case_elsewhere_is_there_and_gives_the_option(key: str) -> None:
    file, _, name = ELSEWHERE[key].partition("::")
    source = (Path(__file__).parents[1] / file).read_text()
    [test] = [node for node in ast.parse(source).body if getattr(node, "name", "") == name]
    text = ast.unparse(test)
    assert f"'{key}'" in text or f"{key.replace('-', '_')}=" in text


@pytest.mark.parametrize(
    "option",
    [option for option in APPLIED if option.key not in ELSEWHERE],
    ids=lambda option: option.key,
)
def test_reload_applies(option: Option, world: World) -> None:
    case = cases(world)[option.key]
    world.reload(case.before)
    assert case.look(world) == case.seen[0]
    world.reload(case.after)
    assert case.look(world) == case.seen[1]
    assert f"reload: done; {option.flag}" in world.server.log() or option.key == "log-level"


@pytest.mark.parametrize("option", WAITING, ids=lambda option: option.key)
def test_reload_names_what_waits_for_a_restart(option: Option, tmp_path: Path) -> None:
    """And the server goes on with the value that it was started with."""
    for file in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / file).touch()
    value = {
        "docker": "tcp://192.0.2.1:2375",
        "docker-tls": str(tmp_path),
        "listen": "127.0.0.1:5353",
        "http": "127.0.0.1:8081",
        "state": str(tmp_path / "state"),
        "workers": "2",
        "fleet": "etcd://192.0.2.1:2379",
        "fleet-host": "a",
        "fleet-lease": "5",
        "fleet-prefix": "/other/",
        "fleet-tls": str(tmp_path),
        "fleet-publish": "host",
    }[option.key]
    old = load({}, {})
    found = reloaded(old, load({option.key: value}, {}))
    assert (found.waiting, found.applied) == ((option,), ())
    assert found.settings == old


def test_what_waits_is_logged_and_does_not_happen(tmp_path: Path, world: World) -> None:
    state = tmp_path / "state"
    world.reload({"state": str(state), "ttl": 8})
    assert "WARNING reload: --state takes effect at the next start" in world.server.log()
    assert world.ttl("web.docker") == 8
    world.reload({"ttl": 7})
    assert not state.exists()


def test_bad_setting_changes_nothing(world: World) -> None:
    """Nor does a file that the settings name and that cannot be read."""
    world.reload({"ttl": 6})
    world.reload({"ttl": 5, "transfer-key": [str(world.folder / "absent")]})
    assert world.ttl("web.docker") == 6
    assert "keeping the old settings" in world.server.log()
    assert world.server.metric("config_last_reload_successful") == 0
    world.reload({})
    assert world.server.metric("config_last_reload_successful") == 1


def test_workers_follow_a_reload(tmp_path: Path, world: World) -> None:
    """Each of the processes that answer; the kernel chooses one by the client's port."""
    config, key = tmp_path / "config.toml", tmp_path / "key"
    key.write_text(OLD_KEY)
    config.write_text(f'transfer-key = ["{key}"]\n')
    options = ("--workers", "2", "--config", str(config), "--upstream", "")
    with serving(*options, docker=world.engine.url) as server:

        def transfers() -> set[bool]:
            return {transfers_from(server.port, "-y", SIGNED) for _ in range(16)}

        wait_until(lambda: transfers() == {True})
        key.write_text(NEW_KEY)
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: transfers() == {False})

"""Resolvers between clients and us, configured by what `client-config` prints."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dnslib
import pytest
from click.testing import CliRunner

from containerdns.commands.cli import main
from tests.clients.conftest import PUBLIC_ADDRESS
from tests.clients.resolvers import Found, Stub, program, started, write_resolv_conf
from tests.clients.signed import Signed, signed_internet
from tests.engine.dockerd import Dockerd
from tests.engine.running import Running, serving

pytestmark = pytest.mark.engine

NAME = "staging-search_elasticsearch_1"
SEARCH = ("localdomain", "pek2.qingcloud.com")
TTL = 1  # seconds, of what we say of containers, absent ones too
EXPIRED = TTL + 1.1  # seconds; Unbound counts whole ones and keeps an answer through the last
OPTIONS = (*(f"--search-domain={domain}" for domain in SEARCH), f"--ttl={TTL}")
PUBLIC = "site.app"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a forwarder starts.

    Attributes:
        folder: For its files.
        server: Ours, which it asks.
        loopback: Where ours listens, on port 53.
        internet: Where names go that are not ours.
    """

    folder: Path
    server: Running
    loopback: str
    internet: Signed

    @property
    def address(self) -> str:
        """Where the forwarder listens, on port 53."""
        return self.loopback.replace("127.77.", "127.78.")

    def snippet(self, target: str) -> dict[str, str]:
        """The files that `client-config` prints."""
        where = ["--url", self.server.url, "--server", self.loopback, "--port", "53"]
        done = CliRunner().invoke(main, ["client-config", target, *where, "--format", "json"])
        assert done.exit_code == 0, done.stderr
        return {file["path"]: file["content"] for file in json.loads(done.stdout)["files"]}

    def ask(self, name: str, qtype: str = "A") -> Any:
        """Ask the forwarder, with DO, for whether it has validated; None if nothing comes.

        From a connected socket, which hears at once that nobody listens yet.
        """
        question = dnslib.DNSRecord.question(name, qtype)
        question.add_ar(dnslib.EDNS0(flags="do", udp_len=1232))
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
            contextlib.suppress(OSError),
        ):
            client.settimeout(10)
            client.connect((self.address, 53))
            client.send(question.pack())
            return dnslib.DNSRecord.parse(client.recv(65535))
        return None

    def is_up(self) -> bool:
        """Whether the forwarder answers."""
        return self.ask("host.docker") is not None


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a forwarder that has started does.

    Attributes:
        search: The search list that its clients have.
        passes_bare: It asks us for single labels as they are.
        validates: It says so of public names.
    """

    search: tuple[str, ...] = SEARCH
    passes_bare: bool = True
    validates: bool = True


Kind = Callable[[Place], contextlib.AbstractContextManager[Behaviour]]


@contextlib.contextmanager
def dnsmasq(place: Place, lines: str) -> Iterator[Behaviour]:
    """A dnsmasq with its usual cache."""
    file = place.folder / "dnsmasq.conf"
    file.write_text(
        f"listen-address={place.address}\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\n{lines}"
    )
    words = [program("dnsmasq"), "--keep-in-foreground", f"--conf-file={file}", "--pid-file"]
    with started(words, place.is_up):
        yield Behaviour(validates=False)


def dnsmasq_by_snippet(place: Place) -> contextlib.AbstractContextManager[Behaviour]:
    """Our names go to us, all others past us to a public server."""
    lines = "".join(place.snippet("dnsmasq").values())
    return dnsmasq(place, f"{lines}server=127.0.0.1#{place.internet.port}\n")


def dnsmasq_before_us_alone(place: Place) -> contextlib.AbstractContextManager[Behaviour]:
    """All names go to us: the VPN container of the founding fault, put right."""
    return dnsmasq(place, f"server={place.loopback}\n")


@contextlib.contextmanager
def unbound(place: Place) -> Iterator[Behaviour]:
    """A validating Unbound; all that it knows it has from us."""
    (place.folder / "unbound.conf").write_text(
        f'server:\n    interface: {place.address}\n    chroot: ""\n    username: ""\n'
        f'    pidfile: ""\n    directory: "{place.folder}"\n    use-syslog: no\n'
        '    num-threads: 1\n    module-config: "validator iterator"\n'
        f'    trust-anchor-signaling: no\n    trust-anchor: "{place.internet.anchor}"\n'
        + "".join(place.snippet("unbound").values())
        + f'forward-zone:\n    name: "."\n    forward-addr: {place.loopback}\n'
        "remote-control:\n    control-enable: no\n"
    )
    words = [program("unbound"), "-d", "-p", "-c", str(place.folder / "unbound.conf")]
    with started(words, place.is_up):
        yield Behaviour(passes_bare=False)


@contextlib.contextmanager
def powerdns(place: Place) -> Iterator[Behaviour]:
    """A PowerDNS Recursor, which denies what lies below a denied name (RFC 8020)."""
    words = [
        program("pdns_recursor"),
        f"--config-dir={place.folder}",
        f"--socket-dir={place.folder}",
        f"--local-address={place.address}",
        f"--forward-zones-recurse=.={place.loopback}",
        "--daemon=no",
        "--dnssec=off",
        "--hint-file=no",
        "--dont-query=",
        "--nothing-below-nxdomain=yes",
        "--export-etc-hosts=no",
        "--serve-rfc1918=no",
    ]
    with started(words, place.is_up):
        yield Behaviour(validates=False)


@contextlib.contextmanager
def systemd_resolved(place: Place) -> Iterator[Behaviour]:
    """Started by hand in a /run of its own, validating, without D-Bus; bare by its search list."""
    run = place.folder / "run"
    files = place.snippet("systemd-resolved")
    files["/etc/dnssec-trust-anchors.d/root.positive"] = place.internet.anchor + "\n"
    files["/etc/systemd/resolved.conf.d/test.conf"] = (
        "[Resolve]\nDNSSEC=yes\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\nDNSStubListener=no\n"
        f"DNSStubListenerExtra={place.address}\n"
    )
    for path, content in files.items():
        file = run / path.removeprefix("/etc/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    user = "systemd-resolve:x:0:0::/:/usr/sbin/nologin\n"  # whom it wants to become
    (place.folder / "passwd").write_text(user + Path("/etc/passwd").read_text())
    script = f'mount --bind {place.folder}/passwd /etc/passwd; mount --bind {run} /run; exec "$@"'
    words = ["unshare", "--mount", "sh", "-ec", script, "sh", program("systemd-resolved")]
    with started(words, place.is_up):
        stub = (run / "systemd/resolve/stub-resolv.conf").read_text()
        search = next(line.split()[1:] for line in stub.splitlines() if line.startswith("search"))
        yield Behaviour(search=tuple(search), passes_bare=False)


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    """A root and a top-level domain, signed."""
    with signed_internet(tmp_path_factory.mktemp("signed")) as signed:
        yield signed


@pytest.mark.parametrize(
    "kind",
    [dnsmasq_by_snippet, dnsmasq_before_us_alone, unbound, powerdns, systemd_resolved],
    ids=lambda kind: str(kind.__name__),
)
def test_name_is_right_through_a_forwarder_before_and_after_a_redeploy(
    engine: Dockerd,
    internet: Signed,
    loopback: str,
    all_stubs: dict[str, Stub],
    resolv_conf: Path,
    kind: Kind,
) -> None:
    """A container is called as a top-level domain is, too: names below that stay valid."""
    stub = all_stubs["glibc"]
    engine.create_network("staging")
    engine.run("app", network="staging")
    before = engine.address(engine.run(NAME, network="staging"))
    internet.asked.clear()
    options = (*OPTIONS, f"--upstream=127.0.0.1:{internet.port}", f"--listen={loopback}:53")
    with serving(*options, docker=engine.socket_url) as server:
        place = Place(resolv_conf.parent, server, loopback, internet)
        with kind(place) as does:
            write_resolv_conf(resolv_conf, place.address, *does.search)
            names = [NAME, *(f"{NAME}.{domain}." for domain in ("docker", *SEARCH))]
            names += [f"{NAME}."] * does.passes_bare

            def found() -> dict[str, Found]:
                return {name: stub.look_up(name, resolv_conf, "4") for name in names}

            assert found() == dict.fromkeys(names, Found((before,)))
            for name in names:
                assert stub.look_up(name, resolv_conf, "6").is_absent, name
            engine.remove(NAME)
            time.sleep(EXPIRED)
            for name, there in found().items():
                assert there.addresses == ()
                # What we say of a bare name is not signed, and so bogus to who asks for it.
                assert there.is_absent or (name == NAME and not does.passes_bare), (name, there)
            engine.run(network="staging")
            after = engine.address(engine.run(NAME, network="staging"))
            assert after != before
            time.sleep(EXPIRED)
            assert found() == dict.fromkeys(names, Found((after,)))

            public = place.ask(PUBLIC)
            assert [str(rr.rdata) for rr in public.rr if rr.rtype == 1] == [PUBLIC_ADDRESS]
            assert bool(public.header.ad) == does.validates
    assert [name for name in internet.asked if NAME in name] == []


def test_resolver_that_denies_below_denied_names_still_finds_ours(
    engine: Dockerd, internet: Signed, loopback: str, resolv_conf: Path
) -> None:
    """RFC 8020: after `localdomain` a PowerDNS Recursor denied every name below it."""
    engine.create_network("staging")
    address = engine.address(engine.run(NAME, network="staging"))
    options = (*OPTIONS, f"--upstream=127.0.0.1:{internet.port}", f"--listen={loopback}:53")
    with serving(*options, docker=engine.socket_url) as server:
        place = Place(resolv_conf.parent, server, loopback, internet)
        with powerdns(place):
            assert place.ask("other.localdomain").header.rcode == dnslib.RCODE.NXDOMAIN
            for above in ("localdomain", "staging.localdomain"):
                place.ask(above)
            found = place.ask(f"{NAME}.localdomain")
            assert [str(rr.rdata) for rr in found.rr] == [address]

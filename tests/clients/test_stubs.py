"""The resolvers of C libraries and languages ask us, as a VPN's clients do."""

from pathlib import Path

import pytest

from tests.clients.conftest import PUBLIC_ADDRESS
from tests.clients.resolvers import Found, Stub, write_resolv_conf
from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running, serving

pytestmark = pytest.mark.engine

NAME = "staging-search_elasticsearch_1"
SEARCH = ("localdomain", "pek2.qingcloud.com")  # of the client of the founding fault
OPTIONS = tuple(f"--search-domain={domain}" for domain in SEARCH)
# The latter are absolute: else `web.localdomain.pek2.qingcloud.com` is asked for after the first
# NXDOMAIN, which is not a container and so goes upstream.
SUFFIXES = ("", ".docker", ".docker.", ".localdomain.", ".pek2.qingcloud.com.")


def options(upstream: RecordingUpstream, loopback: str) -> tuple[str, ...]:
    return (*OPTIONS, f"--upstream=127.0.0.1:{upstream.port}", f"--listen={loopback}:53")


def redeploy(engine: Dockerd, server: Running, network: str = "staging") -> str:
    """Replace the container with another one; return its new address."""
    before = engine.address(NAME)
    engine.remove(NAME)
    engine.run(network=network)
    address = engine.address(engine.run(NAME, network=network))
    assert address != before
    server.until([address], NAME)
    return address


def test_name_is_found_in_every_form_before_and_after_a_redeploy(
    engine: Dockerd, upstream: RecordingUpstream, loopback: str, stub: Stub, resolv_conf: Path
) -> None:
    engine.create_network("staging")
    engine.run(NAME, network="staging", aliases=["search"])
    before = engine.address(NAME)
    write_resolv_conf(resolv_conf, loopback, *SEARCH)
    with serving(*options(upstream, loopback), docker=engine.socket_url) as server:
        for suffix in SUFFIXES:
            assert stub.look_up(NAME + suffix, resolv_conf) == Found((before,)), suffix
        assert stub.look_up("search.staging.docker", resolv_conf) == Found((before,))
        after = redeploy(engine, server)
        for suffix in SUFFIXES:
            assert stub.look_up(NAME + suffix, resolv_conf) == Found((after,)), suffix
        engine.remove(NAME)
        server.until([], NAME)
        for suffix in SUFFIXES:
            assert stub.look_up(NAME + suffix, resolv_conf).is_absent, suffix
        assert stub.look_up("public.test-site.example", resolv_conf) == Found((PUBLIC_ADDRESS,))
    leaked = {name for name in upstream.names() if "test-site" not in name}
    assert leaked == set()


def test_name_is_found_with_many_dots_wanted(
    engine: Dockerd, upstream: RecordingUpstream, loopback: str, stub: Stub, resolv_conf: Path
) -> None:
    """`ndots:5`, as in Kubernetes: `web.docker.localdomain` goes before `web.docker`."""
    engine.run(NAME)
    address = engine.address(NAME)
    write_resolv_conf(resolv_conf, loopback, *SEARCH, options="ndots:5")
    with serving(*options(upstream, loopback), docker=engine.socket_url):
        for name in (NAME, f"{NAME}.docker"):
            assert stub.look_up(name, resolv_conf) == Found((address,)), name
        assert stub.look_up("unknown.docker", resolv_conf).is_absent
    assert upstream.names() == []


@pytest.mark.parametrize("name", ["glibc", "musl", "c-ares"])
def test_family_that_is_missing_does_not_hide_the_other(
    engine: Dockerd,
    upstream: RecordingUpstream,
    loopback: str,
    all_stubs: dict[str, Stub],
    resolv_conf: Path,
    name: str,
) -> None:
    """musl fails a lookup of both families if one is NXDOMAIN (containers/aardvark-dns#679)."""
    engine.create_network("both", ipv6="fd00:77::/64")
    engine.run("web")
    engine.run("two-families", network="both")
    ipv4 = engine.address("two-families")
    ipv6 = engine.inspect("two-families")["NetworkSettings"]["Networks"]["both"]
    stub = all_stubs[name]
    write_resolv_conf(resolv_conf, loopback, *SEARCH)
    with serving(*options(upstream, loopback), docker=engine.socket_url):
        assert stub.look_up("web", resolv_conf, "4") == Found((engine.address("web"),))
        absent = stub.look_up("web", resolv_conf, "6")
        assert absent.is_absent, absent
        both = stub.look_up("two-families", resolv_conf).addresses
        assert both == (ipv4, ipv6["GlobalIPv6Address"])
        assert stub.look_up("two-families", resolv_conf, "6").addresses == both[1:]
    assert upstream.names() == []


def test_names_are_searched_for_while_the_engine_is_not_listed(
    engine: Dockerd, upstream: RecordingUpstream, loopback: str, stub: Stub, resolv_conf: Path
) -> None:
    """A client that asks too early gets a failure, never a denial of the name."""
    write_resolv_conf(resolv_conf, loopback)
    nowhere = f"unix://{engine.root}/not-there.sock"
    with serving(*options(upstream, loopback), docker=nowhere, ready=False):
        early = stub.look_up("web.docker.", resolv_conf)
        assert early.addresses == ()
        assert not early.is_absent, early
    assert upstream.names() == []

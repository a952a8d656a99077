"""Which container has a name, where it leads, and who may ask, on a real Engine."""

import contextlib
import os
import random
import socket
import subprocess
import threading
from collections.abc import Iterator

import dnslib
import pytest

from containerdns.config.machine import own_addresses
from containerdns.config.settings import MAX_HANDOVER
from containerdns.core.endpoints import PRIVATE
from containerdns.core.zone.containers import container_from_inspect, network_from_document
from containerdns.core.zone.inventory import Inventory
from containerdns.core.zone.policy import Policy
from containerdns.core.zone.views import Own, Rights, Views, packed
from tests.engine.dockerd import Dockerd
from tests.engine.running import Client, Running, free_port, serving
from tests.timing import wait_until

pytestmark = pytest.mark.engine


def service(project: str, name: str, number: int = 1) -> dict[str, str]:
    """The labels that Compose gives to a container of a service."""
    return {
        "com.docker.compose.project": project,
        "com.docker.compose.service": name,
        "com.docker.compose.container-number": str(number),
    }


@contextlib.contextmanager
def asked_all_the_time(server: Running, name: str) -> Iterator[set[str]]:
    """Collect every address that a name has while the block runs."""
    seen: set[str] = set()
    stopping = threading.Event()

    def ask() -> None:
        client = Client(server.port)
        while not stopping.is_set():
            response = client.ask(name)
            seen.update(str(rr.rdata) for rr in (response.rr if response else ()))
        client.close()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        stopping.set()
        asking.join()


def test_redeploy_of_one_project_does_not_lead_to_the_other(engine: Dockerd) -> None:
    """alpha's clients must never reach beta's database, however long a step takes here."""
    old = engine.run("alpha-db-1", labels=service("alpha", "db"))
    alpha = [engine.address(old)]
    with serving("--handover", str(MAX_HANDOVER), docker=engine.socket_url) as server:
        server.until(alpha, "db.docker")
        beta = [engine.address(engine.run("beta-db-1", labels=service("beta", "db")))]
        server.until([], "db.docker")
        with asked_all_the_time(server, "db.docker") as seen:
            engine.restart_container(old)
            engine.rename(old, "former")
            new = engine.create("alpha-db-1", labels=service("alpha", "db"))
            engine.remove(old)
            engine.start_container(new)
            server.until([engine.address(new)], "db.alpha.docker")
            engine.remove(new)
            server.until([], "db.alpha.docker")
            reason = server.get_json("/explain?name=db.docker.&type=A")["queries"][0]["reason"]
            assert "held back for alpha-db-1 of project alpha until" in reason
            losses = server.get_json("/zone?format=json")["losses"]
            assert {loss["loser"]: loss["held_for"] for loss in losses}["beta-db-1"] == (
                "alpha-db-1 of project alpha"
            )
        assert not seen & set(beta)


def test_name_passes_on_when_its_project_is_gone_for_long(engine: Dockerd) -> None:
    alpha = engine.run("alpha-db-1", labels=service("alpha", "db"))
    beta = engine.address(engine.run("beta-db-1", labels=service("beta", "db")))
    with serving("--handover", "1", docker=engine.socket_url) as server:
        assert server.addresses("db.docker") == []
        engine.remove(alpha)
        server.until([beta], "db.docker")


def test_guest_with_a_containers_name_waits_while_that_one_restarts(engine: Dockerd) -> None:
    mysql = engine.run("mysql")
    with serving(docker=engine.socket_url) as server:
        guest = engine.address(engine.run("guest", hostname="mysql"))
        server.until([guest], "guest.docker")
        with asked_all_the_time(server, "mysql.docker") as seen:
            for _ in range(3):
                engine.stop_container(mysql)
                server.until([], "mysql.docker")
                engine.start_container(mysql)
                server.until([engine.address(mysql)], "mysql.docker")
        assert guest not in seen


def test_restart_of_the_server_in_a_redeploy_changes_nothing(engine: Dockerd) -> None:
    """What stopped a moment ago is known by its FinishedAt."""
    alpha = engine.run("alpha-db-1", labels=service("alpha", "db"))
    beta = engine.address(engine.run("beta-db-1", labels=service("beta", "db")))
    engine.stop_container(alpha)
    with serving(docker=engine.socket_url) as server:
        assert server.addresses("beta-db-1.docker") == [beta]
        assert server.addresses("db.docker") == []
    with serving("--handover", "0", docker=engine.socket_url) as server:
        assert server.addresses("db.docker") == [beta]


def test_names_that_docker_tells_apart_are_two(engine: Dockerd) -> None:
    plain, dotted = engine.run("web"), engine.run("web.")
    copied = engine.run("copied", hostname=plain[:12])
    with serving(docker=engine.socket_url) as server:
        assert server.addresses("web.docker") == [engine.address(plain)]
        assert server.addresses(f"{dotted[:12]}.docker") == [engine.address(dotted)]
        assert server.addresses(f"{plain[:12]}.docker") == [engine.address(plain)]
        engine.remove(plain)
        server.until([], "web.docker")
        assert server.addresses(f"{plain[:12]}.docker") == []
        assert server.addresses("copied.docker") == [engine.address(copied)]


def test_sharer_has_no_address_while_it_sits_in_a_dead_namespace(engine: Dockerd) -> None:
    lender = engine.run("lender")
    side = engine.run("side", network=f"container:{lender}")
    with serving(docker=engine.socket_url) as server:
        assert server.addresses("side.docker") == [engine.address(lender)]
        engine.restart_container(lender)
        assert "eth0" not in engine.execute(side, "ip", "-o", "link")
        server.until([engine.address(lender)], "lender.docker")
        server.until([], "side.docker")
        assert server.rcode("side.docker") == "NOERROR"
        engine.restart_container(side)
        server.until([engine.address(lender)], "side.docker")
    with serving(docker=engine.socket_url) as server:
        assert server.addresses("side.docker") == [engine.address(lender)]


def test_process_of_this_machine_may_ask_at_a_gateway(engine: Dockerd) -> None:
    """Docker masquerades what it sends there: it arrives with another address of its own."""
    engine.create_network("front")
    engine.run("web", network="front")
    gateway = engine.inspect("web")["NetworkSettings"]["Networks"]["front"]["Gateway"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind((gateway, 0))
        there.settimeout(30)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            here.sendto(b"", there.getsockname())
            _, (source, _) = there.recvfrom(10)
    assert source in own_addresses()
    port = free_port()
    with serving("--listen", f"0.0.0.0:{port}", docker=engine.socket_url) as server:
        query = bytes(dnslib.DNSRecord.question("web.docker").pack())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(30)
            asking.sendto(query, (gateway, port))
            response = dnslib.DNSRecord.parse(asking.recv(4096))
        assert response.header.rcode == dnslib.RCODE.NOERROR
        queries = server.get_json("/queries")["queries"]
        assert [q["client"] for q in queries if q["name"] == "web.docker."] == [source]


def test_address_that_the_machine_gets_later_may_ask(engine: Dockerd) -> None:
    """A VPN comes up after us, perhaps with a public address."""
    port = free_port()
    address = f"198.51.100.{random.randrange(1, 255)}"
    with serving("--listen", f"0.0.0.0:{port}", docker=engine.socket_url) as server:

        def rcode() -> int:
            query = bytes(dnslib.DNSRecord.question("none.docker").pack())
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(30)
                asking.bind((address, 0))
                asking.sendto(query, (address, port))
                return int(dnslib.DNSRecord.parse(asking.recv(4096)).header.rcode)

        subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
        try:
            wait_until(lambda: rcode() == dnslib.RCODE.NXDOMAIN)
        finally:
            subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=True)
        assert server.metric("dns_internal_errors_total") == 0


def test_container_without_ipv6_has_no_ipv6_address(engine: Dockerd) -> None:
    engine.create_network("both", subnet=engine.subnet_of(7), ipv6="fd00:7::/64")
    on = engine.run("on", network="both")
    engine.run("off", network="both", sysctls={"net.ipv6.conf.all.disable_ipv6": "1"})
    with serving(docker=engine.socket_url) as server:
        [shown] = [
            e["GlobalIPv6Address"]
            for e in engine.inspect(on)["NetworkSettings"]["Networks"].values()
        ]
        assert server.addresses("on.docker", "AAAA") == [shown]
        assert server.addresses("off.docker", "AAAA") == []
        assert server.addresses("off.docker") == [engine.address("off")]


def test_gateway_of_a_macvlan_is_not_the_host(engine: Dockerd) -> None:
    """It is the LAN's router; a server that is there alone does not know the host."""
    parent = f"lan{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", parent, "type", "bridge"], check=True)
    try:
        ipam = {"Driver": "default", "Config": [{"Subnet": engine.subnet_of(8)}]}
        engine.api.create_network("lan", driver="macvlan", ipam=ipam, options={"parent": parent})
        document = engine.inspect(engine.run("own", network="lan"))
        own = container_from_inspect(document, engine.socket_url)
        lan = network_from_document(engine.api.inspect_network("lan"), engine.socket_url)
        inventory = Inventory(Policy())
        inventory.set_networks(engine.socket_url, [lan])
        inventory.put(own)
        [network] = inventory.networks()
        assert network.driver == "macvlan"
        assert network.gateways, "the Engine names the router"
        [address] = own.attachments[0].addresses
        views = Views(Rights(PRIVATE, (), (), ask_own=False))
        views.set_networks([network], Own(frozenset({network.id}), (address,)))
        view = views.of(packed("192.0.2.9"), packed(address))
        assert (view.host_addresses, view.server_addresses) == ((), (address,))
    finally:
        engine.clear()
        subprocess.run(["ip", "link", "del", parent], check=True)

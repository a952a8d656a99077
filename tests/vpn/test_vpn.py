"""A VPN's client reaches containers by name, as deploy/ sets it up, through real tunnels."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.clients.resolvers import program
from tests.engine.dockerd import Dockerd
from tests.timing import listens, wait_until
from tests.vpn.networks import CLIENTS, Laptop, Server, run

pytestmark = [pytest.mark.engine, pytest.mark.slow]

NAME = "staging-search_elasticsearch_1"
PORT = 9200
URL = f"http://{NAME}:{PORT}/"
PAGE_OCTETS = 200_000  # many packets, each as large as the way lets through
TEXT_OCTETS = 1100  # one answer, near the 1232 octets that we send at most
NARROW = 700  # octets; a tunnel that such an answer does not fit through in one piece


def serve_page(engine: Dockerd, network: str, text: str) -> str:
    """Start the container, with a web server and a page, until it serves; its address."""
    script = (
        f"mkdir /page; yes {text} | head -c {PAGE_OCTETS} >/page/index.html; "
        f"exec httpd -f -p {PORT} -h /page"
    )
    labels = {"containerdns.txt.long": "x" * TEXT_OCTETS}
    container = engine.run(NAME, network=network, command=["sh", "-c", script], labels=labels)
    address = engine.address(container)
    wait_until(lambda: listens(address, PORT))
    return address


@pytest.mark.parametrize("kind", ["openvpn", "wireguard"])
def test_client_reaches_a_container_by_name_before_and_after_a_redeploy(
    engine: Dockerd, tmp_path: Path, kind: str
) -> None:
    server = Server(kind, engine, tmp_path)
    with Laptop(engine, tmp_path) as laptop:
        configuration = server.make_keys(laptop.gateway, "laptop")
        with server.up():
            before = serve_page(engine, server.network, "first")
            started = time.monotonic()
            with CLIENTS[kind](laptop, configuration, tmp_path):
                page = laptop.until_fetched(URL)
                print(f"{kind}: the first page in {time.monotonic() - started:.2f} s")
                assert (page[:6], len(page)) == ("first\n", PAGE_OCTETS)

                engine.remove(NAME)
                engine.run(network=server.network)
                after = serve_page(engine, server.network, "second")
                assert after != before
                started = time.monotonic()
                page = laptop.fetch(URL)
                print(f"{kind}: the page after a redeploy in {time.monotonic() - started:.3f} s")
                assert (page[:7], len(page)) == ("second\n", PAGE_OCTETS)

                survives_a_narrow_and_lossy_way(laptop, server)
                nobody_else_may_ask(engine, server)
                of_container = [q for q in server.queries() if NAME in q["name"]]
                assert {q["source"] for q in of_container} <= {"zone", "policy"}
                tunnel = "10.8.0." if kind == "openvpn" else "10.9.0."
                asked = [q for q in of_container if q["client"].startswith(tunnel)]
                assert f"{NAME}.localdomain." in {q["name"] for q in asked}
                answers_many_questions_at_once(engine, laptop, server)
                each_service_can_be_restarted(engine, laptop, server)


def answers_many_questions_at_once(engine: Dockerd, laptop: Laptop, server: Server) -> None:
    """The kernel cuts one message into many replies, but not into larger ones than a tunnel takes.

    Only the attempt shows that, and what else a device refuses.
    """
    document = engine.inspect(server.container("network"))
    inside = ("nsenter", "-n", "-t", str(document["State"]["Pid"]))
    resolver = resolver_of(laptop)
    for narrow in (False, True):
        if narrow:
            run(*inside, *f"ip link set {server.tunnel} mtu {NARROW}".split())
        for name, qtype in ((f"{NAME}.docker", "A"), (f"long.{NAME}.docker", "TXT")):
            asked = f"ask_at_once({resolver!r}, {name!r}, {qtype!r})"
            laptop.run(sys.executable, "-c", f"from tests.vpn.networks import *; {asked}")


def resolver_of(laptop: Laptop) -> str:
    """The server that the VPN gave to the laptop."""
    return laptop.resolv_conf.read_text().split("nameserver ")[1].split()[0]


def survives_a_narrow_and_lossy_way(laptop: Laptop, server: Server) -> None:
    """A large answer comes in one piece; a lost question is asked again, lost data sent again."""
    server_option = f"@{resolver_of(laptop)}"
    words = ("+bufsize=1232", "+ignore", "+tries=1", server_option, f"long.{NAME}.docker", "TXT")
    answer = laptop.run(program("dig"), *words)
    assert answer.count("x") >= TEXT_OCTETS, answer
    assert "flags: qr aa" in answer
    laptop.lose("OUTPUT -p udp --dport 53 -m statistic --mode nth --every 1000 --packet 0")
    port = f"--sport {server.port}"
    laptop.lose(f"INPUT -i eth0 -p udp {port} -m statistic --mode nth --every 40 --packet 9")
    page = laptop.fetch(URL)
    assert (page[:7], len(page)) == ("second\n", PAGE_OCTETS)
    assert laptop.lost() >= 2


def nobody_else_may_ask(engine: Dockerd, server: Server) -> None:
    """A container beside the VPN's, though it knows the way, is refused."""
    tunnel = "10.8.0" if server.kind == "openvpn" else "10.9.0"
    other = engine.run(network=server.network)
    way = engine.address(server.container("network"))
    enter = ("nsenter", "-n", "-t", str(engine.inspect(other)["State"]["Pid"]))
    run(*enter, "ip", "route", "add", f"{tunnel}.0/24", "via", way)
    answer = run(*enter, program("dig"), "+tries=1", f"@{tunnel}.1", f"{NAME}.docker")
    assert "status: REFUSED" in answer
    beside = subprocess.run(
        [*enter, program("dig"), "+tries=1", "+time=1", f"@{way}", f"{NAME}.docker"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert beside.returncode != 0, beside.stdout


def each_service_can_be_restarted(engine: Dockerd, laptop: Laptop, server: Server) -> None:
    """They share the network of a third, which would be gone with the one that owns it."""
    for service in ("vpn", "containerdns"):
        engine.restart_container(server.container(service))
        started = time.monotonic()
        assert laptop.until_fetched(URL).startswith("second\n")
        print(f"{server.kind}: a page {time.monotonic() - started:.2f} s after {service} restarted")

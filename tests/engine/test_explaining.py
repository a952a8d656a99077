"""Explanations of what happens to containers of a real Engine, as a user asks for them."""

import subprocess
import sys
from pathlib import Path

from tests.engine.dockerd import Dockerd
from tests.engine.running import Running
from tests.timing import wait_until


def explain(server: Running, *arguments: str) -> str:
    return run(server, "explain", *arguments)


def run(server: Running, *arguments: str, is_found: bool = True) -> str:
    command = [sys.executable, "-m", "containerdns", *arguments, "--url", server.url]
    return subprocess.run(command, capture_output=True, text=True, check=is_found).stdout


def test_what_people_ask_is_answered(engine: Dockerd) -> None:
    """A typo, an address, a URL, a search list, and a container that was killed."""
    web = engine.run("web")
    address = engine.address(web)
    with Running(docker=engine.socket_url) as server:
        assert "the nearest name is web" in explain(server, "webb")
        found = explain(server, address)
        assert f"{address} is the address of web (network bridge)" in found
        assert "web.docker." in found
        found = explain(server, f"http://{address}:80/")
        assert "web.docker." in found
        found = explain(server, "http://web:8080/x", "--search", "localdomain")
        assert "only the host of http://web:8080/x is looked up: web" in found
        assert "2. web. A" not in found
        assert "web. A: not sent" in found
        engine.kill_container("web")
        wait_until(lambda: "is not running: it stopped at 2" in explain(server, "web.docker"))
        assert "with exit status 137" in explain(server, "web.docker")  # 128 and SIGKILL
        over_http = server.get("/explain?name=web&type=A&format=text")
        assert over_http.splitlines() == explain(server, "web", "A").splitlines()


def test_engine_that_is_not_connected_is_shown_with_the_cause(tmp_path: Path) -> None:
    """The first that many see: no Docker, or a socket that they may not open."""
    url = f"unix://{tmp_path}/docker.sock"
    cause = f"no Docker socket {tmp_path}/docker.sock: start Docker"
    with Running(docker=url, ready=False) as server:
        wait_until(lambda: cause in server.get("/zone"))
        assert f"; engine {url}: not connected: {cause}" in server.get("/zone")
        assert f"{url}: not connected: {cause}" in run(server, "zone", is_found=False)
        assert f"Docker was not listed yet: {cause}" in explain(server, "web", "A")


def test_container_without_an_address_is_shown_with_the_reason(engine: Dockerd) -> None:
    """It runs and has names, but no record: nothing else tells of it."""
    engine.create_network("front")
    engine.create_network("vpn")
    engine.run("db", network="vpn")
    engine.run("web", network="front")
    engine.run("lone", network="none")
    lacks = "its network front is none of --network vpn"
    with Running("--network", "vpn", docker=engine.socket_url) as server:
        found = explain(server, "web.docker", "A")
        assert f"web has no usable network: {lacks}" in found
        document = server.get_json("/zone?format=json")["without_address"]
        assert {one["container"]: one["reason"] for one in document} == {
            "web": lacks,
            "lone": "its network mode is none",
        }
        assert f"; web has no address: {lacks}" in server.get("/zone").splitlines()
        shown = run(server, "zone").partition("Containers without an address:")[2]
        assert lacks in shown


def test_names_that_a_running_container_lost_are_explained(engine: Dockerd) -> None:
    """By a rename, and with a network; and what a pause means."""
    engine.create_network("front")
    engine.run("web", network="front", aliases=["www"])
    with Running(docker=engine.socket_url) as server:
        engine.disconnect("web", "front")
        wait_until(lambda: server.rcode("www.front.docker") == "NXDOMAIN")
        found = explain(server, "www.front.docker", "A")
        assert "the container web no longer has this name; the name is kept" in found
        engine.rename("web", "shop")
        wait_until(lambda: server.rcode("web.docker") == "NXDOMAIN")
        assert "its container was renamed to shop; the name is kept" in explain(server, "web")
        engine.connect("shop", "front")
        engine.pause("shop")
        wait_until(lambda: "shop is paused and does not respond" in explain(server, "shop", "A"))
        engine.unpause("shop")
        wait_until(lambda: "shop is paused" not in explain(server, "shop", "A"))


def test_stopped_service_is_explained_by_the_name_that_people_type(engine: Dockerd) -> None:
    labels = {"project": "shop", "service": "db"}
    engine.run("shop_db_1", labels={f"com.docker.compose.{k}": v for k, v in labels.items()})
    with Running(docker=engine.socket_url) as server:
        engine.kill_container("shop_db_1")
        wait_until(lambda: server.rcode("db.docker") == "NXDOMAIN")
        reason = "the container shop_db_1 is not running: it stopped at 2"
        for name in ("db.docker", "db.shop.docker", "shop_db_1"):
            assert reason in explain(server, name, "A")
        assert f"such names exist below a domain only; {reason}" in explain(server, "db", "A")


def test_container_in_a_crash_loop_is_explained_at_once(engine: Dockerd) -> None:
    """From its `die` alone: the Engine waits longer and longer before each start."""
    engine.run("crash", command=["sh", "-c", "sleep 1; exit 3"], restart=True)
    with Running(docker=engine.socket_url) as server:
        reason = "with exit status 3; the Engine may start it again (restart policy always)"
        wait_until(lambda: reason in explain(server, "crash", "A"))

"""Explanations of what happens to containers of a real Engine, as a user asks for them."""

import subprocess
import sys

from tests.engine.dockerd import Dockerd
from tests.engine.running import Running
from tests.timing import wait_until


def explain(server: Running, *arguments: str) -> str:
    command = [sys.executable, "-m", "containerdns", "explain", *arguments, "--url", server.url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


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


def test_network_that_is_none_of_ours_is_named(engine: Dockerd) -> None:
    engine.create_network("front")
    engine.run("web", network="front")
    with Running("--network", "vpn", docker=engine.socket_url) as server:
        found = explain(server, "web.docker", "A")
        assert "web has no usable network: its network front is none of --network vpn" in found

"""Host names in the labels of a reverse proxy, on a real Engine, as clients ask for them."""

from tests.engine.dockerd import Dockerd
from tests.engine.running import Running


def test_host_names_lead_to_the_proxy_and_follow_it(engine: Dockerd) -> None:
    """Traefik's label and nginx-proxy's variable; a proxy that comes back has another address."""
    edge = {"containerdns.proxy": "traefik"}
    first = engine.run("edge", labels=edge)
    rule = "Host(`shop.docker`) || Host(`www.example.com`)"
    web = engine.run("web", labels={"traefik.http.routers.web.rule": rule})
    engine.run("wiki", environment={"VIRTUAL_HOST": "wiki.docker,~^w.*"})
    options = ("--proxy-labels", "--proxy-address", "192.0.2.7")
    with Running(*options, docker=engine.socket_url) as server:
        assert server.addresses("shop.docker") == [engine.address(first)]
        assert server.addresses("web.docker") == [engine.address(web)]
        assert server.addresses("wiki.docker") != ["192.0.2.7"], "a container's own name is first"
        explained = server.get("/explain?name=shop.docker&type=A&format=text")
        assert "host name of traefik, traefik.http.routers.web.rule" in explained
        assert "VIRTUAL_HOST: ~^w.*: a pattern is not a host name" in server.get("/zone")
        engine.remove(first)
        server.until(["192.0.2.7"], "shop.docker")
        engine.run("filler")  # has the address that the proxy had
        second = engine.run("edge", labels=edge)
        server.until([engine.address(second)], "shop.docker")
        engine.remove(web)
        server.until([], "shop.docker")
        assert server.rcode("shop.docker") == "NXDOMAIN"

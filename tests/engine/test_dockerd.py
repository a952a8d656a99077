"""The private Engine itself: what the other tests of this folder stand on."""

from tests.engine.dockerd import Dockerd


def test_container_runs_and_has_an_address_of_the_private_subnet(engine: Dockerd) -> None:
    engine.create_network("frontend")
    container_id = engine.run("web", network="frontend", aliases=["www"])
    assert engine.address("web", "frontend").startswith(str(engine.subnet)[:5])
    assert "web" in engine.inspect(container_id)["Name"]
    assert "127.0.0.11" in engine.execute("web", "cat", "/etc/resolv.conf")


def test_engine_returns_after_kill(engine: Dockerd) -> None:
    engine.run("web")
    engine.kill()
    engine.start()
    assert [item["Names"] for item in engine.api.containers(all=True)] == [["/web"]]

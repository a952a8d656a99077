"""Records documents of a real Engine: `python -m tests.golden.record`, as root.

One file per version of Docker: its inspects, list and networks, and the events
that led there.  The core's tests read them, and the simulated Engine multiplies
them.
"""

import json
import socket
import time
from pathlib import Path
from typing import Any

from tests import own_network
from tests.engine.dockerd import Dockerd
from tests.left_behind import own_folder

FOLDER = Path(__file__).parent
VERSION_KEYS = ("Version", "ApiVersion", "MinAPIVersion")
HEALTH = {"Test": ["CMD", "true"], "Interval": 200_000_000}


def main() -> None:
    """Start a private Engine, fill it, write what it says."""
    own_network.enter()
    with own_folder():
        engine = Dockerd()
        try:
            engine.set_up()
            since = time.time()
            fill(engine)
            documents = read(engine, since)
        finally:
            engine.tear_down()
    version = ".".join(documents["version"]["Version"].split(".")[:2])
    text = json.dumps(documents, indent=1, sort_keys=True)
    text = text.replace(str(engine.root), "/var/lib/docker")
    text = text.replace(f'"Hostname": "{socket.gethostname()}"', '"Hostname": "machine"')
    (FOLDER / f"engine-{version}.json").write_text(text + "\n")


def fill(engine: Dockerd) -> None:
    """Run containers of every kind that has documents of its own kind."""
    engine.create_network("frontend", subnet="172.31.200.0/24", ipv6="fd00:200::/64")
    engine.create_network("backend", subnet="172.31.201.0/24")
    web = engine.run(
        "staging-search_web_1",
        network="frontend",
        aliases=["web", "www"],
        labels={
            "com.docker.compose.project": "staging-search",
            "com.docker.compose.service": "web",
            "com.docker.compose.container-number": "1",
            "com.docker.compose.oneoff": "False",
        },
        hostname="search",
        domainname="corp.example",
        healthcheck=HEALTH,
        ports={80: 18080, 9200: None},
    )
    engine.connect(web, "backend", ["db"])
    engine.run("plain")
    engine.run("onhost", network="host")
    engine.run("alone", network="none")
    engine.run("sidecar", network=f"container:{web}")
    engine.create("created", network="frontend")
    engine.kill_container(engine.run("exited", network="frontend"))
    engine.pause(engine.run("paused", network="backend"))
    while engine.inspect(web)["State"]["Health"]["Status"] != "healthy":
        time.sleep(0.1)


def read(engine: Dockerd, since: float) -> dict[str, Any]:
    """Ask for everything, through the SDK."""
    inspects = [engine.inspect(item["Id"]) for item in engine.api.containers(all=True)]
    return {
        "version": {key: engine.api.version()[key] for key in VERSION_KEYS},
        "inspect": {document["Name"].removeprefix("/"): document for document in inspects},
        "list": engine.api.containers(all=True),
        "networks": engine.api.networks(),
        "events": [
            event
            for event in engine.api.events(since=int(since), until=time.time(), decode=True)
            if not event["Action"].startswith("exec_")
        ],
    }


if __name__ == "__main__":
    main()

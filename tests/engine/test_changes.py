"""The history of changes, of a real Engine's containers, through the program and its command."""

import subprocess
import sys

from tests.engine.dockerd import Dockerd
from tests.engine.running import Running
from tests.timing import wait_until


def test_redeploy_is_told_with_its_gap(engine: Dockerd) -> None:
    """Container, addresses before and after, and the seconds in which the name had no answer."""
    first = engine.run("shop")
    with Running(docker=engine.socket_url) as server:

        def kinds() -> list[str]:
            return [change["change"] for change in server.get_json("/changes")["changes"]]

        assert kinds() == [], "what was there before is no change"
        engine.remove(first)
        wait_until(lambda: kinds() == ["went"])
        second = engine.run("shop")
        wait_until(lambda: kinds() == ["went", "moved"])
        moved = server.get_json("/changes")["changes"][1]
        assert (moved["container"], moved["after"]) == ("shop", [engine.address(second)])
        assert len(moved["before"]) == 1
        assert moved["seconds_without"] > 0
        wait_until(lambda: "s without" in server.log())
        command = [sys.executable, "-m", "containerdns", "changes", "--url", server.url]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        assert [line.split()[1:3] for line in ran.stdout.splitlines()] == [
            ["-", "shop"],
            ["~", "shop"],
        ]

"""What users of Compose do all day, with the real one, while everybody asks for its names."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.composing import Asked, Program, Project, Question, programs
from tests.engine.dockerd import Dockerd
from tests.engine.running import RecordingUpstream, Running, serving

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PUBLIC = "public.test-site.example"
SEARCH = "corp.example"
REDEPLOYS = 6  # of each project in a storm


@pytest.fixture(params=programs(), ids=lambda program: program.name)
def program(request: pytest.FixtureRequest) -> Program:
    """Each Compose that there is."""
    found = request.param
    assert isinstance(found, Program)
    return found


@pytest.fixture
def shop(program: Program, engine: Dockerd, tmp_path: Path) -> Project:
    return Project(program, engine, tmp_path, "shop")


@pytest.fixture
def upstream() -> Iterator[RecordingUpstream]:
    """An upstream that says NXDOMAIN for a day to whatever leaks."""
    recording = RecordingUpstream({PUBLIC: "192.0.2.7"})
    yield recording
    recording.close()


@pytest.fixture
def server(engine: Dockerd, upstream: RecordingUpstream) -> Iterator[Running]:
    """A server that lives, forwards what is public and leaks nothing."""
    options = ("--search-domain", SEARCH, "--upstream", f"127.0.0.1:{upstream.port}")
    with serving(*options, docker=engine.socket_url) as running:
        yield running
        assert running.addresses(PUBLIC) == ["192.0.2.7"]
        assert upstream.names() == [f"{PUBLIC}."]


def questions(project: Project, service: str = "web") -> list[Question]:
    """All names of a service and of its first container, in all that they lie below."""
    name, network, first = project.name, f"{project.name}_default", project.container(service)
    relative = [f"{service}.{name}", f"{service}.{network}"]
    if service == "web":
        relative += [f"front.{name}", f"site.{network}", f"www-{name}"]
    found = [Question(first, container=first)]
    for owner in relative:
        found.append(Question(f"{owner}.docker", service=service, project=name))
        found.append(Question(f"{owner}.{SEARCH}", "", service, name, since=f"{owner}.docker"))
    for suffix, since in (("docker", ""), (SEARCH, f"{first}.docker")):
        found.append(Question(f"{first}.{suffix}", container=first, since=since))
    if service == "web":
        found.append(Question(f"www-{name}", service=service, project=name))
        exact = f"web.{name}.example"
        found.append(Question(exact, "", service, name, since=f"web.{name}.docker"))
    return found


@contextlib.contextmanager
def asking(engine: Dockerd, server: Running, *asked: Question) -> Iterator[Asked]:
    """Ask all the time; every answer has to be right, and there have to be some."""
    with Asked(engine, server.port, list(asked)) as everything:
        yield everything
    assert len(everything.answers) > 100
    print(f"{len(everything.answers)} answers, {len(everything.runs)} runs")


def test_redeployed_service_is_right_all_the_time(
    engine: Dockerd, server: Running, shop: Project
) -> None:
    """Of a service with one container there is none for a moment, at each redeploy."""
    bare = [Question(f"{s}.docker", service=s) for s in ("web", "db")]
    with asking(engine, server, *questions(shop), *questions(shop, "db"), *bare) as asked:
        shop("up", "-d")
        server.until(shop.addresses("web"), "web.shop.docker")
        for revision in ("1", "1", "2"):
            before = shop.ids("web")
            forced = ["--force-recreate"] if revision == "1" else []
            shop("up", "-d", *forced, REVISION=revision)
            assert shop.ids("web") != before
            for name in ("web.shop.docker", "web.docker", shop.container("web"), "www-shop"):
                server.until(shop.addresses("web"), name)
    assert len(asked.runs) == 7  # an unchanged `db` stays


def test_all_replicas_are_answered_as_the_service_is_scaled(
    engine: Dockerd, server: Running, shop: Project
) -> None:
    second = Question("2.web.shop.docker", container=shop.container("web", 2))
    with asking(engine, server, *questions(shop), second):
        for replicas in (1, 3, 1):
            shop("up", "-d", "--scale", f"web={replicas}", "web")
            assert len(shop.ids("web")) == replicas
            for name in ("web.shop.docker", "web.docker", "www-shop.docker"):
                server.until(shop.addresses("web"), name)


def test_service_that_stops_restarts_and_goes_is_right_all_the_time(
    engine: Dockerd, server: Running, shop: Project
) -> None:
    with asking(engine, server, *questions(shop), Question("web.docker", service="web")):
        shop("up", "-d", "web")
        shop("restart", "-t", "1", "web")
        server.until(shop.addresses("web"), "web.shop.docker")
        shop("stop", "-t", "1", "web")
        server.until([], "web.shop.docker")
        shop("start", "web")
        server.until(shop.addresses("web"), "web.shop.docker")
        shop("down", "-t", "1")
        server.until([], "web.shop.docker")
        for name in ("web.shop", "www-shop", shop.container("web")):
            assert server.rcode(f"{name}.{SEARCH}") == "NXDOMAIN"


def test_profiles_and_one_offs_disturb_nobody(
    engine: Dockerd, server: Running, shop: Project
) -> None:
    """A one-off carries the labels of its service; it must not get any of the service's names."""
    asked = [q for service in ("web", "tool") for q in questions(shop, service)]
    with asking(engine, server, *asked):
        shop("up", "-d")
        server.until(shop.addresses("web"), "web.shop.docker")
        assert server.rcode("tool.shop.docker") == "NXDOMAIN"
        shop("--profile", "tools", "up", "-d", "tool")
        server.until(shop.addresses("tool"), "tool.shop.docker")
        one_off = shop("run", "-d", "--name", "errand", "web", "sleep", "1000000").split()[-1]
        server.until([engine.address(one_off)], "errand")
        shop("run", "--rm", "-T", "web", "true")
        for name in ("web.shop.docker", "www-shop", "web.shop.example"):
            assert server.addresses(name) == shop.addresses("web")
        engine.remove(one_off)
        assert server.rcode("errand") == "NXDOMAIN"


def test_projects_with_one_service_name_stay_apart(
    engine: Dockerd, server: Running, shop: Project, program: Program, tmp_path: Path
) -> None:
    """The bare name is ambiguous while both have it, also while one is redeployed."""
    other = Project(program, engine, tmp_path, "test", 1)
    asked = [*questions(shop), *questions(other), Question("web.docker", service="web")]
    with asking(engine, server, *asked) as everything:
        shop("up", "-d", "web")
        server.until(shop.addresses("web"), "web.docker")
        other("up", "-d", "web")
        server.until(other.addresses("web"), "web.test.docker")
        server.until([], "web.docker")
        begun = time.time()
        for project in (other, shop):
            project("up", "-d", "--force-recreate", "web")
            server.until(project.addresses("web"), f"web.{project.name}.docker")
        ended = time.time()
        assert server.addresses("web.shop.docker") == shop.addresses("web")
        other("down", "-t", "1")
        server.until([], "web.test.docker")
        assert server.addresses("web.shop.docker") == shop.addresses("web")
    bare = [a for a in everything.answers if a.question.is_shared and begun < a.sent < ended]
    assert bare
    assert not any(answer.records for answer in bare)


def test_storm_of_redeploys_has_no_wrong_missing_or_leaked_answer(
    engine: Dockerd, server: Running, tmp_path: Path
) -> None:
    """Two projects are redeployed at once, over and over, with the newest Compose."""
    projects = [Project(programs()[-1], engine, tmp_path, f"p{n}", n) for n in range(2)]

    def redeploy(project: Project) -> None:
        for _ in range(REDEPLOYS):
            project("up", "-d", "--force-recreate", "web")

    asked = [question for project in projects for question in questions(project)]
    with asking(engine, server, *asked) as everything:
        with ThreadPoolExecutor() as pool:
            list(pool.map(redeploy, projects))
        for project in projects:
            server.until(project.addresses("web"), f"web.{project.name}.docker")
    assert len(everything.runs) == 2 * REDEPLOYS

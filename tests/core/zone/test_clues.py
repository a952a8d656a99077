"""Why a name has no answer, or another one: a table of what people stumble over."""

from dataclasses import replace

import pytest

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.explain import explain, with_clues
from containerdns.core.zone.change_history import ChangeHistory
from containerdns.core.zone.clues import Clues, whose_address
from containerdns.core.zone.containers import Attachment, Container, Network
from containerdns.core.zone.inventory import Inventory
from containerdns.core.zone.ownership import Listing, Ownership
from containerdns.core.zone.policy import Policy
from containerdns.core.zone.remembered_names import RememberedNames
from containerdns.core.zone.views import View
from containerdns.core.zone.zone import Shape, Zone

NOW = 1_800_000_000.0
VIEW = View(True, True, True, False, frozenset(), ())
ALIVE = ("running", "paused")
EVERYONE = Shape(domains=("docker.",), search_domains=("localdomain.",))


def container(name: str, state: str = "running", **fields: object) -> Container:
    number = str(sum(map(ord, name)) % 250)
    networks = fields.pop("networks", ("front",))
    aliases = fields.pop("aliases", ())
    assert isinstance(networks, tuple)
    assert isinstance(aliases, tuple)
    attachments = tuple(
        Attachment(
            n, f"id-{n}", (f"10.0.{at}.{number}",) if state in ALIVE else (), aliases=aliases
        )
        for at, n in enumerate(networks)
    )
    made = Container(name.encode().hex().ljust(64, "0"), name, "unix:///e", state)
    labels = fields.pop("labels", {})
    return replace(made, attachments=attachments, docker_labels=labels, **fields)  # type: ignore[arg-type]


def compose(project: str, service: str) -> Container:
    start = "com.docker.compose."
    labels = {f"{start}project": project, f"{start}service": service}
    return container(f"{project}-{service}-1", labels=labels)


def stopped_service(project: str, service: str) -> Container:
    return replace(compose(project, service), state="exited", finished_at=NOW, exit_status=1)


def explained(
    name: str, *containers: Container, policy: Policy | None = None, qtype: int = messages.A
) -> str:
    inventory = Inventory(policy or Policy(suffixes=("docker.", "localdomain.")))
    zone = Zone(EVERYONE, 1, RememberedNames(60))
    for one in containers:
        for publication in inventory.put(one):
            zone.replace(publication.id, publication, NOW)
    ownership = Ownership(zone, top_level_domains=frozenset({"app.", "com."}))
    ownership.listing = Listing.COMPLETE
    told = explain(ownership, names.canonical(name), qtype, VIEW, NOW)
    clues = Clues(zone, inventory.get, inventory.policy)
    if not told.records:
        for _ in clues.look({told.owner} - {""}, {told.name}):
            continue
    return with_clues(told, clues).reason


CASES = {
    "a typo": (
        "webb",
        (container("web"), container("db")),
        "no container is called webb; the nearest name is web",
    ),
    "a typo below a domain": (
        "postgers.docker",
        (container("postgres"), container("web")),
        "no container is called postgers; the nearest name is postgres",
    ),
    "a typo, many are near": (
        "api",
        (container("api1"), container("api2")),
        "no container is called api; the nearest names are api1, api2",
    ),
    "nothing is near": ("zzz.docker", (container("web"),), "no running container has this name"),
    "a Compose service, bare": (
        "elasticsearch",
        (compose("staging", "elasticsearch"),),
        (
            "elasticsearch is a Compose service of the project staging, and such names exist below "
            "a domain only: it exists as elasticsearch.docker"
        ),
    ),
    "a Compose service, below a search domain": (
        "elasticsearch.localdomain",
        (compose("staging", "elasticsearch"),),
        (
            "elasticsearch is a Compose service of the project staging, and such names exist below "
            "a domain only: it exists as elasticsearch.docker"
        ),
    ),
    "a service of two projects": (
        "db.docker",
        (compose("alpha", "db"), compose("beta", "db")),
        (
            "ambiguous: the Compose projects alpha, beta each have a service db; "
            "ask for db.alpha.docker, db.beta.docker"
        ),
    ),
    "an alias, without its network": (
        "es",
        (container("search-1", networks=("front",), aliases=("es",)),),
        "no container is called es; but there is es.front.docker",
    ),
    "an alias that is a top-level domain": (
        "app",
        (container("search-1", networks=("front",), aliases=("app",)),),
        "no container is called app; but there is app.front.docker",
    ),
    "an alias, below a domain": (
        "es.docker",
        (container("search-1", networks=("front",), aliases=("es",)),),
        "no container is called es; but there is es.front.docker",
    ),
    "a typo in the domain": (
        "web.dokcer",
        (container("web"),),
        "forwarded to the upstreams: not ours; but there is web.docker",
    ),
    "a typo in a search domain": (
        "web.localdomian",
        (container("web"),),
        "forwarded to the upstreams: not ours; but there is web.localdomain",
    ),
    "a typo in the domain, and nobody has the name": (
        "zzz.dokcer",
        (container("web"),),
        "forwarded to the upstreams: not ours",
    ),
    "a name with dots, without its domain": (
        "db.alpha",
        (compose("alpha", "db"),),
        (
            "forwarded to the upstreams: not ours; but there is db.alpha.docker, "
            "and names with dots are answered only below a domain"
        ),
    ),
    "another domain altogether": (
        "web.example.com",
        (container("web"),),
        "forwarded to the upstreams: not ours",
    ),
    "this machine": ("localhost", (container("web"),), "localhost is always loopback"),
    "stopped": (
        "web",
        (container("web", "exited", finished_at=NOW, exit_status=137),),
        "the container web is not running: it stopped at 2027-01-15T08:00:00Z with exit status 137",
    ),
    "stopped, and may be started again": (
        "web",
        (container("web", "exited", finished_at=NOW, exit_status=1, restart_policy="on-failure"),),
        (
            "the container web is not running: it stopped at 2027-01-15T08:00:00Z with exit "
            "status 1; the Engine may start it again (restart policy on-failure)"
        ),
    ),
    "stopped without a failure": (
        "web",
        (container("web", "exited", exit_status=0, restart_policy="on-failure"),),
        "the container web is not running: it stopped with exit status 0",
    ),
    "stopped, nobody knows when": (
        "web",
        (container("web", "exited"),),
        "the container web is not running",
    ),
    "created": (
        "web",
        (container("web", "created"),),
        "the container web was created, but has never been started",
    ),
    "restarting": (
        "web.localdomain",
        (container("web", "restarting", finished_at=NOW, exit_status=1),),
        (
            "the container web is waiting to be restarted: it stopped at 2027-01-15T08:00:00Z "
            "with exit status 1"
        ),
    ),
    "a Compose service that stopped": (
        "crash.docker",
        (stopped_service("shop", "crash"),),
        (
            "the container shop-crash-1 is not running: it stopped at 2027-01-15T08:00:00Z "
            "with exit status 1"
        ),
    ),
    "a Compose service that stopped, bare": (
        "crash",
        (stopped_service("shop", "crash"),),
        (
            "crash is a Compose service of the project shop, and such names exist below a domain "
            "only; the container shop-crash-1 is not running: it stopped at 2027-01-15T08:00:00Z "
            "with exit status 1"
        ),
    ),
    "a Compose service of two projects that stopped": (
        "crash.docker",
        (stopped_service("alpha", "crash"), stopped_service("beta", "crash")),
        (
            "the container alpha-crash-1 is not running: it stopped at 2027-01-15T08:00:00Z "
            "with exit status 1; the container beta-crash-1 is not running: it stopped at "
            "2027-01-15T08:00:00Z with exit status 1"
        ),
    ),
    "nothing is near, bare": (
        "zzz",
        (container("web"),),
        "no running container has this name, and single labels are never forwarded",
    ),
    "paused": (
        "web",
        (container("web", "paused"),),
        "the container web is running; web is paused and does not respond",
    ),
    "hidden by a label": (
        "web",
        (container("web", labels={"containerdns.enable": "false"}),),
        "the container web exists, but: label containerdns.enable=false",
    ),
    "no network": (
        "web",
        (container("web", network_mode="none", networks=()),),
        "web has no usable network: its network mode is none",
    ),
    "a network that another container left": (
        "web",
        (container("web", network_mode=f"container:{'9' * 64}", networks=()),),
        "web has no usable network: it shares the network of 999999999999, which is not running",
    ),
    "the label names another network": (
        "web",
        (container("web", labels={"containerdns.network": "back"}),),
        (
            "web has no usable network: its network front is none of the label "
            "containerdns.network=back"
        ),
    ),
    "lost to a higher rank": (
        "web",
        (container("web"), container("api", labels={"containerdns.names": "web"})),
        (
            "the container web is running; also claimed by api (label containerdns.names), "
            "which loses to web (container name)"
        ),
    ),
    "an unhealthy replica": (
        "app",
        (
            container("one", labels={"containerdns.names": "app"}),
            container("two", labels={"containerdns.names": "app"}, health="unhealthy"),
        ),
        "the containers one, two are running; left out as unhealthy: two",
    ),
    "unhealthy and alone": (
        "web",
        (container("web", health="unhealthy"),),
        "the container web is running; unhealthy, but no other container has the name: web",
    ),
}


@pytest.mark.parametrize(("name", "containers", "reason"), CASES.values(), ids=CASES)
def test_explanation_finds_the_reason(
    name: str, containers: tuple[Container, ...], reason: str
) -> None:
    assert explained(name, *containers) == reason


def test_networks_that_are_none_of_ours_are_named() -> None:
    policy = Policy(networks=("c",), suffixes=("docker.", "localdomain."))
    web = container("web", networks=("a", "b"))
    assert explained("web", web, policy=policy) == (
        "web has no usable network: its networks a, b are none of --network c"
    )


PROXIED = Policy(suffixes=("docker.", "localdomain."), proxy_labels=True)
SITE = container("site", labels={"traefik.http.routers.a.rule": "Host(`a.docker`, `a.example`)"})
TRAEFIK = container("edge", labels={"containerdns.proxy": "traefik"})


@pytest.mark.parametrize(
    ("name", "containers", "reason"),
    [
        ("a.docker", (SITE,), "it is a host name of traefik for site, but no traefik is running"),
        (
            "a.example",
            (SITE, TRAEFIK),
            (
                "forwarded to the upstreams: not ours; "
                "it is a host name of traefik for site, but it is below no --proxy-domain"
            ),
        ),
        ("a.docker", (SITE, TRAEFIK), "the container site is running"),
    ],
    ids=["no proxy", "another domain", "right"],
)
def test_host_name_of_a_proxy_says_what_it_lacks(
    name: str, containers: tuple[Container, ...], reason: str
) -> None:
    assert explained(name, *containers, policy=PROXIED) == reason


def test_missing_aaaa_of_an_ipv4_container_is_nothing_odd() -> None:
    found = explained("web", container("web"), qtype=messages.AAAA)
    assert found == "the container web is running, but has no such record"


def test_looking_stops_after_each_small_unit() -> None:
    """What takes long on the event loop gives others a turn: a unit is one container or so."""
    inventory = Inventory(Policy())
    zone = Zone(EVERYONE, 1, RememberedNames(60))
    for number in range(300):
        for publication in inventory.put(container(f"web{number}", "exited")):
            zone.replace(publication.id, publication, NOW)
    clues = Clues(zone, inventory.get, inventory.policy)
    assert sum(1 for _ in clues.look({"web7"})) >= 300


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.0.0.7", "10.0.0.7 is the address of web (network front)"),
        ("10.0.0.1", "10.0.0.1 is the gateway of the network front"),
        (
            "10.0.0.9",
            "10.0.0.9 is in a subnet of the network front, but no running container has it",
        ),
        (
            "192.0.2.1",
            "192.0.2.1 is not the address of any container, and not in a subnet of Docker's",
        ),
    ],
)
def test_address_is_somebodys(address: str, said: str) -> None:
    inventory = Inventory(Policy())
    web = container("web")
    at = replace(web.attachments[0], addresses=("10.0.0.7",))
    (publication,) = inventory.put(replace(web, attachments=(at,)))
    networks = [Network("id-front", "front", "e", "bridge", ("10.0.0.0/24",), ("10.0.0.1",))]
    holders = [publication] if address == "10.0.0.7" else []
    assert whose_address(address, holders, networks) == said


def test_stopped_container_explains_a_name_that_is_also_remembered() -> None:
    inventory = Inventory(Policy())
    zone = Zone(EVERYONE, 1, RememberedNames(60))
    hidden = container("web", labels={"containerdns.enable": "false"})
    zone.remembered.put("web", NOW + 60)
    for publication in inventory.put(hidden):
        zone.replace(publication.id, publication, NOW)
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    told = explain(ownership, "web.docker.", messages.A, VIEW, NOW)
    assert told.reason.startswith("its container was removed")
    clues = Clues(zone, inventory.get, inventory.policy)
    assert list(clues.look({"web"}))
    found = with_clues(told, clues).reason
    assert found == "the container web exists, but: label containerdns.enable=false"


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("shop", "its container was renamed to shop"),
        ("web", "the container web no longer has this name"),
    ],
    ids=["renamed", "the same"],
)
def test_name_that_its_running_container_lost_is_not_one_of_a_removed_container(
    name: str, lost: str
) -> None:
    """By `docker rename`, or `docker network disconnect`."""
    inventory, history = Inventory(Policy()), ChangeHistory()
    zone = Zone(EVERYONE, 1, RememberedNames(60))
    web = container("web", networks=("front",))
    (before,) = inventory.put(web)
    (after,) = inventory.put(replace(web, container_name=name, attachments=()))
    history.note(before, after, NOW + 1)
    zone.replace(after.id, after, NOW)
    zone.remembered.put("web.front", NOW + 60)
    ownership = Ownership(zone)
    ownership.listing = Listing.COMPLETE
    clues = Clues(zone, inventory.get, inventory.policy, history.last_holder)
    told = explain(ownership, "web.front.docker.", messages.A, VIEW, NOW)
    assert with_clues(told, clues).reason == (
        f"{lost}; the name is kept from upstreams until 2027-01-15T08:01:00Z"
    )
    history.note(None, before, NOW + 2)
    history.note(before, None, NOW + 3)
    assert with_clues(told, clues).reason == told.reason

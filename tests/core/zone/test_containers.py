"""Engine documents, as values; the documents are those of a real Engine."""

import copy
import json
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core.zone.containers import (
    Attachment,
    Container,
    PortBinding,
    container_from_inspect,
    container_from_list,
    fingerprint,
    network_from_document,
    with_details_of,
)
from containerdns.errors import BadDocument

ENGINE = "unix:///var/run/docker.sock"
GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "engine-20.10.json").read_text()
)
NAMES = sorted(GOLDEN["inspect"])
ITEMS = {item["Names"][0].removeprefix("/"): item for item in GOLDEN["list"]}
WEB = "staging-search_web_1"


def inspected(container_name: str) -> Container:
    return container_from_inspect(GOLDEN["inspect"][container_name], ENGINE)


def changed(document: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of a document with another value at a path of keys."""
    document = copy.deepcopy(document)
    *parents, last = path.split("/")
    place = document
    for key in parents:
        place = place[key]
    place[last] = value
    return document


def test_inspect_tells_all_of_a_container() -> None:
    web = inspected(WEB)
    assert web.id == GOLDEN["inspect"][WEB]["Id"]
    assert (web.container_name, web.engine) == (WEB, ENGINE)
    assert (web.state, web.health) == ("running", "healthy")
    assert (web.hostname, web.domainname) == ("search", "corp.example")
    assert web.docker_labels["com.docker.compose.service"] == "web"
    assert web.network_mode == "frontend"
    backend, frontend = web.attachments
    assert frontend == Attachment(
        network="frontend",
        network_id=frontend.network_id,
        addresses=("172.31.200.2", "fd00:200::2"),
        subnets=("172.31.200.0/24", "fd00:200::/64"),
        gateways=("172.31.200.1", "fd00:200::1"),
        aliases=("web", "www", "search"),
    )
    assert backend.aliases == ("db", "search")
    assert PortBinding(80, "tcp", 18080, "0.0.0.0") in web.ports
    assert PortBinding(9200, "tcp") in web.ports


@pytest.mark.parametrize(
    ("container_name", "state", "mode", "networks"),
    [
        ("plain", "running", "bridge", ["bridge"]),
        ("onhost", "running", "host", ["host"]),
        ("alone", "running", "none", ["none"]),
        ("created", "created", "frontend", ["frontend"]),
        ("exited", "exited", "frontend", ["frontend"]),
        ("paused", "paused", "backend", ["backend"]),
    ],
)
def test_every_kind_of_container_can_be_read(
    container_name: str, state: str, mode: str, networks: list[str]
) -> None:
    container = inspected(container_name)
    assert (container.state, container.network_mode) == (state, mode)
    assert [attachment.network for attachment in container.attachments] == networks
    assert container.is_running == (state in ("running", "paused"))
    assert container.hostname == ""


def test_sidecar_names_the_container_whose_network_it_shares() -> None:
    sidecar = inspected("sidecar")
    assert sidecar.network_mode == f"container:{inspected(WEB).id}"
    assert (sidecar.attachments, sidecar.hostname) == ((), "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-25T08:00:00Z", 1795593600.0),
        ("2026-11-25T08:00:00.123456789Z", 1795593600.123456),
        ("2026-11-25T09:00:00.1+01:00", 1795593600.1),
        ("0001-01-01T00:00:00Z", 0.0),
        ("", 0.0),
        ("yesterday", 0.0),
    ],
)
@pytest.mark.parametrize("field", ["StartedAt", "FinishedAt"])
def test_times_of_a_container_are_read(field: str, text: str, seconds: float) -> None:
    found = container_from_inspect(changed(GOLDEN["inspect"][WEB], f"State/{field}", text), ENGINE)
    told = found.started_at if field == "StartedAt" else found.finished_at
    assert told == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("sysctls", "has_ipv6"),
    [
        ({"net.ipv6.conf.all.disable_ipv6": "1"}, False),
        ({"net.ipv6.conf.default.disable_ipv6": "1"}, False),
        ({"net.ipv6.conf.eth0.disable_ipv6": "1"}, False),
        ({"net.ipv6.conf.lo.disable_ipv6": "1"}, True),
        ({"net.ipv6.conf.all.disable_ipv6": "0"}, True),
        ({"net.ipv6.conf.all.forwarding": "1"}, True),
        (None, True),
    ],
)
def test_sysctl_may_switch_ipv6_off(sysctls: dict[str, str] | None, has_ipv6: bool) -> None:
    document = changed(GOLDEN["inspect"][WEB], "HostConfig/Sysctls", sysctls)
    assert container_from_inspect(document, ENGINE).has_ipv6 is has_ipv6


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ({"Name": "unless-stopped", "MaximumRetryCount": 0}, "unless-stopped"),
        ({"Name": "no"}, ""),
        ({"Name": ""}, ""),
        ({"Name": 5}, ""),
        ({}, ""),
        ("always", ""),
        (None, ""),
    ],
)
def test_restart_policy_is_read_whatever_else_is_there(policy: object, name: str) -> None:
    document = changed(GOLDEN["inspect"][WEB], "HostConfig/RestartPolicy", policy)
    assert container_from_inspect(document, ENGINE).restart_policy == name


def test_list_alone_never_says_that_a_sharer_is_the_same() -> None:
    """No list shows when a container was started."""
    document = changed(GOLDEN["inspect"][WEB], "HostConfig/NetworkMode", "container:" + "a" * 64)
    assert fingerprint(document) == 0


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("Config/Hostname", "es1", "es1"),
        ("Config/Hostname", "0123456789a", "0123456789a"),
        ("Config/Hostname", "0" * 12, ""),
        ("Config/Hostname", "f" * 64, ""),
        ("Config/Hostname", "f" * 63, "f" * 63),
        ("HostConfig/UTSMode", "host", ""),
    ],
    ids=["set", "11 digits", "another's id", "another's long id", "63 digits", "host's own"],
)
def test_host_name_counts_only_if_it_was_set(path: str, value: str, expected: str) -> None:
    """Tools that replace a container (Watchtower) copy the id of the one before."""
    document = changed(GOLDEN["inspect"][WEB], path, value)
    assert container_from_inspect(document, ENGINE).hostname == expected


@pytest.mark.parametrize("container_name", NAMES)
def test_list_and_inspect_agree(container_name: str) -> None:
    listed = container_from_list(ITEMS[container_name], ENGINE)
    whole = inspected(container_name)
    completed = with_details_of(listed, whole)
    assert completed.attachments == whole.attachments
    assert (completed.id, completed.container_name) == (whole.id, whole.container_name)
    assert (completed.state, completed.network_mode) == (whole.state, whole.network_mode)
    assert (completed.hostname, completed.docker_labels) == (whole.hostname, whole.docker_labels)
    assert completed.restart_policy == whole.restart_policy


@pytest.mark.parametrize("container_name", NAMES)
def test_fingerprint_is_the_same_of_list_and_inspect(container_name: str) -> None:
    """Else every comparison would inspect this container."""
    likeness = fingerprint(GOLDEN["inspect"][container_name])
    assert likeness == fingerprint(ITEMS[container_name])
    assert bool(likeness) is (container_name != "sidecar")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Names", ["/renamed"]),
        ("State", "exited"),
        ("Status", "Up 5 seconds (unhealthy)"),
        ("NetworkSettings/Networks/frontend/IPAddress", "172.31.200.9"),
        ("NetworkSettings/Networks/frontend/EndpointID", "other aliases"),
        ("NetworkSettings/Networks", {}),
    ],
    ids=["name", "state", "health", "address", "endpoint", "networks"],
)
def test_fingerprint_changes_with_what_the_list_shows(path: str, value: object) -> None:
    assert fingerprint(changed(ITEMS[WEB], path, value)) != fingerprint(ITEMS[WEB])


def test_fingerprint_does_not_change_with_time() -> None:
    assert fingerprint(changed(ITEMS[WEB], "Status", "Up 3 days (healthy)")) == fingerprint(
        ITEMS[WEB]
    )


@pytest.mark.parametrize("odd", [None, [], {}, {"State": 5}, {"State": "running"}])
def test_fingerprint_of_an_odd_document_is_zero(odd: object) -> None:
    assert fingerprint(odd) == 0


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ("Up 2 seconds", ""),
        ("Up 2 seconds (healthy)", "healthy"),
        ("Up 2 seconds (unhealthy)", "unhealthy"),
        ("Up 2 seconds (health: starting)", "starting"),
    ],
)
def test_list_of_an_old_engine_tells_health_in_words(status: str, health: str) -> None:
    assert container_from_list(changed(ITEMS[WEB], "Status", status), ENGINE).health == health


def test_list_of_a_new_engine_tells_health_in_a_field() -> None:
    item = changed(ITEMS[WEB], "Health", {"Status": "unhealthy", "FailingStreak": 3})
    assert container_from_list(item, ENGINE).health == "unhealthy"


def test_list_names_a_container_by_its_own_name_not_by_a_link() -> None:
    item = changed(ITEMS[WEB], "Names", ["/other/web", "/own"])
    assert container_from_list(item, ENGINE).container_name == "own"


@pytest.mark.parametrize(("octets", "subnets"), [(0, ()), (1, ("128.0.0.0/1",))])
def test_prefix_of_length_0_is_no_subnet(octets: int, subnets: tuple[str, ...]) -> None:
    """Engines give 0 for no subnet; taken as one, it would hold every client."""
    place = "NetworkSettings/Networks/frontend"
    document = changed(GOLDEN["inspect"][WEB], f"{place}/IPPrefixLen", octets)
    document = changed(document, f"{place}/IPAddress", "172.18.0.2")
    found = container_from_inspect(document, ENGINE).attachments
    [frontend] = [a for a in found if a.network == "frontend"]
    assert frontend.subnets == (*subnets, "fd00:200::/64")


def test_short_id_is_no_alias() -> None:
    """Engines before 25 add it to what people gave."""
    document = GOLDEN["inspect"]["paused"]
    assert document["Id"][:12] in document["NetworkSettings"]["Networks"]["backend"]["Aliases"]
    assert inspected("paused").attachments[0].aliases == ()


def test_addresses_are_canonical() -> None:
    path = "NetworkSettings/Networks/frontend/GlobalIPv6Address"
    document = changed(GOLDEN["inspect"][WEB], path, "FD00:0200:0::0002")
    assert container_from_inspect(document, ENGINE).attachments[1].addresses[1] == "fd00:200::2"


@pytest.mark.parametrize("state", ["restarting", "dead", "removing", "exited", "created"])
def test_container_that_waits_or_is_dead_does_not_run(state: str) -> None:
    document = changed(GOLDEN["inspect"][WEB], "State/Status", state)
    assert not container_from_inspect(document, ENGINE).is_running


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Id", None),
        ("Name", None),
        ("Name", "/"),
        ("State", "running"),
        ("State/Status", ""),
        ("Config", 5),
        ("Config/Labels", {"key": 5}),
        ("Config/Labels", ["key"]),
        ("HostConfig", []),
        ("NetworkSettings/Networks", []),
        ("NetworkSettings/Networks/frontend", "172.31.200.2"),
        ("NetworkSettings/Networks/frontend/IPAddress", "172.31.200.256"),
        ("NetworkSettings/Networks/frontend/IPPrefixLen", 33),
        ("NetworkSettings/Networks/frontend/Aliases", "www"),
        ("NetworkSettings/Networks/frontend/Aliases", [5]),
    ],
)
def test_odd_field_is_a_bad_document(path: str, value: object) -> None:
    with pytest.raises(BadDocument):
        container_from_inspect(changed(GOLDEN["inspect"][WEB], path, value), ENGINE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Config/Labels", None),
        ("Config/ExposedPorts", {"odd/tcp": {}, "/": {}, "9" * 5000: {}}),
        ("NetworkSettings/Ports", None),
        ("NetworkSettings/Ports", {"80/tcp": [{"HostPort": "odd"}, None]}),
        ("NetworkSettings/Networks/frontend", None),
        ("NetworkSettings/Networks/frontend/Aliases", None),
        ("State/Health", None),
    ],
)
def test_absent_field_or_odd_port_costs_nothing_else(path: str, value: object) -> None:
    container = container_from_inspect(changed(GOLDEN["inspect"][WEB], path, value), ENGINE)
    assert container.container_name == WEB


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def paths_of(document: object, path: str = "") -> list[str]:
    if not isinstance(document, dict):
        return []
    found = []
    for key, value in document.items():
        if "/" not in key:
            found += [f"{path}{key}", *paths_of(value, f"{path}{key}/")]
    return found


@given(st.data(), JSON)
def test_any_value_in_any_field_gives_a_container_or_a_bad_document(
    data: st.DataObject, value: object
) -> None:
    for read, document in (
        (container_from_inspect, GOLDEN["inspect"][WEB]),
        (container_from_list, ITEMS[WEB]),
        (network_from_document, GOLDEN["networks"][0]),
    ):
        odd = changed(document, data.draw(st.sampled_from(paths_of(document))), value)
        fingerprint(odd)
        with suppress(BadDocument):
            read(odd, ENGINE)


@given(JSON)
def test_any_document_gives_a_value_or_a_bad_document(document: object) -> None:
    for read in (container_from_inspect, container_from_list, network_from_document):
        with pytest.raises(BadDocument):
            read(document, ENGINE)


def test_network_has_its_subnets_and_gateways() -> None:
    [document] = [item for item in GOLDEN["networks"] if item["Name"] == "frontend"]
    network = network_from_document(document, ENGINE)
    assert (network.name, network.driver, network.id) == ("frontend", "bridge", document["Id"])
    assert set(network.subnets) == {"172.31.200.0/24", "fd00:200::/64"}
    assert "172.31.200.1" in network.gateways or network.gateways == ()


def test_network_without_pools_has_no_subnets() -> None:
    [document] = [item for item in GOLDEN["networks"] if item["Name"] == "host"]
    assert network_from_document(document, ENGINE).subnets == ()


@given(st.ip_addresses(), st.integers(1, 128))
def test_subnet_is_that_of_the_address(address: IPv4Address | IPv6Address, prefix: int) -> None:
    """Those of IPv4 are calculated, as parsing each was most of reading a listing."""
    prefix = min(prefix, address.max_prefixlen)
    kind = "" if address.version == 4 else "GlobalIPv6"
    keys = ("IPAddress", "IPPrefixLen") if not kind else (f"{kind}Address", f"{kind}PrefixLen")
    endpoint = dict(zip(keys, (str(address), prefix), strict=True))
    document = {
        "Id": "1" * 64,
        "Names": ["/web"],
        "State": "running",
        "NetworkSettings": {"Networks": {"front": endpoint}},
    }
    [attachment] = container_from_list(document, "").attachments
    assert attachment.addresses == (str(address),)
    assert attachment.subnets == (str(ip_network(f"{address}/{prefix}", strict=False)),)


@pytest.mark.parametrize("text", ["010.0.0.1", "1.2.3.256", "1.2.3", "1.2.3.4 ", "1.2.3.4/24"])
def test_address_that_is_not_canonical_is_a_bad_document(text: str) -> None:
    endpoint = {"IPAddress": text, "IPPrefixLen": 24}
    document = {
        "Id": "1" * 64,
        "Names": ["/web"],
        "State": "running",
        "NetworkSettings": {"Networks": {"front": endpoint}},
    }
    with pytest.raises(BadDocument):
        container_from_list(document, "")

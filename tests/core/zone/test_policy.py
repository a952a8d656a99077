"""What a container deserves, beyond what scenarios show: bounds, faults, templates."""

from typing import Any

import pytest

from containerdns.core.values import with_fields
from containerdns.core.zone import docker_labels, policy
from containerdns.core.zone.containers import Attachment, Container, PortBinding
from containerdns.core.zone.policy import (
    Policy,
    Publication,
    Rank,
    publish,
    published_ports,
)
from containerdns.errors import BadSettings

ID = "0123456789ab" + "0" * 52


def container(labels: dict[str, str] | None = None, **changes: Any) -> Container:
    values: dict[str, Any] = {
        "id": ID,
        "container_name": "web",
        "engine": "unix:///x",
        "state": "running",
        "attachments": (Attachment("front", "f", ("172.18.0.2",)),),
        "docker_labels": labels or {},
        **changes,
    }
    return Container(**values)


def published(labels: dict[str, str] | None = None, **changes: Any) -> Publication:
    return publish(container(labels, **changes), Policy())


def owners(found: Publication) -> dict[str, Rank]:
    return {claim.owner: Rank(claim.rank) for claim in found.claims}


def test_plain_container_has_its_name_its_id_and_its_name_on_each_network() -> None:
    assert owners(published()) == {
        "web": Rank.CONTAINER,
        "0123456789ab": Rank.CONTAINER,
        "web.front": Rank.DERIVED,
    }


def test_plain_container_is_no_wildcard_and_says_nothing_else() -> None:
    found = published()
    assert not found.is_wildcard
    assert found.texts is None
    assert found.services is None
    assert (found.cname, found.on_host, found.faults, found.skipped) == ("", False, (), "")


def test_one_off_takes_nothing_from_its_service() -> None:
    """`docker compose run` copies all labels of the service, and its host name."""
    labels = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "web",
        "com.docker.compose.oneoff": "True",
        "containerdns.names": "www",
        "containerdns.fqdns": "www.example",
        "containerdns.cname": "elsewhere.example.",
        "containerdns.address": "192.0.2.1",
        "containerdns.txt": "text",
        "containerdns.wildcard": "true",
        "containerdns.ttl": "60",
    }
    policy = Policy(name_templates=("{service}.{project}.test",))
    found = publish(container(labels, container_name="errand", hostname="www"), policy)
    assert set(owners(found)) == {"errand", ID[:12], "errand.front"}
    assert [address.text for address in found.addresses] == ["172.18.0.2"]
    assert (found.cname, found.texts, found.is_wildcard, found.ttl) == ("", None, False, 60)


def test_name_claimed_twice_has_its_best_rank() -> None:
    found = published({"containerdns.names": "x,web"}, hostname="x")
    assert owners(found)["x"] is Rank.LABEL
    assert owners(found)["web"] is Rank.CONTAINER
    assert len([c for c in found.claims if c.owner == "x"]) == 1


@pytest.mark.parametrize(("octets", "below"), [(246, []), (247, ["docker."])])
def test_name_that_is_too_long_below_a_suffix_is_reported_for_it(
    octets: int, below: list[str]
) -> None:
    """247 octets, "docker" and their lengths are 256 in wire form; bare or shorter it is right."""
    name = ".".join([*["a" * 63] * 3, "a" * (octets - 192)])
    policy = Policy(suffixes=("docker.", "lan."))
    found = publish(container({"containerdns.names": name}), policy)
    reason = "name longer than 255 octets"
    assert found.faults == tuple((f"{'a' * 61}... below {suffix}", reason) for suffix in below)
    assert name in owners(found)


def test_spelling_with_hyphens_is_claimed_beside_each_name_with_underscores() -> None:
    found = published({"containerdns.names": "a_b.c_d"}, container_name="my_web")
    ranks = owners(found)
    assert ranks["my-web"] is ranks["a-b.c-d"] is ranks["my-web.front"] is Rank.HYPHENS
    assert ranks["my_web"] is Rank.CONTAINER


def test_service_goes_before_its_tasks_with_hyphens_too() -> None:
    """Else the answer would be the virtual address and the tasks' own."""
    task = published({"com.docker.swarm.service.name": "my_web"}, container_name="my_web.1.x")
    service = published(container_name="my_web", id="service:1")
    assert owners(task)["my_web"] > owners(service)["my_web"]
    assert owners(task)["my-web"] > owners(service)["my-web"]


def swarm_service(*addresses: str, **labels: str) -> Container:
    """A service "web" with the alias "www" on the network "front"."""
    front = Attachment("front", "n1", addresses, aliases=("www",))
    named = {f"containerdns.{key}": value for key, value in labels.items()}
    return container(named, id="service:1", attachments=(front,))


def test_service_has_its_aliases_and_its_labels_at_its_virtual_address() -> None:
    """As in Docker's own DNS, where a task's alias of that name does not count either."""
    service = swarm_service("10.0.1.2", names="site")
    found = publish(service, Policy())
    assert set(owners(found)) == {"web", "web.front", "www.front", "site"}
    front = Attachment("front", "n1", ("10.0.1.3",), aliases=("www",))
    task = container({"com.docker.swarm.service.name": "web"}, attachments=(front,))
    of_task = owners(publish(task, Policy(), service=service))
    assert of_task["www.front"] > owners(found)["www.front"]
    assert "site" not in of_task


@pytest.mark.parametrize("more", [(), (Attachment("ingress", "n0", ("10.0.0.2",)),)])
def test_tasks_have_the_aliases_and_labels_of_a_service_without_an_address(
    more: tuple[Attachment, ...],
) -> None:
    """`--endpoint-mode dnsrr`, or a virtual address on a network that is not published."""
    bare = swarm_service(names="site", ttl="7")
    service = with_fields(bare, attachments=(*bare.attachments, *more))
    assert not publish(service, Policy()).claims
    labels = {"com.docker.swarm.service.name": "web", "containerdns.ttl": "3"}
    task = container(labels, attachments=(Attachment("front", "n1", ("10.0.1.3",)),))
    found = publish(task, Policy(), service=service)
    assert {"web", "tasks.web", "www.front", "site"} <= set(owners(found))
    assert found.ttl == 3


@pytest.mark.parametrize("owner", ["my_web", "my-web", "0123456789ab", "label", "box", "db"])
def test_name_on_a_host_is_claimed_as_the_name_is(owner: str) -> None:
    """Else a container's name, another's host name and two projects' service share an answer."""
    labels = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "db",
        "containerdns.names": "label",
    }
    made = container(labels, container_name="my_web", hostname="box")
    claims = {claim.owner: claim for claim in publish(made, Policy(fleet_host="ha")).claims}
    on_host = claims[f"{owner}.ha"]
    assert on_host._replace(owner=owner, rule=claims[owner].rule) == claims[owner]


def test_absolute_name_is_not_spelled_with_hyphens() -> None:
    """The label says: exactly that one."""
    assert "a-b.example." not in owners(published({"containerdns.fqdns": "a_b.example"}))


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("app.docker", "app"),
        ("App.Docker.", "app"),
        ("a.b.corp.example", "a.b"),
        ("app.xdocker", "app.xdocker"),
        ("docker", "docker"),
        ("app.", "app"),
        ("*.app.docker", "*.app"),
    ],
)
@pytest.mark.parametrize("way", ["label", "template", "host name"])
def test_name_written_with_a_domain_of_ours_is_the_name_without(
    text: str, owner: str, way: str
) -> None:
    """Else it would be `app.docker.docker`, which nobody asks for."""
    suffixes = ("docker.", "corp.example.")
    if way == "host name":
        if "*" in text:
            return
        found = publish(container(hostname=text), Policy(suffixes=suffixes))
    elif way == "template":
        templates = ("{label:app}",)
        policy = Policy(suffixes=suffixes, name_templates=templates)
        found = publish(container({"app": text}), policy)
    else:
        found = publish(container({"containerdns.names": text}), Policy(suffixes=suffixes))
    assert owner in owners(found)
    assert not found.faults


def test_what_docker_calls_things_is_taken_as_it_is() -> None:
    """Docker takes `web.` for a name other than `web`."""
    found = published(container_name="web.")
    assert set(owners(found)) == {"0123456789ab"}
    assert ("web.", "ends in a dot") in found.faults
    alias = Attachment("front", "f", ("172.18.0.2",), aliases=("*", "a*", "ok"))
    aliased = published(attachments=(alias,), hostname="*")
    assert set(owners(aliased)) == {"web", "web.front", "ok.front", "0123456789ab"}
    assert len(aliased.faults) == 3


def test_wildcard_is_for_labels_and_templates_alone() -> None:
    assert "*.foo" in owners(published({"containerdns.names": "*.foo"}))
    assert "*.foo" not in owners(published(hostname="*.foo"))


@pytest.mark.parametrize(
    "label",
    ["enable", "names", "fqdns", "network", "ttl", "wildcard", "txt", "txt.a", "cname", "address",
     "srv._http._tcp", "nmaes"],
)  # fmt: skip
@pytest.mark.parametrize("text", ["", " "])
def test_empty_label_is_as_good_as_none(label: str, text: str) -> None:
    """Compose makes one of a variable that nobody set."""
    assert published({f"containerdns.{label}": text}) == published()


@pytest.mark.parametrize(
    ("project", "networks", "addresses"),
    [
        ("com.docker.compose.project", ("shop_front", "shop_back"), ["10.0.0.0"]),
        ("com.docker.stack.namespace", ("shop_front", "shop_back"), ["10.0.0.0"]),
        ("com.docker.compose.project", ("shop_front", "front"), ["10.0.0.1"]),
        ("com.docker.compose.project", ("other_front",), []),
        ("com.example.project", ("shop_front",), []),
    ],
    ids=["Compose", "stack", "exactly so", "of another project", "no project"],
)
def test_network_of_a_label_may_be_called_as_in_the_compose_file(
    project: str, networks: tuple[str, ...], addresses: list[str]
) -> None:
    attached = tuple(Attachment(n, n, (f"10.0.0.{i}",)) for i, n in enumerate(networks))
    found = published({"containerdns.network": "front", project: "shop"}, attachments=attached)
    assert [a.text for a in found.addresses] == addresses
    assert bool(found.faults) is not bool(addresses)


@pytest.mark.parametrize("target", ["web.docker", "WEB.corp.example.", "a.example", "web"])
def test_cname_to_a_name_of_its_own_is_reported(target: str) -> None:
    labels = {"containerdns.cname": target, "containerdns.fqdns": "a.example"}
    found = publish(container(labels), Policy(suffixes=("docker.", "corp.example.")))
    assert [reason for _, reason in found.faults] == [
        "the target is a name of the container itself"
    ]


@pytest.mark.parametrize(
    ("addresses", "services"),
    [
        (("127.0.0.1",), None),
        (("127.8.0.1", "::1"), None),
        (("127.0.0.1", "0.0.0.0"), {"_80._tcp": (8081,), "_http._tcp": (8081,)}),
        (("10.8.0.1",), {"_80._tcp": (8080,), "_http._tcp": (8080,)}),
        (("",), {"_80._tcp": (8080,), "_http._tcp": (8080,)}),
    ],
)
def test_host_mode_announces_no_port_published_on_loopback_alone(
    addresses: tuple[str, ...], services: dict[str, tuple[int, ...]] | None
) -> None:
    ports = tuple(PortBinding(80, "tcp", 8080 + i, text) for i, text in enumerate(addresses))
    labels = {"containerdns.srv._http._tcp": "80"}
    assert publish(container(labels, ports=ports), Policy(host_mode=True)).services == services
    assert published_ports(container(labels, ports=ports), Policy()) == services


@pytest.mark.parametrize(("count", "kept"), [(100, 100), (101, 100)])
def test_label_adds_a_hundred_names_at_most(count: int, kept: int) -> None:
    found = published({"containerdns.names": ",".join(f"n{i}" for i in range(count))})
    assert sum(c.rank == Rank.LABEL for c in found.claims) == kept
    assert bool(found.faults) is (count > kept)


def test_container_has_a_bounded_number_of_names_its_own_among_them() -> None:
    many = tuple(
        Attachment(f"n{i}", f"n{i}", aliases=tuple(f"a{j}" for j in range(20))) for i in range(40)
    )
    found = published(attachments=many)
    assert len(found.claims) == policy.MAX_CLAIMS
    assert {"web", "0123456789ab"} <= set(owners(found))
    assert any("more than 500 names" in reason for _, reason in found.faults)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a..b", "empty label"),
        ("a" * 64, "label longer than 63 octets"),
        (".", "the root is not a relative name"),
        ("*", "a wildcard that could cover other containers' names"),
        ("w\u00e4b", "not ASCII"),
        ("a\\.", "a dot in the last label"),
        ("foo.*", "an asterisk inside a name"),
        ("*.*.foo", "an asterisk inside a name"),
        ("*foo", "an asterisk inside a name"),
        ("\\042foo", "an asterisk inside a name"),
        ("https://foo", "expected only a name, not a URL or a path"),
        ("foo/bar", "expected only a name, not a URL or a path"),
        ("foo:8080", "expected only a name, without a port"),
    ],
)
def test_bad_name_costs_itself_alone(text: str, reason: str) -> None:
    found = published({"containerdns.names": f"good,{text}"})
    assert (text, reason) in found.faults
    assert "good" in owners(found)


@pytest.mark.parametrize(
    "text", ["*.docker", "*.a.b.", ".", "a.*.b", "a*.b", "a.b.*", "localhost", "a.localhost."]
)
def test_absolute_wildcard_is_refused(text: str) -> None:
    found = published({"containerdns.fqdns": f"good.example,{text}"})
    assert [c.owner for c in found.claims if c.owner.endswith(".")] == ["good.example."]
    assert len(found.faults) == 1


@pytest.mark.parametrize(
    ("text", "ttl", "is_fault"),
    [
        ("0", 0, False), ("3600", 3600, False), ("3601", 5, True), ("-1", 5, True), ("", 5, False),
        (" 7 ", 7, False),
        ("5s", 5, True), ("\u0665", 5, True), ("1" * 5000, 5, True), ("000060", 60, False),
    ],
)  # fmt: skip
def test_ttl_is_zero_to_3600(text: str, ttl: int, is_fault: bool) -> None:
    found = published({"containerdns.ttl": text})
    assert (found.ttl, bool(found.faults)) == (ttl, is_fault)


@pytest.mark.parametrize(
    ("text", "ports", "is_fault"),
    [
        ("1", (1,), False), ("65535", (65535,), False), ("0", (), True), ("65536", (), True),
        ("x", (), True), ("0000809999", (), True), ("9" * 5000, (), True),
    ],
)  # fmt: skip
def test_port_is_1_to_65535(text: str, ports: tuple[int, ...], is_fault: bool) -> None:
    found = published({"containerdns.srv._x._tcp": text})
    assert (found.services or {}).get("_x._tcp", ()) == ports
    assert bool(found.faults) is is_fault


@pytest.mark.parametrize(
    "port",
    [
        PortBinding(0, "tcp"),
        PortBinding(65536, "tcp"),
        PortBinding(80, "t.c p"),
        PortBinding(-1, "udp"),
    ],
)
def test_odd_port_of_an_engine_is_no_service(port: PortBinding) -> None:
    assert published(ports=(port, PortBinding(80, "tcp"))).services == {"_80._tcp": (80,)}


def test_services_and_texts_are_bounded() -> None:
    ports = tuple(PortBinding(number, "tcp") for number in range(1, 1000))
    labels = {f"containerdns.txt.k{i}": "v" for i in range(200)}
    labels |= {f"containerdns.srv._s{i}._tcp": "1" for i in range(300)}
    found = published(labels, ports=ports)
    assert found.services is not None
    assert found.texts is not None
    assert len(found.services) == 2 * policy.MAX_SERVICES
    assert len(found.texts) == docker_labels.MAX_NAMES


@pytest.mark.parametrize(("octets", "is_kept"), [(4096, True), (4097, False)])
def test_text_has_4096_octets_at_most(octets: int, is_kept: bool) -> None:
    found = published({"containerdns.txt": "x" * octets})
    assert bool(found.texts) is is_kept
    assert bool(found.faults) is not is_kept


@pytest.mark.parametrize("label", ["txt.*", "txt.a.*", "srv.*", "srv._x.*", "txt.", "srv.a..b"])
def test_key_that_is_no_name_or_a_wildcard_is_a_fault(label: str) -> None:
    found = published({f"containerdns.{label}": "80"})
    assert not found.texts
    assert not found.services
    assert len(found.faults) == 1


@pytest.mark.parametrize(
    ("text", "skipped"),
    [("true", False), ("True", False), ("false", True), (" true ", False), ("\tFalse", True),
     ("", False), (" ", False)]
    + [(wrong, True) for wrong in ("1", "YES", "on", "0", "No", "perhaps", '"true"', "'false'")],
)  # fmt: skip
def test_enable_is_true_or_false(text: str, skipped: bool) -> None:
    """The author of another word wanted to hide it, or will look why it is hidden."""
    found = published({"containerdns.enable": text})
    assert bool(found.skipped) is skipped
    assert found.is_running is not skipped
    assert bool(found.faults) is (text.strip().lower() not in ("", "true", "false"))


def test_skipped_container_tells_why() -> None:
    odd = published({"containerdns.enable": '"true"'})
    assert odd.skipped == 'label containerdns.enable="true": expected true or false'
    found = published({"containerdns.enable": "false"})
    assert found.skipped == "label containerdns.enable=false"
    hidden = publish(container(), Policy(expose_by_default=False, label_prefix="dns"))
    assert hidden.skipped == "no label dns.enable=true, and --no-expose-by-default"


def test_addresses_come_in_the_order_of_the_networks_wanted() -> None:
    both = (Attachment("a", "a", ("10.0.0.1",)), Attachment("b", "b", ("10.1.0.1", "fd00::1")))
    found = publish(container(attachments=both), Policy(networks=("b", "c", "a")))
    assert [(a.text, a.preference) for a in found.addresses] == [
        ("10.1.0.1", 0),
        ("fd00::1", 0),
        ("10.0.0.1", 2),
    ]


def test_fixed_addresses_are_canonical_and_those_that_are_none_are_faults() -> None:
    found = published({"containerdns.address": " 2001:DB8::1, x ,192.0.2.1"})
    assert [a.text for a in found.addresses] == ["2001:db8::1", "192.0.2.1"]
    assert len(found.faults) == 1


def test_fixed_addresses_that_are_all_wrong_leave_the_own_ones() -> None:
    found = published({"containerdns.address": "x"})
    assert [a.text for a in found.addresses] == ["172.18.0.2"]


@pytest.mark.parametrize(
    "target", [".", "a..b", "w\u00e4b", "https://a.example", "a.example:80", "a.example b.example"]
)
def test_cname_that_leads_nowhere_is_a_fault(target: str) -> None:
    found = published({"containerdns.cname": target})
    assert found.cname == ""
    assert len(found.faults) == 1


def test_fault_shows_the_label_cut_short() -> None:
    [(text, _)] = published({"containerdns.ttl": "x" * 5000}).faults
    assert text == "containerdns.ttl=" + "x" * 61 + "..."


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("nmaes", "unknown label, perhaps containerdns.names"),
        ("Names", "unknown label, perhaps containerdns.names"),
        ("enabled", "unknown label, perhaps containerdns.enable"),
        ("", "unknown label"),
        ("colour", "unknown label"),
        ("srv", "unknown label, perhaps containerdns.srv._SERVICE._PROTOCOL"),
    ],
)
def test_misspelt_label_is_a_fault_and_costs_nothing_else(label: str, reason: str) -> None:
    found = published({f"containerdns.{label}": "false"})
    assert found.faults == ((f"containerdns.{label}=false", reason),)
    assert owners(found) == owners(published())
    assert not found.skipped


def test_labels_of_others_are_no_faults() -> None:
    labels = {"containerdnsx.names": "a", "containerdns": "b", "com.example.nmaes": "c"}
    assert published(labels).faults == ()


def test_label_that_a_template_asks_for_is_known() -> None:
    labels = {"com.example.app": "shop", "com.example.nmaes": "a"}
    policy = Policy(label_prefix="com.example", name_templates=("{label:com.example.app}.x",))
    assert [text for text, _ in publish(container(labels), policy).faults] == [
        "com.example.nmaes=a"
    ]


def test_of_many_misspelt_labels_ten_are_told() -> None:
    found = published({f"containerdns.x{number}": "y" for number in range(1000)})
    assert len(found.faults) == 11
    assert found.faults[-1] == ("containerdns.*", "990 more unknown labels")


@pytest.mark.parametrize("label", ["names", "fqdns"])
def test_list_with_blanks_for_commas_is_a_fault(label: str) -> None:
    """Another program's labels are separated so; a name with a space is never intended."""
    found = published({f"containerdns.{label}": "a.example b.example, c.example"})
    assert found.faults == (
        ("a.example b.example", "a space in the name; separate names with commas"),
    )
    assert {owner.rstrip(".") for owner in owners(found)} >= {"c.example"}


@pytest.mark.parametrize(
    ("template", "labels", "owner"),
    [
        ("{label:app}.{name}", {"app": "shop"}, "shop.web"),
        ("{label:app}.{name}", {}, None),
        ("{label:app}.{name}", {"app": ""}, None),
        ("x-{id}", {}, "x-0123456789ab"),
        ("{hostname}.h", {}, None),
        ("{service}-{number}.{project}", {
            "com.docker.compose.service": "s", "com.docker.compose.project": "p",
            "com.docker.compose.container-number": "2"}, "s-2.p"),
        ("{name}", {"app": "x"}, "web"),
        ("{label:a.b/c-d}", {"a.b/c-d": "v"}, "v"),
    ],
)  # fmt: skip
def test_template_is_filled_or_left_out(
    template: str, labels: dict[str, str], owner: str | None
) -> None:
    found = publish(container(labels), Policy(name_templates=(template,)))
    others = owners(publish(container(labels), Policy()))
    assert set(owners(found)) - set(others) == {owner} - {None} - set(others)
    assert owner is None or owner in owners(found)
    assert not found.faults


@pytest.mark.parametrize(
    "template", ["web", "{nam}", "{label:}", "{name", "name}", "{{name}}", "", "{}", "{name}{"]
)
def test_template_with_an_unknown_field_is_refused(template: str) -> None:
    with pytest.raises(BadSettings, match="--name-template"):
        Policy(name_templates=(template,))


@pytest.mark.parametrize("state", ["exited", "created", "restarting", "dead", "removing"])
def test_container_that_does_not_run_claims_but_does_not_publish(state: str) -> None:
    found = published(state=state)
    assert not found.is_running
    assert "web" in owners(found)


def test_sidecar_has_the_addresses_of_its_lender_but_no_pointers_and_no_aliases() -> None:
    lender = container(attachments=(Attachment("n", "n", ("10.0.0.9",), aliases=("x",)),))
    side = container(container_name="side", network_mode="container:" + ID, attachments=())
    found = publish(side, Policy(), lender)
    assert [a.text for a in found.addresses] == ["10.0.0.9"]
    assert found.pointers == ()
    assert "side.n" in owners(found)
    assert "x.n" not in owners(found)


def test_container_whose_ipv6_is_switched_off_has_no_ipv6_address() -> None:
    both = (Attachment("n", "n", ("10.0.0.9", "fd00::9")),)
    found = published(attachments=both, has_ipv6=False)
    assert [a.text for a in found.addresses] == ["10.0.0.9"]
    assert found.pointers == ("10.0.0.9",)
    side = container(container_name="side", network_mode="container:" + ID, attachments=())
    lent = publish(side, Policy(), container(attachments=both, has_ipv6=False))
    assert [a.text for a in lent.addresses] == ["10.0.0.9"]


@pytest.mark.parametrize(
    ("ports", "published_on"),
    [
        ((PortBinding(53, "udp", 53, "0.0.0.0"), PortBinding(53, "udp", 53, "::")), ("",)),
        ((PortBinding(53, "udp", 53, "10.8.0.1"),), ("10.8.0.1",)),
        ((PortBinding(53, "udp", 53, "127.0.0.1"),), ()),
        ((PortBinding(53, "udp", 5353, "0.0.0.0"),), ()),
        ((PortBinding(80, "tcp", 53, "0.0.0.0"),), ()),
        ((PortBinding(53, "udp"),), ()),
    ],
    ids=["everywhere", "on one", "on loopback", "elsewhere", "another's", "not"],
)
def test_where_a_name_server_is_published(
    ports: tuple[PortBinding, ...], published_on: tuple[str, ...]
) -> None:
    assert policy.published_addresses(container(ports=ports), {53}) == published_on


@pytest.mark.parametrize("network", ["ingress", "docker_gwbridge"])
def test_plumbing_of_the_swarm_is_never_published(network: str) -> None:
    found = published(attachments=(Attachment(network, "i", ("10.0.0.1",)),))
    assert not found.addresses
    assert not found.pointers


def test_swarm_task_has_names_of_its_service_and_slot() -> None:
    labels = {
        "com.docker.swarm.service.name": "shop_web",
        "com.docker.swarm.task.name": "shop_web.2.abcdef",
    }
    ranks = owners(published(labels, container_name="shop_web.2.abcdef"))
    assert ranks["shop_web"] is Rank.TASK
    assert ranks["tasks.shop_web"] is ranks["2.shop_web"] is Rank.DERIVED


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ({"address": "x," * 20_000}, ("address=", "longer than 32768 characters")),
        ({"address": "x," * 2000}, ("address=2000 addresses", "more than 1000 addresses")),
        ({"names": "a." * 20_000}, ("names=", "longer than 32768 characters")),
        ({"names": "a." * 5000}, ("a.a.", "name longer than 255 octets")),
        (
            {f"txt.k{n}": "text" for n in range(2000)},
            ("*", "only 1000 labels are read: 1000 left out"),
        ),
    ],
    ids=["long list", "many addresses", "long names", "long name", "many labels"],
)
def test_what_one_container_says_is_read_and_reported_in_bounds(
    labels: dict[str, str], fault: tuple[str, str]
) -> None:
    """Docker accepts labels of 17 MiB, of which each part was read, and was a line in the log."""
    given = {f"containerdns.{key}": text for key, text in labels.items()}
    faults = publish(container(given), Policy()).faults
    assert len(faults) <= policy.MAX_FAULTS + 1
    text, reason = fault
    assert any(text in shown and reason == why for shown, why in faults), faults[:3]


def test_only_the_first_faults_of_a_container_are_reported() -> None:
    for count, lines in ((policy.MAX_FAULTS, 0), (policy.MAX_FAULTS + 1, 1)):
        given = {"containerdns.address": ",".join(f"x{n}" for n in range(count))}
        faults = publish(container(given), Policy()).faults
        more = [why for shown, why in faults if shown == "containerdns.*"]
        assert more == ["1 more faults"] * lines
        assert len(faults) == policy.MAX_FAULTS + lines


def test_containers_of_one_image_share_their_services_and_have_no_second_list_of_addresses() -> (
    None
):
    """With 10,000 containers, these were 5 MB."""
    ports = (PortBinding(80, "tcp"), PortBinding(9200, "tcp"))
    one, other = (published(ports=ports, container_name=name) for name in ("one", "other"))
    assert one.services is other.services
    assert one.services == {"_80._tcp": (80,), "_9200._tcp": (9200,)}
    attachment = Attachment("front", "f", ("172.18.0.2",))
    assert published(attachments=(attachment,)).pointers is attachment.addresses

"""Views: who may ask, which networks a client sees, and what the host is to it."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerdns.core.endpoints import PRIVATE, IPAddress
from containerdns.core.zone.containers import Network
from containerdns.core.zone.views import (
    Own,
    Rights,
    View,
    Views,
    is_private,
    packed,
)

FRONT = Network(
    "front", "front", "e", "bridge", ("172.18.0.0/16", "fd00::/64"), ("172.18.0.1", "fd00::1")
)
BACK = Network("back", "back", "e", "bridge", ("172.19.0.0/16",), ("172.19.0.1",))
LOOPBACK = (ip_network("127.0.0.0/8"),)


def views(*networks: Network, own: tuple[str, ...] = (), host: tuple[str, ...] = ()) -> Views:
    made = Views(Rights(PRIVATE, LOOPBACK, LOOPBACK, host, ask_own=False))
    made.set_networks(networks, Own(frozenset(own)))
    return made


def view(made: Views, client: str, local: str = "192.0.2.1") -> View:
    return made.of(packed(client), packed(local) if local else b"")


@pytest.mark.parametrize(
    ("client", "networks"),
    [
        ("172.18.0.7", {"front"}),
        ("172.18.0.1", set()),
        ("fd00::7", {"front"}),
        ("fd00::1", set()),
        ("172.19.255.255", {"back"}),
        ("172.20.0.1", set()),
        ("::ffff:172.18.0.7", {"front"}),
    ],
)
def test_client_sees_the_networks_that_it_is_on_but_for_their_gateways(
    client: str, networks: set[str]
) -> None:
    assert view(views(FRONT, BACK), client).networks == networks


def test_gateway_of_one_network_may_be_a_client_on_another() -> None:
    other = Network("other", "other", "e", "macvlan", ("172.16.0.0/12",), ("172.16.0.1",))
    assert view(views(FRONT, other), "172.18.0.1").networks == {"other"}


@pytest.mark.parametrize(
    ("client", "may_ask", "is_limited"),
    [
        ("127.0.0.1", True, False),
        ("10.0.0.1", True, False),
        ("203.0.113.5", False, True),
        ("172.18.0.1", True, True),
        ("172.18.0.2", True, False),
        ("100.64.0.1", True, False),
        ("fe80::1", True, False),
        ("2001:db8::1", False, True),
    ],
)
def test_private_clients_may_ask_and_are_not_limited_but_gateways_are(
    client: str, may_ask: bool, is_limited: bool
) -> None:
    """Behind a gateway of Docker's stands anyone."""
    found = view(views(FRONT), client)
    assert (found.may_ask, found.is_limited) == (may_ask, is_limited)


def test_transfers_and_history_are_for_those_who_may() -> None:
    assert view(views(), "127.0.0.1").may_transfer
    assert view(views(), "127.0.0.1").may_see_history
    assert not view(views(), "10.0.0.1").may_transfer
    assert not view(views(), "10.0.0.1").may_see_history


@pytest.mark.parametrize(
    ("own", "host", "local", "addresses"),
    [
        ((), (), "192.0.2.1", ("192.0.2.1",)),
        ((), (), "::ffff:192.0.2.1", ("192.0.2.1",)),
        ((), (), "", ()),
        ((), ("192.0.2.7", "2001:db8::7"), "192.0.2.1", ("192.0.2.7", "2001:db8::7")),
        (("front",), (), "172.18.0.9", ("172.18.0.1",)),
        (("front",), (), "fd00::9", ("fd00::1",)),
        (("front", "back"), (), "172.18.0.9", ("172.18.0.1",)),
        (("front", "back"), (), "10.8.0.1", ("172.19.0.1",)),
        (("front",), (), "", ("172.18.0.1",)),
        (("front",), ("192.0.2.7",), "172.18.0.9", ("192.0.2.7",)),
    ],
    ids=[
        "the address asked", "mapped into IPv6", "no query", "as set", "the gateway",
        "of the family asked", "of the network asked", "of another one", "own container, no query",
        "own container, as set",
    ],
)  # fmt: skip
def test_host_is_what_the_client_can_reach(
    own: tuple[str, ...], host: tuple[str, ...], local: str, addresses: tuple[str, ...]
) -> None:
    assert (
        view(views(FRONT, BACK, own=own, host=host), "10.0.0.1", local).host_addresses == addresses
    )


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan", "overlay", ""])
def test_gateway_of_what_is_no_bridge_is_not_the_host(driver: str) -> None:
    """That of a macvlan is the LAN's router, that of an overlay nobody."""
    lan = Network("lan", "lan", "e", driver, ("192.0.2.0/24",), ("192.0.2.254",))
    assert view(views(lan, own=("lan",)), "192.0.2.9", "192.0.2.2").host_addresses == ()
    both = views(lan, FRONT, own=("lan", "front"))
    assert view(both, "192.0.2.9", "192.0.2.2").host_addresses == ("172.18.0.1",)


@pytest.mark.parametrize(
    ("own", "host", "local", "addresses"),
    [
        (Own(), (), "192.0.2.1", ("192.0.2.1",)),
        (Own(), ("192.0.2.7",), "192.0.2.1", ("192.0.2.1",)),
        (Own(), ("192.0.2.7",), "", ("192.0.2.7",)),
        (Own(frozenset({"front"}), ("172.18.0.9",)), (), "172.18.0.9", ("172.18.0.9",)),
        (Own(frozenset({"front"}), ("172.18.0.9",)), (), "", ("172.18.0.9",)),
        (Own(frozenset({"front"}), ("172.18.0.9",), ("",)), (), "172.18.0.9", ("172.18.0.1",)),
        (Own(frozenset({"front"}), ("172.18.0.9",), ("",)), ("192.0.2.7",), "", ("192.0.2.7",)),
        (
            Own(frozenset({"front"}), ("172.18.0.9",), ("10.8.0.1",)),
            (),
            "172.18.0.9",
            ("10.8.0.1",),
        ),
        (Own(frozenset({"lan"}), ("192.0.2.2",), ("",)), (), "192.0.2.2", ("192.0.2.2",)),
    ],
    ids=[
        "the address asked", "not the host's", "no query", "own container", "own, no query",
        "published", "published, host as set", "published on one address", "host unknown",
    ],
)  # fmt: skip
def test_name_server_is_where_we_answer(
    own: Own, host: tuple[str, ...], local: str, addresses: tuple[str, ...]
) -> None:
    made = Views(Rights(PRIVATE, LOOPBACK, LOOPBACK, host, ask_own=False))
    made.set_networks([FRONT, BACK], own)
    assert view(made, "10.0.0.1", local).server_addresses == addresses


def test_this_machine_and_dockers_own_networks_may_ask_by_default() -> None:
    """Docker masquerades: a host that asks at a bridge's gateway has its public address."""
    made = Views(Rights(PRIVATE, LOOPBACK, LOOPBACK, ask_own=True))
    odd = Network("odd", "odd", "e", "bridge", ("198.51.100.0/24",), ("198.51.100.1",))
    lan = Network("lan", "lan", "e", "macvlan", ("203.0.113.0/24",), ("203.0.113.1",))
    clients = ("198.51.100.7", "203.0.113.7", "192.0.2.5", "2001:db8::5", "10.0.0.1")
    assert [view(made, c).may_ask for c in clients] == [False, False, False, False, True]
    made.set_networks([odd, lan])
    made.set_machine(["192.0.2.5", "2001:db8::5"])
    assert [view(made, c).may_ask for c in clients] == [True, False, True, True, True]
    epoch = made.epoch
    made.set_machine(["2001:db8::5", "192.0.2.5"])
    assert made.epoch == epoch
    made.set_machine(["2001:db8::5"])
    made.set_networks([lan])
    assert [view(made, c).may_ask for c in clients] == [False, False, False, True, True]
    assert made.epoch > epoch


def test_whoever_lists_who_may_ask_means_just_those() -> None:
    made = Views(Rights(LOOPBACK, ask_own=False))
    made.set_networks([FRONT])
    made.set_machine(["192.0.2.5"])
    assert not view(made, "192.0.2.5").may_ask
    assert not view(made, "172.18.0.7").may_ask


def test_epoch_grows_with_what_views_depend_on_and_not_otherwise() -> None:
    made = views(FRONT)
    epoch = made.epoch
    made.set_networks([FRONT])
    assert made.epoch == epoch
    made.set_networks([FRONT, BACK])
    assert made.epoch == epoch + 1
    made.set_networks([BACK, FRONT], Own(frozenset({"front"})))
    assert made.epoch == epoch + 2
    made.set_rights(Rights(LOOPBACK, LOOPBACK, LOOPBACK, (), ask_own=False))
    assert made.epoch == epoch + 3
    assert view(made, "172.19.0.7").networks == {"back"}


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("172.15.255.255", False), ("172.16.0.0", True), ("172.31.255.255", True),
        ("172.32.0.0", False), ("100.63.255.255", False), ("100.64.0.0", True),
        ("100.127.255.255", True), ("100.128.0.0", False), ("169.254.1.1", True), ("::1", True),
        ("::2", False), ("fdff::1", True), ("fe00::1", False), ("febf::1", True),
        ("fec0::1", False),
    ],
)  # fmt: skip
def test_private_addresses_end_where_they_end(text: str, is_one: bool) -> None:
    assert is_private(packed(text)) is is_one


NEAR = tuple(
    map(ip_address, ("10.1.2.3", "10.1.2.4", "172.32.0.1", "0.0.0.0", "fd00::1", "fd00::2", "::"))
)


@given(
    st.lists(st.one_of(st.ip_addresses(), st.sampled_from(NEAR)), min_size=1),
    st.lists(st.tuples(st.sampled_from(NEAR), st.integers(0, 128)), max_size=6),
)
def test_rights_are_those_of_the_networks(
    clients: list[IPAddress], given_networks: list[tuple[IPAddress, int]]
) -> None:
    """They are compared as numbers, since each first query of a client needs them."""
    networks = tuple(
        ip_network((address, min(length, address.max_prefixlen)), strict=False)
        for address, length in given_networks
    )
    made = Views(Rights(networks, networks[:1], networks[1:], ask_own=False))
    for client in clients:
        view = made.of(client.packed)
        mapped = getattr(client, "ipv4_mapped", None) or client
        assert view.may_ask == any(mapped in network for network in networks)
        assert view.may_transfer == any(mapped in network for network in networks[:1])
        assert view.may_see_history == any(mapped in network for network in networks[1:])
        assert view.is_limited != any(mapped in network for network in PRIVATE)

"""All containers, and which of them share a network namespace.

A change of one container affects several publications: its own, those of the containers that
share its network (`container:X`), and those of a swarm service's tasks.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from containerdns.core.values import with_fields
from containerdns.core.zone.containers import Container, Network, stopped
from containerdns.core.zone.policy import (
    NO_PROXIES,
    SERVICE_ID,
    SWARM,
    Policy,
    Proxy,
    Publication,
    PublishedAddress,
    proxy_kind,
    publish,
    publish_death,
    published_ports,
)
from containerdns.core.zone.proxy_labels import kinds_of

MAX_LOANS = 8  # containers in a chain from one that shares a network to the one that has it


class Inventory:
    """All containers of all Engines, running or not.

    Attributes:
        unreadable: By container id, its name and the part that could not be read.
        states: How many containers are in each state, without swarm services.
    """

    def __init__(
        self,
        policy: Policy,
        published: Callable[[str], Publication | None] = lambda _: None,
    ) -> None:
        """Initialise without containers.

        Args:
            policy: The operator's rules.
            published: Returns the publication of a container that the zone has, if any.
        """
        self._policy = policy
        self._published = published
        self.unreadable: dict[str, tuple[str, str]] = {}
        self.states: Counter[str] = Counter()
        self._containers: dict[str, Container] = {}
        self._proxies: dict[str, set[str]] = {}  # container ids by the key of `_proxy_of`
        self._reached: dict[str, Proxy] = {}  # by the same
        self._followers: dict[str, set[str]] = {}  # containers that change with another
        self._networks: dict[str, tuple[Network, ...]] = {}
        self._listed: dict[str, frozenset[str]] = {}  # the ids of these, by Engine
        self._attached: dict[str, dict[str, None]] = {}  # container ids by network id
        self._gateways: dict[str, frozenset[str]] = {}  # by network id, as found on containers
        self._all_networks: tuple[Network, ...] | None = None  # until one of them changes

    def __iter__(self) -> Iterator[Container]:
        return iter(self._containers.values())

    def __len__(self) -> int:
        return len(self._containers)

    @property
    def policy(self) -> Policy:
        """The operator's rules; after a change, everything must be published again."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._policy = policy
        self._proxies.clear()
        self._reached.clear()
        for container in self._containers.values():
            if key := _proxy_of(container, policy):
                self._proxies.setdefault(key, set()).add(container.id)
        self._look_at_proxies(self._proxies)

    def get(self, container_id: str) -> Container | None:
        """Return the container with this id."""
        return self._containers.get(container_id)

    def put(self, container: Container) -> list[Publication]:
        """Add or replace a container; return the publications that change."""
        known = self._containers.get(container.id)
        self.unreadable.pop(container.id, None)
        if known == container:
            return []
        self._containers[container.id] = container
        self._count(known, container)
        if known is not None:
            self._detach(known)
            self._unfollow(known)
        self._attach(container)
        for leader in _leaders_of(container):
            self._followers.setdefault(leader, set()).add(container.id)
        former = self._unlist_proxy(known) if known is not None else ""
        if key := _proxy_of(container, self._policy):
            self._proxies.setdefault(key, set()).add(container.id)
        return self._publish_with_followers(container.id, former)

    def die(
        self, container_id: str, finished_at: float | None = None, exit_status: int | None = None
    ) -> list[Publication]:
        """Mark a container as stopped: it keeps its names, but not its addresses."""
        container = self._containers.get(container_id)
        if container is None or not container.is_running:
            return []
        attachments = tuple([with_fields(a, addresses=()) for a in container.attachments])
        dead = stopped(container, finished_at, exit_status, health="", attachments=attachments)
        self.unreadable.pop(container_id, None)
        self._containers[container_id] = dead
        self._count(container, dead)
        return self._publish_with_followers(container_id, "", self._published_by(dead))

    def _count(self, old: Container | None, new: Container | None) -> None:
        for container, change in ((old, -1), (new, 1)):
            if container is not None and not container.id.startswith(SERVICE_ID):
                self.states[container.state] += change

    def _published_by(self, dead: Container) -> Publication | None:
        """Return what a container publishes that has just stopped; None if it is unknown."""
        published = None if lender_of(dead) else self._published(dead.id)
        return None if published is None else publish_death(published, dead)

    def remove(self, container_id: str) -> list[Publication]:
        """Remove a container; return the publications that change."""
        self.unreadable.pop(container_id, None)
        container = self._containers.pop(container_id, None)
        if container is None:
            return []
        self._count(container, None)
        self._detach(container)
        self._unfollow(container)
        return self._publish_with_followers(container_id, self._unlist_proxy(container))

    def publication(self, container_id: str) -> Publication | None:
        """Return the publication of a container; None if there is no such container."""
        container = self._containers.get(container_id)
        return None if container is None else self._publish(container)

    def published_ports(self, container_id: str) -> Mapping[str, tuple[int, ...]] | None:
        """Return the published ports of a container, by the relative names of SRV records."""
        container = self._containers.get(container_id)
        if container is None:
            return None
        service = self._containers.get(_service_of(container))
        return published_ports(container, self.policy, self._lender(container), service)

    def set_networks(self, engine: str, networks: Iterable[Network]) -> None:
        """Set all networks of one Engine."""
        self._networks[engine] = tuple(networks)
        self._listed[engine] = frozenset(network.id for network in self._networks[engine])
        listed = frozenset[str]().union(*self._listed.values())
        self._gateways = {
            i: shown for i, shown in self._gateways.items() if i in self._attached or i in listed
        }
        self._all_networks = None

    def networks(self) -> tuple[Network, ...]:
        """Return all networks; unlisted ones with what is known from containers.

        Engine 20.10 does not list the gateway that it chose itself in a configured subnet, but
        the containers on the network show it.
        """
        if self._all_networks is None:
            known = {
                n.id: with_fields(n, gateways=(*n.gateways, *sorted(self._untold(n))))
                for networks in self._networks.values()
                for n in networks
            }
            unlisted = (i for i in self._attached if i not in known)
            shown = [n for n in map(self._shown_network, unlisted) if n is not None]
            self._all_networks = (*known.values(), *shown)
        return self._all_networks

    def _shown_network(self, network_id: str) -> Network | None:
        """Return an unlisted network, as the first of its containers with an address shows it."""
        for container in map(self._containers.__getitem__, self._attached[network_id]):
            for a in container.attachments:
                if a.network_id == network_id and a.subnets:
                    return Network(
                        network_id, a.network, container.engine, "", a.subnets, a.gateways
                    )
        return None

    def _attach(self, container: Container) -> None:
        """Record the networks of a container, and the gateways that it shows."""
        if self.has_unlisted_network(container) or self.has_unknown_gateway(container):
            self._all_networks = None
        for a in container.attachments:
            if a.network_id:
                self._attached.setdefault(a.network_id, {})[container.id] = None
            if a.network_id and a.gateways:
                shown = self._gateways.get(a.network_id, frozenset())
                self._gateways[a.network_id] = shown.union(a.gateways)

    def _detach(self, container: Container) -> None:
        """Forget the networks of a container as it was."""
        if self.has_unlisted_network(container):
            self._all_networks = None
        for a in container.attachments:
            attached = self._attached.get(a.network_id)
            if attached is not None:
                attached.pop(container.id, None)
                if not attached:
                    del self._attached[a.network_id]

    def has_unknown_gateway(self, container: Container) -> bool:
        """Return whether a new container shows a gateway that was not known before."""
        return any(
            not self._gateways.get(a.network_id, frozenset()).issuperset(a.gateways)
            for a in container.attachments
        )

    def has_unlisted_network(self, container: Container) -> bool:
        """Return whether a container is on a network that was not listed."""
        listed = self._listed.get(container.engine, frozenset())
        return not all(a.network_id in listed for a in container.attachments)

    def _untold(self, network: Network) -> frozenset[str]:
        """Return the gateways of a network that its own document omits."""
        return self._gateways.get(network.id, frozenset()).difference(network.gateways)

    def _publish(self, container: Container) -> Publication:
        service = self._containers.get(_service_of(container))
        proxies = self._proxies_before(container) if self._policy.proxy_labels else NO_PROXIES
        return publish(container, self._policy, self._lender(container), service, proxies)

    def _lender(self, container: Container) -> Container | None:
        """Return the running container whose network this one shares, possibly through others.

        A lender that was restarted after the borrower has a new network; the borrower remains in
        the old one, without an address, until it is restarted as well.
        """
        borrowers = [container]
        lender = self._containers.get(lender_of(container))
        for _ in range(MAX_LOANS):
            if lender is None or not lender.is_running or not lender_of(lender):
                break
            borrowers.append(lender)
            lender = self._containers.get(lender_of(lender))
        if lender is None or not lender.is_running:
            return None
        is_left = lender.network_mode != "host" and any(
            0.0 < borrower.started_at < lender.started_at for borrower in borrowers
        )
        return None if is_left else lender

    def _publish_with_followers(
        self, container_id: str, former: str = "", known: Publication | None = None
    ) -> list[Publication]:
        """Publish a container, if it still exists, and the containers that it affects.

        Args:
            container_id: Its id.
            former: The key of the proxy that it was (`_proxy_of`); "" for none.
            known: Its publication, if that is known.
        """
        if not (former or self._proxies or container_id in self._followers):  # as is usual
            container = self._containers.get(container_id)
            if container is None:
                return []
            return [self._publish(container) if known is None else known]
        ids = [container_id]
        for leader in ids:
            ids += self._followers_of(leader, ids)
        touched = {key for key, own in self._proxies.items() if not own.isdisjoint(ids)}
        for key in sorted(self._look_at_proxies({*touched, former} - {""})):
            ids += self._followers_of(key, ids)
        first = [known] if known is not None else []
        others = ids[len(first) :]
        return [
            *first,
            *(self._publish(self._containers[i]) for i in others if i in self._containers),
        ]

    def _followers_of(self, leader: str, known: Collection[str]) -> list[str]:
        """Return the ids of the followers of a container or a proxy, except known ones."""
        return [i for i in sorted(self._followers.get(leader, ())) if i not in known]

    # -- reverse proxies -------------------------------------------------------

    def _proxies_before(self, container: Container) -> dict[str, Proxy]:
        """Return the proxies that may serve host names of a container, and are known."""
        kinds = kinds_of(container.docker_labels, container.virtual_host)
        proxies = {kind: self._reached_of(container, kind) for kind in kinds}
        return {kind: proxy for kind, proxy in proxies.items() if proxy is not None}

    def _reached_of(self, container: Container, kind: str) -> Proxy | None:
        """Return where a container's proxy of a kind is reached; None if there is none.

        That is the proxy on the container's own Engine, else `--proxy-address`.
        """
        fixed = tuple(PublishedAddress(a, "", "") for a in self._policy.proxy_addresses)
        found = self._reached.get(_proxy_key(container.engine, kind))
        return found or (Proxy(fixed) if fixed else None)

    def _look_at_proxies(self, keys: Iterable[str]) -> list[str]:
        """Set where proxies are reached, and return those that moved.

        So the containers behind a proxy are published again when it moves, and not at each of
        its other events.
        """
        moved = []
        for key in list(keys):
            own = [self._containers[i] for i in sorted(self._proxies.get(key, ()))]
            found = [publish(c, self._policy, self._lender(c)) for c in own if c.is_running]
            found = [p for p in found if p.is_running]
            had = self._reached.pop(key, None)
            if found:
                addresses = dict.fromkeys(a for p in found for a in p.addresses)
                self._reached[key] = Proxy(tuple(addresses), all(p.on_host for p in found))
            if had != self._reached.get(key):
                moved.append(key)
        return moved

    def _unlist_proxy(self, container: Container) -> str:
        """Remove a container from the proxies; return the key of the one it was, or ""."""
        key = _proxy_of(container, self._policy)
        if key in self._proxies:
            self._proxies[key].discard(container.id)
            if not self._proxies[key]:
                del self._proxies[key]
        return key

    def _unfollow(self, container: Container) -> None:
        for leader in _leaders_of(container):
            followers = self._followers.get(leader)
            if followers is not None:
                followers.discard(container.id)
                if not followers:
                    del self._followers[leader]


def _leaders_of(container: Container) -> list[str]:
    """Return the ids and keys on which a container depends: lender, service, proxies."""
    leaders = [*filter(None, (lender_of(container), _service_of(container)))]
    if kinds := kinds_of(container.docker_labels, container.virtual_host):
        leaders += [_proxy_key(container.engine, kind) for kind in kinds]
    return leaders


def _proxy_of(container: Container, policy: Policy) -> str:
    """Return the key of the proxy that a container is, by its label; "" if it is not one."""
    kind = proxy_kind(container, policy)
    return _proxy_key(container.engine, kind) if kind else ""


def _proxy_key(engine: str, kind: str) -> str:
    """Return the key of the proxy of a kind on one Engine; container ids have no colon."""
    return f"proxy:{kind}:{engine}"


def _service_of(container: Container) -> str:
    """Return the id of a task's service; "" for other containers."""
    service = container.docker_labels.get(f"{SWARM}service.id")
    return f"{SERVICE_ID}{service}" if service else ""


def lender_of(container: Container) -> str:
    """Return the id of the container whose network this one shares; "" for none."""
    mode, _, lender = container.network_mode.partition(":")
    return lender if mode == "container" else ""

"""What containers there are, and who shares whose network.

Turns news of one container into the publications that change by it: its own,
those of the containers that share its network (`container:X`), and those of a
swarm service's tasks.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from containerdns.core.zone.containers import Container, Network, stopped
from containerdns.core.zone.policy import SERVICE_ID, SWARM, Policy, Publication, publish

MAX_LOANS = 8  # containers from one that shares a network to the one that has it


class Inventory:
    """All containers of all Engines, running or not.

    Attributes:
        policy: The operator's rules.
        unreadable: By container id, its name and what could not be read.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.unreadable: dict[str, tuple[str, str]] = {}
        self._containers: dict[str, Container] = {}
        self._followers: dict[str, set[str]] = {}  # who changes with a container
        self._networks: dict[str, tuple[Network, ...]] = {}
        self._gateways: dict[str, frozenset[str]] = {}  # by network id, as containers tell

    def __iter__(self) -> Iterator[Container]:
        return iter(self._containers.values())

    def __len__(self) -> int:
        return len(self._containers)

    def get(self, container_id: str) -> Container | None:
        """The container with this id."""
        return self._containers.get(container_id)

    def put(self, container: Container) -> list[Publication]:
        """Take over a container as it is now, and give what that changes."""
        known = self._containers.get(container.id)
        self.unreadable.pop(container.id, None)
        if known == container:
            return []
        self._containers[container.id] = container
        for a in container.attachments:
            if a.network_id and a.gateways:
                told = self._gateways.get(a.network_id, frozenset())
                self._gateways[a.network_id] = told.union(a.gateways)
        if known is not None:
            self._unfollow(known)
        for leader in _leaders_of(container):
            self._followers.setdefault(leader, set()).add(container.id)
        changed = [self._publish(container)]
        return changed + self._publish_followers(container.id)

    def die(
        self, container_id: str, finished_at: float | None = None, exit_status: int | None = None
    ) -> list[Publication]:
        """A container runs no more: it keeps its names, but not its addresses."""
        container = self._containers.get(container_id)
        if container is None or not container.is_running:
            return []
        attachments = tuple(
            replace(a, addresses=(), subnets=a.subnets) for a in container.attachments
        )
        dead = stopped(container, finished_at, exit_status)
        return self.put(replace(dead, health="", attachments=attachments))

    def remove(self, container_id: str) -> list[Publication]:
        """Drop a container; give what changes for those who followed it."""
        self.unreadable.pop(container_id, None)
        container = self._containers.pop(container_id, None)
        if container is None:
            return []
        self._unfollow(container)
        return self._publish_followers(container_id)

    def publication(self, container_id: str) -> Publication | None:
        """What a container publishes by the present policy; None if there is no such container."""
        container = self._containers.get(container_id)
        return None if container is None else self._publish(container)

    def published_ports(self, container_id: str) -> Mapping[str, tuple[int, ...]] | None:
        """Return the published ports of a container, by the relative names of SRV records."""
        container = self._containers.get(container_id)
        if container is None:
            return None
        service = self._containers.get(_service_of(container))
        policy = replace(self.policy, host_mode=True)
        return publish(container, policy, self._lender(container), service).services

    def set_networks(self, engine: str, networks: Iterable[Network]) -> None:
        """Take over all networks of one Engine."""
        self._networks[engine] = tuple(networks)
        attached = {a.network_id for c in self._containers.values() for a in c.attachments}
        attached.update(n.id for listed in self._networks.values() for n in listed)
        self._gateways = {i: told for i, told in self._gateways.items() if i in attached}

    def networks(self) -> tuple[Network, ...]:
        """All networks, those that were never listed as far as containers tell of them.

        Engine 20.10 does not list the gateway that it chose itself in a subnet that it was given;
        the containers on the network have it.
        """
        known = {
            n.id: replace(n, gateways=(*n.gateways, *sorted(self._untold(n))))
            for networks in self._networks.values()
            for n in networks
        }
        for container in self._containers.values():
            for a in container.attachments:
                if a.network_id and a.network_id not in known and a.subnets:
                    known[a.network_id] = Network(
                        a.network_id, a.network, container.engine, "", a.subnets, a.gateways
                    )
        return tuple(known.values())

    def has_unknown_gateway(self, container: Container) -> bool:
        """Return whether a container, before it is put, shows a gateway that nothing else has."""
        return any(
            not self._gateways.get(a.network_id, frozenset()).issuperset(a.gateways)
            for a in container.attachments
        )

    def has_unlisted_network(self, container: Container) -> bool:
        """Return whether a container is on a network that no listing has shown."""
        listed = {n.id for n in self._networks.get(container.engine, ())}
        return any(a.network_id not in listed for a in container.attachments)

    def _untold(self, network: Network) -> frozenset[str]:
        """The gateways of a network that its own document leaves out."""
        return self._gateways.get(network.id, frozenset()).difference(network.gateways)

    def _publish(self, container: Container) -> Publication:
        service = self._containers.get(_service_of(container))
        return publish(container, self.policy, self._lender(container), service)

    def _lender(self, container: Container) -> Container | None:
        """The running container whose network this one shares, maybe through others.

        One that was restarted after a borrower has a new network; the borrower sits in the
        former one, without an address, until it is restarted as well.
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

    def _publish_followers(self, container_id: str) -> list[Publication]:
        """Publish those who follow a container anew, and those who follow them."""
        ids = [container_id]
        for leader in ids:
            followers = sorted(self._followers.get(leader, ()))
            ids += [i for i in followers if i in self._containers and i not in ids]
        return [self._publish(self._containers[i]) for i in ids[1:]]

    def _unfollow(self, container: Container) -> None:
        for leader in _leaders_of(container):
            followers = self._followers.get(leader)
            if followers is not None:
                followers.discard(container.id)
                if not followers:
                    del self._followers[leader]


def _leaders_of(container: Container) -> list[str]:
    """Whose news changes what a container publishes: its lender, its service."""
    return [leader for leader in (lender_of(container), _service_of(container)) if leader]


def _service_of(container: Container) -> str:
    """The id under which a task's service is kept; "" of what is no task."""
    service = container.docker_labels.get(f"{SWARM}service.id")
    return f"{SERVICE_ID}{service}" if service else ""


def lender_of(container: Container) -> str:
    """The id of the container whose network this one shares; "" for none."""
    mode, _, lender = container.network_mode.partition(":")
    return lender if mode == "container" else ""

"""Services and tasks of a swarm, as its manager tells them.

A service with a virtual address becomes a Container of its own, with the id
"service:ID" and the service's name.  A task that runs on another node becomes
one too, with the task's id and what Docker would have put on its container;
tasks on this node are containers like all others.  Managers send no event when
a task starts or ends elsewhere, so the tasks are asked for every few seconds.
"""

import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_interface
from typing import Any

from containerdns.core.containers import Attachment, Container
from containerdns.engine.client import EngineClient
from containerdns.engine.sink import Sink
from containerdns.errors import BadDocument

LABEL = "com.docker.swarm."


class Swarm:
    """What one manager has told of its swarm.

    Attributes:
        is_managed: The Engine is a manager, and no proxy forbids to ask it.
    """

    def __init__(self, client: EngineClient, url: str, sink: Sink) -> None:
        self.is_managed = False
        self._client = client
        self._url = url
        self._sink = sink
        self._told: dict[str, Container] = {}
        self._unreadable: set[str] = set()

    async def compare(self, networks: Mapping[str, str]) -> None:
        """Ask for everything, and tell what differs; nothing if this is no manager.

        Args:
            networks: Names by id.

        Raises:
            EngineUnavailable: The Engine cannot be reached.
        """
        services = await self._client.get("/services")
        tasks = await self._client.get("/tasks") if isinstance(services, list) else None
        self.is_managed = isinstance(tasks, list)
        found: dict[str, Container] = {}
        if isinstance(services, list) and isinstance(tasks, list):
            node_id = await self._node_id()
            for document in (*services, *tasks):
                try:
                    if "Status" not in document:
                        container = service_from_document(document, networks, self._url)
                    else:
                        container = task_from_document(document, services, node_id, self._url)
                except BadDocument as fault:
                    self._note_unreadable(fault)
                else:
                    if container is not None:
                        found[container.id] = container
        self._tell(found)

    async def _node_id(self) -> str:
        document = await self._client.get("/info")
        swarm = document.get("Swarm") if isinstance(document, dict) else None
        return str(swarm.get("NodeID") or "") if isinstance(swarm, dict) else ""

    def _tell(self, found: dict[str, Container]) -> None:
        before, self._told = self._told, found
        for container_id in before.keys() - found.keys():
            self._sink.container_removed(self._url, container_id, None)
        for container_id, container in found.items():
            if before.get(container_id) != container:
                self._sink.container_changed(self._url, container, None)

    def _note_unreadable(self, fault: BadDocument) -> None:
        if fault.document_id not in self._unreadable:
            self._unreadable.add(fault.document_id)
            self._sink.container_unreadable(self._url, fault.document_id, "", str(fault))


def service_from_document(
    document: Any, networks: Mapping[str, str], engine: str
) -> Container | None:
    """Read an item of ServiceList; None if it has no virtual address.

    Raises:
        BadDocument: A field has another shape than the Engine API says.
    """
    document_id = _id_of(document)
    try:
        spec = document["Spec"]
        attachments = tuple(
            _attachment(networks.get(pool["NetworkID"], ""), pool["NetworkID"], [pool["Addr"]])
            for pool in (document.get("Endpoint") or {}).get("VirtualIPs") or ()
            if pool.get("Addr")
        )
        if not attachments:
            return None
        return Container(
            id=f"service:{document_id}",
            container_name=_text(spec["Name"]),
            engine=engine,
            state="running",
            network_mode="",
            attachments=tuple(sorted(attachments, key=lambda item: item.network)),
            docker_labels=_labels(spec.get("Labels")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise BadDocument(document_id, "the service") from fault


def task_from_document(
    document: Any, services: list[Any], node_id: str, engine: str
) -> Container | None:
    """Read an item of TaskList; None if the task does not run, or runs on this node.

    Raises:
        BadDocument: A field has another shape than the Engine API says.
    """
    document_id = _id_of(document)
    try:
        if document["Status"]["State"] != "running" or document.get("NodeID") == node_id:
            return None
        service_id = _text(document["ServiceID"])
        [service] = [_text(s["Spec"]["Name"]) for s in services if s.get("ID") == service_id]
        # A global service has no slots; Docker names its tasks by their nodes.
        slot = str(document.get("Slot") or document.get("NodeID"))
        task_name = f"{service}.{slot}.{document_id}"
        spec = document["Spec"].get("ContainerSpec") or {}
        attachments = [
            _attachment(
                _text(item["Network"]["Spec"]["Name"]),
                _text(item["Network"]["ID"]),
                item.get("Addresses") or [],
            )
            for item in document.get("NetworksAttachments") or ()
        ]
        return Container(
            id=document_id,
            container_name=task_name,
            engine=engine,
            state="running",
            hostname=_text(spec.get("Hostname") or ""),
            network_mode="",
            attachments=tuple(sorted(attachments, key=lambda item: item.network)),
            docker_labels={
                **_labels(spec.get("Labels")),
                f"{LABEL}service.id": service_id,
                f"{LABEL}service.name": service,
                f"{LABEL}task.id": document_id,
                f"{LABEL}task.name": task_name,
            },
        )
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise BadDocument(document_id, "the task") from fault


def _id_of(document: Any) -> str:
    document_id = document.get("ID") if isinstance(document, dict) else None
    if not isinstance(document_id, str) or not document_id:
        raise BadDocument("?", "ID")
    return document_id


def _attachment(network: str, network_id: str, addresses: list[str]) -> Attachment:
    """Give an attachment with addresses that are written with their prefixes."""
    interfaces = sorted((ip_interface(text) for text in addresses), key=lambda i: i.version)
    return Attachment(
        network=sys.intern(network or network_id),
        network_id=sys.intern(network_id),
        addresses=tuple(str(interface.ip) for interface in interfaces),
        subnets=tuple(_distinct(str(interface.network) for interface in interfaces)),
    )


def _distinct(texts: Iterator[str]) -> Iterator[str]:
    yield from dict.fromkeys(texts)


def _labels(document: Any) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in (document or {}).items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}: expected a text")
    return value

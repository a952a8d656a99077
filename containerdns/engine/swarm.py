"""Services and tasks of a swarm, as listed by a manager.

A service with a virtual address becomes a Container with the id "service:ID" and the
service's name.  A task on another node becomes one as well, with the task's id and the
labels that Docker would have put on its container; tasks on this node are ordinary
containers.  Managers send no event when a task starts or ends elsewhere, so tasks are
polled every few seconds.
"""

import asyncio
import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import aclosing, suppress
from ipaddress import ip_interface
from typing import Any
from urllib.parse import urlencode

from containerdns.core.zone.containers import Attachment, Container
from containerdns.core.zone.policy import SERVICE_ID, SWARM
from containerdns.engine.client import EngineClient
from containerdns.engine.decoding import SkippedItem
from containerdns.engine.sink import Sink
from containerdns.errors import BadDocument, EngineUnavailable
from containerdns.tasks.turns import turns

POLL_EVERY = 5.0  # seconds between listings of the tasks of a manager
LOOK_EVERY = 60.0  # seconds between checks whether this Engine has become a manager
MAX_RETRY = 60.0  # seconds between retries while the swarm has no leader
NOT_A_MANAGER = 503  # or one that is locked or starting
TASKS = "/tasks?" + urlencode({"filters": json.dumps({"desired-state": ["running"]})})

_PLACEHOLDER = re.compile(r"\{\{\s*\.(\w+\.\w+)\s*\}\}")  # "{{.Task.Slot}}"

log = logging.getLogger(__name__)


class Swarm:
    """The swarm of one Engine, if that is a manager.

    Its failures are separate: a manager without a leader cannot list services, but still
    lists containers.  The last known services are kept until a manager lists others or the
    Engine has left the swarm.

    Attributes:
        is_known: Set once the Engine has listed its services or turned out to have none.
    """

    def __init__(self, client: EngineClient, url: str, sink: Sink) -> None:
        self.is_known = asyncio.Event()
        self._client = client
        self._url = url
        self._sink = sink
        self._reported: dict[str, Container] = {}
        self._unreadable: set[str] = set()
        self._node_id = ""
        self._reports_all = False
        self._ask_now = asyncio.Event()
        self._cause = ""  # cause of the last failure

    def ask_soon(self, *, is_about_nodes: bool = False) -> None:
        """Poll now, because of an event.

        Args:
            is_about_nodes: Nodes have changed, possibly our own id.  Another manager may have
                left and withdrawn its services, so ours are reported again.
        """
        if is_about_nodes:
            self._node_id = ""
            self._reports_all = True
        self._ask_now.set()

    def networks_changed(self) -> None:
        """Poll now if there are services: the network of one may just have become known."""
        if self._reported:
            self._ask_now.set()

    async def follow(self, networks: Callable[[], Mapping[str, str]]) -> None:
        """Poll forever: on events, and every few seconds for tasks on other nodes.

        Args:
            networks: Returns names by id.
        """
        self._node_id = ""
        retry = POLL_EVERY
        while True:
            self._ask_now.clear()
            try:
                pause = POLL_EVERY if await self._look(networks()) else LOOK_EVERY
                retry, self._cause = POLL_EVERY, ""
            except EngineUnavailable as fault:
                self._warn(fault.cause)
                pause, retry = retry, min(2 * retry, MAX_RETRY)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ask_now.wait()

    def _warn(self, cause: str) -> None:
        if cause != self._cause:
            self._cause = cause
            log.warning("Docker %s: cannot list the swarm: %s; retrying", self._url, cause)

    async def _look(self, networks: Mapping[str, str]) -> bool:
        """Compare once, and return whether to poll again within seconds."""
        try:
            await self._compare(networks)
        except EngineUnavailable as fault:
            if fault.status == NOT_A_MANAGER:
                await self._leave_if_gone()
            elif not 400 <= fault.status < 500:  # Podman has no swarm, or a proxy forbids it
                raise
            self.is_known.set()
            return bool(self._reported)
        self.is_known.set()
        return True

    async def _leave_if_gone(self) -> None:
        """Withdraw everything if the Engine is no longer in a swarm.

        An Engine that was demoted, restarts or is locked does not know the services.
        """
        if self._reported and (await self._own_node()).get("LocalNodeState") == "inactive":
            self._node_id = ""
            await self._withdraw(set(self._reported))

    async def _compare(self, networks: Mapping[str, str]) -> None:
        """List services and tasks, and report the differences.

        Raises:
            EngineUnavailable: The Engine does not list them.
        """
        reports_all, self._reports_all = self._reports_all, False
        service_names: dict[str, str] = {}
        found: set[str] = set()
        unreadable: set[str] = set()
        for path in ("/services", TASKS):
            async with aclosing(self._client.items(path)) as documents:
                async for document in documents:
                    try:
                        container = self._read(path, document, networks, service_names)
                    except BadDocument as fault:
                        unreadable.add(fault.document_id)
                        self._note_unreadable(fault)
                        continue
                    if container is not None:
                        found.add(container.id)
                        self._report(container, reports_all)
            if not service_names:
                break  # remaining tasks belong to containers on attachable networks
            if not self._node_id:
                self._node_id = str((await self._own_node()).get("NodeID") or "")
        gone = (self._reported.keys() | self._unreadable) - found - unreadable
        self._unreadable &= unreadable
        await self._withdraw(gone)

    def _read(
        self, path: str, document: Any, networks: Mapping[str, str], service_names: dict[str, str]
    ) -> Container | None:
        if isinstance(document, SkippedItem):
            raise BadDocument(str(document.fields.get("ID") or "?"), f"it: {document.reason}")
        if path == TASKS:
            return task_from_document(document, service_names, self._node_id, self._url)
        container = service_from_document(document, networks, self._url)
        service_names[document["ID"]] = document["Spec"]["Name"]
        return container

    async def _own_node(self) -> dict[str, Any]:
        """Return the Engine's state in the swarm; /info is expensive."""
        document = await self._client.get("/info")
        swarm = document.get("Swarm") if isinstance(document, dict) else None
        return swarm if isinstance(swarm, dict) else {}

    def _report(self, container: Container, reports_all: bool) -> None:
        was_unreadable = container.id in self._unreadable
        if reports_all or was_unreadable or self._reported.get(container.id) != container:
            self._reported[container.id] = container
            self._sink.container_changed(self._url, container, None)

    async def _withdraw(self, container_ids: set[str]) -> None:
        for container_id in container_ids:
            self._reported.pop(container_id, None)
            self._sink.container_removed(self._url, container_id, None)
            await turns().offer(self._url)

    def _note_unreadable(self, fault: BadDocument) -> None:
        if fault.document_id not in self._unreadable:
            self._unreadable.add(fault.document_id)
            self._sink.container_unreadable(self._url, fault.document_id, "", str(fault))


def service_from_document(document: Any, networks: Mapping[str, str], engine: str) -> Container:
    """Convert an item of ServiceList.

    Args:
        document: The item.
        networks: Names by id.
        engine: URL of its Engine.

    Returns:
        Without a virtual address, as with `--endpoint-mode dnsrr`, its attachments have no
        addresses: what is asked for in the service's name is then its tasks'.

    Raises:
        BadDocument: A field has another shape than the Engine API says.
    """
    document_id = _id_of(document)
    try:
        spec = document["Spec"]
        pools = (document.get("Endpoint") or {}).get("VirtualIPs") or ()
        found = {pool["NetworkID"]: [pool["Addr"]] for pool in pools if pool.get("Addr")}
        aliases = _aliases_of_service(spec)
        attachments = [
            _attachment(networks.get(n, ""), n, found.get(n, []), aliases.get(n, ()))
            for n in {**found, **aliases}
        ]
        return Container(
            id=f"{SERVICE_ID}{document_id}",
            container_name=_text(spec["Name"]),
            engine=engine,
            state="running",
            network_mode="",
            attachments=tuple(sorted(attachments, key=lambda item: item.network)),
            docker_labels=_labels(spec.get("Labels")),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise BadDocument(document_id, "the service") from fault


def _aliases_of_service(spec: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the network aliases of a service by network id; old clients sent them elsewhere."""
    wanted = (spec.get("TaskTemplate") or {}).get("Networks") or spec.get("Networks") or ()
    return {_text(item["Target"]): tuple(map(_text, item.get("Aliases") or ())) for item in wanted}


def task_from_document(
    document: Any, service_names: Mapping[str, str], node_id: str, engine: str
) -> Container | None:
    """Convert an item of TaskList.

    Args:
        document: The item.
        service_names: By service id.
        node_id: Id of this node.
        engine: URL of its Engine.

    Returns:
        None if the task is not running, runs on this node, or has no service: `docker service
        rm` removes the service before its tasks, and containers on attachable networks have
        tasks without a service.

    Raises:
        BadDocument: A field has another shape than the Engine API says.
    """
    document_id = _id_of(document)
    try:
        if document["Status"]["State"] != "running" or document.get("NodeID") == node_id:
            return None
        service_id = _text(document.get("ServiceID") or "")
        service = service_names.get(service_id)
        if service is None:
            return None
        # Global services have no slots; Docker names their tasks after the nodes.
        slot = str(document.get("Slot") or document.get("NodeID"))
        task_name = f"{service}.{slot}.{document_id}"
        spec = document["Spec"].get("ContainerSpec") or {}
        labels = {
            f"{SWARM}service.id": service_id,
            f"{SWARM}service.name": service,
            f"{SWARM}node.id": _text(document.get("NodeID") or ""),
            f"{SWARM}task.id": document_id,
            f"{SWARM}task.name": task_name,
        }
        return Container(
            id=document_id,
            container_name=task_name,
            engine=engine,
            state="running",
            hostname=_hostname(_text(spec.get("Hostname") or ""), labels, slot),
            network_mode="",
            attachments=_attachments_of_task(document),
            docker_labels={**_labels(spec.get("Labels")), **labels},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise BadDocument(document_id, "the task") from fault


def _attachments_of_task(document: dict[str, Any]) -> tuple[Attachment, ...]:
    attachments = [
        _attachment(
            _text(item["Network"]["Spec"]["Name"]),
            _text(item["Network"]["ID"]),
            item.get("Addresses") or [],
        )
        for item in document.get("NetworksAttachments") or ()
    ]
    return tuple(sorted(attachments, key=lambda item: item.network))


def _id_of(document: Any) -> str:
    document_id = document.get("ID") if isinstance(document, dict) else None
    if not isinstance(document_id, str) or not document_id:
        raise BadDocument("?", "ID")
    return document_id


def _hostname(template: str, labels: Mapping[str, str], slot: str) -> str:
    """Fill in the placeholders of a service's host name, as Docker does for each task.

    Args:
        template: Such as "web-{{.Task.Slot}}".
        labels: Those that Docker puts on the task's container.
        slot: Of the task.

    Returns:
        "" if a value is unknown here, such as the host name of the task's node.
    """
    values = {**labels, f"{SWARM}task.slot": slot}
    filled = _PLACEHOLDER.sub(lambda m: values.get(SWARM + m[1].lower(), m[0]), template)
    return "" if "{{" in filled else filled


def _attachment(
    network: str, network_id: str, addresses: list[str], aliases: tuple[str, ...] = ()
) -> Attachment:
    """Return an attachment, from addresses with prefix lengths."""
    interfaces = sorted((ip_interface(text) for text in addresses), key=lambda i: i.version)
    return Attachment(
        network=sys.intern(network or network_id),
        network_id=sys.intern(network_id),
        addresses=tuple(str(interface.ip) for interface in interfaces),
        subnets=tuple(dict.fromkeys(str(interface.network) for interface in interfaces)),
        aliases=aliases,
    )


def _labels(document: Any) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in (document or {}).items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r}: expected a string")
    return value

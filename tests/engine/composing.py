"""Real Compose on the private Engine, asked about all the time, and a judge of the answers.

An `Observer` notes from the Engine's own events which container ran when, under which names
and with which address; an `Asker` asks the same questions in a tight loop.  Afterwards each
answer is compared with what was so at its time.  Only what is certain counts: a moment is
allowed between an event and the answers that follow from it.
"""

import contextlib
import itertools
import os
import random
import shutil
import socket
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import dnslib
import docker

from tests.clients.resolvers import UNPACKED
from tests.engine.dockerd import IMAGE, Dockerd

MAX_COMMAND = 300.0  # seconds for one command of Compose
LATE = 1.0  # seconds from an event until an answer that ignores it is certainly wrong
EARLY = 0.5  # seconds that an address may be answered before its container has started
LOST_AFTER = 10.0  # seconds without a response
ROUND_PAUSE = 0.004  # seconds, in which others get a machine's only core
MAX_TTL = 5
COMPOSE_LABEL = "com.docker.compose."


class Program(NamedTuple):
    """A Compose; the separator stands in its containers' names."""

    name: str
    path: Path
    separator: str


def programs() -> list[Program]:
    """The versions of Compose on this machine: Debian's, and that of `tools/build-compose`."""
    first = Program("compose1", Path(shutil.which("docker-compose") or "docker-compose"), "_")
    second = Program("compose2", UNPACKED / "bin/docker-compose", "-")
    return [first, *([second] if second.path.exists() else [])]


class Project:
    """A project whose services sleep.

    Attributes:
        name: Of the project.
        separator: Between the parts of its containers' names.
    """

    def __init__(
        self, program: Program, engine: Dockerd, folder: Path, name: str, number: int = 0
    ) -> None:
        """Write its file; `number` chooses the network's subnet."""
        self.name, self.separator = name, program.separator
        self._program, self._engine = program.path, engine
        self._file = folder / f"{name}.yml"
        self._file.write_text(_document(name, engine.subnet_of(number)))

    def __call__(self, *words: str, **environment: str) -> str:
        """Run a command of Compose, and return what it printed on standard output."""
        command = [str(self._program), "-p", self.name, "-f", str(self._file), *words]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=MAX_COMMAND,
            env={**os.environ, "DOCKER_HOST": self._engine.socket_url, **environment},
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def container(self, service: str, number: int = 1) -> str:
        """The name of a service's container."""
        return self.separator.join((self.name, service, str(number)))

    def ids(self, service: str) -> list[str]:
        """The ids of a service's running containers, without one-offs."""
        wanted = {"project": self.name, "service": service, "oneoff": "False"}
        labels = [f"{COMPOSE_LABEL}{key}={value}" for key, value in wanted.items()]
        return [c["Id"] for c in self._engine.api.containers(filters={"label": labels})]

    def addresses(self, service: str) -> list[str]:
        """The addresses of a service's running containers, sorted."""
        return sorted(self._engine.address(container) for container in self.ids(service))


def _document(project: str, subnet: str) -> str:
    return textwrap.dedent(f"""\
        services:
          web:
            image: {IMAGE}
            stop_signal: SIGKILL
            environment:
              REVISION: "${{REVISION:-1}}"
            labels:
              containerdns.names: "www-{project},front.{project}"
              containerdns.fqdns: "web.{project}.example"
            networks:
              default:
                aliases: [site]
          db:
            image: {IMAGE}
            stop_signal: SIGKILL
          tool:
            image: {IMAGE}
            stop_signal: SIGKILL
            profiles: [tools]
        networks:
          default:
            ipam:
              config:
                - subnet: {subnet}
        """)


# -- what was so ---------------------------------------------------------------------------


@dataclass(slots=True)
class Run:
    """One run of a container; times are seconds since the epoch, by the Engine's own clock.

    Attributes:
        names: Since when it had which name, in order.
        labels: Of the container.
        address: Its only one, IPv4; "" if it had none.
        started: When it started.
        died: When it died; infinity while it runs.
    """

    names: list[tuple[float, str]]
    labels: dict[str, str]
    address: str
    started: float
    died: float = float("inf")

    @property
    def project(self) -> str:
        return self.labels.get(f"{COMPOSE_LABEL}project", "")

    def is_of(self, service: str, project: str | None = None) -> bool:
        """Return whether it is a replica of a service, of one project or of any."""
        label = self.labels.get
        is_service = label(f"{COMPOSE_LABEL}service") == service
        is_replica = is_service and label(f"{COMPOSE_LABEL}oneoff") == "False"
        return is_replica and project in (None, self.project)

    def names_between(self, begin: float, end: float) -> set[str]:
        """Return the names it had at some time between two."""
        until = [*(since for since, _ in self.names[1:]), float("inf")]
        return {
            name
            for (since, name), ended in zip(self.names, until, strict=True)
            if since <= end and ended >= begin
        }

    def covers(self, begin: float, end: float) -> bool:
        """Return whether it ran all the time between two."""
        return self.started <= begin and self.died > end

    def overlaps(self, begin: float, end: float) -> bool:
        """Return whether it ran, or was about to, at some time between two."""
        return self.started - EARLY <= end and self.died >= begin


class Observer:
    """Notes every run of every container, from the Engine's events and inspects.

    Attributes:
        runs: All of them, in the order of their starts.
    """

    def __init__(self, engine: Dockerd) -> None:
        self.runs: list[Run] = []
        self._names: dict[str, list[tuple[float, str]]] = {}
        self._running: dict[str, Run] = {}
        self._api = docker.APIClient(engine.socket_url, version="auto", timeout=120)
        self._stream = self._api.events(decode=True, filters={"type": "container"})
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stream.close()
        self._thread.join(LOST_AFTER)
        self._api.close()

    def _follow(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it was closed
            for event in self._stream:
                self._note(event["Action"], event["Actor"], event["timeNano"] / 1e9)

    def _note(self, action: str, actor: dict[str, Any], at: float) -> None:
        container, attributes = actor["ID"], actor["Attributes"]
        if action in ("create", "rename"):
            self._names.setdefault(container, []).append((at, attributes["name"]))
        elif action == "start":
            run = Run(self._names[container], attributes, self._address(container), at)
            self._running[container] = run
            self.runs.append(run)
        elif action == "die" and container in self._running:
            self._running.pop(container).died = at

    def _address(self, container: str) -> str:
        try:
            networks = self._api.inspect_container(container)["NetworkSettings"]["Networks"]
        except docker.errors.NotFound:
            return ""
        return next((str(n["IPAddress"]) for n in networks.values() if n["IPAddress"]), "")


# -- what was answered -----------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A name to ask for, and whose it is: a container's, or all replicas' of a service.

    Attributes:
        name: Without its final dot.
        container: The name of the container that it leads to; "" for a service.
        service: The service that it leads to.
        project: The service's; "" if the name is ambiguous as several projects have it.
        since: Another name; before that has an address, this one may belong to an upstream.
    """

    name: str
    container: str = ""
    service: str = ""
    project: str = ""
    since: str = ""

    @property
    def is_shared(self) -> bool:
        """Whether it is ambiguous while several projects have it."""
        return not self.container and not self.project

    def may_be(self, run: Run, begin: float, end: float) -> bool:
        """Return whether a run had the name at some time between two."""
        if self.container:
            return self.container in run.names_between(begin, end)
        return run.is_of(self.service, self.project or None)

    def must_be(self, run: Run, begin: float, end: float) -> bool:
        """Return whether a run had the name all the time between two."""
        if self.container:
            return run.names_between(begin, end) == {self.container}
        return run.is_of(self.service, self.project or None)


class Answer(NamedTuple):
    """What was answered, and when; times are seconds since the epoch."""

    question: Question
    qtype: str
    sent: float
    received: float
    rcode: str  # or "none" if nothing came
    records: frozenset[str]
    max_ttl: int


class Asker:
    """Asks the same questions over and over, each for A, AAAA and HTTPS, until it is closed.

    Attributes:
        answers: All of them.
    """

    def __init__(self, port: int, questions: list[Question]) -> None:
        self.answers: list[Answer] = []
        self._asked = [
            (question, qtype, bytes(dnslib.DNSRecord.question(question.name, qtype).pack())[2:])
            for question in questions
            for qtype in ("A", "AAAA", "HTTPS")
        ]
        self._read: dict[bytes, tuple[str, frozenset[str], int]] = {}
        self._known = {""}
        self._stop = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(3 * LOST_AFTER)
        self._socket.close()

    def _ask(self) -> None:
        while not self._stop.wait(ROUND_PAUSE):
            for question, qtype, query in self._asked:
                if question.since not in self._known:
                    continue
                sent = time.time()
                response = self._exchange(query)
                said = ("none", frozenset[str](), 0) if response is None else self._said(response)
                self.answers.append(Answer(question, qtype, sent, time.time(), *said))
                if said[1]:
                    self._known.add(question.name)

    def _exchange(self, query: bytes) -> bytes | None:
        message_id = random.randbytes(2)
        deadline = time.monotonic() + LOST_AFTER
        with contextlib.suppress(OSError):  # nobody listens any more, or nothing comes
            self._socket.send(message_id + query)
            while (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                response = self._socket.recv(4096)
                if response[:2] == message_id:
                    return response
        return None

    def _said(self, response: bytes) -> tuple[str, frozenset[str], int]:
        known = self._read.get(response[2:])
        if known is None:
            record = dnslib.DNSRecord.parse(response)
            found = frozenset(str(rr.rdata) for rr in record.rr)
            ttl = max((rr.ttl for rr in (*record.rr, *record.auth)), default=0)
            known = (str(dnslib.RCODE[record.header.rcode]), found, ttl)
            self._read[response[2:]] = known
        return known


def faults(answers: list[Answer], runs: list[Run]) -> Iterator[str]:
    """Yield what is certainly wrong with some answers, in words."""
    for answer in answers:
        asked, begin, end = answer.question, answer.sent - LATE, answer.received
        mine = [run for run in runs if asked.may_be(run, begin, end)]
        sure = [r for r in mine if r.covers(begin, end) and asked.must_be(r, begin, end)]
        allowed = {run.address for run in mine if run.overlaps(begin, end)}
        required = {run.address for run in sure}
        if asked.is_shared and len({run.project for run in mine}) > 1:
            required = set()
            if len({run.project for run in sure}) > 1:
                allowed = set()
        if fault := _fault(answer, allowed, required):
            yield f"{asked.name} {answer.qtype} at {answer.sent:.3f}: {fault}"


def _fault(answer: Answer, allowed: set[str], required: set[str]) -> str:
    if answer.rcode not in ("NOERROR", "NXDOMAIN"):
        return f"rcode {answer.rcode}"
    if answer.max_ttl > MAX_TTL:
        return f"TTL {answer.max_ttl}"
    if required and answer.rcode != "NOERROR":
        return f"{answer.rcode}, though {sorted(required)} run"
    if answer.qtype != "A":
        return f"records {sorted(answer.records)}" if answer.records else ""
    if wrong := answer.records - allowed:
        return f"{sorted(wrong)} instead of {sorted(allowed)}"
    if missing := required - answer.records:
        return f"without {sorted(missing)}"
    return ""


@dataclass
class Asked:
    """The time of a query, and its outcome.

    Attributes:
        questions: What is asked.
        answers: Of the whole time, once it is over.
        runs: Likewise.
    """

    engine: Dockerd
    port: int
    questions: list[Question]
    answers: list[Answer] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._observer = Observer(self.engine)
        self._asker = Asker(self.port, self.questions)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._asker.close()
        self._observer.close()
        self.answers, self.runs = self._asker.answers, self._observer.runs
        if kind is None:
            wrong = list(itertools.islice(faults(self.answers, self.runs), 20))
            assert not wrong, "\n".join(wrong)

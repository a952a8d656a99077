"""The program as users run it, an upstream that notes what leaks, and a client."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import dnslib

DAY = 86400
MAX_START = 60.0  # seconds until a started server answers, on a busy machine
MAX_ANSWER = 10.0  # seconds for a response; milliseconds are usual


class RecordingUpstream:
    """A public resolver to which our names are news: NXDOMAIN, good for a day.

    Attributes:
        port: Its UDP port, on 127.0.0.1 by default.
        asked: All names that came, lower case, except the loop probes.
    """

    def __init__(
        self,
        public: dict[str, str] | None = None,
        where: tuple[str, int] = ("127.0.0.1", 0),
        delay: float = 0.0,
    ) -> None:
        """Answer from now on, each query after `delay` seconds."""
        self.asked: list[tuple[str, str]] = []
        self._delay = delay
        self._public = {f"{name.rstrip('.')}.": text for name, text in (public or {}).items()}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(where)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def names(self) -> list[str]:
        """The names that were asked for."""
        return [name for name, _ in self.asked]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                data, client = self._socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            query = dnslib.DNSRecord.parse(data)
            name = str(query.q.qname).lower()
            if ".loop-" not in name:
                self.asked.append((name, dnslib.QTYPE[query.q.qtype]))
            reply = (self._response(query, name), client)
            if self._delay:
                threading.Timer(self._delay, self._send, reply).start()
            else:
                self._send(*reply)

    def _send(self, response: bytes, client: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(response, client)

    def _response(self, query: Any, name: str) -> bytes:
        response = query.reply(ra=1, aa=0)
        if name in self._public and query.q.qtype == dnslib.QTYPE.A:
            address = dnslib.A(self._public[name])
            response.add_answer(dnslib.RR(query.q.qname, rdata=address, ttl=300))
        elif name not in self._public:
            response.header.rcode = dnslib.RCODE.NXDOMAIN
        if not response.rr:
            times = (1, 1800, 900, 604800, DAY)
            soa = dnslib.SOA("a.root-servers.net", "nstld.verisign-grs.com", times)
            response.add_auth(dnslib.RR(".", dnslib.QTYPE.SOA, rdata=soa, ttl=DAY))
        return bytes(response.pack())


class Client:
    """One socket that asks one server on 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(("127.0.0.1", port))

    def close(self) -> None:
        self._socket.close()

    def ask(self, name: str, qtype: str = "A", timeout: float = MAX_ANSWER) -> Any:
        """Ask over UDP; give dnslib's record, None if nothing comes."""
        query = dnslib.DNSRecord.question(name, qtype)
        self._socket.send(bytes(query.pack()))
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                response = dnslib.DNSRecord.parse(self._socket.recv(4096))
            except TimeoutError:
                return None
            if response.header.id == query.header.id:
                return response
        return None

    def ask_octets(self, query: bytes, timeout: float = MAX_ANSWER) -> bytes:
        """Ask over UDP with ready octets; give the next response, 12 zeros if none comes."""
        self._socket.settimeout(timeout)
        try:
            self._socket.send(query)
            return self._socket.recv(4096)
        except OSError:
            return bytes(12)


class Running:
    """A server in a process of its own, stopped at the end of a `with` block.

    Attributes:
        port: Its DNS port on 127.0.0.1, UDP and TCP.
        url: Of its HTTP.
    """

    def __init__(self, *options: str, docker: str | None, ready: bool = True) -> None:
        self.port, http = free_port(), free_port()
        self.url = f"http://127.0.0.1:{http}"
        self._log = tempfile.NamedTemporaryFile(prefix="cdns-", suffix=".log")  # noqa: SIM115
        command = [sys.executable, "-m", "containerdns", "serve"]
        if docker is not None:
            command += ["--docker", docker]
        command += ["--http", f"127.0.0.1:{http}"]
        if "--listen" not in options:
            command += ["--listen", f"127.0.0.1:{self.port}"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CONTAINERDNS_")}
        self._process = subprocess.Popen(
            [*command, *options], stdout=self._log, stderr=self._log, env=environment
        )
        self.client = Client(self.port)
        try:
            self._wait(ready)
        except AssertionError:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> float:
        """Send SIGTERM and wait; give how many seconds that took."""
        self.client.close()
        started = time.monotonic()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
        self._log.close()
        return time.monotonic() - started

    def kill(self) -> None:
        """Kill it with SIGKILL, as a crash would."""
        self._process.kill()
        self._process.wait()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def ask(self, name: str, qtype: str = "A", timeout: float = MAX_ANSWER) -> Any:
        """Ask over UDP; as `Client.ask`."""
        return self.client.ask(name, qtype, timeout)

    def addresses(self, name: str, qtype: str = "A") -> list[str]:
        """The addresses of a name, sorted; none if there is none."""
        response = self.ask(name, qtype)
        assert response is not None, "no response"
        wanted = getattr(dnslib.QTYPE, qtype)
        return sorted(str(rr.rdata) for rr in response.rr if rr.rtype == wanted)

    def rcode(self, name: str, qtype: str = "A") -> str:
        """The mnemonic of the response's rcode, or "timeout"."""
        response = self.ask(name, qtype)
        return "timeout" if response is None else str(dnslib.RCODE[response.header.rcode])

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return str(response.read().decode())

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.get("/metrics").splitlines():
            found = re.fullmatch(r"containerdns_(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name:
                having = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
                if labels.items() <= having.items():
                    total += float(found[3])
        return total

    def until(self, wanted: list[str], name: str, qtype: str = "A", longest: float = 30.0) -> float:
        """Ask until the addresses are those; give the seconds that took."""
        started = time.monotonic()
        found: list[str] = []
        while time.monotonic() - started < longest:
            found = self.addresses(name, qtype)
            if found == sorted(wanted):
                return time.monotonic() - started
            time.sleep(0.001)
        raise AssertionError(f"{name} is {found}, not {wanted}, after {longest} s\n{self.log()}")

    def _wait(self, ready: bool) -> None:
        until = time.monotonic() + MAX_START
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log()}")
            with contextlib.suppress(OSError):
                if not ready:
                    self.get("/healthz")
                    return
                self.get("/readyz")
                return
            time.sleep(0.02)
        raise AssertionError(f"the server is not ready: {self.log()}")


@contextlib.contextmanager
def serving(*options: str, docker: str | None, ready: bool = True) -> Iterator[Running]:
    """A server that ends with the block; any internal error of it fails the test."""
    with Running(*options, docker=docker, ready=ready) as server:
        yield server
        assert server.metric("dns_internal_errors_total") == 0, server.log()


_given: set[int] = set()  # ports, of which no two users may get the same before they bind it


def free_port() -> int:
    """A port that is free for UDP and TCP, and was not given before."""
    for _ in range(1000):
        port = random.randrange(20000, 32000)
        if port in _given:
            continue
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            contextlib.suppress(OSError),
        ):
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise AssertionError("no free port")

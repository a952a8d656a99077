"""A real etcd for the tests, of one member."""

import base64
import contextlib
import json
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.clients.resolvers import lack
from tests.engine.running import free_port
from tests.timing import MAX_WAIT

PREFIX = "/containerdns/v1/"  # of the keys of a fleet


class Cluster:
    """An etcd in a process of its own, with its data in a folder of its own.

    Attributes:
        url: What `--fleet` takes.
    """

    def __init__(self, *options: str, tls: Path | None = None) -> None:
        """Take further options of etcd, and a folder of certificates as `--fleet-tls` takes."""
        self._options = options
        self._tls = tls
        self._stack = contextlib.ExitStack()
        self._folder = Path()
        self._client, self._peer = free_port(), free_port()
        self.url = f"etcd{'s' if tls else ''}://127.0.0.1:{self._client}"
        self._address = f"http{'s' if tls else ''}://127.0.0.1:{self._client}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.callback(self.kill)
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start it, and return once it answers."""
        program = shutil.which("etcd") or lack("etcd is not installed")
        client, peer = self._address, f"http://127.0.0.1:{self._peer}"
        certificates = [
            *("--cert-file", f"{self._tls}/cert.pem", "--key-file", f"{self._tls}/key.pem"),
            *("--trusted-ca-file", f"{self._tls}/ca.pem", "--client-cert-auth"),
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    *("--name", "one", "--data-dir", str(self._folder / "data")),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", f"one={peer}", "--logger", "zap"),
                    # The only member elects itself once this is over, by default after a second.
                    *("--heartbeat-interval", "10", "--election-timeout", "100"),
                    *(certificates if self._tls else ()),
                    *self._options,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + MAX_WAIT
        while time.monotonic() < deadline:
            with contextlib.suppress(urllib.error.URLError, OSError):
                self.call("/v3/maintenance/status")
                return
            time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text()[-2000:])

    def call(self, path: str, token: str = "", **fields: object) -> Any:
        """Call its JSON gateway; keys and values in `fields` are texts."""
        coded = self.coded(fields)
        headers = {"Authorization": token} if token else {}
        request = urllib.request.Request(
            self._address + path, json.dumps(coded).encode(), headers, method="POST"
        )
        context = None
        if self._tls:
            context = ssl.create_default_context(cafile=self._tls / "ca.pem")
            context.load_cert_chain(self._tls / "cert.pem", self._tls / "key.pem")
        with urllib.request.urlopen(request, timeout=5, context=context) as response:
            return json.loads(response.read())

    def token(self, name: str, password: str) -> str:
        """A token of a user."""
        found = self.call("/v3/auth/authenticate", name=name, password=password)
        return str(found["token"])

    def enable_users(self, user: str, permission: str) -> None:
        """Let nobody but root and one more user in, both with a password of "secret".

        Args:
            user: Its name.
            permission: "READ" or "READWRITE", of what the fleet has.
        """
        for name in ("root", user):
            self.call("/v3/auth/user/add", name=name, password="secret")
            self.call("/v3/auth/role/add", name=name)
            self.call("/v3/auth/user/grant", user=name, role=name)
        granted = {"permType": permission, "key": PREFIX, "range_end": PREFIX[:-1] + "0"}
        self.call("/v3/auth/role/grant", name=user, perm=self.coded(granted))
        self.call("/v3/auth/enable")

    @staticmethod
    def coded(fields: Mapping[str, object]) -> dict[str, object]:
        """Encode the keys and values among some fields."""
        return {
            key: base64.b64encode(value.encode()).decode()
            if key in ("key", "value", "range_end") and isinstance(value, str)
            else value
            for key, value in fields.items()
        }

    def put(self, key: str, value: str) -> None:
        """Set a key, without a lease."""
        self.call("/v3/kv/put", key=key, value=value)

    def value(self, key: str) -> str:
        """The value of a key; "" if there is none."""
        found = self.call("/v3/kv/range", key=key).get("kvs", [])
        return base64.b64decode(found[0].get("value", "")).decode() if found else ""

    def lease(self, key: str) -> int:
        """The lease that a key goes with; 0 without one."""
        found = self.call("/v3/kv/range", key=key).get("kvs", [])
        return int(found[0].get("lease", 0)) if found else 0

    def time_to_live(self, lease: int) -> int:
        """The seconds that a lease has left."""
        return int(self.call("/v3/lease/timetolive", ID=lease).get("TTL", -1))

    def make_room(self) -> None:
        """Compact and defragment after its disk quota was used up, and disarm the alarm."""
        self.call("/v3/kv/deleterange", key="/else/", range_end="/else0")
        self.call("/v3/kv/compaction", revision=self.revision(), physical=True)
        self.call("/v3/maintenance/defragment")
        for alarm in self.call("/v3/maintenance/alarm", action="GET").get("alarms", []):
            self.call("/v3/maintenance/alarm", action="DEACTIVATE", **alarm)

    def has_room(self) -> bool:
        """Write something large; return whether its disk quota allowed that."""
        try:
            self.put(f"/else/{time.monotonic_ns()}", "x" * 20_000)
        except urllib.error.HTTPError:
            return False
        return True

    def listed(self, prefix: str = "/containerdns/", token: str = "") -> list[str]:
        """All keys below a prefix."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self.call("/v3/kv/range", token, key=prefix, range_end=end, keys_only=True)
        return [base64.b64decode(kv["key"]).decode() for kv in found.get("kvs", ())]

    def revision(self) -> int:
        """Its present revision."""
        return int(self.call("/v3/kv/range", key="none")["header"]["revision"])

    def forget(self) -> None:
        """Lose all data, of a cluster that does not run."""
        shutil.rmtree(self._folder / "data")

    def stop(self) -> None:
        """Stop it with SIGSTOP, so that connections stay open and nothing comes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `stop`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with SIGKILL; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

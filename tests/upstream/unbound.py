"""A real Unbound with TLS and HTTPS, and certificates that the tests make."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.engine.running import free_port
from tests.timing import MAX_WAIT

NAME = "dns.example"


@dataclass(frozen=True)
class Unbound:
    """Where a running Unbound listens.

    Attributes:
        plain: The port of UDP and TCP.
        tls: The port of DNS over TLS.
        https: The port of DNS over HTTPS.
        authority: The file of the authority that signed its certificate for NAME.
    """

    plain: int
    tls: int
    https: int
    authority: Path


def make_certificate(folder: Path, name: str = NAME, days: int = 2) -> tuple[Path, Path, Path]:
    """Create an authority and a certificate for a name and 127.0.0.1.

    Args:
        folder: Where to.
        name: The certificate's.
        days: Until it expires; below 0 for one that has.

    Returns:
        The files of the authority, the certificate and its key.
    """
    authority, key = folder / "authority.pem", folder / "authority.key"
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", "/CN=test authority", "-days", "2", "-keyout", key, "-out", authority,
    )  # fmt: skip
    own_key, request, own = folder / "server.key", folder / "server.csr", folder / "server.pem"
    _openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", f"/CN={name}", "-keyout", own_key, "-out", request,
    )  # fmt: skip
    extension = folder / "extension"
    extension.write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\n")
    _openssl(
        "x509", "-req", "-in", request, "-CA", authority, "-CAkey", key, "-days", str(days),
        "-extfile", extension, "-out", own,
    )  # fmt: skip
    return authority, own, own_key


@contextlib.contextmanager
def running_unbound(folder: Path) -> Iterator[Unbound]:
    """Run Unbound with some local data."""
    authority, certificate, key = make_certificate(folder)
    plain, tls, https = free_port(), free_port(), free_port()
    long_text = " ".join(f'"{letter * 250}"' for letter in "abcdefgh")
    configuration = folder / "unbound.conf"
    configuration.write_text(f"""server:
  directory: "{folder}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  logfile: "{folder}/log"
  do-daemonize: no
  num-threads: 1
  interface: 127.0.0.1@{plain}
  interface: 127.0.0.1@{tls}
  interface: 127.0.0.1@{https}
  tls-port: {tls}
  https-port: {https}
  tls-service-key: "{key}"
  tls-service-pem: "{certificate}"
  http-notls-downstream: no
  local-zone: "example." static
  local-data: "example. 300 IN SOA ns.example. root.example. 1 2 3 4 30"
  local-data: "www.example. 300 IN A 192.0.2.10"
  local-data: "dns.example. 300 IN A 127.0.0.1"
  local-data: "other.example. 300 IN A 127.0.0.1"
  local-data: 'long.example. 300 IN TXT {long_text}'
remote-control:
  control-enable: no
""")
    process = subprocess.Popen(["unbound", "-d", "-c", configuration])
    try:
        _wait_for(https, process)
        yield Unbound(plain, tls, https, authority)
    finally:
        process.terminate()
        process.wait(MAX_WAIT)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + MAX_WAIT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, "unbound did not start"
        time.sleep(0.05)
    raise AssertionError("unbound does not listen")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

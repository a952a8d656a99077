"""Certificates as `--docker-tls` and `--fleet-tls` take them."""

import subprocess
from pathlib import Path


def make_certificates(folder: Path, days: int = 2) -> None:
    """Make ca.pem, and cert.pem and key.pem that it has signed for 127.0.0.1, for some days."""
    signing = "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"
    validity = f"-days {days} -extfile names"
    commands = [
        f"{signing} -addext keyUsage=critical,keyCertSign",
        "req -newkey rsa:2048 -nodes -keyout key.pem -out cert.csr -subj /CN=server",
        f"x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -out cert.pem {validity}",
    ]
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

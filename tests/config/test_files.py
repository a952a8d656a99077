"""Files that options name: text, stamps and certificates."""

import os
import ssl
from pathlib import Path

import pytest

from containerdns.config import files
from tests.certificates import make_certificates


def test_stamp_differs_once_a_file_is_written_or_replaced(tmp_path: Path) -> None:
    path, other = tmp_path / "hosts", tmp_path / "new"
    path.write_text("one")
    stamp = files.stamp_of(path)
    assert files.stamp_of(path) == stamp
    os.utime(path, ns=(1, 1))
    written = files.stamp_of(path)
    other.write_text("two")
    os.utime(other, ns=(1, 1))
    other.rename(path)  # of the same size and time
    assert len({stamp, written, files.stamp_of(path)}) == 3


def test_stamp_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.stamp_of(tmp_path / "none")


def test_text_is_that_of_a_regular_file_alone(tmp_path: Path) -> None:
    """Opening a FIFO would wait for a writer."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            files.text_of(path)


@pytest.mark.parametrize("more", [0, 1])
def test_text_has_a_largest_size(
    more: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_OCTETS", 1 << 20)
    path = tmp_path / "hosts"
    path.write_text("x" * ((1 << 20) + more))
    if more:
        with pytest.raises(OSError, match="larger than 1 MiB"):
            files.text_of(path)
    else:
        assert len(files.text_of(path)) == 1 << 20


def test_octets_that_are_not_utf_8_raise_or_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"web\xff")
    assert files.text_of(path, errors="replace") == "web\N{REPLACEMENT CHARACTER}"
    with pytest.raises(UnicodeDecodeError):
        files.text_of(path)


@pytest.mark.parametrize("missing", ["ca.pem", "cert.pem", "key.pem"])
def test_certificates_are_all_there_if_all_are_needed(missing: str, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    assert files.tls_context(tmp_path, needs_all=True).verify_mode is ssl.CERT_REQUIRED
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError):
        files.tls_context(tmp_path, needs_all=True)


def test_those_certificates_are_used_that_there_are(tmp_path: Path) -> None:
    """As `--fleet-tls` says: one's own authority, or a certificate of the client, or both."""
    public = files.tls_context(tmp_path, needs_all=False).get_ca_certs()
    assert public == ssl.create_default_context().get_ca_certs()
    make_certificates(tmp_path)
    subjects = [c["subject"] for c in files.tls_context(tmp_path, needs_all=False).get_ca_certs()]
    assert subjects == [((("commonName", "ca"),),)]
    (tmp_path / "ca.pem").unlink()
    (tmp_path / "key.pem").unlink()
    with pytest.raises(FileNotFoundError):  # the client's is not left out for want of the other
        files.tls_context(tmp_path, needs_all=False)


def test_file_that_holds_no_certificate_is_an_error_of_tls(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ssl.SSLError):
        files.tls_context(tmp_path, needs_all=False)

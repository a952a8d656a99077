"""Files that options name: whether one has changed, its text, and certificates."""

import ssl
import stat
from pathlib import Path
from typing import Final

ENCODING: Final = "utf-8-sig"  # with or without a byte order mark, as editors of Windows write
MAX_OCTETS: Final = 256 << 20  # of a file; a million lines of hosts are 50 MB

Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp:
    """Return what differs once a file has been changed or replaced.

    Raises:
        OSError: There is no such file, or no permission.
    """
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def text_of(path: Path, errors: str = "strict") -> str:
    """Read a regular file; a FIFO or device might never end.

    Args:
        path: The file, in UTF-8.
        errors: What happens to octets that are not UTF-8, as for `open`.

    Raises:
        OSError: It cannot be read, is larger than `MAX_OCTETS`, or is not a regular file.
        ValueError: It is not UTF-8.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    if status.st_size > MAX_OCTETS:
        raise OSError(f"larger than {MAX_OCTETS >> 20} MiB")
    return path.read_text(encoding=ENCODING, errors=errors)


def tls_context(directory: Path | None, *, needs_all: bool) -> ssl.SSLContext:
    """Return the context of a client that verifies the server.

    Args:
        directory: Has ca.pem (else the system's authorities count), and cert.pem with key.pem.
        needs_all: Whether these files have to be there.

    Raises:
        OSError: A file cannot be read, or is not what its name says (`ssl.SSLError`).
    """
    if directory is None:
        return ssl.create_default_context()
    authority, certificate = directory / "ca.pem", directory / "cert.pem"
    has_authority = needs_all or authority.is_file()
    context = ssl.create_default_context(cafile=authority if has_authority else None)
    if needs_all or certificate.is_file():
        context.load_cert_chain(certificate, directory / "key.pem")
    return context

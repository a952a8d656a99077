"""The files of `--hosts`: read when they change, a few lines at a time.

What a file says is up to `core/zone/hosts_file`; this module knows the files, and when to look
at them again.
"""

import logging
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from containerdns.core.zone.hosts_file import HostsChange, HostsFile

MAX_OCTETS: Final = 256 << 20  # of a file; a million lines are 50 MB
MAX_FAULTS_LOGGED: Final = 20  # of one reading; a wrong file may have a million

Stamp = tuple[int, int, int]
Loaded = list[tuple[Path, str]]  # what changed files hold now

log = logging.getLogger(__name__)


class HostsFiles:
    """The hosts files that are configured, and what they said when they were read last."""

    def __init__(self) -> None:
        self._files: dict[Path, HostsFile] = {}
        self._stamps: dict[Path, Stamp] = {}
        self._causes: dict[Path, str] = {}  # of those that cannot be read

    def load(self, paths: Sequence[Path], *, all_of_them: bool = False) -> Loaded:
        """Load the files that have changed; a disk may take its time, so in a thread.

        Args:
            paths: All that are configured.
            all_of_them: Whether they have changed or not.
        """
        loaded = []
        for path in paths:
            try:
                status = path.stat()
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                if stamp == self._stamps.get(path) and not all_of_them:
                    continue
                loaded.append((path, _text_of(path, status.st_mode, status.st_size)))
                self._stamps[path] = stamp
                self._causes.pop(path, None)
            except OSError as error:
                self._warn(path, error.strerror or str(error))
        return loaded

    def changes(
        self, loaded: Loaded, paths: Sequence[Path], ttl: int
    ) -> Iterator[HostsChange | None]:
        """Yield what changes, or None after a unit of work that changed nothing.

        Args:
            loaded: As `load` returned it.
            paths: All that are configured; the records of others go.
            ttl: Seconds, of every record.
        """
        for path in self._files.keys() - set(paths):
            for publication_id in self._files[path].ids():
                yield publication_id, None
            del self._files[path]
            self._stamps.pop(path, None)
        for path, text in loaded:
            file = self._files.setdefault(path, HostsFile(str(path)))
            yield from file.read(text, ttl)
            for fault in file.faults[:MAX_FAULTS_LOGGED]:
                log.warning("hosts file %s", fault)
            left = len(file.faults) - MAX_FAULTS_LOGGED
            if left > 0:
                log.warning("hosts file %s: %d more faults", path, left)

    def _warn(self, path: Path, cause: str) -> None:
        """Warn once, for as long as a file cannot be read for the same reason."""
        self._stamps.pop(path, None)
        if self._causes.get(path) != cause:
            self._causes[path] = cause
            log.warning("hosts file %s: %s; its last records stand", path, cause)


def _text_of(path: Path, mode: int, size: int) -> str:
    if not stat.S_ISREG(mode):  # a FIFO would never end
        raise OSError("not a regular file")
    if size > MAX_OCTETS:
        raise OSError(f"larger than {MAX_OCTETS >> 20} MiB")
    return path.read_text(encoding="utf-8", errors="replace")

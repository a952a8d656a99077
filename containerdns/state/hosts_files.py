"""The files of `--hosts`, read when they change, a few lines at a time.

`core/zone/hosts_file` parses them; this module decides which files to read, and when.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from containerdns.config.files import Stamp, stamp_of, text_of
from containerdns.core.zone.hosts_file import HostsFile
from containerdns.core.zone.policy import PublicationChange

MAX_FAULTS_LOGGED: Final = 20  # per reading; a file of the wrong kind may have a million

Loaded = list[tuple[Path, str]]  # the contents of changed files

log = logging.getLogger(__name__)


class HostsFiles:
    """The configured hosts files, and their contents when last read."""

    def __init__(self) -> None:
        self._files: dict[Path, HostsFile] = {}
        self._stamps: dict[Path, Stamp] = {}
        self._causes: dict[Path, str] = {}  # of files that cannot be read

    def load(self, paths: Sequence[Path], *, all_of_them: bool = False) -> Loaded:
        """Load the files that have changed; call this in a thread, as disks may be slow.

        Args:
            paths: All configured files.
            all_of_them: Load also those that have not changed.
        """
        loaded = []
        for path in paths:
            try:
                stamp = stamp_of(path)
                if stamp == self._stamps.get(path) and not all_of_them:
                    continue
                loaded.append((path, text_of(path, errors="replace")))
                self._stamps[path] = stamp
                self._causes.pop(path, None)
            except OSError as error:
                self._warn(path, error.strerror or str(error))
        return loaded

    def changes(
        self, loaded: Loaded, paths: Sequence[Path], ttl: int
    ) -> Iterator[PublicationChange | None]:
        """Yield changes of publications, or None after a unit of work without a change.

        Args:
            loaded: As returned by `load`.
            paths: All configured files; the records of other files are removed.
            ttl: Seconds, for every record.
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
                noun = "error" if left == 1 else "errors"
                log.warning("hosts file %s: %d more %s", path, left, noun)

    def _warn(self, path: Path, cause: str) -> None:
        """Warn once for as long as a file cannot be read for the same reason."""
        self._stamps.pop(path, None)
        if self._causes.get(path) != cause:
            self._causes[path] = cause
            log.warning("hosts file %s: %s; keeping its previous records", path, cause)

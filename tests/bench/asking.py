"""A client in a process of its own, which asks for names until they are as expected.

    python -m tests.bench.asking PORT

Reads lines of "there NAME..." or "gone NAME...", and writes a line of "NAME TIME" when a
name has an address, or has none any more; the time is that of the answer, since the epoch.
A process of its own, as threads of the measuring one would wait for each other.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Self

from dnslib import DNSRecord

PAUSE = 0.0003  # seconds between two rounds; asked without one, the server has used up its share
# of the CPU when the event comes, and the scheduler lets it wait behind the Engine: 4 ms
PAUSE_EACH = 0.00002  # seconds for each name, if there are many
PATIENCE = 30.0  # seconds
ANSWER_PATIENCE = 0.5  # seconds; then the question or its answer was lost


class Asker:
    """That process, seen from the one that measures."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "tests.bench.asking", str(port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._tell("there localhost")
        self._told(1)  # it has started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)

    def expect(self, names: Iterable[str], there: bool) -> None:
        """Begin to ask for names below `docker.`; the next call is `reached`."""
        self._expected = [f"{name}.docker" for name in names]
        self._tell(" ".join(["there" if there else "gone", *self._expected]))

    def reached(self) -> dict[str, float]:
        """Wait, and tell when each name was as expected, if it was."""
        told = self._told(len(self._expected))
        return {name.removesuffix(".docker"): when for name, when in told.items() if when}

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def _told(self, count: int) -> dict[str, float]:
        assert self._process.stdout is not None
        lines = [self._process.stdout.readline().split() for _ in range(count)]
        return {name: float(when) for name, when in lines}


def ask_until(port: int, names: list[str], there: bool) -> Iterator[tuple[str, float]]:
    """Give each name when it is as expected; in the end those that never were, with 0."""
    missing = {
        number: (name, number.to_bytes(2) + bytes(DNSRecord.question(name).pack())[2:])
        for number, name in enumerate(names)
    }
    ends = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("127.0.0.1", port))
        asking.settimeout(ANSWER_PATIENCE)
        while missing and time.monotonic() < ends:
            for _, query in missing.values():
                asking.send(query)
            for response, when in _answers(asking, len(missing)):
                number = int.from_bytes(response[:2])
                if number in missing and (response[7] > 0) is there:
                    yield missing.pop(number)[0], when
            time.sleep(max(PAUSE, PAUSE_EACH * len(missing)))
    yield from ((name, 0.0) for name, _ in missing.values())


def _answers(asking: socket.socket, count: int) -> Iterator[tuple[bytes, float]]:
    for _ in range(count):
        try:
            yield asking.recv(4096), time.time()
        except TimeoutError:
            return


def main() -> None:
    """Do what is read, one line after the other."""
    port = int(sys.argv[1])
    for line in sys.stdin:
        expected, *names = line.split()
        for name, when in ask_until(port, names, expected == "there"):
            print(name, repr(when), flush=True)


if __name__ == "__main__":
    main()

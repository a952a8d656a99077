"""Fuzz by the million: `python -m tests.fuzz [COUNT] [--seed N] [--atheris]`.

Without atheris, inputs are made from good ones by damage, which is quick; with it
(`pip install atheris`), they are led by the coverage of the packet path.  Either way
an input that raises is printed, and the run ends with status 1.
"""

import argparse
import itertools
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone.containers import Container
from tests.fuzz import generating, targets

GOLDEN = Path(__file__).parent.parent / "golden"
CORPUS = Path(__file__).parent / "corpus"
SHARES = {"packet": 16, "response": 8, "name": 4, "document": 1, "publication": 1}
TEXTS = (
    *("", ".", "*", "web", "docker", "a" * 64, "a." * 130, "1" * 5000, "65536", "\\046", "a\\."),
    *(
        "true",
        "192.0.2.1",
        "::1",
        "10.0.0.0/8",
        "\ud800",
        "\u0130",
        "x\ny",
        "web.docker.",
        "container:",
    ),
)
KEYS = tuple(generating.LABELS)


class Damage:
    """Makes inputs out of good ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        lines = (CORPUS / "packets.hex").read_text(encoding="utf-8").splitlines()
        self._packets = [bytes.fromhex(line.partition("#")[0]) for line in lines]
        self._documents = list(_documents_of(GOLDEN))

    def packet(self) -> bytes:
        """A query, or what is left of it."""
        chance = self.random
        if chance.random() < 0.1:
            return self._damaged(chance.choice(self._packets))
        owner, suffix = chance.choice(generating.OWNERS), chance.choice(generating.SUFFIXES)
        qtype = chance.choice((*generating.QTYPES, chance.randrange(0x10000)))
        data = generating.query(
            names.join(owner, suffix).lower(), qtype, edns=chance.random() < 0.5
        )
        if chance.random() < 0.3:
            data = data[:2] + chance.randbytes(2) + data[4:]
        return data if chance.random() < 0.2 else self._damaged(data)

    def response(self) -> bytes:
        """A response, or what is left of it."""
        chance = self.random
        owner = names.to_wire("a.example.")
        found = [
            messages.RR(
                owner,
                chance.choice((1, 5, 6, 16, 33, 46)),
                1,
                60,
                chance.randbytes(chance.randrange(30)),
            )
            for _ in range(3)
            if chance.random() < 0.5
        ]
        try:
            body = messages.encode(owner, found)
        except Exception:  # noqa: BLE001 - random data may hold no name
            body = messages.EMPTY_BODY
        question = owner + b"\0\1\0\1"
        query = messages.Query(1, messages.RD, question, "a.example.", 1, 1)
        return self._damaged(messages.assemble(query, 0, body, 4096))

    def name(self) -> str:
        """A text that could be a name."""
        return "".join(self.random.choices("aB1.\\_-*@ \x00\u0130", k=self.random.randrange(40)))

    def document(self) -> object:
        """An Engine's document of which some leaves are others."""
        found = json.loads(json.dumps(self.random.choice(self._documents)))
        for _ in range(self.random.randrange(1, 5)):
            self._change_leaf(found)
        return found

    def publication(self) -> Container:
        """A container with labels that nobody should write."""
        chance = self.random
        labels = {
            chance.choice(KEYS) + chance.choice(("", "", ".", "*", ".a.b")): self._text()
            for _ in range(chance.randrange(6))
        }
        return Container(
            chance.choice(generating.IDS), chance.choice((self._text(), "web")), "unix:///x",
            chance.choice(("running", "exited")), hostname=self._text(), docker_labels=labels,
        )  # fmt: skip

    def _text(self) -> str:
        return ",".join(self.random.choices(TEXTS, k=self.random.randrange(1, 4)))

    def _damaged(self, data: bytes) -> bytes:
        chance = self.random
        octets = bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            at = chance.randrange(len(octets) + 1)
            match chance.randrange(5):
                case 0:
                    octets[at : at + 1] = chance.randbytes(1)
                case 1:
                    del octets[at : at + chance.randrange(1, 8)]
                case 2:
                    octets[at:at] = chance.randbytes(chance.randrange(1, 8))
                case 3:
                    octets[at : at + 2] = chance.choice(
                        (b"\xc0\x0c", b"\0\0", b"\xff\xff", b"\0\x29")
                    )
                case _:
                    octets += octets[at : at + 30]
        return bytes(octets)

    def _change_leaf(self, found: Any) -> None:
        chance = self.random
        while isinstance(found, (dict, list)) and found:
            key = chance.choice(list(found) if isinstance(found, dict) else range(len(found)))
            inner = found[key]
            if not isinstance(inner, (dict, list)) or not inner or chance.random() < 0.1:
                found[key] = chance.choice((*TEXTS, None, 0, -1, 10**30, 1.5, [], {}, True))
                return
            found = inner


def _documents_of(folder: Path) -> Iterator[object]:
    """Every object in the golden documents that has an id."""
    pending: list[object] = [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))
    ]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            if "Id" in found:
                yield found
            pending += found.values()
        elif isinstance(found, list):
            pending += found


def run(count: int, seed: int) -> int:
    """Run all targets, each its share; give the number of inputs that raised."""
    damage = Damage(seed)
    order = [kind for kind, share in SHARES.items() for _ in range(share)]
    faults, begun = 0, time.monotonic()
    for number, kind in zip(range(count), itertools.cycle(order), strict=False):
        made: Any = getattr(damage, kind)()
        target: Callable[[Any], None] = getattr(targets, kind)
        try:
            target(made)
        except Exception as fault:  # noqa: BLE001 - that is what we look for
            faults += 1
            shown = made.hex() if isinstance(made, bytes) else made
            print(f"{kind}: {type(fault).__name__}: {fault}\n    {shown!r}"[:2000])
        if number % 50_000 == 49_999:
            print(
                f"{number + 1} inputs, {faults} faults, {time.monotonic() - begun:.0f} s",
                flush=True,
            )
    print(f"{count} inputs, {faults} faults, {time.monotonic() - begun:.0f} s, seed {seed}")
    return faults


def run_atheris(count: int) -> None:
    """Let coverage lead the damage of packets."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # noqa: PLC0415

    atheris.instrument_all()
    targets.world()
    atheris.Setup(
        [sys.argv[0], f"-runs={count}", "-max_len=600"], lambda data: targets.packet(bytes(data))
    )
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--atheris", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if given.atheris:
        run_atheris(given.count)
        return 0
    return 1 if run(given.count, given.seed) else 0


if __name__ == "__main__":
    sys.exit(main())

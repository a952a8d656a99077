"""A search for the messages that cost most: `python -m tests.fuzz.searching [SECONDS]`.

Damages the worst messages known, keeps what costs more microseconds an octet, and goes on
with that.  At its end the worst of each kind are printed, and with `--write` kept in the
corpus, whose messages `tests/core/protocol/test_costs.py` counts the steps of.
"""

import argparse
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.errors import BadMessage
from tests.fuzz import targets

CORPUS = Path(__file__).parent / "costs"
KEPT = 12  # of each kind
ROUNDS = 5  # the quickest of so many is what a message costs
QUESTION = b"\3web\6docker\0\0\1\0\1"
SUFFIXES = ("docker.", "localdomain.", "docker.localdomain.", "10.in-addr.arpa.", "ip6.arpa.")
LABELS = ("x.", "\\000.", "_x._tcp.", "1.", "\\..")


def _record(owner: bytes, rtype: int, data: bytes = b"") -> bytes:
    return owner + struct.pack("!HHIH", rtype, 1, 0, len(data)) + data


def _pointer(at: int) -> bytes:
    return struct.pack("!H", 0xC000 | at)


def _pointing(octets: int, links: int) -> Iterator[bytes]:
    """Records: a chain of so many pointers, and others that point to its end."""
    start = messages.HEADER_OCTETS + len(QUESTION) + 11
    links = min(links, (0x3FFF - start) // 2, octets // 4)
    chain = b"\0\0" + b"".join(_pointer(start + 2 * n) for n in range(links))
    yield _record(b"\0", 16, chain)
    left = octets - start - len(chain)
    yield from [_record(_pointer(start + 2 * links), 16)] * (left // 12)


def response_of_pointers(octets: int, links: int = 100) -> bytes:
    """A response of little but pointers."""
    records = list(_pointing(octets, links))
    header = struct.pack("!HHHHHH", 1, 0x8180, 1, 0, 0, len(records))
    return header + QUESTION + b"".join(records)


def worst_queries(octets: int) -> list[bytes]:
    """Queries of a length that were the worst: of pointers, of options, of records."""
    records = list(_pointing(octets, 8160))
    pointers = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, len(records)) + QUESTION
    count = (octets - messages.HEADER_OCTETS - len(QUESTION) - 11) // 4
    head = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 1) + QUESTION
    options = struct.pack("!HH", 65001, 0) * count
    opt = b"\0" + struct.pack("!HHIH", messages.OPT, 1232, 0, len(options)) + options
    plain = [_record(b"\0", 16)] * (octets // 11)
    many = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, len(plain)) + QUESTION + b"".join(plain)
    return [pointers + b"".join(records), head + opt, many]


def long_names() -> Iterator[bytes]:
    """Queries for names of as many labels as there can be."""
    for suffix in SUFFIXES:
        for label in LABELS:
            octets = len(names.to_wire(label)) - 1
            count = (names.MAX_NAME - len(names.to_wire(suffix))) // octets
            question = names.to_wire(label * count + suffix) + b"\0\1\0\1"
            yield messages.query(1, messages.RD, question)


def read_corpus(file: Path) -> list[bytes]:
    """The messages of a file, one a line; what follows a # is a comment."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [bytes.fromhex(line.partition("#")[0]) for line in lines]


def costs_of_queries() -> Callable[[bytes], float]:
    """What a query costs over TCP, in microseconds."""
    made = targets.world()
    peer = replace(made.peer("127.0.0.1"), over_tcp=True)
    return lambda data: _quickest(lambda: made.responder.respond(data, peer, time.time()))


def costs_of_responses() -> Callable[[bytes], float]:
    """What reading a response costs, in microseconds."""

    def read(data: bytes) -> None:
        try:
            messages.parse_response(data)
        except BadMessage:
            return

    return lambda data: _quickest(lambda: read(data))


def _quickest(call: Callable[[], object]) -> float:
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        call()
        found.append(time.perf_counter() - begun)
    return min(found) * 1e6


def search(
    seeds: list[bytes], cost: Callable[[bytes], float], seconds: float, longest: int
) -> list[tuple[float, bytes]]:
    """Look for dearer messages by damaging the dearest; most microseconds an octet first."""
    chance = random.Random(0)
    worst = [(cost(data) / len(data), data) for data in seeds if len(data) <= longest]
    ends = time.monotonic() + seconds
    while worst and time.monotonic() < ends:
        worst = sorted(dict.fromkeys(worst), reverse=True)[:KEPT]
        data = damaged(chance, chance.choice(worst)[1], longest)
        if len(data) > messages.HEADER_OCTETS:
            worst.append((cost(data) / len(data), data))
    return [(cost(data) / len(data), data) for _, data in sorted(worst, reverse=True)[:KEPT]]


def damaged(chance: random.Random, data: bytes, longest: int) -> bytes:
    """A message that differs in some places; parts of it may be there twice."""
    octets = bytearray(data)
    for _ in range(chance.choice((1, 2, 4))):
        at = chance.randrange(messages.HEADER_OCTETS, len(octets) + 1)
        match chance.randrange(4):
            case 0:
                octets[at : at + 1] = chance.randbytes(1)
            case 1:
                octets[at : at + 2] = _pointer(chance.randrange(min(at + 1, 0x3FFF)))
            case 2:
                part = octets[at : at + chance.choice((2, 12, 64))]
                octets[at:at] = part * chance.choice((1, 4, 16))
            case _:
                counts = chance.choice((6, 8, 10))
                octets[counts : counts + 2] = chance.choice((1, 2, 4, 400)).to_bytes(2)
    return bytes(octets[:longest])


def main() -> int:
    """Search, print, and keep if wanted."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.searching", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=60.0, help="for each kind")
    parser.add_argument("--octets", type=int, default=2112, help="the longest message")
    parser.add_argument("--write", action="store_true", help="keep the worst in the corpus")
    given = parser.parse_args()
    kinds = {
        "queries": ([*worst_queries(given.octets), *long_names()], costs_of_queries()),
        "responses": ([response_of_pointers(given.octets)], costs_of_responses()),
    }
    for kind, (seeds, cost) in kinds.items():
        file = CORPUS / f"{kind}.hex"
        known = read_corpus(file) if file.exists() else []
        worst = search(seeds + known, cost, given.seconds, given.octets)
        for each, data in worst:
            print(f"{kind}: {each:.3f} us an octet, {each * len(data):.0f} us: {data[:60].hex()}")
        if given.write:
            CORPUS.mkdir(exist_ok=True)
            lines = [f"{data.hex()}  # {len(data)} octets\n" for _, data in worst]
            file.write_text("".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How long answers take while four secondaries copy a large zone, all at once.

    python -m tests.bench.transfers [--containers N] [--seconds N] [--json FILE]

Four clients copy the zone by AXFR, again and again, while another one sends 1,000 queries a
second over UDP.  The containers are simulated; see `tests.engine.simulated`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from dnslib import DNSRecord

from tests.bench.scale import engine, settle
from tests.bench.secondaries import Asking
from tests.engine.running import Running

SECONDARIES = 4
YIELDING = 10  # niceness of the secondaries, which are other machines in earnest
QUERY = bytes(DNSRecord.question("docker", "AXFR").pack())
SOA = b"\0\6\0\1\0\0\0\5"  # type, class and TTL; the zone's begins and ends a transfer


def main() -> None:
    """Measure with and without transfers, and print how long answers took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--copy", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.copy:
        os.nice(YIELDING)
        print(asyncio.run(_copy_all(options.copy, options.seconds)))
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        engine(Path(folder), options.containers, 0) as url,
        Running("--host-address", "192.0.2.1", docker=url) as server,
    ):
        settle(server.pid)
        rows = [_measure(server.port, is_copied, options.seconds) for is_copied in (False, True)]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _measure(port: int, is_copied: bool, seconds: float) -> dict[str, float]:
    """Ask while the zone is copied, in a process of its own, or not."""
    copied = 0
    if is_copied:
        command = [sys.executable, "-m", "tests.bench.transfers", "--copy", str(port)]
        command += ["--seconds", str(seconds + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as copying:
            taken = asyncio.run(_ask(port, seconds))
            copied = int(copying.communicate()[0])
    else:
        taken = asyncio.run(_ask(port, seconds))
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {
        "secondaries": SECONDARIES * is_copied,
        "transfers": copied,
        "answers": len(taken),
        **{text: round(taken[int(len(taken) * share)], 2) for text, share in shares.items()},
        "max": round(taken[-1], 2),
    }


async def _ask(port: int, seconds: float) -> list[float]:
    """Return how many milliseconds each answer took, in order of length."""
    loop = asyncio.get_running_loop()
    remote = ("127.0.0.1", port)
    transport, asking = await loop.create_datagram_endpoint(Asking, remote_addr=remote)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asking.run()
    await asyncio.sleep(0.5)  # for the last answers
    transport.close()
    return sorted(took * 1000 for took in asking.taken)


async def _copy_all(port: int, seconds: float) -> int:
    """Let all secondaries copy the zone again and again; return how often that was done."""
    copied = [0]

    async def copy() -> None:
        while True:
            await _copy(port)
            copied[0] += 1

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(copy() for _ in range(SECONDARIES)))
    return copied[0]


async def _copy(port: int) -> None:
    """Copy the zone once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(len(QUERY).to_bytes(2) + QUERY)
        ends = 0
        while ends < 2:
            octets = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            ends += octets.count(SOA)
    finally:
        writer.close()


if __name__ == "__main__":
    main()

"""Whether local answers are slower while 100 questions are stuck on a dead upstream.

    python -m tests.bench.stuck PORT

PORT is a running server's whose upstreams do not answer.  Prints the median and the
99th percentile of a local answer (`localhost.`), alone and then with the stuck ones.
"""

import argparse
import secrets
import socket
import time

from dnslib import DNSRecord

QUERIES = 5000
STUCK = 100
PAUSE = 0.0005  # seconds between two queries, so that the server is not saturated


def main() -> None:
    """Measure without and with stuck questions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    port = parser.parse_args().port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("127.0.0.1", port))
        asking.settimeout(5)
        print_figures("alone", measure(asking))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stuck:
            stuck.connect(("127.0.0.1", port))
            for _ in range(STUCK):
                stuck.send(query(f"{secrets.token_hex(8)}.example."))
            print_figures(f"{STUCK} stuck", measure(asking))


def measure(asking: socket.socket) -> list[float]:
    """Seconds for each of many local answers, ascending."""
    local = query("localhost.")
    taken = []
    for _ in range(QUERIES):
        time.sleep(PAUSE)
        begun = time.perf_counter()
        asking.send(local)
        asking.recv(4096)
        taken.append(time.perf_counter() - begun)
    return sorted(taken)


def query(name: str) -> bytes:
    """A query for the address of a name."""
    return bytes(DNSRecord.question(name).pack())


def print_figures(title: str, taken: list[float]) -> None:
    """Print the median and the 99th percentile in milliseconds."""
    p50, p99 = taken[len(taken) // 2], taken[len(taken) * 99 // 100]
    print(f"{title:10} p50 {p50 * 1e3:.3f} ms  p99 {p99 * 1e3:.3f} ms")


if __name__ == "__main__":
    main()

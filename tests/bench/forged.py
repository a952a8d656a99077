"""How many forged answers are believed, of 100,000 by an attacker who sees the port.

    python -m tests.bench.forged

Before the true answer to each of 1,000 questions come 100 with random IDs and the
question in lower case, from the upstream's own address: more than anybody off the path
can do.  Prints how many questions got a forged answer; none is right.
"""

import asyncio
import os

from dnslib import DNSRecord

from tests.upstream.fakes import Reply, answer, upstream
from tests.upstream.forwarding import addresses, forwarder, question, settings

QUESTIONS = 1000
FORGED = 100  # for each question
TRUE, FALSE = "192.0.2.1", "203.0.113.66"


async def main() -> None:
    """Flood, and count."""
    async with upstream(_flood) as fake, forwarder(settings(fake.port)) as forward:
        believed = unanswered = 0
        for number in range(QUESTIONS):
            asked = question(f"some-longer-name-{number}.example.")
            found = addresses(asked, await forward.resolve(asked))
            believed += FALSE in found
            unanswered += TRUE not in found
    print(f"{QUESTIONS * FORGED} forged answers: {believed} believed, {unanswered} unanswered")


def _flood(query: DNSRecord, proto: str) -> Reply:
    true = answer(query, f"@ 60 A {TRUE}")
    if proto == "tcp":
        return true
    query.q.qname = str(query.q.qname).lower()
    forged = answer(query, f"@ 60 A {FALSE}")
    return [os.urandom(2) + forged[2:] for _ in range(FORGED)] + [true]


if __name__ == "__main__":
    asyncio.run(main())

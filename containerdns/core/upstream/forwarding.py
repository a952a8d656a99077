"""The values passed to the forwarder, and its results."""

from typing import NamedTuple

from containerdns.core.protocol.messages import EMPTY_BODY, RR, Body, Query
from containerdns.core.protocol.tsig import SignatureStanding


class Forward(NamedTuple):
    """A question that is not ours to answer.

    Attributes:
        query: The client's query, for its flags, spelling and EDNS.
        name: The canonical name to ask for; of a CNAME of ours, its target.
        qtype: The type to ask for.
        over_tcp: The client came over TCP.
        client: The raw octets of the client's address, which shares are counted by.
        apex: The domain of the `--forward` that covers the name; None for `--upstream`.
        ttl_ceiling: The highest TTL that may be given out; None for the usual caps.
        negative_becomes_servfail: A negative response may be wrong before Docker was listed.
        chain: Our own CNAME records that led here; they stand first in the answer.
        signature: What that of the query came to, None without one (RFC 8945).
    """

    query: Query
    name: str
    qtype: int
    over_tcp: bool = False
    client: bytes = b""
    apex: str | None = None
    ttl_ceiling: int | None = None
    negative_becomes_servfail: bool = False
    chain: tuple[RR, ...] = ()
    signature: SignatureStanding | None = None


class Resolution(NamedTuple):
    """The result of a `Forward`.

    Attributes:
        rcode: As the client gets it; SERVFAIL if everything failed, REFUSED over a limit.
        body: The sections, as encoded behind the question (name, qtype), TTLs as they
            are now: counted down and capped (but not yet by `ttl_ceiling`).
        is_authentic: The AD flag of the upstream.
        source: "cache", "upstream" or "policy" (over a limit, or no upstream to ask).
        upstream: Which one answered, as configured; None if none did.
        extended_error: Code and text for the client (RFC 8914), None without one.
        reason: In words, for `explain` and the log.
        targets: Canonical names that the CNAMEs of `body` lead to, in order; whatever it
            says about one of ours does not count.
        drops_private: No private address may stand behind them (`--rebind-protection`).
        fresh_for: Seconds for which the same octets may be given out again, with TTLs
            counted down; 0 if they may not.
        ages_in: Seconds until its TTLs are one less, as then every second; 0 for never.
    """

    rcode: int
    body: Body = EMPTY_BODY
    is_authentic: bool = False
    source: str = "upstream"
    upstream: str | None = None
    extended_error: tuple[int, str] | None = None
    reason: str = ""
    fresh_for: float = 0.0
    targets: tuple[str, ...] = ()
    drops_private: bool = False
    ages_in: float = 0.0

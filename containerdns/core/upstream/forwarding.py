"""The values passed to the forwarder, and its results."""

from collections.abc import Callable
from typing import NamedTuple

from containerdns.core.protocol.messages import EMPTY_BODY, RR, Body, Query
from containerdns.core.protocol.tsig import SignatureStanding


class Forward(NamedTuple):
    """A question to be forwarded.

    Attributes:
        query: The client's query, for its flags, spelling and EDNS.
        name: The canonical name to query; after a CNAME of ours, its target.
        qtype: The type to query.
        over_tcp: The client used TCP.
        client: The octets of the client's address, whose questions in flight are limited.
        apex: The domain of the `--forward` that covers the name; None for `--upstream`.
        ttl_ceiling: The maximum TTL for the client; None for the usual caps.
        negative_becomes_servfail: A negative response may be wrong, as Docker was not listed.
        chain: Our own CNAME records that led here, which precede the answer.
        signature: The query's verified signature (RFC 8945); None without one.
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
        rcode: For the client; SERVFAIL if all servers failed, REFUSED over a limit.
        body: The sections, as encoded after the question (name, qtype), with current TTLs:
            counted down and capped, but not yet by `ttl_ceiling`.
        is_authentic: The AD flag of the upstream.
        source: "cache", "upstream" or "policy" (over a limit, or without an upstream).
        upstream: The one that answered, as configured; None if none did.
        extended_error: Code and text for the client (RFC 8914), None without one.
        reason: In words, for `explain` and the log.
        targets: Canonical names that the CNAMEs of `body` lead to, in order; its records of names
            of ours do not count.
        drops_private: They must not lead to private addresses (`--rebind-protection`).
        fresh_for: Seconds for which the same octets may be reused, with TTLs counted down; 0 if
            they must not.
        ages_in: Seconds until its TTLs are one less, as then every second; 0 for never.
        renewal: To be called when the octets are still in use at the end of `fresh_for`: counts
            that use, and returns the seconds for which they may be reused from then on; 0 if
            they must not.  None if the question must be resolved again.
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
    renewal: Callable[[], float] | None = None

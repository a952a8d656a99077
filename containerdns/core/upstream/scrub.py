"""Filtering of upstream responses: only the CNAME chain of the question is kept.

A `Response` was parsed and belongs to our question.  Unrelated records are dropped, TTLs are
capped, and the result is encoded for the cache.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import (
    AAAA,
    ANY,
    CNAME,
    HTTPS,
    IN,
    NS,
    RR,
    SOA,
    A,
    Body,
    Response,
)
from containerdns.core.upstream.questions import Question

MAX_POSITIVE = 86400  # seconds, contract section 5
MAX_NEGATIVE = 60  # seconds, contract section 5: it may exist soon
MAX_CHAIN = 16  # CNAMEs; resolvers stop at 8 to 16
MAX_AUTHORITY = 64  # records considered: an SOA, three NSEC3, and several signatures of each
GLOBAL_UNICAST = 0b001  # the first bits of public IPv6 addresses, except those that embed IPv4
NO_AGE = 0x80000000  # a TTL with its highest bit set means 0, RFC 2181 section 8

DNAME, RRSIG, NSEC, NSEC3, SVCB = 39, 46, 47, 50, 64
_SIGNER_AT = 18  # octets before the signer's name in RRSIG data, RFC 4034 section 3.1
_PROOFS = (NSEC, NSEC3)
_OCTETS = {A: 4, AAAA: 16}  # of the data; other lengths are invalid
_SOA_NUMBERS = 20  # octets after the names in SOA data


@dataclass(frozen=True, slots=True)
class Trust:
    """How far responses are trusted.

    Attributes:
        is_ours: Returns whether only we may answer for a name.
        max_negative_ttl: The maximum TTL of a negative response.
        own_ttl: The maximum TTL of what leads to a name of ours, or lost its addresses.
        drops_private: Private addresses are dropped (`--rebind-protection`).
    """

    is_ours: Callable[[str], bool]
    max_negative_ttl: int = MAX_NEGATIVE
    own_ttl: int = 5
    drops_private: bool = False


class Scrubbed(NamedTuple):
    """A filtered response.

    Attributes:
        rcode: NOERROR, NXDOMAIN, or another that is not a failure.
        body: The sections, with current TTLs.
        ttl: Seconds for which it may be cached; 0 if it must not.
        is_negative: The type, or the name, does not exist.
        lost_private: Private addresses were dropped from it.
        targets: Canonical names that its CNAMEs lead to, in order; of ours only the last.
    """

    rcode: int
    body: Body
    ttl: int
    is_negative: bool
    lost_private: bool = False
    targets: tuple[str, ...] = ()


def scrub(response: Response, question: Question, trust: Trust) -> Scrubbed:
    """Keep the records that answer the question, and proofs of nonexistence."""
    if response.body is not None and not trust.drops_private:  # see `plain_answers`
        return Scrubbed(messages.NOERROR, response.body, response.answer[0].ttl, False)
    chain, targets = _chain(response.answer, question.wire[:-4], question.qtype, trust.is_ours)
    scrubbed = _scrub(response, question, trust, chain, leads_home=len(targets) == len(chain))
    return scrubbed._replace(targets=targets) if targets else scrubbed


def _scrub(
    response: Response, question: Question, trust: Trust, chain: list[bytes], *, leads_home: bool
) -> Scrubbed:
    """Implement `scrub`; only the names of the chain may own records."""
    qname = chain[0]
    answer = _answer(response.answer, chain, question.qtype, leads_home)
    lost_private = False
    if trust.drops_private:
        public = [record for record in answer if not is_private(record)]
        lost_private = len(public) < len(answer)
        answer = public
    if leads_home:
        answer = _with_ceiling(answer, trust.own_ttl)
        return _positive(messages.NOERROR, qname, answer, [])
    is_negative = response.rcode != messages.NOERROR or not _has_type(
        answer, chain[-1], question.qtype
    )
    authority = _authority(response.authority, chain, question.wants_dnssec, is_negative)
    if lost_private and is_negative:  # no SOA: the address exists, but was dropped
        body = messages.encode(qname, _with_ceiling(answer, trust.own_ttl))
        return Scrubbed(response.rcode, body, trust.own_ttl, is_negative, lost_private)
    if is_negative:
        return _negative(response.rcode, qname, answer, authority, trust.max_negative_ttl)
    scrubbed = _positive(response.rcode, qname, answer, authority)
    return scrubbed._replace(lost_private=True) if lost_private else scrubbed


def is_referral(response: Response) -> bool:
    """Return whether a response only refers to other servers."""
    return (
        response.rcode == messages.NOERROR
        and not response.answer
        and any(record.rtype == NS for record in response.authority)
        and not any(record.rtype in (SOA, NSEC, NSEC3) for record in response.authority)
    )


def is_private(record: RR) -> bool:
    """Return whether a record has an address that no public name should have."""
    if record.rtype == A and len(record.rdata) == 4:
        return _is_private4(record.rdata)
    if record.rtype == AAAA and len(record.rdata) == 16:
        return _is_private6(record.rdata)
    if record.rtype in (SVCB, HTTPS):
        return any(_hints(record.rdata))
    return False


def _chain(
    answer: Iterable[RR], qname: bytes, qtype: int, is_ours: Callable[[str], bool]
) -> tuple[list[bytes], tuple[str, ...]]:
    """Follow the CNAMEs of an answer from the question.

    Returns:
        The wire names, lower case, that may own records, the question's first; and the
        canonical names that its CNAMEs lead to: as many, if the last is a name of ours.
    """
    chain = [qname]
    if qtype in (CNAME, ANY):
        return chain, ()
    aliases = {r.owner.lower(): r.rdata.lower() for r in answer if r.rtype == CNAME}
    if not aliases:
        return chain, ()
    targets: list[str] = []
    while len(chain) <= MAX_CHAIN and (target := aliases.get(chain[-1])) is not None:
        if target in chain:
            break
        targets.append(names.from_wire(target))
        if is_ours(targets[-1]):
            break
        chain.append(target)
    return chain, tuple(targets)


def _answer(answer: Iterable[RR], chain: list[bytes], qtype: int, leads_home: bool) -> list[RR]:
    """Return the records of the chain, in its order, each RRset with one TTL."""
    place = {name: number for number, name in enumerate(chain)}
    kept: list[tuple[int, RR]] = []
    first_below: dict[bytes, int] = {}
    for record in answer:
        if record.rclass != IN or len(record.rdata) != _OCTETS.get(record.rtype, len(record.rdata)):
            continue
        number = place.get(record.owner.lower())
        covered = _covered(record)
        if number is not None and (covered in (qtype, CNAME) or qtype in (ANY, record.rtype)):
            if not (leads_home and number == len(chain) - 1 and covered != CNAME):
                kept.append((number, record))
        elif covered == DNAME and len(chain) > 1:
            first_below = first_below or _first_below(chain)
            number = first_below.get(record.owner.lower())
            if number is not None:
                kept.append((number, record))
    kept.sort(key=lambda pair: (pair[0], _covered(pair[1]) != DNAME))
    return _even_ttls([record for _, record in kept])


def _authority(
    authority: Sequence[RR], chain: list[bytes], wants_dnssec: bool, is_negative: bool
) -> list[RR]:
    """Return the SOA of a negative response, and signed proofs if requested."""
    if not authority:  # nearly always
        return []
    records = [record for record in authority[:MAX_AUTHORITY] if record.rclass == IN]
    above = {*chain, *_first_below(chain)}
    proofs = (*_PROOFS, SOA) if is_negative else _PROOFS
    signed = {
        (record.owner.lower(), _covered(record))
        for record in records
        if wants_dnssec and record.rtype == RRSIG and _is_signed_above(record, above)
    }
    kept = []
    for record in records:
        owner, covered = record.owner.lower(), _covered(record)
        if record.rtype == SOA:
            is_wanted = is_negative and owner in above
        else:
            is_wanted = covered in proofs and (owner, covered) in signed
        if is_wanted:
            kept.append(record)
    return _even_ttls(kept)


def _positive(rcode: int, qname: bytes, answer: list[RR], authority: list[RR]) -> Scrubbed:
    answer = _with_ceiling(answer, MAX_POSITIVE)
    authority = _with_ceiling(authority, MAX_POSITIVE)
    ttl = min((record.ttl for record in (*answer, *authority)), default=0)
    return Scrubbed(rcode, messages.encode(qname, answer, authority), ttl, False)


def _negative(
    rcode: int, qname: bytes, answer: list[RR], authority: list[RR], longest: int
) -> Scrubbed:
    """Return a negative response with its TTL (RFC 2308 section 5); 0 without an SOA."""
    soa_ttls = [
        min(record.ttl, int.from_bytes(record.rdata[-4:]))
        for record in authority
        if record.rtype == SOA and len(record.rdata) > _SOA_NUMBERS
    ]
    ttl = min((longest, *soa_ttls)) if soa_ttls else 0
    authority = _with_ceiling(authority, ttl)
    is_final = longest >= MAX_NEGATIVE  # otherwise its CNAMEs may change soon as well
    answer = _with_ceiling(answer, MAX_POSITIVE if is_final else longest)
    body = messages.encode(qname, answer, authority)
    return Scrubbed(rcode, body, min((ttl, *(record.ttl for record in answer))), True)


def _has_type(answer: list[RR], owner: bytes, qtype: int) -> bool:
    """Return whether the end of the chain has records of the type."""
    if qtype == ANY:
        return bool(answer)
    return any(record.rtype == qtype and record.owner.lower() == owner for record in answer)


def _even_ttls(records: list[RR]) -> list[RR]:
    """Set the TTL of each RRset to its lowest one (RFC 2181 section 5.2), without duplicates."""
    if len(records) == 1 and records[0].ttl < NO_AGE:
        return records
    keys = [(record.owner.lower(), _covered(record)) for record in records]
    lowest: dict[tuple[bytes, int], int] = {}
    for key, record in zip(keys, records, strict=True):
        ttl = record.ttl if record.ttl < NO_AGE else 0
        lowest[key] = min(ttl, lowest.get(key, ttl))
    even = (
        record if record.ttl == lowest[key] else record._replace(ttl=lowest[key])
        for key, record in zip(keys, records, strict=True)
    )
    return list(dict.fromkeys(even))


def _with_ceiling(records: list[RR], ceiling: int) -> list[RR]:
    return [r._replace(ttl=ceiling) if r.ttl > ceiling else r for r in records]


def _covered(record: RR) -> int:
    """Return a record's type; for an RRSIG, the type that it covers."""
    if record.rtype == RRSIG and len(record.rdata) > _SIGNER_AT:
        return int.from_bytes(record.rdata[:2])
    return record.rtype


def _is_signed_above(record: RR, above: Container[bytes]) -> bool:
    """Return whether the signer of an RRSIG is a zone above its owner and the chain."""
    zone = _name_at_start(record.rdata[_SIGNER_AT:].lower())
    return zone is not None and zone in above and _is_below(record.owner.lower(), zone)


def _name_at_start(octets: bytes) -> bytes | None:
    at = 0
    while at < len(octets):
        if not octets[at]:
            return octets[: at + 1]
        at += 1 + octets[at]
    return None


def _is_below(name: bytes, apex: bytes) -> bool:
    """Return whether a wire name is at or below another, both in lower case."""
    if not name.endswith(apex):
        return False
    at, start = 0, len(name) - len(apex)
    while at < start:
        at += 1 + name[at]
    return at == start


def _first_below(chain: list[bytes]) -> dict[bytes, int]:
    """Return, for each name above one in a chain, the index of the first one below it."""
    found: dict[bytes, int] = {}
    for number, name in enumerate(chain):
        at = 0
        while name[at]:
            at += 1 + name[at]
            found.setdefault(name[at:], number)
    return found


_PRIVATE4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.168.0.0/16",
    )
)  # fmt: skip
_PRIVATE6 = tuple(IPv6Network(text) for text in ("::/128", "::1/128", "fc00::/7", "fe80::/10"))
# Whether an IPv4 address is in one of them depends on no more than its first two octets.
_PRIVATE4_STARTS = frozenset(
    block.network_address.packed[:2]
    for network in _PRIVATE4
    for block in network.subnets(new_prefix=16)
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052


def _is_private4(octets: bytes) -> bool:
    return octets[:2] in _PRIVATE4_STARTS


def _is_private6(octets: bytes) -> bool:
    if octets[0] >> 5 == GLOBAL_UNICAST:  # nearly always
        return False
    address = IPv6Address(octets)
    inner = address.ipv4_mapped
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    if inner is not None:
        return _is_private4(inner.packed)
    return any(address in network for network in _PRIVATE6)


def _hints(rdata: bytes) -> Iterable[bool]:
    """Yield whether each address hint of an SVCB record is private (RFC 9460 section 7.3)."""
    target = _name_at_start(rdata[2:])
    at = 2 + len(target or b"")
    while at + 4 <= len(rdata):
        key, length = int.from_bytes(rdata[at : at + 2]), int.from_bytes(rdata[at + 2 : at + 4])
        value = rdata[at + 4 : at + 4 + length]
        at += 4 + length
        if key == 4:  # ipv4hint
            for start in range(0, len(value) - 3, 4):
                yield _is_private4(value[start : start + 4])
        elif key == 6:  # ipv6hint
            for start in range(0, len(value) - 15, 16):
                yield _is_private6(value[start : start + 16])

"""Static records in hosts-file form: addresses and names, one line each (hosts(5))."""

from ipaddress import ip_address

from containerdns.core import names
from containerdns.core.policy import Address, Claim, Publication, Rank
from containerdns.errors import BadName


def publications(text: str, path: str, ttl: int) -> tuple[list[Publication], list[str]]:
    """Read a hosts file.

    A dotted name is absolute, a single label a relative name like a container's.

    Args:
        text: The whole file.
        path: Told in the rule, and in the ids.
        ttl: Seconds.

    Returns:
        One publication a name, and what is wrong with which line.
    """
    addresses: dict[str, dict[str, None]] = {}
    faults = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        try:
            address = str(ip_address(fields[0]))
        except ValueError:
            faults.append(f"{path}, line {number}: {fields[0]!r} is no IP address")
            continue
        if len(fields) == 1:
            faults.append(f"{path}, line {number}: no name behind {fields[0]}")
        for field in fields[1:]:
            try:
                owner = _owner(field)
            except BadName as bad:
                faults.append(f"{path}, line {number}: {bad}")
            else:
                addresses.setdefault(owner, {})[address] = None
    return [_publication(o, list(a), path, ttl) for o, a in addresses.items()], faults


def _owner(field: str) -> str:
    name = names.canonical(field)
    if name == names.ROOT or "*" in name or ":" in name or "/" in name:
        raise BadName(field, "no name for a static record")
    return names.relative(field) if names.is_single_label(name) else name


def _publication(owner: str, addresses: list[str], path: str, ttl: int) -> Publication:
    publication_id = f"hosts:{path}:{owner}"
    return Publication(
        id=publication_id,
        container_name="",
        ttl=ttl,
        claims=(Claim(owner, Rank.LABEL, f"hosts file {path}", publication_id),),
        addresses=tuple(Address(text, "", "") for text in addresses),
    )

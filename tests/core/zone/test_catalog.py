"""The catalog zone, read back with a parser that did not write it."""

import dnslib

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.zone import catalog


def read(zones: tuple[str, ...]) -> set[tuple[str, str, str]]:
    """Owner, type and data of each record, as dnslib reads them."""
    records = catalog.records_of(zones, 5)
    body = messages.encode(names.to_wire(catalog.CATALOG), records)
    question = dnslib.DNSRecord.question(catalog.CATALOG, "AXFR").pack()[12:]
    header = bytes((0, 0, 0x84, 0, 0, 1)) + len(records).to_bytes(2) + bytes(4)
    message = dnslib.DNSRecord.parse(header + question + body.octets)
    return {(str(r.rname), dnslib.QTYPE[r.rtype], str(r.rdata)) for r in message.rr}


def test_catalog_has_what_version_2_asks_for() -> None:
    """RFC 9432 sections 4.1 to 4.3: NS invalid., the version, and a PTR for each member."""
    found = read(("docker.", "28.172.in-addr.arpa."))
    assert (catalog.CATALOG, "NS", "invalid.") in found
    assert (f"version.{catalog.CATALOG}", "TXT", '"2"') in found
    members = {owner: data for owner, rtype, data in found if rtype == "PTR"}
    assert sorted(members.values()) == ["28.172.in-addr.arpa.", "docker."]
    assert all(owner.endswith(f".zones.{catalog.CATALOG}") for owner in members)


def test_label_of_a_member_stays_whatever_else_there_is() -> None:
    """RFC 9432 section 5.4: another label resets the state of the member zone."""
    one = {r for r in read(("docker.",)) if r[2] == "docker."}
    assert one < read(("a.example.", "docker.", "z.example."))

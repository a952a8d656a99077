"""Compressed names in the data of records that we pass on (RFC 3597 section 4).

A pointer counts from the start of the upstream's message: in ours it would lead anywhere.
"""

import struct

import pytest

from containerdns.core.protocol import messages
from containerdns.errors import BadMessage

QUESTION = b"\3www\7example\0"
EXAMPLE = b"\7example\0"
POINTER = b"\xc0\x10"  # to "example." in the question
SIG = struct.pack("!HBBIIIH", 1, 8, 2, 300, 2, 1, 7)

# Type, and its data with "{}" where a name stands.
TYPES = {
    "NS": (2, b"{}"), "MD": (3, b"{}"), "MF": (4, b"{}"), "CNAME": (5, b"{}"),
    "SOA": (6, b"{}{}" + bytes(20)), "MB": (7, b"{}"), "MG": (8, b"{}"), "MR": (9, b"{}"),
    "PTR": (12, b"{}"), "MINFO": (14, b"{}{}"), "MX": (15, b"\0\1{}"), "RP": (17, b"{}{}"),
    "AFSDB": (18, b"\0\1{}"), "RT": (21, b"\0\1{}"), "NSAP-PTR": (23, b"{}"),
    "SIG": (24, SIG + b"{}signature"), "PX": (26, b"\0\1{}{}"), "NXT": (30, b"{}\x40\0"),
    "SRV": (33, b"\0\1\0\2\0\3{}"), "NAPTR": (35, b"\0\1\0\2\1S\7SIP+D2U\0{}"),
    "KX": (36, b"\0\1{}"), "DNAME": (39, b"{}"),
}  # fmt: skip


def response(rtype: int, data: bytes) -> bytes:
    header = struct.pack("!HHHHHH", 1, 0x8180, 1, 1, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, 60, len(data)) + data
    return header + QUESTION + struct.pack("!HH", rtype, 1) + record


@pytest.mark.parametrize(("rtype", "form"), TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("name", [POINTER, b"\3www" + POINTER], ids=["whole", "its end"])
def test_a_compressed_name_is_expanded(rtype: int, form: bytes, name: bytes) -> None:
    whole = name.replace(POINTER, EXAMPLE)
    [record] = messages.parse_response(response(rtype, form.replace(b"{}", name))).answer
    assert record.rdata == form.replace(b"{}", whole)
    body = messages.encode(QUESTION, (record,))
    [[again], _, _] = messages.decode(QUESTION, body)
    assert again.rdata == record.rdata


@pytest.mark.parametrize(("rtype", "form"), TYPES.values(), ids=TYPES)
def test_data_that_is_cut_is_malformed(rtype: int, form: bytes) -> None:
    head = form.partition(b"{}")[0]
    for octets in range(len(head) + 1):
        with pytest.raises(BadMessage):
            messages.parse_response(response(rtype, head[:octets]))


def test_data_of_other_types_is_passed_on_as_it_is() -> None:
    [record] = messages.parse_response(response(65280, POINTER)).answer
    assert record.rdata == POINTER


def test_a_response_of_too_many_records_is_malformed() -> None:
    """Each costs some microseconds, and others wait meanwhile."""
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes(4)
    for count in (messages.MAX_RECORDS, messages.MAX_RECORDS + 1):
        header = struct.pack("!HHHHHH", 1, 0x8180, 1, count, 0, 0)
        data = header + QUESTION + b"\0\1\0\1" + record * count
        if count <= messages.MAX_RECORDS:
            assert len(messages.parse_response(data).answer) == count
        else:
            with pytest.raises(BadMessage, match="too many records"):
                messages.parse_response(data)

"""How questions are spelled and compared."""

from hypothesis import given
from hypothesis import strategies as st

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.upstream.questions import Question, is_same, spell

HTTPS = Question("www.3com.example.", 65, False, True, None)


@given(st.binary(min_size=32, max_size=64))
def test_only_letters_change_their_case(randomness: bytes) -> None:
    spelled = spell(HTTPS.wire, randomness)
    assert is_same(spelled, HTTPS.wire)
    assert spelled[-4:] == HTTPS.wire[-4:]
    assert names.from_wire(spelled[:-4]) == HTTPS.name


def test_every_letter_can_change() -> None:
    assert spell(HTTPS.wire, b"\xff" * 32)[:-4] == b"\3WWW\0043COM\7EXAMPLE\0"


def test_type_is_compared_octet_by_octet() -> None:
    """The type 65 is an "A" and 97 an "a"."""
    assert not is_same(HTTPS.wire, HTTPS._replace(qtype=97).wire)


def test_ad_and_cd_are_asked_for_as_the_client_does() -> None:
    """PowerDNS Recursor validates for those who ask: the others get an answer that is bogus."""
    assert HTTPS.flags == messages.RD | messages.CD
    unset = HTTPS._replace(checking_disabled=False)
    assert unset.flags == messages.RD
    assert unset._replace(wants_ad=True).flags == messages.RD | messages.AD
    assert unset._replace(wants_dnssec=True).flags == messages.RD | messages.AD

"""Signed queries (RFC 8945) for what an upstream answers, as dig sends them."""

import asyncio
import base64

import pytest

from containerdns.core import names
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR
from containerdns.core.protocol.tsig import Key
from containerdns.core.upstream.forwarding import Resolution
from tests.server.serving import Served, serving

KEY = Key("client.example.", "hmac-sha256.", b"0123456789abcdef0123456789abcdef")
SECRET = base64.b64encode(KEY.secret).decode()
NAME = "forward.example."


async def dig(served: Served, *words: str, secret: str = SECRET) -> str:
    """What dig prints; it says so where it cannot verify the response's signature."""
    host, port = served.address
    asking = await asyncio.create_subprocess_exec(
        "dig", f"@{host}", "-p", str(port), "-y", f"hmac-sha256:{KEY.name}:{secret}",
        "+tries=1", "+retry=0", "+timeout=20", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asking.communicate()
    return output.decode()


def assert_is_signed(output: str) -> None:
    assert "TSIG PSEUDOSECTION" in output, output
    assert "verify" not in output, output
    assert "not be validated" not in output, output
    assert "NOERROR 0" in output.partition("TSIG PSEUDOSECTION")[2], output


@pytest.mark.parametrize("is_known", [True, False], ids=["from the cache", "asked"])
@pytest.mark.parametrize("proto", ["+notcp", "+tcp"])
async def test_forwarded_answer_to_a_signed_query_is_signed(proto: str, is_known: bool) -> None:
    async with serving(keys=(KEY,)) as served:
        if is_known:
            served.forwarder.known = Resolution(0, source="cache", upstream="192.0.2.53")
        output = await dig(served, proto, NAME)
        assert_is_signed(output)
        assert served.forwarder.resolved == ([] if is_known else [NAME])


@pytest.mark.parametrize(
    ("count", "proto"),
    [(20, "+notcp"), (28, "+notcp"), (28, "+tcp")],
    ids=["fits", "too long with its signature", "over TCP"],
)
async def test_signed_answer_that_is_too_long_for_udp_comes_over_tcp(
    count: int, proto: str
) -> None:
    owner = names.to_wire(NAME)
    text = b"\x1c" + b"x" * 28
    body = messages.encode(owner, [RR(owner, messages.TXT, 1, 5, text)] * count)
    async with serving(keys=(KEY,)) as served:
        served.forwarder.known = Resolution(0, body, source="cache")
        output = await dig(served, "TXT", "+bufsize=1232", "+ignore", proto, NAME)
        assert_is_signed(output)
        has_room = count == 20 or proto == "+tcp"
        assert ("flags: qr tc" in output) is not has_room
        assert f"ANSWER: {count if has_room else 0}," in output, output
        assert has_room or "OPT PSEUDOSECTION" in output


async def test_query_of_a_wrong_signature_is_not_forwarded() -> None:
    async with serving(keys=(KEY,)) as served:
        output = await dig(served, NAME, secret=base64.b64encode(b"wrong").decode())
        assert "NOTAUTH" in output
        assert served.forwarder.resolved == []

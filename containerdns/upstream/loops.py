"""Whether an upstream is this server itself, or leads back to it.

It is queried for a name that only we know, below a top-level domain of random digits, as by
CoreDNS's plugin `loop`.  If the response is our own answer, the server leads back to us; no
response, or any other, proves nothing.

A resolver may also forward only single labels to us (dnsmasq's `server=//`, in a Pi-hole), and be
an upstream for everything else; a random single label shows that.
"""

import ipaddress
import secrets
from collections.abc import Iterable

from containerdns.config.machine import has_address
from containerdns.core import names
from containerdns.core.endpoints import Endpoint, UpstreamServer
from containerdns.core.protocol import messages
from containerdns.core.protocol.messages import RR, Response
from containerdns.core.upstream.forwarding import Forward, Resolution
from containerdns.core.upstream.questions import Question

TOKEN_OCTETS = 8  # cannot be guessed


class Loops:
    """The name that only we know, and our answer."""

    def __init__(self, token: str = "") -> None:
        """Choose a name.

        Args:
            token: Shared by several processes on one socket; "" for a random one.
        """
        self._token = token or secrets.token_hex(TOKEN_OCTETS)
        self._apex = f"loop-{self._token}."
        text = f"containerdns loop {self._token}".encode()
        self._data = bytes([len(text)]) + text
        self._target = names.to_wire(self._apex)

    def probe(self) -> Question:
        """Return a question that no cache has seen."""
        name = f"{secrets.token_hex(TOKEN_OCTETS)}.{self._apex}"
        return Question(name, messages.TXT, False, False, None)

    def label_probe(self) -> Question:
        """Return a question for a single label, which returns from servers that ask us for those.

        Its type is forwarded even for single labels, so that the forwarder answers it.
        """
        return Question(
            f"{secrets.token_hex(TOKEN_OCTETS)}-{self._apex}", messages.NS, False, False, None
        )

    def is_probe(self, name: str) -> bool:
        """Return whether a received question is one of our probes."""
        return name.endswith(self._apex)

    def is_loop(self, response: Response) -> bool:
        """Return whether a response is our own answer."""
        return any(record.rdata in (self._data, self._target) for record in response.answer)

    def answer(self, forward: Forward) -> Resolution:
        """Answer a probe, so that its sender detects the loop."""
        owner = names.to_wire(forward.name)
        data = self._target if forward.qtype == messages.NS else self._data
        rtype = messages.NS if forward.qtype == messages.NS else messages.TXT
        record = RR(owner, rtype, messages.IN, 0, data)
        body = messages.encode(owner, (record,))
        return Resolution(messages.NOERROR, body, source="policy", reason="a probe of ours: a loop")


def is_own_address(server: UpstreamServer, listening: Iterable[Endpoint]) -> bool:
    """Return whether an upstream's address is one that we listen on."""
    if server.transport != "udp":
        return False
    address = ipaddress.ip_address(server.host)
    for endpoint in listening:
        own = ipaddress.ip_address(endpoint.host)
        if endpoint.port != server.port or own.version != address.version:
            continue
        if own == address or (own.is_unspecified and has_address(server.host)):
            return True
    return False

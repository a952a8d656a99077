"""A scripted upstream: what it says, and in which way it is wrong, is up to the test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from dnslib import QTYPE, RCODE, RR, DNSHeader, DNSRecord

Reply = bytes | list[bytes] | None
Script = Callable[[DNSRecord, str], Reply]


@dataclass
class FakeUpstream:
    """A server on loopback, over UDP and TCP.

    Attributes:
        script: Of a query and "udp" or "tcp", what is sent back.
        port: Where it listens.
        asked: Every query that came, with its protocol.
        peers: The addresses that queries came from over UDP.
    """

    script: Script
    port: int = 0
    asked: list[tuple[DNSRecord, str]] = field(default_factory=list)
    peers: list[tuple[str, int]] = field(default_factory=list)
    connections: int = 0
    transport: asyncio.DatagramTransport = field(init=False)

    @property
    def names(self) -> list[str]:
        """The names asked for, lower case."""
        return [str(query.q.qname).lower() for query, _ in self.asked]

    def replies(self, data: bytes, proto: str) -> list[bytes]:
        query = DNSRecord.parse(data)
        self.asked.append((query, proto))
        reply = self.script(query, proto)
        if reply is None:
            return []
        return reply if isinstance(reply, list) else [reply]


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, fake: FakeUpstream) -> None:
        self.fake = fake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.fake.peers.append(addr)
        for reply in self.fake.replies(data, "udp"):
            self.transport.sendto(reply, addr)


@asynccontextmanager
async def upstream(
    script: Script, *, has_tcp: bool = True, port: int = 0, host: str = "127.0.0.1"
) -> AsyncIterator[FakeUpstream]:
    """Run a scripted upstream on a port of loopback, the same for UDP and TCP."""
    fake = FakeUpstream(script)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fake.connections += 1
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2))
                for reply in fake.replies(await reader.readexactly(length), "tcp"):
                    writer.write(len(reply).to_bytes(2) + reply)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, host, port)
    fake.port = server.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Udp(fake), local_addr=(host, fake.port), family=socket.AF_INET
    )
    fake.transport = transport
    if not has_tcp:
        server.close()
    try:
        yield fake
    finally:
        transport.close()
        server.close()


def answer(query: DNSRecord, *zone: str, rcode: str = "NOERROR", auth: str = "") -> bytes:
    """Answer a query with records in zone-file text; `@` is the name asked for."""
    header = DNSHeader(id=query.header.id, qr=1, rd=1, ra=1, q=1)
    reply = DNSRecord(header, q=query.q)
    reply.header.rcode = getattr(RCODE, rcode)
    name = str(query.q.qname)
    for text in zone:
        reply.add_answer(*RR.fromZone(text.replace("@", name)))
    if auth:
        reply.add_auth(*RR.fromZone(auth.replace("@", name)))
    return bytes(reply.pack())


def truncated(query: DNSRecord) -> bytes:
    """Respond that the answer is too long for UDP."""
    reply = DNSRecord(DNSHeader(id=query.header.id, qr=1, tc=1, rd=1, ra=1), q=query.q)
    return bytes(reply.pack())


def qtype(query: DNSRecord) -> str:
    """The mnemonic of the type asked for."""
    return str(QTYPE[query.q.qtype])

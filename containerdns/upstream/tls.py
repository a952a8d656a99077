"""TLS to an upstream, without its socket: octets go in and out.

asyncio's own TLS serves any protocol.  Each pass of the event loop in which something is sent
and received costs it about 30 us more than this, which is as much as a few questions.

An error after the handshake ends the connection as its regular end does: what was waiting on it
is asked again.
"""

import contextlib
import ssl
from typing import Final

MAX_RECORD: Final = 1 << 14  # octets, RFC 8446 section 5.1

Octets = bytes | memoryview


def client_context(protocol: str) -> ssl.SSLContext:
    """Return a context that verifies certificates; slow, as it reads all authorities.

    Args:
        protocol: To negotiate (ALPN): "dot" or "h2".
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # so that writing never has to wait for reading
    context.set_alpn_protocols([protocol])
    return context


class TLSClient:
    """The client's end of one connection.

    After each call, what `output` returns has to be sent.

    Attributes:
        is_established: The handshake is done, and the certificate is good.
        is_over: The server has ended the connection, or broken the protocol.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        """Initialise; `begin` starts the handshake.

        Args:
            context: See `client_context`.
            server_name: Sent to the server, and expected in its certificate.
        """
        self.is_established = False
        self.is_over = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    def begin(self) -> None:
        """Start the handshake."""
        self._shake_hands()

    def receive(self, data: Octets) -> bytes:
        """Decrypt what arrived, all of it but the last record if that is incomplete.

        Raises:
            ssl.SSLError: The handshake failed.
        """
        self._incoming.write(data)
        if not self.is_established:
            self._shake_hands()
        return self._read() if self.is_established else b""

    def send(self, data: bytes) -> None:
        """Encrypt."""
        try:
            self._tls.write(data)  # all of it, as memory always has room
        except ssl.SSLError:
            self.is_over = True

    def end(self) -> None:
        """Announce that nothing more is sent, unless that was done."""
        with contextlib.suppress(ssl.SSLError):  # nearly always: the server has not yet
            self._tls.unwrap()

    def output(self) -> bytes:
        """Return what has to be sent, once; b"" for nothing."""
        return self._outgoing.read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.is_established = True

    def _read(self) -> bytes:
        incoming, read, records = self._incoming, self._tls.read, []
        try:
            while incoming.pending:
                record = read(MAX_RECORD)
                if not record:
                    self.is_over = True
                    self.end()
                    break
                records.append(record)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.is_over = True
        return b"".join(records)

"""The errors that are expected, each named after its cause.

Any other exception is an internal error: SERVFAIL for one client, a traceback in the log,
and a count in `dns_internal_errors_total`.
"""


class ContainerDNSError(Exception):
    """The base class of all of them."""


class BadSettings(ContainerDNSError):
    """A setting is invalid; the operator has to correct it."""

    def __init__(self, option: str, value: str, expected: str) -> None:
        super().__init__(f"{option}={value!r}: expected {expected}")
        self.option = option
        self.value = value
        self.expected = expected


class BadName(ContainerDNSError):
    """A text is not a domain name; a container, a label or a setting has to be corrected."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{text!r}: {reason}")
        self.text = text
        self.reason = reason


class BadDocument(ContainerDNSError):
    """An Engine sent a document that cannot be parsed; the object is skipped."""

    def __init__(self, document_id: str, field: str) -> None:
        super().__init__(f"{document_id}: cannot read {field}")
        self.document_id = document_id
        self.field = field


class BadMessage(ContainerDNSError):
    """A DNS message violates the protocol."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EngineUnavailable(ContainerDNSError):
    """An Engine is unreachable, closed the connection or refused; its last known zone is kept.

    Attributes:
        cause: A message for the log.
        status: The HTTP status of a refusal; 0 if there was no response.
    """

    def __init__(self, cause: str, status: int = 0) -> None:
        super().__init__(cause)
        self.cause = cause
        self.status = status


class FleetUnavailable(ContainerDNSError):
    """The etcd of the fleet cannot be reached, or refuses; its last known zone is kept."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class FleetRefused(FleetUnavailable):
    """The etcd of the fleet answers, but does not let this server write."""


class CannotListen(ContainerDNSError):
    """An address cannot be bound."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address
        self.reason = reason


class ServerUnreachable(ContainerDNSError):
    """The running server that a command needs does not answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot ask {url}: {reason}")
        self.url = url
        self.reason = reason


class QuestionRefused(ServerUnreachable):
    """A running server rejected the question, such as an invalid name."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.args = (reason,)

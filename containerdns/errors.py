"""The faults we name, each by who is at fault.

Whatever is not here is a fault of ours: it becomes SERVFAIL for one client, a
traceback in the log and a count in `dns_internal_errors_total`.
"""


class ContainerDNSError(Exception):
    """The base of every fault that we name."""


class BadSettings(ContainerDNSError):
    """A setting cannot be used; the fault is the operator's."""

    def __init__(self, option: str, value: str, expected: str) -> None:
        super().__init__(f"{option}={value!r}: expected {expected}")
        self.option = option
        self.value = value
        self.expected = expected


class BadName(ContainerDNSError):
    """A text is no domain name; the fault is the author's of a container or a label."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{text!r}: {reason}")
        self.text = text
        self.reason = reason


class BadDocument(ContainerDNSError):
    """An Engine sent a document that we cannot read; that object is skipped."""

    def __init__(self, document_id: str, field: str) -> None:
        super().__init__(f"{document_id}: cannot read {field}")
        self.document_id = document_id
        self.field = field


class BadMessage(ContainerDNSError):
    """A DNS message breaks the protocol; the fault is the sender's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class EngineUnavailable(ContainerDNSError):
    """An Engine cannot be reached, broke off or refused; the last zone stands.

    Attributes:
        cause: In words, for the log.
        status: The HTTP status of a refusal; 0 if there was no response.
    """

    def __init__(self, cause: str, status: int = 0) -> None:
        super().__init__(cause)
        self.cause = cause
        self.status = status


class UpstreamFailed(ContainerDNSError):
    """An upstream gave no usable response; the next one is asked."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(f"{server}: {reason}")
        self.server = server
        self.reason = reason


class FleetUnavailable(ContainerDNSError):
    """The etcd of the fleet cannot be reached, or refuses; the last zone stands."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class CannotListen(ContainerDNSError):
    """An address cannot be bound; the fault is the environment's."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address
        self.reason = reason


class ServerUnreachable(ContainerDNSError):
    """A running server that a command wants to ask does not answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"cannot ask {url}: {reason}")
        self.url = url
        self.reason = reason


class QuestionRefused(ServerUnreachable):
    """A running server cannot answer this question; the fault is of who asked."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.args = (reason,)

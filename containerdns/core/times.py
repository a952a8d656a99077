"""Times as texts."""

from datetime import UTC, datetime


def rfc3339(moment: float, timespec: str = "seconds") -> str:
    """Return a time in seconds since the epoch as RFC 3339 has it, in UTC.

    Args:
        moment: The time.
        timespec: What it is cut to: "seconds" or "milliseconds".
    """
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")

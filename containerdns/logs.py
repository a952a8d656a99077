"""Log formats: lines for people, or JSON objects for log collectors."""

import asyncio
import json
import logging
import sys
import time
from typing import Any

from containerdns.core.counters import Counters
from containerdns.core.times import rfc3339

EXHAUSTED_EVERY = 60.0  # seconds between messages about the same shortage
TEXT = "%(asctime)s %(levelname)s %(message)s"
OWN = frozenset({"time", "level", "logger", "message", "traceback"})  # keys of every line

log = logging.getLogger(__name__)


class JSONLines(logging.Formatter):
    """One JSON object per line: time (RFC 3339), level, logger, message and any traceback.

    What a line is logged with as `extra={"fields": {...}}` is in the object as well, so that
    collectors need not take the message apart.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        document = {
            "time": rfc3339(record.created, "milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", {})
        document |= {key: value for key, value in fields.items() if key not in OWN}
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


class _TextLines(logging.Formatter):
    """One line per record, with its time as RFC 3339 in UTC.

    Control characters that others chose cannot break it.
    """

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the record's time."""
        return rfc3339(record.created, "milliseconds")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Format the line, with control characters replaced."""
        line = super().formatMessage(record)
        return "".join(c if c.isprintable() else "?" for c in line)


def configure(level: str, form: str) -> None:
    """Log records of a level and above to standard error.

    Args:
        level: "debug", "info", "warning" or "error".
        form: "text" or "json".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines() if form == "json" else _TextLines(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("urllib3", "docker", "asyncio", "aiohttp"):  # keep their debug messages out
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


class LoopFaults:
    """Handles errors of the event loop, without filling the disk with log lines.

    When descriptors run out, asyncio logs every waiting connection, a hundred at a time and
    again a second later, each with a traceback; the operator needs one line.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._told_at = -EXHAUSTED_EVERY

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle a context of `loop.call_exception_handler`."""
        if not str(context.get("message", "")).startswith("socket.accept() out of"):
            error = context.get("exception")
            self._counters.internal_errors += error is not None and not isinstance(error, OSError)
            loop.default_exception_handler(context)
            return
        if (now := time.monotonic()) - self._told_at >= EXHAUSTED_EVERY:
            self._told_at = now
            log.warning(
                "cannot accept TCP connections: %s; raise the limit (ulimit -n, LimitNOFILE)",
                getattr(context.get("exception"), "strerror", None) or "out of file descriptors",
            )

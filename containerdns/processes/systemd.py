"""Notifications to systemd (sd_notify(3)); without systemd, nothing happens."""

import os
import socket


def notify(state: str) -> None:
    """Send a state such as "READY=1" to the supervisor's socket, if there is one.

    Errors are ignored: a supervisor that does not listen is no reason to stop.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.sendto(state.encode(), address)
    except OSError:
        return


def watchdog_interval() -> float | None:
    """Return the seconds between watchdog notifications, half the timeout; None if disabled."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(
        os.getpid()
    ):
        return None
    return int(microseconds) / 2_000_000

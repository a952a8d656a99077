"""Shares of the file descriptors of a process, so that no part uses them all.

DNS over TCP, HTTP, and the ports from which upstreams are asked have a share each; what
is left is for listening sockets, Engines, files, and TCP to upstreams.
"""

from typing import Final

SHARES: Final = 4  # three that are assigned, and the reserve


def share_of(descriptors: int) -> int:
    """Return how many of the process's descriptors one part may use."""
    return max(descriptors // SHARES, 1)

"""How the file descriptors of a process are shared out, so that no part takes them all.

DNS over TCP, HTTP, and the ports from which upstreams are asked have a share each; what
is left is for listening sockets, Engines, files, and TCP to upstreams.
"""

from typing import Final

SHARES: Final = 4  # three that are given away, and the reserve


def share_of(descriptors: int) -> int:
    """Return how many descriptors one part may use, of all that the process may open."""
    return max(descriptors // SHARES, 1)

"""A network namespace for the process that runs tests; it ends with its last process.

Two private Engines in one namespace take each other's chains of iptables away whenever one starts.
In a namespace of its own each test process has all ports, addresses and rules to itself, too, and
the machine's are not touched.
"""

import ctypes
import os
import shutil
import subprocess
import threading

CLONE_NEWNET = 0x40000000  # unshare(2)
ADDRESS = "192.168.251.2/24"  # the machine's main address, as the tests see it
_outside: list[int] = []  # the namespace that we came from, open


def enter() -> None:
    """Leave the machine's namespace, if this process may; threads of today stay there.

    What is sent to the way out, a device whose other end hears nothing, is lost.
    """
    assert threading.current_thread() is threading.main_thread()
    if _outside or os.geteuid() != 0 or shutil.which("ip") is None:
        return
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        os.close(outside)
        return
    _outside.append(outside)
    for command in (
        "link set lo up",
        "link add outside type veth peer name nowhere",
        "link set outside arp off up",
        "link set nowhere arp off up",
        f"addr add {ADDRESS} dev outside",
        "route add default dev outside",
    ):
        subprocess.run(["ip", *command.split()], check=True)


def is_own() -> bool:
    """Return whether this process has a network namespace of its own."""
    return bool(_outside)


def run_outside(command: list[str]) -> None:
    """Run a command in the machine's namespace, where other machines can be reached.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    entering = [word for fd in _outside for word in ("nsenter", f"--net=/proc/self/fd/{fd}")]
    subprocess.run([*entering, *command], check=True, pass_fds=_outside)

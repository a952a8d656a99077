"""Assemble the root of the image: the interpreter, its libraries, and containerdns.

Runs in the build stage, with the Python that the image gets.  Everything keeps its path,
so that nothing has to be told where it is.
"""

import os
import py_compile
import re
import shutil
import ssl
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
WHEELS = SOURCE / "wheels"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
USER = 65532  # "nonroot" of other images of this kind

# What a server never imports; half of the standard library's size.
UNUSED = (
    *("__pycache__", "site-packages", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data"),
    *("test", "tests", "_test*", "_ctypes_test*", "tkinter", "_tkinter*", "turtledemo"),
    *("curses", "_curses*", "dbm", "_dbm*", "_gdbm*", "nis*", "readline*", "sqlite3", "_sqlite3*"),
    *("distutils", "unittest", "doctest.py", "turtle.py", "xmlrpc", "_codecs_*"),
)

# struct vfs_cap_data of revision 2, linux/capability.h: CAP_NET_BIND_SERVICE (10), permitted
# and effective, so that port 53 can be bound by a user who is not root.
NET_BIND_SERVICE = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)


def main(root: Path, state: Path) -> None:
    """Fill an empty folder with all that the image holds, and make the one of its user.

    Args:
        root: Becomes the image's root, and belongs to root.
        state: Becomes /var/lib/containerdns.  It is copied by itself, to a place that does not
            exist before: COPY --chown leaves the owner of a folder that is there already.
    """
    packages = Path(sysconfig.get_path("purelib"))
    install(root / packages.relative_to("/"))
    copy_interpreter(root)
    copy_libraries(root)
    write_etc(root)
    write_command(root)
    compile_all(root)
    os.setxattr(root / _relative(_interpreter()), "security.capability", NET_BIND_SERVICE)
    state.mkdir()


def install(packages: Path) -> None:
    """Install the locked dependencies and containerdns into the image's site-packages."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--no-compile"]
    pip += ["--root-user-action=ignore", "--disable-pip-version-check", "--target", str(packages)]
    wheels = list(WHEELS.glob("*.whl"))
    where = ["--no-index", "--find-links", str(WHEELS)] if wheels else []
    requirements = ["--require-hashes", "-r", str(SOURCE / "requirements.txt")]
    subprocess.run([*pip, *where, *requirements], check=True)
    shutil.rmtree(packages / "bin")  # commands of dependencies, which the next step would warn of
    own = [str(wheel) for wheel in WHEELS.glob("containerdns-*.whl")] or [str(SOURCE)]
    subprocess.run([*pip, *where, "--no-deps", *own], check=True)
    shutil.rmtree(packages / "bin")


def copy_interpreter(root: Path, unused: Sequence[str] = UNUSED) -> None:
    """Copy the interpreter and its standard library, except the parts that are not used."""
    interpreter = _interpreter()
    target = root / _relative(interpreter)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(interpreter, target)
    for library in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        shutil.copytree(
            library,
            root / _relative(Path(library)),
            ignore=shutil.ignore_patterns(*unused),
            dirs_exist_ok=True,
        )


def copy_libraries(root: Path) -> None:
    """Copy every shared library that something in the image needs, and the loader."""
    needing = [root / _relative(_interpreter()), *root.rglob("*.so"), *root.rglob("*.so.*")]
    for library in sorted(set(_needed(needing))):
        target = root / _relative(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy2(library.resolve(), target)


def _needed(binaries: Iterable[Path]) -> Iterable[Path]:
    """What the loader would load, and the loader itself (ld.so(8), --list)."""
    loader = _loader()
    for binary in binaries:
        listed = subprocess.run(
            [loader, "--list", str(binary)], capture_output=True, text=True, check=False
        ).stdout
        yield from map(Path, re.findall(r"(/\S+)(?= =>| \(0x)", listed))


def _loader() -> str:
    """The dynamic loader of the interpreter that runs this, glibc's or musl's."""
    maps = Path("/proc/self/maps").read_text()
    found = re.search(r"/\S*/ld-(?:linux|musl)\S*", maps)
    assert found, "the interpreter is linked statically"
    return found[0]


def write_etc(root: Path) -> None:
    """Write the user, and copy the certificates that DNS over TLS is checked with."""
    etc = root / "etc"
    etc.mkdir(exist_ok=True)
    user = f"containerdns:x:{USER}:{USER}:containerdns:/var/lib/containerdns:/sbin/nologin\n"
    (etc / "passwd").write_text(f"root:x:0:0:root:/:/sbin/nologin\n{user}")
    (etc / "group").write_text(f"root:x:0:\ncontainerdns:x:{USER}:\n")
    (root / "var/lib").mkdir(parents=True)
    known = ssl.get_default_verify_paths().cafile
    for found in (CERTIFICATES, Path(known) if known else CERTIFICATES):
        if found.is_file():
            target = root / _relative(CERTIFICATES)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, target)
            return


def write_command(root: Path) -> None:
    """Write the command; its interpreter is run without what the environment says of Python."""
    command = root / "usr/bin/containerdns"
    command.parent.mkdir(parents=True, exist_ok=True)
    command.write_text(
        f"#!{_interpreter()} -I\nfrom containerdns.commands.cli import main\n\nmain()\n"
    )
    command.chmod(0o755)


def compile_all(root: Path) -> None:
    """Compile every module; the image is read-only, so that source and bytes cannot part."""
    for module in root.rglob("*.py"):
        py_compile.compile(
            str(module),
            dfile=f"/{module.relative_to(root)}",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _interpreter() -> Path:
    return Path(sys.executable).resolve()


def _relative(path: Path) -> Path:
    return path.relative_to("/")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

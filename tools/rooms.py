"""The rooms of the package, and which one imports which, as a Mermaid diagram.

Arrows that follow from others are left out, so that the diagram stays readable.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "containerdns"
APP = "app"  # the only top-level module drawn; the others are leaves

Graph = Mapping[str, frozenset[str]]  # for each room (a folder or `app`), the rooms that it imports


def imports() -> Graph:
    """Return which rooms each room imports."""
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} | {APP}
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if room in rooms:
            found[room] |= {name for name in _imported(path) if name in rooms - {room}}
    return {room: frozenset(imported) for room, imported in found.items()}


def _imported(path: Path) -> Iterator[str]:
    """Yield the part after the package's name in each import of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                package, *parts = f"{node.module}.{alias.name}".split(".")
                if package == PACKAGE.name:
                    yield parts[0]


def reached(graph: Graph, room: str) -> frozenset[str]:
    """Return all rooms that a room imports, directly or indirectly."""
    found: set[str] = set()
    waiting = list(graph[room])
    while waiting:
        if (other := waiting.pop()) not in found:
            found.add(other)
            waiting += graph[other]
    return frozenset(found)


def diagram() -> Iterator[str]:
    """Yield the lines of the diagram."""
    graph = imports()
    yield "```mermaid"
    yield "graph TD"
    for room in sorted(graph):
        implied = frozenset[str]().union(*(reached(graph, other) for other in graph[room]))
        yield from (f"    {room} --> {other}" for other in sorted(graph[room] - implied))
    yield "```"

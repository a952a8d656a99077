"""The layers that ARCHITECTURE.md promises, held by looking at what every module imports."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tools import rooms

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "containerdns"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}
ROOMS = ("engine", "fleet", "server", "upstream", "web")

# What core may use of the standard library: none of it waits, reads or remembers.
COMPUTES = frozenset(
    {
        *("base64", "binascii", "collections", "dataclasses", "datetime", "enum", "functools"),
        *(
            "bisect",
            "difflib",
            "hashlib",
            "heapq",
            "hmac",
            "ipaddress",
            "itertools",
            "operator",
            "re",
            "struct",
            "sys",
            "typing",
            "weakref",
        ),
    }
)
# What those modules still have of the outside.
OUTSIDE = frozenset(
    {
        *("datetime.now", "datetime.today", "datetime.utcnow", "date.today"),
        *("sys.argv", "sys.stdin", "sys.stdout", "sys.stderr", "sys.exit", "sys.modules"),
        *("open", "print", "input", "breakpoint", "__import__"),
    }
)
DOORS = {  # modules, or whole rooms
    "aiohttp": (
        "containerdns.web",
        "containerdns.engine.transport",
        "containerdns.fleet.etcd",
    ),
    "click": ("containerdns.commands",),
    "docker": ("containerdns.config.docker_context",),
    "dnslib": ("containerdns.core.protocol.messages",),
    "h2": ("containerdns.upstream.https",),
    "prometheus_client": ("containerdns.web.metrics",),
    "publicsuffixlist": ("containerdns.config.top_level_domains",),
    "yarl": ("containerdns.engine.transport",),  # the URLs of aiohttp
}


def imports_of(module: str) -> set[str]:
    """The modules that a module imports, wherever in it; of ours the full names."""
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(source), names=names, level=0):
                inner = {f"{source}.{alias.name}" for alias in names} & MODULES.keys()
                found.update(inner or {source})
            case ast.ImportFrom():
                found.add("a relative import")
    return found


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _in(room: str) -> list[str]:
    return [module for module in MODULES if module.startswith(f"containerdns.{room}.")]


def _dotted(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        yield f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("module", _in("core"))
def test_core_imports_only_what_computes(module: str) -> None:
    ours = {"containerdns.errors", *_in("core")}
    third = {package for package, doors in DOORS.items() if module in doors}
    for imported in imports_of(module):
        assert imported in ours or imported.partition(".")[0] in COMPUTES | third, imported


@pytest.mark.parametrize("module", _in("core"))
def test_core_neither_waits_nor_asks_the_machine(module: str) -> None:
    for node in ast.walk(_tree(module)):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), "core has no async"
        assert not OUTSIDE & set(_dotted(node)), f"line {getattr(node, 'lineno', 0)}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_core_settings_and_turns_but_no_other_room(room: str) -> None:
    known = ("containerdns.core.", f"containerdns.{room}.")
    shared = ("files", "groups", "machine", "port_holders", "values")
    settings = {f"containerdns.config.{name}" for name in shared}
    below = (
        "event_loop",
        "later",
        "many_datagrams",
        "own_task",
        "threads",
        "turns",
        "udp_segmentation",
    )
    tasks = {f"containerdns.tasks.{name}" for name in below}
    plain = {"containerdns.errors", *tasks, *settings}
    for module in _in(room):
        ours = {name for name in imports_of(module) if name.startswith("containerdns")}
        strangers = {name for name in ours - plain if not name.startswith(known)}
        assert not strangers, f"{module} imports {strangers}"


FLOORS = (  # each may import those before it; those of one floor do not import each other
    {"core"},
    {"config", "tasks"},
    {"engine", "fleet", "server", "upstream", "web"},
    {"state"},
    {"processes"},
    {"app"},
    {"commands"},
)


def test_every_room_imports_lower_floors_only() -> None:
    graph = rooms.imports()
    assert set().union(*FLOORS) == set(graph)
    below: set[str] = set()
    for floor in FLOORS:
        for room in floor:
            assert graph[room] <= below, f"{room} imports {set(graph[room]) - below}"
        below |= floor


@pytest.mark.parametrize(("package", "doors"), DOORS.items(), ids=list(DOORS))
def test_a_third_party_package_has_its_door(package: str, doors: tuple[str, ...]) -> None:
    users = {module for module in MODULES if package in _packages(module)}
    assert users, f"nobody uses {package}"
    assert {u for u in users if u not in doors and u.rpartition(".")[0] not in doors} == set()


def _packages(module: str) -> set[str]:
    """The first parts of imports; of data packages, the names that resources are read by."""
    named = {
        node.value
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Constant) and node.value == "publicsuffixlist"
    }
    return {name.partition(".")[0] for name in imports_of(module)} | named


def test_every_third_party_package_has_a_door() -> None:
    for module in MODULES:
        foreign = _packages(module) - set(sys.stdlib_module_names) - {"containerdns"}
        assert foreign <= DOORS.keys(), module


def test_nobody_imports_in_a_circle() -> None:
    graph = {m: {i for i in imports_of(m) if i in MODULES and i != m} for m in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_code_stands_in_a_package_file() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert all(isinstance(node, ast.Expr) for node in body), path


def test_nobody_hides_behind_a_name_that_says_nothing() -> None:
    vague = {"base", "common", "helpers", "manager", "misc", "util", "utils"}
    assert not vague & {module.rpartition(".")[2] for module in MODULES}

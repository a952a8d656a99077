"""ARCHITECTURE.md, compared with the code that it describes."""

import re
import subprocess
import sys
from pathlib import Path

from containerdns import errors
from tools import documents

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "containerdns"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PARTS_OF_CORE = ("connections", "protocol", "upstream", "zone")
READING_SPEED = 240  # words a minute


def modules() -> set[str]:
    """All modules, as the tables name them: "core/names"."""
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {path.as_posix() for path in paths if path.name != "__init__"}


def section(title: str) -> str:
    """The text below a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def first_cells(text: str) -> list[str]:
    """What stands in backquotes in the first column of tables."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def test_every_module_is_in_the_tables_once_and_no_other() -> None:
    listed = first_cells(section("The rooms"))
    assert sorted(listed) == sorted(modules())


def test_every_module_that_the_text_names_exists() -> None:
    rooms = "commands|config|core|engine|fleet|processes|server|state|tasks|upstream|web"
    named = set(re.findall(rf"\b((?:{rooms})(?:/[a-z_]+)+)\b", TEXT)) - {
        "web/static",
        *(f"core/{part}" for part in PARTS_OF_CORE),
    }
    assert named <= modules()


def test_every_named_fault_is_in_the_table_and_no_other() -> None:
    kinds = {kind.__name__ for kind in errors.ContainerDNSError.__subclasses__()}
    assert set(first_cells(section("Errors"))) == kinds


def test_picture_of_the_rooms_is_that_of_the_imports() -> None:
    assert documents.architecture_page() == TEXT


def test_it_is_a_ten_minute_read() -> None:
    words = [word for word in TEXT.split() if any(map(str.isalnum, word))]  # no table borders
    assert len(words) < 10 * READING_SPEED


def test_all_modules_are_imported_without_a_warning() -> None:
    """A tool that imports `containerdns.__main__` must not run the program, either."""
    names = (f"import containerdns.{name.replace('/', '.')}" for name in sorted(modules()))
    command = [sys.executable, "-W", "error", "-c", "\n".join(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

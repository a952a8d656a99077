"""Documentation pages, read: their blocks of code, and the commands in those."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]))


class Block(NamedTuple):
    """A fenced block of code.

    Attributes:
        page: Its path in the repository.
        line: Of the fence that opens it, from 1.
        language: Behind the fence.
        text: What stands in it.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[str]:
        """The commands, one a line; of a console block those behind the prompt."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if self.language == "console" and not line.startswith("$ "):
                continue
            command = without_comment(line.removeprefix("$ "))
            if command:
                yield command

    def transcript(self) -> Iterator[tuple[str, str]]:
        """Of a console block, each command and what it prints."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield without_comment(command), printed


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in some languages."""
    return [block for page in PAGES for block in _blocks(page) if block.language in languages]


def spans() -> Iterator[tuple[str, str]]:
    """The pieces of code within the text of all pages, each with its page."""
    for page in PAGES:
        text = re.sub(
            r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
            yield str(page.relative_to(ROOT)), " ".join(span.split())


def arguments(command: str) -> list[str]:
    """The words of a command of ours, without its name; none if it is another's."""
    words = shlex.split(command)
    is_ours = bool(words) and words[0].rpartition("/")[2] == "containerdns"
    return words[1:] if is_ours else []


def without_comment(line: str) -> str:
    """A line of a shell without what it says to people."""
    return re.sub(r"(^|\s+)# .*", "", line).strip()


def _blocks(page: Path) -> Iterator[Block]:
    opened, language, inside = 0, "", list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if opened and line != "```":
            inside.append(line)
        elif opened:
            text = "\n".join([*inside, ""])
            yield Block(str(page.relative_to(ROOT)), opened, language, text)
            opened, inside = 0, []
        elif line.startswith("```"):
            opened, language = number, line[3:]

"""Scenario files: from their text to steps.

    # A comment, up to the end of the line.
    options
        search-domain  corp.example     # an option of `serve`, as its flag without hyphens
    networks
        frontend  bridge  172.18.0.0/16  gateway=172.18.0.1
    containers
        web  running  frontend=172.18.0.2  aliases=www  label.containerdns.ttl=60
    query   www.docker. AAAA  client=172.18.0.9
    expect  NOERROR aa
        authority  docker. 1 IN SOA *

Several `query` lines in a row share the `expect` that follows.  Every section that is
not listed is empty; `*` stands for anything.  See `world` for what each step does.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Step:
    """One statement of a scenario.

    Attributes:
        line: Where it stands.
        verb: Its first word.
        words: The others on its line.
        below: The words of each line that is indented below it.
    """

    line: int
    verb: str
    words: list[str]
    below: list[list[str]] = field(default_factory=list)


def steps(text: str) -> Iterator[Step]:
    """Read a scenario."""
    step: Step | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = _words(line)
        if not words:
            continue
        if line[0].isspace():
            assert step is not None, f"line {number} is below nothing"
            step.below.append(words)
            continue
        if step is not None:
            yield step
        step = Step(number, words[0], words[1:])
    if step is not None:
        yield step


def files() -> list[Path]:
    """All scenario files."""
    return sorted(FOLDER.glob("*.scenario"))


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.escape = ""  # backslashes belong to names
    return list(lexer)

"""The words that operators and developers read: plain English, in the language of the field.

Each entry names a phrase that stumbles, and what to write instead.  The test looks at string
literals, comments and docstrings alone, so that identifiers may be called anything.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCSTRING_OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

PHRASES = {
    r"\bin vain\b": 'literary; say what failed, such as "cache miss"',
    r"\bfaults? of (ours|our own|its own)\b": 'say "internal error", which operators search for',
    r"\bnone of (ours|these|machine)\b": 'negates by possession; say "not a name of this server"',
    r"\bof (an|any) age\b": "nothing is of an age; say older than, in seconds",
    r"\bwhoever\b": 'programs and clients are things; name them, such as "the caller"',
    r"\bwhomever\b": 'programs and clients are things; name them, such as "the caller"',
    r"\bnobody's\b": "belongs to a person; say unowned, ambiguous or not ours",
    r"\blook-ups?\b": 'written "lookup" in RFCs and manuals',
    r"\bfor ever\b": 'one word, or "until cancelled"',
    r"\bin its turn\b": 'say "in order" or "in use"',
    r"\b(is|are) told (in|of|by|to|the)\b": 'people are told; values are "reported" or "logged"',
    r"\bwhat (becomes|became|comes|came) of\b": 'say "the outcome" or "the result"',
    r"\ba glance\b": "code does not look; say quickly, or directly",
    r"\btake over (what|which|who|how)\b": 'say "set", "adopt" or "apply"',
    r"\btake in\b": 'say "apply" or "process"',
    r"\b(no|an?) zone of ours that\b": 'say "not served here"',
    r"\bstand in for\b": 'say "replace"',
    r"\bzone stands\b": 'zones are "kept" or "served"',
    r"\bset aside\b": 'say "marked down", as load balancers do',
    r"\banew\b": 'say "again"',
    r"\bgiv(e|es|en|ing) out\b": 'say "serve" or "return"',
    r"\bsomebody\b": 'name the actor: "a client", "a secondary", or use the passive',
    r"\bhold(s|ing)? up\b": 'say "delay"',
    r"\b(is|are) no (failure|option|error|object|success)\b": 'say "is not a(n) ..."',
    r"\bbut for (the|those|that|one|what)\b": 'say "except"',
}
OPENINGS = {
    r"Tell\b": '"Tell" addresses a person; functions "Return", "Report" or "Log"',
    r"Give (?!each\b|a negative\b)": 'functions "Return"; iterators "Yield"',
    r"Say\b": 'functions "Return" or "Report"',
    r"Take (in|over)\b": 'say "Apply", "Set" or "Process"',
    r"Take (what|where|the|a|an|no|it)\b": 'say "Initialise", "Add" or "Ignore"',
    r"Make (an?|what|the)\b": 'functions "Return", "Create" or "Build"',
    r"Who\b": "modules and functions describe things; name them",
    r"Note (that|the|a|an|how|why|what)\b": 'say "Record" or "Count"',
}


def prose(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield line, text and whether it is a docstring, for all that is written for people."""
    docstrings = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, DOCSTRING_OWNERS) and ast.get_docstring(node) is not None:
            docstrings.add(id(getattr(node.body[0], "value", None)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value, id(node) in docstrings
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False


def faults(source: str) -> Iterator[str]:
    """Yield the phrases of a source that should be rewritten, with the reason."""
    for line, text, is_docstring in prose(source):
        joined = " ".join(text.split())
        for pattern, reason in PHRASES.items():
            if found := re.search(pattern, joined, re.IGNORECASE):
                yield f"line {line}: {found[0]!r}: {reason}"
        for pattern, reason in OPENINGS.items() if is_docstring else ():
            if found := re.match(pattern, joined):
                yield f"line {line}: docstring opens with {found[0]!r}: {reason}"


def modules() -> list[Path]:
    """Return the modules of the package, its tests and its tools, without this list of phrases."""
    folders = ("containerdns", "tests", "tools", "deploy")
    found = {path for folder in folders for path in (ROOT / folder).rglob("*.py")}
    return sorted(found - {Path(__file__)})


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_is_written_in_plain_english(path: Path) -> None:
    assert list(faults(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        '"""Tell whether it runs."""',
        'def f():\n    """Give the name."""',
        'log.error("a query of %d octets met a fault of ours", 3)',
        'HELP = "Look-ups in vain."',
        "ttl = 5  # for whoever asks",
        'f"the last known zone stands {1}"',
    ],
    ids=["opening", "opening of a function", "log line", "help", "comment", "f-string"],
)
def test_phrase_that_is_put_back_is_found(source: str) -> None:
    assert list(faults(source))


def test_identifiers_are_not_prose() -> None:
    assert list(faults("whoever = in_vain = 1")) == []

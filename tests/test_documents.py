"""The documents, held to the code and to each other."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerdns.commands import cli
from containerdns.config.settings import OPTIONS
from tools import documents

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
HAND_WRITTEN = [page for page in PAGES if page.name != "options.md"]
POLICY = (ROOT / "containerdns/core/zone/policy.py").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

FLAGS_OF_COMMANDS = {  # beside those of the registry
    *("--client", "--config", "--dns", "--follow", "--format", "--name", "--port", "--search"),
    *("--server", "--url", "--type", "--watch"),
}
FLAGS_OF_OTHERS = re.compile(  # what others call theirs, in pages that speak of them
    r"--(?:accept-routes|advertise-routes|entrypoints|providers|all|build-arg|cap-add|cap-drop|check|enable-optimizations|environment|force-recreate|forcettl|global|"
    r"group-add|hostname|ip|label|name|nameserver|network|no-deps|now|privileged|read-only|"
    r"require-hashes|seed|set|strict|tls\w+|user|domainname)\b"
)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_of(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: language and text."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


def anchors_of(page: Path) -> set[str]:
    """What headings can be linked to by, as GitHub and MkDocs name plain ones."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}


# What comes from the code.


def test_every_option_is_documented_and_no_other() -> None:
    """The page is made of the registry; only that it is the present one is to be seen."""
    assert text_of(ROOT / "docs/options.md") == documents.options_page()


def test_every_path_and_metric_is_documented_and_no_other() -> None:
    """`make docs` makes the tables of paths and metrics."""
    assert text_of(ROOT / "docs/http.md") == documents.http_page()


def test_every_label_is_documented_and_no_other() -> None:
    assert text_of(ROOT / "docs/labels.md") == documents.labels_page()


def test_every_rule_that_zone_shows_is_documented() -> None:
    page = text_of(ROOT / "docs/names.md")
    claims = r'_claim\([^"]*(?:Rank\.\w+, )f?"([^"{]+)[^"]*"'
    rules = {rule.strip() for rule in re.findall(claims, POLICY)}
    assert len(rules) > 10, "the pattern finds them no more"
    for rule in rules:
        assert f"`{rule}" in page, rule


def test_every_command_is_documented() -> None:
    everything = "".join(text_of(page) for page in PAGES)
    for command in cli.main.commands:
        assert f"containerdns {command}" in everything or f"`{command}`" in everything, command


# What pages say of options and of files.


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_flag_that_is_named_exists(page: Path) -> None:
    known = {option.flag for option in OPTIONS} | FLAGS_OF_COMMANDS
    known |= {f"--no-{option.key}" for option in OPTIONS if option.is_switch}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", FLAGS_OF_OTHERS.sub("", text_of(page))))
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_variable_that_is_named_exists(page: Path) -> None:
    known = {option.variable for option in OPTIONS} | {"CONTAINERDNS_CONFIG", "CONTAINERDNS_URL"}
    named = set(re.findall(r"(?<!_)CONTAINERDNS_[A-Z_]+(?<!_)", text_of(page)))
    assert named - {"CONTAINERDNS_COMPLETE"} <= known


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_toml_example_has_keys_of_options(page: Path) -> None:
    keys = {option.key for option in OPTIONS}
    for language, code in code_of(page):
        if language == "toml":
            assert set(tomllib.loads(code)) <= keys


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors_of(linked), target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:deploy|docs|tests|tools|containerdns)/[\w./-]*)`", text_of(page))
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_target_of_make_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", text_of(page), re.MULTILINE))
    assert named <= targets


def test_the_makefile_lists_its_targets() -> None:
    listed = set(re.findall(r"^# make (\w+)", MAKEFILE, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony
    assert listed == set(phony[1].split()) - {"wheels"}  # a step of building without a network


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_a_table_has_as_many_cells_in_every_row(page: Path) -> None:
    cells: int | None = None
    for line in without_code(page).splitlines():
        if not line.startswith("|"):
            cells = None
            continue
        found = len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line)))
        assert cells in (None, found), line
        cells = found


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """`make docs`: a page outside the navigation, or a link to nowhere, is an error."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict"]
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "names/index.html").exists()


def test_changelog_says_nothing_twice() -> None:
    """A merge once left the old text of a version beside the new one.

    Then: take the file as it is on the main branch, and add the new line again.
    """
    for version in (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1:]:
        begun = re.findall(r"^(?:#+ .*|- .{30})", version, re.MULTILINE)
        assert [text for text in begun if begun.count(text) > 1] == []

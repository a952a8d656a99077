"""A new option, Docker label or metric: what follows from its own place without another word.

Each is registered here as a change to the program would do it; flags, environment, file, reload,
parsing, exposition and documents must know it from there.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import Metric

from containerdns.commands import cli
from containerdns.config import groups, settings, values
from containerdns.config.settings import Option
from containerdns.core import counters as counters_module
from containerdns.core.counters import Counters
from containerdns.core.zone import docker_labels
from containerdns.core.zone.containers import Container
from containerdns.core.zone.docker_labels import DockerLabel
from containerdns.core.zone.policy import Policy, Publication, publish
from containerdns.errors import BadSettings
from containerdns.web import metrics
from containerdns.web.metrics import Metrics
from tools import documents


@dataclass(frozen=True, slots=True)
class MoreDNSSettings(groups.DNSSettings):
    """Those of DNS, and a new one."""

    sample: int = 3


SAMPLE = Option(
    "sample", "dns.sample", values.whole(1, 9), "a number, 1 to 9", "Sample queries.",
    "A test needs it.", metavar="N",
)  # fmt: skip


@pytest.fixture
def option(monkeypatch: pytest.MonkeyPatch) -> Option:
    """An option that has just been registered, with its field in one group."""
    monkeypatch.setattr(settings, "DEFAULTS", replace(settings.DEFAULTS, dns=MoreDNSSettings()))
    monkeypatch.setattr(settings, "OPTIONS", (*settings.OPTIONS, SAMPLE))
    monkeypatch.setitem(settings._BY_KEY, SAMPLE.key, SAMPLE)
    monkeypatch.setattr(documents, "OPTIONS", settings.OPTIONS)
    return SAMPLE


def test_new_option_is_read_from_every_source(option: Option, tmp_path: Path) -> None:
    file = tmp_path / "containerdns.toml"
    file.write_text("sample = 4\n")
    environ = {"CONTAINERDNS_SAMPLE": "5"}
    assert option.of(settings.load({}, {})) == 3
    assert option.of(settings.load({}, {}, file)) == 4
    assert option.of(settings.load({}, environ, file)) == 5
    assert option.of(settings.load({"sample": "6"}, environ, file)) == 6
    assert settings.unknown_variables(environ) == []
    with pytest.raises(BadSettings, match=r"^--sample='10': expected a number, 1 to 9$"):
        settings.load({"sample": "10"}, {})


def test_new_option_is_a_flag_of_serve_and_check(option: Option) -> None:
    for command in ("serve", "check"):
        params = cli.main.commands[command].params
        before = list(params)
        try:
            params[:] = [p for p in params if p.name not in {o.parameter for o in settings.OPTIONS}]
            shown = CliRunner().invoke(cli.main, [command, "--help"]).output
        finally:
            params[:] = before
        assert f"{option.flag} N" in shown, shown
        assert option.variable in shown


def test_new_option_is_documented_with_its_default(option: Option) -> None:
    section = documents.options_page().partition(f"## `{option.flag} N`")[2]
    assert "- Default: `3`\n- Expected: a number, 1 to 9" in section


@pytest.mark.parametrize("waits", [False, True], ids=["applied", "waiting"])
def test_new_option_is_reloaded_or_named_as_waiting(
    option: Option, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = replace(option, needs_restart=waits)
    monkeypatch.setattr(settings, "OPTIONS", (*settings.OPTIONS[:-1], option))
    found = settings.reloaded(settings.load({}, {}), settings.load({"sample": "7"}, {}))
    assert option.of(found.settings) == (3 if waits else 7)
    assert (found.waiting if waits else found.applied) == (option,)


WEIGHT = DockerLabel(
    "weight", "Weighs.", "a weight, 1 to 9", docker_labels._number(1, 9, "a weight"),
    (("weight", "2"),), ("10",),
)  # fmt: skip


@pytest.fixture
def label(monkeypatch: pytest.MonkeyPatch) -> DockerLabel[int]:
    """A label that has just been registered."""
    monkeypatch.setattr(docker_labels, "LABELS", (*docker_labels.LABELS, WEIGHT))
    monkeypatch.setattr(documents, "LABELS", docker_labels.LABELS)
    return WEIGHT


def published(key: str, text: str) -> Publication:
    labels = {f"containerdns.{key}": text}
    return publish(Container("w" * 64, "web", "", "running", docker_labels=labels), Policy())


def test_new_label_is_read_and_its_faults_are_told(label: DockerLabel[int]) -> None:
    """`check` and /zone show the faults of publications."""
    assert published(label.key, "2").faults == ()
    assert published(label.key, "10").faults == (
        ("containerdns.weight=10", "expected a weight, 1 to 9"),
    )


def test_new_label_is_guessed_from_a_misspelt_one(label: DockerLabel[int]) -> None:
    [(_, reason)] = published("wieght", "2").faults
    assert reason == f"unknown label, perhaps containerdns.{label.key}"


def test_new_label_is_documented(label: DockerLabel[int]) -> None:
    row = f"| `containerdns.{label.key}` | Weighs. | a weight, 1 to 9 | `containerdns.weight=2` |"
    assert row in documents.labels_page().splitlines()


@dataclass(slots=True)
class MoreCounters(Counters):
    """All counts, and a new one."""

    samples: int = 0


class MoreMetrics(Metrics):
    """All metrics, and a new one."""

    def collect(self) -> Iterator[Metric | None]:
        yield from super().collect()
        count = getattr(self._counters, "samples", 0)
        yield metrics._counter("samples", "Queries sampled.", count)


def test_new_metric_is_exposed_and_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    made = MoreMetrics(MoreCounters(samples=7), lambda: iter((documents.NOTHING,)))
    pieces, _ = made.exposition("text/plain")
    assert b"\ncontainerdns_samples_total 7.0\n" in b"".join(pieces)
    monkeypatch.setattr(documents, "Metrics", MoreMetrics)
    row = "| `containerdns_samples_total` |  | Queries sampled. |"
    assert row in documents.http_page().splitlines()


def test_new_count_of_a_worker_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters_module, "Counters", MoreCounters)
    first, worker = MoreCounters(samples=1), MoreCounters(samples=7)
    taken = worker.take()
    first.add(taken)
    assert (first.samples, worker.samples) == (8, 0)

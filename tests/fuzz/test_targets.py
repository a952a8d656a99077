"""The fuzz targets, with as many inputs as a test run has time for."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from containerdns.core.zone.containers import Container
from tests.fuzz import targets
from tests.fuzz.generating import documents, hostile_containers, packets

CORPUS = Path(__file__).parent / "corpus"

quick = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(packets)
def test_any_octets_get_a_response_or_silence(data: bytes) -> None:
    targets.packet(data)


@quick
@given(packets.map(lambda data: data[:2] + b"\x80" + data[3:]))
def test_any_octets_are_a_response_of_an_upstream_or_a_fault_of_its(data: bytes) -> None:
    targets.response(data)


@quick
@given(documents)
def test_any_document_of_an_engine_is_published_or_skipped(document: object) -> None:
    targets.document(document)


@quick
@given(hostile_containers)
@example(Container("c" * 64, "host", "unix:///x", "running"))
def test_any_label_costs_its_own_container_at_most(container: Container) -> None:
    targets.publication(container)


@quick
@given(st.text() | st.text(alphabet="ab.\\019-_A", max_size=30))
def test_any_text_is_a_name_or_none(text: str) -> None:
    targets.name(text)


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_input_of_the_corpus(file: Path) -> None:
    """What once went wrong, or was near it."""
    for line in file.read_text(encoding="utf-8").splitlines():
        corpus_input: Any = line
        match file.name:
            case "packets.hex":
                targets.packet(bytes.fromhex(corpus_input.partition("#")[0]))
            case "labels.json":
                labels = json.loads(corpus_input)
                container = Container("c" * 64, "web", "unix:///x", "running", docker_labels=labels)
                targets.publication(container)
            case "names.txt":
                targets.name(corpus_input)
            case _:
                raise AssertionError(file.name)

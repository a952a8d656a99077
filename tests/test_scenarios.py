"""Every scenario file, played four ways."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenarios import judging, reading, world
from tests.scenarios.judging import Expectation
from tests.scenarios.reading import Step
from tests.scenarios.world import WAYS, World

LOOPBACK = "127.0.0.1"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("file", reading.files(), ids=lambda file: file.stem)
def test_scenario(file: Path, way: str, tmp_path: Path) -> None:
    """What the file says is so, whichever way one asks."""
    wrong = []
    for act in acts(reading.steps(file.read_text(encoding="utf-8"))):
        wrong += asyncio.run(play(act, tmp_path, way))
    assert not wrong, "\n".join(wrong)


def acts(steps: Iterator[Step]) -> list[list[Step]]:
    """Split a scenario where `options` start it over."""
    found: list[list[Step]] = [[]]
    for step in steps:
        if step.verb == "options" and found[-1]:
            found.append([])
        found[-1].append(step)
    return found


async def play(act: list[Step], folder: Path, way: str) -> list[str]:
    """Play one act in a world of its own, all Engines listed; give what was wrong."""
    options = options_of(act[0], folder) if act[0].verb == "options" else {}
    made = World(options, folder, way)
    for engine in world.ENGINES:
        made.zone_writer.listed(engine)
    wrong: list[str] = []
    asked: list[Step] = []
    async with made.running():
        was = ""
        for step in act:
            if step.verb in ("query", "octets"):
                asked = [*asked, step] if was in ("query", "octets") else [step]
            elif step.verb == "expect":
                assert asked, f"line {step.line} expects without a query"
                expected = judging.expectation(step)
                for query in asked:
                    wrong += await judged(made, query, expected)
            elif step.verb != "options":
                made.take(step)
            was = step.verb
    return wrong


def options_of(step: Step, folder: Path) -> dict[str, object]:
    """The options that a scenario gives, by key; `hosts` is a file beside."""
    given: dict[str, list[str]] = {}
    for key, *values in step.below:
        given.setdefault(key, []).extend(values)
    if "hosts" in given:
        given["hosts"] = [str(folder / "hosts")]
        (folder / "hosts").write_text("", encoding="utf-8")
    return {key: values[0] if len(values) == 1 else values for key, values in given.items()}


async def judged(made: World, asked: Step, expected: Expectation) -> list[str]:
    """Ask one question several times, and say what is wrong about the responses."""
    if expected.over and expected.over != ("tcp" if made.way == "tcp" else "udp"):
        return []
    client, local = LOOPBACK, LOOPBACK
    if asked.verb == "octets":
        data = bytes.fromhex("".join(asked.words + [w for words in asked.below for w in words]))
    else:
        given = dict(word.partition("=")[::2] for word in asked.words[2:])
        client, local = given.get("client", LOOPBACK), given.get("local", LOOPBACK)
        data = world.query(*asked.words)
    made.forwarder.asked.clear()
    wrong: list[str] = []
    for response in await made.ask(data, client, local):
        wrong += judging.judge(expected, data, response, made.forwarder.asked)
    return [f"line {asked.line}, {' '.join(asked.words)}: {w}" for w in dict.fromkeys(wrong)]

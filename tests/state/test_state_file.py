"""The state file: what outlives the process, and what a damaged one costs."""

import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from containerdns.config.settings import load
from containerdns.core.counters import Counters
from containerdns.core.protocol.packet_cache import PacketCache
from containerdns.core.zone.policy import Claim, Publication, Rank
from containerdns.core.zone.remembered_names import MAX_REMEMBERED, RememberedNames
from containerdns.core.zone.zone import Shape, Zone
from containerdns.state import state_file
from containerdns.state.zone_writer import ZoneWriter
from tests.steps import MAX_STEPS, most_steps

NOW, DAY = 1_800_000_000.0, 86400.0


def publication(name: str) -> Publication:
    claim = Claim(name, Rank.CONTAINER, "container name", f"id-{name}")
    return Publication(id=f"id-{name}", container_name=name, ttl=5, claims=(claim,))


def zone_of(*container_names: str, removed: int = 0) -> Zone:
    memory = RememberedNames(DAY)
    for number in range(removed):
        memory.put(f"gone{number}", NOW + 1 + number)
    zone = Zone(Shape(), 7, memory)
    for name in container_names:
        zone.replace(f"id-{name}", publication(name), NOW)
    return zone


def read(path: Path, lifetime: float = DAY) -> tuple[int, dict[str, float]]:
    state = state_file.read(path, NOW, lifetime)
    return state.serial, dict(state.remembered)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """What was claimed may be removed by now: it is remembered from now on."""
    path = tmp_path / "state"
    zone = zone_of("web", removed=2)
    state_file.write(path, state_file.pieces(zone))
    assert read(path) == (zone.serial, {"gone0": NOW + 1, "gone1": NOW + 2, "web": NOW + DAY})
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert state_file.read(tmp_path / "state", NOW, DAY) == (0, ())
    assert caplog.text == ""


def document(**changes: Any) -> str:
    usual = {"version": 1, "serial": 9, "remembered": [["old", NOW + 5]], "claimed": ["web"]}
    return json.dumps(usual | changes)


DAMAGES = {
    "empty": "",
    "cut off": document()[:-9],
    "100,000 brackets": "[" * 100_000,
    "100,000 objects": '{"a":' * 100_000,
    "another type": "[1, 2]",
    "a number": "1e999",
    "null": "null",
    "no serial": '{"remembered": [], "claimed": []}',
    "owners are a number": document(claimed=5),
    "too many digits": '{"serial": ' + "9" * 5000 + "}",
}


@pytest.mark.parametrize("text", DAMAGES.values(), ids=DAMAGES)
def test_damaged_file_is_one_warning(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state"
    path.write_text(text)
    assert state_file.read(path, NOW, DAY) == (0, ())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize(("serial", "found"), [(0, 0), (1, 1), (2**32 - 1, 2**32 - 1), (2**32, 0)])
def test_serial_has_32_bits_and_is_not_0(serial: int, found: int, tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text(document(serial=serial))
    assert read(path)[0] == found


def test_what_is_no_file_of_text_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A FIFO would delay the start forever."""
    (tmp_path / "latin").write_bytes(document(claimed=["\xe4"]).encode("latin-1") + b"\xe4")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("latin", "directory", "fifo"):
        assert state_file.read(tmp_path / name, NOW, DAY) == (0, ())
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"serial": 2**32}, (0, {"old": NOW + 5, "web": NOW + DAY})),
        ({"serial": -1}, (0, {"old": NOW + 5, "web": NOW + DAY})),
        ({"serial": 1e999}, (0, {"old": NOW + 5, "web": NOW + DAY})),
        ({"serial": "9"}, (0, {"old": NOW + 5, "web": NOW + DAY})),
        ({"remembered": [["a", float("nan")], ["b", NOW + 1]]}, (9, {"b": NOW + 1})),
        ({"remembered": [["a"], 5, None, ["b", NOW + 1]]}, (9, {"b": NOW + 1})),
        ({"remembered": [["a", "soon"], ["b", NOW + 1]]}, (9, {"b": NOW + 1})),
        ({"claimed": [5, None, ["x"], "a..b", "x" * 300, "w\u00e4b", ""]}, (9, {"old": NOW + 5})),
    ],
    ids=str,
)
def test_damaged_part_costs_itself_alone(
    changes: dict[str, Any],
    wanted: tuple[int, dict[str, float]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "state"
    path.write_text(document(**changes))
    serial, found = read(path)
    if "remembered" in changes:
        del found["web"]
    assert (serial, found) == wanted
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "until", [NOW + 100 * DAY, 1e999, 10**400], ids=["far", "infinite", "huge"]
)
def test_far_time_is_cut(until: float, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As after a shorter --remember; the contract: no name stays ours for longer."""
    path = tmp_path / "state"
    path.write_text(document(remembered=[["far", until]], claimed=[]))
    assert read(path) == (9, {"far": NOW + DAY})
    assert read(path, lifetime=60) == (9, {"far": NOW + 60})
    assert read(path, lifetime=0) == (9, {})
    assert caplog.text == ""


def test_past_time_is_dropped_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state"
    path.write_text(document(remembered=[["past", NOW], ["next", NOW + 1]], claimed=[]))
    assert read(path) == (9, {"next": NOW + 1})
    assert caplog.text == ""


def test_no_more_is_read_than_may_be_remembered(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text(document(claimed=[f"n{number}" for number in range(MAX_REMEMBERED + 9)]))
    assert len(read(path)[1]) == MAX_REMEMBERED


def test_pieces_are_small() -> None:
    """Between two of them queries are answered."""
    zone = zone_of(*(f"web{number}" for number in range(1000)), removed=3000)
    made = list(state_file.pieces(zone))
    assert max(piece.count(b'"') for piece in made) <= 2 * state_file.OWNERS_PER_PIECE
    assert json.loads(b"".join(made))["remembered"][0] == ["gone0", NOW + 1]


def test_owner_removed_or_started_meanwhile_is_not_lost() -> None:
    """Between any two pieces: it is claimed or remembered in what is written."""
    for after in range(7):
        zone = zone_of(*(f"web{number}" for number in range(600)), removed=300)
        document = state_file.pieces(zone)
        made = [next(document) for _ in range(after)]
        zone.replace("id-web599", None, NOW)
        zone.replace("id-gone1", publication("gone1"), NOW)
        written = json.loads(b"".join([*made, *document]))
        owners = {*written["claimed"], *(owner for owner, _ in written["remembered"])}
        assert {"web599", "gone1"} <= owners


def test_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text(document())

    def failing() -> Any:
        yield b"{"
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        state_file.write(path, failing())
    assert path.read_text() == document()


def test_symbolic_link_is_followed(tmp_path: Path) -> None:
    """As by any program that is given one; it may lead to another disk."""
    (tmp_path / "disk").mkdir()
    link = tmp_path / "state"
    link.symlink_to("disk/state")
    state_file.write(link, state_file.pieces(zone_of("web")))
    assert link.is_symlink()
    assert read(link) == read(tmp_path / "disk/state") == (7, {"web": NOW + DAY})


def test_nothing_is_left_beside_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with pytest.raises(IsADirectoryError):
        state_file.write(tmp_path / "state", [b"{}"])
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_file_of_something_else_is_called_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text('{"name": "another program"}')
    assert state_file.read(tmp_path / "state", NOW, DAY) == (0, ())
    assert "not a state file of containerdns" in caplog.text


def test_last_state_is_written_after_a_thread_that_is_still_writing(tmp_path: Path) -> None:
    """SIGTERM in that moment left a mixture of two documents."""
    path = tmp_path / "state"
    options = {"docker": "unix:///run/docker.sock", "state": str(path)}
    zone_writer = ZoneWriter(load(options, {}), Counters(), PacketCache(Counters()), frozenset())
    is_writing, may_end = Event(), Event()

    def earlier() -> Iterator[bytes]:
        yield b"earlier and longer"
        is_writing.set()
        may_end.wait()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(zone_writer._save_state, earlier())
        is_writing.wait()
        last = threads.submit(zone_writer._save_state, [b"last"])
        wait((last,), timeout=0.1)  # it would take that moment to be too early
        may_end.set()
        first.result()
        last.result()
    assert path.read_bytes() == b"last"


def test_owner_that_goes_or_comes_while_the_file_is_written_is_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whenever that happens; and one that is in both lists is no damage."""
    path = tmp_path / "state"
    for moment in range(8):
        zone = zone_of("goes", "stays", removed=300)
        written = []
        for number, piece in enumerate(state_file.pieces(zone)):
            written.append(piece)
            if number == moment:
                zone.replace("id-goes", None, NOW)
                zone.replace("id-gone7", publication("gone7"), NOW)
        state_file.write(path, written)
        expected = {"goes", "stays"} | {f"gone{number}" for number in range(300)}
        assert read(path)[1].keys() == expected, moment
    assert caplog.text == ""


def test_file_is_written_in_small_pieces() -> None:
    """With 50,000 names it took 20 ms to find that none of them had been forgotten meanwhile."""
    zone = zone_of("web", removed=20_000)
    assert most_steps(state_file.pieces(zone)) < MAX_STEPS
    assert max(map(len, state_file.pieces(zone))) < 20_000

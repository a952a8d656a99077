"""Run all measures and write them down: a table on the screen, JSON, and docs/performance.md.

    python -m tests.bench.report [--quick] [--write] [--only MEASURE]...

Takes about 22 minutes; with `--quick`, which has fewer turns, 10.  `--write` replaces the page and
its plot, except what is written by hand, below the line that says so.  `--only` measures
some again, and keeps the results of the others.  A measure that fails is left out, and makes
the exit status 1.  Needs root for the private Engine, and the peers from Debian.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.aims import Aim, Found, aims, control
from tests.bench.sections import SECTIONS, plot
from tests.left_behind import own_folder

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "build" / "bench"
PAGE: Final = ROOT / "docs" / "performance.md"
PLOT: Final = ROOT / "docs" / "images" / "performance.svg"
BY_HAND: Final = "<!-- Below this line written by hand; `make bench` keeps it. -->"
PATIENCE: Final = 420.0  # seconds for one measure
STOP_PATIENCE: Final = 30.0  # seconds
PEERS: Final = {
    "dnsmasq": ("dnsmasq", "--version"),
    "knot": ("knotd", "--version"),
    "nsd": ("nsd", "-v"),
    "unbound": ("unbound", "-V"),
    "aardvark-dns": ("/usr/lib/podman/aardvark-dns", "--version"),
}


class Machine(NamedTuple):
    """What was measured on, and when.

    Attributes:
        described: Processor, cores, and system.
        programs: The others, with their versions.
        stolen: Share of the cores' time that the host kept for others during the run.
        load: The load average at its end.
        minutes: How long it took.
        again: The measures that were taken again after a run of all, in that time.
    """

    described: str
    programs: tuple[str, ...]
    stolen: float
    load: float
    minutes: float
    again: tuple[str, ...] = ()


MEASURES: Final = {  # words of each, then those of `--quick`
    "throughput": (
        "throughput --names 1000 --turns 6 --seconds 0.4",
        "throughput --names 1000 --turns 3 --seconds 0.3",
    ),
    "sizes": (
        "throughput --names 100 --names 10000 --case positive --turns 5 --seconds 0.4",
        "throughput --names 100 --case positive --turns 3 --seconds 0.3",
    ),
    "churn": (
        "throughput --names 1000 --case positive --churn 100 --turns 7 --seconds 0.4",
        "throughput --names 1000 --case positive --churn 100 --turns 3 --seconds 0.3",
    ),
    "conditions": ("conditions --turns 11 --seconds 0.4", "conditions --turns 5 --seconds 0.3"),
    "forward": ("forward --turns 15", "forward --turns 5"),
    "forward-aliases": ("forward --aliases --turns 9", "forward --aliases --turns 3"),
    "forward-tls": ("forward --tls --turns 15", "forward --tls --turns 5"),
    "events": ("events --containers 40", "events --containers 10"),
    "fairness": ("fairness --samples 400", "fairness --samples 100"),
    "workers": ("workers --containers 150", "workers --containers 50"),
    "transfers": ("transfers --turns 5 --seconds 3", "transfers --turns 3 --seconds 2"),
    "secondaries": ("secondaries --seconds 10", "secondaries --containers 1000 --seconds 5"),
    "attacks": ("attacks --seconds 3", "attacks --seconds 2 --names-held 1000"),
    "scale": ("scale", "scale --many 1000 --comparison 5"),
}


def main() -> None:
    """Measure, and write the page if wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", action="append", choices=MEASURES, help="keep the others")
    options = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    begun, ticks = time.monotonic(), _ticks()
    wanted = options.only or list(MEASURES)
    failed = [name for name in wanted if not _run(name, is_quick=options.quick)]
    minutes = (time.monotonic() - begun) / 60
    found = {path.stem: json.loads(path.read_text()) for path in BUILD.glob("*.json")}
    if options.write:
        machine = _machine(minutes, ticks)._replace(again=tuple(options.only or ()))
        lines = [*page(found, machine, is_quick=options.quick), *by_hand(PAGE.read_text())]
        PAGE.write_text("\n".join(lines) + "\n")
        if "throughput" in found:
            PLOT.write_text("\n".join(plot(found["throughput"])) + "\n")
    print(f"{minutes:.0f} minutes", *(f"; {name} failed" for name in failed), sep="")
    sys.exit(1 if failed else 0)


def _run(name: str, *, is_quick: bool) -> bool:
    """Run one measure in a process of its own; return whether it wrote its JSON."""
    written = BUILD / f"{name}.json"
    written.unlink(missing_ok=True)
    module, *words = MEASURES[name][is_quick].split()
    command = [sys.executable, "-m", f"tests.bench.{module}", *words, "--json", str(written)]
    print(f"# {' '.join(command[1:-2])}", flush=True)
    with own_folder(), subprocess.Popen(command, cwd=ROOT) as process:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            print(f"{name} takes too long", flush=True)
            _end(process)
    return process.returncode == 0 and written.exists()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt a measure, so that it ends what it started."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def page(found: Found, machine: Machine, *, is_quick: bool) -> Iterator[str]:
    """Yield the lines of docs/performance.md that come from measures."""
    yield from _head(machine, is_quick)
    yield ""
    yield from _aims(found)
    for name, section in SECTIONS.items():
        if name in found:
            yield ""
            yield from section(found[name])


def by_hand(text: str) -> Iterator[str]:
    """Yield what follows in the page, from the line that begins what was written by hand."""
    _, line, written = text.partition(BY_HAND)
    if line:
        yield ""
        yield line + written.rstrip("\n")


def _head(machine: Machine, is_quick: bool) -> Iterator[str]:
    yield "# Performance"
    yield ""
    yield from (
        "From one run of `make bench` on the machine named below, except the last part, which",
        "is written by hand. Machines differ and are noisy: compare the columns of one run, not",
        "figures of different days. Queries are sent by dnsperf on one core to servers on the",
        "other, in turns; the figures are medians, and ratios are those of each turn.",
    )
    yield ""
    yield f"- {datetime.now(UTC):%Y-%m-%d}, {machine.described}"
    python = interpreter(sys.base_prefix, sysconfig.get_config_var("CONFIG_ARGS") or "")
    yield f"- {python}; {', '.join(machine.programs)}"
    yield f"- `make bench`, {machine.minutes:.0f} minutes, in which the machine's host kept"
    yield f"  {machine.stolen:.1%} of the time of the cores for others"
    yield f"- load average {machine.load:.1f} at the end"
    if machine.again:
        yield "- time and load are those of measures taken again, after a run of all:"
        yield f"  {', '.join(machine.again)}"
    if is_quick:
        yield "- shortened (`--quick`): too few turns for more than a look"
    yield ""
    yield "![Queries per second beside others](images/performance.svg)"


def interpreter(prefix: str, arguments: str) -> str:
    """Return the interpreter's version and build, on which its speed depends.

    Args:
        prefix: Where it is installed.
        arguments: Those that it was configured with.
    """
    if prefix == "/usr":
        built = "the system's own"  # optimized, though not by an argument that is kept
    elif "--enable-optimizations" in arguments:
        built = "built with `--enable-optimizations`"
    else:
        built = "built without `--enable-optimizations`, which costs up to half of the speed"
    return f"CPython {platform.python_version()}, {built}"


def _aims(found: Found) -> Iterator[str]:
    """The aims of the project beside what was measured, whether they are reached or not."""
    yield "## The aims"
    yield ""
    if row := control(found):
        low, high = row["queries_spread"]
        yield f"Plain queries beside themselves came to {row['queries_ratio']:.2f} of the queries"
        yield f"({low:.2f} to {high:.2f} in the middle half of {row['turns']} turns) and to"
        yield f"{row['cpu_ratio']:.2f} of the CPU: so much of a ratio is noise. *Turns* shows the"
        yield "middle half of them. A figure after the name of another server is that server's."
        yield ""
    yield "| what | beside | measured | turns | aim | reached |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for measure, reached in aims(found):
        yield from map(_aim, reached)
        if not reached:
            yield f"| `tests.bench.{measure}` | | not measured | | | **no** |"


def _aim(aim: Aim) -> str:
    shown = "at least" if aim.is_least else "at most"
    turns = f"{aim.spread[0]:.2f} to {aim.spread[1]:.2f}" if aim.spread else ""
    answer = "yes" if aim.is_reached else "**no**"
    cells = aim.what, aim.beside, f"{aim.measured:.2f}", turns, f"{shown} {aim.bound:g}", answer
    return f"| {' | '.join(cells)} |"


def _machine(minutes: float, before: tuple[int, int]) -> Machine:
    stolen, total = (after - then for after, then in zip(_ticks(), before, strict=True))
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return Machine(
        f"{_processor()}, {system}",
        tuple(_versions()),
        stolen / max(total, 1),
        os.getloadavg()[0],
        minutes,
    )


def _ticks() -> tuple[int, int]:
    """What the host kept for others, and all time of the cores, since the start."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[7], sum(ticks)


def _versions() -> Iterator[str]:
    for name, command in PEERS.items():
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            continue
        words = (done.stdout + done.stderr).split()
        number = next((w.strip(",") for w in words if w[:1].isdigit() and "." in w), "")
        yield f"{name} {number}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cores = len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
            return f"{line.partition(':')[2].strip()}, {cores} cores"
    return platform.machine()


if __name__ == "__main__":
    main()

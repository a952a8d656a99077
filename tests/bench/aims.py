"""What the project aims at, and how to find in the results of a run whether it is reached."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.bench.conditions import CONTROL
from tests.bench.fairness import PLAIN
from tests.bench.workers import BARE

Row = Mapping[str, Any]
Found = Mapping[str, Sequence[Row]]  # the rows of each measure, by its name in the report

OF_PLAIN: Final = 0.9  # of the rate of plain queries
CPU_OF_PLAIN: Final = 1.11  # times the CPU, where the rate is not the server's: 1 / 0.9
OF_DNSMASQ: Final = {"random": 1.0, "lengths": 1.0, "special": 0.9, "single": 0.9, "public": 1.05}
OF_MISSES: Final = 0.9
UNDER_REDEPLOYS: Final = 1.05  # times the CPU
AT_FULL_LOAD: Final = 3.0  # ms at p99
BEHIND: Final = 2.0  # ms at p99
WHILE_COPIED: Final = 5.0  # ms at p99.9
UNDER_ATTACK: Final = 5.0  # ms at p99.9
LEAST_SHARE: Final = 0.2  # of one client's queries, for each of three processes
RESIDENT: Final = (60, 110)  # MB, with few and with many containers


class Aim(NamedTuple):
    """One aim, beside what was measured.

    Attributes:
        what: Is measured.
        beside: What it is compared with, and that one's figure if it is not 1.
        measured: The figure.
        spread: Between which figures the middle half of the turns lies, if there are turns.
        bound: The least or the most that is aimed at.
        is_least: Whether it is the least.
    """

    what: str
    beside: str
    measured: float
    spread: Sequence[float]
    bound: float
    is_least: bool

    @property
    def is_reached(self) -> bool:
        """Whether the aim is reached."""
        if self.is_least:
            return self.measured >= self.bound
        return self.measured <= self.bound


def aims(found: Found) -> Iterator[tuple[str, list[Aim]]]:
    """Yield each measure that has aims, with those that were measured."""
    for measure, of_rows in _AIMS.items():
        yield measure, list(of_rows(found.get(measure, ())))


def control(found: Found) -> Row | None:
    """Return the row of plain queries beside themselves: what it differs from 1 by is noise."""
    return next((row for row in found.get("conditions", ()) if row["what"] == CONTROL), None)


def _conditions(rows: Sequence[Row]) -> Iterator[Aim]:
    for row in rows:
        what = row["what"]
        if "redeploys" in what:
            cpu, spread = row["cpu_ratio"], row["cpu_spread"]
            yield Aim(f"CPU per query, {what}", "without", cpu, spread, UNDER_REDEPLOYS, False)
        elif "by_cpu" in row:  # the client is slower than the server
            cpu, spread = row["cpu_ratio"], row["cpu_spread"]
            yield Aim(f"CPU per query, {what}", "plain queries", cpu, spread, CPU_OF_PLAIN, False)
        elif what != CONTROL:
            rate, spread = row["queries_ratio"], row["queries_spread"]
            yield Aim(f"queries/s, {what}", "plain queries", rate, spread, OF_PLAIN, True)


def _throughput(rows: Sequence[Row]) -> Iterator[Aim]:
    for row in rows:
        case = row["case"]
        if row["server"] == "dnsmasq" and row["names"] == 1000 and case in OF_DNSMASQ:
            rate, spread = row["our_queries_ratio"], row["our_queries_spread"]
            yield Aim(f"queries/s, {case}", "dnsmasq", rate, spread, OF_DNSMASQ[case], True)


def _forward(peer: str, over: str) -> Callable[[Sequence[Row]], Iterator[Aim]]:
    def of_rows(rows: Sequence[Row]) -> Iterator[Aim]:
        for row in rows:
            if row["server"] == peer:
                rate, spread = row["our_queries_ratio"], row["our_queries_spread"]
                yield Aim(f"misses/s over {over}", peer, rate, spread, OF_MISSES, True)

    return of_rows


def _events(rows: Sequence[Row]) -> Iterator[Aim]:
    others = {row["what"]: row for row in rows if "another follower" in row["what"]}
    for row in rows:
        if row["what"] == "die to withdrawal, beyond it":
            for part, bound in (("p50", 1.0), ("p95", 3.0)):
                what = f"die to withdrawal, {part}, ms"
                other = others["die to withdrawal, another follower beyond it"][part]
                beside = f"bare follower; another one {other:.1f}"
                yield Aim(what, beside, row[part], (), bound, False)


def _fairness(rows: Sequence[Row]) -> Iterator[Aim]:
    full = {row["what"]: row for row in rows if row["load"] == "full"}
    for what, row in full.items():
        if what == PLAIN or any(what.startswith(f"{shorter} to ") for shorter in full):
            continue
        same = {other.removeprefix(f"{what} to "): full[other]["p99"] for other in full}
        beside = [f"{name} {p99:.1f}" for name, p99 in same.items() if name not in full]
        beside.append(f"the machine {row['machine']:.1f}")
        name = f"{what}, at full load, p99, ms"
        yield Aim(name, ", ".join(beside), row["p99"], (), AT_FULL_LOAD, False)


def _workers(rows: Sequence[Row]) -> Iterator[Aim]:
    of_bare = {row["what"]: row["p99"] for row in rows if row["what"].endswith(BARE)}
    for row in rows:
        if "share" in row:
            what = f"{row['what']}, least of {row['processes']}"
            yield Aim(what, "", row["share"], (), LEAST_SHARE, True)
        elif row["what"] not in of_bare:
            beside = f"bare processes {of_bare[row['what'] + BARE]:.1f}"
            yield Aim(f"{row['what']}, p99, ms", beside, row["p99"], (), BEHIND, False)


def _transfers(rows: Sequence[Row]) -> Iterator[Aim]:
    beside = ", ".join(
        f"{'a bare echo' if row['server'] == 'echo' else row['server']} {row['p99.9']:.1f}"
        for row in rows
        if row["server"] != "containerdns"
    )
    for row in rows:
        if row["server"] == "containerdns" and row["secondaries"]:
            what = "answers, four copy, p99.9, ms"
            all_beside = f"{beside}, the machine {row['machine p99.9']:.1f}"
            yield Aim(what, all_beside, row["p99.9"], row["p99.9_spread"], WHILE_COPIED, False)


def _scale(rows: Sequence[Row]) -> Iterator[Aim]:
    for row, bound in zip(rows, RESIDENT, strict=False):
        what = f"MB, resident, {row['containers']:,} containers"
        yield Aim(what, "", row["resident, MB"], (), bound, False)


def _attacks(rows: Sequence[Row]) -> Iterator[Aim]:
    attacks = [row for row in rows if not row["attack"].startswith("none")]
    if attacks:
        within = sum(row["p99.9"] <= UNDER_ATTACK and not row["lost"] for row in attacks)
        of_machine = max(row["machine p99.9"] for row in attacks)
        what = f"attacks of {len(attacks)} under which p99.9 stays within {UNDER_ATTACK:g} ms"
        beside = f"the machine, at worst {of_machine:.1f}"
        yield Aim(what, beside, within, (), len(attacks), True)


def _secondaries(rows: Sequence[Row]) -> Iterator[Aim]:
    beside = ", ".join(f"{row['what']} {row['p99.9']:.1f}" for row in rows[:2])
    for row in rows[2:]:
        what = f"{row['what']}, 10 changes/s, p99.9, ms"
        all_beside = f"{beside}, the machine {row['machine p99.9']:.1f}"
        yield Aim(what, all_beside, row["p99.9"], (), WHILE_COPIED, False)


_AIMS: Final[dict[str, Callable[[Sequence[Row]], Iterator[Aim]]]] = {
    "conditions": _conditions,
    "throughput": _throughput,
    "forward": _forward("dnsmasq", "UDP"),
    "forward-aliases": _forward("dnsmasq", "UDP, of aliases"),
    "forward-tls": _forward("unbound", "TLS"),
    "events": _events,
    "fairness": _fairness,
    "workers": _workers,
    "transfers": _transfers,
    "secondaries": _secondaries,
    "attacks": _attacks,
    "scale": _scale,
}

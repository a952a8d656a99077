"""The report of the benchmarks, from results that were made up."""

import platform
from typing import Any

import pytest

from tests.bench import report
from tests.bench.aims import Aim
from tests.bench.conditions import CONTROL
from tests.bench.report import Machine
from tests.bench.sections import SECTIONS, plot

MACHINE = Machine("a processor, 2 cores, Linux 6.1", ("nsd 4.6.1",), 0.012, 0.5, 19.0)
RATIOS = {"our_queries_ratio": 1.1, "our_queries_spread": [1.0, 1.2]}
RATIOS |= {"our_cpu_ratio": 0.9, "our_cpu_spread": [0.8, 1.0], "turns": 7}
TIMES = {"p50": 1.0, "p95": 2.0, "p99": 2.5, "p99.9": 4.0, "max": 9.0, "asked": 3000, "lost": 0}
TIMES |= {"machine p99.9": 1.5}
ATTACKED = TIMES | {"MB after": 60.0}


def compared(server: str, **others: Any) -> dict[str, Any]:
    return {"server": server, "names": 1000, "queries": 90_000, "cpu_us": 9.5} | RATIOS | others


def condition(what: str, queries: float, cpu: float) -> dict[str, Any]:
    row = {"what": what, "queries": 80_000, "queries_ratio": queries, "cpu_ratio": cpu}
    return row | {"queries_spread": [0.8, 1.0], "cpu_spread": [0.9, 1.1], "turns": 15}


QUERIES = [
    compared("containerdns", case="random"),
    compared("dnsmasq", case="random", resident_mb=4.2),
    {"case": "special", "names": 1000, "server": "nsd", "unable": "would forward them"},
]
MISSES = [compared(server, added_p50=0.2) for server in ("dnsmasq", "unbound", "containerdns")]
FOUND: dict[str, list[dict[str, Any]]] = {
    **dict.fromkeys(("throughput", "sizes", "churn"), QUERIES),
    **dict.fromkeys(("forward", "forward-aliases", "forward-tls"), MISSES),
    "conditions": [
        condition("a DNS cookie", 0.87, 1.1),
        condition("100 redeploys/s", 0.9, 1.04),
        condition("NSID", 2.0, 1.12) | {"by_cpu": True},
        condition(CONTROL, 0.98, 1.01),
    ],
    "events": [
        {"what": "die to withdrawal, beyond it", "count": 50, **TIMES},
        {"what": "die to withdrawal, another follower beyond it", "count": 50, **TIMES},
    ],
    "fairness": [
        {"what": what, "load": load, "samples": 500, "waited": 0.01, "machine": 0.6, **TIMES}
        for what in ("query over TCP", "query over TCP to nsd", "plain query over UDP")
        for load in ("none", "full")
    ],
    "workers": [
        {"what": "start, the last process after the first", "count": 200, **TIMES},
        {"what": "start, the last process after the first, bare processes", "count": 200, **TIMES},
        {"what": "share of one client's queries", "processes": 3, "share": 0.31},
    ],
    "transfers": [
        {"server": server, "secondaries": 4, "turns": 5, "transfers": 40, **TIMES}
        | {"p99.9_spread": [3.0, 5.0]}
        for server in ("echo", "containerdns")
    ],
    "secondaries": [
        {"what": "a bare echo", **TIMES},
        {"what": "nobody copies", **TIMES},
        {"what": "the same follow", "transfers": {"IXFR": 9}, "behind": {"nsd": 0}, **TIMES},
    ],
    "attacks": [
        {"attack": "none", **ATTACKED},
        {"attack": "zone", **ATTACKED},
        {"attack": "unread", **ATTACKED, "p99.9": 12.0},
    ],
    "scale": [
        {"containers": 100, "resident, MB": 50.2},
        {"containers": 10_000, "resident, MB": 111.3, "first answer, s": 0.4},
    ],
}


def page(found: dict[str, list[dict[str, Any]]] = FOUND) -> list[str]:
    return list(report.page(found, MACHINE, is_quick=False))


def test_every_measure_of_the_report_has_a_section_and_results_in_this_test() -> None:
    assert set(report.MEASURES) == set(SECTIONS) == set(FOUND)


@pytest.mark.parametrize(
    "row",
    [
        "| queries/s, a DNS cookie | plain queries | 0.87 | 0.80 to 1.00 | at least 0.9 | **no** |",
        "| CPU per query, 100 redeploys/s | without | 1.04 | 0.90 to 1.10 | at most 1.05 | yes |",
        "| CPU per query, NSID | plain queries | 1.12 | 0.90 to 1.10 | at most 1.11 | **no** |",
        "| queries/s, random | dnsmasq | 1.10 | 1.00 to 1.20 | at least 1 | yes |",
        "| misses/s over UDP | dnsmasq | 1.10 | 1.00 to 1.20 | at least 0.9 | yes |",
        "| misses/s over TLS | unbound | 1.10 | 1.00 to 1.20 | at least 0.9 | yes |",
        (
            "| die to withdrawal, p95, ms | bare follower; another one 2.0 | 2.00 "
            "|  | at most 3 | yes |"
        ),
        (
            "| query over TCP, at full load, p99, ms | nsd 2.5, the machine 0.6 | 2.50 |  "
            "| at most 3 | yes |"
        ),
        (
            "| start, the last process after the first, p99, ms | bare processes 2.5 "
            "| 2.50 |  | at most 2 | **no** |"
        ),
        "| share of one client's queries, least of 3 |  | 0.31 |  | at least 0.2 | yes |",
        (
            "| answers, four copy, p99.9, ms | a bare echo 4.0, the machine 1.5 | 4.00 "
            "| 3.00 to 5.00 | at most 5 | yes |"
        ),
        (
            "| attacks of 2 under which p99.9 stays within 5 ms | the machine, at worst 1.5 "
            "| 1.00 |  | at least 2 | **no** |"
        ),
        "| MB, resident, 100 containers |  | 50.20 |  | at most 60 | yes |",
        "| MB, resident, 10,000 containers |  | 111.30 |  | at most 110 | **no** |",
    ],
)
def test_aims_are_first_and_say_whether_they_are_reached(row: str) -> None:
    lines = page()
    assert lines.index("## The aims") < lines.index(row) < lines.index("## Queries per second")


@pytest.mark.parametrize(
    ("measured", "is_least", "is_reached"),
    [
        (0.9, True, True),
        (0.89, True, False),
        (0.9, False, True),
        (0.91, False, False),
    ],
)
def test_an_aim_is_reached_at_its_bound(measured: float, is_least: bool, is_reached: bool) -> None:
    assert Aim("", "", measured, (), 0.9, is_least).is_reached is is_reached


@pytest.mark.parametrize(
    ("prefix", "arguments", "built"),
    [
        ("/usr", "'--enable-shared'", "the system's own"),
        ("/usr/local", "'--enable-optimizations' '--with-lto'", "built with `--enable-opt"),
        ("/usr/local", "'--enable-shared'", "built without `--enable-opt"),
    ],
    ids=["Debian's", "the official image's", "pyenv's"],
)
def test_head_names_the_build_of_the_interpreter(prefix: str, arguments: str, built: str) -> None:
    assert f", {built}" in report.interpreter(prefix, arguments)
    assert any(line.startswith(f"- CPython {platform.python_version()}, ") for line in page())


def test_plain_queries_beside_themselves_are_the_noise_and_no_aim() -> None:
    lines = page()
    assert any("beside themselves came to 0.98" in line for line in lines)
    assert not any(line.startswith(f"| queries/s, {CONTROL}") for line in lines)


@pytest.mark.parametrize("measure", ["conditions", "events", "transfers", "scale"])
def test_what_was_not_measured_is_not_reached(measure: str) -> None:
    lines = page({name: rows for name, rows in FOUND.items() if name != measure})
    assert f"| `tests.bench.{measure}` | | not measured | | | **no** |" in lines


def test_all_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    cells = 0
    for line in page():
        if line.startswith("|"):
            cells = cells or line.count("|")
            assert line.count("|") == cells, line
        else:
            cells = 0


def test_what_was_written_by_hand_is_kept_as_it_is() -> None:
    text = f"old\n\n{report.BY_HAND}\n\n## Notes\n\nkept\n"
    once = "\n".join(["new", *report.by_hand(text)]) + "\n"
    assert once == text.replace("old", "new")
    assert list(report.by_hand("# Performance\n")) == []


def test_the_plot_has_a_bar_for_each_server() -> None:
    assert sum(line.startswith("<rect") for line in plot(QUERIES)) == 2


def test_measures_taken_again_are_named() -> None:
    """Time and load are no longer those of the whole run then."""
    lines = list(report.page({}, MACHINE._replace(again=("fairness",)), is_quick=False))
    assert "  fairness" in lines
    assert not any("taken again" in line for line in page())

"""The judge of answers finds what is wrong, and nothing else."""

import pytest

from tests.engine.composing import COMPOSE_LABEL, Answer, Question, Run, faults

WEB = Question("web.shop.docker", service="web", project="shop")
BARE = Question("web.docker", service="web")
NAMED = Question("shop-web-1", container="shop-web-1")


def a_run(address: str, started: float, died: float = float("inf"), project: str = "shop") -> Run:
    labels = {"project": project, "service": "web", "oneoff": "False"}
    names = [(started, "shop-web-1")]
    return Run(names, {COMPOSE_LABEL + k: v for k, v in labels.items()}, address, started, died)


def judged(question: Question, at: float, runs: list[Run], *found: str, rcode: str = "") -> str:
    """What the judge says about an answer for A at a time."""
    rcode = rcode or ("NOERROR" if found else "NXDOMAIN")
    answer = Answer(question, "A", at, at + 0.001, rcode, frozenset(found), 5 if found else 1)
    return "".join(faults([answer], runs))


@pytest.mark.parametrize("question", [WEB, BARE, NAMED])
def test_redeploy_is_judged_by_the_runs_before_and_after(question: Question) -> None:
    runs = [a_run("10.0.0.2", 100.0, 110.0), a_run("10.0.0.3", 110.4)]
    assert not judged(question, 105.0, runs, "10.0.0.2")
    assert "without" in judged(question, 105.0, runs, rcode="NOERROR")
    assert "though" in judged(question, 105.0, runs)
    assert not judged(question, 110.2, runs)  # there is none
    assert not judged(question, 110.2, runs, "10.0.0.2")  # a moment is allowed
    assert "instead of" in judged(question, 112.0, runs, "10.0.0.2")
    assert "instead of" in judged(question, 112.0, runs, "10.0.0.2", "10.0.0.3")
    assert not judged(question, 112.0, runs, "10.0.0.3")
    assert "SERVFAIL" in judged(question, 112.0, runs, rcode="SERVFAIL")


def test_bare_service_is_nobodys_while_two_projects_have_it() -> None:
    runs = [a_run("10.0.0.2", 100.0), a_run("10.1.0.2", 110.0, project="test")]
    assert not judged(BARE, 105.0, runs, "10.0.0.2")
    assert not judged(BARE, 115.0, runs)
    assert "instead of" in judged(BARE, 115.0, runs, "10.0.0.2")

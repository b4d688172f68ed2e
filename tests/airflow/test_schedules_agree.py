"""What PyAPI says will run is what Airflow 3.3 runs: compared with Airflow's own timetables, which are run for it."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from pyapi.schedules.rules import parse_rule
from pyapi.schedules.runs import next_runs
from tests.airflow.cases import Case, changes, cron_cases, interval_cases, preset_cases, texts
from tests.airflow.conftest import AskAirflow, Question

pytestmark = pytest.mark.airflow

TIMETABLES = {
    "0 9 * * *": "CronTriggerTimetable",
    "@quarterly": "CronTriggerTimetable",
    3600: "DeltaTriggerTimetable",
    "@once": "OnceTimetable",
    "@continuous": "ContinuousTimetable",
    None: "NullTimetable",
}


@pytest.fixture(scope="session")
def cases() -> list[Case]:
    return [*cron_cases(), *preset_cases(), *interval_cases()]


@pytest.fixture(scope="session")
def question(ask_airflow: AskAirflow, cases: list[Case]) -> Question:
    questions = {"chains": [case.question() for case in cases], "texts": texts(), "timetables": list(TIMETABLES)}
    return ask_airflow("airflow_timetables.py", questions)


@pytest.fixture(scope="session")
def answers(question: Question) -> dict[str, Any]:
    answer: dict[str, Any] = question.answer()
    return answer


@pytest.mark.first
def test_airflow_is_asked(question: Question) -> None:
    assert question.is_asked


@pytest.mark.last
def test_next_runs_are_those_of_airflow(
    cases: list[Case], answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    differences = []
    for case, airflow in zip(cases, answers["chains"], strict=True):
        after = datetime.fromtimestamp(case.after, UTC)
        ours = [run.timestamp() for run in next_runs(case.rule, after=after, count=case.count)]
        if ours != airflow:
            differences.append(f"{case}\n  PyAPI   {_times(ours)}\n  Airflow {_times(airflow)}")
    with capsys.disabled():
        print(f"\n{len(cases)} cases compared with Airflow, {len(differences)} differences")
    assert len(cases) >= 6000
    assert differences == []


@pytest.mark.last
def test_the_cases_are_worth_comparing(cases: list[Case], answers: dict[str, Any]) -> None:
    """Each change of three years is met, and Airflow finds runs in nearly all cases, with and without catchup."""
    assert {zone: len(changes(zone)) for zone in ("America/New_York", "Europe/Paris", "Australia/Lord_Howe")} == {
        "America/New_York": 6,
        "Europe/Paris": 6,
        "Australia/Lord_Howe": 6,
    }
    assert all(len(changes(zone)) >= 4 for zone in ("Africa/Casablanca", "America/Sao_Paulo", "Pacific/Apia"))
    assert sum(1 for runs in answers["chains"] if runs) > 0.9 * len(cases)
    assert min(Counter(case.config["catchup"] for case in cases).values()) > 2000


@pytest.mark.last
def test_no_text_is_accepted_that_airflow_cannot_run(answers: dict[str, Any]) -> None:
    accepted = [text for text in texts() if parse_rule({"schedule": text})[0]]
    refused_there = {text for text, error in zip(texts(), answers["texts"], strict=True) if error}
    assert [text for text in accepted if text in refused_there] == []
    assert len(accepted) > 500
    assert len(refused_there) > 300


@pytest.mark.last
def test_a_dag_gets_the_timetables_that_are_compared(answers: dict[str, Any]) -> None:
    assert answers["timetables"] == list(TIMETABLES.values())


def _times(seconds: list[float]) -> str:
    return ", ".join(datetime.fromtimestamp(second, UTC).isoformat() for second in seconds)

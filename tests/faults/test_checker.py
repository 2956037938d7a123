"""Histories made by hand, each with one broken promise: the checker names it, and no other."""

import pytest
from checker import check


def history(*entries: tuple, state: str = "done", sha256: str = "aa") -> list[dict]:
    """A job that was made and delivered, and what the test adds to that."""
    told = [
        {"kind": "submitted", "job": "j", "key": "k"},
        {"kind": "claimed", "key": "k", "token": "1:a"},
        {"kind": "committing", "key": "k", "token": "1:a"},
        {"kind": "committed", "key": "k", "token": "1:a", "outcome": "ok"},
        *({"kind": kind} | fields for kind, fields in entries),
        {"kind": "final", "job": "j", "key": "k", "state": state, "said": sha256, "stored": sha256},
        {"kind": "undisturbed", "key": "k", "sha256": "aa"},
    ]
    return [entry | {"at_ns": number} for number, entry in enumerate(told)]


def found(entries: list[dict]) -> list[str]:
    return [problem.split(":")[0] for problem in check(entries)]


def test_a_farm_at_peace_keeps_every_promise() -> None:
    assert found(history()) == []


def test_an_answer_that_came_twice_is_no_second_commit() -> None:
    assert found(history(("committed", {"key": "k", "token": "1:a", "outcome": "ok"}))) == []


def test_a_refused_commit_is_no_commit() -> None:
    late = ("committed", {"key": "k", "token": "0:z", "outcome": "LeaseLost"})
    assert found(history(late)) == []


@pytest.mark.parametrize("state", ["queued", "running", "failed", "quarantined", "cancelled"])
def test_a_job_that_nobody_finished_is_lost(state: str) -> None:
    assert "lost" in found(history(state=state))


def test_a_job_that_the_ledger_forgot_is_lost() -> None:
    assert found([entry for entry in history() if entry["kind"] != "final"]) == ["lost"]


def test_two_commits_that_count_are_found() -> None:
    second = [("claimed", {"key": "k", "token": "2:b"}), ("committed", {"key": "k", "token": "2:b", "outcome": "ok"})]
    assert found(history(*second)) == ["twice", "stale"]


def test_a_commit_with_a_token_that_was_overtaken_is_found() -> None:
    assert found(history(("claimed", {"key": "k", "token": "10:b"}))) == ["stale"]


def test_a_cancelled_job_that_comes_back_is_found() -> None:
    assert found(history(("cancelled", {"job": "j", "before": ""}))) == ["uncancelled"]


def test_a_commit_after_everybody_cancelled_is_found() -> None:
    late = [
        ("cancelled", {"job": "j", "before": ""}),
        ("claimed", {"key": "k", "token": "2:b"}),
        ("committing", {"key": "k", "token": "2:b"}),
        ("committed", {"key": "k", "token": "2:b", "outcome": "ok"}),
    ]
    assert "uncancelled" in found(history(*late, state="cancelled"))


def test_a_commit_after_the_only_job_was_cancelled_is_found_though_the_job_stays_cancelled() -> None:
    waited = {"kind": "cancelled", "job": "j", "before": "", "at_ns": 1}
    late = [entry | {"at_ns": entry["at_ns"] + 2} for entry in history(state="cancelled")]
    refused = [entry | ({"outcome": "Cancelled"} if entry["kind"] == "committed" else {}) for entry in late]
    assert found([waited, *late]) == ["uncancelled"]
    assert found([waited, *refused]) == []


def test_a_cancellation_that_came_too_late_is_none() -> None:
    assert found(history(("cancelled", {"job": "j", "before": "done"}))) == []


def test_other_bytes_than_an_undisturbed_run_makes_are_found() -> None:
    assert found(history(sha256="bb")) == ["bytes", "bytes"]


def test_audio_that_is_gone_from_the_store_is_found_without_an_undisturbed_run_as_well() -> None:
    entries = [entry for entry in history() if entry["kind"] != "undisturbed"]
    assert found(entries) == []
    assert found([entry | ({"stored": None} if entry["kind"] == "final" else {}) for entry in entries]) == ["bytes"]

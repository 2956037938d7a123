"""docs/reliability.md says what was played, no more and no less, and what was played kept every promise."""

from pathlib import Path

import published
import pytest
from campaign import CLOCK_TROUBLES, NETWORK_TROUBLES, TROUBLES
from faulty_farm import POINTS


def test_the_tables_of_the_page_are_those_of_the_saved_results() -> None:
    page = published.PAGE.read_text()
    assert published.fill(page) == page
    assert all(f"<!-- table: {name} -->" in page for name in published.TABLES)


def test_every_fault_was_played_at_every_point_and_nothing_was_lost_or_counted_twice() -> None:
    kinds = (*TROUBLES, *CLOCK_TROUBLES, *(f"{trouble}, between hosts" for trouble in NETWORK_TROUBLES))
    scenarios = published.load("faults")["scenarios"]
    assert set(scenarios) == {f"{kind} @ {point}" for kind in kinds for point in POINTS}
    assert [name for name, each in scenarios.items() if each["outcome"] != "passed" or each["problems"]] == []


def test_the_soak_was_as_long_as_promised_and_lost_nothing() -> None:
    soak = published.load("soak")
    assert soak["done"] + soak["cancelled"] == soak["jobs"] >= 20_000
    assert (soak["lost"], soak["duplicated"], soak["problems"]) == (0, 0, 0)
    assert soak["redis_bytes_a_key_last_third"] < 1.1 * soak["redis_bytes_a_key_first_third"]


def test_what_is_played_again_takes_the_place_of_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(published, "PAGE", tmp_path / "page.md")
    published.PAGE.write_text("# Page\n<!-- table: faults -->\nold\n<!-- end -->\n")
    how = {"at": "now", "cpu": "a processor", "cores": 2, "python": "3", "load_before": 0.1, "seed": 1}
    failed, passed = ({"outcome": outcome, "jobs": 3, "lost": lost} for outcome, lost in (("failed", 1), ("passed", 0)))
    published.save_scenarios({"kill @ claimed": failed, "stop @ stored": passed}, how | {"commit": "aa"})
    assert "| **all** | 2 | 1 | 6 |" in published.PAGE.read_text()
    published.save_scenarios({"kill @ claimed": passed}, how | {"commit": "bb"})
    assert "| **all** | 2 | 2 | 6 |" in published.PAGE.read_text()
    assert set(published.load("faults")["runs"]) == {"aa", "bb"}
    assert published.PAGE.read_text().startswith("# Page\n")

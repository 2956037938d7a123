"""What the benchmark says is what it measured: its pieces, its statistics, its tables. Nothing is timed here."""

import hashlib
import json
import os
import statistics
import subprocess
import sys

import numpy as np
import pytest
from bench import fresh, pieces, report, tables
from bench.machine import network_gflop_per_audio_s
from bench.spread import percentile, spread
from bench.stages import Stages
from hypothesis import given, settings
from hypothesis import strategies as st

from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_worker.synth.published.conditioning import conditioning
from pianofarm_worker.synth.published.configs import DAFX22, MAESTRO_V2

#: Whoever changes the generator makes every figure published so far incomparable.
DENSE_SHA256 = "098caf96673df9668195379d9162ebc1b34806a8a043c67156e1dcc6ff993263"

LIMITS = MidiLimits(max_bytes=10_000_000, max_duration_s=7200.0, max_notes=500_000, max_tracks=16)

MACHINE = {
    "cpu": "a processor",
    "cores": 2,
    "memory_gb": 8.0,
    "system": "Linux 6",
    "python": "3.11.0",
    "packages": {"numpy": "2.0"},
    "commit": "abc",
    "load_before": 0.1,
}


def saved(**results):
    form = {"repeats": 3, "piece_s": 180.0}
    return {
        "name": "full",
        "form": form,
        "machine": MACHINE,
        "measured_at": "now",
        "took_s": 1.0,
        "results": {name.replace("__", "/").replace("_", " "): found for name, found in results.items()},
    }


def factors(*values):
    return {"real_time_factor": spread(values), "audio_s": 180.0, "took_s": [1.0], "peak_rss_mb": 300.0}


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 100))
def test_percentiles_are_those_of_numpy(values, percent):
    assert percentile(values, percent) == pytest.approx(np.percentile(values, percent), abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=9))
def test_a_spread_is_median_least_and_most(values):
    found = spread(values)
    assert found["median"] == pytest.approx(statistics.median(values))
    assert (found["low"], found["high"], found["n"]) == (min(values), max(values), len(values))


def test_the_dense_piece_is_the_same_bytes_everywhere():
    digest = hashlib.sha256(pieces.dense(180.0)).hexdigest()
    assert digest == DENSE_SHA256


def test_the_dense_piece_fills_the_voices_and_drops_no_note():
    performance = read_performance(pieces.dense(60.0), LIMITS)
    played = conditioning(performance)
    voices = (played.notes[..., 0] > 0).sum(axis=1)
    assert performance.duration_s == pytest.approx(60.0, abs=0.01)
    assert played.dropped_notes == 0
    assert voices.mean() > 12
    assert len(performance.control_s) > 50


def test_the_catalogue_holds_diverse_lengths_and_densities():
    found = list(pieces.catalogue(40))
    lengths = [length_s for length_s, _ in found]
    assert min(lengths) < 20
    assert max(lengths) > 200
    density = []
    for length_s, data in found[:10]:
        performance = read_performance(data, LIMITS)
        assert performance.duration_s == pytest.approx(length_s, abs=0.01)
        density.append(len(performance.pitch) / length_s)
    assert max(density) > 2 * min(density)


def test_the_network_needs_two_gflop_for_a_second_of_audio():
    need = network_gflop_per_audio_s(DAFX22)
    mono = 35 * 128 + 128 * 576 + 192 * 576 + 192 * 192 + 192 * 161
    assert need["monophonic"] == pytest.approx(2e-9 * mono * 16 * 250)
    assert 2.0 < sum(need.values()) < 2.1
    with pytest.raises(ValueError, match="maestro-v2"):
        network_gflop_per_audio_s(MAESTRO_V2)


def test_targets_are_judged_in_their_direction():
    found = saved(
        one_core__tensorflow=factors(31.0, 32.0, 33.0),
        one_core__jax=factors(29.0),
        memory__tensorflow__30={"peak_rss_mb": 900.0},
        memory__tensorflow__600={"peak_rss_mb": 1100.0},
        memory__jax__600={"peak_rss_mb": 480.0},
        cold__dafx22__jax={"process_s": spread([3.0])},
    )
    rows = {line.split("|")[1].strip(): line for line in tables.targets(found).splitlines()}
    assert "32.0 x real time: must met" in rows["one process on one core, dense piece"]
    assert "29.0 x real time: MISSED" in rows["one process on one core, dense piece"]
    assert "1,100 MB: MISSED" in rows["peak memory, any length"]
    assert "480 MB: aim met" in rows["peak memory, any length"]
    assert "3 s: must met" in rows["cold process to 20 s of WAV on disk"]


def test_what_was_not_measured_says_why():
    found = saved(**{"import": {"skipped": "no published checkpoint"}, "fluidsynth__dense": {"failed": "exit code 1"}})
    assert tables.targets(found).count("no published checkpoint") == 2 * 8
    assert "no published checkpoint" in tables.speed(found)
    assert "failed: exit code 1" in tables.compared(found)


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_can_be_made_of_nothing(name):
    assert tables.TABLES[name](saved())


@pytest.mark.parametrize("name", ["compared", "memory", "cold", "stream", "house", "real", "requests"])
def test_tables_call_the_default_model_what_it_was_when_they_were_measured(name):
    kinds = {"memory__house__30": {"peak_rss_mb": 300.0}, "real__house__a.mid": factors(99.0)}
    requests = {"pieces": 1, "shortest_s": 1.0, "longest_s": 1.0, "audio_s": 1.0, "audio_s_per_s": 9.0}
    requests |= {"requests_per_s": 9.0, **factors(99.0), "took_s": {"p50": 1.0, "p95": 1.0, "p99": 1.0}}
    measured = saved(**kinds, requests=requests)

    assert "house-9" in getattr(tables, name)(measured | {"default_model": "house-9"})
    assert "house-1" in getattr(tables, name)(measured)


def test_a_table_has_as_many_cells_in_every_row():
    text = tables.table(("a", "b"), [["1", "x | y"], ["22", ""]])
    assert {line.count("|") for line in text.splitlines()} == {3}


def test_the_page_gets_its_tables_and_keeps_its_words():
    page = "Before.\n\n<!-- table: targets -->\nstale words\n<!-- end -->\n\nAfter.\n"
    once = report.fill(page, saved())
    assert "stale words" not in once
    assert once.startswith("Before.")
    assert once.endswith("After.\n")
    assert "two processes" in once
    assert report.fill(once, saved()) == once
    with pytest.raises(ValueError, match="no table 'nonsense'"):
        report.fill("<!-- table: nonsense -->\n\n<!-- end -->", saved())


def test_the_tables_of_the_published_page_are_those_of_the_saved_measurements():
    if not (report.RESULTS / "full.json").is_file():
        pytest.skip("no full run has been saved in bench/results yet")
    page = report.PAGE.read_text()
    assert report.fill(page, report.load("full")) == page


def test_stages_are_charged_once_and_for_their_own_time():
    class Engine:
        def outer(self):
            self.inner()
            return 7

        def inner(self):
            return 8

    stages = Stages()
    stages.watch(Engine, "outer", "outer")
    stages.watch(Engine, "inner", "inner")
    assert Engine().outer() == 7
    assert stages.seconds["outer"] > 0
    assert stages.seconds["inner"] == 0
    Engine().inner()
    assert stages.seconds["inner"] > 0


def test_measurements_run_pinned_in_processes_of_their_own_and_failures_are_results():
    core = fresh.cores()[0]
    where = fresh.Call("bench.fresh:whereabouts", {}, (core,))
    found, other = fresh.measure_together([where, where])
    assert found["cores"] == other["cores"] == [core]
    assert len({found["pid"], other["pid"], os.getpid()}) == 3
    failed = fresh.measure(fresh.Call("bench.machine:floor", {"seconds": "many"}, (core,)))
    assert "TypeError" in failed["failed"]
    skipped = fresh.measure(
        fresh.Call("bench.published:import_model", {"source": "/none", "destination": "/none"}, (core,))
    )
    assert "no published checkpoint" in skipped["skipped"]


MAIN = """
import json, os, numpy
from bench import fresh

if __name__ == "__main__":
    where = fresh.Call("bench.fresh:whereabouts", {}, (fresh.cores()[0],))
    print(json.dumps([fresh.measure(where), fresh.cores(), "OPENBLAS_NUM_THREADS" in os.environ]))
"""


def test_a_process_is_pinned_before_anything_is_imported(tmp_path):
    (tmp_path / "main.py").write_text(MAIN)
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    env["PYTHONPATH"] = str(fresh.__file__).rpartition("/bench/")[0]
    done = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")], env=env, capture_output=True, text=True, check=True
    )
    where, cores, told = json.loads(done.stdout)
    assert where["cores"] == fresh.cores()[:1]
    assert where["blas_threads"] == [1]
    assert cores == fresh.cores()
    assert not told

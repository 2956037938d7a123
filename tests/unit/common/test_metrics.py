"""Labels stay few, whatever submitters send."""

import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from pianofarm_common import errors
from pianofarm_common.errors import LeaseLost, ServiceUnavailable
from pianofarm_common.metrics import (
    CLASSES,
    DEVICES,
    ERRORS,
    MAX_MODELS,
    OTHER,
    OUTCOMES,
    ClientMetrics,
    FarmMetrics,
    Few,
    RenderMetrics,
    WorkerMetrics,
    device_kind,
    one_of,
)
from pianofarm_common.renders import RenderResult, RenderSpec

ANY_TEXT = st.text(max_size=200)


def result(model: str = "default", audio_s: float = 10.0, render_s: float = 2.0) -> RenderResult:
    spec = RenderSpec(performance_sha256="0" * 64, model_digest="1" * 64, model_name=model, audio_s=audio_s)
    return RenderResult(
        key=spec.key,
        spec=spec,
        audio_key="audio",
        audio_sha256="0" * 64,
        audio_bytes=1,
        audio_s=audio_s,
        sample_rate_hz=24_000,
        channels=1,
        loudness_lufs=None,
        peak_dbfs=0.0,
        notes=1,
        dropped_notes=0,
        render_s=render_s,
    )


@given(priority=ANY_TEXT, device=ANY_TEXT, models=st.lists(ANY_TEXT, max_size=60))
def test_no_value_from_outside_makes_more_series_than_the_lists_allow(priority: str, device: str, models: list[str]):
    registry = CollectorRegistry()
    metrics = RenderMetrics(registry, "test")
    for model in models:
        metrics.observe(result(model[:200]), priority, device)

    (audio,) = (family for family in registry.collect() if family.name == "test_audio_seconds")
    labels = [sample.labels for sample in audio.samples if sample.name.endswith("_total")]
    assert {label["class"] for label in labels} <= {*CLASSES, OTHER}
    assert {label["device"] for label in labels} <= set(DEVICES)
    assert len({label["model"] for label in labels}) <= MAX_MODELS + 1
    generate_latest(registry)


@given(ANY_TEXT)
def test_a_device_is_cpu_gpu_or_other(name: str):
    assert device_kind(name) in DEVICES
    assert device_kind(f"gpu:{name}") == "gpu"


def test_every_error_of_the_project_has_a_label():
    ours = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.PianofarmError)
    }

    assert ours <= set(ERRORS)
    assert one_of("ZeroDivisionError", ERRORS) == OTHER


def test_the_first_few_values_keep_their_name_when_others_come():
    few = Few(2)

    assert [few(name) for name in ("a", "b", "c", "a", "c", "b")] == ["a", "b", OTHER, "a", OTHER, "b"]


def test_few_holds_with_many_threads():
    few = Few(3)
    seen: set[str] = set()
    threads = [threading.Thread(target=lambda n=n: seen.add(few(str(n)))) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen - {OTHER}) == 3


def test_the_farm_starts_with_every_class_and_outcome_at_zero():
    metrics = FarmMetrics()

    for name in CLASSES:
        for outcome in OUTCOMES:
            assert metrics.registry.get_sample_value("pianofarm_jobs_total", {"class": name, "outcome": outcome}) == 0


def test_a_render_is_entered_with_its_speed():
    metrics = FarmMetrics()
    metrics.renders.observe(result(audio_s=30.0, render_s=2.0), "bulk", "gpu:0")

    read = metrics.registry.get_sample_value
    assert read("pianofarm_real_time_factor_sum", {"device": "gpu"}) == 15.0
    assert read("pianofarm_render_seconds_sum", {"class": "bulk", "device": "gpu"}) == 2.0
    assert read("pianofarm_audio_seconds_total", {"class": "bulk", "device": "gpu", "model": "default"}) == 30.0


@pytest.mark.parametrize(
    ("error", "label"), [(None, ""), (ServiceUnavailable("x"), "ServiceUnavailable"), (MemoryError(), OTHER)]
)
def test_attempts_are_counted_by_how_they_ended(error, label):
    metrics = WorkerMetrics()
    metrics.ended(error)

    assert metrics.registry.get_sample_value("pianofarm_worker_attempts_total", {"error": label}) == 1
    assert metrics.registry.get_sample_value("pianofarm_worker_lease_losses_total") == 0


def test_a_lost_lease_is_counted_as_such():
    metrics = WorkerMetrics()
    metrics.ended(LeaseLost("gone"))

    assert metrics.registry.get_sample_value("pianofarm_worker_lease_losses_total") == 1


def test_docs_metrics_names_every_metric_of_the_registries():
    text = (Path(__file__).resolve().parents[3] / "docs" / "metrics.md").read_text()
    named = set(re.findall(r"`(pianofarm_[a-z_]+)`", text))
    named |= {f"pianofarm_worker{name}" for name in re.findall(r"`(_[a-z_]+)`", text)}
    client = CollectorRegistry()
    ClientMetrics(client)
    for registry in (FarmMetrics().registry, WorkerMetrics().registry, client):
        for family in registry.collect():
            assert family.name + ("_total" if family.type == "counter" else "") in named, family.name

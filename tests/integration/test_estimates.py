"""What a submission will take, asked of a real farm before anything is sent."""

from collections.abc import Iterator

import pytest
from farm import make_model, midi

from pianofarm import Farm, Submission
from pianofarm.estimates import estimate_submission
from pianofarm_common.errors import BadMidi, BadOption
from pianofarm_common.ledger import Claim, WorkerInfo
from pianofarm_common.renders import PriorityClass, RenderResult
from pianofarm_common.settings import Settings


@pytest.fixture
def farm(settings: Settings) -> Iterator[Farm]:
    make_model(settings.state_dir)
    priced = settings.model_copy(update={"model": "sine", "worker_price_per_h": 3600.0, "assumed_speed": 10.0})
    with Farm(priced) as farm:
        yield farm


def make(farm: Farm, key, render_s: float) -> None:
    """Finish a render as a worker does, without one."""
    ledger = farm.services.ledger
    claim = ledger.claim(key, "w1")
    assert isinstance(claim, Claim)
    ledger.commit(
        claim.key,
        claim.token,
        RenderResult(
            key=claim.key,
            spec=claim.spec,
            audio_key="audio",
            audio_sha256="0" * 64,
            audio_bytes=1,
            audio_s=claim.spec.audio_s,
            sample_rate_hz=16_000,
            channels=1,
            loudness_lufs=None,
            peak_dbfs=-1.0,
            notes=1,
            dropped_notes=0,
            render_s=render_s,
            worker="w1",
        ),
    )


def test_nothing_is_submitted_and_what_is_done_costs_nothing(farm):
    done = farm.submit(midi(60, seconds=2.0))
    make(farm, done.key, render_s=0.5)
    farm.services.ledger.register_worker(WorkerInfo("w1", "host", 1, "cpu", "tensorflow", 0.0))

    expected, rejected = estimate_submission(farm, [midi(60, seconds=2.0), midi(61, seconds=8.0)])

    assert (expected.renders, expected.cached, rejected) == (1, 1, [])
    assert expected.audio_s == pytest.approx(8.0, abs=0.01)
    assert expected.speed == pytest.approx(4.0, rel=0.01)  # 2 s in 0.5 s
    assert expected.likely_s == expected.latest_s == pytest.approx(2.0, rel=0.01)
    assert expected.price == pytest.approx(2.0, rel=0.01)  # a unit a second
    assert sum(farm.services.ledger.depth(name).queued_renders for name in PriorityClass) == 0


def test_the_same_piece_twice_is_made_once(farm):
    expected, _ = estimate_submission(farm, [midi(60), midi(60), Submission(midi(60), name="again")])

    assert expected.renders == 1


def test_only_work_that_is_served_before_counts_as_ahead(farm):
    farm.submit(midi(60, seconds=3.0), priority="bulk")
    farm.submit(midi(61, seconds=5.0), priority="interactive")

    for priority, ahead_s in (("interactive", 5.0), ("standard", 5.0), ("bulk", 8.0)):
        expected, _ = estimate_submission(farm, [midi(62)], priority=priority)
        assert expected.ahead_s == pytest.approx(ahead_s, abs=0.01), priority


def test_without_workers_there_is_no_time(farm):
    expected, _ = estimate_submission(farm, [midi(62)])

    assert expected.likely_s is None
    assert expected.speed == 10.0


def test_what_cannot_be_rendered_is_listed(farm):
    expected, rejected = estimate_submission(farm, [b"no MIDI", midi(60)])

    assert expected.renders == 1
    assert [type(item.error) for item in rejected] == [BadMidi]
    with pytest.raises(BadOption):
        estimate_submission(farm, [midi(60)], options={"piano": 99})

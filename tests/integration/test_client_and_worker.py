"""The client and a worker whose piano is a sine: what is made comes back."""

import os
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from farm import midi
from sine_farm import SILENT, WAITS

from pianofarm import Farm
from pianofarm_common.errors import (
    QualityGateFailed,
    ServiceUnavailable,
)
from pianofarm_common.renders import State
from pianofarm_common.settings import Settings


@pytest.fixture
def farm(farm_at_work: Settings) -> Iterator[Farm]:
    with Farm(farm_at_work) as farm:
        yield farm


def test_a_batch_is_watched_to_its_end_event_by_event(farm):
    batch = farm.submit_many([midi(60), midi(62), midi(SILENT)])
    events = list(farm.watch(batch))
    for job in batch:
        kinds = [event.kind for event in events if event.job_id == job.id]
        assert kinds[0] == State.RUNNING
        assert State(kinds[-1]).final
    assert [status.state for status in batch.statuses()] == [State.DONE, State.DONE, State.FAILED]
    assert list(farm.watch(batch.id)) == events  # from the beginning, and at once when all is over
    with pytest.raises(QualityGateFailed, match="silent"):
        batch.jobs[2].result()
    assert batch.wait(timeout_s=10).final


def test_a_finished_render_is_in_the_cache_and_its_url_works_without_credentials(farm):
    result = farm.submit(midi(60, 65)).result(timeout_s=60)
    again = farm.submit(midi(60, 65))
    assert again.cached
    assert [event.kind for event in farm.watch(again)][-1:] == [State.DONE]
    with urllib.request.urlopen(again.result().url(), timeout=10) as answer:  # noqa: S310
        assert answer.read() == result.bytes()


def test_waiting_ends_with_the_render_and_not_before(farm):
    hold = farm.settings.state_dir / "hold"
    hold.touch()
    job = farm.submit(midi(60, WAITS))
    with pytest.raises(TimeoutError, match="it goes on"):
        job.wait(timeout_s=1.0)
    waiting = threading.Thread(target=job.wait)
    waiting.start()
    hold.unlink()
    waiting.join(timeout=60)
    assert not waiting.is_alive()
    assert job.status().state is State.DONE


def test_a_download_that_is_damaged_never_appears(farm, tmp_path):
    result = farm.submit(midi(60, 72)).result(timeout_s=60)
    farm.services.store.put(result.info.audio_key, result.bytes()[:-1] + b"x")
    with pytest.raises(ServiceUnavailable, match="damaged"):
        result.download(tmp_path / "out" / "a.wav")
    assert os.listdir(tmp_path / "out") == []

"""From submit to the bytes on disk, with workers, sweepers, Redis and S3 as separate processes; and what happens when they die."""

import contextlib
import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from farm import SineFarm, make_model, midi
from pianofarm import Farm
from pianofarm_common.ledger import Ledger
from pianofarm_common.queue import RENDER_TASK, backlog, make_app, publish_bundles
from pianofarm_common.renders import PriorityClass, State
from pianofarm_common.settings import Settings
from services import Process, wait_until
from sine_farm import KILLS, NETWORK, REFUSED, SILENT, WAITS


@pytest.fixture
def processes(settings: Settings, tmp_path: Path) -> Iterator[SineFarm]:
    make_model(settings.state_dir)
    farm = SineFarm(settings, tmp_path)
    with contextlib.closing(make_app(settings)) as app:
        app.control.purge()
    yield farm
    farm.stop_all()


@pytest.fixture
def farm(settings: Settings) -> Iterator[Farm]:
    with Farm(settings.model_copy(update={"model": "sine"})) as farm:
        yield farm


def wait_for(ledger: Ledger, job_id: str, state: State, *processes: Process) -> None:
    def arrived() -> bool:
        status = ledger.job(job_id)
        assert status.state is state or not status.state.final, f"{status.state}: {status.error}"
        return status.state is state

    wait_until(arrived, f"job {state}", process=processes[0] if processes else None)


def test_a_midi_file_becomes_bytes_on_disk(processes: SineFarm, farm: Farm, ledger: Ledger, tmp_path: Path) -> None:
    processes.worker()
    score = tmp_path / "scale.mid"
    score.write_bytes(midi(60, 62, 64, 65))
    job = farm.submit(score, options={"dry": True, "sample_rate_hz": 8000, "channels": 2, "format": "flac"})
    result = job.result(timeout_s=60)
    path = result.download(tmp_path / "scale.flac")
    samples, rate_hz = soundfile.read(path)
    assert (rate_hz, samples.shape[1]) == (8000, 2)
    assert 2.0 <= len(samples) / rate_hz <= 3.0
    assert hashlib.sha256(path.read_bytes()).hexdigest() == result.info.audio_sha256
    dry, _ = soundfile.read(result.download_dry(tmp_path / "dry.flac"))
    assert 0.0 < abs(dry).max() < abs(samples).max()
    render = ledger.job(job.id).render
    assert render is not None
    assert render.attempts == 1
    assert [worker.name for worker in ledger.workers()] == [result.info.worker]

    again = farm.submit(score, options={"dry": True, "sample_rate_hz": 8000, "channels": 2, "format": "flac"})
    assert again.cached
    assert again.result().info == result.info


def test_a_hundred_identical_submissions_cost_one_render(processes: SineFarm, farm: Farm, ledger: Ledger) -> None:
    processes.worker()
    batch = farm.submit_many([midi(60)] * 100)
    status = batch.wait(timeout_s=60)
    assert (status.total, status.done) == (100, 100)
    keys = {job.key for job in batch.jobs}
    assert len(keys) == 1
    assert ledger.render(keys.pop()).attempts == 1


def test_many_bulk_renders_travel_in_bundles_and_all_arrive(
    processes: SineFarm, farm: Farm, settings: Settings
) -> None:
    batch = farm.submit_many([midi(60, velocity=velocity) for velocity in range(1, 41)])
    with contextlib.closing(make_app(settings)) as app:
        n_messages = backlog(app)[PriorityClass.BULK]
    assert n_messages == 20
    processes.worker("one")
    processes.worker("two")
    status = batch.wait(timeout_s=60)
    assert (status.done, status.total) == (40, 40)


def test_more_urgent_queues_are_served_first_and_a_bundle_yields(
    processes: SineFarm, farm: Farm, settings: Settings, ledger: Ledger
) -> None:
    (settings.state_dir / "hold").touch()
    worker = processes.worker()
    first = farm.submit_many([midi(WAITS)])
    wait_for(ledger, first.jobs[0].id, State.RUNNING, worker)
    bulk = farm.submit_many([midi(60, velocity=velocity) for velocity in range(1, 33)], priority="bulk")
    standard = farm.submit_many([midi(61), midi(62)], priority="standard")
    interactive = farm.submit_many([midi(63)], priority="interactive")
    (settings.state_dir / "hold").unlink()
    for batch in (bulk, standard, interactive):
        batch.wait(timeout_s=60)
    done = [event.batch for event in ledger.events(None) if event.kind == "done"]
    assert done[:4] == [first.id, interactive.id, standard.id, standard.id]


def test_a_bundle_lets_a_more_urgent_render_go_first(
    processes: SineFarm, farm: Farm, settings: Settings, ledger: Ledger
) -> None:
    (settings.state_dir / "hold").touch()
    jobs = farm.submit_many([midi(WAITS), midi(60), midi(61)], priority="bulk").jobs
    with contextlib.closing(make_app(settings)) as app:
        app.control.purge()
        publish_bundles(app, PriorityClass.BULK, [[job.key for job in jobs]])
    worker = processes.worker()
    wait_for(ledger, jobs[0].id, State.RUNNING, worker)
    urgent = farm.submit(midi(62), priority="interactive")
    (settings.state_dir / "hold").unlink()
    for job in jobs:
        job.wait(timeout_s=60)
    done = [event.job_id for event in ledger.events(None) if event.kind == "done"]
    assert done == [jobs[0].id, urgent.id, jobs[1].id, jobs[2].id]


def test_a_killed_workers_render_is_made_by_another(
    processes: SineFarm, farm: Farm, settings: Settings, ledger: Ledger
) -> None:
    (settings.state_dir / "hold").touch()
    victim = processes.worker("victim")
    processes.sweeper()
    job = farm.submit(midi(WAITS, 60))
    wait_for(ledger, job.id, State.RUNNING, victim)
    victim.kill()
    (settings.state_dir / "hold").unlink()
    processes.worker("heir")
    result = job.result(timeout_s=60)
    assert "heir" in result.info.worker
    render = ledger.render(job.key)
    assert (render.attempts, render.kills) == (2, 1)


def test_a_worker_that_was_frozen_past_its_lease_cannot_commit(
    processes: SineFarm, farm: Farm, settings: Settings, ledger: Ledger
) -> None:
    (settings.state_dir / "hold").touch()
    frozen = processes.worker("frozen")
    processes.sweeper()
    job = farm.submit(midi(WAITS, 60))
    wait_for(ledger, job.id, State.RUNNING, frozen)
    frozen.signal_group(signal.SIGSTOP)
    wait_until(lambda: ledger.render(job.key).kills == 1, "lapsed lease")
    (settings.state_dir / "hold").unlink()
    processes.worker("heir")
    result = job.result(timeout_s=60)
    frozen.signal_group(signal.SIGCONT)
    wait_until(lambda: "render dropped" in frozen.output(), "the frozen worker gives up", process=frozen)
    assert "heir" in result.info.worker
    assert [event.kind for event in ledger.events(job.batch)].count("done") == 1


def test_a_render_that_kills_its_worker_is_quarantined_and_its_neighbours_are_made(
    processes: SineFarm, farm: Farm, settings: Settings, ledger: Ledger
) -> None:
    jobs = farm.submit_many([midi(KILLS), midi(60), midi(61)], priority="bulk").jobs
    with contextlib.closing(make_app(settings)) as app:
        app.control.purge()
        publish_bundles(app, PriorityClass.BULK, [[job.key for job in jobs]])
    processes.sweeper()
    worker = processes.worker()
    wait_for(ledger, jobs[0].id, State.QUARANTINED, worker)
    render = ledger.render(jobs[0].key)
    assert (render.attempts, render.kills) == (settings.max_attempts, settings.max_attempts)
    for job in jobs[1:]:
        assert job.wait(timeout_s=60).state is State.DONE
        assert ledger.render(job.key).attempts == 1


def test_a_lost_message_is_published_again(processes: SineFarm, farm: Farm, settings: Settings) -> None:
    job = farm.submit(midi(60))
    with contextlib.closing(make_app(settings)) as app:
        assert app.control.purge() == 1
    processes.sweeper()
    processes.worker()
    assert job.wait(timeout_s=60).state is State.DONE


def test_transient_errors_are_tried_again_and_permanent_ones_are_not(
    processes: SineFarm, farm: Farm, settings: Settings, ledger: Ledger
) -> None:
    (settings.state_dir / "cut").touch()
    processes.sweeper()
    worker = processes.worker()
    flaky, refused, silent = farm.submit_many([midi(NETWORK), midi(REFUSED), midi(SILENT)]).jobs
    wait_for(ledger, refused.id, State.FAILED, worker)
    assert "refuses" in ledger.job(refused.id).error
    wait_for(ledger, silent.id, State.FAILED, worker)
    assert ledger.job(silent.id).error_type == "QualityGateFailed"
    assert ledger.render(refused.key).attempts == ledger.render(silent.key).attempts == 1
    wait_for(ledger, flaky.id, State.FAILED, worker)
    assert ledger.render(flaky.key).attempts == settings.max_attempts
    (settings.state_dir / "cut").unlink()
    assert farm.submit(midi(NETWORK)).wait(timeout_s=60).state is State.DONE


def test_cancel_stops_a_running_render_and_holds_for_a_worker_that_was_offline(
    processes: SineFarm, farm: Farm, settings: Settings, ledger: Ledger
) -> None:
    (settings.state_dir / "hold").touch()
    early = farm.submit(midi(60))
    assert early.cancel() is State.CANCELLED
    worker = processes.worker()
    running = farm.submit(midi(WAITS))
    wait_for(ledger, running.id, State.RUNNING, worker)
    running.cancel()
    wait_until(lambda: "render dropped" in worker.output(), "the worker stops", process=worker)
    # The file `hold` is still there: only the cancellation can have freed the worker.
    assert farm.submit(midi(61)).wait(timeout_s=60).state is State.DONE
    assert ledger.render(early.key).attempts == 0
    assert ledger.render(running.key).state is State.CANCELLED


def test_a_worker_that_is_told_to_stop_hands_its_render_back(
    processes: SineFarm, farm: Farm, settings: Settings, ledger: Ledger
) -> None:
    (settings.state_dir / "hold").touch()
    leaving = processes.worker("leaving", PIANOFARM_SOFT_SHUTDOWN_S="3")
    job = farm.submit(midi(WAITS))
    wait_for(ledger, job.id, State.RUNNING, leaving)
    leaving.signal(signal.SIGTERM)
    leaving.popen.wait(timeout=60)
    render = ledger.render(job.key)
    assert (render.state, render.attempts, render.kills) == (State.QUEUED, 0, 0)
    assert ledger.workers() == []
    (settings.state_dir / "hold").unlink()
    processes.sweeper()
    processes.worker("heir")
    assert job.wait(timeout_s=60).state is State.DONE


def test_a_message_of_an_unknown_version_is_parked(processes: SineFarm, settings: Settings, ledger: Ledger) -> None:
    with contextlib.closing(make_app(settings)) as app:
        app.send_task(RENDER_TASK, args=[{"v": 99, "renders": ["0" * 64]}], queue="standard")
        app.send_task(RENDER_TASK, args=["garbage"], queue="standard")
    worker = processes.worker()
    wait_until(lambda: len(ledger.parked()) == 2, "parked messages", process=worker)
    assert {reason.split()[0] for _, reason in ledger.parked()} == {"message", "a"}
    assert worker.alive


def test_a_model_that_the_worker_does_not_have_is_fetched_and_checked(
    processes: SineFarm, farm: Farm, settings: Settings, tmp_path: Path
) -> None:
    make_model(tmp_path / "elsewhere", "other")
    worker = processes.worker()
    job = farm.submit(midi(60), model=str(tmp_path / "elsewhere" / "models" / "other"))
    assert job.wait(timeout_s=60).state is State.DONE
    assert [path.name for path in (settings.state_dir / "models").iterdir() if path.name != "sine"] == [
        job.result().info.spec.model_digest
    ]
    assert worker.alive

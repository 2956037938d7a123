"""From submit to the bytes on disk, with workers, a sweeper, Redis and S3 as separate processes; and what happens when they die.

One worker and one sweeper stand for the whole module; tests differ by the notes they ask for, so that no render is known already.
"""

import contextlib
import hashlib
import os
import platform
import re
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import soundfile
from celery import Celery
from farm import SineFarm, make_model, midi
from pydantic import SecretStr
from services import Process, wait_until
from sine_farm import HOLDS, KILLS, NETWORK, REFUSED, SILENT, WAITS, WAITS_TOO

from pianofarm import Farm, Job
from pianofarm_common.ledger import Ledger
from pianofarm_common.queue import RENDER_TASK, backlog, make_app, publish_bundles
from pianofarm_common.renders import PriorityClass, State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore

TIMEOUT_S = 120
numbers = count()


def new_midi(*pitches: int) -> bytes:
    """A MIDI file that no test before had."""
    n_full, velocity = divmod(next(numbers), 127)
    return midi(*pitches, seconds=0.2 + 0.01 * n_full, velocity=1 + velocity)


@pytest.fixture(scope="module")
def settings(
    redis_url: str, s3_settings: Settings, s3_store: S3BlobStore, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    return s3_settings.model_copy(
        update={
            "state_dir": tmp_path_factory.mktemp("farm") / "state",
            "redis_url": SecretStr(redis_url.removesuffix("/0") + "/1"),
            "model": "sine",
            "lease_s": 3.0,
            "heartbeat_s": 0.4,
            "sweep_interval_s": 0.1,
            "lost_message_s": 2.0,
            "backoff_base_s": 0.05,
            "backoff_max_s": 0.2,
            "soft_shutdown_s": 5.0,
        }
    )


@pytest.fixture(scope="module")
def processes(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SineFarm]:
    make_model(settings.state_dir)
    farm = SineFarm(settings, tmp_path_factory.mktemp("logs"))
    yield farm
    farm.stop_all()


@pytest.fixture(scope="module")
def standing(processes: SineFarm) -> Process:
    """The worker of all tests."""
    processes.sweeper()
    return processes.worker("standing")


@pytest.fixture(autouse=True)
def files(settings: Settings, standing: Process) -> Iterator[Path]:
    """The folder of the files that hold the piano, empty again after each test."""
    yield settings.state_dir
    for name in (*HOLDS.values(), "cut", "unready"):
        (settings.state_dir / name).unlink(missing_ok=True)


@pytest.fixture(scope="module")
def ledger(settings: Settings) -> Iterator[Ledger]:
    with contextlib.closing(Ledger.from_settings(settings)) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def app(settings: Settings) -> Iterator[Celery]:
    with contextlib.closing(make_app(settings)) as app:
        yield app


@pytest.fixture(scope="module")
def farm(settings: Settings) -> Iterator[Farm]:
    with Farm(settings) as farm:
        yield farm


def wait_for(ledger: Ledger, job_id: str, state: State) -> None:
    def arrived() -> bool:
        status = ledger.job(job_id)
        assert status.state is state or not status.state.final, f"{status.state}: {status.error}"
        return status.state is state

    wait_until(arrived, f"job {state}", TIMEOUT_S)


def occupy(farm: Farm, ledger: Ledger, files: Path) -> str:
    """Keep the one idle worker busy until `hold` is removed; returns the job."""
    (files / "hold").touch()
    job = farm.submit(new_midi(WAITS))
    wait_for(ledger, job.id, State.RUNNING)
    return job.id


def test_a_midi_file_becomes_bytes_on_disk(farm: Farm, ledger: Ledger, tmp_path: Path) -> None:
    score = tmp_path / "scale.mid"
    score.write_bytes(midi(60, 62, 64, 65))
    options = {"dry": True, "sample_rate_hz": 8000, "channels": 2, "format": "flac"}
    job = farm.submit(score, options=options)
    result = job.result(timeout_s=TIMEOUT_S)
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
    assert result.info.worker in [worker.name for worker in ledger.workers()]

    again = farm.submit(score, options=options)
    assert again.cached
    assert again.result().info == result.info

    bare = farm.submit(score, options=options | {"room": 0.0}).result(timeout_s=TIMEOUT_S)
    without_room = bare.download(tmp_path / "bare.flac").read_bytes()
    assert without_room == bare.download_dry(tmp_path / "bare-dry.flac").read_bytes()


def test_a_hundred_identical_submissions_cost_one_render(farm: Farm, ledger: Ledger) -> None:
    batch = farm.submit_many([new_midi(60)] * 100)
    status = batch.wait(timeout_s=TIMEOUT_S)
    assert (status.total, status.done) == (100, 100)
    keys = {job.key for job in batch.jobs}
    assert len(keys) == 1
    assert ledger.render(keys.pop()).attempts == 1


def test_more_urgent_queues_are_served_first(farm: Farm, ledger: Ledger, files: Path) -> None:
    occupy(farm, ledger, files)
    bulk = farm.submit_many([new_midi(60) for _ in range(32)], priority="bulk")
    standard = farm.submit_many([new_midi(60), new_midi(61)], priority="standard")
    interactive = farm.submit(new_midi(60), priority="interactive")
    (files / "hold").unlink()
    for batch in (bulk, standard):
        batch.wait(timeout_s=TIMEOUT_S)
    ours = {bulk.id: "bulk", standard.id: "standard", interactive.batch: "interactive"}
    done = [ours[event.batch] for event in ledger.events(None) if event.kind == "done" and event.batch in ours]
    assert done == ["interactive", "standard", "standard", *["bulk"] * 32]


def test_a_bundle_lets_a_more_urgent_render_go_first(farm: Farm, ledger: Ledger, files: Path, app: Celery) -> None:
    occupy(farm, ledger, files)
    (files / "hold too").touch()
    jobs = farm.submit_many([new_midi(WAITS_TOO), new_midi(60), new_midi(61)], priority="bulk").jobs
    app.control.purge()
    publish_bundles(app, PriorityClass.BULK, [[job.key for job in jobs]])
    (files / "hold").unlink()
    wait_for(ledger, jobs[0].id, State.RUNNING)
    urgent = farm.submit(new_midi(62), priority="interactive")
    (files / "hold too").unlink()
    for job in jobs:
        job.wait(timeout_s=TIMEOUT_S)
    ours = {urgent.id, *(job.id for job in jobs)}
    done = [event.job_id for event in ledger.events(None) if event.kind == "done" and event.job_id in ours]
    assert done == [jobs[0].id, urgent.id, jobs[1].id, jobs[2].id]


def test_many_bulk_renders_travel_in_bundles(farm: Farm, ledger: Ledger, files: Path, app: Celery) -> None:
    occupy(farm, ledger, files)
    batch = farm.submit_many([new_midi(60) for _ in range(40)])
    assert backlog(app)[PriorityClass.BULK] == 20
    (files / "hold").unlink()
    assert batch.wait(timeout_s=TIMEOUT_S).done == 40


def test_a_lost_message_is_published_again(farm: Farm, ledger: Ledger, files: Path, app: Celery) -> None:
    occupy(farm, ledger, files)
    job = farm.submit(new_midi(60))
    assert app.control.purge() == 1
    (files / "hold").unlink()
    assert job.wait(timeout_s=TIMEOUT_S).state is State.DONE


def test_transient_errors_are_tried_again_and_permanent_ones_are_not(
    farm: Farm, ledger: Ledger, files: Path, settings: Settings
) -> None:
    (files / "cut").touch()
    broken_network = new_midi(NETWORK)
    flaky, refused, silent = farm.submit_many([broken_network, new_midi(REFUSED), new_midi(SILENT)]).jobs
    wait_for(ledger, refused.id, State.FAILED)
    assert "refuses" in ledger.job(refused.id).error
    wait_for(ledger, silent.id, State.FAILED)
    assert ledger.job(silent.id).error_type == "QualityGateFailed"
    assert ledger.render(refused.key).attempts == ledger.render(silent.key).attempts == 1
    wait_for(ledger, flaky.id, State.FAILED)
    assert ledger.render(flaky.key).attempts == settings.max_attempts
    (files / "cut").unlink()
    assert farm.submit(broken_network).wait(timeout_s=TIMEOUT_S).state is State.DONE


def test_cancel_frees_a_busy_worker_and_holds_for_what_was_queued(farm: Farm, ledger: Ledger, files: Path) -> None:
    running = farm.job(occupy(farm, ledger, files))
    queued = farm.submit(new_midi(60))
    assert queued.cancel() is State.CANCELLED
    assert running.cancel() is State.CANCELLED
    # The file `hold` is still there: only the cancellation can have freed the worker.
    assert farm.submit(new_midi(61)).wait(timeout_s=TIMEOUT_S).state is State.DONE
    assert ledger.render(queued.key).attempts == 0
    assert ledger.render(running.key).state is State.CANCELLED
    assert not farm.services.store.exists(f"renders/{running.key[:2]}/{running.key}/result.json")


def test_a_message_of_an_unknown_version_is_parked(farm: Farm, ledger: Ledger, app: Celery, standing: Process) -> None:
    app.send_task(RENDER_TASK, args=[{"v": 99, "renders": ["0" * 64]}], queue="standard")
    app.send_task(RENDER_TASK, args=["garbage"], queue="standard")
    wait_until(lambda: len(ledger.parked()) == 2, "parked messages", process=standing)
    assert {message for message, _ in ledger.parked()} == {f'{{"renders": ["{"0" * 64}"], "v": 99}}', '"garbage"'}
    assert farm.submit(new_midi(60)).wait(timeout_s=TIMEOUT_S).state is State.DONE


def test_a_model_that_the_worker_does_not_have_is_fetched_and_checked(
    farm: Farm, settings: Settings, tmp_path: Path
) -> None:
    digest = make_model(tmp_path / "elsewhere", "other")
    job = farm.submit(new_midi(60), model=str(tmp_path / "elsewhere" / "models" / "other"))
    assert job.wait(timeout_s=TIMEOUT_S).state is State.DONE
    assert {path.name for path in (settings.state_dir / "models").iterdir()} == {"sine", digest}


def test_a_damaged_model_is_not_used(farm: Farm, settings: Settings, tmp_path: Path) -> None:
    digest = make_model(tmp_path, "damaged")
    store = farm.services.store
    store.put(f"models/{digest}/config.json", (tmp_path / "models" / "damaged" / "config.json").read_bytes())
    store.put(f"models/{digest}/model.safetensors", b"other weights")
    job = farm.submit(new_midi(60), model=str(tmp_path / "models" / "damaged"))
    status = job.wait(timeout_s=TIMEOUT_S)
    assert (status.state, status.error_type) == (State.FAILED, "BadModel")
    assert not (settings.state_dir / "models" / digest).exists()


# -- deaths ---------------------------------------------------------------------------------------------------------------


def test_a_render_that_kills_its_worker_is_quarantined_and_its_neighbours_are_made(
    farm: Farm, ledger: Ledger, files: Path, app: Celery, settings: Settings
) -> None:
    occupy(farm, ledger, files)
    jobs = farm.submit_many([new_midi(KILLS), new_midi(60), new_midi(61)], priority="bulk").jobs
    app.control.purge()
    publish_bundles(app, PriorityClass.BULK, [[job.key for job in jobs]])
    (files / "hold").unlink()
    wait_for(ledger, jobs[0].id, State.QUARANTINED)
    render = ledger.render(jobs[0].key)
    assert (render.attempts, render.kills) == (settings.max_attempts, settings.max_attempts)
    ends = re.findall(rf"standing@{re.escape(platform.node())}:\d+ \(([^()]*(?:\([^()]*\)[^()]*)?)\)", render.error)
    assert len(ends) == settings.max_attempts, render.error
    assert all(end.endswith(" MB when heard last") for end in ends)
    # What ended the last one its parent may notice when its lease has lapsed: it is short here.
    assert sum("signal 9 (SIGKILL)" in end for end in ends) >= settings.max_attempts - 1, render.error
    for job in jobs[1:]:
        assert job.wait(timeout_s=TIMEOUT_S).state is State.DONE
        assert ledger.render(job.key).attempts == 1


@pytest.fixture
def second(processes: SineFarm, farm: Farm, ledger: Ledger, files: Path) -> Iterator[tuple[Process, Job]]:
    """A second worker in the middle of a job, which lasts until `hold too` is removed; the standing worker is busy until then."""
    occupy(farm, ledger, files)
    worker = processes.worker("second")
    (files / "hold too").touch()
    job = farm.submit(new_midi(WAITS_TOO))
    wait_for(ledger, job.id, State.RUNNING)
    yield worker, job
    worker.kill()


def let_go(files: Path) -> None:
    for name in HOLDS.values():
        (files / name).unlink()


def test_a_killed_workers_render_is_made_by_another(second: tuple[Process, Job], ledger: Ledger, files: Path) -> None:
    worker, job = second
    worker.kill()
    let_go(files)
    assert "standing" in job.result(timeout_s=TIMEOUT_S).info.worker
    render = ledger.render(job.key)
    assert (render.attempts, render.kills) == (2, 1)


def test_a_message_waits_for_whoever_is_free_while_a_killed_child_is_being_replaced(
    farm: Farm, ledger: Ledger, files: Path, app: Celery, standing: Process
) -> None:
    job = occupy(farm, ledger, files)
    (files / "unready").touch()
    n_taken, n_dead = (standing.output().count(said) for said in (" received", "process died"))
    os.kill(int(ledger.render(ledger.job(job).key).worker.rpartition(":")[2]), signal.SIGKILL)
    wait_until(lambda: standing.output().count("process died") > n_dead, "its death is seen", process=standing)
    other = farm.submit(new_midi(60))
    # The other one's message, and that of the killed child's render.
    wait_until(lambda: sum(backlog(app).values()) == 2, "both wait", process=standing)
    assert standing.output().count(" received") == n_taken
    (files / "unready").unlink()
    (files / "hold").unlink()
    for each in (job, other.id):
        wait_for(ledger, each, State.DONE)


def test_a_worker_that_was_frozen_past_its_lease_cannot_commit(
    second: tuple[Process, Job], ledger: Ledger, files: Path
) -> None:
    worker, job = second
    worker.signal_group(signal.SIGSTOP)
    wait_until(lambda: ledger.render(job.key).kills == 1, "lapsed lease", TIMEOUT_S)
    let_go(files)
    assert "standing" in job.result(timeout_s=TIMEOUT_S).info.worker
    worker.signal_group(signal.SIGCONT)
    wait_until(lambda: "render dropped" in worker.output(), "the frozen worker gives up", TIMEOUT_S, worker)
    assert [event.kind for event in ledger.events(job.batch)].count("done") == 1


def test_a_worker_that_is_told_to_stop_hands_its_render_back(
    second: tuple[Process, Job], ledger: Ledger, files: Path
) -> None:
    worker, job = second
    worker.signal(signal.SIGTERM)
    worker.popen.wait(timeout=TIMEOUT_S)
    render = ledger.render(job.key)
    assert (render.state, render.attempts, render.kills) == (State.QUEUED, 0, 0)
    assert not any(str(each.pid) in render.worker for each in ledger.workers())
    let_go(files)
    assert job.wait(timeout_s=TIMEOUT_S).state is State.DONE

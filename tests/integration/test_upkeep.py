"""`pianofarm reconcile`, `pianofarm sweep` and `pianofarm quarantine drop`, against a real Redis, a real store and a real worker."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from farm import SineFarm, environment, make_model, midi
from services import wait_until

from pianofarm import Farm
from pianofarm.cli import run
from pianofarm_common.ledger import Claim, Ledger
from pianofarm_common.queue import backlog, make_app
from pianofarm_common.renders import PriorityClass, RenderKey, State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore, midi_object, sidecar_object


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A farm with a bucket of its own: reconciliation reads all of it."""
    make_model(settings.state_dir)
    bucket = f"upkeep-{abs(hash(request.node.name))}"
    own = settings.model_copy(update={"model": "sine", "s3_bucket": bucket, "max_attempts": 1, "lease_s": 0.5})
    for name, value in environment(own).items():
        monkeypatch.setenv(name, value)
    return own


@pytest.fixture
def store(settings: Settings) -> Iterator[S3BlobStore]:
    store = S3BlobStore.from_settings(settings)
    store.ensure_bucket()
    yield store
    store.close()


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger.from_settings(settings)
    yield ledger
    ledger.close()


@pytest.fixture
def farm(settings: Settings, store: S3BlobStore) -> Iterator[Farm]:
    with Farm(settings) as farm:
        yield farm


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[None]:
    processes = SineFarm(settings.model_copy(update={"lease_s": 5.0}), tmp_path)
    processes.worker()
    yield
    processes.stop_all()


def reconcile(capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> dict:
    capsys.readouterr()
    assert run(["reconcile", "--json", *options]) == code
    return json.loads(capsys.readouterr().out)


def made(farm: Farm, *pitches: int) -> list[RenderKey]:
    batch = farm.submit_many([midi(pitch) for pitch in pitches], options={"dry": True})
    assert batch.wait(timeout_s=60).done == len(pitches)
    return [job.key for job in batch.jobs]


def test_an_empty_redis_gets_every_finished_render_back(settings, farm, worker, ledger, capsys) -> None:
    keys = made(farm, 60, 62, 64)
    before = {key: ledger.render(key).result.audio_sha256 for key in keys}
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        client.flushall()
    waiting = farm.submit(midi(62), options={"dry": True})  # before anybody reconciled: nothing is known
    assert not waiting.cached
    found = reconcile(capsys)
    assert (found["whole"], found["damaged"]) == (3, [])
    assert found["adopted"] >= 2  # the worker may have found the one that was asked for
    assert {key: ledger.render(key).result.audio_sha256 for key in keys} == before
    assert farm.submit(midi(60), options={"dry": True}).cached
    assert waiting.result(timeout_s=60).info.audio_sha256 == before[waiting.key]
    assert reconcile(capsys)["adopted"] == 0


def test_missing_and_damaged_objects_are_found_and_made_again(settings, farm, worker, ledger, store, capsys) -> None:
    keys = no_audio, no_dry, no_sidecar, nothing, _torn, bad_sidecar = made(farm, 60, 62, 64, 65, 67, 69)
    results = [ledger.render(key).result for key in keys]
    before = [store.get(result.audio_key) for result in results]
    store.delete(results[0].audio_key)
    store.delete(results[1].dry_key)
    store.delete(sidecar_object(no_sidecar))
    for name in list(store.list(f"renders/{nothing[:2]}/{nothing}/")):
        store.delete(name)
    store.put(results[4].audio_key, before[4][: len(before[4]) // 2])
    store.put(sidecar_object(bad_sidecar), b'{"key": "')

    found = reconcile(capsys, code=1)
    reasons = {damage["key"]: damage["reason"] for damage in found["damaged"]}
    assert set(reasons) == {no_audio, no_dry, no_sidecar, nothing, bad_sidecar}
    assert reasons[no_dry] == "gone from the store: dry.wav"
    assert "all of its objects" in reasons[nothing]
    found = reconcile(capsys, "--read-audio", "--render")
    assert set(found["rendered_again"]) == set(keys)
    assert farm.batch(found["batch"]).wait(timeout_s=60).done == 6
    assert [store.get(result.audio_key) for result in results] == before
    assert reconcile(capsys, "--read-audio")["damaged"] == []


def test_a_render_whose_midi_is_gone_as_well_must_be_submitted_again(farm, worker, ledger, store, capsys) -> None:
    (key,) = made(farm, 60)
    result = ledger.render(key).result
    store.delete(result.audio_key)
    store.delete(midi_object(result.spec.performance_sha256))
    assert reconcile(capsys, "--render", code=1)["lost"] == [key]
    assert not farm.submit(midi(60), options={"dry": True}).cached


def test_a_render_that_is_being_stored_is_not_called_damaged(farm, ledger, store, capsys) -> None:
    job = farm.submit(midi(60))
    assert isinstance(ledger.claim(job.key, "w"), Claim)
    store.put(f"renders/{job.key[:2]}/{job.key}/audio.wav", b"half of it")
    assert reconcile(capsys) == {
        "whole": 0,
        "adopted": 0,
        "damaged": [],
        "batch": None,
        "rendered_again": [],
        "lost": [],
    }


def test_sweep_once_publishes_what_nobody_does(settings, farm, ledger, capsys) -> None:
    ticket = farm.submit(midi(60))
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        client.delete(*PriorityClass)  # the message is lost

    def published() -> int:
        capsys.readouterr()
        assert run(["sweep", "--once", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["published"]

    def one_is_published() -> bool:
        return published() == 1

    wait_until(one_is_published, "published again")
    app = make_app(settings)
    assert sum(backlog(app).values()) == 1
    app.close()
    assert ledger.render(ticket.key).state is State.QUEUED


def test_a_render_in_quarantine_is_forgotten_and_then_tried_anew(farm, ledger, capsys) -> None:
    job = farm.submit(midi(60))
    assert isinstance(ledger.claim(job.key, "w"), Claim)

    def is_quarantined() -> bool:
        ledger.sweep({})
        return job.status().state is State.QUARANTINED

    wait_until(is_quarantined, "quarantined")
    assert farm.submit(midi(60)).status().state is State.QUARANTINED
    capsys.readouterr()
    assert run(["quarantine", "drop", job.key]) == 0
    assert capsys.readouterr().out.split() == [job.key, "forgotten"]
    assert ledger.quarantined() == []
    assert job.status().state is State.QUARANTINED
    assert farm.submit(midi(60)).status().state is State.QUEUED
    assert run(["quarantine", "drop", job.key]) == 0
    assert "left as it is" in capsys.readouterr().out
    assert run(["quarantine", "drop"]) == 2

"""What is old and no job points to is deleted, against a real store and a real Redis; and what a sweeper says of itself."""

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from farm import midi
from ledger_values import request, result, spec
from prometheus_client.parser import text_string_to_metric_families
from services import free_port, wait_until

from pianofarm import Farm
from pianofarm_common.ledger import Claim, Ledger, Refusal
from pianofarm_common.metrics import SweeperMetrics
from pianofarm_common.renders import PriorityClass, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore, audio_object, dry_object, midi_object, sidecar_object
from pianofarm_worker import sweeper
from pianofarm_worker.retention import Retention


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """With a bucket of its own: retention reads all of it."""
    return settings.model_copy(update={"s3_bucket": f"retention-{abs(hash(request.node.name))}"})


@pytest.fixture
def store(settings: Settings) -> Iterator[S3BlobStore]:
    with closing(S3BlobStore.from_settings(settings)) as store:
        store.ensure_bucket()
        yield store


def stored(store: S3BlobStore, of: RenderSpec) -> list[str]:
    """Every object of a render that was made."""
    names = [audio_object(of.key, "wav"), dry_object(of.key, "wav"), sidecar_object(of.key)]
    for name in names:
        store.put(name, result(of).model_dump_json().encode())
    store.put(midi_object(of.performance_sha256), b"midi")
    return [*names, midi_object(of.performance_sha256)]


class Cut:
    """A moment: what was stored before is old, what is stored later is young. A store tells times in whole seconds."""

    def __init__(self, ledger: Ledger, store: S3BlobStore) -> None:
        self.ledger, self.store = ledger, store
        time.sleep(1.1)
        self.at = time.time()
        time.sleep(1.1)

    def step(self) -> tuple[int, int]:
        return Retention(self.ledger, self.store, time.time() - self.at, SweeperMetrics()).step()


def test_only_what_is_old_and_forgotten_is_deleted(ledger: Ledger, store: S3BlobStore) -> None:
    gone, waiting, remembered, young = (spec(number) for number in range(4))
    kept = stored(store, waiting) + stored(store, remembered)
    (ticket,) = ledger.submit_many([request(1)])
    ledger.adopt([result(remembered)])
    old = stored(store, gone)
    store.put("models/digest/config.json", b"{}")
    retention = Cut(ledger, store)
    kept += stored(store, young)
    assert retention.step() == (3, 1)
    assert not any(store.exists(name) for name in old)
    assert all(store.exists(name) for name in [*kept, "models/digest/config.json"])
    assert retention.step() == (0, 0)

    # The job is cancelled, and both are forgotten: then nobody points to them.
    ledger.cancel_job(ticket.job_id)
    ledger.forget(remembered.key)
    with redis.Redis(connection_pool=ledger._redis.connection_pool) as client:
        client.delete(f"{{pianofarm}}:render:{waiting.key}")
    assert retention.step() == (6, 2)


def test_a_render_is_not_made_while_its_old_objects_are_deleted(ledger: Ledger) -> None:
    free = spec(1)
    assert ledger.retire([free.key]) == [free.key]
    assert ledger.adopt([result(free)]) == 0
    (ticket,) = ledger.submit_many([request(1)])
    assert ledger.claim(ticket.key, "worker") is Refusal.BACKOFF
    assert ledger.retire([free.key]) == []
    ledger.retired([free.key])
    (found,) = ledger.submit_many([request(2)])
    assert isinstance(ledger.claim(found.key, "worker"), Claim)
    assert ledger.adopt([result(spec(3))]) == 1


def test_midi_that_is_submitted_again_is_young(settings: Settings, ledger: Ledger, store: S3BlobStore) -> None:
    with Farm(settings.model_copy(update={"model": "house-2"})) as farm:
        job = farm.submit(midi(60))
        name = midi_object(job.status().render.spec.performance_sha256)
        ledger.cancel_job(job.id)
        ledger._redis.delete(f"{{pianofarm}}:render:{job.key}")
        retention = Cut(ledger, store)
        farm.submit(midi(60))
        assert retention.step() == (0, 0)
        assert store.exists(name)


def test_one_of_many_sweepers_looks_through_the_bucket(ledger: Ledger) -> None:
    assert [ledger.first_in("something", 60.0) for _ in range(3)] == [True, False, False]
    assert ledger.first_in("else", 60.0)


def test_a_sweeper_deletes_and_says_what_it_did(settings: Settings, ledger: Ledger, store: S3BlobStore) -> None:
    old = stored(store, spec(9))
    time.sleep(3.1)
    (ticket,) = ledger.submit_many([request(1, priority=PriorityClass.BULK)])
    c = ledger.claim(ticket.key, "worker")
    assert isinstance(c, Claim)
    ledger.release(c.key, c.token)
    port, ending = free_port(), threading.Event()
    own = settings.model_copy(update={"retention_s": 2.0, "sweeper_metrics_port": port})
    thread = threading.Thread(target=sweeper.run, args=[own, ending])
    thread.start()
    try:
        wait_until(lambda: not any(store.exists(name) for name in old), "old objects are deleted")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    finally:
        ending.set()
        thread.join(60)
    deleted = {sample.labels["kind"]: sample.value for sample in families["pianofarm_sweeper_deleted_objects"].samples}
    assert deleted == {"renders": 3.0, "midi": 1.0}
    published = {
        sample.labels["why"]: sample.value for sample in families["pianofarm_sweeper_published_renders"].samples
    }
    assert published == {"again": 1.0, "turn": 0.0}
    assert families["pianofarm_sweeper_sweeps"].samples[0].value >= 1
    assert families["pianofarm_sweeper_last_sweep_timestamp_seconds"].samples[0].value > time.time() - 600

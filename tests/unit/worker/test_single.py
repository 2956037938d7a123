"""One worker in a container: which it is, which classes it serves, how long it waits for the store."""

import pytest

from pianofarm_common.errors import BadSettings, ServiceUnavailable
from pianofarm_common.settings import Settings
from pianofarm_worker import single


@pytest.fixture
def settings(tmp_path):
    return Settings(_env_file=None, state_dir=tmp_path)


def queues_of(worker):
    (queues,) = (part for part in worker.argv if part.startswith("--queues="))
    return queues.removeprefix("--queues=")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")


def test_it_serves_the_classes_it_is_given_the_most_urgent_first(settings, no_gpu):
    assert queues_of(single.the_worker(settings, ["bulk", "interactive"])) == "interactive,bulk"


def test_without_classes_it_serves_all(settings, no_gpu):
    assert queues_of(single.the_worker(settings, [])) == "interactive,standard,bulk"


def test_a_class_that_does_not_exist_is_refused_by_name(settings, no_gpu):
    with pytest.raises(BadSettings, match=r"urgent.*interactive, standard, bulk"):
        single.the_worker(settings, ["urgent"])


def test_the_only_gpu_is_the_device(settings, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1234")
    worker = single.the_worker(settings, [])
    assert worker.env["CUDA_VISIBLE_DEVICES"] == "GPU-1234"
    assert worker.name == "gpu0"


def test_two_gpus_are_refused_because_whoever_counts_containers_counts_workers(settings, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(BadSettings, match=r"2 GPUs are visible \(0, 1\)"):
        single.the_worker(settings, [])


def test_a_store_that_starts_a_moment_later_is_waited_for():
    answers = iter([ServiceUnavailable("not yet"), ServiceUnavailable("not yet"), None])
    pauses = []

    def ready():
        if (answer := next(answers)) is not None:
            raise answer

    single.wait_for(ready, limit_s=60.0, pause=pauses.append)
    assert len(pauses) == 2


def test_a_store_that_never_answers_ends_the_wait():
    def ready():
        raise ServiceUnavailable("never")

    with pytest.raises(ServiceUnavailable, match="never"):
        single.wait_for(ready, limit_s=0.0)


def test_refused_credentials_are_not_waited_for():
    def ready():
        raise BadSettings("refused")

    with pytest.raises(BadSettings, match="refused"):
        single.wait_for(ready, limit_s=60.0)

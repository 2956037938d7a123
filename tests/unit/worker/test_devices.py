"""Which workers a host gets, and what they are told."""

import os
import subprocess
import sys

import pytest

from pianofarm_common.errors import BadSettings
from pianofarm_common.settings import Settings
from pianofarm_worker import devices
from pianofarm_worker.devices import cores, gpus, worker_commands


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cores", lambda: [0, 1, 2, 5])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("", []), ("-1", []), ("0", ["0"]), ("2, 3", ["2", "3"]), ("0,-1,1", ["0"]), ("GPU-8f5e,1", ["GPU-8f5e", "1"])],
)
def test_the_gpus_are_those_that_cuda_would_use(
    monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == expected


def test_there_is_one_worker_per_gpu_that_sees_only_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    first, second = worker_commands(Settings())
    assert [(worker.name, worker.env["CUDA_VISIBLE_DEVICES"]) for worker in (first, second)] == [
        ("gpu0", "1"),
        ("gpu1", "3"),
    ]
    assert "--hostname=gpu1@%h" in second.argv
    assert "--concurrency=1" in second.argv


@pytest.mark.usefixtures("four_cores")
def test_without_a_gpu_there_is_one_worker_per_core_pinned_to_it() -> None:
    workers = worker_commands(Settings(threads_per_worker=1))
    assert [worker.name for worker in workers] == ["cpu0", "cpu1", "cpu2", "cpu3"]
    assert [worker.argv[3] for worker in workers] == ["0", "1", "2", "5"]
    assert all(worker.env["OMP_NUM_THREADS"] == worker.env["TF_NUM_INTRAOP_THREADS"] == "1" for worker in workers)
    assert all(worker.env["CUDA_VISIBLE_DEVICES"] == "-1" for worker in workers)


@pytest.mark.usefixtures("four_cores")
def test_workers_that_do_not_fill_the_host_are_not_pinned() -> None:
    workers = worker_commands(Settings(threads_per_worker=1), cpu=2)
    assert [worker.argv[1:3] for worker in workers] == [("-m", "celery")] * 2
    assert len(worker_commands(Settings(local_workers=3))) == 3
    assert len(worker_commands(Settings(), cpu=0)) == 4


@pytest.mark.usefixtures("four_cores")
def test_workers_with_several_threads_get_as_many_cores() -> None:
    workers = worker_commands(Settings(threads_per_worker=2), cpu=2)
    assert [worker.argv[3] for worker in workers] == ["0,1", "2,5"]
    assert (workers[0].env["TF_NUM_INTRAOP_THREADS"], workers[0].env["OPENBLAS_NUM_THREADS"]) == ("2", "1")


def test_a_number_of_cpu_workers_leaves_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [worker.name for worker in worker_commands(Settings(), cpu=1)] == ["cpu0"]
    with pytest.raises(BadSettings, match="--cpu -1"):
        worker_commands(Settings(), cpu=-1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_a_pinned_command_runs_on_its_core_only() -> None:
    core = cores()[-1]
    show = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
    argv = [sys.executable, "-m", "pianofarm_worker.devices", str(core), *show]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == f"[{core}]"


def test_looking_for_devices_imports_no_array_library() -> None:
    program = (
        "import sys, pianofarm_worker.app, pianofarm_worker.devices as d; from pianofarm_common.settings import Settings;"
        "d.worker_commands(Settings()); print([n for n in ('tensorflow', 'keras', 'jax', 'ddsp') if n in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )

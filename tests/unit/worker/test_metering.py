"""What a worker measures of itself."""

import contextlib
import ctypes
import os
import socket
import urllib.request
from collections.abc import Iterator, Sequence

import pytest

from pianofarm_common.errors import QualityGateFailed
from pianofarm_common.ledger import Claim
from pianofarm_common.metrics import WorkerMetrics
from pianofarm_common.renders import PriorityClass, RenderKey, RenderResult, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_common.speedometer import REMEMBERED, Speedometer
from pianofarm_worker.device_stats import DeviceStats, GpuMeter, ProcessMeter, meter_of
from pianofarm_worker.metering import MeteredMaker, serve_metrics, watch_device
from pianofarm_worker.pulse import Hold
from pianofarm_worker.stopping import StopSign

SPEC = RenderSpec(performance_sha256="0" * 64, model_digest="1" * 64, model_name="default", audio_s=10.0)
CLAIM = Claim(
    key=SPEC.key, token="1:a", lease_s=15.0, spec=SPEC, attempt=1, priority=PriorityClass.INTERACTIVE, queue_s=0.25
)


def result(audio_s: float = 10.0, render_s: float = 1.0, upload_s: float = 0.25) -> RenderResult:
    return RenderResult(
        key=RenderKey(SPEC.key),
        spec=SPEC,
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
        queue_s=0.25,
        render_s=render_s,
        upload_s=upload_s,
    )


class GoodMaker:
    def render(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, RenderResult]]:
        yield from ((hold, result()) for hold in holds)

    def store(self, hold: Hold, made: RenderResult) -> RenderResult:
        return made


class BadMaker:
    def render(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, Exception]]:
        yield from ((hold, QualityGateFailed("silent")) for hold in holds)


def test_what_was_made_is_entered_under_its_class_and_device():
    metrics = WorkerMetrics()
    maker = MeteredMaker(GoodMaker(), metrics, "gpu:0")
    ((hold, outcome),) = maker.render([Hold(CLAIM, StopSign())])
    made = maker.store(hold, outcome)

    read = metrics.registry.get_sample_value
    assert made == result()
    assert read("pianofarm_worker_render_seconds_sum", {"class": "interactive", "device": "gpu"}) == 1.0
    assert read("pianofarm_worker_upload_seconds_sum", {"class": "interactive"}) == 0.25
    assert read("pianofarm_worker_queue_wait_seconds_sum", {"class": "interactive"}) == 0.25


def test_what_cannot_be_made_is_counted_and_still_told():
    metrics = WorkerMetrics()
    ((_, outcome),) = MeteredMaker(BadMaker(), metrics, "cpu").render([Hold(CLAIM, StopSign())])
    assert isinstance(outcome, QualityGateFailed)

    assert metrics.registry.get_sample_value("pianofarm_worker_attempts_total", {"error": "QualityGateFailed"}) == 1


def two_free_neighbouring_ports() -> int:
    """The lower one. Below the range the kernel deals out, where another process's connection could take the second."""
    for port in range(21_000 + os.getpid() % 5000, 32_000, 2):
        with socket.socket() as lower, socket.socket() as upper, contextlib.suppress(OSError):
            lower.bind(("127.0.0.1", port))
            upper.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two free ports")


def test_two_workers_of_one_host_serve_on_neighbouring_ports():
    port = two_free_neighbouring_ports()
    settings = Settings(worker_metrics_port=port)
    serve_metrics(settings, "cpu")
    serve_metrics(settings, "cpu")

    pages = [urllib.request.urlopen(f"http://127.0.0.1:{at}/metrics", timeout=5).read() for at in (port, port + 1)]
    assert all(b'pianofarm_worker_device_memory_bytes{kind="used"}' in page for page in pages)


def test_the_device_of_a_cpu_worker_is_its_process():
    stats = ProcessMeter(n_cores=2).read()

    assert 1_000_000 < stats.used_bytes < stats.total_bytes
    assert 0.0 <= stats.utilization <= 1.0


class Nvml:
    """Speaks like libnvidia-ml."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return self.status

    def nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, _handle) -> int:  # noqa: N802
        return 0 if index.value == 3 else 2

    def nvmlDeviceGetMemoryInfo(self, _handle, memory) -> int:  # noqa: N802
        memory._obj.total, memory._obj.used = 80_000, 20_000
        return 0

    def nvmlDeviceGetUtilizationRates(self, _handle, utilization) -> int:  # noqa: N802
        utilization._obj.gpu = 75
        return 0


def test_a_gpu_is_read_through_nvidias_library():
    assert GpuMeter("3", Nvml()).read() == DeviceStats(20_000, 80_000, 0.75)


def test_a_gpu_that_is_not_there_is_said():
    with pytest.raises(OSError, match="device 4"):
        GpuMeter("4", Nvml())


def test_a_gpu_that_cannot_be_asked_is_measured_by_the_process():
    assert isinstance(meter_of("gpu:no-such-device", 1), ProcessMeter)


class BrokenMeter:
    def read(self) -> DeviceStats:
        raise OSError("the driver is gone")


def test_a_device_that_gives_no_answer_does_not_end_the_scrape():
    metrics = WorkerMetrics()
    watch_device(metrics, BrokenMeter())

    assert "pianofarm_worker_attempts" in {family.name for family in metrics.registry.collect()}


def test_the_speed_is_the_ratio_of_sums():
    speedometer = Speedometer(assumed=7.0)
    assert speedometer.speed() == 7.0
    speedometer.add(result(audio_s=10.0, render_s=0.75, upload_s=0.25), "cpu")
    speedometer.add(result(audio_s=10.0, render_s=3.0, upload_s=0.0), "gpu:0")

    assert speedometer.speed() == 5.0
    assert speedometer.speeds() == {"cpu": 10.0, "gpu": pytest.approx(10 / 3)}


def test_the_speed_follows_the_last_renders_only():
    speedometer = Speedometer(assumed=7.0)
    for _ in range(50):
        speedometer.add(result(audio_s=1.0, render_s=1.0, upload_s=0.0), "cpu")
    for _ in range(REMEMBERED):
        speedometer.add(result(audio_s=8.0, render_s=1.0, upload_s=0.0), "cpu")

    assert speedometer.speed() == 8.0

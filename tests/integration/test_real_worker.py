"""The worker as it is shipped, with the default model: the command of `worker_commands`, its devices, its synthesizer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from farm import environment, midi
from services import Process, wait_until

from pianofarm import Farm
from pianofarm_common.ledger import Ledger
from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_common.models import find_model
from pianofarm_common.renders import RenderOptions
from pianofarm_common.settings import Settings
from pianofarm_worker.audio import encode, trimmed
from pianofarm_worker.devices import worker_commands
from pianofarm_worker.synth.piano import load


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Process]:
    (command,) = worker_commands(settings, cpu=1)
    process = Process(list(command.argv), tmp_path / "worker.log", environment(settings) | command.env)
    wait_until(lambda: "ready." in process.output(), "worker", process=process)
    yield process
    process.kill()


def test_the_farm_makes_the_same_bytes_as_this_process(
    worker: Process, settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    score = midi(60, 64, 67)
    with Farm(settings) as farm:
        job = farm.submit(score)
        wait_until(lambda: job.status().state.final, "render", 200, worker)
        result = job.result()
        path = result.download(tmp_path / "chord.wav")
    model = find_model("default", settings.state_dir)
    assert result.info.spec.model_digest == model.digest
    performance, spec = read_performance(score, MidiLimits.from_settings(settings)), result.info.spec
    rendering = load(model, backend=settings.backend).render(performance, RenderOptions(), seed=spec.seed)
    rendering = trimmed(rendering, keep_s=performance.duration_s)
    assert path.read_bytes() == encode(rendering.wet, rendering.sample_rate_hz, RenderOptions()).data
    (info,) = ledger.workers()
    assert (info.name, info.device) == (result.info.worker, "cpu")

"""What `pianofarm render` asks of a model; the rendering itself is tested where it is done."""

from pathlib import Path

import pytest

from pianofarm.solo import Request, render_file
from pianofarm_common.errors import BadModel
from pianofarm_common.settings import Settings
from pianofarm_worker.devices import cores

PIECE = Path(__file__).parents[3] / "examples" / "pedal-study.mid"


def test_a_model_gets_the_threads_batch_and_precision_of_the_settings_as_a_workers_does(monkeypatch, tmp_path):
    asked = []

    def load(_info, **named):
        asked.append(named)
        raise BadModel("no need to go on")

    monkeypatch.setattr("pianofarm_worker.synth.piano.load", load)
    request = Request(midi=str(PIECE), output=tmp_path / "a.wav", dry=None, model=None, options={}, backend="jax")
    for given in (
        {},
        {"threads_per_worker": 0},
        {"threads_per_worker": 3, "batch_size": 4, "precision": "float16"},
    ):
        with pytest.raises(BadModel):
            render_file(request, Settings(state_dir=tmp_path, **given), lambda _part: None)

    assert asked == [
        {"backend": "jax", "n_threads": 1, "batch_size": None, "precision": "float32"},
        {"backend": "jax", "n_threads": len(cores()), "batch_size": None, "precision": "float32"},
        {"backend": "jax", "n_threads": 3, "batch_size": 4, "precision": "float16"},
    ]

"""The engine's compiled loops: each is one program, whatever is played."""

import subprocess
import sys

CODE = """
import numpy as np
from pianofarm_common.midi import Performance
from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR, read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.house import attack, bundles, knock, noise_bus, slow_noise, strikes
from pianofarm_worker.synth.piano import load

piano = load(read_model(PACKAGED_DIR / DEFAULT_MODEL))
performance = Performance(
    onset_s=np.array([0.0, 0.1, 0.2, 0.9]),
    offset_s=np.array([0.1, 0.3, 0.4, 1.0]),
    pitch=np.array([21, 22, 60, 108], np.uint8),
    velocity=np.array([90, 1, 127, 40], np.uint8),
    control_s=np.array([0.15, 0.16, 0.5]),
    control_number=np.array([64, 67, 64], np.uint8),
    control_value=np.array([127, 80, 0], np.uint8),
)
for n_channels in (1, 2):
    piano.render(performance, RenderOptions(channels=n_channels, duration_s=1.2, tail=False), seed=1)
for module in (attack, bundles, knock, noise_bus, slow_noise, strikes):
    for name, loop in vars(module).items():
        if hasattr(loop, "signatures") and loop.__module__ == module.__name__:
            print(module.__name__.rsplit(".", 1)[1], name, len(loop.signatures))
"""


def test_each_loop_of_the_engine_is_compiled_once_whatever_is_played():
    """An array of another layout or type would make Numba compile another program, for seconds, in the middle of a render."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loops = [line.split() for line in done.stdout.splitlines()]

    assert len(loops) >= 10
    assert [loop for loop in loops if loop[-1] != "1"] == []

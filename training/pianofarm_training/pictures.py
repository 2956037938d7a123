"""`python -m pianofarm_training.pictures`: recorded notes and the model's, side by side, as one PNG; or, with `--steps`, every step
from one recording to the model. Measures nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR, WEIGHTS_FILE, read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_training.data import DEFAULT_DATA_DIR
from pianofarm_training.evaluation.materials import one_note
from pianofarm_training.note_picture import draw_steps
from pianofarm_training.note_steps import steps_of
from pianofarm_training.samples import SampleSet, read_note, salamander
from pianofarm_training.train import HELD_OUT_LAYERS
from pianofarm_worker.synth.house.piano import HousePiano

#: Length of what is shown, and of its first moments shown as a waveform.
SECONDS, ONSET_S = 3.0, 0.05

#: Length of the note whose steps are shown.
NOTE_S = 6.0

_WINDOW, _HOP = 1024, 128


def draw(piano: HousePiano, samples: SampleSet, pitches: list[int], layer: int, path: Path) -> None:
    """A row a key: spectrogram of the recording and of the model, the onset of both, their levels over time.

    Args:
        piano: the model.
        samples: the recordings.
        pitches: recorded keys.
        layer: index of the velocity layer, softest first.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rate_hz = piano.info.sample_rate_hz
    figure, axes = plt.subplots(len(pitches), 4, figsize=(22, 4.4 * len(pitches)), squeeze=False)
    for row, pitch in zip(axes, pitches, strict=True):
        recorded = read_note(samples.files[pitch, layer], rate_hz, SECONDS)
        note = one_note(pitch, round(samples.velocities[layer]), SECONDS)
        ours = piano.render(note, RenderOptions(tail=False, dry=True), seed=1).dry / piano.output_gain
        for axis, sound, name in ((row[0], recorded, "recording"), (row[1], ours, "model")):
            extent = (0, len(sound) / rate_hz, 0, rate_hz / 2000)
            axis.imshow(_spectrogram_db(sound[:, 0]), origin="lower", aspect="auto", vmin=-70, vmax=30, extent=extent)
            axis.set_title(f"key {pitch}, {name}, kHz over s")
        onset = np.arange(int(ONSET_S * rate_hz)) / rate_hz * 1000
        for sound, style in ((recorded, "-"), (ours, "--")):
            row[2].plot(onset, sound[: len(onset), 0], style, linewidth=0.7)
            for channel in range(2):
                level_db = _level_db(sound[:, channel], rate_hz // 100)
                row[3].plot(np.arange(len(level_db)) / 100, level_db, style, linewidth=0.9)
        row[2].set_title("left channel over ms")
        row[3].set_title("level, dB, both channels over s (dashed: model)")
    figure.tight_layout()
    figure.savefig(path, dpi=55)
    plt.close(figure)


def draw_note(
    piano: HousePiano,
    samples: SampleSet,
    analysis_dir: Path,
    pitch: int,
    layer: int,
    path: Path,
    held_out: tuple[int, ...] = HELD_OUT_LAYERS,
) -> None:
    """What analysis and fit made of one recorded key, a panel a step.

    Args:
        piano: the model.
        samples: the recordings.
        analysis_dir: where their analysis is kept.
        pitch: a recorded key.
        layer: index of the velocity layer, softest first.
        path: of the PNG.
        held_out: layers that the model was not trained on.
    """
    from safetensors.numpy import load_file

    steps = steps_of(samples, load_file(piano.info.path / WEIGHTS_FILE), analysis_dir, held_out, pitch, layer)
    recorded = read_note(samples.files[pitch, layer], steps.rate_hz, NOTE_S)
    note = one_note(pitch, round(samples.velocities[layer]), NOTE_S)
    ours = piano.render(note, RenderOptions(tail=False, dry=True), seed=1).dry / piano.output_gain
    draw_steps(steps, (recorded, ours), path)


def _spectrogram_db(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    frames = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_HOP] * np.hanning(_WINDOW).astype(np.float32)
    return np.asarray(20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-4), np.float32)


def _level_db(sound: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    power = (sound[: len(sound) // block * block].reshape(-1, block) ** 2).mean(axis=1)
    return np.asarray(10 * np.log10(power + 1e-12), np.float32)


def main(arguments: list[str] | None = None) -> int:
    """Draw some keys."""
    parser = argparse.ArgumentParser(prog="python -m pianofarm_training.pictures", description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA_DIR, help="folder of the recordings (default: data/)")
    parser.add_argument("--model", type=Path, default=PACKAGED_DIR / DEFAULT_MODEL, help="model folder")
    parser.add_argument(
        "--keys", type=int, nargs="+", default=[21, 36, 60, 84, 105], help="recorded keys, MIDI pitches"
    )
    parser.add_argument("--layer", type=int, default=11, help="velocity layer, 1 the softest")
    parser.add_argument("--steps", type=int, metavar="KEY", help="every step for one recorded key instead, MIDI pitch")
    parser.add_argument("--out", type=Path, default=Path("notes.png"))
    chosen = parser.parse_args(arguments)
    piano, samples = HousePiano(read_model(chosen.model)), salamander(chosen.data)
    for pitch in chosen.keys if chosen.steps is None else [chosen.steps]:
        if (pitch, chosen.layer - 1) not in samples.files:
            parser.error(f"key {pitch}, layer {chosen.layer}: not recorded; keys are {samples.pitches}, layers 1 to 16")
    if chosen.steps is None:
        draw(piano, samples, chosen.keys, chosen.layer - 1, chosen.out)
    else:
        draw_note(piano, samples, chosen.data / "analysis", chosen.steps, chosen.layer - 1, chosen.out)
    print(chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

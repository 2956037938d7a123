"""`python -m pianofarm_training.evaluation.picture`: a passage by recordings, model and FluidSynth, as a PNG. Measures nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR
from pianofarm_training.data import DEFAULT_DATA_DIR
from pianofarm_training.evaluation import instruments
from pianofarm_training.evaluation.instruments import RATE_HZ, Instrument
from pianofarm_training.evaluation.music import matched
from pianofarm_training.samples import salamander

_REPOSITORY = Path(__file__).resolve().parents[3]
PICTURE = _REPOSITORY / "docs" / "pictures" / "house-and-recording.png"
PIECE = _REPOSITORY / "examples" / "pedal-study.mid"

#: How much of the piece is drawn, and how deep below the loudest.
SECONDS, DEPTH_DB = 12.0, 90.0

_WINDOW, _HOP = 2048, 256

#: Rows and columns of a spectrogram, which keep the file small.
_ROWS, _COLUMNS = 140, 480

_LOWEST_HZ = 40.0


def log_spectrogram_db(sound: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Power in dB over a logarithmic frequency axis from 40 Hz to the highest. [_ROWS, n_frames], lowest first

    Args:
        sound: [n_samples].
        rate_hz: of the sound.
    """
    frames = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_HOP] * np.hanning(_WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    edges = np.geomspace(_LOWEST_HZ, rate_hz / 2, _ROWS + 1) * _WINDOW / rate_hz
    low = np.minimum(edges[:-1].astype(int), power.shape[1] - 1)
    high = np.minimum(np.maximum(edges[1:].astype(int), low + 1), power.shape[1])
    rows = [power[:, a:b].max(axis=1) for a, b in zip(low, high, strict=True)]
    return np.asarray(10 * np.log10(np.array(rows) + 1e-12), np.float32)


def draw(players: list[Instrument], path: Path) -> None:
    """A spectrogram a row, left channel, all at the loudness of the first.

    Args:
        players: the reference first.
        path: of the PNG.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    limits = MidiLimits(max_bytes=1_000_000, max_duration_s=600.0, max_notes=10_000, max_tracks=16)
    performance = read_performance(PIECE.read_bytes(), limits)
    figure, axes = plt.subplots(len(players), 1, figsize=(9, 2.1 * len(players)), sharex=True, squeeze=False)
    reference: NDArray[np.float32] | None = None
    top_db = 0.0
    for axis, player in zip(axes[:, 0], players, strict=True):
        sound = player.open()(performance)[: round(SECONDS * RATE_HZ)]
        if reference is None:
            reference = sound
        level_db = log_spectrogram_db(matched(sound, reference, RATE_HZ)[:, 0], RATE_HZ)
        if player is players[0]:
            top_db = float(level_db.max())
        step = max(1, level_db.shape[1] // _COLUMNS)
        axis.imshow(
            level_db[:, ::step],
            origin="lower",
            aspect="auto",
            vmin=top_db - DEPTH_DB,
            vmax=top_db,
            cmap="magma",
            extent=(0, SECONDS, 0, _ROWS),
        )
        ticks_hz = np.array([50, 100, 200, 500, 1000, 2000, 5000, 10_000])
        at = _ROWS * np.log(ticks_hz / _LOWEST_HZ) / np.log(RATE_HZ / 2 / _LOWEST_HZ)
        axis.set_yticks(at, [f"{hz / 1000:g}" for hz in ticks_hz], fontsize=7)
        axis.set_ylabel("kHz", fontsize=8)
        axis.set_title(player.title, fontsize=9, loc="left")
    axes[-1, 0].set_xlabel("s", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    # A palette of 64 colours: a third of the size, and nobody sees the difference.
    with Image.open(path) as drawn:
        fewer = drawn.convert("RGB").quantize(64)
    fewer.save(path, optimize=True)


def main(arguments: list[str] | None = None) -> int:
    """Draw the sampler, a model and FluidSynth."""
    parser = argparse.ArgumentParser(prog="python -m pianofarm_training.evaluation.picture", description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA_DIR, help="folder of the recordings (default: data/)")
    parser.add_argument("--model", type=Path, default=PACKAGED_DIR / DEFAULT_MODEL, help="model folder")
    parser.add_argument("--out", type=Path, default=PICTURE)
    chosen = parser.parse_args(arguments)
    font = instruments.SOUND_FONTS / "FluidR3_GM.sf2"
    players = [
        instruments.sampler(salamander(chosen.data)),
        instruments.house(chosen.model),
        instruments.fluidsynth("fluidr3", "FluidSynth, FluidR3 GM", font),
    ]
    draw(players, chosen.out)
    print(chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

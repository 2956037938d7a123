"""Draws a rendered file beside its MIDI: `python examples/draw_render.py in.mid out.wav picture.png` (needs the train extra)."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pretty_midi
import soundfile

mpl.use("Agg")
import matplotlib.pyplot as plt

#: Spectra: window and hop in samples, and the range of levels shown in dB below full scale.
WINDOW, HOP, RANGE_DB = 4096, 512, (-100.0, -20.0)


def draw(midi: Path, audio: Path, picture: Path) -> None:
    """Piano roll, waveform and spectrogram of the left channel, one above the other."""
    samples, rate_hz = soundfile.read(audio, dtype="float32", always_2d=True)
    left = samples[:, 0]
    figure, (roll, wave, spectrum) = plt.subplots(
        3, 1, figsize=(11, 6.5), sharex=True, height_ratios=[2, 1, 2.5], layout="constrained"
    )
    for note in pretty_midi.PrettyMIDI(str(midi)).instruments[0].notes:
        roll.barh(
            note.pitch, note.end - note.start, left=note.start, height=0.9, color=plt.cm.viridis(note.velocity / 127)
        )
    roll.set_ylabel("MIDI pitch")
    wave.plot(np.arange(len(left)) / rate_hz, left, linewidth=0.2)
    wave.set_ylabel("amplitude")
    frames = np.lib.stride_tricks.sliding_window_view(left, WINDOW)[::HOP] * np.hanning(WINDOW).astype(np.float32)
    level_db = 20 * np.log10(np.abs(np.fft.rfft(frames)) * 4 / WINDOW + 1e-9)
    spectrum.imshow(
        level_db.T,
        origin="lower",
        aspect="auto",
        extent=(0, len(left) / rate_hz, 0, rate_hz / 2000),
        vmin=RANGE_DB[0],
        vmax=RANGE_DB[1],
    )
    spectrum.set_ylim(0, 8)
    spectrum.set_ylabel("frequency, kHz")
    spectrum.set_xlabel("time, s")
    figure.savefig(picture, dpi=80)


if __name__ == "__main__":
    draw(*(Path(name) for name in sys.argv[1:4]))

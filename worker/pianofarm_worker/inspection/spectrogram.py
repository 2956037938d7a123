"""A spectrogram with a logarithmic frequency axis, as the bytes of a PNG picture. Knows no notes and no page."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

#: From the lowest key of a piano.
LOWEST_HZ = 27.5

#: Range of levels shown, dB below the loudest.
RANGE_DB = 90.0

#: Frequencies are told apart to 1 / this.
WINDOW_S = 0.128

#: Colours from silence to the loudest: black, violet, red, yellow, white; as light as they are loud, also for the colour-blind.
_COLOURS = np.array([(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)], float)


def spectrogram_dbfs(
    samples: NDArray[np.float32], sample_rate_hz: int, n_columns: int, n_rows: int
) -> NDArray[np.float32]:
    """[n_rows, n_columns], highest frequency first, dBFS of a sine: the strongest bin of each row's band.

    Args:
        samples: [n_samples, n_channels], full scale -1..1; the channels are averaged.
        sample_rate_hz: their rate.
        n_columns: evenly over the samples.
        n_rows: evenly over the logarithm of `LOWEST_HZ` to half of the rate.
    """
    n_window = 1 << (round(WINDOW_S * sample_rate_hz) - 1).bit_length()
    mono = np.pad(samples.mean(axis=1), (n_window // 2, n_window))
    window = np.hanning(n_window).astype(np.float32)
    edges_hz = np.geomspace(LOWEST_HZ, sample_rate_hz / 2, n_rows + 1)
    bins = edges_hz * n_window / sample_rate_hz
    first = np.floor(bins[:-1]).astype(int)
    last = np.minimum(np.maximum(np.ceil(bins[1:]).astype(int), first + 1), n_window // 2 + 1)
    shown = np.empty((n_rows, n_columns), np.float32)
    for column, start in enumerate(np.linspace(0, len(samples), n_columns, endpoint=False).astype(int)):
        magnitude = np.abs(np.fft.rfft(mono[start : start + n_window] * window)) * (2 / window.sum())
        row = np.array([magnitude[a:b].max() for a, b in zip(first, last, strict=True)])
        shown[::-1, column] = 20 * np.log10(np.maximum(row, 1e-10))
    return shown


def coloured(levels_db: NDArray[np.float32]) -> NDArray[np.uint8]:
    """[n_rows, n_columns, 3]: colours of levels, the loudest at the top of `RANGE_DB`."""
    highest = float(levels_db.max(initial=-200.0))
    part = np.clip((levels_db - highest) / RANGE_DB + 1.0, 0.0, 1.0) * (len(_COLOURS) - 1)
    below = np.minimum(part.astype(int), len(_COLOURS) - 2)
    mix = (part - below)[..., None]
    colours: NDArray[np.uint8] = ((1 - mix) * _COLOURS[below] + mix * _COLOURS[below + 1]).astype(np.uint8)
    return colours


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A picture of [n_rows, n_columns, 3] pixels, red, green, blue (PNG, ISO 15948)."""
    n_rows, n_columns, _ = pixels.shape
    rows = np.zeros((n_rows, 1 + 3 * n_columns), np.uint8)  # a zero in front of each row: not filtered
    rows[:, 1:] = pixels.reshape(n_rows, -1)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", n_columns, n_rows, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 6)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )

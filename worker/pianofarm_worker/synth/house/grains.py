"""Sums of partials as matrix products: frames of complex amplitudes, one hop apart, joined by triangular windows.

Pure functions on arrays, shared by the renderer and by the analysis it was trained with. Nothing here knows keys or notes.

A partial of frequency w whose demodulated amplitude at frame n is Z_n sounds as Re(Z(t) e^{jwt}) with Z(t) linear between
frames. Every grain of one partial has the same shape, so that all grains of a note are two matrix products.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]


class Basis(NamedTuple):
    """One hop of every partial, weighted with the falling half of the window."""

    cosine: Float32Array  #: [n_partials, hop]
    sine: Float32Array  #: [n_partials, hop]


def make_basis(frequency_hz: NDArray[np.floating], sample_rate_hz: int, hop: int) -> Basis:
    """The basis of partials at constant frequencies.

    Args:
        frequency_hz: [n_partials].
        sample_rate_hz: of the sound.
        hop: samples between frames.
    """
    time = np.arange(hop)
    angle = (2 * np.pi / sample_rate_hz) * np.outer(np.asarray(frequency_hz, np.float64), time)
    window = 1.0 - time / hop
    return Basis((np.cos(angle) * window).astype(np.float32), (np.sin(angle) * window).astype(np.float32))


def advance(
    amplitude: NDArray[np.complexfloating], frequency_hz: NDArray[np.floating], sample_rate_hz: int, hop: int
) -> NDArray[np.complex64]:
    """Turn demodulated amplitudes into each frame's own phase.

    Args:
        amplitude: [..., n_frames, n_partials], demodulated: constant for a steady partial.
        frequency_hz: [n_partials].
        sample_rate_hz: of the sound.
        hop: samples between frames.
    """
    n_frames, n_partials = amplitude.shape[-2:]
    cycles_a_hop = np.asarray(frequency_hz, np.float64) * (hop / sample_rate_hz)
    # Turning by 64 a + b hops is turning by 64 a, then by b: two short tables instead of one exponential a frame.
    coarse = np.exp(2j * np.pi * (np.outer(np.arange(0, n_frames, 64), cycles_a_hop) % 1.0)).astype(np.complex64)
    fine = np.exp(2j * np.pi * (np.outer(np.arange(64), cycles_a_hop) % 1.0)).astype(np.complex64)
    turn = (coarse[:, None] * fine).reshape(-1, n_partials)[:n_frames]
    return np.asarray(amplitude * turn, np.complex64)


def halves(real: Float32Array, imaginary: Float32Array, basis: Basis) -> tuple[Float32Array, Float32Array]:
    """Both halves of every grain, to be added up.

    Args:
        real: [n_frames, n_partials], real parts of the amplitudes, phases advanced.
        imaginary: the same shape, imaginary parts.
        basis: of the same partials.

    Returns:
        Two arrays [n_frames - 1, hop] float32. The first runs forwards: row i is what frame i adds from its time on. The
        second runs backwards in time from the last frame: row i is what frame n_frames - 1 - i adds before its time, the
        nearest sample first, after a leading zero for that time itself. Turning it round here would cost half as much as the
        products do.
    """
    even = real @ basis.cosine
    odd = imaginary @ basis.sine
    falling = even[:-1] - odd[:-1]
    even += odd
    even[:, 0] = 0.0
    return falling, even[:0:-1]


def overlap(real: Float32Array, imaginary: Float32Array, basis: Basis) -> Float32Array:
    """Sound between consecutive frames.

    Args:
        real: [n_frames, n_partials], real parts of the amplitudes, phases advanced.
        imaginary: the same shape, imaginary parts.
        basis: of the same partials.

    Returns:
        [n_frames - 1, hop] float32: the sound from each frame to the next.
    """
    falling, backwards = halves(real, imaginary, basis)
    falling[:, 1:] += backwards[::-1, :0:-1]
    return falling

"""The room with the rounding errors of the published code, to compare two renders sample by sample. Needs the whole piece; slow.

The Fourier transform of TensorFlow up to 2.15 on a CPU (Eigen's) gets a stage's twiddle factors by multiplying one by a constant
over and over in float32. In a transform of 2^18 samples that is off by 1 part in 1000, more than everything else in a render
but the noise. `synth.reverb` has no such errors; here they are repeated, and the rest is done in double precision.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float32]


class RoundedRoom:
    """One render's room; pushed and finished as `reverb.Convolver` is, but nothing comes out before the end."""

    def __init__(self, ir: _Array) -> None:
        """Start in a silent room.

        Args:
            ir: [n_samples, 1], dry and wet together where its first sample is 1.
        """
        self._ir = ir[:, 0].copy()
        self._adds_dry = self._ir[0] == 1
        if self._adds_dry:
            self._ir[0] = 0
        self._dry: list[_Array] = []

    def push(self, dry: _Array) -> _Array:
        """Take sound [n_samples, 1]; give nothing yet."""
        self._dry.append(dry[:, 0])
        return np.zeros((0, 1), np.float32)

    def finish(self, *, tail: bool) -> _Array:
        """The whole sound, [n_samples, 1]; with `tail` until the room is silent."""
        dry = np.concatenate([np.zeros(0, np.float32), *self._dry])
        n_wet = len(dry) + len(self._ir) - 1
        n_fft = 1 << (n_wet - 1).bit_length()
        product = _transform(np.pad(dry, (0, n_fft - len(dry)))) * _transform(
            np.pad(self._ir, (0, n_fft - len(self._ir)))
        )
        # The inverse has the conjugate factors. Only the real part is kept, of a spectrum made symmetric from its first half.
        half = product[: n_fft // 2 + 1]
        symmetric = np.concatenate([half, half[-2:0:-1].conj()])
        wet = _transform(symmetric.conj()).real[:n_wet] / n_fft
        if self._adds_dry:
            wet[: len(dry)] += dry
        return wet[: n_wet if tail else len(dry), None].astype(np.float32)


def _transform(x: NDArray[np.generic]) -> NDArray[np.complex128]:
    """Radix-2 decimation in time, as in Eigen's `TensorFFT.h`; [n], n a power of two."""
    n = len(x)
    order = np.zeros(1, np.int64)
    while len(order) < n:
        order = np.concatenate([2 * order, 2 * order + 1])
    y: NDArray[np.complex128] = x.astype(np.complex128)[order]
    size = 2
    while size <= n:
        pairs = y.reshape(-1, 2, size // 2)
        odd = pairs[:, 1] * _twiddles(size)
        y = np.stack([pairs[:, 0] + odd, pairs[:, 0] - odd], axis=1).reshape(-1)
        size *= 2
    return y


@lru_cache(maxsize=32)
def _twiddles(size: int) -> NDArray[np.complex128]:
    """[size / 2], factors of the stage that joins two halves of `size`; up to 8 they are exact."""
    if size <= 8:
        exact: NDArray[np.complex128] = np.exp(-2j * np.pi * np.arange(size // 2) / size)
        return exact
    real = np.float32(1) + np.float32(-2 * np.sin(np.pi / size) ** 2)
    one = (real, np.float32(-np.sin(2 * np.pi / size)))
    two = _product(one, one)
    three = _product(two, one)
    four = _product(three, one)
    w = (np.float32(1), np.float32(0))
    starts = np.empty(size // 8, np.complex128)
    for i in range(size // 8):
        starts[i] = complex(*w)
        w = _product(w, four)
    steps = np.array([1, complex(*one), complex(*two), complex(*three)])
    factors: NDArray[np.complex128] = (starts[:, None] * steps).reshape(-1)
    return factors


def _product(a: tuple[np.float32, np.float32], b: tuple[np.float32, np.float32]) -> tuple[np.float32, np.float32]:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]

"""Bundles: the partials of all notes, frame by frame, summed by a few large matrix products. Knows no keys, notes or pedals.

In one hop of 8 ms a partial below 2.5 kHz can hardly do what another one cannot: cosines between 0 and W Hz over T seconds, and
their sums, lie in a space of 2 W T + 7 dimensions to -110 dB (Slepian, "Prolate spheroidal wave functions V", Bell Syst. Tech. J.
57, 1978): 47 instead of 256 samples. So partials are summed in such a space, a bundle for each range of frequencies, and only the
sums are turned into samples: for partials below 5.5 kHz, nine of ten, a fifth of the arithmetic. Those above are summed as samples.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.grains import Basis

Float32Array = NDArray[np.float32]

#: Where one bundle ends and the next begins; the last one has no end, and samples for dimensions.
EDGES_HZ = (2500.0, 5500.0)

#: Dimensions are kept whose power is above this part of the largest one's.
_KEPT_POWER = 1e-13


@lru_cache(maxsize=4)
def spaces(sample_rate_hz: int, hop: int) -> tuple[Basis, ...]:
    """The space of each bundle but the last: orthonormal shapes of a hop for cosines and for sines, [n_dimensions, hop] float32."""
    return tuple(
        _space(low_hz / sample_rate_hz, high_hz / sample_rate_hz, hop)
        for low_hz, high_hz in zip((0.0, *EDGES_HZ[:-1]), EDGES_HZ, strict=True)
    )


def _space(low: float, high: float, hop: int) -> Basis:
    """Principal shapes of all cosines, and of all sines, of frequencies low..high (cycles a sample) under the falling window."""
    time = np.arange(hop)
    window = np.outer(1 - time / hop, 1 - time / hop)
    # The mean of cos(w t) cos(w u) over w is half that of cos(w (t - u)) plus half that of cos(w (t + u)); of sines, minus.
    apart, together = (
        (high * np.sinc(2 * high * x) - low * np.sinc(2 * low * x)) / (high - low)
        for x in (time[:, None] - time, time[:, None] + time)
    )
    found = [np.linalg.eigh(window * (apart + sign * together)) for sign in (1, -1)]
    n = max(int((power > _KEPT_POWER * power[-1]).sum()) for power, _ in found)
    cosine, sine = (np.ascontiguousarray(shapes[:, : -n - 1 : -1].T, np.float32) for _, shapes in found)
    return Basis(cosine, sine)


def coordinates(frequency_hz: NDArray[np.floating], basis: Basis, sample_rate_hz: int) -> tuple[Float32Array, ...]:
    """Where the partials of a key lie in the bundles' spaces.

    Args:
        frequency_hz: [n_partials], rising.
        basis: of the same partials.
        sample_rate_hz: of the sound.

    Returns:
        For each bundle [2, n_partials of it, n_dimensions] float32, of the cosines and of the sines.
    """
    hop = basis.cosine.shape[1]
    edges = [0, *np.searchsorted(frequency_hz, EDGES_HZ).tolist(), len(frequency_hz)]
    pairs = [np.stack(basis)[:, low:high] for low, high in itertools.pairwise(edges)]
    for bundle, space in enumerate(spaces(sample_rate_hz, hop)):
        pairs[bundle] = np.stack([pairs[bundle][i] @ space[i].T for i in range(2)])
    return tuple(np.ascontiguousarray(pair, np.float32) for pair in pairs)


@dataclass
class _Bundle:
    """What was added to one bundle."""

    amplitude: Float32Array  #: [2, n_channels, room for partials, n_frames], real and imaginary parts
    shapes: list[Float32Array]  #: [2, n_partials, n_dimensions] each
    n: int = 0  #: partials so far


class Bundles:
    """The partials that sound during some frames: added note by note, then played at once, again and again."""

    def __init__(self, n_channels: int, n_hops: int, sample_rate_hz: int, hop: int) -> None:
        """Make room.

        Args:
            n_channels: of the sound.
            n_hops: of every `play`; there are as many frames, and one that the last hop ends with.
            sample_rate_hz: of the sound.
            hop: samples between frames.
        """
        self._n_channels, self._n_frames, self._hop = n_channels, n_hops + 1, hop
        narrow = spaces(sample_rate_hz, hop)
        self._space = np.stack([np.concatenate([space[i] for space in narrow]) for i in range(2)])[:, None]
        self._ends = np.cumsum([0, *(len(space.cosine) for space in narrow)]).tolist()
        empty = np.zeros((2, n_channels, 0, self._n_frames), np.float32)
        self._bundles = [_Bundle(empty, []) for _ in range(len(narrow) + 1)]

    def add(
        self,
        shapes: tuple[Float32Array, ...],
        amplitude: NDArray[np.complex64],
        factor: Float32Array | None,
        first: int,
    ) -> None:
        """Add a note's partials.

        Args:
            shapes: of its key, from `coordinates`.
            amplitude: [n_channels, n_partials, n_frames], phases advanced; fewer partials than the key has, if not all are heard.
            factor: [n_frames] or [n_partials, n_frames], of the amplitudes; None for one.
            first: frame, 0..n_hops, that the first of these is.
        """
        n_channels, n, n_frames = amplitude.shape
        parts = amplitude.view(np.float32).reshape(n_channels, n, n_frames, 2).transpose(3, 0, 1, 2)
        low = 0
        for bundle, shape in zip(self._bundles, shapes, strict=True):
            high = min(n, low + shape.shape[1])
            if high > low:
                place = bundle.n
                bundle.n += high - low
                if bundle.n > bundle.amplitude.shape[2]:
                    self._widen(bundle)
                row = bundle.amplitude[:, :, place : bundle.n]
                own = row[..., first : first + n_frames]
                if factor is None:
                    own[:] = parts[:, :, low:high]
                else:
                    np.multiply(parts[:, :, low:high], factor if factor.ndim == 1 else factor[low:high], out=own)
                if first:
                    row[..., :first] = 0
                if first + n_frames < self._n_frames:
                    row[..., first + n_frames :] = 0
                bundle.shapes.append(shape[:, : high - low])
            low += shape.shape[1]

    def play(self) -> Float32Array:
        """What was added since the last time, [n_channels, n_hops, hop] float32."""
        summed = np.zeros((2, self._n_channels, self._n_frames, self._ends[-1]), np.float32)
        for bundle, low, high in zip(self._bundles[:-1], self._ends[:-1], self._ends[1:], strict=True):
            if bundle.n:
                summed[..., low:high] = _sums(bundle)
        total = np.matmul(summed, self._space)
        if self._bundles[-1].n:
            total += _sums(self._bundles[-1])
        for bundle in self._bundles:
            bundle.shapes, bundle.n = [], 0
        # See `grains.halves`: what a frame adds from its time on, and before its time, mirrored.
        even, odd = total
        sound: Float32Array = even[:, :-1] - odd[:, :-1]
        even += odd
        sound[:, :, 1:] += even[:, 1:, :0:-1]
        return sound

    def _widen(self, bundle: _Bundle) -> None:
        """Make room for more partials than needed now."""
        wider = np.empty((2, self._n_channels, 2 * bundle.n, self._n_frames), np.float32)
        wider[:, :, : bundle.amplitude.shape[2]] = bundle.amplitude
        bundle.amplitude = wider


def _sums(bundle: _Bundle) -> Float32Array:
    """[2, n_channels, n_frames, n_dimensions]: the sums over all partials."""
    shapes = np.concatenate(bundle.shapes, axis=1)[:, None]
    return np.asarray(np.matmul(bundle.amplitude[:, :, : bundle.n].transpose(0, 1, 3, 2), shapes))

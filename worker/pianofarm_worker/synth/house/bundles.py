"""Bundles: the partials of all notes, frame by frame, summed by a few large matrix products. Knows no keys, notes or pedals.

In one hop of 8 ms a partial below 1.5 kHz can hardly do what another one cannot: cosines between 0 and W Hz over T seconds, and
their sums, lie in a space of 2 W T + 7 dimensions to -110 dB (Slepian, "Prolate spheroidal wave functions V", Bell Syst. Tech. J.
57, 1978): 31 instead of 256 samples. So partials are summed in such a space, a bundle for each range of frequencies, and only the
sums are turned into samples: for partials below 5.5 kHz, nine of ten, a fifth of the arithmetic. Those above are summed as samples.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled
from pianofarm_worker.synth.house.grains import Basis

Float32Array = NDArray[np.float32]

#: Where one bundle ends and the next begins; the last one has no end, and samples for dimensions.
EDGES_HZ = (1500.0, 3300.0, 5500.0)

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


class Weight(NamedTuple):
    """What amplitudes are multiplied by: kept (1 + answer openness)."""

    kept: Float32Array  #: [n_frames], of all partials
    openness: Float32Array  #: [n_frames], of the answer
    answer: Float32Array  #: [n_strides + 1, n_partials or more], at the note's own frames, straight lines between


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
        narrow = spaces(sample_rate_hz, hop)
        sizes = [len(space.cosine) for space in narrow]
        self._ends = np.cumsum([0, *sizes]).tolist()
        self._sound = n_channels, n_hops, hop
        # Amplitudes and shapes of what was added, bundle by bundle. What the narrow bundles sum up to comes first in the last one,
        # as partials of it: their shapes are those that span the spaces.
        n_rows, n_sums = n_channels * (n_hops + 1), self._ends[-1]
        self._amplitude = np.empty((len(narrow) + 1, 2, n_sums, n_rows), np.float32)
        self._shapes = tuple(np.empty((2, n_sums, n), np.float32) for n in (*sizes, hop))
        self._shapes[-1][:] = [np.concatenate([space[i] for space in narrow]) for i in range(2)]
        self._none = np.array([*(0 for _ in narrow), n_sums])
        self._n, self._most = self._none.copy(), n_sums
        self._total = np.empty((2, n_rows, hop), np.float32)

    def add(
        self,
        shapes: tuple[Float32Array, ...],
        amplitude: NDArray[np.int16],
        step: Float32Array,
        turn: NDArray[np.complex64],
        later_db: Float32Array,
        silence_db: Float32Array,
        weight: Weight,
        own: int,
        frames: slice,
    ) -> None:
        """Add a note's partials, those that are still heard.

        Args:
            shapes: of its key, from `coordinates`.
            amplitude: [n_strides, n_channels or more, n_partials, 2, stride + 1], phases advanced; see `key_table.in_strides`.
            step: [n_strides, n_channels or more, n_partials], its unit.
            turn: [2, n_partials], what a frame takes of the note's own frame before it and of the one after.
            later_db: [n_strides, n_partials], loudest levels from a stride on.
            silence_db: [n_partials], levels that are just not heard.
            weight: of the amplitudes.
            own: the note's own frame before the first of the frames.
            frames: some of 0..n_hops.
        """
        self._most += len(silence_db)
        if self._most > self._amplitude.shape[2]:
            self._widen()
        laid = self._amplitude, self._shapes, self._n
        _lay(
            *laid,
            self._sound[0],
            frames.start,
            frames.stop,
            shapes,
            amplitude,
            step,
            turn,
            later_db,
            silence_db,
            *weight,
            own,
        )

    def play(self) -> Float32Array:
        """What was added since the last time, [n_channels, n_hops, hop] float32."""
        *narrow, last = zip(self._n.tolist(), self._amplitude, self._shapes, strict=True)
        for (n, amplitude, shapes), (low, high) in zip(narrow, itertools.pairwise(self._ends), strict=True):
            np.matmul(shapes[:, :n].transpose(0, 2, 1), amplitude[:, :n], out=last[1][:, low:high])
        n, amplitude, shapes = last
        np.matmul(amplitude[:, :n].transpose(0, 2, 1), shapes[:, :n], out=self._total)
        self._n[:], self._most = self._none, self._ends[-1]
        sound = np.empty(self._sound, np.float32)
        _join(self._total, sound)
        return sound

    def _widen(self) -> None:
        """Make room in every bundle for twice as many partials as there are in all."""
        n, room = int(self._n.max()), 2 * self._most
        before, shapes_before = self._amplitude, self._shapes
        self._amplitude = np.empty((*before.shape[:2], room, before.shape[3]), np.float32)
        self._amplitude[:, :, :n] = before[:, :, :n]
        self._shapes = tuple(np.empty((2, room, shapes.shape[2]), np.float32) for shapes in shapes_before)
        for shapes, shape_before in zip(self._shapes, shapes_before, strict=True):
            shapes[:, :n] = shape_before[:, :n]


@compiled
def n_audible(later_db: Float32Array, stride: int, silence_db: Float32Array, lost_db: np.float32) -> int:
    """How many partials, from the lowest, are kept so that no audible one is left out.

    Args:
        later_db: [n_strides, n_partials], loudest levels from a stride on.
        stride: which.
        silence_db: [n_partials], levels that are just not heard.
        lost_db: what damping has taken from them.
    """
    n = len(silence_db)
    while n > 0 and later_db[stride, n - 1] <= silence_db[n - 1] + lost_db:
        n -= 1
    return n


@compiled
def _lay(
    to_amplitude: Float32Array,
    to_shapes: tuple[Float32Array, ...],
    n_laid: NDArray[np.int64],
    n_channels: int,
    first: int,
    end: int,
    shapes: tuple[Float32Array, ...],
    amplitude: NDArray[np.int16],
    step: Float32Array,
    turn: NDArray[np.complex64],
    later_db: Float32Array,
    silence_db: Float32Array,
    kept: Float32Array,
    openness: Float32Array,
    answer: Float32Array,
    own: int,
) -> None:
    """Lay a note's partials behind those of the notes before, in one pass over its tables; see `Bundles.add`.

    Args:
        to_amplitude: [n_bundles, 2, room for partials, n_channels * n_frames], real and imaginary parts.
        to_shapes: for each bundle [2, room for partials, n_dimensions].
        n_laid: [n_bundles], how many partials lie there; counted on.
        n_channels: of the sound.
        first: frame from which on the note sounds.
        end: frame from which on it does not any more.
        shapes: for each bundle [2, n_partials of it, n_dimensions].
        amplitude: [n_strides, n_channels or more, n_partials, 2, stride + 1], real and imaginary parts.
        step: [n_strides, n_channels or more, n_partials].
        turn: [2, n_partials].
        later_db: [n_strides, n_partials].
        silence_db: [n_partials].
        kept: [n_frames], as the two that follow see `Weight`.
        openness: [n_frames].
        answer: [n_strides + 1, n_partials].
        own: the note's own frame before `first`.
    """
    n_frames, n, length = to_amplitude.shape[3] // n_channels, end - first, amplitude.shape[4] - 1
    kept, openness = kept[first:end], openness[first:end]
    lost_db = np.float32(-20 * math.log10(kept[0] + 1e-9)) if kept[0] < 1 else np.float32(0)
    levels_db = later_db[own // length]
    weight = kept.copy()
    is_answered = False
    for i in range(n):
        is_answered |= openness[i] > 0
    low = 0
    for bundle in range(len(shapes)):
        shape, to_shape, place = shapes[bundle], to_shapes[bundle], n_laid[bundle]
        for k in range(low, min(low + shape.shape[1], len(silence_db))):
            if levels_db[k] <= silence_db[k] + lost_db:
                continue
            before, after = turn[0, k], turn[1, k]
            real_row, imaginary_row = to_amplitude[bundle, 0, place], to_amplitude[bundle, 1, place]
            if n < n_frames:
                real_row[:] = 0
                imaginary_row[:] = 0
            i = 0
            while i < n:  # one stride of the note's own frames after the other
                stride, j = divmod(own + i, length)
                m = min(length - j, n - i)
                factor, left, opened = weight[i : i + m], kept[i : i + m], openness[i : i + m]
                if is_answered:
                    answered, rise = answer[stride, k], (answer[stride + 1, k] - answer[stride, k]) / np.float32(length)
                    for t in range(m):
                        factor[t] = left[t] * (np.float32(1) + (answered + rise * np.float32(j + t)) * opened[t])
                for channel in range(n_channels):
                    x, y = (
                        amplitude[stride, channel, k, 0, j : j + m + 1],
                        amplitude[stride, channel, k, 1, j : j + m + 1],
                    )
                    unit = step[stride, channel, k]
                    before_real, before_imaginary = before.real * unit, before.imag * unit
                    after_real, after_imaginary = after.real * unit, after.imag * unit
                    at = channel * n_frames + first + i
                    real, imaginary = real_row[at : at + m], imaginary_row[at : at + m]
                    for t in range(m):
                        x0, y0, x1, y1 = (
                            np.float32(x[t]),
                            np.float32(y[t]),
                            np.float32(x[t + 1]),
                            np.float32(y[t + 1]),
                        )
                        turned = x0 * before_real - y0 * before_imaginary + x1 * after_real - y1 * after_imaginary
                        real[t] = turned * factor[t]
                        turned = x0 * before_imaginary + y0 * before_real + x1 * after_imaginary + y1 * after_real
                        imaginary[t] = turned * factor[t]
                i += m
            for part in range(2):
                own_shape, to = shape[part, k - low], to_shape[part, place]
                for i in range(len(to)):
                    to[i] = own_shape[i]
            place += 1
        n_laid[bundle] = place
        low += shape.shape[1]


@compiled
def _join(total: Float32Array, sound: Float32Array) -> None:
    """Sums of grains -> sound; see `grains.halves`: what a frame adds from its time on, and before its time, mirrored.

    Args:
        total: [2, n_channels * n_frames, hop], of cosines and of sines.
        sound: [n_channels, n_frames - 1, hop], overwritten.
    """
    n_channels, n_hops, hop = sound.shape
    for channel in range(n_channels):
        for i in range(n_hops + 1):
            row = channel * (n_hops + 1) + i
            if i > 0:
                for t in range(1, hop):
                    sound[channel, i - 1, hop - t] += total[0, row, t] + total[1, row, t]
            if i < n_hops:
                for t in range(hop):
                    sound[channel, i, t] = total[0, row, t] - total[1, row, t]

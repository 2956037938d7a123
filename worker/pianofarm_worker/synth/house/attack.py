"""The first milliseconds of a note, exact to the sample: its own frames from its onset, the way it comes in, and the knock.

Once it has come in, a note is played with all others on one clock of frames (`bundles`). No clock, pedals or noise here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.compiled import compiled
from pianofarm_worker.synth.house.bundles import Weight, n_audible
from pianofarm_worker.synth.house.key_table import KeyTable
from pianofarm_worker.synth.house.layout import RISE_HOPS
from pianofarm_worker.synth.house.voices import Voice

Float32Array = NDArray[np.float32]

#: A note keeps its own frames at least for this many hops: in its first 32 ms its partials change fastest.
SHORTEST_HOPS: Final = 4

#: More frames no attack has: coming in, or the least, then up to a hop until the common clock ticks, and a hop for going over.
MOST_FRAMES: Final = max(RISE_HOPS, SHORTEST_HOPS) + 3


def taken_over(onset: int, table: KeyTable, hop: int) -> int:
    """The frame of the common clock at which a note goes over to it.

    Args:
        onset: sample.
        table: of its key.
        hop: samples between frames.
    """
    return -(-(onset + max(table.n_rise, SHORTEST_HOPS * hop)) // hop)


def add_attack(sound: Float32Array, at: int, voice: Voice, weight: Weight, onset: int) -> None:
    """Add the partials of a note from its onset to a frame of the common clock, and what that frame adds after its time.

    Args:
        sound: [n_channels, long enough], what to add to.
        at: where in it the onset is.
        voice: the note.
        weight: of the amplitudes, from the note's first frame on.
        onset: sample.
    """
    table, basis = voice.table, voice.table.basis
    n = n_audible(table.later_db, 0, voice.silence_db, np.float32(0))
    if n == 0:
        return
    n_channels, hop = len(sound), basis.cosine.shape[1]
    n_samples = voice.first * hop - onset
    n_frames = -(-n_samples // hop) + 2
    amplitude = np.empty((2, n_channels * n_frames, n), np.float32)
    _weigh(
        amplitude, n_channels, table.amplitude, table.step, voice.gain, voice.turn, voice.first - voice.clock, *weight
    )
    even, odd = amplitude[0] @ basis.cosine[:n], amplitude[1] @ basis.sine[:n]
    _join(sound, at, even, odd, n_samples, table.rise, table.n_rise)


@compiled
def _weigh(
    to: Float32Array,
    n_channels: int,
    amplitude: NDArray[np.int16],
    step: Float32Array,
    gain: Float32Array,
    turn: NDArray[np.complex64],
    last: int,
    kept: Float32Array,
    openness: Float32Array,
    answer: Float32Array,
) -> None:
    """The amplitudes of an attack's frames: some of the note's own, then one of the common clock.

    Args:
        to: [2, n_channels * n_frames, n], real and imaginary parts; overwritten.
        n_channels: of the sound.
        amplitude: of the note's key, from `key_table.in_strides`; an attack lies in the first stride.
        step: its unit.
        gain: [n or more].
        turn: [2, n or more], what the clock's frame takes of the note's own one before it and of the one after; gain is in it.
        last: the own one before it.
        kept: [n_own_frames], as the two that follow see `bundles.Weight`.
        openness: [n_own_frames].
        answer: [n_strides + 1, n or more].
    """
    n_frames, stride = to.shape[1] // n_channels, amplitude.shape[4] - 1
    for k in range(to.shape[2]):
        for i in range(n_frames):
            own = i if i < n_frames - 1 else last
            answered = answer[0, k] + (answer[1, k] - answer[0, k]) * np.float32(own / stride)
            weight = kept[own] * (np.float32(1) + answered * openness[own])
            for channel in range(n_channels):
                real, imaginary = amplitude[0, channel, k, 0], amplitude[0, channel, k, 1]
                unit = step[0, channel, k]
                if i < n_frames - 1:
                    found = np.complex64(complex(real[own], imaginary[own])) * gain[k]
                else:
                    found = np.complex64(complex(real[own], imaginary[own])) * turn[0, k]
                    found += np.complex64(complex(real[own + 1], imaginary[own + 1])) * turn[1, k]
                to[0, channel * n_frames + i, k] = found.real * (weight * unit)
                to[1, channel * n_frames + i, k] = found.imag * (weight * unit)


@compiled
def _join(
    sound: Float32Array, at: int, even: Float32Array, odd: Float32Array, n_samples: int, rise: Float32Array, n_rise: int
) -> None:
    """Grains of an attack -> sound, added; see `grains.halves`. It comes in, and its last frame only falls.

    Args:
        sound: [n_channels, long enough].
        at: where it begins.
        even: [n_channels * n_frames, hop], sums of cosines.
        odd: the same, of sines.
        n_samples: up to the last frame's time.
        rise: [RISE_HOPS, hop], how it comes in.
        n_rise: samples of that which are not one.
    """
    n_frames, hop = even.shape[0] // sound.shape[0], even.shape[1]
    own = np.empty(hop, np.float32)
    for channel in range(sound.shape[0]):
        for i in range(n_frames - 2):
            row = channel * n_frames + i
            for t in range(hop):
                own[t] = even[row, t] - odd[row, t]
            for t in range(1, hop):
                own[hop - t] += even[row + 1, t] + odd[row + 1, t]
            for t in range(min(hop, n_rise - i * hop)):
                own[t] *= rise[i, t]
            to = sound[channel, at + i * hop : at + min((i + 1) * hop, n_samples)]
            for t in range(len(to)):
                to[t] += own[t]
        row = channel * n_frames + n_frames - 1
        to = sound[channel, at + n_samples : at + n_samples + hop]
        for t in range(len(to)):
            to[t] += even[row, t] - odd[row, t]

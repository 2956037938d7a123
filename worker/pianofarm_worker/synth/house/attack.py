"""The first milliseconds of a note, exact to the sample: its own frames from its onset, the way it comes in, and the knock.

Once it has come in, a note is played with all others on one clock of frames (`bundles`). No clock, pedals or noise here.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.layout import RISE_HOPS
from pianofarm_worker.synth.house.tables import KeyTable

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


def attack(
    table: KeyTable,
    gain: Float32Array,
    factor: Float32Array | None,
    last: NDArray[np.complex64],
    n_samples: int,
) -> Float32Array:
    """The partials of a note from its onset to a frame of the common clock, and what that frame adds after its time.

    Args:
        table: of its key.
        gain: [n_audible], of the first partials.
        factor: [n_audible or 1, MOST_FRAMES], of the amplitudes at the note's own frames; None for one.
        last: [n_channels, n_audible, 1], amplitudes at the frame of the common clock, gain and factor in them.
        n_samples: from the onset to that frame.

    Returns:
        [n_channels, n_samples + hop] float32.
    """
    n_channels, n, _ = last.shape
    hop = table.rise.shape[1]
    n_own = -(-n_samples // hop) + 1
    weight = gain[:, None] if factor is None else gain[:, None] * factor[:, :n_own]
    amplitude = np.concatenate((table.amplitude[:n_channels, :n, :n_own] * weight, last), axis=2)
    even = np.matmul(amplitude.real.transpose(0, 2, 1), table.basis.cosine[:n])
    odd = np.matmul(amplitude.imag.transpose(0, 2, 1), table.basis.sine[:n])
    halves = even - odd
    even += odd
    halves[:, : n_own - 1, 1:] += even[:, 1:n_own, :0:-1]
    own = halves[:, :-1].reshape(n_channels, -1)
    own[:, : table.n_rise] *= table.rise.reshape(-1)[: table.n_rise]
    return np.concatenate((own[:, :n_samples], halves[:, -1]), axis=1)

"""What the other strings do under the sustain pedal: they ring with a note where partials meet, and a little with its knock.

After Lehtonen, Penttinen, Rauhala and Välimäki, "Analysis and modeling of piano sustain-pedal effects" (JASA 122, 2007): with
the pedal down partials decay more slowly and beat more, and a quiet wash remains of every stroke. The recordings hold no pedalled
notes, so the laws are set, not learned. Numpy only; no notes, no pedals: both come as numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth.house.bands import band_centres_hz
from pianofarm_worker.synth.house.layout import SLOW, Layout

Float32Array = NDArray[np.float32]

#: The other strings answer, and felt silences them, over this long.
ANSWER_S = 0.4

#: Level of the answer against a note's own partial at its onset, where strings with the same frequency are many.
ANSWER_DB = -14.0

#: For every dB that a partial falls, the answer falls this much less; and it never gets louder than this against the partial.
SLOWER_PART, LOUDEST_DB = 0.35, 4.0

#: Strings answer to a partial within a few cents of one of theirs, up to this partial of theirs.
_WIDTH_CENTS, _HIGHEST_PARTIAL = 5.0, 12

#: The answer beats with the partial this fast, in Hz.
_BEATS_HZ = (0.25, 1.1)

#: Golden ratio: spreads the partials' beats as evenly as random numbers would, without a seed.
_GOLDEN = 0.6180339887498949

#: Power of the wash against that of a note's loudest partial; how long it lasts; below which frequency it is even.
WASH_DB, WASH_S = -31.0, 3.0
_EVEN_BELOW_HZ, _HIGHEST_HZ = 400.0, 5000.0

#: How fast a resting damper stops the wash, nepers a second.
WASH_DAMPER_RATE = 12.0


def coupling(
    pitch: int, frequency_hz: NDArray[np.float64], f0_hz: NDArray[np.floating], b: NDArray[np.floating]
) -> Float32Array:
    """How much of its strength each partial of a key finds in the other strings, 0..1. [n_partials]

    Args:
        pitch: the key, MIDI pitch.
        frequency_hz: [n_partials] of the key.
        f0_hz: [88] fundamentals of all keys, A0 first.
        b: [88] inharmonicities.
    """
    # The partial of each string that lies nearest: f = k f0 sqrt(1 + B k^2), solved for k.
    ratio = frequency_hz[:, None] / f0_hz[None]
    k = np.sqrt((np.sqrt(1 + 4 * b * ratio**2) - 1) / (2 * b))
    nearest = np.clip(np.round(k), 1, _HIGHEST_PARTIAL)
    cents = 1200 * np.log2(frequency_hz[:, None] / (nearest * f0_hz * np.sqrt(1 + b * nearest**2)))
    weight = 1 / nearest / (1 + (cents / _WIDTH_CENTS) ** 2)
    weight[:, pitch - 21] = 0
    return np.asarray(np.minimum(1.0, np.sqrt((weight**2).sum(axis=1))), np.float32)


def answer(later_db: Float32Array, strength: Float32Array, stride: int, hop_s: float) -> Float32Array:
    """The other strings' part of a note's partials while the pedal is down, as a factor of the partials themselves.

    Args:
        later_db: [n_strides, n_partials], the partials' levels, falling.
        strength: [n_partials], see `coupling`.
        stride: frames from one level to the next.
        hop_s: seconds from one frame to the next.

    Returns:
        [n_strides + 1, n_partials], straight lines between; below 0 where the two are out of phase.
    """
    fallen_db = np.concatenate([later_db[:1] - later_db, later_db[:1] - later_db[-1:]])
    level_db = np.minimum(ANSWER_DB + SLOWER_PART * fallen_db, LOUDEST_DB)
    n_strides, n = fallen_db.shape
    spread = (np.arange(1, n + 1) * _GOLDEN) % 1.0
    beats_hz = _BEATS_HZ[0] + (_BEATS_HZ[1] - _BEATS_HZ[0]) * spread
    phase = 2 * np.pi * ((7 * spread) % 1.0)
    turn = np.cos(2 * np.pi * beats_hz * (stride * hop_s) * np.arange(n_strides)[:, None] + phase)
    # More in phase than out of it: a partial that is driven by another one does not first cancel it.
    return (strength * 10 ** (level_db / 20) * (0.5 + 0.5 * turn + 0.3 * turn**3)).astype(np.float32)


def openness(
    time_s: NDArray[np.float64],
    since_s: NDArray[np.float64],
    contact_s: NDArray[np.float64],
    earlier_s: NDArray[np.float64],
) -> Float32Array:
    """How far the other strings have come to ring, or have been silenced: part of the last `ANSWER_S` without felt. 0..1

    Args:
        time_s: any shape, as all that follows; the result has what they broadcast to.
        since_s: the note's onset: nothing answers before it.
        contact_s: integral of the pedal's contact (`dampers.Contact`) up to each time.
        earlier_s: the same up to `ANSWER_S` before, or up to the onset where that is later.
    """
    open_s = np.minimum(time_s - since_s, ANSWER_S) - np.maximum(contact_s - earlier_s, 0.0)
    # What is left of equal integrals by rounding is no opening.
    return np.asarray(np.clip((open_s - 1e-9) / ANSWER_S, 0.0, 1.0), np.float32)


def wash(layout: Layout) -> Float32Array:
    """The wash of a note whose loudest partial has power 1. [n_frames, n_bands], full scale^2 per Hz; a multiple of SLOW frames"""
    bands = layout.bands
    centres_hz = band_centres_hz(bands.n_bands, layout.sample_rate_hz)
    shape = 1 / (1 + (centres_hz / _EVEN_BELOW_HZ) ** 2)
    shape *= (centres_hz > 40) & (centres_hz < _HIGHEST_HZ)
    shape /= (shape * np.gradient(centres_hz)).sum()
    t60_s = np.interp(np.log(np.maximum(centres_hz, 20.0)), np.log([60.0, 500.0, 4000.0]), [5.0, 3.0, 1.0])
    n_frames = -(-int(WASH_S * layout.sample_rate_hz / bands.hop) // SLOW) * SLOW
    time_s = np.arange(n_frames)[:, None] * (bands.hop / layout.sample_rate_hz)
    rising = np.clip(time_s / 0.05, 0.0, 1.0)
    ending = np.clip((WASH_S - time_s) / 0.5, 0.0, 1.0)
    return np.asarray(10 ** (WASH_DB / 10) * shape * 10 ** (-6 * time_s / t60_s) * rising * ending, np.float32)

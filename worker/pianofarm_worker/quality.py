"""The gates that every render passes before it is committed: audio that fails one must never be shipped. Measures only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import QualityGateFailed
from pianofarm_common.midi import Performance
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.strikes import Strikes, clear_strikes
from pianofarm_worker.synth.long_arrays import parts
from pianofarm_worker.synth.piano import Rendering

#: Time resolution of every level below.
BLOCK_S = 0.05

#: A block below this is silent: nothing of it would survive in a 16-bit file.
SILENT_DBFS = -96.0

#: A key's first half second must be heard, in all but this share of the blocks.
ATTACK_S = 0.5
MAX_SILENT_SHARE = 0.1

#: Level (RMS) of the blocks in which keys are down: softer is a fault, louder is distortion.
LEVEL_RANGE_DBFS = (-80.0, -3.0)

#: Not softer than this where most notes are struck no softer than that, on keys below C7.
PLAYED_DBFS = -70.0
PLAYED_VELOCITY = 40
PLAYED_KEYS_BELOW = 96

#: A channel that is softer than all together by this, where notes are struck, is dead.
MAX_CHANNEL_DIFFERENCE_DB = 40.0

#: Samples that may lie beyond full scale where no level was asked for: one in ten thousand, which nobody hears.
MAX_CLIPPED_SHARE = 1e-4

#: The longest that strings and room may ring after the last key, and the furthest a render without tail may round up.
MAX_TAIL_S = 60.0
MAX_ROUNDING_S = 1.0

#: A passage counts as a rest when no key was down and no pedal held for this long. Half of all rests must be softer than the
#: loudest tenth of the notes by this (dafx22 hisses through rests: 5 dB in its softest piece, 20 dB in others).
REST_AFTER_S = 3.0
MIN_REST_DB = 3.0

#: The partials of a struck key must rise, at the median of at least so many clear strikes, by MIN_RISE_DB, or by MIN_ABOVE_DRIFT_DB
#: more than they do just before. Measured on 41 pieces and 36 contrived ones (trills, glissandi, clusters, all keys under the
#: pedal ...): house-2 rises by 5.7 dB or more, dafx22 by 5.7 in pieces and by as little as 1.4 where it drops most
#: notes; noise in their place by 0.6 dB at most.
MIN_CLEAR_STRIKES = 32
MIN_RISE_DB = 2.5
MIN_ABOVE_DRIFT_DB = 1.5

#: Left unjudged are renders for which the model had no voice for more than this share of the notes.
MAX_DROPPED_SHARE = 0.05

#: Pairs of clear strikes on keys of the same half octave, whose velocities differ by this: where there are enough, no more than
#: this share of the harder ones may be softer, by EQUAL_DB or more (5 % at most were, in 41 pieces by house-2).
PAIR_KEYS = 6
PAIR_VELOCITY = 24
PAIR_RISE_DB = 6.0
MIN_PAIRS = 10
EQUAL_DB = 2.0
MAX_INVERTED_SHARE = 0.7

#: Pitches a piano has; models leave the others out.
PIANO_KEYS = range(21, 109)


def check(performance: Performance, rendering: Rendering, options: RenderOptions) -> None:
    """Let a fit render pass.

    Args:
        performance: what was asked for.
        rendering: what the model made of it, not yet resampled or normalized.
        options: `duration_s`, `tail` and the levels asked for are considered.

    Raises:
        QualityGateFailed: names the gate, the figure and the limit.
    """
    _require_finite(rendering)
    duration_s = min(performance.duration_s, options.duration_s or math.inf)
    _require_length(rendering, duration_s, options)
    if options.normalize_dbfs is None and options.normalize_lufs is None:
        _require_headroom(rendering.wet)
    level_dbfs = block_levels_dbfs(rendering.wet, rendering.sample_rate_hz)
    keys = _Keys.of(performance, until_s=duration_s)
    attacks = _covered(keys.down_s, np.minimum(keys.up_s, keys.down_s + ATTACK_S), len(level_dbfs))
    if not attacks.any():
        return
    _require_sound(level_dbfs, attacks, _lowest_dbfs(performance, duration_s))
    _require_every_channel(rendering, attacks)
    resting = ~_covered(keys.down_s, keys.up_s + REST_AFTER_S, len(level_dbfs))
    _require_rests(level_dbfs, attacks, resting & ~_blocks_of_pedal(performance, len(level_dbfs)))
    if rendering.dropped_notes <= MAX_DROPPED_SHARE * rendering.notes:
        strikes = clear_strikes(performance, rendering.wet, rendering.sample_rate_hz, until_s=duration_s)
        _require_strikes(strikes)
        _require_dynamics(performance, strikes)


def block_levels_dbfs(samples: NDArray[np.float32], sample_rate_hz: int) -> NDArray[np.float64]:
    """[n_blocks], RMS level of every whole block of BLOCK_S over all channels; silence is -200."""
    block = round(BLOCK_S * sample_rate_hz)
    n_blocks = len(samples) // block
    blocks = samples[: n_blocks * block].reshape(n_blocks, -1)
    powers = [np.einsum("bs,bs->b", part, part, dtype=np.float64) for part in parts(blocks)]
    power = np.concatenate([np.zeros(0), *powers]) / max(blocks.shape[1], 1)
    levels_dbfs: NDArray[np.float64] = 10 * np.log10(np.maximum(power, 1e-20))
    return levels_dbfs


def _require_finite(rendering: Rendering) -> None:
    for name, stem in (("wet", rendering.wet), ("dry", rendering.dry)):
        n_bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in parts(stem))
        if n_bad:
            raise QualityGateFailed(
                f"{n_bad} of {stem.size} samples ({name}) are not finite: the model or its weights are broken"
            )


def _require_length(rendering: Rendering, duration_s: float, options: RenderOptions) -> None:
    audio_s = len(rendering.wet) / rendering.sample_rate_hz
    slack_s = MAX_TAIL_S if options.tail else MAX_ROUNDING_S
    if not duration_s - BLOCK_S <= audio_s <= duration_s + slack_s:
        raise QualityGateFailed(
            f"{audio_s:.3f} s of audio for {duration_s:.3f} s of performance: expected at most {slack_s:g} s more, and no less"
        )
    if options.needs_dry and len(rendering.dry) != len(rendering.wet):
        raise QualityGateFailed(f"{len(rendering.dry)} dry samples but {len(rendering.wet)} wet ones")


def _require_headroom(samples: NDArray[np.float32]) -> None:
    n_over = sum(int(np.count_nonzero(np.abs(part) > 1)) for part in parts(samples))
    if n_over > MAX_CLIPPED_SHARE * samples.size:
        raise QualityGateFailed(
            f"{n_over} of {samples.size} samples clip (at most {MAX_CLIPPED_SHARE:g} may): ask for normalize_dbfs, -1 for instance"
        )


def _lowest_dbfs(performance: Performance, until_s: float) -> float:
    """The level that a performance must have, by how hard and where most of it is played."""
    played = (performance.onset_s < until_s) & (performance.pitch >= PIANO_KEYS.start)
    loud = (performance.velocity >= PLAYED_VELOCITY) & (performance.pitch < PLAYED_KEYS_BELOW)
    return PLAYED_DBFS if 2 * np.count_nonzero(loud & played) > np.count_nonzero(played) else LEVEL_RANGE_DBFS[0]


def _require_sound(level_dbfs: NDArray[np.float64], attacks: NDArray[np.bool_], lowest_dbfs: float) -> None:
    heard = level_dbfs[attacks]
    silent_share = float(np.mean(heard < SILENT_DBFS))
    if silent_share > MAX_SILENT_SHARE:
        raise QualityGateFailed(
            f"{silent_share:.0%} of the time after key strokes is silent (below {SILENT_DBFS:g} dBFS):"
            f" at most {MAX_SILENT_SHARE:.0%} may be"
        )
    overall_dbfs = 10 * math.log10(float(np.mean(10 ** (heard / 10))))
    highest_dbfs = LEVEL_RANGE_DBFS[1]
    if not lowest_dbfs <= overall_dbfs <= highest_dbfs:
        raise QualityGateFailed(
            f"the notes are at {overall_dbfs:.1f} dBFS (RMS): expected {lowest_dbfs:g} to {highest_dbfs:g}"
        )


def _require_every_channel(rendering: Rendering, attacks: NDArray[np.bool_]) -> None:
    """None of several channels may be dead where keys are struck."""
    n_channels = rendering.wet.shape[1]
    if n_channels < 2:
        return
    block = round(BLOCK_S * rendering.sample_rate_hz)
    blocks = rendering.wet[: len(attacks) * block].reshape(len(attacks), block, n_channels)
    few = blocks[:, ::16][attacks]  # every sixteenth sample tells the power as well
    power = np.square(few, dtype=np.float64).sum(axis=(0, 1))
    softer_db = 10 * np.log10(power.mean() / np.maximum(power, 1e-20))
    worst = int(np.argmax(softer_db))
    if softer_db[worst] > MAX_CHANNEL_DIFFERENCE_DB:
        raise QualityGateFailed(
            f"channel {worst + 1} of {n_channels} is {min(softer_db[worst], 200):.0f} dB below their mean where notes are struck:"
            f" it is dead (at most {MAX_CHANNEL_DIFFERENCE_DB:g} dB)"
        )


def _require_rests(level_dbfs: NDArray[np.float64], attacks: NDArray[np.bool_], rests: NDArray[np.bool_]) -> None:
    """Where the performance has long rests, they must be softer than its loud notes."""
    if not rests.any():
        return
    notes_db, rests_db = float(np.percentile(level_dbfs[attacks], 90)), float(np.median(level_dbfs[rests]))
    if notes_db - rests_db < MIN_REST_DB:
        raise QualityGateFailed(
            f"rests are at {rests_db:.1f} dBFS and loud notes at {notes_db:.1f}: the level does not follow the notes"
            f" (at least {MIN_REST_DB:g} dB between them)"
        )


def _require_strikes(strikes: Strikes) -> None:
    """Where keys are struck their partials must rise: noise, hum and other music do not."""
    if len(strikes.note) < MIN_CLEAR_STRIKES:
        return
    rise_db = float(np.median(strikes.rise_db))
    above_drift_db = rise_db - float(np.median(strikes.drift_db))
    if rise_db < MIN_RISE_DB and above_drift_db < MIN_ABOVE_DRIFT_DB:
        raise QualityGateFailed(
            f"the partials of {len(strikes.note)} notes rise by {rise_db:.1f} dB (median) where their keys are struck,"
            f" {above_drift_db:.1f} dB more than just before: expected {MIN_RISE_DB:g} or {MIN_ABOVE_DRIFT_DB:g};"
            " these notes are not in the sound, or not in time"
        )


def _require_dynamics(performance: Performance, strikes: Strikes) -> None:
    """Of two strikes near each other on the keyboard, the harder must not be the softer as a rule."""
    heard = strikes.rise_db > PAIR_RISE_DB
    velocity = performance.velocity[strikes.note[heard]].astype(np.int64)
    region = performance.pitch[strikes.note[heard]].astype(np.int64) // PAIR_KEYS
    level_db = strikes.level_db[heard]
    order = np.lexsort((velocity, region))
    louder_db: list[float] = []
    for members in np.split(order, np.flatnonzero(np.diff(region[order])) + 1):
        half = len(members) // 2
        soft, hard = members[:half], members[len(members) - half :]
        differs = velocity[hard] - velocity[soft] >= PAIR_VELOCITY
        louder_db += (level_db[hard] - level_db[soft])[differs].tolist()
    if len(louder_db) < MIN_PAIRS:
        return
    inverted_share = float(np.mean(np.array(louder_db) <= -EQUAL_DB))
    if inverted_share > MAX_INVERTED_SHARE:
        raise QualityGateFailed(
            f"in {inverted_share:.0%} of {len(louder_db)} pairs of strikes the harder one is the softer:"
            f" at most {MAX_INVERTED_SHARE:.0%} may be; the level does not follow the velocities"
        )


@dataclass(frozen=True)
class _Keys:
    """When keys that a piano has are down."""

    down_s: NDArray[np.float64]  #: [n_notes]
    up_s: NDArray[np.float64]  #: [n_notes]

    @classmethod
    def of(cls, performance: Performance, *, until_s: float) -> Self:
        """The keys of a performance that is cut there."""
        on_a_piano = (performance.pitch >= PIANO_KEYS.start) & (performance.pitch < PIANO_KEYS.stop)
        played = on_a_piano & (performance.onset_s < until_s)
        return cls(performance.onset_s[played], np.minimum(performance.offset_s[played], until_s))


def _blocks_of_pedal(performance: Performance, n_blocks: int) -> NDArray[np.bool_]:
    """[n_blocks]: a sustain or sostenuto pedal is down, or was at most REST_AFTER_S ago."""
    covered = np.zeros(n_blocks, bool)
    for number in (64, 66):
        chosen = performance.control_number == number
        times_s, down = performance.control_s[chosen], performance.control_value[chosen] > 0
        ends_s = np.append(times_s[1:], math.inf)
        covered |= _covered(times_s[down], ends_s[down] + REST_AFTER_S, n_blocks)
    return covered


def _covered(start_s: NDArray[np.float64], end_s: NDArray[np.float64], n_blocks: int) -> NDArray[np.bool_]:
    """[n_blocks]: some interval reaches into the block."""
    first = np.clip(np.floor(start_s / BLOCK_S), 0, n_blocks).astype(np.int64)
    past = np.clip(np.ceil(end_s / BLOCK_S), 0, n_blocks).astype(np.int64)
    edges = np.bincount(first, minlength=n_blocks + 1) - np.bincount(np.maximum(past, first), minlength=n_blocks + 1)
    return np.cumsum(edges[:n_blocks]) > 0

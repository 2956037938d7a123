"""Listens to recordings and compares them with their MIDI before training: format, level, transposition, delay. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadMidi
from pianofarm_common.midi import MidiLimits, Performance, read_performance
from pianofarm_training.pairs import Pair
from pianofarm_training.problems import Problem
from pianofarm_training.sample_checks import LOWEST_CLIPPED_DB, SILENT_DB, flat_tops
from pianofarm_training.tuning import equal_tempered_hz, typical_inharmonicity

#: So much of each recording is listened to.
LISTENED_S = 60.0

#: Flat tops a minute from which a recording counts as clipped: one or two are no harm among hours.
MOST_FLAT_TOPS = 5

#: A recording must not lie further off its MIDI than this.
LARGEST_LAG_S = 0.05

#: Lags looked for.
_SEARCHED_S = 2.0

#: MIDI may end this much before or after the sound.
LARGEST_OVERHANG_S = 5.0

#: Fewest notes from which transposition and lag are judged.
FEWEST_NOTES = 12

_FRAME_S = 0.01
_TRANSPOSITIONS = (-12, -7, -5, -2, -1, 0, 1, 2, 5, 7, 12)


def check_pairs(
    pairs: Sequence[Pair],
    limits: MidiLimits,
    *,
    lowest_rate_hz: int,
    shortest_s: float,
    progress: Callable[[int], None] | None = None,
) -> list[Problem]:
    """Every problem of every pair.

    Args:
        pairs: from `find_pairs`.
        limits: on MIDI.
        lowest_rate_hz: rate of the model to be.
        shortest_s: length of a training excerpt.
        progress: called with the number of pairs done.
    """
    problems: list[Problem] = []
    for number, pair in enumerate(pairs, 1):
        problems += _check(pair, limits, lowest_rate_hz, shortest_s)
        if progress is not None:
            progress(number)
    if not any(not pair.held_out for pair in pairs) and pairs:
        problems.append(Problem(pairs[0].audio.parent, "split", "no pair to train on", "mark some of them 'train'"))
    return problems


def _check(pair: Pair, limits: MidiLimits, lowest_rate_hz: int, shortest_s: float) -> list[Problem]:
    import soundfile

    problems: list[Problem] = []
    performance: Performance | None = None
    try:
        performance = read_performance(pair.midi.read_bytes(), limits)
    except (BadMidi, OSError) as error:
        problems.append(Problem(pair.midi, "unreadable", " ".join(str(error).split())[-100:], "export it again"))
    try:
        with soundfile.SoundFile(pair.audio) as file:
            rate_hz, lasts_s = file.samplerate, file.frames / file.samplerate
            sound = file.read(int(LISTENED_S * rate_hz), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, ValueError, ZeroDivisionError) as error:
        found = " ".join(str(error).split())[-80:]
        return [
            *problems,
            Problem(pair.audio, "unreadable", found, "no sound file that libsndfile reads: export it again"),
        ]
    if rate_hz < lowest_rate_hz:
        problems.append(Problem(pair.audio, "rate", f"{rate_hz} Hz", f"the model works at {lowest_rate_hz} Hz"))
    if lasts_s < shortest_s:
        cure = f"excerpts are {shortest_s:g} s long"
        return [*problems, Problem(pair.audio, "short", f"{lasts_s:.2f} s", cure)]
    if not np.isfinite(sound).all():
        return [*problems, Problem(pair.audio, "unreadable", "values that are not finite", "export it again")]
    peak_db = 20 * float(np.log10(np.abs(sound).max(initial=0.0) + 1e-12))
    if peak_db < SILENT_DB:
        found = f"peak {max(peak_db, -120):.0f} dB full scale"
        return [*problems, Problem(pair.audio, "silent", found, "record it again")]
    if peak_db > LOWEST_CLIPPED_DB and (n_flat := flat_tops(sound)) > MOST_FLAT_TOPS:
        found = f"{n_flat} flat tops at {peak_db:.1f} dB in the first {min(lasts_s, LISTENED_S):.0f} s"
        problems.append(Problem(pair.audio, "clipped", found, "record it at a lower level"))
    if performance is None:
        return problems
    if not lasts_s - performance.duration_s > -LARGEST_OVERHANG_S:
        found = f"MIDI lasts {performance.duration_s:.1f} s, sound {lasts_s:.1f} s"
        problems.append(Problem(pair.midi, "length", found, "is it the MIDI of this recording?"))
    return problems + _compared(pair, performance, sound, rate_hz)


def _compared(pair: Pair, performance: Performance, sound: NDArray[np.float32], rate_hz: int) -> list[Problem]:
    heard = performance.onset_s < len(sound) / rate_hz - 0.5
    if heard.sum() < FEWEST_NOTES:
        return []
    lag_s = lag(performance.onset_s[heard], performance.velocity[heard], sound, rate_hz)
    if lag_s is not None and abs(lag_s) > LARGEST_LAG_S:
        late = "late" if lag_s > 0 else "early"
        return [Problem(pair.audio, "delay", f"sound {abs(lag_s):.2f} s {late}", "cut or shift it until both agree")]
    off = transposition(performance.onset_s[heard], performance.pitch[heard], sound, rate_hz)
    if off:
        found = (
            f"sounds {abs(off)} semitone{'s' if abs(off) > 1 else ''} {'higher' if off > 0 else 'lower'} than its MIDI"
        )
        return [Problem(pair.audio, "pitch", found, "transpose one of them, or check the file's sample rate")]
    return []


def lag(
    onset_s: NDArray[np.floating], velocity: NDArray[np.integer], sound: NDArray[np.float32], rate_hz: int
) -> float | None:
    """How much later than the MIDI the sound's onsets are, by correlation with rises of its level; None where nothing stands out.

    Args:
        onset_s: of the notes, [n_notes].
        velocity: likewise.
        sound: [n_samples, n_channels].
        rate_hz: of the sound.
    """
    step = int(_FRAME_S * rate_hz)
    power = (sound[: len(sound) // step * step] ** 2).sum(axis=1).reshape(-1, step).mean(axis=1)
    level_db = 10 * np.log10(power + 10 ** (-8) * power.max() + 1e-20)
    rise = np.clip(np.diff(level_db, prepend=level_db[0]), 0, 20)
    rise -= rise.mean()
    struck = np.zeros(len(rise))
    np.add.at(struck, np.minimum((onset_s / _FRAME_S).astype(int), len(rise) - 1), velocity.astype(float) / 127)
    struck = np.minimum(struck, 2.0)
    struck -= struck.mean()
    n_fft = 1 << (2 * len(rise)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(rise, n_fft) * np.conj(np.fft.rfft(struck, n_fft)))
    reach = int(_SEARCHED_S / _FRAME_S)
    around = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    best = int(np.argmax(around))
    if around[best] < 4 * around.std():
        return None
    return (best - reach) * _FRAME_S


def transposition(
    onset_s: NDArray[np.floating], pitch: NDArray[np.integer], sound: NDArray[np.float32], rate_hz: int
) -> int:
    """By how many semitones the sound is higher than the MIDI, by the partials that begin where notes do.

    Args:
        onset_s: of the notes, [n_notes].
        pitch: likewise, MIDI.
        sound: [n_samples, n_channels].
        rate_hz: of the sound.
    """
    n = int(0.2 * rate_hz)
    n_fft = 1 << (2 * n - 1).bit_length()
    window = np.hanning(n)
    chosen = np.flatnonzero((pitch >= 45) & (pitch <= 84))
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), 120)).astype(int)] if len(chosen) else chosen
    scores = np.zeros(len(_TRANSPOSITIONS))
    for note in chosen:
        at = int(onset_s[note] * rate_hz)
        after, before = sound[at + n // 8 : at + n // 8 + n, 0], sound[max(0, at - n) : at, 0]
        if len(after) < n or len(before) < n:
            continue
        # What was there before the note is not the note's.
        levels = [np.abs(np.fft.rfft(part * window, n_fft)) for part in (after, before)]
        new_db = 20 * np.log10(
            (levels[0] + 1e-9 * levels[0].max() + 1e-12) / (levels[1] + 1e-3 * levels[0].max() + 1e-12)
        )
        for index, off in enumerate(_TRANSPOSITIONS):
            scores[index] += _at_partials(new_db, int(pitch[note]) + off, rate_hz / n_fft)
    best = int(np.argmax(scores))
    own = scores[_TRANSPOSITIONS.index(0)]
    return _TRANSPOSITIONS[best] if scores[best] > own + 2.0 * max(1, len(chosen)) else 0


def _at_partials(level_db: NDArray[np.float64], pitch: int, bin_hz: float) -> float:
    k = np.arange(1, 6)
    f0_hz, b = equal_tempered_hz(pitch), typical_inharmonicity(pitch)
    on = np.round(k * f0_hz * np.sqrt(1 + b * k**2) / bin_hz).astype(int)
    between = np.round((k - 0.5) * f0_hz / bin_hz).astype(int)
    on, between = (np.clip(bins, 1, len(level_db) - 2) for bins in (on, between))
    on_db = np.maximum.reduce([level_db[on - 1], level_db[on], level_db[on + 1]])
    return float(np.clip(on_db, 0, 40).mean() - np.clip(level_db[between], 0, 40).mean())

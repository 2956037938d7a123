"""Listens to recordings and compares them with their MIDI before training: format, level, length, match. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadMidi
from pianofarm_common.midi import MidiLimits, Performance, read_performance
from pianofarm_training.alignment import SEARCHED_S, SMALL_LAG_S, lag, transposition
from pianofarm_training.pairs import Pair
from pianofarm_training.problems import Problem
from pianofarm_training.sample_checks import LOWEST_CLIPPED_DB, flat_tops, silent, sounding

#: So much of each recording is listened to.
LISTENED_S = 60.0

#: Flat tops a minute from which a recording counts as clipped: one or two are no harm among hours.
MOST_FLAT_TOPS = 5

#: MIDI may go on this much longer than the sound.
LARGEST_OVERHANG_S = 5.0

#: Sound may go on this much longer than the MIDI: strings that ring out under the pedal, and what follows.
LARGEST_RING_OUT_S = 15.0

#: What is this far below the loudest of the listened part is ring-out or silence.
MUSIC_BELOW_LOUDEST_DB = 30.0

#: Fewest notes from which transposition and lag are judged.
FEWEST_NOTES = 12


def check_pairs(
    pairs: Sequence[Pair],
    limits: MidiLimits,
    *,
    lowest_rate_hz: int,
    shortest_s: float,
    first_channel: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[Problem]:
    """Every problem of every pair.

    Args:
        pairs: from `find_pairs`.
        limits: on MIDI.
        lowest_rate_hz: rate of the model to be.
        shortest_s: length of a training excerpt.
        first_channel: only the first (left) channel is trained on, as by the published architectures.
        progress: called with the number of pairs done.
    """
    problems: list[Problem] = []
    for number, pair in enumerate(pairs, 1):
        problems += _check(pair, limits, lowest_rate_hz, shortest_s, first_channel)
        if progress is not None:
            progress(number)
    if not any(not pair.held_out for pair in pairs) and pairs:
        problems.append(Problem(pairs[0].audio.parent, "split", "no pair to train on", "mark some of them 'train'"))
    return problems


def _check(
    pair: Pair, limits: MidiLimits, lowest_rate_hz: int, shortest_s: float, first_channel: bool
) -> list[Problem]:
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
            after = np.zeros((0, sound.shape[1]), np.float32)
            if performance is not None and lasts_s > performance.duration_s + LARGEST_RING_OUT_S:
                file.seek(int((performance.duration_s + LARGEST_RING_OUT_S) * rate_hz))
                after = file.read(int(LISTENED_S * rate_hz), dtype="float32", always_2d=True)
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
    taken = "left channel" if first_channel and sound.shape[1] > 1 else ""
    if first_channel:
        sound, after = sound[:, :1], after[:, :1]
    if silence := silent(sound, taken):
        cure = "record it again, or put the channel that sounds into a mono file"
        problems.append(Problem(pair.audio, "silent", silence, cure))
        if not sounding(sound).any():
            return problems
    peak_db = 20 * float(np.log10(np.abs(sound).max(initial=0.0) + 1e-12))
    if peak_db > LOWEST_CLIPPED_DB and (n_flat := flat_tops(sound)) > MOST_FLAT_TOPS:
        found = f"{n_flat} flat tops at {peak_db:.1f} dB in the first {min(lasts_s, LISTENED_S):.0f} s"
        problems.append(Problem(pair.audio, "clipped", found, "record it at a lower level"))
    if performance is None:
        return problems
    goes_on = _loudest_db(after, rate_hz) > _loudest_db(sound, rate_hz) - MUSIC_BELOW_LOUDEST_DB
    if lasts_s < performance.duration_s - LARGEST_OVERHANG_S or goes_on:
        found = f"MIDI lasts {performance.duration_s:.1f} s, sound {lasts_s:.1f} s"
        problems.append(Problem(pair.midi, "length", found, "is it the MIDI of this recording?"))
    return problems + _compared(pair, performance, sound, rate_hz)


def _compared(pair: Pair, performance: Performance, sound: NDArray[np.float32], rate_hz: int) -> list[Problem]:
    heard = performance.onset_s < len(sound) / rate_hz - 0.5
    if heard.sum() < FEWEST_NOTES:
        return []
    onset_s = performance.onset_s[heard]
    lag_s = lag(onset_s, performance.velocity[heard], sound, rate_hz)
    if lag_s is None:
        found = "the onsets of the MIDI are not heard in the recording"
        cure = f"is it another piece's MIDI, at another tempo, or more than {SEARCHED_S:.0f} s off?"
        return [Problem(pair.midi, "match", found, cure)]
    problems = []
    if abs(lag_s) > SMALL_LAG_S:
        found = f"sound {abs(lag_s):.2f} s {'late' if lag_s > 0 else 'early'}"
        problems.append(Problem(pair.audio, "delay", found, "cut or shift it until both agree"))
    off = transposition(onset_s + lag_s, performance.pitch[heard], sound, rate_hz)
    if off:
        plural, direction = "s" if abs(off) > 1 else "", "higher" if off > 0 else "lower"
        found = f"sounds {abs(off)} semitone{plural} {direction} than its MIDI"
        cure = "transpose one of them, or check the file's sample rate"
        problems.append(Problem(pair.audio, "pitch", found, cure))
    return problems


def _loudest_db(sound: NDArray[np.float32], rate_hz: int) -> float:
    """Level of the loudest tenth of a second, dB full scale."""
    step = rate_hz // 10
    power = (sound[: len(sound) // step * step].astype(np.float64) ** 2).sum(axis=1).reshape(-1, step).mean(axis=1)
    return 10 * float(np.log10(power.max(initial=0.0) + 1e-12))

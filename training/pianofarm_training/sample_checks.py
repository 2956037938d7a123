"""Listens to every recorded note before training. Changes nothing.

Unreadable, wrong rate, silent, clipped, short, mislabelled; layers of one key whose levels fall.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.own_samples import NamedSample, key_name
from pianofarm_training.problems import Problem
from pianofarm_training.samples import find_onset
from pianofarm_training.tuning import equal_tempered_hz, typical_inharmonicity

#: Models work at 32 kHz: a recording at less holds nothing of the top.
LOWEST_RATE_HZ = 32_000

#: A recording whose peak is below this holds no note.
SILENT_DB = -60.0

#: As many samples in a row at a file's own peak are a flat top.
FLAT_SAMPLES = 5

#: A file whose peak is lower cannot have been clipped by full scale, unless it was scaled afterwards.
LOWEST_CLIPPED_DB = -20.0

#: Shortest note that can be analysed, seconds from its onset: at MIDI pitch 21 and at 108.
SHORTEST_S = (1.5, 0.6)

#: A note counts as mislabelled when it sounds further off than this, in cents. The top octave of a real piano is stretched by
#: up to 99 cents (measured on the Salamander Grand), so that there only two semitones are certain.
MISLABELLED_CENTS, MISLABELLED_TOP_CENTS, TOP_PITCH = 70.0, 160.0, 97

#: By how much another key's partials must stand out more than those of the key that is named; in the top octave, where one or two
#: partials are all there is, the hammer's knock stands out by up to 8 dB.
CLEARER_DB, CLEARER_TOP_DB = 4.0, 10.0

#: By how much a softer layer of a key must be louder than a harder one before names are doubted. The most that the 480 recordings
#: of the Salamander Grand show is 0.6 dB, by the level that is compared here.
INVERTED_DB = 2.0

#: The level of a note is that of its beginning.
_LEVEL_S = 0.5

_SEARCHED_SEMITONES = 13
_STEP_CENTS = 10.0


@dataclass(frozen=True)
class Heard:
    """What one file sounds like."""

    rate_hz: int
    problems: tuple[Problem, ...]
    level_db: float | None = None  #: of its beginning, full scale; None where it is not the note that it is named


def check(samples: Sequence[NamedSample], progress: Callable[[int], None] | None = None) -> list[Problem]:
    """Every problem of every file.

    Args:
        samples: the recordings with the keys they claim to be.
        progress: called with the number of files done.
    """
    problems: list[Problem] = []
    rates: dict[Path, int] = {}
    levels: dict[int, list[tuple[NamedSample, float]]] = defaultdict(list)
    for number, sample in enumerate(samples, 1):
        heard = listen(sample)
        problems += heard.problems
        if heard.rate_hz:
            rates[sample.path] = heard.rate_hz
        if heard.level_db is not None:
            levels[sample.pitch].append((sample, heard.level_db))
        if progress is not None:
            progress(number)
    if rates:
        usual_hz = Counter(rates.values()).most_common(1)[0][0]
        for path, rate_hz in rates.items():
            if rate_hz < LOWEST_RATE_HZ:
                problems.append(Problem(path, "rate", f"{rate_hz} Hz", f"record at {LOWEST_RATE_HZ} Hz or more"))
            elif rate_hz != usual_hz:
                problems.append(Problem(path, "rate", f"{rate_hz} Hz", f"mixed rates: most files have {usual_hz} Hz"))
    return problems + [problem for layers in levels.values() for problem in _inverted(layers)]


def _inverted(layers: Sequence[tuple[NamedSample, float]]) -> list[Problem]:
    """The layers of one key that are furthest from rising in level, if they clearly fall; nothing else of that key."""
    falls = [
        (softer_db - harder_db, softer.path, harder.path)
        for softer, softer_db in layers
        for harder, harder_db in layers
        if softer.velocity < harder.velocity
    ]
    fall_db, softer, harder = max(falls, default=(0.0, Path(), Path()))
    if fall_db <= INVERTED_DB:
        return []
    found = f"{fall_db:.1f} dB louder than the harder {harder.name}"
    return [Problem(softer, "level", found, "name each layer after what it is, and record all at one gain")]


def listen(sample: NamedSample) -> Heard:
    """Read one file and judge it by itself."""
    import soundfile

    def wrong(kind: str, found: str, cure: str) -> Heard:
        return Heard(rate_hz, (*problems, Problem(sample.path, kind, found, cure)))

    problems: tuple[Problem, ...] = ()
    rate_hz = 0
    try:
        sound, rate_hz = soundfile.read(sample.path, dtype="float32", always_2d=True)
    except FileNotFoundError:
        return wrong("missing", "no such file", "the mapping names it: add it or take it out")
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        return wrong(
            "unreadable", " ".join(str(error).split())[-80:], "no sound file that libsndfile reads: export it again"
        )
    if sound.shape[1] > 2:
        return wrong("channels", f"{sound.shape[1]} channels", "one or two")
    if not np.isfinite(sound).all():
        return wrong("unreadable", "values that are not finite", "export it again")
    if not sounding(sound).any():
        return wrong("silent", silent(sound), "no note in it: record it again")
    if silence := silent(sound):
        cure = "record it again, or put the other channel into a mono file"
        problems = (Problem(sample.path, "silent", silence, cure),)
    peak_db = 20 * float(np.log10(np.abs(sound).max() + 1e-12))
    onset = find_onset(sound, rate_hz)
    lasts_s = (len(sound) - onset) / rate_hz
    wanted_s = float(np.interp(sample.pitch, [21, 108], SHORTEST_S))
    if lasts_s < wanted_s:
        return wrong(
            "short", f"{lasts_s:.2f} s after its onset", f"{wanted_s:.1f} s or more, best until it has died away"
        )
    if peak_db > LOWEST_CLIPPED_DB and (n_flat := flat_tops(sound)):
        problem = Problem(
            sample.path, "clipped", f"{n_flat} flat tops at {peak_db:.1f} dB", "record it at a lower level"
        )
        problems = (*problems, problem)
    off_cents = pitch_error_cents(sound[onset:], rate_hz, sample.pitch)
    if abs(off_cents) > _allowed_cents(sample.pitch):
        hz = equal_tempered_hz(sample.pitch) * 2 ** (off_cents / 1200)
        sounds = round(sample.pitch + off_cents / 100)
        found = f"named {key_name(sample.pitch)}, sounds like {key_name(sounds)} ({hz:.1f} Hz)"
        return wrong("pitch", found, "name it after the key it is")
    beginning = sound[onset : onset + int(_LEVEL_S * rate_hz)].astype(np.float64)
    return Heard(rate_hz, problems, 10 * float(np.log10((beginning**2).mean() + 1e-12)))


def sounding(sound: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which channels hold something, [n_channels].

    Args:
        sound: [n_samples, n_channels].
    """
    return np.asarray(20 * np.log10(np.abs(sound).max(axis=0, initial=0.0) + 1e-12) >= SILENT_DB)


def silent(sound: NDArray[np.float32], called: str = "") -> str:
    """Which channels hold nothing, with the peak of the loudest of them; "" where all sound.

    Args:
        sound: [n_samples, n_channels].
        called: what it is, where it is not the whole file.
    """
    dead = ~sounding(sound)
    if not dead.any():
        return ""
    peak_db = max(-120.0, 20 * float(np.log10(np.abs(sound[:, dead]).max(initial=0.0) + 1e-12)))
    if not dead.all():
        called = f"{' and '.join(np.array(['left', 'right'])[dead])} channel" if len(dead) == 2 else "a channel"
    return f"{called}{': ' if called else ''}peak {peak_db:.0f} dB full scale"


def flat_tops(sound: NDArray[np.float32]) -> int:
    """How often a channel stays at its own peak for `FLAT_SAMPLES` samples: what a converter driven too far leaves.

    Args:
        sound: [n_samples, n_channels].
    """
    n = 0
    for channel in sound.T[sounding(sound)]:
        # A channel that holds nothing would be one flat top.
        size = np.abs(channel)
        # Half a step of 16 bits: equal but for rounding.
        at_peak = np.concatenate([[False], size > size.max() - 0.5 / 32768, [False]])
        edges = np.flatnonzero(np.diff(at_peak.astype(np.int8)))
        n += int((edges[1::2] - edges[::2] >= FLAT_SAMPLES).sum())
    return n


def pitch_error_cents(sound: NDArray[np.float32], rate_hz: int, pitch: int) -> float:
    """How far from its key a note sounds, by the comb of partials that stands out most; 0 where none is clearly better.

    A key an octave off shares partials with this one: what lies half way between the partials counts against a key, and a
    partial that is not there does not count for it.

    Args:
        sound: [n_samples, n_channels], from the onset.
        rate_hz: of the sound.
        pitch: the key it claims to be, MIDI.
    """
    start = int(float(np.interp(pitch, [21, 108], [0.1, 0.02])) * rate_hz)
    n = int(float(np.interp(pitch, [21, 108], [1.4, 0.4])) * rate_hz)
    part = sound[start : start + n]
    n_fft = 1 << (2 * len(part) - 1).bit_length()
    power = (np.abs(np.fft.rfft(part * np.hanning(len(part))[:, None], n_fft, axis=0)) ** 2).sum(axis=1)
    level_db = 10 * np.log10(power + 1e-20)
    bin_hz = rate_hz / n_fft
    # The best bin within 8 cents or two bins: inharmonicity is known to some per cent only.
    level_db = np.maximum.reduce([level_db, np.roll(level_db, 1), np.roll(level_db, -1)])
    floor_db = level_db.max() - 60.0
    offsets = np.arange(-100.0 * _SEARCHED_SEMITONES, 100.0 * _SEARCHED_SEMITONES + 1, _STEP_CENTS)
    scores = []
    for cents in offsets:
        f0_hz = equal_tempered_hz(pitch) * 2 ** (cents / 1200)
        scores.append(_comb_db(level_db - floor_db, f0_hz, typical_inharmonicity(pitch + cents / 100), bin_hz))
    near = np.abs(offsets) <= _allowed_cents(pitch)
    own = float(np.max(np.array(scores)[near]))
    best = int(np.argmax(scores))
    clearer_db = CLEARER_DB if pitch < TOP_PITCH else CLEARER_TOP_DB
    return float(offsets[best]) if scores[best] > max(6.0, own + clearer_db) else 0.0


def _allowed_cents(pitch: int) -> float:
    return MISLABELLED_CENTS if pitch < TOP_PITCH else MISLABELLED_TOP_CENTS


def _comb_db(level_db: NDArray[np.float64], f0_hz: float, b: float, bin_hz: float) -> float:
    """Mean level at a key's first partials less that half way between them."""
    k = np.arange(1, 11)
    nyquist_hz = (len(level_db) - 1) * bin_hz
    on_hz = k * f0_hz * np.sqrt(1 + b * k**2)
    between_hz = (k - 0.5) * f0_hz * np.sqrt(1 + b * (k - 0.5) ** 2)
    heard = on_hz < min(0.9 * nyquist_hz, 12_000.0)
    if not heard.any():
        return 0.0
    on, between = (np.clip(level_db[np.round(hz[heard] / bin_hz).astype(int)], 0, None) for hz in (on_hz, between_hz))
    # Upper partials count less: their places are less certain.
    weight = 1 / np.sqrt(k[heard])
    return float(((on - between) * weight).sum() / weight.sum())

"""A user's own recorded notes, a folder of files or an SFZ mapping -> a `SampleSet`. Opens no audio: `sample_checks` does.

A file in a folder is named after its key and its layer: `A0v1.wav`, `C#4-v12.flac`, `Bb3_vel096.wav`, `060_v3.ogg`. `v3` is the
third layer, softest first; `vel96` is the velocity itself, 1 to 127.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pianofarm_common.errors import NotFound
from pianofarm_training.problems import Problem
from pianofarm_training.samples import SampleSet
from pianofarm_training.sfz import note_number, read_sfz

#: Endings of files that are taken for recordings.
AUDIO_ENDINGS = (".wav", ".flac", ".ogg", ".aif", ".aiff", ".opus", ".mp3")

#: Keys of a piano.
LOWEST_PITCH, HIGHEST_PITCH = 21, 108

_NAME = re.compile(r"^([A-Ga-g][#sb]?\d|\d{2,3})[ _.-]*(v|vel)(\d{1,3})$")


@dataclass(frozen=True)
class NamedSample:
    """One recording, as its name or its mapping describes it."""

    path: Path
    pitch: int
    velocity: float  #: 1..127; of a numbered layer its number, until all layers are known


def gather(source: Path) -> tuple[list[NamedSample], list[Problem]]:
    """The recordings of a folder or of an SFZ mapping, and what is wrong with their names.

    Args:
        source: a folder, its subfolders included, or an .sfz file.

    Raises:
        NotFound: no such folder or file, or nothing in it.
        BadMapping: the SFZ file cannot be read.
    """
    if source.suffix.lower() == ".sfz" and not source.is_dir():
        found, problems = _mapped(source)
    elif source.is_dir():
        found, problems = _named(source)
    else:
        raise NotFound(f"{source} is neither a folder of recordings nor an .sfz file")
    if not found and not problems:
        raise NotFound(f"{source} holds no recordings ({', '.join(AUDIO_ENDINGS)}): name them like A0v1.wav")
    off = [s for s in found if not LOWEST_PITCH <= s.pitch <= HIGHEST_PITCH]
    problems += [Problem(s.path, "key", f"MIDI pitch {s.pitch}", "a piano has 21 (A0) to 108 (C8)") for s in off]
    return [s for s in found if s not in off], problems


def _named(folder: Path) -> tuple[list[NamedSample], list[Problem]]:
    numbered: list[NamedSample] = []
    exact: list[NamedSample] = []
    problems = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in AUDIO_ENDINGS or path.name.startswith("."):
            continue
        match = _NAME.match(path.stem)
        if match is None:
            problems.append(Problem(path, "name", path.name, "name it after key and layer: A0v1.wav, C#4-vel096.wav"))
            continue
        number = int(match[3])
        if not 1 <= number <= 127:
            problems.append(Problem(path, "name", f"{match[2]}{number}", "layers and velocities are 1 to 127"))
            continue
        (exact if match[2] == "vel" else numbered).append(NamedSample(path, note_number(match[1]), float(number)))
    if numbered and exact:
        odd = min(numbered, exact, key=len)
        problems += [
            Problem(s.path, "name", s.path.name, "the other files number their layers another way: v or vel")
            for s in odd
        ]
    n_layers = max((s.velocity for s in numbered), default=1)
    # The middle of as many equal ranges of velocity as there are layers.
    spread = [replace(s, velocity=1 + 126 * (s.velocity - 0.5) / n_layers) for s in numbered]
    return spread + exact, problems


def _mapped(path: Path) -> tuple[list[NamedSample], list[Problem]]:
    regions = read_sfz(path)
    middles = {(r.path, r.pitch): (r.lowest_velocity + r.highest_velocity) / 2 for r in regions}
    by_key: dict[int, list[NamedSample]] = defaultdict(list)
    for (file, pitch), velocity in middles.items():
        by_key[pitch].append(NamedSample(file, pitch, velocity))
    volumes = Counter(r.volume_db for r in regions)
    problems = []
    if len(volumes) > 1:
        usual = volumes.most_common(1)[0][0]
        problems = [
            Problem(
                r.path, "volume", f"volume={r.volume_db:g} dB", f"others have {usual:g}: write the level into the file"
            )
            for r in regions
            if r.volume_db != usual
        ]
    counts = {len(samples) for samples in by_key.values()}
    if len(counts) == 1:
        # Keys may be split at other velocities each: the softest ones are one layer, the next ones another.
        ranked = [sorted(samples, key=lambda s: s.velocity) for samples in by_key.values()]
        means = [sum(s.velocity for s in layer) / len(layer) for layer in zip(*ranked, strict=True)]
        return [replace(s, velocity=m) for samples in ranked for s, m in zip(samples, means, strict=True)], problems
    return [s for samples in by_key.values() for s in samples], problems


def missing_and_doubled(found: Sequence[NamedSample]) -> list[Problem]:
    """Keys that lack a layer that others have, and layers recorded twice: every key needs each layer once."""
    layers = sorted({s.velocity for s in found})
    pitches = sorted({s.pitch for s in found})
    cells = Counter((s.pitch, s.velocity) for s in found)
    problems = []
    if len(layers) < 2 and found:
        where = found[0].path.parent
        problems.append(Problem(where, "layers", f"{len(layers)} layer", "record each key at two velocities or more"))
    for pitch in pitches:
        example = next(s.path for s in found if s.pitch == pitch)
        lacking = [f"{velocity:.0f}" for velocity in layers if (pitch, velocity) not in cells]
        if lacking:
            what = f"key {pitch} ({key_name(pitch)}) lacks velocity {', '.join(lacking)}"
            problems.append(
                Problem(example.parent, "missing", what, f"others have {len(layers)} layers: add the files")
            )
    for sample in found:
        if cells[sample.pitch, sample.velocity] > 1:
            what = f"key {sample.pitch} at velocity {sample.velocity:.0f}"
            problems.append(Problem(sample.path, "doubled", what, "keep one recording of each key and layer"))
    return problems


def sample_set(found: Sequence[NamedSample], credit: str) -> SampleSet:
    """The recordings as training takes them; nothing may be missing or doubled.

    Args:
        found: every key with every layer, once.
        credit: whom to name for the recordings.
    """
    layers = sorted({s.velocity for s in found})
    files = {(s.pitch, layers.index(s.velocity)): s.path for s in found}
    return SampleSet(dict(sorted(files.items())), tuple(layers), credit)


def key_name(pitch: int) -> str:
    """The name of a key: 60 is C4."""
    names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    return f"{names[pitch % 12]}{pitch // 12 - 1}"

"""One instrument -> all its figures, as plain numbers; kept on disk, so that only what changed is measured again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pianofarm_training.evaluation import materials, music, notes, response, transcription
from pianofarm_training.evaluation.instruments import RATE_HZ, Instrument, Play
from pianofarm_training.evaluation.listening import Ears
from pianofarm_training.samples import SampleSet, read_note

Sound = NDArray[np.float32]

#: Figures by table, then by name.
Figures = dict[str, Any]

#: Sources that measure, and those that listen: when one of them changes, figures are measured again.
_HERE = Path(__file__).resolve().parent
_MEASURING = (
    *(_HERE / f"{name}.py" for name in ("figures", "materials", "music", "notes", "response", "instruments")),
    *(_HERE.parent / f"{name}.py" for name in ("distances", "sampler", "samples", "tuning", "passages")),
)
_HEARING = (_HERE / "listening.py", _HERE / "transcription.py", _HERE.parents[1] / "listening" / "listen.py")


def sound_figures(instrument: Instrument, samples: SampleSet, layers: tuple[int, ...], work_dir: Path) -> Figures:
    """What can be measured without listening: from the last time if neither instrument nor measuring has changed, else now.

    The sampler comes first: the others are held against what it played.

    Args:
        instrument: what is measured.
        samples: the recordings.
        layers: held-out layers, indices.
        work_dir: where sounds and figures are kept.
    """
    kept, reference = Shelf(work_dir / instrument.name), Shelf(work_dir / "sampler")
    conditions = f"{_conditions(instrument)} {layers}"
    return kept.figures("sound", conditions, lambda: measure(instrument, samples, layers, kept, reference))


def heard_figures(instrument: Instrument, ears: Ears, work_dir: Path) -> Figures:
    """What listeners of software say of the passages that `sound_figures` kept: now, or from the last time if they heard the same.

    Listening takes most of the time: code that has changed and sounds the same is not listened to again.
    """
    kept, reference = Shelf(work_dir / instrument.name), Shelf(work_dir / "sampler")
    passages = materials.passages()
    played = [passage.performance.sha256 for passage in passages]
    sounds = [shelf.digest([f"passage-{number}" for number in range(len(passages))]) for shelf in (kept, reference)]
    conditions = f"{sounds} {played} {_digest(_HEARING)}"
    return kept.figures("heard", conditions, lambda: hear(instrument, ears, kept, reference))


def together(sound: Figures, heard: Figures | None) -> Figures:
    """One record of an instrument, less figures that a passage has none of: one velocity correlates with nothing."""
    if heard is None:
        return sound
    known = [{name: value for name, value in row.items() if np.isfinite(value)} for row in heard["passages"]]
    rows = [row | more for row, more in zip(sound["passages"], known, strict=True)]
    return {**sound, "passages": rows}


class Shelf:
    """A folder of arrays and figures that need not be made twice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, value: NDArray[Any]) -> None:
        """Write an array."""
        np.save(self._folder / f"{name}.npy", value)

    def read(self, name: str) -> NDArray[Any]:
        """Read an array back."""
        found: NDArray[Any] = np.load(self._folder / f"{name}.npy")
        return found

    def digest(self, names: list[str]) -> str:
        """Of some arrays that were kept."""
        return _digest(tuple(self._folder / f"{name}.npy" for name in names))

    def figures(self, name: str, conditions: str, make: Callable[[], Figures]) -> Figures:
        """Figures as they were kept under the same conditions, or made and kept."""
        path = self._folder / f"{name}.json"
        state = hashlib.sha256(conditions.encode()).hexdigest()
        if path.is_file():
            saved: Figures = json.loads(path.read_text())
            if saved.pop("state") == state:
                return saved
        made = make()
        path.write_text(json.dumps({"state": state, **made}))
        return made


def measure(
    instrument: Instrument, samples: SampleSet, layers: tuple[int, ...], kept: Shelf, reference: Shelf
) -> Figures:
    """What can be measured without listening. The sampler comes first: its sound is the reference."""
    play = instrument.open()
    is_reference = instrument.name == "sampler"
    figures: Figures = {"title": instrument.title, "same_piano": instrument.same_piano}
    figures["passages"] = _passages(play, kept, reference, is_reference=is_reference)
    figures["notes"] = _recorded_neighbour(samples, layers) if is_reference else _notes(play, samples, layers)
    figures["keyboard"] = _keyboard(play, kept, reference, is_reference=is_reference)
    return figures


def hear(instrument: Instrument, ears: Ears, kept: Shelf, reference: Shelf) -> Figures:
    """What listeners of software say of the passages that `measure` kept."""
    played = materials.passages()
    sounds = [kept.read(f"passage-{number}") for number in range(len(played))]
    pairs = []
    if instrument.name != "sampler":
        pairs = [(sound, reference.read(f"passage-{number}")[: len(sound)]) for number, sound in enumerate(sounds)]
    opinions, heard = ears.listen(pairs, sounds, RATE_HZ)
    rows: list[Figures] = [
        asdict(transcription.score(found, transcription.played_notes(passage.performance)))
        for found, passage in zip(heard, played, strict=True)
    ]
    for row, opinion in zip(rows, opinions, strict=False):
        row.update(asdict(opinion))
    return {"passages": rows}


def _notes(play: Play, samples: SampleSet, layers: tuple[int, ...]) -> Figures:
    """Held-out notes."""
    played = materials.single_notes(samples.pitches, layers)
    sound = play(played.performance)
    delays_s, ours, theirs = [], [], []
    length = round(materials.HELD_S * RATE_HZ)
    for onset_s, pitch, layer in zip(played.performance.onset_s, played.pitches, played.layers, strict=True):
        rest_s = materials.HELD_S + materials.REST_S
        alone = sound[: round((onset_s + rest_s) * RATE_HZ)]
        delays_s.append(notes.onset_delay_s(alone, float(onset_s), RATE_HZ))
        begin = round((onset_s + delays_s[-1]) * RATE_HZ)
        ours.append(sound[begin : begin + length])
        theirs.append(read_note(samples.files[pitch, layer], RATE_HZ, materials.HELD_S))
    delays_ms = 1000 * np.array(delays_s)
    late = float(np.median(delays_ms))
    return {
        **asdict(notes.compare(ours, theirs, RATE_HZ)),
        **_tuning(ours, theirs, played, layers),
        "onset_ms": float(np.abs(delays_ms).mean()),
        "onset_95_ms": float(np.quantile(np.abs(delays_ms), 0.95)),
        "late_ms": late,
        "jitter_ms": float(np.abs(delays_ms - late).mean()),
    }


def _tuning(ours: list[Sound], theirs: list[Sound], played: materials.Notes, layers: tuple[int, ...]) -> Figures:
    """Where keys lie, from their louder held-out layers."""
    cents: dict[str, list[float]] = {"ours": [], "theirs": []}
    pitches = sorted(set(played.pitches))
    for pitch in pitches:
        indices = [n for n in range(len(played)) if played.pitches[n] == pitch and played.layers[n] in layers[-2:]]
        for name, sounds in (("ours", ours), ("theirs", theirs)):
            cents[name].append(notes.cents([sounds[n] for n in indices], pitch, RATE_HZ))
    errors = np.abs(np.array(cents["ours"]) - np.array(cents["theirs"]))
    return {
        "tuning_cents": float(np.median(errors)),
        "tuning_95_cents": float(np.quantile(errors, 0.95)),
        "unevenness_cents": notes.unevenness_cents(pitches, cents["ours"]),
        "recorded_unevenness_cents": notes.unevenness_cents(pitches, cents["theirs"]),
    }


def _recorded_neighbour(samples: SampleSet, layers: tuple[int, ...]) -> Figures:
    """The recorded layer below, as it is, against each held-out one: for scale."""
    read = [
        [read_note(samples.files[pitch, layer - softer], RATE_HZ, materials.HELD_S) for softer in (1, 0)]
        for layer in layers
        for pitch in samples.pitches
    ]
    return asdict(notes.compare([below for below, _ in read], [itself for _, itself in read], RATE_HZ))


def _keyboard(play: Play, kept: Shelf, reference: Shelf, *, is_reference: bool) -> Figures:
    """Levels of all keys at all layers."""
    played = materials.keyboard()
    sound = play(played.performance)
    levels_db = np.array(
        [
            notes.level_db(sound[round(onset_s * RATE_HZ) :][: round(materials.SHORT_HELD_S * RATE_HZ)], RATE_HZ)
            for onset_s in played.performance.onset_s
        ]
    )
    levels_db = levels_db.reshape(-1, 88).T
    kept.keep("keyboard", levels_db)
    found: Figures = asdict(response.evenness(levels_db))
    if not is_reference:
        rms_db, most_db = response.level_errors_db(levels_db, reference.read("keyboard"))
        found |= {"level_db": rms_db, "level_95_db": most_db}
    return found


def _passages(play: Play, kept: Shelf, reference: Shelf, *, is_reference: bool) -> list[Figures]:
    """Music; the sounds are kept for `hear`."""
    rows: list[Figures] = []
    for number, passage in enumerate(materials.passages()):
        sound = play(passage.performance)
        row: Figures = {"name": passage.name, "notes": len(passage.performance.onset_s)}
        if not is_reference:
            theirs = reference.read(f"passage-{number}")
            sound = music.matched(sound, theirs, RATE_HZ)
            row |= asdict(music.compare(sound, theirs, passage.performance.onset_s, RATE_HZ))
        kept.keep(f"passage-{number}", sound)
        rows.append(row)
    return rows


def mean(rows: list[Figures], name: str) -> float | None:
    """Mean of a figure over passages; None where it was not measured."""
    values = [row[name] for row in rows if name in row]
    return float(np.mean(values)) if values else None


def pooled_f1(rows: list[Figures], name: str) -> float | None:
    """F1 over all passages, each counting by its notes; None where it was not measured."""
    if not all(name in row for row in rows):
        return None
    return float(np.average([row[name] for row in rows], weights=[row["n_played"] for row in rows]))


def _conditions(instrument: Instrument) -> str:
    """What a figure depends on."""
    played = [passage.performance.sha256 for passage in materials.passages()]
    return f"{instrument.identity} {_digest(_MEASURING)} {played}"


def _digest(paths: tuple[Path, ...]) -> str:
    """Of what files hold."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()

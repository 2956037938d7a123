"""One instrument -> all its figures, as plain numbers; kept on disk, so that only what changed is measured again."""

from __future__ import annotations

import hashlib
import json
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


def remembered(
    instrument: Instrument, samples: SampleSet, layers: tuple[int, ...], ears: Ears | None, work_dir: Path
) -> Figures:
    """An instrument's figures from the last time, if neither it nor the measuring has changed; else measured now.

    Args:
        instrument: what is measured.
        samples: the recordings.
        layers: held-out layers, indices.
        ears: what listens; None: those figures are left out.
        work_dir: where references and figures are kept.
    """
    path = work_dir / f"{instrument.name}.json"
    played = [passage.performance.sha256 for passage in materials.passages()]
    conditions = f"{instrument.identity} {_measuring()} {layers} {played} {ears is not None}"
    state = hashlib.sha256(conditions.encode()).hexdigest()
    if path.is_file():
        saved: Figures = json.loads(path.read_text())
        if saved["state"] == state:
            return saved
    found = {"state": state, **measure(instrument, samples, layers, ears, Reference(work_dir / "reference"))}
    path.write_text(json.dumps(found))
    return found


class Reference:
    """What the sampler played, on disk: every other instrument is held against it."""

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


def measure(
    instrument: Instrument, samples: SampleSet, layers: tuple[int, ...], ears: Ears | None, reference: Reference
) -> Figures:
    """All figures of an instrument. The sampler's own must have been measured first: its sound is the reference."""
    play = instrument.open()
    is_reference = instrument.name == "sampler"
    figures: Figures = {"title": instrument.title, "same_piano": instrument.same_piano}
    figures["notes"] = _recorded_neighbour(samples, layers) if is_reference else _notes(play, samples, layers)
    figures["keyboard"] = _keyboard(play, reference, is_reference=is_reference)
    figures["passages"] = _passages(play, reference, ears, is_reference=is_reference)
    return figures


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


def _keyboard(play: Play, reference: Reference, *, is_reference: bool) -> Figures:
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
    found: Figures = asdict(response.evenness(levels_db))
    if is_reference:
        reference.keep("keyboard", levels_db)
    else:
        rms_db, most_db = response.level_errors_db(levels_db, reference.read("keyboard"))
        found |= {"level_db": rms_db, "level_95_db": most_db}
    return found


def _passages(play: Play, reference: Reference, ears: Ears | None, *, is_reference: bool) -> list[Figures]:
    """Music."""
    played = materials.passages()
    rows: list[Figures] = []
    sounds, pairs = [], []
    for number, passage in enumerate(played):
        sound = play(passage.performance)
        row: Figures = {"name": passage.name, "notes": len(passage.performance.onset_s)}
        if is_reference:
            reference.keep(f"passage-{number}", sound)
        else:
            theirs = reference.read(f"passage-{number}")
            sound = music.matched(sound, theirs, RATE_HZ)
            row |= asdict(music.compare(sound, theirs, passage.performance.onset_s, RATE_HZ))
            pairs.append((sound, theirs[: len(sound)]))
        sounds.append(sound)
        rows.append(row)
    if ears is not None:
        opinions, heard = ears.listen(pairs, sounds, RATE_HZ)
        for row, found, passage in zip(rows, heard, played, strict=True):
            row.update(asdict(transcription.score(found, transcription.played_notes(passage.performance))))
        for row, opinion in zip(rows, opinions, strict=not is_reference):
            row.update(asdict(opinion))
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


def _measuring() -> str:
    """Digest of the sources that measure."""
    here = Path(__file__).resolve().parent
    measuring = ("figures", "materials", "music", "notes", "response", "transcription", "listening", "instruments")
    digest = hashlib.sha256()
    for path in (
        *(here / f"{name}.py" for name in measuring),
        *(here.parent / f"{name}.py" for name in ("distances", "sampler", "samples", "tuning", "passages")),
        here.parents[1] / "listening" / "listen.py",
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()

"""Recordings with the MIDI that was played: which file belongs to which, in a folder of a user's own. Opens no audio.

Two layouts: a CSV file with the columns of MAESTRO (Hawthorne et al., ICLR 2019: `midi_filename`, `audio_filename`, and where
given `split` and `year`), or audio and MIDI files of the same name beside each other.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from pianofarm_common.errors import NotFound
from pianofarm_training.own_samples import AUDIO_ENDINGS
from pianofarm_training.problems import Problem

MIDI_ENDINGS = (".mid", ".midi")

#: Of files without a table every so many are kept from training, to measure on.
VALIDATION_EVERY = 5


@dataclass(frozen=True)
class Pair:
    """One recording and what was played."""

    audio: Path
    midi: Path
    piano: str  #: which instrument or room: the year of a MAESTRO table, else ""
    held_out: bool  #: kept from training


def find_pairs(folder: Path) -> tuple[list[Pair], list[Problem]]:
    """The pairs of a folder, and the files that lack their other half.

    Args:
        folder: subfolders included.

    Raises:
        NotFound: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise NotFound(f"{folder} is no folder: give the one that holds recordings and their MIDI files")
    for table in sorted(folder.glob("*.csv")):
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        if rows and {"midi_filename", "audio_filename"} <= rows[0].keys():
            return _listed(folder, table, rows)
    pairs, problems = _by_name(folder)
    if not pairs and not problems:
        raise NotFound(
            f"{folder} holds no recordings: put take1.wav and take1.mid beside each other, or a MAESTRO table"
        )
    return pairs, problems


def pianos(pairs: list[Pair]) -> list[str]:
    """Names of the pianos, in the order of their numbers."""
    return sorted({pair.piano for pair in pairs})


def _listed(folder: Path, table: Path, rows: list[dict[str, str]]) -> tuple[list[Pair], list[Problem]]:
    pairs, problems = [], []
    for number, row in enumerate(rows, 2):
        audio, midi = folder / (row["audio_filename"] or ""), folder / (row["midi_filename"] or "")
        absent = [path for path in (audio, midi) if not path.is_file()]
        problems += [
            Problem(path, "missing", f"line {number} of {table.name}", "add it or take the line out") for path in absent
        ]
        if not absent:
            held_out = row.get("split", "train") not in ("train", "", None)
            pairs.append(Pair(audio, midi, row.get("year") or "", held_out))
    return pairs, problems


def _by_name(folder: Path) -> tuple[list[Pair], list[Problem]]:
    halves: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: {"audio": [], "midi": []})
    for path in sorted(folder.rglob("*")):
        ending = path.suffix.lower()
        kind = "audio" if ending in AUDIO_ENDINGS else "midi" if ending in MIDI_ENDINGS else ""
        if kind and not path.name.startswith("."):
            halves[path.with_suffix("")][kind].append(path)
    pairs: list[Pair] = []
    problems = []
    for stem, found in halves.items():
        for kind, other in (("audio", "midi"), ("midi", "audio")):
            problems += [
                Problem(path, "doubled", f"a second {kind} file {stem.name}", "keep one of them")
                for path in found[kind][1:]
            ]
            if found[kind] and not found[other]:
                cure = f"put {stem.name}{'.mid' if other == 'midi' else '.wav'} beside it"
                problems.append(Problem(found[kind][0], "missing", f"no {other} file of this name", cure))
        if found["audio"] and found["midi"]:
            held_out = len(pairs) % VALIDATION_EVERY == VALIDATION_EVERY - 1
            pairs.append(Pair(found["audio"][0], found["midi"][0], "", held_out))
    return pairs, problems

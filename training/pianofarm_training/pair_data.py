"""The pairs of a folder, every one listened to: what training on recordings with MIDI starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pianofarm_common.midi import MidiLimits
from pianofarm_training.pair_checks import check_pairs
from pianofarm_training.pairs import Pair, find_pairs
from pianofarm_training.problems import BadData, in_order


def checked_pairs(
    folder: Path,
    limits: MidiLimits,
    *,
    lowest_rate_hz: int,
    shortest_s: float,
    first_channel: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Find and check.

    Args:
        folder: see `pairs`.
        limits: on MIDI.
        lowest_rate_hz: rate of the model to be.
        shortest_s: length of a training excerpt.
        first_channel: only the first channel is trained on.
        progress: called with pairs done and pairs in all.

    Raises:
        NotFound: no recordings there.
        BadData: something is wrong with them; the error holds all of it.
    """
    found, problems = find_pairs(folder)
    problems += check_pairs(
        found,
        limits,
        lowest_rate_hz=lowest_rate_hz,
        shortest_s=shortest_s,
        first_channel=first_channel,
        progress=None if progress is None else lambda done: progress(done, len(found)),
    )
    if problems:
        raise BadData(folder, in_order(problems))
    return found

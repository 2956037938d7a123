"""The live stream measured: what a block costs to compute, and how soon a note is heard. Runs in fresh processes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from bench import pieces
from bench.fresh import Measured
from bench.published import loaded, performance_of
from bench.spread import percentile

_Gate = Callable[[], None]

#: Blocks before the clock counts: caches and branch predictors settle.
_WARM_UP_BLOCKS = 100


def stream(model: str | None, backend: str, seconds: float, block_ms: int, gate: _Gate) -> Measured:
    """Play the dense piece live, as fast as the blocks can be pulled.

    Args:
        model: its folder; None: the default model.
        backend: tensorflow or jax; the default model needs neither.
        seconds: how much is played.
        block_ms: length of a block.
        gate: called when everything is compiled.
    """
    from pianofarm_worker.synth.events import NoteOn, events_of

    piano = loaded(model, backend, n_threads=1)
    began = time.perf_counter()
    played = piano.stream(block_ms=block_ms, seed=1)
    start_s = time.perf_counter() - began
    n_blocks = max(_WARM_UP_BLOCKS + 10, int(seconds * 1000 / block_ms))
    events = deque(events_of(performance_of(pieces.dense(n_blocks * block_ms / 1000))))
    gate()
    took_ms, note_ms = [], []
    for number in range(n_blocks):
        began, starts_note = time.perf_counter(), False
        while events and (events[0].time_s or 0.0) < played.now_s + block_ms / 1000:
            event = events.popleft()
            starts_note |= isinstance(event, NoteOn)
            played.push(event)
        played.pull()
        if number >= _WARM_UP_BLOCKS:
            took_ms.append(1e3 * (time.perf_counter() - began))
            if starts_note:
                note_ms.append(took_ms[-1])
    block = {f"p{percent}": percentile(took_ms, percent) for percent in (50, 95, 99)} | {"max": max(took_ms)}
    # A block that begins a note has more to do than most.
    note = {f"p{percent}": percentile(note_ms, percent) for percent in (50, 99)}
    delay_ms = 1e3 * played.delay_s
    return {
        "block_ms": block,
        "block_length_ms": block_ms,
        "blocks": len(took_ms),
        "start_s": start_s,
        "delay_ms": delay_ms,
        "heard_after_ms": _heard_after_ms(piano, block_ms),
        "note_block_ms": note,
        "note_blocks": len(note_ms),
        "first_audio_ms": delay_ms + note["p50"],
        "first_audio_p99_ms": delay_ms + note["p99"] + block_ms,
        "dropped_notes": played.dropped_notes,
    }


def _heard_after_ms(piano: Any, block_ms: int) -> float:
    """Where in the sound after a note-on the note begins: the first sample that a second stream without it does not have."""
    import numpy as np

    from pianofarm_worker.synth.events import NoteOn

    with_note, without = (piano.stream(block_ms=block_ms, seed=1) for _ in range(2))
    for _ in range(20):
        with_note.pull()
        without.pull()
    with_note.push(NoteOn(60, 100))
    difference = np.concatenate([np.abs(with_note.pull() - without.pull()).max(axis=1) for _ in range(25)])
    audible = np.flatnonzero(difference > 1e-3 * difference.max())
    return 1e3 * float(audible[0]) / float(with_note.sample_rate_hz)

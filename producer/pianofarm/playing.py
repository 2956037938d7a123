"""A MIDI file played as it is synthesized, block by block: what `pianofarm play` does. Where the sound goes is in `sinks`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pianofarm.models import check_options, require_worker, resolve_model
from pianofarm.submission import MidiSource, parse_options, read_source
from pianofarm_common.errors import BadOption
from pianofarm_common.midi import MidiLimits
from pianofarm_common.registry import Registry
from pianofarm_common.settings import Settings

if TYPE_CHECKING:
    from pianofarm.sinks import Sink

#: What rings on after the last key is up: a release of a second and a room of one and a half.
TAIL_S = 3.0


@dataclass(frozen=True)
class Request:
    """What to play."""

    midi: MidiSource
    model: str | None
    piano: int | None
    block_ms: int
    backend: str | None
    tail: bool
    room: float | None = None  #: how much of it; None: as the model has it


@dataclass(frozen=True)
class Report:
    """How it went."""

    played_s: float
    notes: int
    dropped_notes: int  #: the model had no key or no voice for them
    underruns: int  #: blocks that came too late for the device
    compute_ms: float  #: of a block, median
    longest_compute_ms: float
    block_ms: int
    delay_ms: float  #: of the model's algorithm; a live player waits for the current block besides


def play(request: Request, settings: Settings, open_sink: Callable[[int, int, int, int], Sink]) -> Report:
    """Play a MIDI file; everything that can be wrong with the request is found before the model is loaded.

    Args:
        request: what to play.
        settings: of this installation.
        open_sink: (sample rate in Hz, channels, samples a block, blocks in all) -> where the sound goes.

    Raises:
        BadMidi, BadOption, UnknownModel, BadModel, BadSettings: the request is wrong.
    """
    backend = request.backend or settings.backend
    if backend not in ("tensorflow", "jax"):
        raise BadOption(f"--backend {backend}: must be tensorflow or jax")
    given = {"piano": request.piano, "room": request.room}
    options = parse_options({name: value for name, value in given.items() if value is not None})
    _, performance = read_source(request.midi, MidiLimits.from_settings(settings))
    require_worker("keras", backend)
    model = resolve_model(request.model or settings.model, settings.state_dir, Registry.from_settings(settings))
    check_options(model, options)

    from pianofarm_worker.synth.events import events_of
    from pianofarm_worker.synth.piano import load
    from pianofarm_worker.synth.stream import check_block_ms

    check_block_ms(request.block_ms)
    stream = load(model, backend=backend, precision=settings.precision).stream(
        piano=request.piano,
        block_ms=request.block_ms,
        seed=int(performance.sha256[:16], 16),
        room=options.room,
    )
    for event in events_of(performance):
        stream.push(event)
    wanted_s = performance.duration_s + stream.delay_s + (TAIL_S if request.tail else 0.0)
    n_blocks = math.ceil(wanted_s * stream.sample_rate_hz / stream.block_samples)
    underruns = 0
    compute_s: list[float] = []
    with open_sink(stream.sample_rate_hz, stream.n_channels, stream.block_samples, n_blocks) as sink:
        for _ in range(n_blocks):
            began = time.perf_counter()
            block = stream.pull()
            compute_s.append(time.perf_counter() - began)
            underruns += sink.write(block)
    compute_s.sort()
    return Report(
        played_s=n_blocks * stream.block_samples / stream.sample_rate_hz,
        notes=len(performance.pitch),
        dropped_notes=stream.dropped_notes,
        underruns=underruns,
        compute_ms=1e3 * compute_s[len(compute_s) // 2],
        longest_compute_ms=1e3 * compute_s[-1],
        block_ms=request.block_ms,
        delay_ms=1e3 * stream.delay_s,
    )

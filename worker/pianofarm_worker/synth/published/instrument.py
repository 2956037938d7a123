"""One piano of a published model, from conditioning arrays to blocks of dry and wet audio, in bounded memory.

Puts networks and synthesizers together; knows no MIDI, no files and no options. Two passes where the model normalises by the
moments of the whole performance (the raw controls wait in `HeldControls`), one where it does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pianofarm_worker.synth import long_arrays
from pianofarm_worker.synth.additive import Additive
from pianofarm_worker.synth.blocks import Reblock
from pianofarm_worker.synth.noise import FilteredNoise
from pianofarm_worker.synth.partials import PartialTables
from pianofarm_worker.synth.piano import Progress
from pianofarm_worker.synth.published.batch import Batch, Piece
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.context import ContextNetwork
from pianofarm_worker.synth.published.controls import Controls
from pianofarm_worker.synth.published.frame_store import MEMORY_BYTES
from pianofarm_worker.synth.published.held_controls import HeldControls, unscaled
from pianofarm_worker.synth.published.live_network import LiveNetwork
from pianofarm_worker.synth.published.moments import Moments
from pianofarm_worker.synth.published.monophonic import BLOCK_FRAMES as NETWORK_FRAMES
from pianofarm_worker.synth.published.monophonic import MonophonicNetwork, RawControls
from pianofarm_worker.synth.published.release import extend_pitch
from pianofarm_worker.synth.published.room import impulse_response
from pianofarm_worker.synth.published.rounded_additive import RoundedAdditive
from pianofarm_worker.synth.published.rounded_room import RoundedRoom
from pianofarm_worker.synth.published.stream import LiveParts
from pianofarm_worker.synth.published.threads import ahead, grouped_voices
from pianofarm_worker.synth.published.tuning import tuning_tables
from pianofarm_worker.synth.reverb import Convolver

_Array = NDArray[np.float32]
_Weights = dict[str, _Array]
_T = TypeVar("_T", bound=np.generic)
#: Pitch [n_voices, n], amplitudes [n_voices, n, n_partials] and noise magnitudes [n, n_bands] of n frames.
_Scaled = tuple[NDArray[np.uint8], _Array, _Array]

#: Frames the networks run at once: 4 s. With 250, TensorFlow takes 5 to 8 % longer, as it works a millisecond before every call.
CHUNK_FRAMES = 1000
#: The same of the networks of several pieces, whose chunks are as many times as large.
BATCH_CHUNK_FRAMES = 250
#: Frames the synthesizers work on at once; always the same, so that the bytes do not depend on the chunks of the networks.
BLOCK_FRAMES = 500

#: Parts of the time that the context network and the monophonic network take, of the whole.
_CONTEXT_PART, _MONOPHONIC_PART = 0.03, 0.82


@dataclass(frozen=True)
class Block:
    """Audio that became ready; dry and wet each follow on the block before, and need not be as long as each other."""

    dry: _Array  #: [n_samples]
    wet: _Array  #: [n_samples]


class Instrument:
    """One piano of a model; keeps the compiled programs, so make it once and render often."""

    def __init__(
        self,
        config: PublishedConfig,
        weights: _Weights,
        piano: int,
        monophonic: MonophonicNetwork,
        *,
        chunk_frames: int = CHUNK_FRAMES,
        rounded: bool = False,
        n_threads: int = 1,
        n_places: int = 1,
    ) -> None:
        self._config, self._weights = config, weights
        self._chunk = -(-chunk_frames // NETWORK_FRAMES) * NETWORK_FRAMES
        self._rounded, self._n_threads, self._n_places = rounded, n_threads, n_places
        self._context = ContextNetwork(config, weights, piano, monophonic.kernel_dtype)
        self._monophonic = monophonic
        tuning = tuning_tables(config, weights, piano)
        self._controls = Controls(config, tuning)
        self._partials = PartialTables(
            tuning.f0_hz,
            tuning.inharmonicity,
            n_partials=config.synthesis.n_partials,
            hop=config.hop,
            sample_rate_hz=config.sample_rate_hz,
        )
        self._room = impulse_response(config, weights, piano)

    @cached_property
    def live(self) -> LiveParts:
        """What streams of this piano need."""
        return LiveParts(
            self._config,
            float(self._weights["release_s"]),
            LiveNetwork(self._config, self._weights, self._context, self._monophonic, self._controls),
            self._partials,
            self._room,
        )

    def blocks(
        self, notes: _Array, pedal: _Array, *, seed: int, n_counted: int | None = None, progress: Progress | None = None
    ) -> Iterator[Block]:
        """Render conditioning to audio.

        Args:
            notes: [n_frames, n_voices, 2], active pitch 0..127 and onset velocity 0..1.
            pedal: [n_frames, 4], 0..1.
            seed: of the noise.
            n_counted: frames whose moments count where the model normalises over the performance; None: all.
            progress: called between chunks with the part done.

        Returns:
            Blocks that add up to `n_frames * hop` samples of dry and of wet audio.
        """
        if self._n_threads == 1:
            yield from self._blocks(notes, pedal, seed, n_counted, progress or _ignore, None)
            return
        # One more thread, which waits for the others while it makes the chunk to come.
        with ThreadPoolExecutor(self._n_threads + 1, thread_name_prefix="instrument") as pool:
            yield from self._blocks(notes, pedal, seed, n_counted, progress or _ignore, pool)

    def logits(self, notes: _Array, pedal: _Array) -> _Array:
        """What the networks say before it becomes amplitudes and magnitudes, to compare one computation with another.

        [n_frames, n_voices, n_controls], of the whole piece: 10 kB a frame of dafx22. Arguments as `blocks` takes them.
        """
        pitch = extend_pitch(notes[..., 0], float(self._weights["release_s"]), self._config.frame_rate_hz)
        context = self._run_context(notes, pedal, None, _ignore)
        with HeldControls(self._config, self._weights) as held:
            for chunk in self._run_monophonic(notes, pitch, context):
                held.append(chunk)
            factor, offset = held.affine()
            parts = [raw.q * (raw.step[..., None] * factor) + offset for raw in held.read(BLOCK_FRAMES)]
        return np.concatenate(parts).astype(np.float32)

    def batch(self, pieces: Sequence[Piece], progress: Progress | None = None) -> Iterator[Iterator[Block]]:
        """Render several pieces, at most as many as there are places, their networks in one batch.

        What a piece gives depends neither on the others nor on its place. Held: conditioning and context of all pieces
        (`long_arrays`), their raw controls up to 20 MB together (what comes after waits in temporary files), and one chunk of
        the batch.

        Returns:
            The blocks of each piece in turn, as `blocks` gives them; take all of one before the next.
        """
        report = progress or _ignore
        pitches = [
            extend_pitch(piece.notes[..., 0], float(self._weights["release_s"]), self._config.frame_rate_hz)
            for piece in pieces
        ]
        batch = Batch(
            self._config,
            self._weights,
            self._context,
            self._monophonic,
            n_places=self._n_places,
            chunk_frames=min(self._chunk, BATCH_CHUNK_FRAMES),
        )
        contexts = batch.contexts(pieces, _scaled(report, 0.0, _CONTEXT_PART))
        n_frames = sum(len(piece.notes) for piece in pieces)
        n_done, networks_end = 0, _CONTEXT_PART + _MONOPHONIC_PART
        done = _scaled(report, _CONTEXT_PART, networks_end)
        with contextlib.ExitStack() as stack:
            held = [
                stack.enter_context(
                    HeldControls(
                        self._config,
                        self._weights,
                        n_counted=piece.n_counted,
                        memory_bytes=MEMORY_BYTES // self._n_places,
                    )
                )
                for piece in pieces
            ]
            for chunks in batch.raw(pieces, pitches, contexts):
                for controls, chunk in zip(held, chunks, strict=True):
                    controls.append(chunk)
                    n_done += len(chunk.q)
                done(n_done / n_frames)
            part = (1.0 - networks_end) / len(pieces)
            for number, (piece, pitch, controls) in enumerate(zip(pieces, pitches, held, strict=True)):
                start = networks_end + part * number
                yield self._second_pass(controls, pitch, piece.seed, _scaled(report, start, start + part), None)
        report(1.0)

    def _blocks(
        self,
        notes: _Array,
        pedal: _Array,
        seed: int,
        n_counted: int | None,
        report: Progress,
        pool: Executor | None,
    ) -> Iterator[Block]:
        pitch = extend_pitch(notes[..., 0], float(self._weights["release_s"]), self._config.frame_rate_hz)
        context = self._run_context(notes, pedal, n_counted, report)
        raw = self._run_monophonic(notes, pitch, context, pool)
        if self._monophonic.normalizes:
            yield from self._two_passes(raw, pitch, seed, n_counted, report, pool)
        else:
            done = _scaled(report, _CONTEXT_PART, 1.0)
            scaled = self._scale(raw, pitch, *unscaled(self._config.n_voices))
            yield from self._synthesize(scaled, len(notes), seed, done, pool)
        report(1.0)

    def _run_context(self, notes: _Array, pedal: _Array, n_counted: int | None, report: Progress) -> _Array:
        """[n_frames, n_context]."""
        moments = Moments(self._weights, "context", n_counted=n_counted) if self._context.normalizes else None
        context: _Array = long_arrays.zeros((len(notes), self._config.context.n_out), np.float32)
        state = self._context.initial_state()
        for start in range(0, len(notes), self._chunk):
            end = min(start + self._chunk, len(notes))
            chunk = _padded(notes[start:end], self._chunk), _padded(pedal[start:end], self._chunk)
            q, sums, state = self._context.run(*chunk, state)
            context[start:end] = q[: end - start]
            long_arrays.let_go(notes, pedal, context)
            if moments:
                moments.add(sums[: end - start])
            report(_CONTEXT_PART * end / len(notes))
        if moments and len(notes):
            moments.normalize(context)
        return context

    def _run_monophonic(
        self, notes: _Array, pitch: NDArray[np.uint8], context: _Array, pool: Executor | None = None
    ) -> Iterator[RawControls]:
        def run(voices: slice) -> Iterator[RawControls]:
            return self._run_voices(notes[:, voices], pitch[:, voices], context)

        n_voices = self._config.n_voices
        return grouped_voices(run, n_voices, self._n_threads, pool) if pool else run(slice(0, n_voices))

    def _run_voices(self, notes: _Array, pitch: NDArray[np.uint8], context: _Array) -> Iterator[RawControls]:
        """Raw controls of a group of voices, chunk by chunk."""
        state = self._monophonic.initial_state(notes.shape[1])
        for start in range(0, len(notes), self._chunk):
            end = min(start + self._chunk, len(notes))
            raw, state = self._monophonic.run(
                _padded(notes[start:end], self._chunk),
                _padded(pitch[start:end], self._chunk),
                _padded(context[start:end], self._chunk),
                state,
            )
            long_arrays.let_go(notes, context)
            yield raw if end - start == self._chunk else raw.cut(end - start)

    def _two_passes(
        self,
        raw: Iterator[RawControls],
        pitch: NDArray[np.uint8],
        seed: int,
        n_counted: int | None,
        report: Progress,
        pool: Executor | None,
    ) -> Iterator[Block]:
        networks_end = _CONTEXT_PART + _MONOPHONIC_PART
        done = _scaled(report, _CONTEXT_PART, networks_end)
        with HeldControls(self._config, self._weights, n_counted=n_counted) as held:
            n_done = 0
            for chunk in raw:
                held.append(chunk)
                n_done += len(chunk.q)
                done(n_done / len(pitch))
            yield from self._second_pass(held, pitch, seed, _scaled(report, networks_end, 1.0), pool)

    def _second_pass(
        self, held: HeldControls, pitch: NDArray[np.uint8], seed: int, report: Progress, pool: Executor | None
    ) -> Iterator[Block]:
        if held.is_empty:
            return
        scaled = self._scale(held.read(BLOCK_FRAMES), pitch, *held.affine())
        yield from self._synthesize(scaled, len(pitch), seed, report, pool)

    def _scale(
        self, raw: Iterator[RawControls], pitch: NDArray[np.uint8], factor: _Array, offset: _Array
    ) -> Iterator[_Scaled]:
        """What the synthesizers take, in blocks of `BLOCK_FRAMES`."""
        n_done = 0
        for block in _reblocked(raw):
            n = len(block.q)
            moved = pitch[n_done : n_done + n]
            amplitudes, power = self._controls.run(block.q, block.step, moved, factor, offset)
            yield moved.T, amplitudes, np.sqrt(power)
            n_done += n

    def _synthesize(
        self, scaled: Iterator[_Scaled], n_frames: int, seed: int, report: Progress, pool: Executor | None
    ) -> Iterator[Block]:
        config = self._config
        additive = (RoundedAdditive if self._rounded else Additive)(self._partials, config.n_voices)
        noise = FilteredNoise(config.synthesis.n_noise_bands, config.hop, seed)
        room = (RoundedRoom if self._rounded else Convolver)(self._room)
        n_done = 0
        heard = ((pitch, amplitudes, noise.push(magnitudes)) for pitch, amplitudes, magnitudes in scaled)
        with contextlib.closing(ahead(heard, pool) if pool else heard) as blocks:
            for pitch, amplitudes, hiss in blocks:
                dry = additive.push(pitch, amplitudes)
                dry += hiss
                yield Block(dry, room.push(dry[:, None])[:, 0])
                n_done += pitch.shape[1]
                report(n_done / n_frames)
        if n_done:
            dry = additive.finish() + noise.finish()
            wet = np.concatenate([room.push(dry[:, None]), room.finish(tail=False)])
            yield Block(dry, wet[:, 0])


def _ignore(_part: float) -> None:
    """Progress that nobody asked for."""


def _scaled(report: Progress, start: float, end: float) -> Progress:
    """The progress of a stage that goes from `start` to `end` of the whole."""
    return lambda part: report(start + (end - start) * part)


def _padded(frames: NDArray[_T], n: int) -> NDArray[_T]:
    """Frames [<= n, ...] with zeros behind, [n, ...]: programs are compiled for one length."""
    if len(frames) == n:
        return frames
    return np.concatenate([frames, np.zeros((n - len(frames), *frames.shape[1:]), frames.dtype)])


def _reblocked(raw: Iterator[RawControls]) -> Iterator[RawControls]:
    """The same frames in blocks of `BLOCK_FRAMES`, the last one shorter."""
    blocks = Reblock(BLOCK_FRAMES, 0, 0, 0)
    for chunk in raw:
        yield from _as_raw(blocks.push(chunk.q, chunk.step, chunk.sums))
    yield from _as_raw(blocks.rest())


def _as_raw(blocks: Iterator[tuple[NDArray[Any], ...]]) -> Iterator[RawControls]:
    for q, step, sums in blocks:
        yield RawControls(q, step, sums)

"""PublishedPiano: a published DDSP-Piano model as a `Piano`. Options and folders become arrays here; no network, no synthesis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pianofarm_common.errors import BadModel, BadOption
from pianofarm_common.midi import Performance
from pianofarm_common.models import CONFIG_FILE, WEIGHTS_FILE, ModelInfo
from pianofarm_common.precision import Precision
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth import long_arrays
from pianofarm_worker.synth.backend import has_accelerator
from pianofarm_worker.synth.piano import BatchRequest, Piano, Progress, Rendering, part_of
from pianofarm_worker.synth.published.batch import Piece, buckets
from pianofarm_worker.synth.published.conditioning import Conditioning, conditioning
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.instrument import CHUNK_FRAMES, Block, Instrument
from pianofarm_worker.synth.published.monophonic import MonophonicNetwork
from pianofarm_worker.synth.published.stream import PublishedStream
from pianofarm_worker.synth.published.variables import variables

_Array = NDArray[np.float32]

#: Pieces an accelerator renders at once. A CPU gains nothing by it: one piece fills a core.
ACCELERATOR_PLACES = 8
#: Shorter chunks would change the last bits: a product of few rows is another program (one of 64 is not, one of 50 is).
SHORTEST_CHUNK_FRAMES = 100


class PublishedPiano(Piano):
    """dafx22, maestro-v2 or ENSTDkCl."""

    def __init__(
        self,
        info: ModelInfo,
        *,
        chunk_frames: int = CHUNK_FRAMES,
        rounded: bool = False,
        n_threads: int = 1,
        batch_size: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Load the weights; programs are compiled at the first render.

        Args:
            info: of a model folder that `checkpoints.import_checkpoint` wrote.
            chunk_frames: frames the networks run at once, 100 or more; decides memory and speed, never a byte of the audio.
            rounded: repeat the rounding errors of the published code, to compare with it sample by sample; slow, and needs
                memory for the whole piece.
            n_threads: threads that share a render; changes no byte of it. Many pieces are best rendered one a process and
                core, with one thread each.
            batch_size: pieces whose networks run at once; None: 8 on an accelerator, else 1. With more than one, `render`
                runs a batch with empty places, so that the same bytes come out whatever is rendered beside them; they
                differ from those of another batch size by what single precision rounds.
            precision: of what the products of the networks take; sums and states are float32. Decides the bytes.

        Raises:
            BadModel: configuration or weights are damaged, or do not belong together.
            BadOption: chunks too short.
        """
        super().__init__(info)
        if chunk_frames < SHORTEST_CHUNK_FRAMES:
            raise BadOption(
                f"chunk_frames={chunk_frames}: at least {SHORTEST_CHUNK_FRAMES}, shorter ones give other bytes"
            )
        self.config = _read_config(info)
        self._weights = _read_weights(info, self.config)
        self._chunk_frames, self._rounded = chunk_frames, rounded
        self._n_threads = 1 if has_accelerator() else n_threads  # an accelerator takes all voices at once
        self.batch_size = batch_size or (ACCELERATOR_PLACES if has_accelerator() else 1)
        self._monophonic = MonophonicNetwork(self.config, self._weights, precision)
        self._instruments: dict[int, Instrument] = {}

    def render(
        self, performance: Performance, options: RenderOptions, *, seed: int, progress: Progress | None = None
    ) -> Rendering:
        """Render a whole performance in bounded memory: what is as long as it lies in temporary files (`long_arrays`).

        With `tail` the last notes and the room ring out after the last whole second of the performance; without it the audio ends
        there, as the original's does. The part before is the same but for the last 4 ms: silence behind the music does not count in
        the moments that a model normalises by.

        Raises:
            BadOption: the model has no such piano.
            DiskFull: no room for the temporary files of a long piece.
        """
        if self.batch_size > 1:
            return self.render_batch([BatchRequest(performance, options, seed)], progress=progress)[0]
        given, piece = self._piece(performance, options, seed)
        blocks = self.blocks(
            piece.notes, piece.pedal, piano=options.piano, seed=seed, n_counted=piece.n_counted, progress=progress
        )
        dry, wet = self._collect(blocks, given.n_frames, dry=options.needs_dry)
        return self._rendering(performance, options, given, dry, wet)

    def render_batch(self, requests: Sequence[BatchRequest], *, progress: Progress | None = None) -> list[Rendering]:
        """Render several performances; see `Piano.render_batch`.

        With a batch size above one their networks run side by side: those of a piano sorted by length, `batch_size` at a time.
        The bytes are those of `render` of each, whatever is beside it and in whatever order.

        Memory: docs/precision.md counts it. Arrays of a long piece lie in temporary files.
        """
        if self.batch_size == 1:
            return super().render_batch(requests, progress=progress)
        prepared = [self._piece(request.performance, request.options, request.seed) for request in requests]
        by_piano: dict[int | None, list[int]] = {}
        for number, request in enumerate(requests):
            self._instrument(request.options.piano)
            by_piano.setdefault(request.options.piano, []).append(number)
        renderings: dict[int, Rendering] = {}
        for piano, numbers in by_piano.items():
            lengths = [len(prepared[number][1].notes) for number in numbers]
            for bucket in buckets(lengths, self.batch_size):
                members = [numbers[i] for i in bucket]
                report = None if progress is None else part_of(progress, len(renderings), len(members), len(requests))
                pieces = [prepared[number][1] for number in members]
                for number, blocks in zip(members, self._instrument(piano).batch(pieces, report), strict=True):
                    request, (given, piece) = requests[number], prepared[number]
                    dry, wet = self._collect(blocks, len(piece.notes), dry=request.options.needs_dry)
                    renderings[number] = self._rendering(request.performance, request.options, given, dry, wet)
        return [renderings[number] for number in range(len(requests))]

    def _piece(self, performance: Performance, options: RenderOptions, seed: int) -> tuple[Conditioning, Piece]:
        config = self.config
        tail_s = self._tail_s() if options.tail else 0.0
        is_cut = options.duration_s is not None and options.duration_s < performance.duration_s
        given = conditioning(
            performance,
            n_voices=config.n_voices,
            frame_rate_hz=config.frame_rate_hz,
            warm_up_s=options.warm_up_s,
            duration_s=options.duration_s if is_cut else None,
            tail_s=tail_s,
        )
        n_counted = given.n_frames - int(tail_s * config.frame_rate_hz) or None
        return given, Piece(given.notes, given.pedal, seed, n_counted)

    def _rendering(
        self, performance: Performance, options: RenderOptions, given: Conditioning, dry: _Array, wet: _Array
    ) -> Rendering:
        config = self.config
        n_warm_up = int(options.warm_up_s * config.frame_rate_hz) * config.hop
        return Rendering(
            wet=wet[n_warm_up:, None],
            dry=dry[n_warm_up:, None],
            sample_rate_hz=config.sample_rate_hz,
            notes=performance.n_notes(options.duration_s),
            dropped_notes=given.dropped_notes,
        )

    def synthesize(
        self,
        notes: _Array,
        pedal: _Array,
        *,
        piano: int | None = None,
        seed: int = 0,
        n_counted: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[_Array, _Array]:
        """Conditioning arrays to dry and wet audio, each [n_frames * hop], warm-up included; arguments as `blocks` takes them."""
        blocks = self.blocks(notes, pedal, piano=piano, seed=seed, n_counted=n_counted, progress=progress)
        return self._collect(blocks, len(notes), dry=True)

    def _collect(self, blocks: Iterator[Block], n_frames: int, *, dry: bool) -> tuple[_Array, _Array]:
        """Dry, no samples of it where it is not wanted, and wet."""
        n_samples = n_frames * self.config.hop
        stems = {"wet": long_arrays.zeros(n_samples, np.float32)}
        if dry:
            stems["dry"] = long_arrays.zeros(n_samples, np.float32)
        n_done = dict.fromkeys(stems, 0)
        for block in blocks:
            for name, stem in stems.items():
                samples = getattr(block, name)
                stem[n_done[name] : n_done[name] + len(samples)] = samples
                n_done[name] += len(samples)
                long_arrays.let_go(stem)
        return stems.get("dry", np.zeros(0, np.float32)), stems["wet"]

    def blocks(
        self,
        notes: _Array,
        pedal: _Array,
        *,
        piano: int | None = None,
        seed: int = 0,
        n_counted: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Block]:
        """Conditioning arrays to blocks of audio, as they become ready, always one piece alone.

        Args:
            notes: [n_frames, n_voices, 2], active pitch 0..127 and onset velocity 0..1.
            pedal: [n_frames, 4], 0..1.
            piano: which of the model's pianos; None: its default.
            seed: of the noise, 0 .. 2**64 - 1; the same seed gives the same bytes.
            n_counted: frames whose moments count where the model normalises over the performance; None: all.
            progress: called between chunks with the part done.

        Raises:
            BadOption: the model has no such piano.
        """
        instrument = self._instrument(piano)
        return instrument.blocks(notes, pedal, seed=seed, n_counted=n_counted, progress=progress)

    def logits(self, notes: _Array, pedal: _Array, *, piano: int | None = None) -> _Array:
        """What the networks say, [n_frames, n_voices, n_controls]; see `Instrument.logits`."""
        return self._instrument(piano).logits(notes, pedal)

    def stream(
        self, *, piano: int | None = None, block_ms: int = 8, seed: int = 0, room: float = 1.0
    ) -> PublishedStream:
        """Play it live; see `Piano.stream`. The first of a piano and a length of blocks takes a second or two."""
        return PublishedStream(self._instrument(piano).live, block_ms=block_ms, seed=seed, room_part=room)

    def _instrument(self, piano: int | None) -> Instrument:
        """One of the pianos, made once.

        Raises:
            BadOption: the model has no such piano.
        """
        chosen = self.info.default_piano if piano is None else piano
        if not 0 <= chosen < self.config.n_pianos:
            raise BadOption(f"piano={chosen}: {self.info.name} has {self.config.n_pianos}, numbered from 0")
        if chosen not in self._instruments:
            self._instruments[chosen] = Instrument(
                self.config,
                self._weights,
                chosen,
                self._monophonic,
                chunk_frames=self._chunk_frames,
                rounded=self._rounded,
                n_threads=self._n_threads,
                n_places=self.batch_size,
            )
        return self._instruments[chosen]

    def _tail_s(self) -> float:
        """How long sound goes on after the last key is up: the release, then the room."""
        return float(self._weights["release_s"]) + self.config.reverb.n_samples / self.config.sample_rate_hz


def read_published(info: ModelInfo) -> tuple[PublishedConfig, dict[str, _Array]]:
    """Configuration and weights of a model folder, for who trains them further.

    Raises:
        BadModel: not a published model, damaged, or not belonging together.
    """
    config = _read_config(info)
    return config, _read_weights(info, config)


def _read_config(info: ModelInfo) -> PublishedConfig:
    values: Any = json.loads((info.path / CONFIG_FILE).read_text())
    if not isinstance(values.get("published"), dict):
        raise BadModel(f"{info.path / CONFIG_FILE}: no 'published' configuration (import the checkpoint again)")
    return PublishedConfig.from_json(values["published"])


def _read_weights(info: ModelInfo, config: PublishedConfig) -> dict[str, _Array]:
    path = info.path / WEIGHTS_FILE
    try:
        weights: dict[str, _Array] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadModel(f"{path}: {str(error).splitlines()[0]} (import the checkpoint again)") from None
    for variable in variables(config):
        found = weights.get(variable.name)
        if found is None or found.shape != variable.shape or found.dtype != np.float32:
            have = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
            raise BadModel(
                f"{path}: {variable.name} should be float32 {list(variable.shape)}, is {have} (import the checkpoint again)"
            )
    return weights

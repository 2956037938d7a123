"""PublishedPiano: a published DDSP-Piano model as a `Piano`. Options and folders become arrays here; no network, no synthesis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pianofarm_common.errors import BadModel, BadOption
from pianofarm_common.midi import Performance
from pianofarm_common.models import CONFIG_FILE, WEIGHTS_FILE, ModelInfo
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.piano import Piano, Progress, Rendering
from pianofarm_worker.synth.published.conditioning import conditioning
from pianofarm_worker.synth.published.configs import PublishedConfig
from pianofarm_worker.synth.published.instrument import CHUNK_FRAMES, Block, Instrument
from pianofarm_worker.synth.published.monophonic import MonophonicNetwork
from pianofarm_worker.synth.published.stream import PublishedStream
from pianofarm_worker.synth.published.variables import variables

_Array = NDArray[np.float32]


class PublishedPiano(Piano):
    """dafx22, maestro-v2 or ENSTDkCl."""

    def __init__(
        self, info: ModelInfo, *, chunk_frames: int = CHUNK_FRAMES, rounded: bool = False, n_threads: int = 1
    ) -> None:
        """Load the weights; programs are compiled at the first render.

        Args:
            info: of a model folder that `checkpoints.import_checkpoint` wrote.
            chunk_frames: frames the networks run at once; decides memory and speed, never a byte of the audio.
            rounded: repeat the rounding errors of the published code, to compare with it sample by sample; slow, and needs
                memory for the whole piece.
            n_threads: threads that share a render; changes no byte of it. Many pieces are best rendered one a process and
                core, with one thread each.

        Raises:
            BadModel: configuration or weights are damaged, or do not belong together.
        """
        super().__init__(info)
        self.config = _read_config(info)
        self._weights = _read_weights(info, self.config)
        self._chunk_frames, self._rounded, self._n_threads = chunk_frames, rounded, n_threads
        self._monophonic = MonophonicNetwork(self.config, self._weights)
        self._instruments: dict[int, Instrument] = {}

    def render(
        self, performance: Performance, options: RenderOptions, *, seed: int, progress: Progress | None = None
    ) -> Rendering:
        """Render a whole performance in bounded memory.

        With `tail` the last notes and the room ring out after the last whole second of the performance; without it the audio ends
        there, as the original's does. The part before is the same but for the last 4 ms: silence behind the music does not count in
        the moments that a model normalises by.

        Raises:
            BadOption: the model has no such piano.
            DiskFull: no room for the temporary file of a long piece.
        """
        config = self.config
        tail_s = self._tail_s() if options.tail else 0.0
        given = conditioning(
            performance,
            n_voices=config.n_voices,
            frame_rate_hz=config.frame_rate_hz,
            warm_up_s=options.warm_up_s,
            duration_s=options.duration_s,
            tail_s=tail_s,
        )
        dry, wet = self.synthesize(
            given.notes,
            given.pedal,
            piano=options.piano,
            seed=seed,
            n_counted=given.n_frames - int(tail_s * config.frame_rate_hz) or None,
            progress=progress,
        )
        n_warm_up = int(options.warm_up_s * config.frame_rate_hz) * config.hop
        return Rendering(
            wet=wet[n_warm_up:, None],
            dry=dry[n_warm_up:, None],
            sample_rate_hz=config.sample_rate_hz,
            notes=len(performance.pitch),
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
        n_samples = len(notes) * self.config.hop
        dry, wet = np.zeros(n_samples, np.float32), np.zeros(n_samples, np.float32)
        n_dry = n_wet = 0
        for block in self.blocks(notes, pedal, piano=piano, seed=seed, n_counted=n_counted, progress=progress):
            dry[n_dry : n_dry + len(block.dry)] = block.dry
            wet[n_wet : n_wet + len(block.wet)] = block.wet
            n_dry, n_wet = n_dry + len(block.dry), n_wet + len(block.wet)
        return dry, wet

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
        """Conditioning arrays to blocks of audio, as they become ready.

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

    def stream(self, *, piano: int | None = None, block_ms: int = 8, seed: int = 0) -> PublishedStream:
        """Play it live; see `Piano.stream`. The first of a piano and a length of blocks takes a second or two."""
        return PublishedStream(self._instrument(piano).live, block_ms=block_ms, seed=seed)

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
            )
        return self._instruments[chosen]

    def _tail_s(self) -> float:
        """How long sound goes on after the last key is up: the release, then the room."""
        return float(self._weights["release_s"]) + self.config.reverb.n_samples / self.config.sample_rate_hz


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

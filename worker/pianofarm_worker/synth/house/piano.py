"""HousePiano: our own model as a `Piano`. Reads a model folder and plays performances; the parts are beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel, BadOption
from pianofarm_common.midi import Performance
from pianofarm_common.models import CONFIG_FILE, WEIGHTS_FILE, ModelInfo
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.house.engine import Engine
from pianofarm_worker.synth.house.instruments import parameters_of, settings_of
from pianofarm_worker.synth.house.room import room_response
from pianofarm_worker.synth.house.score import Score, make_score
from pianofarm_worker.synth.house.stream import HouseStream
from pianofarm_worker.synth.house.tables import KeyTables
from pianofarm_worker.synth.piano import Piano, Progress, Rendering
from pianofarm_worker.synth.reverb import Convolver

#: With a tail, a render goes on for at most this long after the last key is up.
LONGEST_TAIL_S = 20.0


@dataclass(frozen=True)
class _Instrument:
    """One of the model's pianos."""

    tables: KeyTables
    room: NDArray[np.float32]  #: [n_samples, n_channels]
    gain: np.float32  #: of all that it plays

    @classmethod
    def read(cls, parameters: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any], n_channels: int) -> Self:
        tables = KeyTables(parameters, config)
        room = room_response(
            parameters["room.t60_s"],
            parameters["room.at_hz"],
            float(config["room_level_db"]),
            tables.layout,
            n_channels,
        )
        return cls(tables, room, np.float32(10 ** (float(config["output_gain_db"]) / 20)))


class HousePiano(Piano):
    """A loaded house model. Needs NumPy and Numba; its tables are made as keys are first played."""

    def __init__(self, info: ModelInfo) -> None:
        """Load the weights.

        Raises:
            BadModel: the weights cannot be read or do not fit the configuration.
        """
        super().__init__(info)
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            config = json.loads((info.path / CONFIG_FILE).read_text())
            parameters = load_file(info.path / WEIGHTS_FILE)
            self._instruments = [
                _Instrument.read(parameters_of(parameters, number), settings_of(config, number), info.channels)
                for number in range(info.n_pianos)
            ]
            self._tables = self._instruments[info.default_piano].tables
            self.output_gain = self._instruments[info.default_piano].gain
        except (OSError, ValueError, KeyError, IndexError, TypeError, SafetensorError) as error:
            raise BadModel(
                f"{info.path}: {type(error).__name__} {error}: not a house model, or a damaged one"
            ) from None

    def render(
        self, performance: Performance, options: RenderOptions, *, seed: int, progress: Progress | None = None
    ) -> Rendering:
        """Render a whole performance; see `Piano.render`. One channel, where one is asked for, is the left one.

        There is nothing to warm up: `warm_up_s` changes nothing.
        """
        played_on = self._instrument(options.piano)
        score = make_score(performance, options.duration_s)
        n_channels = options.channels or self.info.channels
        engine = Engine(played_on.tables, score, seed=seed, n_channels=n_channels)
        n_played = self._n_samples(engine, score, tail=options.tail)
        n_samples = n_played + (len(played_on.room) - 1 if options.tail and n_played else 0)
        # First the dry sound, to which the room is added in place, where it has heard it: memory that a process takes anew costs a
        # tenth of a render. Channel by channel: over pairs of samples NumPy is seven times slower.
        wet = np.zeros((n_channels, n_samples), np.float32).T
        dry = np.zeros((n_channels, n_samples if options.needs_dry else 0), np.float32).T
        room = Convolver(played_on.room[:, :n_channels])
        played = heard = 0
        for block in engine.blocks(n_played):
            louder = wet[played : played + len(block)]
            np.multiply(block, played_on.gain, out=louder)
            if options.needs_dry:
                dry[played : played + len(block)] = louder
            played += len(block)
            heard += _add(room.push(louder), wet[heard:])
            if progress is not None:
                progress(played / n_played)
        _add(room.finish(tail=options.tail), wet[heard:])
        return Rendering(
            wet=wet,
            dry=dry,
            sample_rate_hz=self.info.sample_rate_hz,
            notes=performance.n_notes(options.duration_s),
            dropped_notes=score.dropped_notes,
        )

    def stream(self, *, piano: int | None = None, block_ms: int = 8, seed: int = 0, room: float = 1.0) -> HouseStream:
        """Play it live; see `Piano.stream`. The first stream makes the tables of all keys, which takes a second."""
        live = self._instrument(piano)
        return HouseStream(live.tables, live.room, live.gain, block_ms=block_ms, seed=seed, room_part=room)

    def _instrument(self, piano: int | None) -> _Instrument:
        chosen = self.info.default_piano if piano is None else piano
        if not 0 <= chosen < self.info.n_pianos:
            raise BadOption(f"piano={chosen}: {self.info.name} has {self.info.n_pianos} (0..{self.info.n_pianos - 1})")
        return self._instruments[chosen]

    def _n_samples(self, engine: Engine, score: Score, *, tail: bool) -> int:
        rate_hz = self.info.sample_rate_hz
        end = int(np.ceil(score.end_s * rate_hz))
        if not tail:
            return end
        return max(end, min(engine.end, end + int(LONGEST_TAIL_S * rate_hz)))


def _add(reflected: NDArray[np.float32], wet: NDArray[np.float32]) -> int:
    """Add reflected to dry sound as far as it is known, which is returned; both are [n_samples, n_channels]."""
    n = len(reflected)
    wet[:n] += reflected
    return n

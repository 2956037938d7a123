"""Piano: what every model can do. `load` picks the implementation by the architecture its configuration names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel, BadOption
from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.stream import Stream

#: Called between blocks of audio with the part done, 0..1; may raise (Cancelled, LeaseLost) to stop the render.
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Rendering:
    """What a model made of a performance, at the model's own sample rate."""

    wet: NDArray[np.float32]  #: [n_samples, n_channels], with the room
    dry: NDArray[np.float32]  #: [n_samples, n_channels], without it
    sample_rate_hz: int
    notes: int  #: notes asked for
    dropped_notes: int  #: notes the model had no voice for


class Piano(ABC):
    """A loaded model, ready to render."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    @abstractmethod
    def render(
        self, performance: Performance, options: RenderOptions, *, seed: int, progress: Progress | None = None
    ) -> Rendering:
        """Render a whole performance in bounded memory.

        Honours `piano`, `duration_s`, `warm_up_s` and `tail` of the options; sample rate, channels, level and file format are the
        business of `pianofarm_worker.audio`. The same seed gives the same bytes.

        Raises:
            BadOption: the model has no such piano.
            Anything `progress` raises.
        """

    def stream(self, *, piano: int | None = None, block_ms: int = 8, seed: int = 0) -> Stream:
        """Play it live: push events into the stream, pull blocks of sound.

        Args:
            piano: which of the model's pianos; None: its default.
            block_ms: length of a block, 4 to 40 ms in steps of 4. Short ones answer sooner and cost more.
            seed: of the noise, 0 .. 2**64 - 1; the same seed and events give the same bytes.

        Raises:
            BadOption: no such piano, no block of this length, or the model cannot be played live.
        """
        raise BadOption(f"{self.info.name} cannot be played live (piano={piano}, block_ms={block_ms}, seed={seed})")


def load(info: ModelInfo, *, backend: str = "tensorflow", n_threads: int = 1) -> Piano:
    """Load a model of the catalogue.

    Args:
        info: the model, from `pianofarm_common.models.find_model`.
        backend: "tensorflow" or "jax"; decided once a process, before the first model is loaded.
        n_threads: threads that share one render, where the model can; no byte of the audio depends on it.

    Raises:
        BadModel: the weights do not fit the architecture, or the architecture is unknown.
    """
    if info.architecture == "house":
        from pianofarm_worker.synth.house.piano import HousePiano

        return HousePiano(info)
    if info.architecture in ("dafx22", "maestro-v2", "enstdkcl"):
        from pianofarm_worker.synth.backend import choose

        # One thread in the library: a step of the network is too small to share, and trying costs half as much again.
        choose(backend, n_threads=1)
        from pianofarm_worker.synth.published.piano import PublishedPiano

        return PublishedPiano(info, n_threads=n_threads)
    raise BadModel(
        f"{info.path}: unknown architecture {info.architecture!r} (known: house, dafx22, maestro-v2, enstdkcl)"
    )

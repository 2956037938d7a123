"""Piano: what every model can do. `load` picks the implementation by the architecture its configuration names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadModel
from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo
from pianofarm_common.renders import RenderOptions

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


def load(info: ModelInfo, *, backend: str = "tensorflow") -> Piano:
    """Load a model of the catalogue.

    Args:
        info: the model, from `pianofarm_common.models.find_model`.
        backend: "tensorflow" or "jax"; decided once a process, before the first model is loaded.

    Raises:
        BadModel: the weights do not fit the architecture, or the architecture is unknown.
    """
    if info.architecture == "house":
        from pianofarm_worker.synth.house.piano import HousePiano

        return HousePiano(info)
    if info.architecture in ("dafx22", "maestro-v2", "enstdkcl"):
        from pianofarm_worker.synth.backend import choose

        choose(backend)
        from pianofarm_worker.synth.published.piano import PublishedPiano

        return PublishedPiano(info)
    raise BadModel(
        f"{info.path}: unknown architecture {info.architecture!r} (known: house, dafx22, maestro-v2, enstdkcl)"
    )

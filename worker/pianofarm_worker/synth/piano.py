"""Piano: what every model can do. `load` picks the implementation by the architecture its configuration names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from pianofarm_common.errors import BadModel, BadOption
from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo
from pianofarm_common.precision import Precision
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.stream import Stream

#: Called between blocks of audio with the part done, 0..1; may raise (Cancelled, LeaseLost) to stop the render.
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Rendering:
    """What a model made of a performance, at the model's own sample rate."""

    wet: NDArray[np.float32]  #: [n_samples, n_channels], with the room
    dry: NDArray[np.float32]  #: the same without it; [0, n_channels] where the options do not need it (`needs_dry`)
    sample_rate_hz: int
    notes: int  #: notes asked for
    dropped_notes: int  #: notes the model had no voice for


@dataclass(frozen=True)
class BatchRequest:
    """One of several performances to render; the arguments of `Piano.render`."""

    performance: Performance
    options: RenderOptions
    seed: int


class Piano(ABC):
    """A loaded model, ready to render."""

    #: Pieces that `render_batch` works on side by side; 1: it gains nothing over `render`.
    batch_size: int = 1

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    @abstractmethod
    def render(
        self, performance: Performance, options: RenderOptions, *, seed: int, progress: Progress | None = None
    ) -> Rendering:
        """Render a whole performance in bounded memory.

        Honours `piano`, `duration_s`, `warm_up_s` and `tail` of the options; sample rate, channels, level, file format and how much
        of the room is in the wet sound are the business of `pianofarm_worker.audio`. The same seed gives the same bytes.

        Raises:
            BadOption: the model has no such piano.
            Anything `progress` raises.
        """

    def render_batch(self, requests: Sequence[BatchRequest], *, progress: Progress | None = None) -> list[Rendering]:
        """Render several performances; the renderings come in the order asked for, each with the bytes that `render` gives.

        Args:
            requests: of any lengths.
            progress: called with the part of the whole that is done.

        Raises:
            What `render` raises for one of them; then there is none of the others either.
        """
        return [
            self.render(
                request.performance,
                request.options,
                seed=request.seed,
                progress=None if progress is None else part_of(progress, number, 1, len(requests)),
            )
            for number, request in enumerate(requests)
        ]

    def stream(self, *, piano: int | None = None, block_ms: int = 8, seed: int = 0, room: float = 1.0) -> Stream:
        """Play it live: push events into the stream, pull blocks of sound.

        Args:
            piano: which of the model's pianos; None: its default.
            block_ms: length of a block, 4 to 40 ms in steps of 4. Short ones answer sooner and cost more.
            seed: of the noise, 0 .. 2**64 - 1; the same seed and events give the same bytes.
            room: how much of it is heard: 0 the dry sound alone, 1 as the model has it, 2 at most.

        Raises:
            BadOption: no such piano, block or part of the room, or the model cannot be played live.
        """
        raise BadOption(
            f"{self.info.name} cannot be played live (piano={piano}, block_ms={block_ms}, seed={seed}, room={room})"
        )


def part_of(progress: Progress, n_before: int, n_now: int, n_all: int) -> Progress:
    """The progress of `n_now` pieces as a part of that of all `n_all`, `n_before` being done."""
    return lambda part: progress((n_before + n_now * part) / n_all)


def load(
    info: ModelInfo,
    *,
    backend: str = "tensorflow",
    n_threads: int = 1,
    batch_size: int | None = None,
    precision: Precision = "float32",
) -> Piano:
    """Load a model of the catalogue.

    Args:
        info: the model, from `pianofarm_common.models.find_model`.
        backend: "tensorflow" or "jax"; decided once a process, before the first model is loaded.
        n_threads: threads that share one render, where the model can; no byte of the audio depends on it.
        batch_size: pieces that `Piano.render_batch` works on side by side, where the model can; None: as the device likes.
        precision: of what the network's products take, where the model has one; see docs/precision.md.

    Raises:
        BadModel: the weights do not fit the architecture, or the architecture is unknown.
    """
    import_engine(info, backend=backend)
    multiply_on_one_thread()
    if info.architecture == "house":
        from pianofarm_worker.synth.house.piano import HousePiano

        return HousePiano(info)
    from pianofarm_worker.synth.published.piano import PublishedPiano

    return PublishedPiano(info, n_threads=n_threads, batch_size=batch_size, precision=precision)


def import_engine(info: ModelInfo, *, backend: str = "tensorflow") -> None:
    """Import what `load` needs for a model: its engine and array library. Most of a process' first second; `load` does it too.

    Raises:
        BadModel: the architecture is unknown.
    """
    if info.architecture == "house":
        import_module("pianofarm_worker.synth.house.piano")
    elif info.architecture in ("dafx22", "maestro-v2", "enstdkcl"):
        from pianofarm_worker.synth.backend import choose

        # One thread in the library: a step of the network is too small to share, and trying costs half as much again.
        choose(backend, n_threads=1)
        import_module("pianofarm_worker.synth.published.piano")
    else:
        raise BadModel(
            f"{info.path}: unknown architecture {info.architecture!r} (known: house, dafx22, maestro-v2, enstdkcl)"
        )


def multiply_on_one_thread() -> None:
    """Have NumPy's products computed on one thread in this process from now on.

    On more OpenBLAS cuts a product in other places, and the last bits of a render would depend on the machine's processors. Threads
    gain nothing where products are as small as here; they wait for the next one at the cost of a whole core.
    """
    # To say so again starts OpenBLAS's threads in a process that was forked, and each takes a core for 0.1 s before it sleeps.
    if any(library["num_threads"] > 1 for library in threadpool_info() if library["user_api"] == "blas"):
        threadpool_limits(limits=1, user_api="blas")

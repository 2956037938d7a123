"""The house piano measured: one piece in mono and stereo, many pieces as requests, what loading costs. Runs in fresh processes."""

from __future__ import annotations

import importlib
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from bench import pieces
from bench.commands import FluidSynth
from bench.fresh import Measured, Unavailable
from bench.published import loaded, performance_of
from bench.spread import percentile, spread

_Gate = Callable[[], None]


class Renders:
    """One piece rendered again and again in this process, MIDI bytes to wet audio.

    The first render, which makes the tables of the keys it plays, is told apart.
    """

    def __init__(self, midi: str, channels: Literal[1, 2], gate: _Gate) -> None:
        """Load the model and render for the first time."""
        # What loading costs a process that has its packages: those cost every process the same, whatever it loads (`cold`).
        for package in ("safetensors.numpy", "pianofarm_worker.synth.house.piano"):
            importlib.import_module(package)
        began = time.perf_counter()
        self._piano = loaded(None, "tensorflow", 1)
        self._load_s = time.perf_counter() - began
        self._data, self._channels = Path(midi).read_bytes(), channels
        gate()
        self._took_s: list[float] = []
        self._after_pause_s: list[float] = []
        self.render()
        self._first_s = self._took_s.pop()

    def render(self) -> None:
        """Once more."""
        took_s, self._audio_s, self._dropped = _render(self._piano, self._data, self._channels)
        self._took_s.append(took_s)

    def render_after_pause(self) -> None:
        """Once more, counted and told apart too: memory that lay idle for seconds may have gone back to the machine."""
        self.render()
        self._after_pause_s.append(self._took_s.pop())

    def measured(self) -> Measured:
        """What the renders say."""
        info = self._piano.info
        return {
            "audio_s": self._audio_s,
            "load_s": self._load_s,
            "first_s": self._first_s,
            "took_s": self._took_s,
            "after_pause": spread([self._audio_s / seconds for seconds in self._after_pause_s])
            if self._after_pause_s
            else None,
            "real_time_factor": spread([self._audio_s / seconds for seconds in self._took_s + self._after_pause_s]),
            "sample_rate_hz": info.sample_rate_hz,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
            "model_bytes": sum(file.stat().st_size for file in info.path.iterdir()),
            "dropped_notes": self._dropped,
        }


def speed(midi: str, channels: Literal[1, 2], repeats: int, gate: _Gate) -> Measured:
    """One piece, several times."""
    renders = Renders(midi, channels, gate)
    for _ in range(repeats):
        renders.render()
    return renders.measured()


def beside_fluidsynth(midi: str, repeats: int, gate: _Gate) -> Measured:
    """One piece in stereo, in turn with FluidSynth: what else happens on the machine meanwhile meets both.

    In each turn the model renders twice: right after FluidSynth's, and again, as a worker renders one piece after the other.

    Returns:
        Two measurements: {"house": ..., "fluidsynth": ...}.
    """
    renders = Renders(midi, 2, gate)
    try:
        with FluidSynth(midi) as other:
            for _ in range(repeats):
                renders.render_after_pause()
                renders.render()
                other.play()
            return {"house": renders.measured(), "fluidsynth": other.measured()}
    except Unavailable as why:
        for _ in range(repeats):
            renders.render()
        return {"house": renders.measured(), "fluidsynth": {"skipped": str(why)}}


def requests(n_pieces: int, gate: _Gate) -> Measured:
    """The catalogue of generated pieces one after the other, each from MIDI bytes to the bytes of a stereo WAV file."""
    from pianofarm_common.renders import RenderOptions
    from pianofarm_worker.audio import encode

    piano = loaded(None, "tensorflow", 1)
    every_key = pieces.dense(30.0, seed=2)
    _render(piano, every_key, 2)
    gate()
    rows = []
    for length_s, data in pieces.catalogue(n_pieces):
        began = time.perf_counter()
        performance = performance_of(data)
        options = RenderOptions()
        rendering = piano.render(performance, options, seed=1)
        encoded = encode(rendering.wet, rendering.sample_rate_hz, options)
        rows.append((length_s, encoded.audio_s, time.perf_counter() - began))
    took = [took_s for _, _, took_s in rows]
    return {
        "pieces": len(rows),
        "shortest_s": min(length for length, _, _ in rows),
        "longest_s": max(length for length, _, _ in rows),
        "audio_s": sum(audio_s for _, audio_s, _ in rows),
        "audio_s_per_s": sum(audio_s for _, audio_s, _ in rows) / sum(took),
        "requests_per_s": len(rows) / sum(took),
        "real_time_factor": spread([audio_s / took_s for _, audio_s, took_s in rows]),
        "took_s": {f"p{percent:g}": percentile(took, percent) for percent in (50, 95, 99)},
    }


def _render(piano: Any, data: bytes, channels: Literal[1, 2]) -> tuple[float, float, int]:
    """Seconds taken, seconds of audio (no tail), notes left out."""
    from pianofarm_common.renders import RenderOptions

    began = time.perf_counter()
    performance = performance_of(data)
    rendering = piano.render(performance, RenderOptions(channels=channels, tail=False), seed=1)
    took_s = time.perf_counter() - began
    return took_s, len(rendering.wet) / rendering.sample_rate_hz, rendering.dropped_notes

"""The house piano measured: one piece in mono and stereo, many pieces as requests, what loading costs. Runs in fresh processes."""

from __future__ import annotations

import importlib
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from bench import pieces
from bench.fresh import Measured
from bench.published import loaded, performance_of
from bench.spread import percentile, spread

_Gate = Callable[[], None]


def speed(midi: str, channels: Literal[1, 2], repeats: int, gate: _Gate) -> Measured:
    """MIDI bytes to wet audio, several times; the first render, which makes the tables of the keys it plays, is told apart."""
    # What loading costs a process that has its packages: those cost every process the same, whatever it loads (`cold`).
    for package in ("safetensors.numpy", "pianofarm_worker.synth.house.piano"):
        importlib.import_module(package)
    began = time.perf_counter()
    piano = loaded(None, "tensorflow", 1)
    load_s = time.perf_counter() - began
    data = Path(midi).read_bytes()
    gate()
    first_s, audio_s, _ = _render(piano, data, channels)
    rendered = [_render(piano, data, channels) for _ in range(repeats)]
    return {
        "audio_s": audio_s,
        "load_s": load_s,
        "first_s": first_s,
        "took_s": [took_s for took_s, _, _ in rendered],
        "real_time_factor": spread([audio_s / took_s for took_s, _, _ in rendered]),
        "sample_rate_hz": piano.info.sample_rate_hz,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "model_bytes": sum(file.stat().st_size for file in piano.info.path.iterdir()),
        "dropped_notes": rendered[-1][2],
    }


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

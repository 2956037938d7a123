"""The published model measured: conditioning arrays to wet audio, its stages, MIDI to conditioning. Runs in fresh processes."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fresh import Measured, Unavailable
from bench.spread import spread

_Gate = Callable[[], None]


def import_model(source: str, destination: str, gate: _Gate) -> Measured:
    """Turn the authors' checkpoint into a model folder."""
    if not any(Path(source).glob("*.index")):
        raise Unavailable(f"no published checkpoint at {Path(source).name} of the shared folder (PIANOFARM_SHARED)")
    from pianofarm_worker.synth.published.checkpoints import import_checkpoint

    gate()
    model = import_checkpoint(Path(source), Path(destination), "dafx22")
    return {"digest": model.digest, "bytes": sum(file.stat().st_size for file in Path(destination).iterdir())}


def speed(
    model: str, backend: str, midi: str, n_threads: int, repeats: int, stages: bool, duration_s: float, gate: _Gate
) -> Measured:
    """Render conditioning arrays several times.

    Args:
        model: its folder.
        backend: tensorflow or jax.
        midi: the file whose performance is rendered.
        n_threads: threads that share a render.
        repeats: renders that are timed; one of two seconds before them compiles the programs.
        stages: render once more and say where the time goes.
        duration_s: how much of the piece is rendered; 0: all.
        gate: called before every repeat.
    """
    began = time.perf_counter()
    piano = loaded(model, backend, n_threads)
    load_s = time.perf_counter() - began
    from pianofarm_common.renders import RenderOptions
    from pianofarm_worker.audio import encode
    from pianofarm_worker.synth.published.conditioning import conditioning

    performance = performance_of(Path(midi).read_bytes())
    given = conditioning(performance, duration_s=duration_s or None)
    rate = piano.config.frame_rate_hz
    began = time.perf_counter()
    piano.synthesize(given.notes[: 2 * rate], given.pedal[: 2 * rate], seed=1)
    first_s = time.perf_counter() - began

    audio_s = given.n_frames / rate
    took_s, busy = [], []
    for _ in range(repeats):
        gate()
        began, computed = time.perf_counter(), time.process_time()
        _, wet = piano.synthesize(given.notes, given.pedal, seed=1)
        took_s.append(time.perf_counter() - began)
        busy.append((time.process_time() - computed) / took_s[-1])
    result: Measured = {
        "audio_s": audio_s,
        "load_s": load_s,
        "compile_s": first_s,
        "took_s": took_s,
        "real_time_factor": spread([audio_s / seconds for seconds in took_s]),
        "cores_busy": spread(busy),
        "peak_rss_mb": _peak_rss_mb(),
        "mean_voices": float((given.notes[..., 0] > 0).sum(axis=1).mean()),
        "notes": len(performance.pitch),
        "dropped_notes": given.dropped_notes,
    }
    if stages:
        result["stages_s"] = _stages(piano, given, performance, wet, encode, RenderOptions())
    return result


def midi_to_conditioning(midi: str, repeats: int, gate: _Gate) -> Measured:
    """MIDI bytes to conditioning arrays; pretty_midi, which the original reads with, beside it."""
    import io

    import pretty_midi

    from pianofarm_worker.synth.published.conditioning import conditioning

    data = Path(midi).read_bytes()
    conditioning(performance_of(data))
    gate()
    ours, parsed, theirs = [], [], []
    for number in range(repeats):
        began = time.perf_counter()
        performance = performance_of(data)
        read = time.perf_counter()
        given = conditioning(performance)
        ours.append(1e3 * (time.perf_counter() - began))
        parsed.append(1e3 * (read - began))
        if number < 3:
            began = time.perf_counter()
            pretty_midi.PrettyMIDI(io.BytesIO(data))
            theirs.append(1e3 * (time.perf_counter() - began))
    return {
        "audio_s": given.n_frames / 250,
        "notes": len(performance.pitch),
        "total_ms": spread(ours),
        "parse_ms": spread(parsed),
        "pretty_midi_parse_ms": spread(theirs),
    }


def oracle(model: str, midi: str, excerpt_s: float, repeats: int, gate: _Gate) -> Measured:
    """The published model as its authors compute it, built from Keras layers and ddsp's core: stands for the original's speed."""
    from pianofarm_worker.synth.backend import choose

    choose("tensorflow")
    from safetensors.numpy import load_file

    from pianofarm_common.errors import BadSettings
    from pianofarm_common.models import read_model
    from pianofarm_worker.synth.published.conditioning import conditioning
    from pianofarm_worker.synth.published.configs import DAFX22
    from pianofarm_worker.synth.published.reference import Reference

    info = read_model(Path(model))
    try:
        reference = Reference(DAFX22, load_file(info.path / "model.safetensors"), info.default_piano)
    except BadSettings as error:
        raise Unavailable(str(error)) from None
    given = conditioning(performance_of(Path(midi).read_bytes()), duration_s=excerpt_s)
    reference.synthesize(given.notes[:50], given.pedal[:50], seed=1)
    took_s = []
    for _ in range(repeats):
        gate()
        began = time.perf_counter()
        reference.synthesize(given.notes, given.pedal, seed=1)
        took_s.append(time.perf_counter() - began)
    return {
        "audio_s": excerpt_s,
        "took_s": took_s,
        "real_time_factor": spread([excerpt_s / seconds for seconds in took_s]),
        "peak_rss_mb": _peak_rss_mb(),
    }


def _stages(piano: Any, given: Any, performance: Any, wet: Any, encode: Any, options: Any) -> dict[str, float]:
    """Seconds by stage of one more render, the file's ends included."""
    from bench.stages import watch_published
    from pianofarm_worker.synth.published.conditioning import conditioning

    watched = watch_published()
    began = time.perf_counter()
    piano.synthesize(given.notes, given.pedal, seed=1)
    whole_s = time.perf_counter() - began
    seconds = dict(watched.seconds)
    seconds["the rest of the engine"] = max(0.0, whole_s - sum(seconds.values()))
    began = time.perf_counter()
    conditioning(performance)
    seconds["conditioning (outside)"] = time.perf_counter() - began
    began = time.perf_counter()
    encode(wet[:, None], piano.config.sample_rate_hz, options)
    seconds["WAV, loudness and digest (outside)"] = time.perf_counter() - began
    return seconds


def loaded(model: str | None, backend: str, n_threads: int) -> Any:
    """The piano of a model folder, or the default one.

    Raises:
        Unavailable: the backend is not installed.
    """
    from pianofarm_common.errors import BadSettings
    from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR, read_model
    from pianofarm_worker.synth.piano import load

    try:
        folder = Path(model) if model else PACKAGED_DIR / DEFAULT_MODEL
        return load(read_model(folder), backend=backend, n_threads=n_threads)
    except BadSettings as error:
        raise Unavailable(str(error)) from None


def performance_of(data: bytes) -> Any:
    """The performance of MIDI bytes, within the limits that everybody has."""
    from pianofarm_common.midi import MidiLimits, read_performance
    from pianofarm_common.settings import Settings

    return read_performance(data, MidiLimits.from_settings(Settings()))


def _peak_rss_mb() -> float:
    """Most memory this process ever had, in 10**6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

"""One render in this process, from a file to a file: what `pianofarm render` does. Knows no services and draws nothing."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pianofarm.destination import arriving, check_writable
from pianofarm.models import check_options, require_worker, resolve_model
from pianofarm.submission import MidiSource, parse_options, read_source
from pianofarm_common.errors import BadMidi, BadOption
from pianofarm_common.midi import MidiLimits
from pianofarm_common.precision import engine_for
from pianofarm_common.registry import Registry
from pianofarm_common.renders import RenderSpec
from pianofarm_common.settings import Settings


@dataclass(frozen=True)
class Request:
    """What to render and where to put it."""

    midi: str  #: path, or "-" for standard input
    output: Path
    dry: Path | None  #: where to write the sound before the room; None: nowhere
    model: str | None
    options: Mapping[str, object]
    backend: str | None


@dataclass(frozen=True)
class Report:
    """What was made."""

    output: Path
    audio_s: float
    import_s: float  #: the model's engine and array library
    load_s: float  #: model, and its first compilation as far as loading does it
    render_s: float
    notes: int
    dropped_notes: int  #: the model had no voice for them
    percussion_notes: int
    peak_rss_mb: float
    loudness_lufs: float | None
    sha256: str  #: of the audio file
    model: str
    backend: str  #: what computed it: "tensorflow", "jax", or "numpy" for the house models
    sample_rate_hz: int
    channels: int

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio made in a second of rendering."""
        return self.audio_s / self.render_s if self.render_s > 0 else float("inf")

    def as_json(self) -> dict[str, object]:
        """For scripts."""
        return {**asdict(self), "output": str(self.output), "real_time_factor": self.real_time_factor}


def render_file(request: Request, settings: Settings, progress: Callable[[float], None]) -> Report:
    """Render a MIDI file to an audio file; everything that can be wrong with the request is found before the model is loaded.

    Raises:
        BadMidi, BadOption, UnknownModel, BadModel, BadSettings: the request is wrong.
        QualityGateFailed: what came out is not fit to ship; nothing was written.
        DiskFull: no room; nothing is left behind.
    """
    backend = request.backend or settings.backend
    if backend not in ("tensorflow", "jax"):
        raise BadOption(f"--backend {backend}: must be tensorflow or jax")
    options = parse_options(request.options)
    limits = MidiLimits.from_settings(settings)
    source: MidiSource = _standard_input(limits.max_bytes) if request.midi == "-" else request.midi
    _, performance = read_source(source, limits)
    for path in (request.output, request.dry):
        if path is not None:
            check_writable(path)
    require_worker("keras", backend, "soundfile")
    model = resolve_model(request.model or settings.model, settings.state_dir, Registry.from_settings(settings))
    check_options(model, options)
    spec = RenderSpec(
        performance_sha256=performance.sha256,
        model_digest=model.digest,
        model_name=model.name,
        options=options,
        engine=engine_for(model.architecture, settings.precision),
        audio_s=min(performance.duration_s, options.duration_s or performance.duration_s),
    )

    from pianofarm_worker.audio import encode, trimmed, with_room
    from pianofarm_worker.quality import check
    from pianofarm_worker.synth.piano import import_engine, load

    began = time.perf_counter()
    import_engine(model, backend=backend)
    imported = time.perf_counter()
    piano = load(
        model,
        backend=backend,
        n_threads=settings.threads_per_worker or _n_cores(),
        batch_size=settings.batch_size or None,
        precision=settings.precision,
    )
    loaded = time.perf_counter()
    rendering = piano.render(performance, options, seed=spec.seed, progress=progress)
    rendering = with_room(rendering, options.room)
    check(performance, rendering, options)
    if options.tail:
        rendering = trimmed(rendering, keep_s=spec.audio_s)
    audio = encode(rendering.wet, rendering.sample_rate_hz, options)
    rendered = time.perf_counter()
    _write(request.output, audio.parts())
    if request.dry is not None:
        _write(request.dry, encode(rendering.dry, rendering.sample_rate_hz, options).parts())
    return Report(
        output=request.output,
        audio_s=audio.audio_s,
        import_s=imported - began,
        load_s=loaded - imported,
        render_s=rendered - loaded,
        notes=rendering.notes,
        dropped_notes=rendering.dropped_notes,
        percussion_notes=performance.percussion_notes,
        peak_rss_mb=_peak_rss_mb(),
        loudness_lufs=audio.loudness_lufs,
        sha256=audio.sha256,
        model=model.name,
        backend="numpy" if model.architecture == "house" else backend,
        sample_rate_hz=audio.sample_rate_hz,
        channels=audio.channels,
    )


def _n_cores() -> int:
    # Imported where it is wanted: it brings Celery, which takes longer to import than the default model to load.
    from pianofarm_worker.devices import cores

    return len(cores())


def _write(path: Path, parts: Iterable[memoryview]) -> None:
    with arriving(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)


def _standard_input(max_bytes: int) -> bytes:
    if sys.stdin.isatty():
        raise BadMidi("'-' reads a MIDI file from standard input, which is a terminal: pipe one into it")
    return sys.stdin.buffer.read(max_bytes + 1)


def _peak_rss_mb() -> float:
    """Most memory this process ever had, in 10**6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6

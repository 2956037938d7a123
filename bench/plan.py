"""What one run measures, in which order, on which cores, how often: the full form and the short one. Times nothing itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import pieces
from bench.fresh import Call, Measured, measure, measure_together
from bench.spread import spread

BACKENDS = ("tensorflow", "jax")


@dataclass(frozen=True)
class Form:
    """How much is measured."""

    name: str
    repeats: int
    piece_s: float  #: length of the dense piece
    memory_s: tuple[float, ...]  #: lengths whose memory is measured
    n_catalogue: int
    n_real: int
    oracle_s: float
    oracle_repeats: int
    stream_s: float
    floor_s: float
    rounds: int = 1  #: in which speed and stream of dafx22 are measured, one backend and one kind after the other
    round_repeats: int = 1  #: of a render in each
    together: tuple[str, ...] = BACKENDS  #: backends of which two processes, two cores and the stream are measured
    long_s: tuple[float, ...] = ()  #: more lengths whose memory is measured, of dafx22 alone
    limit_s: float = 300.0  #: for one measurement


FULL = Form(
    "full", 3, 180.0, (30.0, 180.0, 600.0), 100, 3, 4.0, 2, 20.0, 2.0, rounds=3, round_repeats=2, long_s=(3600.0,)
)
SHORT = Form("short", 1, 20.0, (), 4, 0, 0.0, 0, 4.0, 0.5, together=("jax",))

#: How the answers of a run are kept: a measurement by its name.
Results = dict[str, Measured]
Report = Callable[[str, Measured], None]


@dataclass(frozen=True)
class _Bench:
    form: Form
    one: tuple[int, ...]
    other: tuple[int, ...]
    both: tuple[int, ...]
    folder: Path  #: where pieces and the imported model are
    wanted: Callable[[str], bool]
    report: Report
    results: Results

    def call(self, name: str, target: str, cores: tuple[int, ...], **arguments: object) -> None:
        """Measure one thing, if it is wanted."""
        if self.wanted(name):
            self.keep(name, measure(Call(target, arguments, cores), self.form.limit_s))

    def keep(self, name: str, measured: Measured) -> None:
        """Note an answer."""
        self.results[name] = measured
        self.report(name, measured)

    def piece(self, length_s: float) -> str:
        """The path of the dense piece in this length."""
        path = self.folder / f"dense-{length_s:g}s.mid"
        if not path.exists():
            path.write_bytes(pieces.dense(length_s))
        return str(path)

    @property
    def model(self) -> str:
        """The folder of the imported dafx22."""
        return str(self.folder / "dafx22")


def run(form: Form, cores: list[int], wanted: Callable[[str], bool], report: Report) -> Results:
    """Measure.

    Args:
        form: how much.
        cores: at least one; the first two are used.
        wanted: whether a measurement of this name is to be made.
        report: called with every answer as it comes.
    """
    with tempfile.TemporaryDirectory(prefix="pianofarm-measure-") as folder:
        bench = _Bench(
            form=form,
            one=(cores[0],),
            other=tuple(cores[1:2]),
            both=tuple(cores[:2]),
            folder=Path(folder),
            wanted=wanted,
            report=report,
            results={},
        )
        bench.call("pinning", "bench.fresh:whereabouts", bench.one)
        bench.call("floor", "bench.machine:floor", bench.one, seconds=form.floor_s)
        bench.call(
            "conditioning", "bench.published:midi_to_conditioning", bench.one, midi=bench.piece(300.0), repeats=30
        )
        source = pieces.shared_folder() / "models" / "dafx22"
        imported = measure(
            Call("bench.published:import_model", {"source": str(source), "destination": bench.model}, bench.both)
        )
        bench.keep("import", imported)
        if "digest" in imported:
            _published(bench)
        _house(bench)
        return bench.results


def _published(bench: _Bench) -> None:
    form = bench.form
    _speeds(bench)
    for backend in BACKENDS:
        for length_s in (*form.memory_s, *form.long_s):
            bench.call(
                f"memory/{backend}/{length_s:g}",
                "bench.commands:render",
                bench.both,
                midi=bench.piece(length_s),
                model=bench.model,
                backend=backend,
                repeats=1,
                duration_s=None,
            )
        bench.call(
            f"cold/dafx22/{backend}",
            "bench.commands:render",
            bench.both,
            midi=bench.piece(20.0),
            model=bench.model,
            backend=backend,
            repeats=form.repeats,
            duration_s=20.0,
        )
    for name, path in list(pieces.real().items())[: form.n_real]:
        bench.call(
            f"real/dafx22/{name}",
            "bench.published:speed",
            bench.one,
            model=bench.model,
            backend=BACKENDS[0],
            midi=str(path),
            repeats=1,
            duration_s=0.0,
            n_threads=1,
            stages=False,
        )
    if form.oracle_repeats:
        arguments = {"model": bench.model, "midi": bench.piece(form.piece_s), "repeats": form.oracle_repeats}
        bench.call("oracle", "bench.published:oracle", bench.both, **arguments, excerpt_s=form.oracle_s)


def _speeds(bench: _Bench) -> None:
    """Speed and stream of dafx22, in rounds: another tenant of the machine may take a fifth of it for half a minute."""
    form = bench.form
    answers: dict[str, list[Measured]] = {}
    for round_ in range(form.rounds):
        for backend in BACKENDS:
            common = {
                "model": bench.model,
                "backend": backend,
                "midi": bench.piece(form.piece_s),
                "repeats": form.round_repeats,
                "duration_s": form.piece_s,
            }
            speed, live = "bench.published:speed", {"seconds": form.stream_s, "block_ms": 8}
            alone = Call(speed, {**common, "n_threads": 1, "stages": round_ == 0}, bench.one)
            planned = {f"one core/{backend}": [alone]}
            if backend in form.together:
                if bench.other:
                    arguments = {**common, "n_threads": 1, "stages": False}
                    planned[f"two processes/{backend}"] = [Call(speed, arguments, c) for c in (bench.one, bench.other)]
                    arguments = {**common, "n_threads": 2, "stages": False}
                    planned[f"two cores/{backend}"] = [Call(speed, arguments, bench.both)]
                arguments = {"model": bench.model, "backend": backend, **live}
                planned[f"stream/{backend}"] = [Call("bench.live:stream", arguments, bench.one)]
            for name, calls in planned.items():
                if bench.wanted(name):
                    found = measure_together(calls, form.limit_s)
                    answers.setdefault(name, []).append(found[0] if len(found) == 1 else _together(found))
    for name, rounds in answers.items():
        bench.keep(name, _middle_block(rounds) if name.startswith("stream/") else _pooled(rounds))


def _lacking(answers: list[Measured], part: str) -> Measured | None:
    """The first answer without this part: it says why, as a measurement that failed does."""
    return next((answer for answer in answers if part not in answer), None)


def _pooled(rounds: list[Measured]) -> Measured:
    """Renders of all rounds; what there is of each process alone is that of the first. A round that failed is the answer."""
    if failed := _lacking(rounds, "real_time_factor"):
        return failed
    took_s = [seconds for answer in rounds for seconds in answer["took_s"]]
    factors = [float(answer["audio_s"]) / seconds for answer in rounds for seconds in answer["took_s"]]
    peak_mb = max(float(answer["peak_rss_mb"]) for answer in rounds)
    return {**rounds[0], "took_s": took_s, "real_time_factor": spread(factors), "peak_rss_mb": peak_mb}


def _middle_block(rounds: list[Measured]) -> Measured:
    """The stream's round whose median block is the middle one's, and the blocks of all rounds. One that failed is the answer."""
    if failed := _lacking(rounds, "block_ms"):
        return failed
    rounds = sorted(rounds, key=lambda answer: float(answer["block_ms"]["p50"]))
    return {**rounds[(len(rounds) - 1) // 2], "rounds_ms": [answer["block_ms"] for answer in rounds]}


def _house(bench: _Bench) -> None:
    form = bench.form
    dense = bench.piece(form.piece_s)
    bench.call("house/1", "bench.house:speed", bench.one, midi=dense, channels=1, repeats=form.repeats)
    _beside_fluidsynth(bench, "house/2", "fluidsynth/dense", dense)
    for name, path in list(pieces.real().items())[: form.n_real]:
        _beside_fluidsynth(bench, f"real/house/{name}", f"fluidsynth/{name}", str(path))
    arguments = {"model": None, "backend": BACKENDS[0], "seconds": form.stream_s, "block_ms": 8}
    bench.call("house stream", "bench.live:stream", bench.one, **arguments)
    bench.call("requests", "bench.house:requests", bench.one, n_pieces=form.n_catalogue)
    command = {"model": None, "backend": None}
    for length_s in form.memory_s:
        bench.call(
            f"memory/house/{length_s:g}",
            "bench.commands:render",
            bench.both,
            midi=bench.piece(length_s),
            repeats=1,
            duration_s=None,
            **command,
        )
    bench.call(
        "cold/house",
        "bench.commands:render",
        bench.both,
        midi=bench.piece(20.0),
        repeats=form.repeats,
        duration_s=20.0,
        **command,
    )


def _beside_fluidsynth(bench: _Bench, house: str, fluidsynth: str, midi: str) -> None:
    """The default model in stereo and FluidSynth, measured in turn."""
    if bench.wanted(house) or bench.wanted(fluidsynth):
        arguments = {"midi": midi, "repeats": bench.form.repeats}
        answers = measure(Call("bench.house:beside_fluidsynth", arguments, bench.one), bench.form.limit_s)
        bench.keep(house, answers.get("house", answers))
        bench.keep(fluidsynth, answers.get("fluidsynth", answers))


def _together(answers: list[Measured]) -> Measured:
    """Processes that render at the same time: all their audio over the time of the slowest, repeat by repeat."""
    if failed := _lacking(answers, "real_time_factor"):
        return failed
    audio_s = sum(float(answer["audio_s"]) for answer in answers)
    took_s = [max(repeat) for repeat in zip(*(answer["took_s"] for answer in answers), strict=True)]
    return {
        "audio_s": audio_s,
        "took_s": took_s,
        "real_time_factor": spread([audio_s / seconds for seconds in took_s]),
        "cores_busy": spread([sum(float(answer["cores_busy"]["median"]) for answer in answers)]),
        "peak_rss_mb": max(float(answer["peak_rss_mb"]) for answer in answers),
    }

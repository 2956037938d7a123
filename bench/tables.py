"""The tables of a benchmark run, each from the saved measurements to Markdown. A missing measurement says why it is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.fresh import Measured
from pianofarm_training.evaluation.musts import must_table, of_speed

BACKENDS = ("tensorflow", "jax")


@dataclass(frozen=True)
class Target:
    """A row of the targets."""

    what: str
    unit: str
    must: float
    aim: float
    more_is_better: bool
    value: Callable[[Measured, str], float]  #: from results and backend; _Missing where it was not measured

    def judge(self, value: float) -> str:
        """Where a value stands against must and aim."""
        sign = 1 if self.more_is_better else -1
        if sign * value >= sign * self.aim:
            return "aim met"
        return "must met" if sign * value >= sign * self.must else "MISSED"


#: Measurements that need the authors' weights.
_OF_DAFX22 = ("one core/", "two ", "memory/tensorflow", "memory/jax", "cold/dafx22", "stream/", "real/dafx22", "oracle")


class _Missing(Exception):
    """A measurement that is not there; the message says why."""


def _get(results: Measured, name: str) -> dict[str, Any]:
    """A measurement.

    Raises:
        _Missing: it was left out or failed.
    """
    found: dict[str, Any] = results.get(name, {})
    if _ok(found):
        return found
    imported = results.get("import", {})
    needs_model = name.startswith(_OF_DAFX22)
    if not found and needs_model and not _ok(imported):
        found = imported
    raise _Missing(f"failed: {found['failed']}" if "failed" in found else found.get("skipped", "not measured"))


def _rtf(name: str) -> Callable[[Measured, str], float]:
    return lambda results, backend: float(_get(results, f"{name}/{backend}")["real_time_factor"]["median"])


def _cold(results: Measured, backend: str) -> float:
    return float(_get(results, f"cold/dafx22/{backend}")["process_s"]["median"])


def _largest_rss(results: Measured, backend: str) -> float:
    names = [name for name in results if name.startswith(f"memory/{backend}/")]
    return max(float(_get(results, name)["peak_rss_mb"]) for name in names or [f"memory/{backend}"])


def _block_ms(percent: str) -> Callable[[Measured, str], float]:
    return lambda results, backend: float(_get(results, f"stream/{backend}")["block_ms"][percent])


#: As the project set them for dafx22: 16 voices, conditioning arrays to wet audio, float32.
TARGETS = (
    Target("one process on one core, dense piece", "x real time", 30, 40, True, _rtf("one core")),
    Target("two processes on two cores, total", "x real time", 60, 75, True, _rtf("two processes")),
    Target("one piece, two cores", "x real time", 45, 65, True, _rtf("two cores")),
    Target("peak memory, any length", "MB", 1000, 500, False, _largest_rss),
    Target(
        "MIDI bytes to conditioning, 5-minute piece",
        "ms",
        100,
        20,
        False,
        lambda results, _: float(_get(results, "conditioning")["total_ms"]["median"]),
    ),
    Target("stream, 8 ms blocks: compute, median", "ms", 1, 0.35, False, _block_ms("p50")),
    Target("stream, 8 ms blocks: compute, 99th percentile", "ms", 4, 1, False, _block_ms("p99")),
    Target(
        "first audio after a note-on in the stream",
        "ms",
        20,
        10,
        False,
        lambda results, backend: float(_get(results, f"stream/{backend}")["first_audio_ms"]),
    ),
)

#: Seconds from the start of the process to 20 s of WAV on disk: must and aim of each backend.
COLD = {"tensorflow": (8.0, 5.0), "jax": (4.0, 2.0)}


def targets(saved: Measured) -> str:
    """Every target against what was measured."""
    results = saved["results"]
    rows: list[list[str]] = []
    for target in TARGETS:
        row = [target.what, f"{target.must:g} {target.unit}", f"{target.aim:g} {target.unit}"]
        rows.append(row + [_judged(target, results, backend) for backend in BACKENDS])
    row = ["cold process to 20 s of WAV on disk", "8 s / 4 s", "5 s / 2 s"]
    for backend in BACKENDS:
        must, aim = COLD[backend]
        row.append(_judged(Target("", "s", must, aim, more_is_better=False, value=_cold), results, backend))
    rows.insert(5, row)
    return table(("dafx22", "must", "aim", *BACKENDS), rows)


def speed(saved: Measured) -> str:
    """Real-time factors with their spread."""
    results = saved["results"]
    rows = []
    for kind in ("one core", "two processes", "two cores"):
        for backend in BACKENDS:
            try:
                found = _get(results, f"{kind}/{backend}")
            except _Missing as why:
                rows.append([kind, backend, str(why), "", "", "", ""])
                continue
            costs = [_number(found[key]) if key in found else "" for key in ("load_s", "compile_s", "peak_rss_mb")]
            busy = _number(found["cores_busy"]["median"])
            rows.append([kind, backend, _spread(found["real_time_factor"]), busy, *costs])
    heads = ("dafx22, dense piece", "backend", "x real time", "cores had", "load s", "first 2 s of audio s", "peak MB")
    return table(heads, rows)


def stages(saved: Measured) -> str:
    """Where the time of the one-core render goes."""
    rows: list[list[str]] = []
    found = {backend: saved["results"].get(f"one core/{backend}", {}) for backend in BACKENDS}
    names = [name for measured in found.values() for name in measured.get("stages_s", {})]
    for name in dict.fromkeys(names):
        row = [name]
        for measured in found.values():
            seconds, all_stages = measured.get("stages_s", {}).get(name), measured.get("stages_s", {})
            if not seconds:
                row += ["", ""]
                continue
            whole_s = sum(value for stage, value in all_stages.items() if "(outside)" not in stage)
            share = f"{seconds / whole_s:6.1%}"
            row += [_number(measured["audio_s"] / seconds), f"{share} {'#' * round(30 * min(1.0, seconds / whole_s))}"]
        rows.append(row)
    heads = ["stage"]
    for backend in BACKENDS:
        heads += [f"{backend}: x real time", "share of the render"]
    return table(heads, rows)


def floor(saved: Measured) -> str:
    """The arithmetic of the network against the machine's."""
    results = saved["results"]
    try:
        found = _get(results, "floor")
    except _Missing as why:
        return str(why)
    need = sum(found["gflop_per_audio_s"].values())
    mono = found["gflop_per_audio_s"]["monophonic"]
    large = found["large_gflops"]["best"]
    rows = [
        ["matrix products of dafx22", f"{need:.2f} GFLOP per second of audio ({mono:.2f} monophonic network)"],
        ["this machine, one core, float32, 1024 x 1024", f"{_number(large)} GFLOP/s at best"],
        [
            "the same, one frame's products (16 rows) one by one",
            f"{_number(found['frame_gflops']['best'])} GFLOP/s at best",
        ],
        ["limit of the network on one core", f"{_number(large / need)} x real time"],
    ]
    for backend in BACKENDS:
        measured = results.get(f"one core/{backend}", {})
        seconds = sum(value for name, value in measured.get("stages_s", {}).items() if name.endswith("network"))
        if seconds:
            reached = measured["audio_s"] / seconds
            rows.append(
                [
                    f"the networks with {backend}",
                    f"{_number(reached)} x real time: {reached * need / large:.0%} of the limit",
                ]
            )
    return table(("float32 arithmetic", ""), rows)


def default(saved: Measured) -> str:
    """Name of the default model that was measured; results that do not say are of the time of the first."""
    return str(saved.get("default_model", "house-1"))


def memory(saved: Measured) -> str:
    """Peak memory of `pianofarm render` by the length of the piece."""
    results = saved["results"]
    lengths = sorted({float(name.rsplit("/", 1)[1]) for name in results if name.startswith("memory/")})
    rows = []
    for kind, label in (
        ("tensorflow", "dafx22, tensorflow"),
        ("jax", "dafx22, jax"),
        ("house", f"{default(saved)}, numpy"),
    ):
        names = (f"memory/{kind}/{length_s:g}" for length_s in lengths)
        rows.append(
            [label, *(_or_why(results, name, lambda found: f"{found['peak_rss_mb']:.0f} MB") for name in names)]
        )
    if not lengths:
        return "Not measured in this form."
    return table(("`pianofarm render`", *(f"{length_s:g} s of music" for length_s in lengths)), rows)


def cold(saved: Measured) -> str:
    """From the start of a process to 20 s of WAV on disk."""
    rows = []
    for name, label in (
        ("cold/dafx22/tensorflow", "dafx22, tensorflow"),
        ("cold/dafx22/jax", "dafx22, jax"),
        ("cold/house", f"{default(saved)} (the default), numpy"),
    ):
        try:
            found = _get(saved["results"], name)
        except _Missing as why:
            rows.append([label, str(why), "", "", "", ""])
            continue
        parts = ("process_s", "import_s", "load_s", "render_s")
        rows.append([label, *(_spread(found[key]) for key in parts), _number(found["first_s"])])
    columns = ("process s", "of it importing the engine s", "loading the model s", "rendering s", "first of all s")
    return table(("`pianofarm render`, 20 s of audio", *columns), rows)


def stream(saved: Measured) -> str:
    """Blocks of the live stream."""
    rows = []
    for name, label in (
        ("stream/tensorflow", "dafx22, tensorflow"),
        ("stream/jax", "dafx22, jax"),
        ("house stream", f"{default(saved)}, numpy"),
    ):
        try:
            found = _get(saved["results"], name)
        except _Missing as why:
            rows.append([label, str(why), *[""] * 7])
            continue
        blocks = [_of_rounds(found, key) for key in ("p50", "p95", "p99", "max")]
        figures = [found[key] for key in ("delay_ms", "first_audio_ms", "heard_after_ms", "first_audio_p99_ms")]
        rows.append([label, *blocks, *map(_number, figures)])
    heads = ("8 ms blocks, ms", "median", "P95", "P99", "longest", "delay", "first audio", "seen at", "worst case")
    return table(heads, rows)


def _of_rounds(found: Measured, key: str) -> str:
    """A figure of the blocks, and the least and most of all rounds."""
    of_rounds = [float(blocks[key]) for blocks in found.get("rounds_ms", [])]
    figure = _number(found["block_ms"][key])
    return f"{figure} ({_number(min(of_rounds))} to {_number(max(of_rounds))})" if of_rounds else figure


def compared(saved: Measured) -> str:
    """The same dense piece by every synthesizer, and the original's way of computing."""
    results = saved["results"]
    base = results.get("one core/tensorflow", {})
    base_rtf = base["real_time_factor"]["median"] if _ok(base) else None
    rows = []
    for name, label, sound in (
        ("oracle", "dafx22 as its authors compute it (Keras and ddsp), two cores", "16 kHz mono"),
        ("one core/tensorflow", "dafx22, this engine on TensorFlow, one core", "16 kHz mono"),
        ("one core/jax", "dafx22, this engine on JAX, one core", "16 kHz mono"),
        ("house/1", f"{default(saved)}, one core", "32 kHz mono"),
        ("house/2", f"{default(saved)}, one core", "32 kHz stereo"),
        ("fluidsynth/dense", "FluidSynth with FluidR3 GM, one core", "44.1 kHz stereo"),
    ):
        try:
            found = _get(results, name)
        except _Missing as why:
            rows.append([label, sound, str(why), ""])
            continue
        rtf = found["real_time_factor"]["median"]
        ratio = f"{_number(rtf / base_rtf)}" if base_rtf else ""
        rows.append([label, sound, _spread(found["real_time_factor"]), ratio])
    return table(("dense piece", "sound", "x real time", "against dafx22 on TensorFlow"), rows)


def house(saved: Measured) -> str:
    """What the default model costs."""
    rows = []
    for channels, label in ((1, "mono"), (2, "stereo")):
        try:
            found = _get(saved["results"], f"house/{channels}")
        except _Missing as why:
            rows.append([label, str(why), "", "", "", "", ""])
            continue
        paused = _spread(found["after_pause"]) if found.get("after_pause") else ""
        first = _number(found["audio_s"] / found["first_s"])
        costs = [_number(found["load_s"]), _number(found["peak_rss_mb"]), f"{found['model_bytes'] / 1e6:.2f}"]
        rows.append([label, _spread(found["real_time_factor"]), paused, first, *costs])
    return table(
        (f"{default(saved)}, 32 kHz", "x real time", "after a pause", "first render", "load s", "peak MB", "model MB"),
        rows,
    )


def house_targets(saved: Measured) -> str:
    """What the default model must reach in speed and size."""
    return must_table(of_speed(saved))


def real(saved: Measured) -> str:
    """Real pieces, where they are at hand."""
    results = saved["results"]
    names = sorted({name.rsplit("/", 1)[1] for name in results if name.startswith("real/")})
    if not names:
        return "No real pieces at hand, or not asked for."
    rows = []
    for name in names:
        lengths = [m["audio_s"] for key, m in results.items() if key.endswith(f"/{name}") and _ok(m)]
        kinds = (f"{kind}/{name}" for kind in ("real/dafx22", "real/house", "fluidsynth"))
        factors = (_or_why(results, kind, lambda found: _spread(found["real_time_factor"])) for kind in kinds)
        rows.append([name.removesuffix(".mid"), f"{max(lengths):.0f}" if lengths else "", *factors])
    return table(("piece", "seconds", "dafx22, TensorFlow", f"{default(saved)} stereo", "FluidSynth"), rows)


def requests(saved: Measured) -> str:
    """Many different pieces as requests to one core."""
    try:
        found = _get(saved["results"], "requests")
    except _Missing as why:
        return str(why)
    took = found["took_s"]
    rows = [
        [
            "pieces",
            f"{found['pieces']}, {found['shortest_s']:g} s to {found['longest_s']:g} s, {found['audio_s']:.0f} s of audio",
        ],
        ["audio-seconds per second, one core", _number(found["audio_s_per_s"])],
        ["requests per second, one core", _number(found["requests_per_s"])],
        ["mean length of a request", f"{found['audio_s'] / found['pieces']:.1f} s"],
        ["x real time, median (least to most)", _spread(found["real_time_factor"])],
        ["seconds a request, P50 / P95 / P99", " / ".join(_number(took[key]) for key in ("p50", "p95", "p99"))],
    ]
    return table((f"{default(saved)}, MIDI bytes to stereo WAV bytes", ""), rows)


def setup(saved: Measured) -> str:
    """Machine, versions, conditions."""
    about, form = saved["machine"], saved["form"]
    one = saved["results"].get("one core/tensorflow", {})
    rows = [
        ["processor", about["cpu"]],
        ["cores, memory", f"{about['cores']}, {about['memory_gb']:g} GB"],
        ["system, Python", f"{about['system']}, {about['python']}"],
        ["packages", ", ".join(f"{name} {version}" for name, version in about["packages"].items())],
        ["commit ('+': changed since)", about["commit"]],
        ["measured at, in", f"{saved['measured_at']}, {saved['took_s']:.0f} s"],
        ["load average before", f"{about['load_before']:g}"],
        ["repeats", str(form["repeats"])],
        ["dense piece", f"{form['piece_s']:g} s"],
    ]
    if _ok(one):
        rows[-1][1] += (
            f", {one['notes']} notes, {one['mean_voices']:.1f} voices at a time, {one['dropped_notes']} dropped"
        )
    return table(("this run", ""), rows)


#: Every table by the name that the page asks for it.
TABLES: dict[str, Callable[[Measured], str]] = {
    "targets": targets,
    "speed": speed,
    "stages": stages,
    "floor": floor,
    "memory": memory,
    "cold": cold,
    "stream": stream,
    "compared": compared,
    "house": house,
    "house-targets": house_targets,
    "real": real,
    "requests": requests,
    "setup": setup,
}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns as wide as they need to be."""
    cells = [list(heads), *([cell.replace("|", "/") for cell in row] for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    return "\n".join([line(cells[0]), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, cells[1:])])


def _judged(target: Target, results: Measured, backend: str) -> str:
    try:
        value = target.value(results, backend)
    except _Missing as why:
        return str(why)
    return f"{_number(value)} {target.unit}: {target.judge(value)}"


def _or_why(results: Measured, name: str, shown: Callable[[dict[str, Any]], str]) -> str:
    try:
        return shown(_get(results, name))
    except _Missing as why:
        return str(why)


def _ok(measured: Measured) -> bool:
    return bool(measured) and "skipped" not in measured and "failed" not in measured


def _spread(values: dict[str, Any]) -> str:
    median, low, high = (_number(values[key]) for key in ("median", "low", "high"))
    return median if values["n"] == 1 else f"{median} ({low} to {high})"


def _number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"

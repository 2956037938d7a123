"""`python -m bench.precision`: how far half precision moves the controls and the sound of dafx22, and how fast each computes."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import fresh, pieces, section
from bench.fresh import Measured
from bench.spectra import log_spectral_distance_db
from bench.spread import spread

BACKENDS = ("tensorflow", "jax")

#: Of the reference material: a few seconds of conditioning each, with the piano they were rendered on.
FIXTURES = ("bach_846", "chpn-p3", "liz_et3")

#: Of the last one; the clock counts the time of the processor, so that others on the machine disturb little.
TIMED_S, ROUNDS = 4.0, 5

PAGE = Path(__file__).resolve().parents[1] / "docs" / "precision.md"

_Audio = NDArray[np.float32]
_Gate = Callable[[], None]


def main() -> int:
    """Print the tables; exit code 2 without the reference material or a backend."""
    parser = argparse.ArgumentParser(prog="python -m bench.precision", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    shared = pieces.shared_folder()
    missing = [name for name in FIXTURES if not _fixture(shared, name).is_file()]
    if missing:
        sys.stderr.write(f"no {missing[0]}.npz: set PIANOFARM_SHARED to the folder of the reference material\n")
        return 2
    machine = section.measured_on()
    measured: dict[str, Measured] = {}
    for backend in BACKENDS:
        given = {"shared": str(shared), "backend": backend}
        measured[backend] = fresh.measure(fresh.Call("bench.precision:compare", given, tuple(fresh.cores()[-1:])))
        if "rows" not in measured[backend]:
            sys.stderr.write(f"{backend}: {measured[backend]}\n")
            return 2
    text = f"{_errors(measured)}\n{_speeds(measured)}\n{machine}"
    sys.stdout.write(text)
    if arguments.write:
        section.write(PAGE, text)
    return 0


def compare(shared: str, backend: str, gate: _Gate) -> Measured:
    """Rows of errors, and real-time factors by precision; for a fresh process with one core."""
    from pianofarm_common.precision import PRECISIONS
    from pianofarm_worker.synth.backend import choose

    choose(backend, n_threads=1)
    from pianofarm_worker.synth.published.checkpoints import import_checkpoint
    from pianofarm_worker.synth.published.piano import PublishedPiano

    folder = Path(shared)
    with tempfile.TemporaryDirectory(prefix="pianofarm-measure-") as made:
        model = import_checkpoint(folder / "models" / "dafx22", Path(made) / "dafx22")
        pianos = {precision: PublishedPiano(model, precision=precision, batch_size=1) for precision in PRECISIONS}
        rows: list[list[str]] = []
        for name in FIXTURES:
            with np.load(_fixture(folder, name)) as given:
                notes, pedal, number = given["conditioning"], given["pedal"], int(given["piano_model"])
            outputs = {
                precision: (
                    piano.logits(notes, pedal, piano=number),
                    *piano.synthesize(notes, pedal, piano=number, seed=1),
                )
                for precision, piano in pianos.items()
            }
            exact = outputs["float32"]
            rows += [[p, name, *_errors_of(exact, outputs[p])] for p in PRECISIONS if p != "float32"]
        gate()
        factors = _factors(pianos, notes, pedal, number)
    return {"rows": rows, "factors": factors}


def _factors(pianos: dict[Any, Any], notes: _Audio, pedal: _Audio, number: int) -> dict[str, list[float]]:
    """Seconds of sound in a second of one core, by precision: each in turn, several times."""
    n_frames = round(TIMED_S * 250)
    factors: dict[str, list[float]] = {precision: [] for precision in pianos}
    for _ in range(1 + ROUNDS):  # what the first compiles does not count
        for precision, piano in pianos.items():
            began = time.process_time()
            piano.synthesize(notes[-n_frames:], pedal[-n_frames:], piano=number, seed=1)
            factors[precision].append(TIMED_S / (time.process_time() - began))
    return {precision: values[1:] for precision, values in factors.items()}


def _fixture(shared: Path, name: str) -> Path:
    return shared / "parity" / f"{name}.npz"


def _errors_of(exact: Sequence[_Audio], rounded: Sequence[_Audio]) -> list[str]:
    error = np.abs(rounded[0].astype(np.float64) - exact[0])
    dry_db, wet_db = (log_spectral_distance_db(a, b) for a, b in zip(exact[1:], rounded[1:], strict=True))
    difference = rounded[2].astype(np.float64) - exact[2]
    ratio_db = 10 * np.log10(np.mean(difference**2) / np.mean(exact[2].astype(np.float64) ** 2))
    return [
        f"{error.mean():.1e}",
        f"{np.percentile(error, 99):.1e}",
        f"{dry_db:.3f}",
        f"{wet_db:.3f}",
        f"{ratio_db:.0f}",
    ]


def _errors(measured: dict[str, Measured]) -> str:
    head = "precision | piece | control, mean error | 99 % below | spectral distance dry (dB) | wet (dB) | difference wet (dB)"
    lines = [f"| backend | {head} |", "|---|---|---|---|---|---|---|---|"]
    for backend, found in measured.items():
        lines += ["| " + " | ".join([backend, *row]) + " |" for row in sorted(found["rows"])]
    return "\n".join(lines) + "\n"


def _speeds(measured: dict[str, Measured]) -> str:
    lines = ["| backend | precision | x real time, median (least to most) | against float32 |", "|---|---|---|---|"]
    for backend, found in measured.items():
        base = spread(found["factors"]["float32"])["median"]
        for precision, values in found["factors"].items():
            of = spread(values)
            middle = f"{of['median']:.1f} ({of['low']:.1f} to {of['high']:.1f})"
            lines.append(f"| {backend} | {precision} | {middle} | {of['median'] / base:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

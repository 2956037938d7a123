"""`python -m bench.precision`: how far half precision moves the controls and the sound of dafx22. Errors, no times."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import pieces

#: Of the reference material: a few seconds of conditioning each, with the piano they were rendered on.
FIXTURES = ("bach_846", "chpn-p3", "liz_et3")

#: The lines of this page between the two marks are written by `--write`.
PAGE = Path(__file__).resolve().parents[1] / "docs" / "precision.md"
START, END = "<!-- measured: start -->\n", "<!-- measured: end -->\n"

_Audio = NDArray[np.float32]


def main() -> int:
    """Print the table; exit code 2 without the reference material."""
    parser = argparse.ArgumentParser(prog="python -m bench.precision", description=__doc__)
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    arguments = parser.parse_args()
    shared = pieces.shared_folder()
    missing = [name for name in FIXTURES if not (shared / "parity" / f"{name}.npz").is_file()]
    if missing:
        sys.stderr.write(f"no {missing[0]}.npz: set PIANOFARM_SHARED to the folder of the reference material\n")
        return 2
    text = _table(shared, arguments.backend)
    sys.stdout.write(text)
    if arguments.write:
        page = PAGE.read_text()
        before, rest = page.split(START)
        PAGE.write_text(before + START + text + END + rest.split(END)[1])
    return 0


def _table(shared: Path, backend: str) -> str:
    from pianofarm_common.precision import PRECISIONS
    from pianofarm_worker.synth.backend import choose

    choose(backend, n_threads=1)
    from pianofarm_worker.synth.published.checkpoints import import_checkpoint
    from pianofarm_worker.synth.published.piano import PublishedPiano

    lines = [
        "| precision | piece | control, mean error | 99 % below | spectral distance dry (dB) | wet (dB) | difference wet (dB) |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(prefix="pianofarm-measure-") as folder:
        model = import_checkpoint(shared / "models" / "dafx22", Path(folder) / "dafx22")
        outputs: dict[str, tuple[_Audio, _Audio, _Audio]] = {}
        for precision in PRECISIONS:
            piano = PublishedPiano(model, precision=precision, batch_size=1)
            for name in FIXTURES:
                with np.load(shared / "parity" / f"{name}.npz") as given:
                    notes, pedal, number = given["conditioning"], given["pedal"], int(given["piano_model"])
                logits = piano.logits(notes, pedal, piano=number)
                dry, wet = piano.synthesize(notes, pedal, piano=number, seed=1)
                if precision == "float32":
                    outputs[name] = logits, dry, wet
                else:
                    lines.append(f"| {precision} | {name} | " + _row(outputs[name], (logits, dry, wet)))
    return f"dafx22, {backend} on a CPU:\n\n" + "\n".join(lines) + "\n"


def _row(exact: tuple[_Audio, ...], rounded: tuple[_Audio, ...]) -> str:
    error = np.abs(rounded[0].astype(np.float64) - exact[0])
    dry_db, wet_db = (log_spectral_distance_db(a, b) for a, b in zip(exact[1:], rounded[1:], strict=True))
    difference = rounded[2].astype(np.float64) - exact[2]
    ratio_db = 10 * np.log10(np.mean(difference**2) / np.mean(exact[2].astype(np.float64) ** 2))
    return f"{error.mean():.1e} | {np.percentile(error, 99):.1e} | {dry_db:.3f} | {wet_db:.3f} | {ratio_db:.0f} |"


def log_spectral_distance_db(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Root mean square over the bins of a spectrum, mean over the spectra; below 1e-5 a bin counts as 1e-5."""
    return float(np.sqrt(((_spectra_db(a) - _spectra_db(b)) ** 2).mean(axis=1)).mean())


def _spectra_db(audio: NDArray[Any], size: int = 1024, hop: int = 256) -> NDArray[np.float64]:
    frames = np.lib.stride_tricks.sliding_window_view(audio.astype(np.float64), size)[::hop] * np.hanning(size)
    decibels: NDArray[np.float64] = 20 * np.log10(np.maximum(np.abs(np.fft.rfft(frames)), 1e-5))
    return decibels


if __name__ == "__main__":
    sys.exit(main())

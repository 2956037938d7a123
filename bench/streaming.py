"""`python -m bench.streaming`: how far what is played live is from a render of the same file. Differences, no times."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import fresh, pieces, section
from bench.fresh import Measured
from bench.published import loaded, performance_of
from bench.spectra import levels_db, log_spectral_distance_db

#: Files of the reference material, and what they are.
PIECES = {
    "parity/bach_846.mid": "Bach, prelude in C (bach_846)",
    "parity/chpn-p3.mid": "Chopin, prelude (chpn-p3)",
    "parity/liz_et3.mid": "Liszt, etude (liz_et3)",
    "midi/pieces/clair-de-lune.mid": "Debussy, Clair de lune",
    "midi/pieces/maple-leaf-rag.mid": "Joplin, Maple Leaf Rag",
}

#: The part of each that is compared; the render that it is compared with, and whose moments count, goes on for longer.
EXCERPT_S, RENDERED_S = 30.0, 120.0

#: Of this length are the two renders that differ in the seed of their noise alone.
NOISE_S = 10.0

#: Blocks of these lengths are compared with those of 8 ms.
OTHER_BLOCKS_MS, OTHER_BLOCKS_S = (4, 40), 12.0

#: Levels are compared in windows of this length that are so many dB below the loudest at most.
_WINDOW_S, _RANGE_DB = 0.1, 45.0

PAGE = Path(__file__).resolve().parents[1] / "docs" / "streaming.md"

_Audio = NDArray[np.float32]
_Gate = Callable[[], None]


def main() -> int:
    """Print the tables; exit code 2 without the reference material."""
    parser = argparse.ArgumentParser(prog="python -m bench.streaming", description=__doc__)
    parser.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    arguments = parser.parse_args()
    shared = pieces.shared_folder()
    missing = [name for name in ("models/dafx22", *PIECES) if not (shared / name).exists()]
    if missing:
        sys.stderr.write(f"no {missing[0]}: set PIANOFARM_SHARED to the folder of the reference material\n")
        return 2
    machine = section.measured_on()
    given = {"shared": str(shared), "backend": arguments.backend}
    calls = [fresh.Call(f"bench.streaming:{name}", given, tuple(fresh.cores())) for name in ("published", "house")]
    measured = fresh.measure_together(calls, limit_s=1800.0)
    if any("table" not in found for found in measured):
        sys.stderr.write(f"{measured}\n")
        return 2
    text = "\n".join([*(found["table"] for found in measured), machine])
    sys.stdout.write(text)
    if arguments.write:
        section.write(PAGE, text)
    return 0


def published(shared: str, backend: str, gate: _Gate) -> Measured:
    """The table of dafx22; for a fresh process."""
    from pianofarm_worker.synth.backend import choose

    gate()
    choose(backend, n_threads=1)
    from pianofarm_worker.synth.published.checkpoints import import_checkpoint

    heads = ("LSD, dB", "LSD of two noises, dB", "level, mean, dB", "first 5 s", "last 20 s", "rms difference, dB")
    lines = [
        " | ".join((f"| dafx22, {backend}", *heads, "other blocks, dB of the sound |")),
        "|---" * (len(heads) + 2) + "|",
    ]
    with tempfile.TemporaryDirectory(prefix="pianofarm-measure-") as folder:
        import_checkpoint(Path(shared) / "models" / "dafx22", Path(folder) / "dafx22")
        piano = loaded(f"{folder}/dafx22", backend, 1)
        for name, title in PIECES.items():
            performance = performance_of((Path(shared) / name).read_bytes())
            live, whole = played(piano, performance, EXCERPT_S), rendered(piano, performance)
            one, other = (rendered(piano, performance, seed, NOISE_S) for seed in (1, 2))
            louder_db, second = louder_by_db(live, whole, piano.info.sample_rate_hz)
            columns = [
                f"{log_spectral_distance_db(live[:, 0], whole[: len(live), 0]):.1f}",
                f"{log_spectral_distance_db(one[:, 0], other[:, 0]):.1f}",
                *(f"{part.mean():+.1f}" for part in (louder_db, louder_db[second < 5], louder_db[second >= 10])),
                f"{np.sqrt((louder_db**2).mean()):.1f}",
                " / ".join(
                    f"{difference_db(played(piano, performance, OTHER_BLOCKS_S, block_ms), live):.0f}"
                    for block_ms in OTHER_BLOCKS_MS
                ),
            ]
            lines.append(f"| {title} | " + " | ".join(columns) + " |")
    return {"table": "\n".join(lines) + "\n"}


def house(shared: str, backend: str, gate: _Gate) -> Measured:
    """The table of the default model, which needs no backend; for a fresh process."""
    gate()
    piano = loaded(None, backend, 1)
    lines = [
        f"| {piano.info.name} | difference, dB of the sound | largest, of the peak | level, mean, dB | rms difference, dB |",
        "|---|---|---|---|---|",
    ]
    for name, title in PIECES.items():
        performance = performance_of((Path(shared) / name).read_bytes())
        live = played(piano, performance, EXCERPT_S)
        whole = rendered(piano, performance)[: len(live)]
        difference = live - whole
        louder_db, _ = louder_by_db(live, whole, piano.info.sample_rate_hz)
        lines.append(
            f"| {title} | {difference_db(live, whole):.0f} | {np.abs(difference).max() / np.abs(whole).max():.1e} "
            f"| {louder_db.mean():+.2f} | {np.sqrt((louder_db**2).mean()):.2f} |"
        )
    return {"table": "\n".join(lines) + "\n"}


def rendered(piano: Any, performance: Any, seed: int = 1, seconds: float = RENDERED_S) -> _Audio:
    """The wet sound, [n_samples, n_channels], without its tail, of so much of the file at most."""
    from pianofarm_common.renders import RenderOptions

    options = RenderOptions(duration_s=min(seconds, performance.duration_s), tail=False)
    wet: _Audio = piano.render(performance, options, seed=seed).wet
    return wet


def played(piano: Any, performance: Any, seconds: float, block_ms: int = 8) -> _Audio:
    """The same live in blocks of this length, [n_samples, n_channels], from the beginning; the delay is cut off."""
    from pianofarm_worker.synth.events import events_of

    stream = piano.stream(block_ms=block_ms, seed=1)
    for event in events_of(performance):
        stream.push(event)
    n_samples = int(seconds * piano.info.sample_rate_hz)
    n_blocks = -(-(n_samples + stream.delay_samples) // stream.block_samples)
    sound = np.concatenate([stream.pull() for _ in range(n_blocks)])
    return sound[stream.delay_samples :][:n_samples]


def difference_db(sound: _Audio, other: _Audio) -> float:
    """The difference of the first from as much of the second, in dB of the second."""
    other = other[: len(sound)].astype(np.float64)
    return float(10 * np.log10(((sound - other) ** 2).mean() / (other**2).mean()))


def louder_by_db(live: _Audio, whole: _Audio, sample_rate_hz: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By how much the first is louder in windows in which the second sounds, and the second each begins at; [n_windows] both."""
    size = int(_WINDOW_S * sample_rate_hz)
    ours, theirs = (levels_db(sound[: len(live)].mean(axis=1), size) for sound in (live, whole))
    heard = np.flatnonzero(theirs > theirs.max() - _RANGE_DB)
    seconds: NDArray[np.float64] = heard.astype(np.float64) * _WINDOW_S
    return ours[heard] - theirs[heard], seconds


if __name__ == "__main__":
    sys.exit(main())

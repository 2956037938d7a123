"""The machine that measures: what it is, how fast it multiplies float32, and how much of that the networks need."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.fresh import Measured, cores
from bench.spread import spread

_Gate = Callable[[], None]

_PACKAGES = ("pianofarm", "numpy", "tensorflow", "keras", "jax", "jaxlib", "ddsp", "soxr")


def describe() -> Measured:
    """For people who compare; everything that a figure depends on and that can be asked for."""
    return {
        "cpu": _cpu(),
        "cores": len(cores()),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES if _version(name)} | _blas(),
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def network_gflop_per_audio_s(config: Any) -> dict[str, float]:
    """Multiplications and additions of the matrix products of a published network with a dense monophonic net, by part.

    Counted as the authors wrote it, for every voice and frame; an engine may do less (the part of a product that all voices
    share, voices that have never sounded). Activations and synthesis are left out: they are no matrix products.

    Args:
        config: a `PublishedConfig`.
    """
    net, context = config.monophonic, config.context
    if net.kind != "dense" or context.kind != "polyphonic":
        raise ValueError(f"{config.name}: only networks like those of dafx22 are counted")
    n_in, n_heard = 3 + context.n_out, 2 * config.n_voices + 4 + config.n_embedding
    mono = n_in * net.n_dense + (net.n_dense + net.n_gru) * 3 * net.n_gru + net.n_gru * net.n_gru
    mono += net.n_gru * config.n_controls
    shared = n_heard * context.n_dense + (context.n_dense + context.n_gru) * 3 * context.n_gru
    shared += context.n_gru * context.n_out
    return {
        "monophonic": 2e-9 * mono * config.n_voices * config.frame_rate_hz,
        "context": 2e-9 * shared * config.frame_rate_hz,
    }


def floor(seconds: float, gate: _Gate) -> Measured:
    """GFLOP/s of float32 matrix products on the cores given: large ones, and those of one frame of dafx22 (16 rows).

    Large ones are the arithmetic limit of the machine. Those of the network, with their weights in the cache and nothing else to
    do, are what a library reaches at such sizes when it is called product by product.
    """
    import numpy as np

    from pianofarm_worker.synth.published.configs import DAFX22

    config = DAFX22
    net, rows = config.monophonic, config.n_voices
    shapes = [
        (3 + config.context.n_out, net.n_dense),
        (net.n_dense, 3 * net.n_gru),
        (net.n_gru, 3 * net.n_gru),
        (net.n_gru, net.n_gru),
        (net.n_gru, config.n_controls),
    ]
    random = np.random.default_rng(1)

    def products(sizes: list[tuple[int, int, int]]) -> list[tuple[Any, Any, Any]]:
        made = []
        for n, k, m in sizes:
            a = random.standard_normal((n, k), np.float32)
            made.append((a, random.standard_normal((k, m), np.float32), np.zeros((n, m), np.float32)))
        return made

    def rate(sizes: list[tuple[int, int, int]], n_rounds: int) -> list[float]:
        flop = 2e-9 * sum(n * k * m for n, k, m in sizes) * n_rounds
        arrays = products(sizes)
        rates: list[float] = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(rates) < 3:
            began = time.perf_counter()
            for _ in range(n_rounds):
                for a, b, c in arrays:
                    np.matmul(a, b, out=c)
            rates.append(flop / (time.perf_counter() - began))
        return rates

    gate()
    large, frame = rate([(1024, 1024, 1024)], 1), rate([(rows, k, m) for k, m in shapes], 100)
    return {
        "large_gflops": {**spread(large), "best": max(large)},
        "frame_gflops": {**spread(frame), "best": max(frame)},
        "gflop_per_audio_s": network_gflop_per_audio_s(config),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    known = {name.strip(): value.strip() for name, value in fields.items()}
    flags = [flag for flag in ("avx2", "fma", "avx512f") if flag in known.get("flags", "").split()]
    family = f"family {known.get('cpu family', '?')} model {known.get('model', '?')}"
    return f"{known.get('model name', platform.machine())} ({family}; {', '.join(flags)})"


def _blas() -> dict[str, str]:
    """What NumPy multiplies with, and for which processor: `OPENBLAS_CORETYPE` may say another than this one."""
    importlib.import_module("numpy")
    from threadpoolctl import threadpool_info

    return {
        f"NumPy's {library['internal_api']}": f"{library['version']} for {library.get('architecture', 'any processor')}"
        for library in threadpool_info()
        if library["user_api"] == "blas" and "numpy" in library["filepath"]
    }


def _memory_gb() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    """The commit measured; with a plus sign where the code differs from it."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
        code = ["common", "worker", "producer/pianofarm/solo.py"]
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", *code],
            cwd=here.parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")

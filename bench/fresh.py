"""Measurements in processes of their own: fresh interpreters pinned to cores, one or several at the same time. Measures nothing.

A child is started by a process that is as it shall be: pinned, with its environment. What is imported on the way to the function
(multiprocessing imports the parent's main module first) finds it so, and array libraries count the right cores.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

#: What a measurement gives: plain values for JSON.
Measured = dict[str, Any]

#: Of every child. NumPy multiplies on one thread, as in the farm: the engine shares a render among threads of its own.
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Unavailable(Exception):
    """What would be measured is not on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Call:
    """One measurement: a function `package.module:name`, its arguments, the cores it may use."""

    target: str
    arguments: dict[str, Any]
    cores: tuple[int, ...]


def cores() -> list[int]:
    """Cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@contextlib.contextmanager
def pinned(chosen: Sequence[int]) -> Iterator[None]:
    """Processes that are started meanwhile are pinned and have the environment of children."""
    before, environment = cores(), dict(os.environ)
    _pin(chosen)
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        _pin(before)
        os.environ.clear()
        os.environ.update(environment)


def _pin(chosen: Sequence[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, chosen)


def whereabouts(gate: Callable[[], None]) -> Measured:
    """Which process a measurement runs in and which cores it may use: that pinning works is measured, too."""
    gate()
    importlib.import_module("numpy")
    from threadpoolctl import threadpool_info

    blas_threads = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    return {"pid": os.getpid(), "cores": cores(), "blas_threads": blas_threads}


def measure(call: Call, limit_s: float = 300.0) -> Measured:
    """Run one measurement; a failure is a measurement too: {"skipped": why} or {"failed": what}."""
    return measure_together([call], limit_s)[0]


def measure_together(calls: Sequence[Call], limit_s: float = 300.0) -> list[Measured]:
    """Run measurements at the same time. Each function is given `gate`: what it times begins when all have called it."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(calls))
    started = []
    for call in calls:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(call, there, barrier), daemon=False)
        with pinned(call.cores):
            process.start()
        there.close()
        started.append((process, here))
    deadline = time.monotonic() + limit_s
    results = []
    for process, here in started:
        try:
            answered = here.poll(max(0.0, deadline - time.monotonic()))
            results.append(here.recv() if answered else {"failed": f"no result within {limit_s:g} s"})
        except EOFError:
            process.join(5)
            results.append({"failed": f"the process ended with code {process.exitcode}"})
        finally:
            here.close()
    for process, _ in started:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
    return results


def _child(call: Call, answer: Connection, barrier: Any) -> None:
    # TensorFlow's C++ greets everybody before it reads its log level.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        module, _, name = call.target.partition(":")
        function = getattr(importlib.import_module(module), name)
        result = function(**call.arguments, gate=_gate(barrier))
    except Unavailable as error:
        result = {"skipped": str(error)}
    except Exception as error:
        result = {"failed": f"{type(error).__name__}: {error}", "where": traceback.format_exc()}
    if "failed" in result or "skipped" in result:
        barrier.abort()
    answer.send(result)
    answer.close()


def _gate(barrier: Any) -> Callable[[], None]:
    """Waits for the others; where one of them is gone its own failure is what counts."""
    return lambda: barrier.wait(timeout=120) and None

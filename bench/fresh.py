"""Measurements in processes of their own: fresh interpreters pinned to cores, one or several at the same time. Measures nothing.

Imports the standard library only, so that a child is pinned before any array library counts the cores.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

#: What a measurement gives: plain values for JSON.
Measured = dict[str, Any]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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


def pin(chosen: Sequence[int]) -> None:
    """Pin this process; NumPy's products get one thread, as in the farm: the engine shares a render among threads of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, chosen)
    for name in _THREAD_VARIABLES:
        os.environ[name] = "1"


def whereabouts(gate: Callable[[], None]) -> Measured:
    """Which process a measurement runs in and which cores it may use: that pinning works is measured, too."""
    gate()
    return {"pid": os.getpid(), "cores": cores(), "threads": os.environ[_THREAD_VARIABLES[0]]}


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
    pin(call.cores)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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

"""One process that keeps a list of programs running, and takes them all with it when it goes. Standard library only.

Knows nothing of farms: it is given `Program`s, starts them in order (deferred ones when told to by SIGUSR1), starts again what
died (with a growing pause) and writes what it sees to a status file.

Run as `python -m pianofarm.local.supervisor FD [--attached]` with the plan as JSON on standard input; FD is an open, locked file
it holds until it ends, so that the lock tells whether a supervisor lives; an attached one ends with the process that started it,
however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

#: First and longest pause before a program that died is started again.
RESTART_MIN_S, RESTART_MAX_S = 0.5, 30.0

#: A program that lived this long is considered well: its next pause is the first one again.
WELL_AFTER_S = 30.0

#: How often programs are looked at.
TICK_S = 0.2

#: A log larger than this is put aside (one earlier log is kept) before its program starts.
LOG_MAX_BYTES = 20_000_000

#: How the supervisor's own lines in a program's log begin.
LOG_MARK = "pianofarm supervisor: "

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    """One program to keep running."""

    name: str
    argv: tuple[str, ...]
    env: dict[
        str, str
    ]  #: its whole environment; secrets go here or into files, never into `argv`, which everybody can read
    log: str  #: file its output is appended to
    grace_s: float = 10.0  #: time between SIGTERM and SIGKILL
    last: bool = False  #: stopped after all others: a service that they use while they stop
    deferred: bool = False  #: started at SIGUSR1, not at once


@dataclass(frozen=True)
class Plan:
    """What a supervisor does, as JSON travels to it."""

    programs: tuple[Program, ...]
    status: str  #: file the supervisor writes its view to, readable by its owner only

    def dumps(self) -> str:
        """The plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Plan:
        """The plan that `dumps` wrote."""
        plan = json.loads(text)
        programs = tuple(Program(**{**program, "argv": tuple(program["argv"])}) for program in plan["programs"])
        return cls(programs=programs, status=plan["status"])


@dataclass
class _Child:
    """A program and the process that runs it now."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0
    pause_s: float = RESTART_MIN_S
    start_at: float = 0.0


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that forked it ends; nothing to ask outside Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Supervisor:
    """Starts programs, restarts them, stops them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._children = [_Child(program, start_at=math.inf if program.deferred else 0.0) for program in plan.programs]
        self._stopping = False

    def run(self, started: Callable[[], None] | None = None) -> None:
        """Keep every program running until SIGTERM, SIGINT or SIGHUP; then stop them all and return.

        Args:
            started: called once, when every program was started.
        """
        awake, wake = os.pipe()
        os.set_blocking(awake, False)
        os.set_blocking(wake, False)
        previous_fd = signal.set_wakeup_fd(wake)
        ending = dict.fromkeys((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), self._on_end)
        handlers = {**ending, signal.SIGUSR1: self._on_start}
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            while not self._stopping:
                self._tick()
                if started is not None:
                    started()
                    started = None
                select.select([awake], [], [], TICK_S)
                with contextlib.suppress(BlockingIOError):
                    os.read(awake, 512)
        finally:
            self._stop_all()
            signal.set_wakeup_fd(previous_fd)
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(awake)
            os.close(wake)

    def _on_end(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _on_start(self, _number: int, _frame: object) -> None:
        for child in self._children:
            if math.isinf(child.start_at):
                child.start_at = 0.0

    def _tick(self) -> None:
        now = time.monotonic()
        changed = False
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._bury(child, now)
                changed = True
            if child.process is None and now >= child.start_at:
                self._start(child, now)
                changed = True
        if changed:
            self._write_status()

    def _start(self, child: _Child, now: float) -> None:
        program, log_path = child.program, Path(child.program.log)
        if log_path.is_file() and log_path.stat().st_size > LOG_MAX_BYTES:
            log_path.replace(log_path.with_suffix(".old.log"))
        with log_path.open("ab", buffering=0) as log:
            try:
                child.process = subprocess.Popen(
                    program.argv,
                    env=program.env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    # This process has one thread, so code between fork and exec is safe here.
                    preexec_fn=die_with_parent,  # noqa: PLW1509
                )
            except OSError as error:
                log.write(f"cannot start {program.argv[0]}: {error}\n".encode())
                child.start_at, child.pause_s = now + child.pause_s, min(child.pause_s * 2, RESTART_MAX_S)
                child.restarts += 1
                return
        child.started_at = now

    def _bury(self, child: _Child, now: float) -> None:
        """A program died: take its whole process group along and plan its next start."""
        assert child.process is not None  # noqa: S101 - the caller looked
        _signal_group(child.process, signal.SIGKILL)
        _log_line(
            child.program,
            f"{child.program.name} ended with status {child.process.returncode}, starts again in {child.pause_s:g} s",
        )
        if now - child.started_at >= WELL_AFTER_S:
            child.pause_s = RESTART_MIN_S
        child.process = None
        child.start_at, child.pause_s = now + child.pause_s, min(child.pause_s * 2, RESTART_MAX_S)
        child.restarts += 1

    def _stop_all(self) -> None:
        self._stop([child for child in self._children if not child.program.last])
        self._stop([child for child in self._children if child.program.last])
        with contextlib.suppress(OSError):
            Path(self._plan.status).unlink()

    @staticmethod
    def _stop(children: Sequence[_Child]) -> None:
        """SIGTERM to each leader, SIGKILL to each group when its time is up: no process of a group survives."""
        running = [(child, child.process) for child in children if child.process is not None]
        for _, process in running:
            process.terminate()
        began = time.monotonic()
        for child, process in running:
            try:
                process.wait(timeout=max(0.0, began + child.program.grace_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log_line(
                    child.program, f"{child.program.name} did not stop within {child.program.grace_s:g} s: killed"
                )
            _signal_group(process, signal.SIGKILL)
            process.wait()
            child.process = None

    def _write_status(self) -> None:
        status = {
            "pid": os.getpid(),
            "programs": {
                child.program.name: {
                    "pid": child.process.pid if child.process else None,
                    "restarts": child.restarts,
                    "log": child.program.log,
                }
                for child in self._children
            },
        }
        path = Path(self._plan.status)
        temporary = path.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(status))
        temporary.replace(path)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _log_line(program: Program, text: str) -> None:
    with contextlib.suppress(OSError), Path(program.log).open("a") as log:
        log.write(f"{LOG_MARK}{text}\n")


def main() -> None:
    """Run the plan on standard input; see the module's first lines."""
    if "--attached" in sys.argv:
        die_with_parent()
    plan = Plan.loads(sys.stdin.read())
    os.set_inheritable(int(sys.argv[1]), False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    Supervisor(plan).run()


if __name__ == "__main__":
    main()

"""The reader of strangers' MIDI: hands bytes to one warm child process and watches it. What the child does is in `midi_child`.

Whoever may put objects into the store's `midi/` decides what a worker reads there. Reading is bounded by design (`smf`); this is
for the day on which that is wrong: what loops, eats memory or crashes the interpreter ends a child, and not the worker with its
model, its lease and its credentials. It is no sandbox against code that runs: the child is a process of the same user.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np

from pianofarm_common.errors import BadMidi, BadSettings, LimitExceeded, Transient
from pianofarm_common.logs import get_logger
from pianofarm_common.midi import MidiLimits, Performance
from pianofarm_common.settings import Settings
from pianofarm_worker.midi_child import ANSWER, CONTROL_COLUMNS, COUNTS, NOTE_COLUMNS, REQUEST

#: How a child is started; its limits follow as arguments. -P: nothing is imported from the folder we happen to be in.
CHILD = (sys.executable, "-P", "-m", "pianofarm_worker.midi_child")

#: A child that starts must be ready within this; on a busy host the import of numpy takes a while.
START_S = 60.0

#: After a file as large as this a new child is started: the old one keeps memory that it will not need again.
RENEW_BYTES = 1 << 20

#: What a child sees of our environment: none of it is a secret.
ENVIRONMENT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")

#: Bytes moved at a time.
CHUNK_BYTES = 1 << 20

log = get_logger(__name__)


@dataclass(frozen=True)
class ReaderLimits:
    """What one file may cost."""

    midi: MidiLimits
    cpu_s: float
    wall_s: float
    memory_bytes: int

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """The limits that the environment sets (`PIANOFARM_MIDI_...`)."""
        return cls(
            MidiLimits.from_settings(settings),
            settings.midi_reader_cpu_s,
            settings.midi_reader_wall_s,
            settings.midi_reader_memory_bytes,
        )


class _Died(Exception):
    """The child ended before it answered."""


class MidiReader:
    """Reads MIDI in a child process, which is started at the first file and kept. Thread-safe: one file at a time."""

    def __init__(self, limits: ReaderLimits, child: Sequence[str] = CHILD) -> None:
        """Args: child: the command that starts one; tests give a hostile one."""
        self._limits = limits
        self._argv = (
            *child,
            json.dumps(asdict(limits.midi)),
            str(limits.memory_bytes),
            str(limits.cpu_s),
        )
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._end: weakref.finalize[[subprocess.Popen[bytes]], MidiReader] | None = None

    def start(self) -> None:
        """Start the child, if there is none; does not wait until it is ready."""
        with self._lock:
            self._started()

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._drop()

    def read(self, data: bytes) -> Performance:
        """Read a Standard MIDI File, as `pianofarm_common.midi.read_performance` does.

        A child may be ended by others, such as a system that is out of memory: the file is read once more then. The second death
        is the file's fault.

        Raises:
            BadMidi: broken, or it ended the child that read it.
            LimitExceeded: it needs more bytes, CPU time or memory than the settings allow.
            BadSettings: no child can start.
            Transient: the time is up, though the child computed for less than it may: this machine is too busy.
        """
        if len(data) > self._limits.midi.max_bytes:
            raise LimitExceeded(
                f"{len(data)} bytes of MIDI, more than {self._limits.midi.max_bytes} (PIANOFARM_MIDI_MAX_BYTES raises the limit)"
            )
        with self._lock:
            for may_be_others in (True, False):
                try:
                    performance = self._ask(data)
                except _Died:
                    self._explain_death(may_be_others=may_be_others)
                else:
                    if len(data) >= RENEW_BYTES:
                        self._drop()
                        self._started()
                    return performance
        raise AssertionError("unreachable")

    def _ask(self, data: bytes) -> Performance:
        process = self._started()
        if not self._ready:
            self._wait_until_ready(process)
        deadline = time.monotonic() + self._limits.wall_s
        try:
            _send(process, REQUEST.pack(len(data)) + data, deadline)
            kind, answer = _receive(process, deadline)
        except TimeoutError:
            self._drop()
            raise Transient(
                f"reading {len(data)} bytes of MIDI was not done after {self._limits.wall_s:g} s, with less than "
                f"{self._limits.cpu_s:g} s of computing: this machine is too busy (PIANOFARM_MIDI_READER_WALL_S raises the limit)"
            ) from None
        except BaseException as error:
            # An answer may be on its way, and must not be taken for that of the next file.
            if not isinstance(error, _Died):
                self._drop()
            raise
        if kind == b"P":
            return _unpacked(answer)
        if kind == b"M":
            self._drop()
            raise LimitExceeded(
                f"reading {len(data)} bytes of MIDI takes more than {self._limits.memory_bytes} bytes of memory "
                "(PIANOFARM_MIDI_READER_MEMORY_BYTES raises the limit)"
            )
        refusal = json.loads(answer)
        raise (LimitExceeded if refusal["type"] == "LimitExceeded" else BadMidi)(refusal["text"])

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._drop()
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        # No fork of a process that holds TensorFlow: without a preexec_fn, subprocess starts the child by vfork and exec. A session
        # of its own keeps it out of the reach of what ends our process group.
        process = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            bufsize=0,
        )
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None  # noqa: S101
            os.set_blocking(pipe.fileno(), False)
        self._process, self._ready = process, False
        self._end = weakref.finalize(self, _end, process)
        return process

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        try:
            kind, _ = _receive(process, time.monotonic() + START_S)
        except TimeoutError:
            self._drop()
            raise Transient(f"the reader of MIDI was not ready after {START_S:g} s: this machine is too busy") from None
        except _Died:
            kind = b""
        if kind != b"R":
            code = self._drop()
            raise BadSettings(f"the reader of MIDI does not start ({_how(code)}): try '{' '.join(CHILD[:4])}' by hand")
        self._ready = True

    def _explain_death(self, *, may_be_others: bool) -> None:
        """Raise whose fault the death of the child was, or return for another try."""
        code = self._drop()
        log.warning("reader of MIDI died", how=_how(code))
        if code == -signal.SIGXCPU:
            raise LimitExceeded(
                f"reading this MIDI file takes more than {self._limits.cpu_s:g} s of computing "
                "(PIANOFARM_MIDI_READER_CPU_S raises the limit)"
            ) from None
        if not may_be_others:
            raise BadMidi(
                f"this MIDI file ended the process that read it, twice ({_how(code)}): it is broken in a way that we do not know, "
                "please report it"
            ) from None

    def _drop(self) -> int:
        """End the child; returns its exit code, that of its own death if it was dead."""
        if self._end is None or self._process is None:
            return 0
        self._end()
        code = self._process.returncode
        self._process = self._end = None
        return code


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child and close its pipes; its own death, if it is dying, comes first."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)
        return
    process.kill()
    process.wait()


def _how(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _send(process: subprocess.Popen[bytes], data: bytes, deadline: float) -> None:
    assert process.stdin is not None  # noqa: S101
    pipe, rest = process.stdin.fileno(), memoryview(data)
    while rest:
        _wait(pipe, select.POLLOUT, deadline)
        try:
            rest = rest[os.write(pipe, rest[:CHUNK_BYTES]) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            raise _Died from None


def _receive(process: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """Kind and content of the next answer."""
    kind, length = ANSWER.unpack(_exactly(process, ANSWER.size, deadline))
    return kind, _exactly(process, length, deadline)


def _exactly(process: subprocess.Popen[bytes], n_bytes: int, deadline: float) -> bytes:
    assert process.stdout is not None  # noqa: S101
    pipe, parts = process.stdout.fileno(), []
    while n_bytes:
        _wait(pipe, select.POLLIN, deadline)
        try:
            part = os.read(pipe, min(n_bytes, CHUNK_BYTES))
        except BlockingIOError:
            continue
        if not part:
            raise _Died
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _wait(pipe: int, what: int, deadline: float) -> None:
    """Until a pipe is ready or broken; what lies in it already is taken, even if we were stopped past the deadline meanwhile.

    Raises:
        TimeoutError: the deadline has passed.
    """
    poll = select.poll()
    poll.register(pipe, what)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _unpacked(answer: bytes) -> Performance:
    """A performance from what `midi_child.packed` made; its digest says whether to believe it (`Workshop`)."""
    n_notes, n_controls, percussion_notes = COUNTS.unpack_from(answer)
    columns, at = {}, COUNTS.size
    for n, names in ((n_notes, NOTE_COLUMNS), (n_controls, CONTROL_COLUMNS)):
        for name, kind in names:
            columns[name] = np.frombuffer(answer, kind, n, at).astype(np.dtype(kind).newbyteorder("="))
            at += columns[name].nbytes
    return Performance(**columns, percussion_notes=percussion_notes)

"""The child process that reads strangers' MIDI: bytes in by standard input, columns out by standard output, under its own limits.

Started by `midi_reader` and by nothing else. It imports numpy and the parser, holds no credentials, and once it has said that it is
ready it can open no file and no socket and start no process. No farm and no array library of a model here.

    request   8 bytes n, big endian; n bytes of MIDI
    answer    1 byte kind; 8 bytes n; n bytes
              R  ready, once at the start        P  a performance, see `packed`
              E  JSON {type, text}: refused       M  memory ran out; the child ends
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

from pianofarm_common.errors import BadMidi, LimitExceeded
from pianofarm_common.midi import MidiLimits, Performance, read_performance

#: Kind and length of an answer.
ANSWER = struct.Struct(">cQ")

#: Length of a request.
REQUEST = struct.Struct(">Q")

#: Notes, controls and percussion notes of a performance; its columns follow.
COUNTS = struct.Struct(">QQQ")

#: The columns of a performance in the order in which they travel, as (field, type); the first five by note, the others by control.
NOTE_COLUMNS = (("onset_s", "<f8"), ("offset_s", "<f8"), ("pitch", "u1"), ("velocity", "u1"), ("note_part", "<u4"))
CONTROL_COLUMNS = (
    ("control_s", "<f8"),
    ("control_number", "u1"),
    ("control_value", "u1"),
    ("control_part", "<u4"),
)

#: Read once before the doors close, because numpy imports parts of itself when they are first used: a tempo, a key struck twice, a
#: pedal, a change of program.
WARM_UP = bytes.fromhex(
    "4d546864 00000006 0000 0001 0060 4d54726b 00000035 00ff510307a120 00903c40 00903c40 60803c00 00c001 00b0407f 00903e40 60803e00"
    "00b04000 00c002 00903e40 60803e00 00ff2f00"
)

#: What reads a file; tests of the limits give one that is hostile itself.
Parser = Callable[[bytes, MidiLimits], Performance]


def packed(performance: Performance) -> bytes:
    """Counts, then the columns as plain numbers: nothing in an answer is code."""
    counts = COUNTS.pack(len(performance.onset_s), len(performance.control_s), performance.percussion_notes)
    columns = (*NOTE_COLUMNS, *CONTROL_COLUMNS)
    return b"".join((counts, *(getattr(performance, name).astype(kind).tobytes() for name, kind in columns)))


def close_doors(memory_bytes: int) -> None:
    """From here on: `memory_bytes` more than now, no new file, socket or process, no core dump; signals to groups do not count."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Where there is no /proc, the system does not keep this limit either (macOS).
    with contextlib.suppress(FileNotFoundError), open("/proc/self/statm", encoding="ascii") as statm:
        _lower(resource.RLIMIT_AS, int(statm.read().split()[0]) * resource.getpagesize() + memory_bytes)
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        _lower(what, 0)
    # Standard input, output and error are open, and stay so.
    _lower(resource.RLIMIT_NOFILE, 3)


def allow_cpu(cpu_s: float) -> None:
    """Let this process compute for this long from now; then the system ends it with SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # Whole seconds only, and never less than asked for. The soft limit alone, because it is raised again for the next file.
    wanted, hard = int(usage.ru_utime + usage.ru_stime + cpu_s) + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard < 0 else min(wanted, hard), hard))


def serve(parse: Parser, arguments: list[str]) -> None:
    """Answer until standard input ends. Args: arguments: JSON of the limits, memory in bytes, CPU time of one file in seconds."""
    limits = MidiLimits(**json.loads(arguments[0]))
    memory_bytes, cpu_s = int(arguments[1]), float(arguments[2])
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(LimitExceeded):  # the limits may allow less than this
        packed(parse(WARM_UP, limits))
    close_doors(memory_bytes)
    _say(answers, b"R", b"")
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        allow_cpu(cpu_s)
        try:
            kind, text = b"P", packed(parse(requests.read(*REQUEST.unpack(head)), limits))
        except MemoryError:
            _say(answers, b"M", b"")
            return
        except BadMidi as error:
            kind, text = b"E", json.dumps({"type": type(error).__name__, "text": str(error)}).encode()
        except Exception as error:
            text = json.dumps(
                {"type": "BadMidi", "text": f"the reader has a fault ({error!r:.200}): report it"}
            ).encode()
            kind = b"E"
        _say(answers, kind, text)


def _lower(what: int, value: int) -> None:
    """Set a limit that this process cannot raise again; a lower one that it was born with stays."""
    hard = resource.getrlimit(what)[1]
    value = value if hard < 0 else min(value, hard)
    resource.setrlimit(what, (value, value))


def _say(answers: BinaryIO, kind: bytes, text: bytes) -> None:
    answers.write(ANSWER.pack(kind, len(text)) + text)
    answers.flush()


if __name__ == "__main__":
    serve(read_performance, sys.argv[1:])

"""The reader of strangers' MIDI: what is hostile ends its child and nothing else."""

import os
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pianofarm_common.errors import BadMidi, BadSettings, LimitExceeded, Transient
from pianofarm_common.midi import MidiLimits, Performance, read_performance
from pianofarm_common.settings import Settings
from pianofarm_worker.midi_reader import RENEW_BYTES, MidiReader, ReaderLimits

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
LIMITS = ReaderLimits.from_settings(Settings())

# A child whose parser does what the bytes say. It is served by the real loop, behind the real limits.
HOSTILE = """
import os, signal, socket, sys, time
from pianofarm_common.errors import BadMidi
from pianofarm_common.midi import read_performance
from pianofarm_worker.midi_child import serve

def tries(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "was allowed"

def parse(data, limits):
    what = data.decode("latin-1")
    if what == "loop":
        while True:
            pass
    if what == "work":
        began = time.process_time()
        while time.process_time() < began + 0.4:
            pass
        raise BadMidi("worked")
    if what == "sleep":
        time.sleep(600)
    if what == "memory":
        held = []
        while True:
            held.append(bytearray(1 << 20))
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "leave":
        os._exit(7)
    if what == "fault":
        raise IndexError("no such index")
    if what == "doors":
        raise BadMidi(", ".join((
            tries(lambda: open("/etc/passwd")), tries(socket.socket), tries(os.fork),
        )))
    if what == "secrets":
        raise BadMidi(" ".join(sorted(os.environ)))
    return read_performance(data, limits)

serve(parse, sys.argv[1:])
"""


def limits(**changed) -> ReaderLimits:
    return ReaderLimits(**({name: getattr(LIMITS, name) for name in LIMITS.__dataclass_fields__} | changed))


@pytest.fixture
def reader():
    reader = MidiReader(LIMITS)
    yield reader
    reader.close()


@pytest.fixture
def hostile():
    """Makes readers with a hostile child; ends them."""
    readers = []

    def make(**changed) -> MidiReader:
        readers.append(MidiReader(limits(**changed), child=(sys.executable, "-P", "-c", HOSTILE)))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


def music() -> bytes:
    return (EXAMPLES / "pedal-study.mid").read_bytes()


def pid(reader: MidiReader) -> int:
    assert reader._process is not None
    return reader._process.pid


def columns(performance: Performance) -> dict[str, object]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in ((name, getattr(performance, name)) for name in performance.__dataclass_fields__)
    }


def test_what_the_child_reads_is_what_this_process_reads_to_the_last_bit(reader):
    for file in sorted(EXAMPLES.glob("*.mid")):
        data = file.read_bytes()
        ours, expected = reader.read(data), read_performance(data, LIMITS.midi)
        assert columns(ours) == columns(expected), file.name
        assert {name: getattr(ours, name).dtype for name in ("onset_s", "pitch", "note_part", "control_part")} == {
            name: getattr(expected, name).dtype for name in ("onset_s", "pitch", "note_part", "control_part")
        }
        assert ours.sha256 == expected.sha256


def test_every_odd_file_is_read_or_refused_as_in_this_process(reader, shared):
    files = [
        *sorted((shared / "midi" / "malformed").glob("*.mid")),
        *sorted((shared / "midi" / "pieces").glob("*.mid")),
    ]
    assert len(files) >= 40
    for file in files:
        data = file.read_bytes()
        try:
            expected = read_performance(data, LIMITS.midi).sha256
        except BadMidi as error:
            with pytest.raises(type(error)) as refusal:
                reader.read(data)
            assert str(refusal.value) == str(error), file.name
        else:
            assert reader.read(data).sha256 == expected, file.name


def test_one_child_reads_many_files_and_a_refusal_does_not_end_it(reader):
    reader.read(music())
    first = pid(reader)
    with pytest.raises(BadMidi, match="byte 0: b'RIFF'"):
        reader.read(b"RIFF and so on, no MIDI at all")
    assert len(reader.read(music()).pitch) > 0
    assert pid(reader) == first


def test_a_limit_of_the_parser_is_reported_as_one():
    reader = MidiReader(limits(midi=MidiLimits(max_bytes=10_000, max_duration_s=7200.0, max_notes=3, max_tracks=9)))
    with pytest.raises(LimitExceeded, match="PIANOFARM_MIDI_MAX_NOTES"):
        reader.read(music())
    with pytest.raises(LimitExceeded, match="PIANOFARM_MIDI_MAX_BYTES"):
        reader.read(b"x" * 10_001)
    reader.close()


def test_a_file_that_loops_costs_its_cpu_time_and_the_next_one_is_read(hostile):
    reader = hostile(cpu_s=0.5)
    with pytest.raises(LimitExceeded, match=r"more than 0.5 s of computing \(PIANOFARM_MIDI_READER_CPU_S"):
        reader.read(b"loop")
    assert len(reader.read(music()).pitch) > 0


def test_many_small_files_do_not_add_up_to_the_cpu_time_of_one(hostile):
    reader = hostile(cpu_s=0.5)
    reader.read(music())
    first = pid(reader)
    for _ in range(4):
        with pytest.raises(BadMidi, match="worked"):
            reader.read(b"work")
    assert pid(reader) == first


def test_a_file_that_eats_memory_is_refused_by_the_name_of_the_setting(hostile):
    reader = hostile(memory_bytes=1 << 26)
    with pytest.raises(LimitExceeded, match=r"67108864 bytes of memory.*PIANOFARM_MIDI_READER_MEMORY_BYTES"):
        reader.read(b"memory")
    assert len(reader.read(music()).pitch) > 0


def test_a_file_that_crashes_the_child_twice_is_at_fault(hostile):
    reader = hostile()
    with pytest.raises(BadMidi, match=r"ended the process that read it, twice \(SIGSEGV\)"):
        reader.read(b"crash")
    with pytest.raises(BadMidi, match=r"twice \(exit code 7\)"):
        reader.read(b"leave")
    assert len(reader.read(music()).pitch) > 0


def test_a_child_that_others_killed_costs_the_file_nothing(reader):
    reader.read(music())
    os.kill(pid(reader), 9)
    assert len(reader.read(music()).pitch) > 0


def test_a_child_that_computes_nothing_and_answers_nothing_is_given_up_and_the_file_tried_again_later(hostile):
    reader = hostile(wall_s=0.5)
    reader.read(music())
    first = pid(reader)
    with pytest.raises(Transient, match="PIANOFARM_MIDI_READER_WALL_S"):
        reader.read(b"sleep")
    assert not Path(f"/proc/{first}").exists()


def test_a_fault_of_the_parser_is_the_end_of_the_file_and_not_of_the_child(hostile):
    reader = hostile()
    with pytest.raises(BadMidi, match=r"the reader has a fault \(IndexError\('no such index'\)\)"):
        reader.read(b"fault")
    assert len(reader.read(music()).pitch) > 0


def test_a_child_can_open_no_file_and_no_socket_and_start_no_process(hostile):
    with pytest.raises(BadMidi) as refusal:
        hostile().read(b"doors")
    opened, connected, forked = str(refusal.value).split(", ")
    assert (opened, connected) == ("OSError", "OSError")
    if os.geteuid() != 0:  # the system lets root have any number of processes
        assert forked == "BlockingIOError"


def test_a_child_inherits_no_secret(hostile, monkeypatch):
    monkeypatch.setenv("PIANOFARM_S3_SECRET_KEY", "do-not-tell")
    with pytest.raises(BadMidi) as refusal:
        hostile().read(b"secrets")
    assert "PATH" in str(refusal.value)
    assert "PIANOFARM" not in str(refusal.value)


def test_a_large_file_is_read_whole_and_its_child_is_replaced(reader):
    events = b"\x00\x90\x3c\x40\x60\x80\x3c\x00\x00\xb0\x40\x01" + b"\x00\x40\x01" * (RENEW_BYTES // 3)
    end = b"\x00\xff\x2f\x00"
    data = struct.pack(">4sLHHh4sL", b"MThd", 6, 0, 1, 96, b"MTrk", len(events) + len(end)) + events + end
    reader.start()
    first = pid(reader)
    assert len(reader.read(data).control_s) == RENEW_BYTES // 3 + 1
    assert pid(reader) != first


def test_a_child_that_cannot_start_is_a_fault_of_this_worker():
    reader = MidiReader(LIMITS, child=(sys.executable, "-c", "import no_such_module"))
    with pytest.raises(BadSettings, match=r"does not start \(exit code 1\)"):
        reader.read(music())
    reader.close()


def test_a_child_ends_with_its_reader():
    reader = MidiReader(LIMITS)
    reader.read(music())
    child = pid(reader)
    del reader
    end = time.monotonic() + 60
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_reader_needs_no_array_library():
    import subprocess

    code = "import sys, pianofarm_worker.midi_child as c; sys.exit(any(m in sys.modules for m in ('tensorflow', 'jax', 'boto3', 'redis')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Coverage-guided fuzzing of the reader of MIDI bytes, by atheris: `make fuzz-midi`. Nothing that pytest collects lives here.

Whatever bytes come must be a performance with the properties that its users rely on, or a BadMidi of one line; anything else is a
finding, which atheris writes beside the corpus and which then becomes a test in tests/unit/common/test_midi.py.

    midi_bytes.py seed FOLDER                fill a corpus with the examples and with generated files
    midi_bytes.py fuzz FOLDER SECONDS        fuzz in rounds; ends at the first finding
    midi_bytes.py round FOLDER [options]     one round, with libFuzzer's options
    midi_bytes.py replay FOLDER              read every file of a corpus once, which `coverage` can watch
"""

import re
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve()
REPOSITORY = HERE.parents[2]
sys.path[:0] = [str(REPOSITORY / "common"), str(REPOSITORY / "tests" / "unit" / "common")]

#: Generated files in a new corpus: overlapping notes, shared pedals, running status, tempo changes (`test_midi_fuzz.any_file`).
N_GENERATED = 300

#: Length of a round. A process fuzzed by atheris 3.0 grows by some 18 KB an input, the same reader without it does not grow.
ROUND_S = 180


def seed(folder: Path) -> None:
    from test_midi_fuzz import any_file

    folder.mkdir(parents=True, exist_ok=True)
    for file in (REPOSITORY / "examples").glob("*.mid"):
        (folder / file.name).write_bytes(file.read_bytes())
    for number in range(N_GENERATED):
        (folder / f"generated-{number}.mid").write_bytes(any_file(number))


def mended(data: bytes) -> bytes:
    """The same bytes, with a header that says how many tracks follow and lengths that reach to the next track.

    With wrong ones nothing behind them is read.
    """
    body = data[14:]
    tracks = body.split(b"MTrk")
    chunks = [b"MTrk" + struct.pack(">L", len(track) - 4) + track[4:] for track in tracks[1:] if len(track) >= 4]
    division = data[12:14].ljust(2, b"\x60")
    kind = b"\0" + bytes([data[9] & 1]) if len(data) > 9 else b"\0\1"
    return b"MThd\0\0\0\6" + kind + struct.pack(">H", len(chunks)) + division + b"".join(chunks)


def one_round(arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(
        include=["pianofarm_common.smf", "pianofarm_common.parts", "pianofarm_common.midi", "pianofarm_common.clock"]
    ):
        from test_midi_fuzz import read_or_refuse

    def one_input(data: bytes) -> None:
        for file in (data, mended(data)):
            first = read_or_refuse(file)
            if first is not None:
                again = read_or_refuse(file)
                assert again is not None
                assert again.sha256 == first.sha256

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def fuzz(folder: Path, seconds: int) -> int:
    findings = folder.parent / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    end, n_inputs = time.monotonic() + seconds, 0
    while (left_s := end - time.monotonic()) > 1:
        options = {
            "max_total_time": round(min(ROUND_S, left_s)),
            "max_len": 16384,
            "timeout": 20,
            "rss_limit_mb": 2048,
            "artifact_prefix": f"{findings}/",
        }
        argv = [
            sys.executable,
            __file__,
            "round",
            str(folder),
            *(f"-{name}={value}" for name, value in options.items()),
        ]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, errors="replace")
        ran = re.search(r"Done (\d+) runs in", done.stderr)
        if done.returncode or ran is None:
            print(done.stdout[-2000:], done.stderr[-4000:], sep="\n")
            print(f"after {n_inputs} inputs a finding: {findings}")
            return 1
        n_inputs += int(ran[1])
        *_, last = (line for line in done.stderr.splitlines() if "cov:" in line)
        print(f"{n_inputs} inputs, {seconds - end + time.monotonic():.0f} s, no finding; {last.strip()}", flush=True)
    return 0


def replay(folder: Path) -> None:
    from test_midi_fuzz import read_or_refuse

    data = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
    inputs = [form for file in data for form in (file, mended(file))]
    read = sum(read_or_refuse(form) is not None for form in inputs)
    print(f"{len(inputs)} inputs, {read} of them read and the others refused")


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    if command == "fuzz":
        sys.exit(fuzz(Path(rest[0]), int(rest[1])))
    if command == "round":
        one_round(rest)
    else:
        {"seed": seed, "replay": replay}[command](Path(rest[0]))

"""The example pieces: what is committed is what the script writes, and every piece can be read."""

import subprocess
import sys
from pathlib import Path

import pytest

from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_worker.synth.published.conditioning import conditioning

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
LIMITS = MidiLimits(max_bytes=100_000, max_duration_s=60.0, max_notes=10_000, max_tracks=16)


def test_the_committed_pieces_are_what_the_script_writes(tmp_path):
    subprocess.run([sys.executable, EXAMPLES / "make_examples.py", tmp_path], check=True)
    committed = {file.name: file.read_bytes() for file in EXAMPLES.glob("*.mid")}
    assert len(committed) == 4
    assert {file.name: file.read_bytes() for file in tmp_path.glob("*.mid")} == committed


@pytest.mark.parametrize(
    ("name", "voices", "controls"),
    [
        ("bach-prelude-bwv846-opening", 6, {64}),
        ("pedal-study", 8, {64, 66, 67}),
        ("dense-study", 16, {64}),
        ("velocity-ladder", 4, set()),
    ],
)
def test_a_piece_lasts_less_than_a_minute_and_asks_what_its_readme_says(name, voices, controls):
    played = read_performance((EXAMPLES / f"{name}.mid").read_bytes(), LIMITS)
    made = conditioning(played)
    assert 10.0 < played.duration_s < 45.0
    assert set(played.control_number.tolist()) == controls
    assert int((made.notes[..., 0] > 0).sum(axis=1).max()) == voices
    assert (made.dropped_notes > 0) == (name == "dense-study")

"""What a published piano promises as a `Piano`: options, determinism, bounded memory, errors. Needs no reference material."""

import os
import subprocess
import sys

import numpy as np
import pytest

from pianofarm_common.errors import BadModel, BadOption, Cancelled
from pianofarm_common.midi import Performance
from pianofarm_common.models import read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.piano import BatchRequest
from pianofarm_worker.synth.published.configs import DAFX22
from pianofarm_worker.synth.published.release import extend_pitch

from .conftest import random_weights

RATE = 16_000


@pytest.fixture(scope="module")
def piano(small_model):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    return PublishedPiano(small_model)


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """A model of the size of the published ones. Libraries choose the program of a product by its size."""
    from pianofarm_worker.synth.published.checkpoints import write_model

    return write_model(tmp_path_factory.mktemp("full") / "full", "full", DAFX22, random_weights(DAFX22))


def performance(n_notes=12, spacing_s=0.2, chord=1):
    onset_s = np.repeat(0.1 + spacing_s * np.arange(n_notes), chord)
    pitch = (40 + 3 * np.arange(n_notes * chord) % 50).astype(np.uint8)
    return Performance(
        onset_s=onset_s,
        offset_s=onset_s + 0.35,
        pitch=pitch,
        velocity=np.full(len(pitch), 80, np.uint8),
        control_s=np.array([0.5, 1.0]),
        control_number=np.array([64, 64], np.uint8),
        control_value=np.array([127, 0], np.uint8),
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_noise(piano):
    options = RenderOptions(dry=True)
    first = piano.render(performance(), options, seed=1)
    again = piano.render(performance(), options, seed=1)
    other = piano.render(performance(), options, seed=2)
    assert first.wet.tobytes() == again.wet.tobytes()
    assert first.dry.tobytes() == again.dry.tobytes()
    assert first.dry.tobytes() != other.dry.tobytes()


@pytest.mark.parametrize("chunk_frames", [100, 333])
def test_the_bytes_do_not_depend_on_the_size_of_the_chunks(piano, small_model, chunk_frames):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    cut_otherwise = PublishedPiano(small_model, chunk_frames=chunk_frames)
    whole, cut = (p.render(performance(), RenderOptions(dry=True), seed=5) for p in (piano, cut_otherwise))
    assert whole.dry.tobytes() == cut.dry.tobytes()
    assert whole.wet.tobytes() == cut.wet.tobytes()


def test_chunks_so_short_that_they_would_change_the_bytes_are_refused(small_model):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    with pytest.raises(BadOption, match="chunk_frames=50: at least 100"):
        PublishedPiano(small_model, chunk_frames=50)


def test_at_the_size_of_a_published_model_neither_chunks_nor_threads_change_the_bytes(full_size):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    notes, pedal = np.zeros((370, 16, 2), np.float32), np.zeros((370, 4), np.float32)
    for voice in range(16):
        notes[10 + voice :, voice] = 40 + 3 * voice, 0.0
        notes[10 + voice, voice, 1] = 0.6
    _, expected = PublishedPiano(full_size, batch_size=1).synthesize(notes, pedal, seed=1)
    assert np.abs(expected).max() > 1e-4
    for otherwise in ({"chunk_frames": 100}, {"n_threads": 16, "chunk_frames": 333}):
        _, wet = PublishedPiano(full_size, batch_size=1, **otherwise).synthesize(notes, pedal, seed=1)
        assert wet.tobytes() == expected.tobytes()


def test_at_the_size_of_a_published_model_neighbours_and_places_do_not_change_the_bytes(full_size):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    piano = PublishedPiano(full_size, batch_size=2)
    options = RenderOptions(warm_up_s=0.1, tail=False)
    requests = [BatchRequest(performance(n_notes, chord=4), options, seed=n_notes) for n_notes in (7, 2)]
    alone = [piano.render(r.performance, r.options, seed=r.seed).wet for r in requests]
    assert len(alone[0]) > len(alone[1])
    assert min(np.abs(wet).max() for wet in alone) > 1e-4
    for order in ((0, 1), (1, 0)):
        together = piano.render_batch([requests[i] for i in order])
        assert [r.wet.tobytes() for r in together] == [alone[i].tobytes() for i in order]


def test_the_bytes_do_not_depend_on_the_number_of_threads(piano, small_model):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    alone = piano.render(performance(), RenderOptions(), seed=5)
    for n_threads in (2, 3, 16):  # 16: as many as voices
        shared = PublishedPiano(small_model, n_threads=n_threads).render(performance(), RenderOptions(), seed=5)
        assert alone.wet.tobytes() == shared.wet.tobytes()


def test_a_dry_sound_nobody_needs_is_not_kept(piano):
    asked, not_asked, half_a_room = (
        piano.render(performance(), RenderOptions(**options), seed=1) for options in ({"dry": True}, {}, {"room": 0.5})
    )
    assert not_asked.dry.shape == (0, 1)
    assert not_asked.wet.tobytes() == asked.wet.tobytes()
    assert half_a_room.dry.tobytes() == asked.dry.tobytes()


def test_the_tail_follows_the_music_and_changes_nothing_before_it(piano):
    with_tail, without = (
        piano.render(performance(), RenderOptions(tail=tail, dry=True), seed=1) for tail in (True, False)
    )
    n = len(without.wet)
    hop = RATE // 250
    assert n == 3 * RATE  # the last note ends at 2.65 s
    assert len(with_tail.wet) > n
    np.testing.assert_allclose(with_tail.dry[: n - hop], without.dry[: n - hop], atol=1e-6)
    np.testing.assert_allclose(with_tail.wet[: n - hop], without.wet[: n - hop], atol=1e-6)


def test_the_warm_up_is_rendered_but_not_given(piano):
    short = piano.render(performance(), RenderOptions(warm_up_s=0.0, tail=False), seed=1)
    long = piano.render(performance(), RenderOptions(warm_up_s=1.0, tail=False), seed=1)
    assert short.wet.shape == long.wet.shape == (3 * RATE, 1)


def test_a_duration_cuts_the_performance_and_never_prolongs_it(piano):
    """As the gates expect of every model."""
    cut = piano.render(performance(), RenderOptions(duration_s=1.5, tail=False), seed=1)
    whole = piano.render(performance(), RenderOptions(tail=False), seed=1)
    longer = piano.render(performance(), RenderOptions(duration_s=40.0, tail=False), seed=1)
    assert len(cut.wet) == 1.5 * RATE
    assert longer.wet.tobytes() == whole.wet.tobytes()


def test_audio_is_finite_not_silent_and_float32(piano):
    rendering = piano.render(performance(), RenderOptions(dry=True), seed=1)
    for audio in (rendering.wet, rendering.dry):
        assert audio.dtype == np.float32
        assert np.isfinite(audio).all()
        assert np.abs(audio).max() > 1e-4


def test_notes_past_the_sixteenth_at_a_time_are_reported(piano):
    rendering = piano.render(performance(n_notes=1, chord=20), RenderOptions(), seed=1)
    assert rendering.notes == 20
    assert rendering.dropped_notes == 4


def test_no_notes_give_no_music(piano):
    empty = np.zeros(0)
    silence = Performance(
        empty,
        empty,
        empty.astype(np.uint8),
        empty.astype(np.uint8),
        empty,
        empty.astype(np.uint8),
        empty.astype(np.uint8),
    )
    assert len(piano.render(silence, RenderOptions(tail=False), seed=1).wet) == 0
    assert np.isfinite(piano.render(silence, RenderOptions(duration_s=0.5), seed=1).wet).all()


def test_pianos_of_a_model_differ_and_an_unknown_one_is_refused(piano):
    first = piano.render(performance(), RenderOptions(piano=0), seed=1)
    second = piano.render(performance(), RenderOptions(piano=1), seed=1)
    default = piano.render(performance(), RenderOptions(), seed=1)
    assert not np.array_equal(first.wet, second.wet)
    assert np.array_equal(second.wet, default.wet)
    with pytest.raises(BadOption, match="piano=2: small has 2"):
        piano.render(performance(), RenderOptions(piano=2), seed=1)


def test_progress_goes_from_0_to_1_and_may_stop_the_render(piano, small_model):
    parts = []
    piano.render(performance(spacing_s=0.95), RenderOptions(), seed=1, progress=parts.append)
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert len(parts) > 6

    def stop(part):
        if part > 0.5:
            raise Cancelled("nobody waits for it")

    from pianofarm_worker.synth.published.piano import PublishedPiano

    for n_threads in (1, 2):
        with pytest.raises(Cancelled):
            PublishedPiano(small_model, n_threads=n_threads).render(
                performance(), RenderOptions(), seed=1, progress=stop
            )


def test_damaged_weights_are_named(small_model, tmp_path):
    import shutil

    from safetensors.numpy import load_file, save_file

    from pianofarm_worker.synth.published.piano import PublishedPiano

    folder = tmp_path / "damaged"
    shutil.copytree(small_model.path, folder)
    weights = load_file(folder / "model.safetensors")
    weights["mono/gru/kernel"] = weights["mono/gru/kernel"][:, :-1].copy()
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(BadModel, match=r"mono/gru/kernel should be float32 \[16, 48\], is float32 \[16, 47\]"):
        PublishedPiano(read_model(folder))

    (folder / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(BadModel, match="import the checkpoint again"):
        PublishedPiano(read_model(folder))


def test_a_released_pitch_is_held_for_the_release_and_a_frame():
    pitch = np.zeros((40, 2), np.float32)
    pitch[3:5, 0] = 60
    pitch[10:12, 0] = 62
    pitch[20:22, 1] = 70
    held = extend_pitch(pitch, 0.04, 250)  # 10 frames
    assert held[:, 0].tolist() == [0] * 3 + [60] * 7 + [62] * (2 + 11) + [0] * 17
    assert held[:, 1].tolist() == [0] * 20 + [70] * (2 + 11) + [0] * 7


def test_a_release_goes_on_from_one_block_of_frames_to_the_next(monkeypatch):
    random = np.random.default_rng(3)
    pitch = np.repeat(random.integers(21, 109, (60, 4)) * (random.random((60, 4)) < 0.3), 7, axis=0)
    whole = extend_pitch(pitch, 0.04, 250)
    monkeypatch.setattr("pianofarm_worker.synth.published.release._BLOCK_FRAMES", 5)
    assert (extend_pitch(pitch, 0.04, 250) == whole).all()
    assert (extend_pitch(pitch.astype(np.float32), 0.04, 250) == whole).all()
    assert np.count_nonzero(whole) > np.count_nonzero(pitch)


def test_a_piece_that_lies_in_files_gives_the_same_bytes(piano, monkeypatch):
    """Long arrays are kept in files; here all of them are."""
    from pianofarm_worker.audio import encode, trimmed, with_room
    from pianofarm_worker.quality import block_levels_dbfs
    from pianofarm_worker.synth import long_arrays

    def files():
        found = []
        for room, levels in ((1.0, {}), (0.5, {"normalize_dbfs": -3.0}), (1.0, {"normalize_lufs": -20.0})):
            options = RenderOptions(room=room, dry=True, **levels)
            rendering = trimmed(with_room(piano.render(performance(), options, seed=3), room), keep_s=0.5)
            in_files.append(long_arrays.is_in_file(rendering.wet))
            for stem in (rendering.wet, rendering.dry):
                found.append(encode(stem, rendering.sample_rate_hz, options))
                assert b"".join(found[-1].parts()) == found[-1].data
            found.append(block_levels_dbfs(rendering.wet, rendering.sample_rate_hz).tolist())
        return found

    in_files = []
    in_memory = files()
    monkeypatch.setattr(long_arrays, "MEMORY_BYTES", 0)
    monkeypatch.setattr(long_arrays, "_PART_BYTES", 30_000)
    assert files() == in_memory
    assert in_files == [False] * 3 + [True] * 3


#: Renders n seconds, then twenty minutes from performance to file, and prints the peak of the process' memory in MB after each.
MEMORY = """
import re, sys
import numpy as np
from pathlib import Path
from pianofarm_worker.synth import backend
backend.choose(sys.argv[2])
from pianofarm_common.models import read_model
from pianofarm_worker.synth.published.piano import PublishedPiano
piano = PublishedPiano(read_model(Path(sys.argv[1])))
def print_peak():
    # Not getrusage: its peak counts what the parent held when it forked.
    print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)

for seconds in (20, 120, 600):
    notes, pedal = np.zeros((250 * seconds, 16, 2), np.float32), np.zeros((250 * seconds, 4), np.float32)
    notes[:, :4, 0] = 60 + np.arange(4)
    n = sum(len(block.wet) for block in piano.blocks(notes, pedal, seed=1))
    assert n == 16000 * seconds
    print_peak()

from pianofarm_common.midi import Performance
from pianofarm_common.renders import RenderOptions
from pianofarm_worker.audio import encode, trimmed
from pianofarm_worker.quality import block_levels_dbfs
onset_s = np.arange(0, 1200, 0.5)
pitch = (40 + np.arange(len(onset_s)) % 40).astype(np.uint8)
performance = Performance(
    onset_s=onset_s,
    offset_s=onset_s + 0.4,
    pitch=pitch,
    velocity=np.full(len(pitch), 80, np.uint8),
    note_part=np.zeros(len(pitch), np.uint8),
    control_s=np.zeros(0),
    control_number=np.zeros(0, np.uint8),
    control_value=np.zeros(0, np.uint8),
    control_part=np.zeros(0, np.uint8),
)
rendering = trimmed(piano.render(performance, RenderOptions(), seed=1), keep_s=1200)
assert block_levels_dbfs(rendering.wet, 16000).max() > -100
assert sum(len(part) for part in encode(rendering.wet, 16000, RenderOptions()).parts()) > 2 * 16000 * 1200
print_peak()
"""


def test_a_long_piece_needs_hardly_more_memory_than_a_short_one(small_model, chosen_backend):
    command = [sys.executable, "-c", MEMORY, str(small_model.path), chosen_backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": "/tmp"})
    assert done.returncode == 0, done.stderr
    _, two_minutes_mb, ten_minutes_mb, whole_mb = (int(line) for line in done.stdout.split())
    # Ten minutes of conditioning are 22 MB; of audio it would be 77 MB, of raw controls 139 MB.
    assert ten_minutes_mb - two_minutes_mb < 60
    # Twenty minutes of sound are 73 MB, dry as much, of conditioning 43 MB, of context 37 MB, the file is 37 MB.
    assert whole_mb - ten_minutes_mb < 60
    # MiB; 950 are 996 MB, and 1 GB is what a worker may need. Measured: 762 with TensorFlow, 449 with JAX, Numba in both.
    assert ten_minutes_mb < 950

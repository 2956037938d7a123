"""`pianofarm train pairs`: recordings with MIDI, good and bad, to models of the published architectures, made small."""

import csv
import dataclasses
import importlib
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pianofarm.cli import run as run_command
from pianofarm_common.errors import BadMidi, BadOption, NotFound
from pianofarm_common.midi import MidiLimits, Performance, read_performance, to_pretty_midi
from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR, read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_common.settings import Settings
from pianofarm_training.alignment import lag, transposition
from pianofarm_training.excerpts import ExcerptSource, prepare
from pianofarm_training.naming import Naming, Recipe
from pianofarm_training.pair_checks import check_pairs
from pianofarm_training.pair_data import checked_pairs
from pianofarm_training.pairs import find_pairs, pianos
from pianofarm_training.tuning import Tuning, equal_tempered_hz, typical_inharmonicity
from pianofarm_worker.synth.published.configs import DAFX22, MAESTRO_V2, Context, Monophonic, PublishedConfig

LIMITS = MidiLimits.from_settings(Settings())
RATE_HZ = 24_000

#: dafx22 and v2 made small: the same parts, a hundredth of the work.
SMALL = dataclasses.replace(
    DAFX22,
    context=Context(kind="polyphonic", n_dense=8, n_gru=8, n_out=8, pitch_divisor=1.0),
    monophonic=Monophonic(kind="dense", n_dense=16, n_gru=16, n_layers=1, normalize=True),
    synthesis=dataclasses.replace(DAFX22.synthesis, n_partials=10, n_noise_bands=16),
    reverb=dataclasses.replace(DAFX22.reverb, n_samples=2000),
)
SMALL_V2 = dataclasses.replace(
    MAESTRO_V2,
    n_embedding=8,
    context=Context(kind="film", n_dense=8, n_gru=8, n_out=8, pitch_divisor=128.0),
    monophonic=Monophonic(kind="stacks", n_dense=16, n_gru=16, n_layers=2, normalize=False),
    synthesis=dataclasses.replace(MAESTRO_V2.synthesis, n_partials=10, n_noise_bands=16),
)


def melody(seed: int, n_notes: int = 24) -> Performance:
    """One note after the other, at uneven times."""
    random = np.random.default_rng(seed)
    onset_s = 0.3 + np.cumsum(random.uniform(0.12, 0.4, n_notes))
    nothing = np.zeros(0, np.uint8)
    return Performance(
        onset_s,
        onset_s + 0.3,
        random.integers(50, 80, n_notes).astype(np.uint8),
        random.integers(40, 110, n_notes).astype(np.uint8),
        np.zeros(0),
        nothing,
        nothing,
    )


def played(performance: Performance) -> np.ndarray:
    """A made-up piano's recording of a performance, two channels."""
    n = int((performance.duration_s + 0.5) * RATE_HZ)
    sound = np.zeros(n)
    for onset_s, pitch, velocity in zip(performance.onset_s, performance.pitch, performance.velocity, strict=True):
        at = round(float(onset_s) * RATE_HZ)
        time_s = np.arange(min(n - at, RATE_HZ)) / RATE_HZ
        law = Tuning(equal_tempered_hz(int(pitch)), typical_inharmonicity(int(pitch)))
        for k, hz in enumerate(law.partials_hz(8), 1):
            level = 0.1 * (int(velocity) / 127) * 0.6**k
            sound[at : at + len(time_s)] += level * np.sin(2 * np.pi * hz * time_s) * np.exp(-5 * time_s)
    return np.stack([sound, 0.5 * sound], axis=1)


def record(folder: Path, stem: str, seed: int) -> None:
    performance = melody(seed)
    folder.mkdir(parents=True, exist_ok=True)
    to_pretty_midi(performance).write(str(folder / f"{stem}.mid"))
    soundfile.write(folder / f"{stem}.wav", played(performance), RATE_HZ, subtype="PCM_16")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """Five pairs of files of the same name."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(5):
        record(folder, f"take{number}", number)
    return folder


@pytest.fixture
def copy(recordings, tmp_path) -> Path:
    """The same, to be spoiled."""
    return Path(shutil.copytree(recordings, tmp_path / "recordings"))


def check(folder: Path, shortest_s: float = 1.0) -> dict[str, set[str]]:
    """Kinds of problems, and the files that have them."""
    found, problems = find_pairs(folder)
    problems += check_pairs(found, LIMITS, lowest_rate_hz=16_000, shortest_s=shortest_s)
    by_kind: dict[str, set[str]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, set()).add(problem.path.name)
    return by_kind


def test_files_of_the_same_name_are_pairs_and_every_fifth_is_held_out(recordings):
    found = checked_pairs(recordings, LIMITS, lowest_rate_hz=16_000, shortest_s=1.0)

    assert [(p.audio.name, p.midi.name, p.held_out) for p in found] == [
        (f"take{number}.wav", f"take{number}.mid", number == 4) for number in range(5)
    ]


def test_a_table_in_the_layout_of_maestro_says_split_and_piano(copy):
    with (copy / "maestro.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["canonical_title", "split", "year", "midi_filename", "audio_filename", "duration"])
        for number, (split, year) in enumerate((("train", 2006), ("validation", 2004), ("test", 2006))):
            table.writerow(["A piece", split, year, f"take{number}.mid", f"take{number}.wav", 9.0])
        table.writerow(["Another", "train", 2004, "gone.mid", "take3.wav", 9.0])
    found, problems = find_pairs(copy)

    assert [(p.audio.name, p.piano, p.held_out) for p in found] == [
        ("take0.wav", "2006", False),
        ("take1.wav", "2004", True),
        ("take2.wav", "2006", True),
    ]
    assert pianos(found) == ["2004", "2006"]
    assert [(p.path.name, p.kind, p.found) for p in problems] == [("gone.mid", "missing", "line 5 of maestro.csv")]


def test_everything_that_is_wrong_with_pairs_is_listed_at_once(copy):
    good, rate_hz = soundfile.read(copy / "take0.wav")
    (copy / "take0.mid").write_bytes(b"MThd but no more")
    soundfile.write(copy / "take1.wav", good[::2], rate_hz // 2)
    soundfile.write(copy / "take2.wav", np.zeros_like(good), rate_hz)
    soundfile.write(copy / "take3.wav", good[: rate_hz // 2], rate_hz)
    (copy / "take4.wav").write_bytes(b"no sound")
    record(copy, "loud", 10)
    soundfile.write(copy / "loud.wav", np.clip(20 * played(melody(10)), -0.9, 0.9), rate_hz, subtype="PCM_16")
    record(copy, "late", 11)
    soundfile.write(copy / "late.wav", np.concatenate([np.zeros((rate_hz // 4, 2)), played(melody(11))]), rate_hz)
    record(copy, "other", 12)
    shutil.copy(copy / "other.wav", copy / "alone.wav")
    shutil.copy(copy / "other.wav", copy / "other.flac")
    higher = melody(12)
    raised = dataclasses.replace(higher, pitch=(higher.pitch + 1).astype(np.uint8))
    to_pretty_midi(raised).write(str(copy / "other.mid"))

    found = check(copy)
    assert found.pop("rate") == {"take1.wav"}
    assert found.pop("unreadable") == {"take0.mid", "take4.wav"}
    assert found.pop("silent") == {"take2.wav"}
    assert found.pop("short") == {"take3.wav"}
    assert found.pop("clipped") == {"loud.wav"}
    assert "late.wav" in found.pop("delay")
    assert found.pop("pitch") & {"other.wav", "other.flac"}
    assert found.pop("missing") == {"alone.wav"}
    assert found.pop("doubled") == {"other.wav"}


def problems_of(folder: Path, *, first_channel: bool = False) -> list[tuple[str, str, str]]:
    """File, kind and finding of each problem."""
    found, problems = find_pairs(folder)
    problems += check_pairs(found, LIMITS, lowest_rate_hz=16_000, shortest_s=1.0, first_channel=first_channel)
    return [(problem.path.name, problem.kind, problem.found) for problem in problems]


def test_recordings_with_each_others_midi_are_found_every_one(copy):
    for number in range(5):
        to_pretty_midi(melody((number + 1) % 5)).write(str(copy / f"take{number}.mid"))

    assert check(copy) == {"match": {f"take{number}.mid" for number in range(5)}}


def test_sound_that_goes_on_long_after_the_midi_is_found_and_silence_is_not(copy):
    sound = played(melody(0))
    silence = np.zeros((20 * RATE_HZ, 2))
    soundfile.write(copy / "take0.wav", np.concatenate([sound, silence]), RATE_HZ)
    soundfile.write(copy / "take1.wav", np.concatenate([played(melody(1)), silence, sound]), RATE_HZ)

    (problem,) = problems_of(copy)
    lasts_s, sound_s = melody(1).duration_s, (len(played(melody(1))) + len(silence) + len(sound)) / RATE_HZ
    assert problem == ("take1.mid", "length", f"MIDI lasts {lasts_s:.1f} s, sound {sound_s:.1f} s")


def test_a_long_delay_is_a_delay_and_no_transposition(copy):
    late = np.concatenate([np.zeros((3 * RATE_HZ, 2)), played(melody(0))])
    soundfile.write(copy / "take0.wav", late, RATE_HZ)

    ((file, kind, found),) = problems_of(copy)
    assert (file, kind) == ("take0.wav", "delay")
    assert float(found.removeprefix("sound ").removesuffix(" s late")) == pytest.approx(3.0, abs=0.021)


def test_a_dead_channel_counts_where_it_is_trained_on(copy):
    soundfile.write(copy / "take0.wav", played(melody(0)) * [0, 1], RATE_HZ)
    soundfile.write(copy / "take1.wav", played(melody(1)) * [1, 0], RATE_HZ)
    left, right = (
        (f"take{number}.wav", "silent", f"{side} channel: peak -120 dB full scale")
        for number, side in enumerate(("left", "right"))
    )

    assert problems_of(copy) == [left, right]
    assert problems_of(copy, first_channel=True) == [left]


@pytest.mark.parametrize("late_s", [-0.3, 0.0, 0.5, 10.0])
def test_a_delay_is_measured(late_s):
    performance = melody(20)
    sound = played(performance)
    n = round(abs(late_s) * RATE_HZ)
    sound = sound[n:] if late_s < 0 else np.concatenate([np.zeros((n, 2)), sound])

    assert lag(performance.onset_s, performance.velocity, sound.astype(np.float32), RATE_HZ) == pytest.approx(
        late_s, abs=0.021
    )


@pytest.mark.parametrize("higher", [-12, -10, -4, -3, -1, 0, 1, 6, 8, 9, 12])
def test_a_transposition_is_measured(higher):
    performance = melody(21)
    sound = played(performance).astype(np.float32)

    assert transposition(performance.onset_s, performance.pitch.astype(int) - higher, sound, RATE_HZ) == higher


def test_folders_without_recordings_are_named(tmp_path):
    with pytest.raises(NotFound, match="holds no recordings"):
        find_pairs(tmp_path)
    with pytest.raises(NotFound, match="is no folder"):
        find_pairs(tmp_path / "nowhere")


def test_excerpts_depend_on_seed_and_step_alone_and_sound_goes_with_its_notes(recordings, tmp_path):
    found, _ = find_pairs(recordings)
    pieces = prepare(found, [""], SMALL, 1.0, LIMITS, tmp_path)
    again = prepare(found, [""], SMALL, 1.0, LIMITS, tmp_path)
    first, second, other = (
        ExcerptSource(p, SMALL.hop, 100, seed).at_step(7, 3) for p, seed in ((pieces, 1), (again, 1), (pieces, 2))
    )

    np.testing.assert_array_equal(first.sound, second.sound)
    np.testing.assert_array_equal(first.notes, second.notes)
    assert (first.sound != other.sound).any()
    whole = pieces[0]
    performance = read_performance(found[0].midi.read_bytes(), LIMITS)
    frame = int(performance.onset_s[0] * 250)
    assert not whole.pitch[: frame - 1].any()
    assert np.abs(whole.sound[: (frame - 1) * SMALL.hop]).max() < 50
    assert whole.pitch[frame + 2].max() == performance.pitch[0]
    assert np.abs(whole.sound[frame * SMALL.hop : (frame + 20) * SMALL.hop]).max() > 500


# --- below here TensorFlow computes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensorflow():
    """TensorFlow, chosen the way the command does."""
    from pianofarm_worker.synth import backend

    backend.choose("tensorflow")
    return importlib.import_module("tensorflow")


def two_notes(config: PublishedConfig, n_frames: int = 200):
    """Conditioning with two notes, one released."""
    notes, pedal = np.zeros((n_frames, 16, 2), np.float32), np.zeros((n_frames, 4), np.float32)
    notes[20:150, 0, 0], notes[20, 0, 1] = 60, 0.7
    notes[60:190, 3, 0], notes[60, 3, 1] = 45, 0.5
    pedal[70, 0] = 1.0
    return notes, pedal


@pytest.mark.parametrize("config", [SMALL, SMALL_V2], ids=["dafx22", "maestro-v2"])
def test_what_is_trained_is_what_renders(tensorflow, tmp_path, config):
    """The graph with gradients and the engine of the farm give one sound, sample by sample, but for the noise."""
    from pianofarm_training.published.graph import Batch, Graph
    from pianofarm_training.published.pair_training import write_folder
    from pianofarm_training.published.start import initial_weights
    from pianofarm_worker.synth.published.piano import PublishedPiano
    from pianofarm_worker.synth.published.release import extend_pitch

    config = dataclasses.replace(config, n_pianos=2, default_piano=0)
    weights = initial_weights(config, 3)
    weights["mono/out/bias"][1 + config.synthesis.n_partials :] = -30.0  # no noise
    if "reverb/ir" in weights:
        weights["reverb/ir"] = 0.1 * np.random.default_rng(1).normal(size=weights["reverb/ir"].shape).astype(np.float32)
    notes, pedal = two_notes(config)
    extended = extend_pitch(notes[..., 0], float(weights["release_s"]), 250)
    write_folder(tmp_path / "model", Naming("m", "", ""), config, weights, {})
    _, wet = PublishedPiano(read_model(tmp_path / "model")).synthesize(notes, pedal, piano=1)
    one = tensorflow.constant
    batch = Batch(one(notes[None]), one(extended[None].astype(np.int32)), one(pedal[None]), one([1]), None)
    sound, _ = Graph(config, weights).sound(batch, tensorflow.zeros([1, len(notes), config.hop]))
    error = sound.numpy()[0] - wet

    assert np.sqrt((error**2).mean() / (wet**2).mean()) < 1e-3


def test_the_noise_of_training_is_as_loud_as_the_engines(tensorflow):
    from pianofarm_training.published.synthesis import filtered_noise
    from pianofarm_worker.synth.noise import FilteredNoise, uniform_noise

    magnitudes = np.random.default_rng(1).uniform(0.1, 1, (50, 16)).astype(np.float32)
    noise = uniform_noise(5, 0, 50 * 64)
    ours = filtered_noise(magnitudes[None], noise.reshape(1, 50, 64)).numpy()[0]
    engine = FilteredNoise(16, 64, 5)
    theirs = np.concatenate([engine.push(magnitudes), engine.finish()])

    np.testing.assert_allclose(ours, theirs[: len(ours)], atol=1e-5)


def test_the_spectral_loss_is_that_of_ddsp(tensorflow, monkeypatch):
    from pianofarm_training.published.spectral_loss import spectral_loss
    from pianofarm_worker.synth.published.reference import load_ddsp_core

    # ddsp.spectral_ops itself, beneath stand-ins for packages that it imports and we do not have.
    spec = importlib.util.find_spec("ddsp")
    core = load_ddsp_core()
    package = types.ModuleType("ddsp")
    package.core = core
    for name, module in (
        ("ddsp", package),
        ("ddsp.core", core),
        ("crepe", types.ModuleType("crepe")),
        ("librosa", types.ModuleType("librosa")),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    path = Path(spec.submodule_search_locations[0]) / "spectral_ops.py"
    found = importlib.util.spec_from_file_location("spectral_ops_of_ddsp", path)
    theirs = importlib.util.module_from_spec(found)
    found.loader.exec_module(theirs)
    random = np.random.default_rng(1)
    target, sound = (0.1 * random.normal(size=(2, 6000)).astype(np.float32) for _ in range(2))
    sound[:, 3000:] = 0
    expected = 0.0
    for size in (2048, 1024, 512, 256, 128, 64):
        wanted, made = theirs.compute_mag(target, size), theirs.compute_mag(sound, size)
        expected += np.abs(wanted - made).mean()
        expected += np.abs(theirs.safe_log(wanted) - theirs.safe_log(made)).mean()

    assert float(spectral_loss(target, sound)) == pytest.approx(float(expected), rel=1e-4)


def recipe(n_steps: int, **changes):
    return Recipe(**{"n_steps": n_steps, "batch_size": 2, "excerpt_s": 0.4, "checkpoint_every": 3, "seed": 1} | changes)


def train(recordings: Path, out: Path, config: PublishedConfig, how, report=lambda step, loss: None):
    from pianofarm_training.published.pair_training import train_pairs

    found, _ = find_pairs(recordings)
    return train_pairs(found, out, Naming("mine", "CC0-1.0", "Me"), config, how, LIMITS, out.parent / "work", report)


@pytest.fixture(scope="module")
def trained(tensorflow, recordings, tmp_path_factory):
    """A small dafx22 of nine steps, and its losses."""
    losses: list[float] = []
    out = tmp_path_factory.mktemp("trained") / "mine"
    model = train(recordings, out, SMALL, recipe(9), lambda step, loss: losses.append(loss))
    return model, losses


def test_a_few_steps_lower_the_loss_on_recordings_held_out(trained):
    model, losses = trained
    card = (model.path / "README.md").read_text()
    before, after = card.split("held-out excerpts, before and after: ")[1].split(".\n")[0].split(" -> ")

    assert len(losses) == 9
    assert float(after) < 0.98 * float(before)


def test_the_model_plays_and_its_card_says_what_was_measured(trained):
    from pianofarm_worker.synth.piano import load

    model, _ = trained
    sound = load(model).render(melody(1), RenderOptions(duration_s=1.0, tail=False), seed=1).wet
    card = (model.path / "README.md").read_text()

    assert model.n_pianos == 1 and model.licence == "CC0-1.0"
    assert np.isfinite(sound).all() and np.abs(sound).max() > 1e-4
    assert "| take4.wav |" in card
    assert "5 recordings" in card and "1 recordings were held out" in card


def test_a_log_for_tensorboard_is_written(trained, tensorflow):
    model, losses = trained
    (log,) = (model.path.parent / "work").glob("*/log/events*")
    values = {}
    for event in tensorflow.compat.v1.train.summary_iterator(str(log)):
        for value in event.summary.value:
            values[value.tag, event.step] = float(tensorflow.make_ndarray(value.tensor))

    assert values["loss/training", 9] == pytest.approx(losses[-1], rel=1e-5)
    assert ("loss/validation", 9) in values


class Killed(BaseException):
    """Stands for a kill between two steps."""


def test_a_killed_run_goes_on_from_its_checkpoint_and_ends_in_the_same_digest(trained, recordings, tmp_path):
    def die(step: int, loss: float) -> None:
        if step == 5:
            raise Killed

    steps: list[int] = []
    with pytest.raises(Killed):
        train(recordings, tmp_path / "mine", SMALL, recipe(9), die)
    assert not (tmp_path / "mine").exists()
    model = train(recordings, tmp_path / "mine", SMALL, recipe(9), lambda step, loss: steps.append(step))

    assert steps[0] == 4
    assert model.digest == trained[0].digest


def test_another_seed_gives_another_model_and_v2_trains_too(recordings, tmp_path, tensorflow):
    losses: list[float] = []
    model = train(
        recordings, tmp_path / "v2", SMALL_V2, recipe(1, batch_size=1), lambda step, loss: losses.append(loss)
    )

    assert read_model(tmp_path / "v2").architecture == "maestro-v2"
    assert np.isfinite(losses).all()
    assert model.sample_rate_hz == 24_000


def test_training_goes_on_from_a_model_of_the_same_architecture_only(trained, recordings, tmp_path):
    model, losses = trained
    again: list[float] = []
    train(recordings, tmp_path / "more", SMALL, recipe(1, start=model, seed=2), lambda step, loss: again.append(loss))

    assert again[0] < 0.98 * losses[0]
    with pytest.raises(BadOption, match="it is a dafx22 model"):
        train(recordings, tmp_path / "other", SMALL_V2, recipe(1, start=model))


def test_frequencies_are_trained_alone_in_the_middle_of_a_run(tensorflow):
    from pianofarm_training.published.loop import trains_frequencies

    assert [step for step in range(1, 21) if trains_frequencies(step, 20)] == [10, 11]


def command(folder: Path, out: Path, *more: str) -> int:
    return run_command(["train", "pairs", str(folder), str(out), "--architecture", "dafx22", *more])


def test_bad_pairs_are_a_table_and_exit_code_2(copy, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "state"))
    (copy / "take0.mid").unlink()
    (copy / "take1.wav").write_bytes(b"")

    assert command(copy, tmp_path / "out", "--json") == 2
    shown = capsys.readouterr()
    assert [line.split('"problem": "')[1].split('"')[0] for line in shown.out.splitlines()] == ["missing", "unreadable"]
    assert "2 problems, nothing was trained" in shown.err


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--architecture", "wavenet"], "--architecture wavenet: must be"),
        (["--excerpt-s", "0"], "--excerpt-s 0: must be 0.1 to 60"),
        (["--steps", "0"], "--steps"),
        (["--from", "nothing-like-it"], "no model 'nothing-like-it'"),
        (["--from", DEFAULT_MODEL, "--check"], f"{DEFAULT_MODEL}: it is a house model, --architecture is dafx22"),
    ],
)
def test_a_wrong_option_of_pairs_is_one_line_and_exit_code_2(recordings, tmp_path, capsys, more, complaint):
    assert command(recordings, tmp_path / "out", *more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert complaint in line


def test_a_house_model_does_not_start_from_a_published_one(recordings, tmp_path, capsys):
    other = shutil.copytree(PACKAGED_DIR / DEFAULT_MODEL, tmp_path / "other")
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"house"', '"dafx22"', 1))

    assert command(recordings, tmp_path / "out", "--architecture", "house", "--from", str(other), "--check") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.endswith("it is a dafx22 model, --architecture is house")


def test_broken_midi_is_what_the_reader_says(copy):
    (copy / "take0.mid").write_bytes(b"no MIDI")

    with pytest.raises(BadMidi):
        read_performance((copy / "take0.mid").read_bytes(), LIMITS)
    assert check(copy)["unreadable"] == {"take0.mid"}


# --- the house model, in JAX --------------------------------------------------------------------------------------------------


def fit_house(recordings: Path, out: Path, n_steps: int, report=lambda step, loss: None):
    from pianofarm_training.house_pair_training import train_house_pairs

    found, _ = find_pairs(recordings)
    start, how = read_model(PACKAGED_DIR / DEFAULT_MODEL), recipe(n_steps, batch_size=1, excerpt_s=0.3)
    naming = Naming("mine", "CC0-1.0", "Me")
    return train_house_pairs(found, out, naming, start, how, LIMITS, out.parent / "work", report)


@pytest.mark.timeout(900)
def test_a_house_model_is_fitted_to_recordings_and_a_killed_run_ends_in_the_same_digest(recordings, tmp_path):
    def die(step: int, loss: float) -> None:
        if step == 4:
            raise Killed

    whole = fit_house(recordings, tmp_path / "whole" / "mine", 4)
    with pytest.raises(Killed):
        fit_house(recordings, tmp_path / "cut" / "mine", 4, die)
    steps: list[int] = []
    cut = fit_house(recordings, tmp_path / "cut" / "mine", 4, lambda step, loss: steps.append(step))
    card = (whole.path / "README.md").read_text()
    before, after = card.split("held-out excerpts, before and after: ")[1].split(".\n")[0].split(" -> ")

    assert steps == [4]
    assert cut.digest == whole.digest
    assert float(after) < float(before)
    assert whole.licence == f"{read_model(PACKAGED_DIR / DEFAULT_MODEL).licence} AND CC0-1.0"
    assert "| take4.wav |" in card

"""`pianofarm train samples`: a user's own notes, good and bad, to a model; on a piano made in the test."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pianofarm.cli import run
from pianofarm_common.errors import BadModel, BadOption, NotFound
from pianofarm_common.models import DEFAULT_MODEL, PACKAGED_DIR, check_unchanged, read_model
from pianofarm_common.renders import RenderOptions
from pianofarm_training.evaluation.materials import one_note
from pianofarm_training.merging import add_instrument, check_can_take
from pianofarm_training.own_samples import gather, key_name, missing_and_doubled, sample_set
from pianofarm_training.own_training import held_out_layers
from pianofarm_training.sample_checks import check, flat_tops, pitch_error_cents
from pianofarm_training.sfz import BadMapping, note_number, read_sfz
from pianofarm_training.tuning import Tuning, count_partials, equal_tempered_hz, typical_inharmonicity
from pianofarm_worker.synth.house.piano import HousePiano

RATE_HZ = 32_000


def note(pitch: int, velocity: float, seconds: float = 1.7) -> np.ndarray:
    """Decaying partials of a stiff string after 10 ms of silence, in two channels."""
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    law = Tuning(equal_tempered_hz(pitch), typical_inharmonicity(pitch))
    sound = np.zeros(len(time_s))
    for k, hz in enumerate(law.partials_hz(count_partials(pitch, law)), 1):
        sound += 10 ** ((-20 - 0.8 * k + 0.2 * (velocity - 120)) / 20) * np.sin(2 * np.pi * hz * time_s + k)
    sound *= np.exp(-3 * time_s) * np.minimum(time_s / 0.002, 1)
    sound = np.concatenate([np.zeros(RATE_HZ // 100), sound]) + 1e-5 * np.random.default_rng(pitch).normal(
        size=len(sound) + RATE_HZ // 100
    )
    return np.stack([sound, 0.7 * sound], axis=1)


def write(path: Path, sound: np.ndarray, rate_hz: int = RATE_HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, rate_hz, subtype="PCM_16")


@pytest.fixture(scope="module")
def piano(tmp_path_factory) -> Path:
    """A folder of two keys at two layers."""
    folder = tmp_path_factory.mktemp("piano")
    for name, pitch in (("C4", 60), ("Gb4", 66)):
        for layer, velocity in ((1, 33), (2, 96)):
            write(folder / f"{name}v{layer}.wav", note(pitch, velocity))
    return folder


@pytest.fixture
def copy(piano, tmp_path) -> Path:
    """The same, to be spoiled."""
    return Path(shutil.copytree(piano, tmp_path / "piano"))


def kinds(folder: Path) -> dict[str, set[str]]:
    """Kinds of problems, and the files that have them."""
    found, problems = gather(folder)
    by_kind: dict[str, set[str]] = {}
    for problem in [*problems, *check(found), *missing_and_doubled(found)]:
        by_kind.setdefault(problem.kind, set()).add(problem.path.name)
    return by_kind


def test_a_folder_says_key_and_layer_in_its_file_names(piano):
    found, problems = gather(piano)
    samples = sample_set(found, "me")

    assert problems == []
    assert samples.pitches == [60, 66]
    assert samples.velocities == (32.5, 95.5)
    assert samples.files[66, 1].name == "Gb4v2.wav"
    assert kinds(piano) == {}


def test_velocities_may_be_said_themselves(tmp_path):
    for name in ("060_vel30.wav", "060_vel110.wav", "A#4-vel30.wav", "A#4 vel110.wav"):
        (tmp_path / name).touch()
    found, problems = gather(tmp_path)

    assert problems == []
    assert sorted({(s.pitch, s.velocity) for s in found}) == [(60, 30.0), (60, 110.0), (70, 30.0), (70, 110.0)]


def test_everything_that_is_wrong_is_listed_at_once(copy):
    good = note(60, 96)
    write(copy / "D4v1.wav", note(62, 33))
    write(copy / "D4v2.wav", np.clip(20 * note(62, 96), -0.9, 0.9))
    write(copy / "E4v1.wav", np.zeros((RATE_HZ * 2, 2)))
    write(copy / "E4v2.wav", note(64, 96)[: RATE_HZ // 2])
    write(copy / "F4v1.wav", note(65, 33), 44_100)  # sounds six semitones higher as well
    write(copy / "F4v2.wav", note(66, 96))
    (copy / "G4v1.wav").write_bytes(b"no sound at all")
    write(copy / "G4v2.wav", np.stack([good[:, 0]] * 3, axis=1))
    write(copy / "A4v1.wav", note(69, 33))
    write(copy / "sub" / "C4v1.wav", note(60, 33))
    write(copy / "best take.wav", good)
    write(copy / "C9v1.wav", good)

    assert kinds(copy) == {
        "clipped": {"D4v2.wav"},
        "silent": {"E4v1.wav"},
        "short": {"E4v2.wav"},
        "rate": {"F4v1.wav"},
        "pitch": {"F4v1.wav", "F4v2.wav"},
        "unreadable": {"G4v1.wav"},
        "channels": {"G4v2.wav"},
        "missing": {"piano"},
        "doubled": {"C4v1.wav"},
        "name": {"best take.wav"},
        "key": {"C9v1.wav"},
    }


def test_two_layers_under_each_others_names_are_found(copy):
    (copy / "C4v1.wav").rename(copy / "was.wav")
    (copy / "C4v2.wav").rename(copy / "C4v1.wav")
    (copy / "was.wav").rename(copy / "C4v2.wav")
    found, _ = gather(copy)
    (problem,) = check(found)

    assert (problem.path.name, problem.kind) == ("C4v1.wav", "level")
    assert problem.found == "12.6 dB louder than the harder C4v2.wav"


def test_a_channel_that_holds_nothing_is_silent_and_not_clipped(copy):
    sound, _ = soundfile.read(copy / "C4v2.wav")
    write(copy / "C4v2.wav", sound * [1, 0])
    found, _ = gather(copy)
    (problem,) = check(found)

    assert (problem.path.name, problem.kind) == ("C4v2.wav", "silent")
    assert problem.found == "right channel: peak -120 dB full scale"


def test_a_rate_too_low_for_the_model_is_named_in_every_file(tmp_path):
    for layer in (1, 2):
        write(tmp_path / f"A3v{layer}.wav", note(57, 60)[::2], RATE_HZ // 2)

    assert kinds(tmp_path) == {"rate": {"A3v1.wav", "A3v2.wav"}}


@pytest.mark.parametrize("off", [-12, -1, 0, 1, 12])
def test_the_pitch_of_a_note_is_measured(off):
    cents = pitch_error_cents(note(57, 90)[320:].astype(np.float32), RATE_HZ, 57 + off)

    assert cents == pytest.approx(-100 * off, abs=20)


def test_a_quiet_bass_note_has_no_flat_tops():
    time_s = np.arange(RATE_HZ) / RATE_HZ
    pure = np.round(32767 * 0.5 * np.sin(2 * np.pi * 55 * time_s)) / 32767

    assert flat_tops(pure[:, None].astype(np.float32)) == 0
    assert flat_tops(np.clip(pure, -0.4, 0.4)[:, None].astype(np.float32)) > 50


def test_an_sfz_mapping_is_read_with_its_levels_of_headers(tmp_path):
    (tmp_path / "keys.txt").write_text("<region> sample=$DIR\\A3 soft.wav pitch_keycenter=a3 lokey=56 hikey=58\n")
    (tmp_path / "piano.sfz").write_text(
        """// a comment <region> sample=never.wav
#define $DIR audio
<control> default_path=../
<global> ampeg_release=0.5 volume=-3
<group> lovel=1 hivel=64
#include "keys.txt"
<region> sample=$DIR/C4 soft.wav key=60
<group> lovel=65 hivel=127 /* louder */
<region> sample=$DIR/A3 loud.wav pitch_keycenter=57
<region> sample=$DIR/C4 loud.wav key=c4 hivel=120
<region> sample=$DIR/C4 again.wav key=c4 seq_position=2
<group> trigger=release
<region> sample=rel.wav key=60
"""
    )
    regions = read_sfz(tmp_path / "piano.sfz")

    assert [(r.path.name, r.pitch, r.lowest_velocity, r.highest_velocity) for r in regions] == [
        ("A3 soft.wav", 57, 1, 64),
        ("C4 soft.wav", 60, 1, 64),
        ("A3 loud.wav", 57, 65, 127),
        ("C4 loud.wav", 60, 65, 120),
    ]
    assert regions[0].path == tmp_path / "../audio/A3 soft.wav"
    assert {r.volume_db for r in regions} == {-3.0}
    found, problems = gather(tmp_path / "piano.sfz")
    assert problems == []
    assert sorted({s.velocity for s in found}) == [32.5, 94.25]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nothing here", "maps no recordings"),
        ("<region> sample=a.wav", "without sample= or without key="),
        ("<region> sample=a.wav key=h4", "'h4' is no key"),
        ("<region> sample=a.wav key=60 lovel=soft", "lovel='soft' is no number"),
        ('#include "piano.sfz"\n', "include itself"),
    ],
)
def test_a_mapping_that_cannot_be_read_says_why(tmp_path, text, complaint):
    (tmp_path / "piano.sfz").write_text(text)

    with pytest.raises(BadMapping, match=complaint):
        read_sfz(tmp_path / "piano.sfz")


def test_a_missing_mapping_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(NotFound, match="no SFZ file"):
        gather(tmp_path / "no.sfz")
    with pytest.raises(NotFound, match=r"name them like A0v1\.wav"):
        gather(tmp_path)


def test_keys_have_names_and_names_have_keys():
    assert [note_number(name) for name in ("a0", "C4", "db4", "F#3", "60")] == [21, 60, 61, 54, 60]
    assert [key_name(pitch) for pitch in (21, 60, 61)] == ["A0", "C4", "C#4"]


def test_layers_are_spared_for_measuring_where_there_are_enough():
    assert held_out_layers(16) == (3, 7, 11)
    assert held_out_layers(5) == (3,)
    assert held_out_layers(4) == ()


def train_arguments(folder: Path, out: Path, *more: str) -> list[str]:
    return ["train", "samples", str(folder), str(out), "--processes", "1", "--size", "small", "--effort", "0.02", *more]


@pytest.fixture(scope="module")
def trained(piano, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIANOFARM_STATE_DIR", str(out.parent / "state"))
        assert run(train_arguments(piano, out, "--licence", "CC0-1.0", "--credit", "Me, at home")) == 0
    return out


def test_the_command_makes_a_model_with_a_card_of_measurements(trained):
    card = (trained / "README.md").read_text()

    assert read_model(trained).architecture == "house"
    assert check_unchanged(read_model(trained))
    assert "Me, at home" in card
    assert "CC0-1.0" in card
    assert "Not yet." not in card
    assert "| log-spectral distance" in card
    assert "too few to hold one out" in card


def test_one_seed_gives_one_digest(trained, piano, tmp_path, monkeypatch):
    """From nothing again: no stage of the first training is taken up."""
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "state"))
    assert run(train_arguments(piano, tmp_path / "mine", "--licence", "CC0-1.0", "--credit", "Me, at home")) == 0

    assert read_model(tmp_path / "mine").digest == read_model(trained).digest


def test_a_second_instrument_goes_into_the_same_model_and_is_chosen_by_number(tmp_path):
    packaged = PACKAGED_DIR / DEFAULT_MODEL
    both = shutil.copytree(packaged, tmp_path / "both")
    for number, name in ((1, "upright"), (2, "toy"), (1, "upright")):
        other = shutil.copytree(packaged, tmp_path / "other", dirs_exist_ok=True)
        config = json.loads((packaged / "config.json").read_text())
        config["output_gain_db"] -= 6 * number
        (other / "config.json").write_text(json.dumps(config))
        add_instrument(both, other, name)
    model, alone = HousePiano(read_model(both)), HousePiano(read_model(packaged))
    note = one_note(60, 96, 0.3)
    first, upright, toy = (model.render(note, RenderOptions(piano=p, tail=False, dry=True), seed=1) for p in (0, 1, 2))

    assert model.info.n_pianos == 3
    names = [p["name"] for p in json.loads((both / "config.json").read_text())["pianos"]]
    assert names == [DEFAULT_MODEL, "upright", "toy"]
    np.testing.assert_array_equal(first.wet, alone.render(note, RenderOptions(tail=False), seed=1).wet)
    np.testing.assert_allclose(20 * np.log10(np.abs(upright.dry).max() / np.abs(first.dry).max()), -6, atol=0.01)
    np.testing.assert_allclose(20 * np.log10(np.abs(toy.dry).max() / np.abs(first.dry).max()), -12, atol=0.01)
    card = (both / "README.md").read_text()
    assert "| 2 | toy |" in card
    assert card.count("<!-- instrument upright -->") == 1
    with pytest.raises(BadOption, match="has 3"):
        model.render(note, RenderOptions(piano=3), seed=1)


def test_an_instrument_is_not_added_to_a_model_of_another_kind(tmp_path):
    other = shutil.copytree(PACKAGED_DIR / DEFAULT_MODEL, tmp_path / "other")
    config = json.loads((other / "config.json").read_text()) | {"architecture": "dafx22"}
    (other / "config.json").write_text(json.dumps(config))

    with pytest.raises(BadModel, match="instruments are added to house models, this is dafx22"):
        check_can_take(other)


def test_the_command_adds_an_instrument(trained, piano, tmp_path, monkeypatch):
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(trained.parent / "state"))
    both = shutil.copytree(trained, tmp_path / "both")

    assert run(train_arguments(piano, both, "--instrument", "the same again", "--licence", "CC-BY-4.0")) == 0
    model = HousePiano(read_model(both))
    note = one_note(66, 40, 0.2)
    sounds = [model.render(note, RenderOptions(piano=p, tail=False), seed=1).wet for p in (0, 1)]
    np.testing.assert_array_equal(*sounds)
    assert model.info.licence == "CC0-1.0 AND CC-BY-4.0"


def test_bad_data_is_a_table_and_exit_code_2_and_trains_nothing(copy, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "state"))
    (copy / "C4v1.wav").unlink()
    (copy / "Gb4v2.wav").write_bytes(b"")

    assert run(train_arguments(copy, tmp_path / "out")) == 2
    shown = capsys.readouterr()
    assert "missing" in shown.out and "unreadable" in shown.out
    assert "2 problems, nothing was trained" in shown.err.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "state" / "training").exists()


def test_looking_only_trains_nothing(piano, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIANOFARM_STATE_DIR", str(tmp_path / "state"))

    assert run(train_arguments(piano, tmp_path / "out", "--check")) == 0
    assert "nothing wrong" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--size", "huge"], "--size huge: must be small, base, large"),
        (["--effort", "0"], "--effort 0: must be"),
        (["--name", "no/name"], "--name 'no/name'"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(piano, tmp_path, capsys, more, complaint):
    assert run(train_arguments(piano, tmp_path / "out", *more)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert complaint in line


def test_a_folder_that_is_there_is_not_overwritten(piano, trained, capsys):
    assert run(train_arguments(piano, trained)) == 2
    assert "is there already" in capsys.readouterr().err


def test_without_the_training_extra_the_command_says_what_to_install(piano, tmp_path, monkeypatch, capsys):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "jax" else real(name, *rest))

    assert run(train_arguments(piano, tmp_path / "out")) == 2
    assert capsys.readouterr().err.strip() == "pianofarm: jax not installed: pip install 'pianofarm[train]'"

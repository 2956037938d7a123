"""The packaged model's saved figures, its card and docs/quality.md: of one model, telling the same, every promise held."""

import json
import shutil
from pathlib import Path

import pytest

from pianofarm_common.errors import BadModel
from pianofarm_common.models import CARD_FILE, DEFAULT_MODEL, PACKAGED_DIR, read_model
from pianofarm_training import evaluate
from pianofarm_training.evaluation import page
from pianofarm_training.evaluation.musts import Must, must_table, of_quality
from pianofarm_training.evaluation.picture import PICTURE

MODEL = PACKAGED_DIR / DEFAULT_MODEL
CURE = "python -m pianofarm_training.evaluate --rewrite"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A copy of the packaged model, its figures and its page, in place of the repository's."""
    shutil.copytree(MODEL, tmp_path / "weights" / DEFAULT_MODEL)
    for name in ("RESULTS", "BENCH", "PAGE"):
        path = Path(shutil.copy(getattr(evaluate, name), tmp_path))
        monkeypatch.setattr(evaluate, name, path)
    monkeypatch.setattr(evaluate, "PACKAGED_DIR", tmp_path / "weights")
    return tmp_path


def test_the_saved_figures_are_the_packaged_models_and_hold_every_must_of_its_sound():
    """Those of its speed depend on the machine: no test asserts them."""
    saved = json.loads(evaluate.RESULTS.read_text())

    assert saved["digest"] == read_model(MODEL).digest
    assert saved["missing"] == []
    assert {must.what: (must.figure, must.bound) for must in of_quality(saved) if not must.held} == {}


def test_the_packaged_card_and_the_page_say_what_was_measured():
    saved = json.loads(evaluate.RESULTS.read_text())
    card, _ = evaluate.written(saved, MODEL, packaged=True)

    assert evaluate.PAGE.read_text() == page.fill(evaluate.PAGE.read_text(), saved), CURE
    assert (MODEL / CARD_FILE).read_text() == card, CURE


def test_the_picture_that_the_packaged_card_shows_is_there():
    _, _, after = (MODEL / CARD_FILE).read_text().partition("](")

    assert (MODEL / after.partition(")")[0]).resolve() == PICTURE
    assert PICTURE.is_file()


def test_a_new_benchmark_comes_into_the_card_without_measuring_anew(elsewhere):
    before = (elsewhere / "weights" / DEFAULT_MODEL / CARD_FILE).read_text()
    bench = json.loads(evaluate.BENCH.read_text())
    bench["results"]["house/2"]["real_time_factor"]["median"] = 777.0
    evaluate.BENCH.write_text(json.dumps(bench))

    evaluate.main(["--rewrite"])
    after = (elsewhere / "weights" / DEFAULT_MODEL / CARD_FILE).read_text()
    assert "| 777 x real time | held |" in after
    assert after.partition("By `make bench`")[0] == before.partition("By `make bench`")[0]


def test_a_missed_must_ends_the_command_with_1_and_is_named(elsewhere, capsys):
    saved = json.loads(evaluate.RESULTS.read_text())
    saved["instruments"]["house"]["notes"]["lsd_db"] = 7.5
    evaluate.RESULTS.write_text(json.dumps(saved))

    assert evaluate.main(["--rewrite"]) == 1
    assert "log-spectral distance of rendered notes: 7.5 dB, bound 7.2" in capsys.readouterr().err
    assert "| <= 7.2 dB | 7.5 dB | MISSED |" in evaluate.PAGE.read_text()
    assert "| <= 7.2 dB | 7.5 dB | MISSED |" in (elsewhere / "weights" / DEFAULT_MODEL / CARD_FILE).read_text()


def test_figures_of_another_model_are_not_written(elsewhere):
    saved = json.loads(evaluate.RESULTS.read_text())
    evaluate.RESULTS.write_text(json.dumps(saved | {"digest": "0" * 64}))
    before = evaluate.PAGE.read_text()

    with pytest.raises(BadModel, match="make evaluate"):
        evaluate.main(["--rewrite"])
    assert evaluate.PAGE.read_text() == before


@pytest.mark.parametrize(
    ("figure", "shown"), [(2.299, "2.299 dB"), (2.29996, "2.29996 dB"), (2.3, "2.3 dB"), (2.3004, "2.3004 dB")]
)
def test_a_figure_is_told_from_its_bound(figure, shown):
    assert f"| <= 2.3 dB | {shown} |" in must_table([Must("it", 2.3, figure, "dB")])

"""The commands that talk to a farm, against a real Redis, a real object store and a real worker whose piano is a sine."""

import contextlib
import io
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from farm import environment, midi
from services import wait_until
from sine_farm import REFUSED, WAITS

from pianofarm import Farm
from pianofarm.cli import run
from pianofarm_common.ledger.callbacks import Callbacks
from pianofarm_common.renders import State
from pianofarm_common.settings import Settings

#: Every test gets music of its own, or it would find that of another in the cache.
PITCHES = itertools.count(30)


@pytest.fixture(autouse=True)
def environs(farm_at_work: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The farm in the environment, and a folder with two scores to stand in."""
    for name, value in environment(farm_at_work).items():
        monkeypatch.setenv(name, value)
    pitch = next(PITCHES)
    (tmp_path / "scores" / "deep").mkdir(parents=True)
    (tmp_path / "scores" / "one.mid").write_bytes(midi(pitch))
    (tmp_path / "scores" / "deep" / "two.mid").write_bytes(midi(pitch, pitch + 2))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def busy(farm_at_work: Settings, tmp_path: Path) -> Iterator[None]:
    """The worker is held up by a render that waits, so that what comes after stays in the queue."""
    hold = farm_at_work.state_dir / "hold"
    hold.touch()
    with Farm(farm_at_work) as farm:
        job = farm.submit(midi(next(PITCHES), WAITS))
        wait_until(lambda: job.status().state is State.RUNNING, "the render that waits")
        yield
        hold.unlink()
        job.wait(timeout_s=60)


class Pianofarm:
    """Runs commands and reads what they say."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        got = run(list(arguments))
        said = self._capsys.readouterr()
        self.err = said.err
        assert got == code, said
        return said.out

    def json(self, *arguments: str, code: int = 0) -> list[dict[str, object]]:
        return [json.loads(line) for line in self(*arguments, "--json", code=code).splitlines()]


@pytest.fixture
def pianofarm(capsys: pytest.CaptureFixture[str]) -> Pianofarm:
    return Pianofarm(capsys)


def test_a_folder_is_submitted_watched_and_downloaded_in_one_command(pianofarm, tmp_path):
    out = pianofarm("submit", "scores", "--out", "audio", "--sample-rate", "8000")
    assert [line.split()[-1] for line in out.splitlines()] == [
        "deep/two.mid",
        "one.mid",
        "audio/deep/two.wav",
        "audio/one.wav",
    ]
    assert soundfile.info("audio/one.wav").samplerate == 8000
    assert sorted(os.listdir("audio")) == ["deep", "one.wav"]


def test_a_job_is_followed_by_hand(pianofarm, tmp_path):
    (submitted,) = pianofarm.json("submit", "scores/one.mid", "--owner", "me", "--priority", "interactive")
    (job,) = submitted["jobs"]
    assert submitted["rejected"] == []
    events = pianofarm.json("watch", submitted["batch"])
    assert events[-1]["kind"] == "done"
    assert events[-1]["name"] == "one.mid"
    (status,) = pianofarm.json("status", job["job"])
    assert (status["state"], status["owner"], status["priority"]) == ("done", "me", "interactive")
    assert "done" in pianofarm("status", submitted["batch"])
    assert pianofarm("fetch", job["job"]).strip() == "one.wav"
    assert soundfile.info("one.wav").frames == status["result"]["audio_s"] * 16000
    (url,) = pianofarm.json("fetch", job["job"], "--url")
    assert url["url"].startswith("http")
    again = pianofarm.json("submit", "scores/one.mid", "--wait")[0]
    assert again["jobs"][0]["cached"] is True


def test_some_failures_are_exit_code_1_and_the_others_are_delivered(pianofarm, tmp_path):
    (tmp_path / "scores" / "bad.mid").write_bytes(midi(REFUSED))
    (tmp_path / "scores" / "text.mid").write_text("no music")
    pianofarm("submit", "scores", "--out", "audio", code=1)
    assert "rejected: scores/text.mid: byte 0" in pianofarm.err.replace(str(tmp_path) + "/", "")
    assert "bad.mid: the piano refuses this" in pianofarm.err
    assert sorted(os.listdir("audio")) == ["deep", "one.wav"]


def test_a_batch_gives_the_urls_of_what_is_done_and_the_reasons_of_the_rest(pianofarm, tmp_path):
    (tmp_path / "scores" / "bad.mid").write_bytes(midi(REFUSED, next(PITCHES)))
    (submitted,) = pianofarm.json("submit", "scores")

    bad, *good = pianofarm.json("fetch", submitted["batch"], "--url", code=1)
    assert (bad["name"], bad["state"]) == ("bad.mid", "failed")
    assert "the piano refuses this" in bad["error"]
    assert [job["name"] for job in good] == ["deep/two.mid", "one.mid"]
    assert all(job["url"].startswith("http") for job in good)

    urls = pianofarm("fetch", submitted["batch"], "--url", code=1).splitlines()
    assert [url.split("?")[0] for url in urls] == [job["url"].split("?")[0] for job in good]
    assert "bad.mid: the piano refuses this" in pianofarm.err
    assert "bad.wav" not in os.listdir()


def test_a_row_of_a_table_that_is_refused_is_named_even_if_it_is_the_only_one(pianofarm, tmp_path):
    (tmp_path / "set.csv").write_text("path,model\nscores/one.mid,nobody\n")
    pianofarm("submit", "set.csv", code=2)
    assert "the table set.csv, line 2: " in pianofarm.err
    assert "nobody" in pianofarm.err


def test_a_name_that_leads_to_nothing_says_what_was_submitted_before_it(pianofarm, monkeypatch):
    monkeypatch.setattr("pianofarm.client.SUBMIT_CHUNK", 1)
    pianofarm("submit", "scores/one.mid", "scores/deep", "missing.mid", code=2)
    assert "missing.mid does not exist; the 1 submitted before it are batch" in pianofarm.err
    batch = pianofarm.err.split("batch ")[1].split()[0]
    pianofarm("watch", batch)


def test_names_come_from_standard_input(pianofarm, monkeypatch):
    class Input:
        buffer = io.BytesIO(b"scores/one.mid\nscores/deep\n")

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Input())
    (submitted,) = pianofarm.json("submit", "-")
    assert [job["name"] for job in submitted["jobs"]] == ["one.mid", "two.mid"]


def test_a_webhook_is_noted_for_the_batch_and_one_that_cannot_be_is_refused_before_anything_is_submitted(
    pianofarm, farm_at_work
):
    pianofarm("submit", "scores", "--webhook", "ftp://example.org/hook", code=2)
    assert "https://HOST/PATH" in pianofarm.err
    (submitted,) = pianofarm.json("submit", "scores", "--webhook", "https://example.org/hook")
    with contextlib.closing(Callbacks.from_settings(farm_at_work)) as callbacks:
        assert callbacks.url(submitted["batch"]) == "https://example.org/hook"
    pianofarm("watch", submitted["batch"])


def test_cancel_ends_a_job_or_a_batch(pianofarm, busy):
    (submitted,) = pianofarm.json("submit", "scores")
    assert pianofarm.json("cancel", submitted["jobs"][0]["job"])[0]["state"] == "cancelled"
    assert pianofarm.json("cancel", submitted["batch"])[0]["cancelled"] == 1
    pianofarm("watch", submitted["batch"], code=1)
    pianofarm("fetch", submitted["jobs"][0]["job"], code=2)
    assert "was cancelled" in pianofarm.err


def test_the_whole_farm_is_shown_and_doctor_is_content(pianofarm):
    wait_until(lambda: bool(pianofarm.json("status")[0]["workers"]), "the worker to say that it is there")
    (status,) = pianofarm.json("status")
    assert [worker["device"] for worker in status["workers"]] == ["cpu"]
    assert "worker worker@" in pianofarm("status")
    verdicts = {line["part"]: line["verdict"] for line in pianofarm.json("doctor", "--no-render")}
    assert (verdicts["Redis"], verdicts["storage"], verdicts["workers"]) == ("ok", "ok", "ok")


def test_a_wait_that_takes_too_long_is_exit_code_3_and_the_job_goes_on(pianofarm, farm_at_work, tmp_path):
    (farm_at_work.state_dir / "hold").touch()
    (tmp_path / "long.mid").write_bytes(midi(60, WAITS))
    (submitted,) = pianofarm.json("submit", "long.mid")
    job = submitted["jobs"][0]["job"]
    pianofarm("fetch", job, "--timeout", "0.5", code=3)
    assert "it goes on" in pianofarm.err
    assert not Path("long.wav").exists()
    (farm_at_work.state_dir / "hold").unlink()
    pianofarm("fetch", job, "--timeout", "60")
    assert Path("long.wav").exists()


def test_an_unknown_id_is_exit_code_2(pianofarm):
    for command in ("status", "watch", "cancel", "fetch"):
        pianofarm(command, "0" * 32, code=2)
        assert "no job and no batch" in pianofarm.err

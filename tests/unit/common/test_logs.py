"""What a log line looks like, and what never stands in one."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pianofarm_common.logs import configure, get_logger
from pianofarm_common.settings import Settings


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_line_is_one_json_object_with_the_bound_render(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    with structlog.contextvars.bound_contextvars(render="abc"):
        get_logger("test").info("render done", audio_s=1.5)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["render"], line["audio_s"], line["level"], line["logger"]) == (
        "render done",
        "abc",
        1.5,
        "info",
        "test",
    )


def test_a_secret_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    get_logger("test").warning(
        "x", s3_secret_key="hidden-1", password="hidden-2", token="hidden-3", redis_url="hidden-4"
    )
    assert "hidden" not in capsys.readouterr().err


def test_lines_of_libraries_have_the_same_form_and_the_level_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json", log_level="WARNING"))
    logging.getLogger("some.vendor").info("not this")
    logging.getLogger("some.vendor").warning("but %s", "this")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "but this"


def test_an_exception_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="json"))
    try:
        raise ValueError("inside")  # noqa: TRY301
    except ValueError:
        get_logger("test").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: inside" in json.loads(line)["exception"]


def test_the_console_form_is_for_eyes(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="console"))
    get_logger("test").info("render done", audio_s=1.5)
    assert "render done" in capsys.readouterr().err

"""How long a training took, over several runs; the clock is the test's own."""

import json
import os

import pytest

from pianofarm_training import clock


class Hours:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_what_a_killed_run_took_is_counted_up_to_its_last_note(tmp_path):
    path, hours = tmp_path / "work" / "clock.json", Hours()
    killed = clock.Clock(path, hours).part("analysis")
    note = killed.__enter__()
    hours.now_s += 7.0
    note()
    hours.now_s += 5.0  # never noted: the process dies here
    kept = path.read_text()

    killed.__exit__(None, None, None)
    path.write_text(kept)
    again = clock.Clock(path, hours)
    with again.part("analysis"):
        hours.now_s += 3.0

    assert again.seconds("analysis") == pytest.approx(10.0)
    assert again.seconds("learning") == 0
    assert json.loads(path.read_text()) == {"analysis": 10.0}


def test_a_part_that_fails_is_counted_too(tmp_path):
    hours = Hours()
    timed = clock.Clock(tmp_path / "clock.json", hours)
    with pytest.raises(RuntimeError), timed.part("learning"):
        hours.now_s += 4.0
        raise RuntimeError

    assert clock.Clock(tmp_path / "clock.json", hours).seconds("learning") == pytest.approx(4.0)


def test_the_machine_is_named_as_found(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu\n\n")

    assert clock._processor(cpuinfo) == "AMD EPYC (family 25 model 17)"
    assert clock._processor(tmp_path / "nothing") != ""
    if hasattr(os, "sched_getaffinity"):
        assert clock.machine().startswith(f"{len(os.sched_getaffinity(0))} core")

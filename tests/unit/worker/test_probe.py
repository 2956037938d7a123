"""The probes: deafness is told from idleness and from haste."""

from dataclasses import replace

import pytest

from pianofarm_common.ledger import WorkerInfo
from pianofarm_common.renders import PriorityClass
from pianofarm_worker import probe

WORKER = WorkerInfo(name="cpu0@pod-1:7", host="pod-1", pid=7, device="cpu", backend="tensorflow", started_at=0.0)
EMPTY = dict.fromkeys(PriorityClass, 0)
CLASSES = [str(name) for name in PriorityClass]


def seen(key="", renders_done=3, waiting=5):
    worker = replace(WORKER, key=key, renders_done=renders_done)
    return probe.look(worker, EMPTY | {PriorityClass.BULK: waiting}, CLASSES)


def test_the_worker_of_this_host_is_found_among_others():
    other = replace(WORKER, name="cpu0@pod-2:7", host="pod-2")
    assert probe.this_worker([other, WORKER], "pod-1") == WORKER
    assert probe.this_worker([other], "pod-1") is None


def test_a_worker_that_took_nothing_between_two_looks_while_work_waited_is_deaf():
    assert "no longer consumes" in probe.verdict(seen(), seen())


def test_one_look_proves_nothing():
    assert probe.verdict(seen(), None) == ""


def test_a_worker_of_fast_renders_that_is_caught_between_two_of_them_is_not_deaf():
    assert probe.verdict(seen(renders_done=4), seen(renders_done=3)) == ""


def test_a_worker_with_a_render_in_hand_is_not_deaf():
    assert probe.verdict(seen(key="a" * 64), seen()) == ""
    assert probe.verdict(seen(), seen(key="a" * 64)) == ""


def test_an_idle_worker_without_work_is_not_deaf():
    assert probe.verdict(seen(waiting=0), seen(waiting=0)) == ""


def test_a_worker_that_was_started_anew_is_judged_anew():
    assert probe.verdict(seen(), replace(seen(), name="cpu0@pod-1:8")) == ""


def test_messages_of_classes_that_a_worker_does_not_serve_do_not_count():
    waiting = EMPTY | {PriorityClass.BULK: 5}
    assert probe.look(WORKER, waiting, ["interactive"]).n_waiting == 0


@pytest.mark.parametrize("arguments", [[], ["alive"], ["live", "urgent"]])
def test_a_probe_that_does_not_exist_is_a_wrong_request(arguments, capsys):
    assert probe.main(arguments) == 2
    assert "usage:" in capsys.readouterr().err

"""What is added to Celery's pool, on stand-ins: the moments that count are a kernel's, and cannot be brought about. What a fork keeps."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.asynpool import AsynPool
from celery.worker import state

from pianofarm_worker.children import MAX_LOOKS, Children


class Pool:
    """A pool whose only child is out of it after so many looks."""

    def __init__(self, n_looks: float) -> None:
        self._pool = ["child"]
        self._all_inqueues: set[int] = set()
        self._n_looks = n_looks
        self.n_looked = 0
        self.exited: list[str] = []

    def _event_process_exit(self, hub: "Hub", process: str) -> None:
        self.exited.append(process)
        self.maintain_pool()

    def maintain_pool(self) -> None:
        self.n_looked += 1
        if self.n_looked >= self._n_looks:
            self._pool.clear()


class Hub:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.later: list[Any] = []

    def call_later(self, delay_s: float, callback: Any, *arguments: Any) -> None:
        self.later.append(lambda: callback(*arguments))

    def run(self) -> None:
        while self.later:
            self.later.pop(0)()


def consumer(pool: object, *, credit: bool = True) -> Any:
    channel = SimpleNamespace(qos=SimpleNamespace(can_consume=lambda: credit))
    return SimpleNamespace(pool=SimpleNamespace(_pool=pool), task_consumer=SimpleNamespace(channel=channel))


def started(pool: object, *, credit: bool = True) -> Any:
    c = consumer(pool, credit=credit)
    Children(SimpleNamespace(steps=[])).start(c)
    return c.task_consumer.channel.qos


@pytest.mark.parametrize("n_looks", [1, 2, 7])
def test_the_pool_looks_until_the_dead_child_is_out_of_it_and_no_more(n_looks: int) -> None:
    pool, hub = Pool(n_looks), Hub()
    started(pool)
    pool._event_process_exit(hub, "child")
    hub.run()
    assert (pool.exited, pool.n_looked) == (["child"], n_looks)


def test_a_child_that_closed_its_pipe_and_lives_on_is_not_looked_for_for_ever() -> None:
    pool, hub = Pool(float("inf")), Hub()
    started(pool)
    pool._event_process_exit(hub, "child")
    hub.run()
    assert pool.n_looked == MAX_LOOKS + 1


def test_as_many_messages_are_in_hand_as_children_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved: set[str] = set()
    monkeypatch.setattr(state, "reserved_requests", reserved)
    pool = Pool(1)
    qos = started(pool)
    assert not qos.can_consume()
    pool._all_inqueues.update({3, 4})
    assert qos.can_consume()
    reserved.update({"one", "two"})
    assert not qos.can_consume()
    pool._all_inqueues.add(5)
    assert qos.can_consume()


def test_what_celery_itself_would_not_take_is_not_taken() -> None:
    pool = Pool(1)
    pool._all_inqueues.add(3)
    assert not started(pool, credit=False).can_consume()


def test_another_kind_of_pool_is_left_as_it_is() -> None:
    assert started(SimpleNamespace()).can_consume()


def test_the_pool_of_celery_still_has_the_names_that_are_used() -> None:
    assert {"_event_process_exit", "maintain_pool"} <= set(dir(AsynPool))
    assert {"_all_inqueues"} <= set(AsynPool.__init__.__code__.co_names)


def test_what_was_told_openblas_before_the_fork_holds_in_a_child_and_to_say_it_again_starts_no_thread() -> None:
    script = """
import os
import numpy as np
from threadpoolctl import threadpool_info
from pianofarm_worker.synth.piano import multiply_on_one_thread
multiply_on_one_thread()
if os.fork() == 0:
    multiply_on_one_thread()
    np.ones((500, 500)) @ np.ones((500, 500))
    threads = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    print(set(threads), len(os.listdir("/proc/self/task")), flush=True)
    os._exit(0)
os.wait()
"""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    told = subprocess.run([sys.executable, "-c", script], env=env, check=True, capture_output=True, text=True)
    assert told.stdout == "{1} 1\n"

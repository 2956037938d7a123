"""The stop sign."""

import os

import pytest

from pianofarm_worker.stopping import StopSign


def test_a_sign_is_down_until_it_is_put_up_and_the_first_moment_counts() -> None:
    sign = StopSign()
    assert (sign.is_up, sign.is_due) == (False, False)
    sign.put_up(3600.0)
    assert (sign.is_up, sign.is_due) == (True, False)
    sign.put_up(0.0)
    assert not sign.is_due


def test_a_sign_without_grace_is_due_at_once() -> None:
    sign = StopSign()
    sign.put_up(0.0)
    assert sign.is_due


# JAX, if another test loaded it, warns of every fork; this child reads one byte and leaves.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_a_child_sees_the_sign_of_its_parent() -> None:
    sign = StopSign()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        os._exit(0 if sign.is_due else 1)
    sign.put_up(0.0)
    os.write(writer, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reader)
    os.close(writer)

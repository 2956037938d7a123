"""Ctrl-C ends a render, also where Python drops what it raises."""

import gc
import signal
from collections.abc import Iterator

import pytest

from pianofarm.cli.interrupts import Interrupts


@pytest.fixture(autouse=True)
def as_usual() -> Iterator[None]:
    """Whoever started the tests may have told their children to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_is_raised_at_the_next_check() -> None:
    def collected(phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        interrupts.check()
        gc.callbacks.append(collected)
        try:
            gc.collect()  # prints and drops what its callbacks raise
        finally:
            gc.callbacks.remove(collected)
        interrupts.check()
        pytest.fail("the interrupt was lost")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupts_are_raised_at_once_otherwise() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the interrupt was lost")


def test_who_ignores_interrupts_goes_on() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

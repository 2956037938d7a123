"""The brake: how long a worker waits before it takes more work while a service is away. Knows no service and no ledger."""

from __future__ import annotations

import random
import time

from pianofarm_worker.stopping import StopSign

#: First and longest wait. A farm that stands still must begin again soon after its store does, and not all of it at once.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0

#: A worker that waits looks this often whether it must end.
_STEP_S = 0.2


class Brake:
    """Waits of one worker process: each twice as long as the one before, half of it random, until something succeeds."""

    def __init__(self) -> None:
        self._pressed = 0

    def press(self) -> float:
        """Count another failure; returns how long to wait, in seconds."""
        longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._pressed, 30))
        self._pressed += 1
        return longest_s * random.uniform(0.5, 1.0)

    def wait(self, pause_s: float, sign: StopSign) -> None:
        """Wait, but no longer than until this worker is told to stop."""
        end = time.monotonic() + pause_s
        while not sign.is_up and (left_s := end - time.monotonic()) > 0:
            time.sleep(min(_STEP_S, left_s))

    def let_go(self) -> None:
        """Something succeeded: the next wait is a short one."""
        self._pressed = 0

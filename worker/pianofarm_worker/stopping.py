"""The stop sign: how the parent of a prefork worker tells its children that the process is about to end. No ledger here."""

from __future__ import annotations

import math
import mmap
import struct
import time

from pianofarm_common.errors import Transient

_MOMENT = struct.Struct("d")


class Stopping(Transient):
    """This worker is being stopped: hand the render back."""


class StopSign:
    """A moment in memory that is shared over fork: create it in the parent before the children start."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _MOMENT.size)

    def put_up(self, grace_s: float) -> None:
        """Ask for an end within `grace_s` from now; the first call counts."""
        if not self.is_up:
            self._memory[:] = _MOMENT.pack(time.monotonic() + grace_s)

    @property
    def is_up(self) -> bool:
        """True from `put_up` on: start nothing new."""
        return self._deadline < math.inf

    @property
    def is_due(self) -> bool:
        """True when the grace is over: hand back what is in hand."""
        return time.monotonic() >= self._deadline

    @property
    def _deadline(self) -> float:
        (moment,) = _MOMENT.unpack(self._memory[:])
        return float(moment) or math.inf

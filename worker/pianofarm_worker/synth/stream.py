"""Stream: a piano played live, block by block. What every model's stream has in common; no synthesis here."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from pianofarm_common.errors import BadOption
from pianofarm_common.renders import MOST_ROOM
from pianofarm_worker.synth.events import Event, EventQueue

#: Blocks are whole frames of the published models, 250 a second.
SHORTEST_BLOCK_MS, LONGEST_BLOCK_MS = 4, 40


def check_block_ms(block_ms: int) -> None:
    """Refuse what no stream has.

    Raises:
        BadOption: no block of this length.
    """
    if not isinstance(block_ms, int) or block_ms not in range(
        SHORTEST_BLOCK_MS, LONGEST_BLOCK_MS + 1, SHORTEST_BLOCK_MS
    ):
        raise BadOption(
            f"block_ms={block_ms!r}: a block is {SHORTEST_BLOCK_MS} to {LONGEST_BLOCK_MS} ms, "
            f"a multiple of {SHORTEST_BLOCK_MS}"
        )


def check_room(room: float) -> None:
    """Refuse what is no part of a room.

    Raises:
        BadOption: it is less than nothing or more than twice the room.
    """
    if not 0 <= room <= MOST_ROOM:
        raise BadOption(f"room={room!r}: must be 0 (the dry sound alone) to {MOST_ROOM:g} (twice the room)")


def check_seed(seed: int) -> None:
    """Refuse what seeds no noise.

    Raises:
        BadOption: it is no whole number of 64 bits.
    """
    if not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise BadOption(f"seed={seed!r}: must be a whole number, 0 to 2**64 - 1")


class Stream(ABC):
    """A piano being played: push events, pull sound, for as long as you like, in bounded memory. Not for two threads at once.

    What was pushed is heard in the next block pulled: its attack begins `delay_samples` before the sample that stands for its
    time plus the delay. In other words, sample n of all that was pulled is time n / rate - delay_s; an event of time t is
    heard from t on, rising, and nothing that is pushed changes sound that was pulled already.
    """

    def __init__(
        self, *, sample_rate_hz: int, n_channels: int, block_ms: int, delay_samples: int, seed: int, room: float = 1.0
    ) -> None:
        """Start in silence.

        Raises:
            BadOption: no block of this length, no such seed or no such part of the room.
        """
        check_seed(seed)
        check_block_ms(block_ms)
        check_room(room)
        self.sample_rate_hz = sample_rate_hz
        self.n_channels = n_channels
        self.block_samples = sample_rate_hz * block_ms // 1000
        self.delay_samples = delay_samples  #: how much later than its time an event's own sample comes out
        self.dropped_notes = 0  #: notes that the model had no key or no voice for, so far
        self._room_part = room  #: how much of the room is heard, 0 .. 2
        self._queue = EventQueue()
        self._n_pulled = 0

    @property
    def delay_s(self) -> float:
        """The delay of the algorithm; a player waits for the current block besides."""
        return self.delay_samples / self.sample_rate_hz

    @property
    def now_s(self) -> float:
        """Time at which the next block begins."""
        return self._n_pulled / self.sample_rate_hz

    def push(self, event: Event) -> None:
        """Take an event; one without a time, or whose time has passed, happens where the next block begins.

        Raises:
            BadOption: it is no event, or a value is out of range.
        """
        self._queue.push(event, self.now_s)

    def pull(self) -> NDArray[np.float32]:
        """The next block.

        Returns:
            [block_samples, n_channels] float32, with as much of the room as was asked for; not limited to -1..1.
        """
        block = self._make_block()
        self._n_pulled += self.block_samples
        return block

    @abstractmethod
    def _make_block(self) -> NDArray[np.float32]:
        """The block that begins at `now_s`; takes from the queue what is due in it."""

"""How fast the workers of a farm are, from what they finished last: the figure that turns waiting audio into workers."""

from __future__ import annotations

import threading
from collections import deque

from pianofarm_common.errors import NotFound
from pianofarm_common.ledger import Ledger
from pianofarm_common.ledger.census import CensusTaker
from pianofarm_common.metrics import DEVICES, device_kind
from pianofarm_common.renders import RenderResult

#: Renders remembered per kind of device: enough to even out short pieces, few enough to follow a new model within minutes.
REMEMBERED = 200

#: Events of the past that `remember` looks through: some hundred renders with their progress.
PAST_EVENTS = 5000


class Speedometer:
    """Audio seconds made in a second of a worker's time, rendering and upload together. Thread-safe.

    The ratio of sums, not the mean of ratios: a thousand short pieces and one long one take the time that they take.
    """

    def __init__(self, assumed: float) -> None:
        """Args: assumed: the answer before anything was measured."""
        self._assumed = assumed
        self._last: dict[str, deque[tuple[float, float]]] = {kind: deque(maxlen=REMEMBERED) for kind in DEVICES}
        self._lock = threading.Lock()

    def add(self, result: RenderResult, device: str) -> None:
        """Remember a finished render; `device` is its worker's, such as "gpu:0"."""
        spent_s = result.render_s + result.upload_s
        if spent_s > 0 and result.audio_s > 0:
            with self._lock:
                self._last[device_kind(device)].append((result.audio_s, spent_s))

    def remember(self, ledger: Ledger, taker: CensusTaker) -> None:
        """Take in the renders of the near past. Raises ServiceUnavailable."""
        devices = {worker.name: worker.device for worker in ledger.workers()}
        for key in taker.recently_done(PAST_EVENTS):
            try:
                result = ledger.render(key).result
            except NotFound:
                continue
            if result is not None:
                self.add(result, devices.get(result.worker, ""))

    def speed(self) -> float:
        """Of an average worker of the farm."""
        return _ratio([pair for pairs in self._copy().values() for pair in pairs]) or self._assumed

    def speeds(self) -> dict[str, float]:
        """Of each kind of device that finished something."""
        return {kind: ratio for kind, pairs in self._copy().items() if (ratio := _ratio(pairs))}

    def _copy(self) -> dict[str, list[tuple[float, float]]]:
        with self._lock:
            return {kind: list(pairs) for kind, pairs in self._last.items()}


def _ratio(pairs: list[tuple[float, float]]) -> float:
    spent_s = sum(spent for _, spent in pairs)
    return sum(audio for audio, _ in pairs) / spent_s if spent_s else 0.0

"""The autoscaler: workers for the audio that waits and is in hand, as the Kubernetes manifests ask for them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from bench.simulate.farm import Farm, Steps


@dataclass(frozen=True)
class Scaling:
    """How workers are asked for. Down only to the most wanted within `settle_s` (as the HPA does), and only by draining."""

    least: int
    most: int
    target_s: float = 60.0  #: waiting audio should be worked off within this long
    poll_s: float = 15.0
    settle_s: float = 300.0

    def wanted(self, queued_audio_s: float, leased_audio_s: float, speed: float) -> int:
        """Workers for this much audio."""
        needed = math.ceil((queued_audio_s + leased_audio_s) / (speed * self.target_s) - 1e-9)
        return min(self.most, max(self.least, needed))


def autoscale(farm: Farm, scaling: Scaling) -> Steps:
    """Poll, scale, write down, for ever. Machines that were taken away are replaced at the next poll."""
    past: deque[tuple[float, int]] = deque()
    while True:
        now = farm.env.now
        past.append((now, scaling.wanted(farm.queued_audio_s, farm.leased_audio_s, farm.service.speed)))
        while past[0][0] < now - scaling.settle_s:
            past.popleft()
        wanted = max(count for _, count in past)
        staying = [worker for worker in farm.workers if not worker.draining]
        for _ in range(wanted - len(staying)):
            farm.add_worker()
        if len(staying) > wanted:
            # Those without work first, the youngest of them first.
            staying.sort(key=lambda worker: (worker.render is not None, -worker.born))
            for worker in staying[: len(staying) - wanted]:
                farm.drain(worker)
        farm.note()
        yield farm.env.timeout(scaling.poll_s)

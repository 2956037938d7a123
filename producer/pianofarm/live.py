"""The farm at this moment and in the last minute: what a live view shows. Reads the ledger; draws nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pianofarm_common.errors import NotFound
from pianofarm_common.ledger import Ledger, RenderStatus, WorkerInfo
from pianofarm_common.ledger.census import Census, CensusTaker
from pianofarm_common.renders import RenderKey, State
from pianofarm_common.speedometer import Speedometer

#: Rates are over this long.
WINDOW_S = 60.0

#: Finished renders remembered, of which the slowest are shown.
REMEMBERED = 500

#: Most events read in one look; a farm that makes more is shown a little late.
MAX_EVENTS = 5000


@dataclass(frozen=True)
class AtWork:
    """A worker, and the render in its hands."""

    worker: WorkerInfo
    render: RenderStatus | None
    elapsed_s: float  #: since the claim; 0.0 when idle


@dataclass(frozen=True)
class Snapshot:
    """What there is to see. Rates are of the last minute, or of the time since the view began if that is shorter."""

    census: Census
    at_work: tuple[AtWork, ...]
    done_per_s: float  #: renders
    audio_s_per_s: float
    given_up_per_min: float  #: jobs that failed or were quarantined
    speed: float  #: of one worker, from the last renders
    drain_s: float | None  #: until everything is worked off; None without workers
    slowest: tuple[RenderStatus, ...]  #: of those done lately, by real-time factor


class LiveFarm:
    """Follows the farm, beginning with what the stream of events still holds of the past."""

    def __init__(self, ledger: Ledger, taker: CensusTaker, assumed_speed: float) -> None:
        """Raises ServiceUnavailable where Redis does not answer."""
        self._ledger = ledger
        self._taker = taker
        self._speedometer = Speedometer(assumed_speed)
        self._devices: dict[str, str] = {}
        self._done: deque[RenderStatus] = deque(maxlen=REMEMBERED)
        self._given_up: deque[float] = deque(maxlen=10_000)
        self._last_id = taker.newest_event()
        self._devices = {worker.name: worker.device for worker in ledger.workers()}
        self._learn(taker.recently_done(MAX_EVENTS)[-REMEMBERED:])

    def look(self, n_slowest: int = 5) -> Snapshot:
        """A fresh snapshot. Raises ServiceUnavailable."""
        census, workers = self._taker.take(), self._ledger.workers()
        self._devices = {worker.name: worker.device for worker in workers}
        self._read_events()
        since = census.at - WINDOW_S
        while self._given_up and self._given_up[0] < since:
            self._given_up.popleft()
        recent = [render.result for render in self._done if render.finished_at >= since and render.result is not None]
        speed = self._speedometer.speed()
        depths = [counted.depth for counted in census.classes.values()]
        work_s = sum(depth.queued_audio_s + depth.running_audio_s for depth in depths)
        return Snapshot(
            census,
            tuple(self._at_work(worker, census.at) for worker in workers),
            len(recent) / WINDOW_S,
            sum(result.audio_s for result in recent) / WINDOW_S,
            len(self._given_up) * 60.0 / WINDOW_S,
            speed,
            work_s / (speed * len(workers)) if workers else None,
            tuple(sorted(self._done, key=_real_time_factor)[:n_slowest]),
        )

    def _read_events(self) -> None:
        events = self._ledger.events(None, self._last_id, count=MAX_EVENTS)
        if not events:
            return
        self._last_id = events[-1].id
        self._given_up += [event.at for event in events if event.kind in (State.FAILED, State.QUARANTINED)]
        self._learn(dict.fromkeys(event.key for event in events if event.kind == State.DONE))

    def _learn(self, keys: Iterable[RenderKey]) -> None:
        """Remember renders that are done; a cache hit is the same render again."""
        known = {(render.key, render.finished_at) for render in self._done}
        for key in keys:
            try:
                render = self._ledger.render(key)
            except NotFound:
                continue
            if render.result is not None and (render.key, render.finished_at) not in known:
                self._done.append(render)
                self._speedometer.add(render.result, self._devices.get(render.result.worker, ""))

    def _at_work(self, worker: WorkerInfo, now: float) -> AtWork:
        if not worker.key:
            return AtWork(worker, None, 0.0)
        try:
            render = self._ledger.render(RenderKey(worker.key))
        except NotFound:
            return AtWork(worker, None, 0.0)
        return AtWork(worker, render, max(0.0, now - render.started_at))


def _real_time_factor(render: RenderStatus) -> float:
    return render.result.real_time_factor if render.result is not None else float("inf")

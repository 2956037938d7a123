"""Where the time of a render goes: seconds in each stage of the published engine. Wraps its classes; for fresh processes only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import Any


class Stages:
    """Seconds by stage; a stage that calls another one is charged for both."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside = threading.local()

    def watch(self, owner: type, method: str, stage: str) -> None:
        """Charge every call of a method of a class to a stage, from now on."""
        self.seconds.setdefault(stage, 0.0)
        setattr(owner, method, self._charged(getattr(owner, method), stage))

    def reset(self) -> None:
        """Begin again at nothing."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)

    def _charged(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(function)
        def charged(*args: Any, **kwargs: Any) -> Any:
            if getattr(self._inside, "busy", False):
                return function(*args, **kwargs)
            self._inside.busy = True
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside.busy = False
                self.seconds[stage] += time.perf_counter() - began

        return charged


def watch_published() -> Stages:
    """Watch the stages of a published model; import and call this after the backend was chosen."""
    from pianofarm_worker.synth.additive import Additive
    from pianofarm_worker.synth.noise import FilteredNoise
    from pianofarm_worker.synth.published.context import ContextNetwork
    from pianofarm_worker.synth.published.controls import Controls
    from pianofarm_worker.synth.published.frame_store import FrameStore
    from pianofarm_worker.synth.published.monophonic import MonophonicNetwork
    from pianofarm_worker.synth.reverb import Convolver

    stages = Stages()
    stages.watch(ContextNetwork, "run", "context network")
    stages.watch(MonophonicNetwork, "run", "monophonic network")
    stages.watch(FrameStore, "append", "store between the passes")
    stages.watch(FrameStore, "read", "store between the passes")
    stages.watch(Controls, "run", "controls")
    for owner, stage in ((Additive, "additive"), (FilteredNoise, "noise"), (Convolver, "reverb")):
        stages.watch(owner, "push", stage)
        stages.watch(owner, "finish", stage)
    return stages

"""A real worker that makes nothing: `celery -A bench.load.stub_worker worker`. Queue, leases, status and events are the true ones.

A render takes the time that its model's name says ("wait 20 ms"). With `PIANOFARM_LOAD_STORE` objects are involved as well: MIDI is
fetched and read, half a megabyte of noise passes the gates, is encoded and is put into the store ("s3"), at once or while the next
render is under way, or nowhere ("nowhere").
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from bench.load import PLACES_VARIABLE, STORE_VARIABLE
from pianofarm_common.midi import Performance
from pianofarm_common.models import ModelInfo
from pianofarm_common.renders import RenderOptions, RenderResult, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore
from pianofarm_worker import composition
from pianofarm_worker.delivery import Delivery
from pianofarm_worker.pulse import Hold
from pianofarm_worker.synth.piano import Piano, Progress, Rendering
from pianofarm_worker.workshop import Made, Outcome, Workshop

RATE_HZ = 24_000


def wait_s(model_name: str) -> float:
    """How long a render of this model takes."""
    return float(model_name.split()[1]) / 1000.0


class NothingMade(Workshop):
    """Makes results without audio."""

    def places(self, spec: RenderSpec | None = None) -> int:
        """As many as it was told."""
        del spec
        return _places

    def expect(self, now: Sequence[RenderSpec], soon: Sequence[RenderSpec]) -> None:
        """Needs nothing."""

    def render(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, Outcome]]:
        """Waits as long as the model's name says."""
        for hold in holds:
            end = time.monotonic() + wait_s(hold.claim.spec.model_name)
            while (left_s := end - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.02))
                hold.report(0.5)
            yield hold, self._result(hold)

    def store(self, hold: Hold, made: Made | RenderResult) -> RenderResult:
        """Stores nothing."""
        del hold
        assert isinstance(made, RenderResult)
        return made

    def _result(self, hold: Hold) -> RenderResult:
        spec = hold.claim.spec
        return RenderResult(
            key=hold.claim.key,
            spec=spec,
            audio_key="nothing",
            audio_sha256="0" * 64,
            audio_bytes=1,
            audio_s=spec.audio_s,
            sample_rate_hz=RATE_HZ,
            channels=1,
            loudness_lufs=None,
            peak_dbfs=0.0,
            notes=1,
            dropped_notes=0,
            queue_s=hold.claim.queue_s,
            render_s=1e-3,
            worker=self._worker,
            finished_at=time.time(),
        )


class NoisePiano(Piano):
    """Waits as long as the model's name says, as one does for a device, and has half a megabyte of noise."""

    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info)
        noise = np.random.default_rng(1).normal(0.0, 0.05, (10 * RATE_HZ, 1)).astype(np.float32)
        self._noise = noise

    def render(
        self, performance: Performance, options: RenderOptions, *, seed: int, progress: Progress | None = None
    ) -> Rendering:
        """The same noise for everything."""
        del options, seed
        time.sleep(wait_s(self.info.name))
        if progress is not None:
            progress(1.0)
        return Rendering(self._noise, self._noise, RATE_HZ, len(performance.pitch), 0)


class Nowhere(S3BlobStore):
    """Reads the true store once, and writes nothing."""

    _known: dict[str, bytes]

    def get(self, key: str, *limits: int) -> bytes:
        """From memory after the first time."""
        known = self.__dict__.setdefault("_known", {})
        if key not in known:
            known[key] = super().get(key, *limits)
        return known[key]

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Nothing."""


class AtOnce(Delivery):
    """Delivers in the thread that renders."""

    def take(self, hold, made, deliver):  # noqa: D102
        for _ in deliver(deque([(hold, made)])):
            pass


_places = int(os.environ.get(PLACES_VARIABLE, "1"))
_store = os.environ.get(STORE_VARIABLE, "")
if not _store:
    composition.Workshop = NothingMade  # type: ignore[misc]
if _store.startswith("nowhere"):
    composition.S3BlobStore = Nowhere  # type: ignore[misc]
if _store.endswith("at once"):
    composition.Delivery = AtOnce  # type: ignore[misc]
app = composition.compose(Settings.load(), load_piano=NoisePiano)

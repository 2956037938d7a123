"""Retention: deletes audio and MIDI that is older than the farm keeps it, and nothing that a job still points to.

What the ledger remembers is kept, whatever its age: a job that waits, and one that was finished, or asked for again, within
`ledger_ttl_s`. Models are kept always.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import groupby, islice

from pianofarm_common.errors import PianofarmError
from pianofarm_common.ledger import Ledger
from pianofarm_common.logs import get_logger
from pianofarm_common.metrics import ERRORS, SweeperMetrics, one_of
from pianofarm_common.renders import RenderKey
from pianofarm_common.storage import BlobStore, midi_object, sidecar_object

#: Renders retired in one step of Redis.
CHUNK = 100

#: The bucket is looked through at most this often, by one of the sweepers; and at least four times within the retention.
LONGEST_PERIOD_S = 3600.0

log = get_logger(__name__)


class Retention:
    """Deletes what is old; any number may run, in any number of processes."""

    def __init__(self, ledger: Ledger, store: BlobStore, keep_s: float, metrics: SweeperMetrics) -> None:
        """Args: keep_s: objects that were stored less than this long ago are kept."""
        self._ledger = ledger
        self._store = store
        self._keep_s = keep_s
        self._metrics = metrics
        self.period_s = min(LONGEST_PERIOD_S, keep_s / 4)

    def run(self, ending: threading.Event) -> None:
        """Look through the bucket again and again until `ending` is set; outlives outages of Redis and of the store."""
        while not ending.wait(min(60.0, self.period_s)):
            try:
                if self._ledger.first_in("retention", self.period_s):
                    self.step()
            except PianofarmError as error:
                self._metrics.errors.labels(one_of(type(error).__name__, ERRORS)).inc()
                log.warning("retention failed", error=str(error))

    def step(self) -> tuple[int, int]:
        """Look through the bucket once; returns how many objects of renders and of MIDI were deleted. May be interrupted.

        Raises:
            ServiceUnavailable: Redis or the store does not answer.
        """
        before = time.time() - self._keep_s
        old, n_audio = self._old_renders(before), 0
        while some := dict(islice(old, CHUNK)):
            n_audio += self._delete(some)
        n_midi = self._delete_midi(before)
        if n_audio or n_midi:
            log.info("objects deleted", renders=n_audio, midi=n_midi)
        return n_audio, n_midi

    def _old_renders(self, before: float) -> Iterator[tuple[RenderKey, list[str]]]:
        """Renders all of whose objects are old, with their objects."""
        for folder, found in groupby(self._store.dated("renders/"), lambda item: item[0].rpartition("/")[0]):
            objects = list(found)
            if all(stored < before for _, stored in objects):
                yield RenderKey(folder.rpartition("/")[2]), [name for name, _ in objects]

    def _delete(self, renders: dict[RenderKey, list[str]]) -> int:
        free, n_deleted = self._ledger.retire(list(renders)), 0
        try:
            for key in free:
                # The sidecar first: where it is, the audio is.
                for name in sorted(renders[key], key=lambda name: name != sidecar_object(key)):
                    self._store.delete(name)
                    self._metrics.deleted.labels("renders").inc()
                    n_deleted += 1
        finally:
            self._ledger.retired(free)
        return n_deleted

    def _delete_midi(self, before: float) -> int:
        old = [name for name, stored in self._store.dated("midi/") if stored < before]
        if not old:
            return 0
        n_deleted, needed = 0, {midi_object(digest) for digest in self._ledger.performances()}
        for name in old:
            # A submission stores its MIDI again before it enters its job: what became young meanwhile is about to be needed.
            if name in needed or any(stored >= before for _, stored in self._store.dated(name)):
                continue
            self._store.delete(name)
            self._metrics.deleted.labels("midi").inc()
            n_deleted += 1
        return n_deleted

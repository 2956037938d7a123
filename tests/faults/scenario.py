"""A scenario: some jobs, and what became of them, as a history for the checker. What happens to the farm meanwhile is not said here."""

import contextlib
import hashlib
import time
from typing import TYPE_CHECKING

from checker import check, count
from farm import midi
from faulty_farm import Faults, sine_piano
from history import read
from services import wait_until

from pianofarm import Farm, Job
from pianofarm_common.errors import NotFound, PianofarmError
from pianofarm_common.ledger import Claim, Ledger
from pianofarm_common.renders import PriorityClass, RenderKey, State
from pianofarm_common.storage import LocalBlobStore, midi_object
from pianofarm_worker.pulse import Hold
from pianofarm_worker.shelf import Shelf
from pianofarm_worker.stopping import StopSign
from pianofarm_worker.workshop import Workshop

if TYPE_CHECKING:
    from farms import FaultyFarm

#: Longest wait for what must happen; it only ends tests that fail.
TIMEOUT_S = 100.0


class Scenario:
    """Some jobs, something that happens to them, and what became of them."""

    def __init__(self, farm: "FaultyFarm", client: Farm, faults: Faults, since_ns: int) -> None:
        self.farm, self.client, self.faults, self.since_ns = farm, client, faults, since_ns
        self.ledger: Ledger = client.services.ledger
        self.store = client.services.store
        self.jobs: list[Job] = []

    def submit(self, *, cancel: bool = False) -> Job:
        """A render that was never made before; `cancel`: and nobody wants it any more."""
        random = self.farm.random
        score = midi(*(random.randint(36, 96) for _ in range(3)), seconds=0.1, velocity=random.randint(30, 120))
        performance = self.client.submit(score)
        self.jobs.append(performance)
        self.faults.history.note("submitted", job=performance.id, key=performance.key)
        if cancel:
            self.cancel(performance)
        return performance

    def cancel(self, job: Job) -> State:
        """Nobody wants it any more; returns its state, which is not `cancelled` where that came too late."""
        state = self.ledger.cancel_job(job.id)
        self.faults.history.note("cancelled", job=job.id, before=str(state))
        return state

    def history(self) -> list[dict]:
        return [entry for entry in read(self.farm.folder / "history") if entry["at_ns"] >= self.since_ns]

    def happened(self, kind: str, **fields: str) -> int:
        """How many entries of the history look like this."""
        return sum(
            entry["kind"] == kind and all(entry.get(name) == value for name, value in fields.items())
            for entry in self.history()
        )

    def taken(self, point: str) -> int:
        """Wait until a worker meets the fault at this point; returns its process."""
        wait_until(lambda: self.faults.taken(point) > 0, f"a worker at {point!r}", TIMEOUT_S)
        return self.faults.taken(point)

    def finish(self, timeout_s: float = TIMEOUT_S) -> list[str]:
        """Wait until every job is finished (or too long), note what became of them, and let the checker judge."""
        end = time.monotonic() + timeout_s
        states: list[State] = []
        while time.monotonic() < end:
            with contextlib.suppress(PianofarmError):
                states = [status.state for status in self.ledger.jobs([job.id for job in self.jobs])]
                if all(state.final for state in states):
                    break
            time.sleep(0.05)
        for job in self.jobs:
            self._note_final(job)
        for key in {job.key for job in self.jobs}:
            self._note_undisturbed(key)
        self.farm.counts = count(self.history())
        return check(self.history())

    def _note_final(self, job: Job) -> None:
        status = self.ledger.job(job.id)
        said = stored = None
        if status.state is State.DONE and status.render and status.render.result:
            said = status.render.result.audio_sha256
            with contextlib.suppress(NotFound):
                stored = hashlib.sha256(self.store.get(status.render.result.audio_key)).hexdigest()
        self.faults.history.note("final", job=job.id, key=job.key, state=str(status.state), said=said, stored=stored)

    def _note_undisturbed(self, key: RenderKey) -> None:
        """Make the render here, with nobody in the way."""
        spec = self.ledger.render(key).spec
        settings = self.farm.settings
        files = LocalBlobStore(self.farm.folder / "undisturbed")
        midi_key = midi_object(spec.performance_sha256)
        files.put(midi_key, self.store.get(midi_key))
        piano = sine_piano()
        shelf = Shelf(files, settings.state_dir, lambda info: piano(info, self.farm.folder))
        claim = Claim(key, "1:alone", 60.0, spec, 1, PriorityClass.BULK, 0.0)
        result = Workshop(settings, files, shelf, "alone").make(Hold(claim, StopSign()))
        self.faults.history.note("undisturbed", key=key, sha256=result.audio_sha256)

"""The soak: thousands of tiny renders while something is killed every few seconds. `make soak`, or `python tests/faults/soak.py --help`.

Prints its counts as JSON and ends with 1 where a promise was broken. Renders are sine tones and objects are files, so that the
farm itself is what works; Redis remembers finished renders for three minutes only, so that its memory can be seen to stay flat.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from checker import check, count
from farm import midi
from farms import FaultyFarm
from faulty_farm import sine_piano
from history import History, read
from published import conditions, save

from pianofarm_common.errors import NotFound, PianofarmError, ServiceUnavailable
from pianofarm_common.ledger import Claim, JobRequest, Ledger, new_id
from pianofarm_common.midi import MidiLimits, read_performance
from pianofarm_common.models import find_model
from pianofarm_common.queue import make_app, publish_tickets
from pianofarm_common.renders import PriorityClass, RenderOptions, RenderSpec, State
from pianofarm_common.storage import LocalBlobStore, midi_object
from pianofarm_worker.pulse import Hold
from pianofarm_worker.shelf import Shelf
from pianofarm_worker.stopping import StopSign
from pianofarm_worker.workshop import Workshop

#: Jobs of one submission; so many submissions are under way at a time.
WAVE, WAVES_AT_A_TIME = 200, 2

#: Of so many jobs one is cancelled; of so many renders one is made again undisturbed.
CANCEL_ONE_IN, COMPARE_ONE_IN = 50, 20

#: A wave that takes longer has lost something; less than Redis remembers finished jobs.
WAVE_PATIENCE_S = 170.0

#: What is done to the farm, and how often in comparison.
TROUBLES = {"child killed": 6, "worker killed": 2, "child stopped": 2, "sweeper killed": 2, "redis killed": 1}


class Soak:
    def __init__(self, folder: Path, seed: int, n_workers: int) -> None:
        self.folder, self.random, self.n_workers = folder, random.Random(seed), n_workers
        self.farm = FaultyFarm(folder, seed=seed, FAULTS_FILES=str(folder / "objects"))
        updates = {"ledger_ttl_s": 180, "events_max_length": 2000}
        self.settings = self.farm.settings = self.farm.settings.model_copy(update=updates)
        self.store = LocalBlobStore(folder / "objects")
        self.ledger, self.app = Ledger.from_settings(self.settings), make_app(self.settings)
        self.history = History(folder / "history")
        self.troubles: Counter[str] = Counter()
        self.memory: list[tuple[float, int, int]] = []
        self.ending = threading.Event()
        model = find_model("sine", self.settings.state_dir)
        self.specs = []
        for pitch in range(40, 60):
            data = midi(pitch, seconds=0.1)
            performance = read_performance(data, MidiLimits.from_settings(self.settings))
            self.store.put(midi_object(performance.sha256), data)
            spec = RenderSpec(
                performance_sha256=performance.sha256,
                model_digest=model.digest,
                model_name=model.name,
                audio_s=performance.duration_s,
            )
            self.specs.append(spec)

    def spec(self, number: int) -> RenderSpec:
        """The n-th render: another lead-in is another key, hence other noise."""
        options = RenderOptions(warm_up_s=number / 1e5)
        return self.specs[number % len(self.specs)].model_copy(update={"options": options})

    def submit(self, numbers: range) -> list[str]:
        batch = new_id()
        requests = [JobRequest(self.spec(number), batch, priority=PriorityClass.BULK) for number in numbers]
        tickets = insistently(lambda: self.ledger.submit_many(requests))
        for ticket in tickets:
            self.history.note("submitted", job=ticket.job_id, key=ticket.key)
        with contextlib.suppress(ServiceUnavailable):  # the sweeper publishes them then
            publish_tickets(self.app, tickets)
        for ticket in self.random.sample(tickets, len(tickets) // CANCEL_ONE_IN):
            before = insistently(lambda ticket=ticket: self.ledger.cancel_job(ticket.job_id))
            self.history.note("cancelled", job=ticket.job_id, before=str(before))
        return [ticket.job_id for ticket in tickets]

    def settled(self, jobs: list[str], began: float) -> bool:
        """True when all of them are finished, or should be; what became of them is noted then."""
        statuses = insistently(lambda: self.ledger.jobs(jobs))
        late = time.monotonic() - began > WAVE_PATIENCE_S
        if not late and not all(status.state.final for status in statuses):
            return False
        for status in statuses:
            said = stored = None
            if status.state is State.DONE and status.render and status.render.result:
                said = status.render.result.audio_sha256
                with contextlib.suppress(NotFound):
                    stored = hashlib.sha256(self.store.get(status.render.result.audio_key)).hexdigest()
            self.history.note(
                "final", job=status.job_id, key=status.key, state=str(status.state), said=said, stored=stored
            )
        return True

    def disturb(self, every_s: float) -> None:
        """Runs in a thread of its own."""
        while not self.ending.wait(every_s * self.random.uniform(0.5, 1.5)):
            try:
                (trouble,) = self.random.choices(list(TROUBLES), TROUBLES.values())
                if self._do(trouble):
                    self.troubles[trouble] += 1
                    self.history.note("fault", point="anywhere", action=trouble)
                self.farm.ready(self.n_workers)
            except AssertionError as error:  # a worker that does not come up would be the farm's end
                print(error, file=sys.stderr)

    def _do(self, trouble: str) -> bool:
        worker = self.random.choice(self.farm.workers)
        pid = worker.process.popen.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        with contextlib.suppress(ProcessLookupError):
            if trouble == "worker killed":
                worker.process.kill()
            elif trouble == "sweeper killed":
                self.farm.sweepers[0].kill()
            elif trouble == "redis killed":
                self.farm.restart_redis(after_s=self.random.uniform(0.0, 3.0))
            elif not children:
                return False
            elif trouble == "child killed":
                os.kill(int(children[0]), signal.SIGKILL)
            else:
                os.kill(int(children[0]), signal.SIGSTOP)
                self.ending.wait(2 * self.settings.lease_s)
                os.kill(int(children[0]), signal.SIGCONT)
            return True
        return False

    def watch(self) -> None:
        """Runs in a thread of its own."""
        began = time.monotonic()
        while not self.ending.wait(1.0):
            with contextlib.suppress(Exception), self.farm.server.client() as client:
                used = client.info("memory")["used_memory"]
                self.memory.append((time.monotonic() - began, used, client.dbsize()))

    def compare(self, n_renders: int) -> int:
        """Make a sample of the renders again, with nobody in the way."""
        piano = sine_piano()
        shelf = Shelf(self.store, self.settings.state_dir, lambda info: piano(info, self.folder))
        files = LocalBlobStore(self.folder / "undisturbed")
        for spec in self.specs:
            files.put(midi_object(spec.performance_sha256), self.store.get(midi_object(spec.performance_sha256)))
        workshop = Workshop(self.settings, files, shelf, "alone")
        chosen = range(0, n_renders, COMPARE_ONE_IN)
        for number in chosen:
            spec = self.spec(number)
            claim = Claim(spec.key, "1:alone", 60.0, spec, 1, PriorityClass.BULK, 0.0)
            result = workshop.make(Hold(claim, StopSign()))
            self.history.note("undisturbed", key=spec.key, sha256=result.audio_sha256)
        return len(chosen)

    def run(self, n_renders: int, every_s: float, at_most_s: float) -> tuple[int, float]:
        """Submit in waves until all is settled; returns how many renders were submitted, and the seconds it took."""
        self.farm.ready(self.n_workers)
        threads = [threading.Thread(target=self.disturb, args=(every_s,)), threading.Thread(target=self.watch)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        waves: list[tuple[list[str], float]] = []
        next_number = 0
        while next_number < n_renders or waves:
            if time.monotonic() - began > at_most_s:
                n_renders = next_number
            while next_number < n_renders and len(waves) < WAVES_AT_A_TIME:
                numbers = range(next_number, min(n_renders, next_number + WAVE))
                waves.append((self.submit(numbers), time.monotonic()))
                next_number = numbers.stop
            waves = [wave for wave in waves if not self.settled(*wave)]
            time.sleep(0.2)
        took_s = time.monotonic() - began
        self.ending.set()
        for thread in threads:
            thread.join()
        return next_number, took_s

    def close(self) -> None:
        self.app.close()
        self.ledger.close()
        self.farm.close()


def insistently(ask):
    """As a client does that must not give up: every call of the ledger may be repeated."""
    while True:
        try:
            return ask()
        except ServiceUnavailable:
            time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--renders", type=int, default=20_000)
    parser.add_argument("--kill-every-s", type=float, default=4.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--at-most-s", type=float, default=3600.0, help="submit nothing more after this long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--publish", action="store_true", help="keep the counts, and write them into docs/reliability.md"
    )
    parser.add_argument("--folder", type=Path, default=Path(".state/soak"))
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    how = conditions() | {"seed": options.seed}
    soak = Soak(options.folder.absolute(), options.seed, options.workers)
    try:
        n_renders, took_s = soak.run(options.renders, options.kill_every_s, options.at_most_s)
    except PianofarmError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        soak.ending.set()
        soak.close()
    n_compared = soak.compare(n_renders)
    history = read(options.folder / "history")
    # What Redis must remember follows the pace of the last minutes; memory is flat where a key costs the same at the end.
    later = [(used, keys) for at_s, used, keys in soak.memory if at_s > soak.settings.ledger_ttl_s and keys]
    third = max(1, len(later) // 3)
    report = (
        count(history)
        | how
        | {
            "load_after": round(os.getloadavg()[0], 2),
            "compared": n_compared,
            "troubles": dict(sorted(soak.troubles.items())),
            "took_s": round(took_s, 1),
            "renders_per_s": round(n_renders / took_s, 1),
            "redis_mb_peak": round(max(used for _, used, _ in soak.memory) / 1e6, 1),
            "redis_bytes_a_key_first_third": round(median(used / keys for used, keys in later[:third]))
            if later
            else None,
            "redis_bytes_a_key_last_third": round(median(used / keys for used, keys in later[-third:]))
            if later
            else None,
            "redis_keys_peak": max(keys for _, _, keys in soak.memory),
        }
    )
    if options.publish:
        save("soak", report)
    print(json.dumps(report, indent=1))
    problems = check(history)
    print("\n".join(problems[:50]) or "every promise was kept", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

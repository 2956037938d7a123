"""A worker's Celery app that writes its history and meets with faults at named points. `celery -A faulty_farm worker`.

The production code is wrapped at its seams (ledger, store, piano), never changed. A fault is a file `plan/<point>` that holds an
action; the first worker that gets there takes it, so it happens once. The points, in order:

claimed     after the claim
rendering   in the middle of the render
rendered    after the render, before anything is stored
uploading   the audio is stored, its sidecar is not
stored      everything is stored, nothing is committed
committed   after the commit, before the worker goes on
"""

import contextlib
import faulthandler
import importlib.util
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from history import History
from redis.commands.core import Script

from pianofarm_common.ledger import Claim
from pianofarm_common.settings import Settings
from pianofarm_common.storage import LocalBlobStore, S3BlobStore
from pianofarm_worker import composition
from pianofarm_worker.metering import MeteredLedger

POINTS = ("claimed", "rendering", "rendered", "uploading", "stored", "committed")

#: Mutations of the commit. While the file of this name is there, its condition is that of the right side.
MUTATIONS = {
    "without-fencing": "if r and leased(r) then",
    "without-cancellation": "if r and (leased(r) and r.tok == token or r.last == token and r.st == 'cancelled') then",
}

#: Longest wait for the test's `go`; it only ends workers of a test that failed.
PATIENCE_S = 120.0


class Faults:
    """The plan of the test, as a worker sees it."""

    def __init__(self, folder: Path, history: History) -> None:
        self.folder = folder
        self.history = history

    def arm(self, point: str, action: str) -> None:
        """Called by the test."""
        self.folder.mkdir(exist_ok=True)
        part = self.folder / f".{point}"
        part.write_text(action)
        part.rename(self.folder / point)

    def pass_by(self, keys: set[str]) -> None:
        """Called by the test: these renders are of the past, and what still happens to them meets no fault."""
        self.folder.mkdir(exist_ok=True)
        part = self.folder / ".part-past"
        part.write_text("\n".join(keys))
        part.rename(self.folder / ".past")

    def disarm(self) -> None:
        """Called by the test: everybody may go on."""
        for file in self.folder.glob("*"):
            file.unlink(missing_ok=True)

    def taken(self, point: str) -> int:
        """The process that met the fault, 0 where none did; called by the test."""
        found = list(self.folder.glob(f"{point}.taken.*"))
        return int(found[0].suffix[1:]) if found else 0

    def let_go(self, point: str) -> None:
        """Called by the test."""
        for file in self.folder.glob(f"{point}.taken.*"):
            file.unlink()

    def reach(self, point: str, key: str) -> None:
        """Called by the worker."""
        if os.environ.get("FAULTS_PACE_S") and point == "rendering":
            time.sleep(float(os.environ["FAULTS_PACE_S"]))
        taken = self.folder / f"{point}.taken.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            if key in (self.folder / ".past").read_text().splitlines():
                return
        try:
            (self.folder / point).rename(taken)
        except FileNotFoundError:
            return
        action = taken.read_text()
        self.history.note("fault", point=point, action=action, key=key)
        ACTIONS[action](taken)


def _kill(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_all(_: Path) -> None:
    os.killpg(0, signal.SIGKILL)


def _stop(_: Path) -> None:
    # To this thread: sent to the process another thread may take it, and this one would go on for milliseconds, and commit.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def _wait(taken: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while taken.exists() and time.monotonic() < end:
        time.sleep(0.02)


def _run_out_of_memory(_: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (64 << 20)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


ACTIONS: dict[str, Callable[[Path], None]] = {
    "kill": _kill,
    "kill worker": _kill_all,
    "stop": _stop,
    "wait": _wait,
    "memory": _run_out_of_memory,
}


def mutated(ledger: MeteredLedger, condition: str) -> Script:
    """A commit that asks for less than it should."""
    script = ledger._scripts._scripts["commit"]
    text = script.script.decode() if isinstance(script.script, bytes) else script.script
    whole = "if r and leased(r) and r.tok == token then"
    assert text.count(whole) == 1
    return ledger._redis.register_script(text.replace(whole, condition))


def watched(faults: Faults) -> type[MeteredLedger]:
    note = faults.history.note

    class WatchedLedger(MeteredLedger):
        def claim_many(self, keys, worker, rest=(), made=()):
            answers = super().claim_many(keys, worker, rest, made)
            claims = [answer for answer in answers if isinstance(answer, Claim)]
            for claim in claims:
                note("claimed", key=claim.key, token=claim.token, attempt=claim.attempt)
            for claim in claims:
                faults.reach("claimed", claim.key)
            return answers

        def commit_many(self, made):
            for key, token, _ in made:
                faults.reach("stored", key)
                note("committing", key=key, token=token)
            whole = self._scripts._scripts["commit"]
            for name, condition in MUTATIONS.items():
                if (faults.folder.parent / name).exists():
                    self._scripts._scripts["commit"] = mutated(self, condition)
            try:
                problems = super().commit_many(made)
            except Exception as error:
                for key, token, _ in made:
                    note("committed", key=key, token=token, outcome=type(error).__name__)
                raise
            finally:
                self._scripts._scripts["commit"] = whole
            for (key, token, _), problem in zip(made, problems, strict=True):
                note("committed", key=key, token=token, outcome=type(problem).__name__ if problem else "ok")
                if problem is None:
                    faults.reach("committed", key)
            return problems

    return WatchedLedger


def storing(faults: Faults) -> type:
    files = os.environ.get("FAULTS_FILES")

    class WatchedStore(LocalBlobStore if files else S3BlobStore):
        @classmethod
        def from_settings(cls, settings):
            return cls(Path(files)) if files else super().from_settings(settings)

        def put(self, key, data, content_type="application/octet-stream"):
            render = key.split("/")[2] if key.startswith("renders/") else ""
            is_audio = "/audio." in key
            if is_audio:
                faults.reach("rendered", render)
            super().put(key, data, content_type)
            if is_audio:
                faults.reach("uploading", render)

    return WatchedStore


def sine_piano() -> type:
    """SinePiano of the integration tests; imported under its own name that module would be a worker of its own."""
    place = Path(__file__).parents[1] / "integration" / "sine_farm.py"
    spec = importlib.util.spec_from_file_location("sine_piano", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SinePiano


def piano_with(faults: Faults) -> type:
    class FaultyPiano(sine_piano()):
        def render(self, performance, options, *, seed, progress=None):
            def report(fraction: float) -> None:
                progress(fraction)
                if fraction == 0.5:
                    faults.reach("rendering", performance.sha256)

            return super().render(performance, options, seed=seed, progress=report if progress else None)

    return FaultyPiano


if __name__ == "faulty_farm" and "FAULTS_HISTORY" in os.environ:  # not when a test wants the names above
    faulthandler.register(signal.SIGUSR2, all_threads=True)  # a test that waited in vain asks where everybody is
    _settings = Settings.load()
    _faults = Faults(Path(os.environ["FAULTS_PLAN"]), History(Path(os.environ["FAULTS_HISTORY"])))
    composition.MeteredLedger = watched(_faults)
    composition.S3BlobStore = storing(_faults)
    _piano = piano_with(_faults)
    app = composition.compose(_settings, load_piano=lambda info: _piano(info, _settings.state_dir))

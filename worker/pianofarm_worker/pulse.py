"""The pulse of a worker process: a thread that renews the leases in hand, learns of cancellation, and keeps the worker registered.

A thread of its own, because a render may sit in one library call for many seconds; such calls let other threads run. But a
render that sits in one for ever must not keep its lease: after STALL_S the pulse ends the process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pianofarm_common.errors import Cancelled, LeaseLost, PianofarmError
from pianofarm_common.ledger import Claim, Ledger, WorkerInfo
from pianofarm_common.logs import get_logger
from pianofarm_common.settings import Settings
from pianofarm_worker.stopping import Stopping, StopSign

#: A cancelled render stops at the first block of audio after this long.
CANCEL_CHECK_S = 0.5

#: The worker says that it is alive this often.
PRESENCE_S = 5.0

#: Longest time between two signs of progress; far above the slowest block of audio or compilation of a model.
STALL_S = 900.0

log = get_logger(__name__)


class Hold:
    """A claimed render in the hands of this process."""

    def __init__(self, claim: Claim, sign: StopSign) -> None:
        self.claim = claim
        self.fraction = 0.0
        self.uploading = False  #: its sound is made and passed the gates; it is being stored, or waits for that
        self.cancelled = False
        self.lost = False
        self.moved_at = time.monotonic()
        self._sign = sign

    def report(self, fraction: float) -> None:
        """Note how far the work is, 0..1; the progress callback of `Piano.render`. Raises as `check` does."""
        self.fraction = fraction
        self.check()

    def check(self) -> None:
        """Call between steps of the work.

        Raises:
            Cancelled: nobody waits for the render any more.
            LeaseLost: another worker has it.
            Stopping: this process must end now.
        """
        self.check_held()
        if self._sign.is_due:
            raise Stopping("this worker is being stopped")

    def check_held(self) -> None:
        """Call between steps of the upload, which a worker that is being stopped still finishes.

        Raises:
            Cancelled: nobody waits for the render any more.
            LeaseLost: another worker has it.
        """
        self.moved_at = time.monotonic()
        if self.cancelled:
            raise Cancelled(f"render {self.claim.key} was cancelled: nobody waits for it any more")
        if self.lost:
            raise LeaseLost(
                f"the lease of render {self.claim.key} is lost: another worker has it, or it was finished meanwhile"
            )


def end_process() -> None:
    """Kill this process: the pool starts another, the lease lapses, and the attempt counts as a dead worker."""
    os.kill(os.getpid(), signal.SIGKILL)


def resident_mb() -> float:
    """Memory of this process; 0.0 where the system does not say."""
    try:
        n_pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return round(n_pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


class Pulse:
    """Beats from `start` on, in a daemon thread; one a process, started after the fork."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        me: WorkerInfo,
        sign: StopSign,
        *,
        stall_s: float = STALL_S,
        on_stall: Callable[[], None] = end_process,
    ) -> None:
        self._ledger = ledger
        self._interval_s = min(settings.heartbeat_s, CANCEL_CHECK_S)
        self._me = me
        self._sign = sign
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._holds: dict[str, Hold] = {}
        self._renders_done = 0
        self._rests = ""
        self._ending = threading.Event()
        self._beats_to_presence = 0

    @property
    def name(self) -> str:
        """Name of this worker."""
        return self._me.name

    @property
    def host(self) -> str:
        """The host it runs on."""
        return self._me.host

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def stop(self) -> None:
        """Beat no more, and strike this worker off the register."""
        self._ending.set()
        try:
            self._ledger.forget_worker(self._me.name)
        except PianofarmError as error:
            log.warning("not struck off the register", error=str(error))

    def hold(self, claim: Claim) -> Hold:
        """Renew the lease of a claim from now on, until `drop`."""
        hold = self._holds[claim.token] = Hold(claim, self._sign)
        return hold

    def drop(self, hold: Hold, *, done: bool = False) -> None:
        """Renew a lease no more; `done`: the render was committed. Dropping twice does nothing."""
        if self._holds.pop(hold.claim.token, None) is not None and done:
            self._renders_done += 1

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[Hold]:
        """Renew the lease of a claim while the block runs."""
        hold = self.hold(claim)
        try:
            yield hold
        finally:
            self.drop(hold)

    @contextmanager
    def resting(self, why: str) -> Iterator[None]:
        """Say, while the block runs, that this worker takes no work, and why."""
        self._rests = why
        self._beats_to_presence = 0
        try:
            yield
        finally:
            self._rests = ""
            self._beats_to_presence = 0

    def _run(self) -> None:
        while True:
            try:
                self._beat()
            except PianofarmError as error:
                # Redis may come back before the lease lapses; if not, the commit will say so.
                log.warning("heartbeat failed", error=str(error))
            except Exception:
                log.exception("heartbeat failed")
            if self._ending.wait(self._interval_s):
                return

    def _beat(self) -> None:
        holds = list(self._holds.values())
        # One that is made may wait for the delivery of another, which waits for Redis: only where nothing moves there is a stall.
        moved = max(holds, key=lambda hold: hold.moved_at, default=None)
        if moved is not None and time.monotonic() - moved.moved_at > self._stall_s:
            log.critical("render stalled, process ends", render=moved.claim.key, stall_s=self._stall_s)
            self._on_stall()
            return
        for hold in holds:
            self._renew(hold)
        if self._beats_to_presence <= 0:
            self._beats_to_presence = round(PRESENCE_S / self._interval_s)
            # Of several the one that is being rendered, if there is one.
            key = max(holds, key=lambda hold: not hold.uploading).claim.key if holds else ""
            me = replace(self._me, key=key, renders_done=self._renders_done, rests=self._rests, memory_mb=resident_mb())
            self._ledger.register_worker(me)
        self._beats_to_presence -= 1

    def _renew(self, hold: Hold) -> None:
        claim = hold.claim
        if hold.cancelled or hold.lost or claim.token not in self._holds:
            return
        try:
            hold.cancelled = self._ledger.progress(claim.key, claim.token, hold.fraction, uploading=hold.uploading)
        except LeaseLost:
            # After a commit the token is void, and this thread may be the last to know.
            hold.lost = claim.token in self._holds

"""Up and down: starts the supervisor of the local farm, waits until everything answers, stops it. Prints nothing."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pianofarm.local.plan import Facts, OwnServices, StateFolder, make_facts, make_plan, read_facts, write_facts
from pianofarm.local.supervisor import LOG_MARK, Plan, Program, Supervisor
from pianofarm_common.errors import ServiceUnavailable
from pianofarm_common.settings import Settings

#: Makes the worker programs (and the sweeper) of a farm, once its addresses are known.
Workers = Callable[[StateFolder], tuple[Program, ...]]


@dataclass(frozen=True)
class RunningProgram:
    """What the supervisor says of one program."""

    name: str
    pid: int | None  #: None: between two starts
    restarts: int
    log: Path


class LocalFarm:
    """The local farm of one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self.folder = StateFolder(state_dir.absolute())

    @property
    def is_up(self) -> bool:
        """True while a supervisor lives."""
        try:
            with self.folder.lock.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def facts(self) -> Facts | None:
        """Ports and credentials of the last start."""
        return read_facts(self.folder)

    def programs(self) -> list[RunningProgram]:
        """What the supervisor runs now, in the order of starting; empty when the farm was stopped."""
        try:
            status = json.loads(self.folder.status.read_text())
        except (OSError, ValueError):
            return []
        return [
            RunningProgram(name=name, pid=program["pid"], restarts=program["restarts"], log=Path(program["log"]))
            for name, program in status["programs"].items()
        ]

    def up(self, settings: Settings, workers: Workers, *, flower: bool = True, attached: bool = False) -> bool:
        """Start the farm in the background; False where it is up already. Does not wait until its programs answer.

        Args:
            settings: decide ports.
            workers: makes the worker programs.
            flower: start Flower as well.
            attached: the farm ends with the thread that calls this, however that ends.

        Raises:
            BadSettings: the state folder cannot be written, or packages are missing.
            ServiceUnavailable: the supervisor ended at once; names its log.
        """
        lock = self._lock()
        if lock is None:
            return False
        with lock:
            plan = self._plan(settings, workers, flower=flower)
            with (self.folder.logs / "supervisor.log").open("ab") as log:
                supervisor = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "pianofarm.local.supervisor",
                        str(lock.fileno()),
                        *(["--attached"] if attached else []),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                    cwd="/",
                )
            assert supervisor.stdin is not None  # noqa: S101 - it was asked for
            supervisor.stdin.write(plan.dumps().encode())
            supervisor.stdin.close()
            # Not ours to wait for: it is meant to outlive this process.
            supervisor.returncode = 0
        try:
            self.wait_for("the supervisor", self.folder.status.is_file, program="supervisor", timeout_s=30.0)
        except BaseException:
            self.down()
            raise
        return True

    def start_deferred(self) -> None:
        """Start the programs that were put off; where there are none, nothing happens."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._supervisor_pid(), signal.SIGUSR1)

    def run(
        self, settings: Settings, workers: Workers, *, flower: bool = True, started: Callable[[], None] | None = None
    ) -> bool:
        """Run the farm in this process until a signal stops it; False where it is up already."""
        lock = self._lock()
        if lock is None:
            return False
        with lock:
            plan = self._plan(settings, workers, flower=flower)
            Supervisor(plan).run(started)
        return True

    def down(self) -> bool:
        """Stop the farm and wait until nothing of it runs; False where it was not up.

        Raises:
            ServiceUnavailable: it does not stop.
        """
        if not self.is_up:
            return False
        pid = self._supervisor_pid()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        # Every program has a grace period of its own in the supervisor; this is the wait for all of them.
        deadline = time.monotonic() + 90.0
        while self.is_up:
            if time.monotonic() > deadline:
                # Its programs die with it: the kernel sees to that.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise ServiceUnavailable(f"the local farm (process {pid}) did not stop within 90 s and was killed")
            time.sleep(0.05)
        return True

    def wait_for(self, what: str, answers: Callable[[], bool], *, program: str, timeout_s: float) -> None:
        """Wait until `answers()`.

        Raises:
            ServiceUnavailable: it never did; the message names the program's log and quotes its last line.
        """
        deadline = time.monotonic() + timeout_s
        while not answers():
            died = next(
                (running for running in self.programs() if running.name == program and running.restarts >= 3), None
            )
            if died or time.monotonic() > deadline or not self.is_up:
                why = f"ended {died.restarts} times" if died else f"did not answer within {timeout_s:g} s"
                log = self.folder.logs / f"{program}.log"
                raise ServiceUnavailable(f"{what} {why}: {_last_line(log)} (see {log})")
            time.sleep(0.05)

    def flower_answers(self) -> bool:
        """True when Flower takes its credentials."""
        facts = self.facts
        if facts is None:
            return False
        token = base64.b64encode(f"{facts.flower_user}:{facts.flower_password}".encode()).decode()
        request = urllib.request.Request(f"{facts.flower_url}/api/workers", headers={"Authorization": f"Basic {token}"})  # noqa: S310 - always http on loopback
        try:
            with urllib.request.urlopen(request, timeout=2.0) as answer:  # noqa: S310 - as above
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    def _plan(self, settings: Settings, workers: Workers, *, flower: bool) -> Plan:
        own = OwnServices.found()
        facts = make_facts(self.folder, settings)
        plan = make_plan(self.folder, facts, own, workers(self.folder), flower=flower)
        write_facts(self.folder, facts, own)
        return plan

    def _lock(self) -> IO[bytes] | None:
        """The supervisor's lock, or None where somebody holds it."""
        self.folder.make()
        lock = self.folder.lock.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        # A supervisor that was killed left it: its process id may be somebody else's by now.
        self.folder.status.unlink(missing_ok=True)
        return lock

    def _supervisor_pid(self) -> int:
        """The process that holds the lock; it writes its status a moment after it took it."""
        deadline = time.monotonic() + 10.0
        while True:
            try:
                return int(json.loads(self.folder.status.read_text())["pid"])
            except (OSError, ValueError, KeyError):
                if time.monotonic() > deadline:
                    raise ServiceUnavailable(
                        f"somebody holds {self.folder.lock} but says nothing in {self.folder.status}: end that process by hand"
                    ) from None
                time.sleep(0.05)


def _last_line(log: Path) -> str:
    """The last line that the program itself wrote to its log."""
    try:
        text = log.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(LOG_MARK)]
    except OSError:
        return "no log"
    return lines[-1].strip() if lines else "nothing in its log"

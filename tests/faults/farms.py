"""A farm whose every connection can be cut and whose every process can be killed; what is done to it, and when, is not said here."""

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from clock import Clock
from farm import environment, make_model
from faulty_farm import MUTATIONS, Faults
from history import History, read
from network import Cable, Host, Network
from proxy import Proxy
from pydantic import SecretStr
from redis_server import PASSWORD, Loopback, RedisServer
from scenario import TIMEOUT_S, Scenario
from services import Process, free_port, start_s3, wait_for_disk, wait_until

from pianofarm import Farm
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore

HERE = Path(__file__).parent
ACCESS_KEY, SECRET_KEY = "the-access-key", "the-secret-key"


@dataclass
class Worker:
    name: str
    proxy: Proxy | Cable  #: what it reaches Redis through
    process: Process


class FaultyFarm:
    """Redis, storage, two workers, a sweeper and a producer: processes, with a proxy between any two that talk."""

    def __init__(self, folder: Path, *, seed: int = 1, clocks: bool = False, **environ: str) -> None:
        self.folder, self.environ = folder, environ
        self.random = random.Random(seed)
        self.clock = Clock(folder / "workers-clock") if clocks else None
        clock = Clock(folder / "redis-clock") if clocks else None
        self.server = RedisServer(folder / "redis-0", clock, self.host("redis"))
        self.server.start()
        storage_port = free_port()
        self.storage = None
        if "FAULTS_FILES" not in environ:
            (folder / "s3").mkdir(parents=True)
            with self.host("storage").entered():
                bind = self.host("storage").bind
                self.storage = start_s3(folder / "s3", storage_port, ACCESS_KEY, SECRET_KEY, bind=bind)
        self.redis_proxy = self.line("redis", "redis", self.server.port)
        self.storage_proxy = self.line("storage", "storage", storage_port)
        self.settings = Settings(
            state_dir=folder / "state",
            redis_url=SecretStr(self._redis_url(self.redis_proxy)),
            redis_timeout_s=2.0,
            s3_endpoint=f"http://{self.host('storage').address}:{storage_port}",
            s3_access_key=SecretStr(ACCESS_KEY),
            s3_secret_key=SecretStr(SECRET_KEY),
            s3_bucket="faults",
            s3_timeout_s=1.0,
            model="sine",
            lease_s=2.0,
            heartbeat_s=0.3,
            sweep_interval_s=0.1,
            lost_message_s=1.0,
            backoff_base_s=0.05,
            backoff_max_s=0.5,
            # Faults come one after the other here; on a busy host a lease may lapse for nothing, too.
            max_attempts=20,
            soft_shutdown_s=2.0,
        )
        make_model(self.settings.state_dir)
        self.digest = ""
        self.workers: list[Worker] = []
        self.sweepers: list[Process] = []
        self.n_started = 0
        self.counts: dict[str, int] = {}  #: of the last scenario that was finished
        if self.storage is not None:
            with contextlib.closing(S3BlobStore.from_settings(self.settings)) as store:
                store.ensure_bucket()

    # -- hosts --------------------------------------------------------------------------------------------------------

    def host(self, name: str) -> Host | Loopback:
        return Loopback()

    def line(self, host: str, target: str, port: int) -> Proxy | Cable:
        """What leads from `host` to a port of another, or of itself: to cut, and to heal."""
        return Proxy(port)

    # -- processes ----------------------------------------------------------------------------------------------------

    def _redis_url(self, proxy: Proxy | Cable) -> str:
        return f"redis://:{PASSWORD}@{proxy.address}:{proxy.port}/0"

    def start_worker(self) -> Worker:
        self.n_started += 1
        name = f"worker{self.n_started}"
        proxy = self.line(name, "redis", self.server.port)
        argv = [sys.executable, "-m", "celery", "--app=faulty_farm", "--quiet", "worker", "--pool=prefork"]
        argv += ["--concurrency=1", "--queues=interactive,standard,bulk", f"--hostname={name}@%h"]
        argv += ["--without-gossip", "--without-mingle"]
        env = environment(self.settings) | {
            "PYTHONPATH": os.pathsep.join(map(str, (HERE, HERE.parent / "integration", *sys.path))),
            "PIANOFARM_REDIS_URL": self._redis_url(proxy),
            "PIANOFARM_S3_ENDPOINT": f"http://{self.storage_proxy.address}:{self.storage_proxy.port}",
            "FAULTS_PLAN": str(self.folder / "plan"),
            "FAULTS_HISTORY": str(self.folder / "history"),
        }
        if self.clock:
            env |= self.clock.environ
        with self.host(name).entered():
            worker = Worker(name, proxy, Process(argv, self.folder / f"{name}.log", env | self.environ))
        self.workers.append(worker)
        return worker

    def ready(self, n_workers: int = 2, n_sweepers: int = 1) -> None:
        """Start what is missing, and wait for it."""
        for worker in [worker for worker in self.workers if not worker.process.alive]:
            worker.process.kill()
            worker.proxy.close()
            self.workers.remove(worker)
        while len(self.workers) < n_workers:
            self.start_worker()
        self.sweepers = [process for process in self.sweepers if process.alive]
        while len(self.sweepers) < n_sweepers:
            argv = [sys.executable, "-m", "pianofarm_worker.sweeper"]
            log = self.folder / "sweeper.log"
            self.sweepers.append(Process(argv, log, environment(self.settings)))
        for worker in self.workers:
            wait_until(
                lambda worker=worker: "ready." in worker.process.output(),
                worker.name,
                TIMEOUT_S,
                worker.process,
            )

    def worker_of(self, pid: int) -> Worker:
        """The worker that a child process belongs to."""
        group = os.getpgid(pid)
        return next(worker for worker in self.workers if worker.process.popen.pid == group)

    def where_everybody_is(self) -> str:
        """The last that each worker and sweeper said, and the stacks of their processes, children included."""
        processes = {worker.name: worker.process for worker in self.workers}
        processes |= {f"sweeper{number}": process for number, process in enumerate(self.sweepers)}
        for name, process in processes.items():
            if process.alive and name.startswith("worker"):
                process.signal_group(signal.SIGUSR2)
        time.sleep(1.0)
        said = [f"-- {name}, alive: {process.alive}\n{process.output()[-3000:]}" for name, process in processes.items()]
        with contextlib.suppress(redis.RedisError), self.server.client() as client:
            said.append(f"-- queues: {[(name, client.llen(name)) for name in ('interactive', 'standard', 'bulk')]}")
        return "\n".join(said)

    def stop_everybody(self) -> None:
        """Kill workers and sweepers; `ready` starts new ones."""
        for process in [worker.process for worker in self.workers] + self.sweepers:
            process.kill()

    def close(self) -> None:
        self.stop_everybody()
        self.server.kill()
        if self.storage is not None:
            self.storage.kill()
        for proxy in [worker.proxy for worker in self.workers] + [self.redis_proxy, self.storage_proxy]:
            proxy.close()

    # -- faults around a worker that waits at a point -------------------------------------------------------------------

    def restart_redis(self, after_s: float = 0.0) -> None:
        """Kill it and start it again; it keeps what it acknowledged, which is the condition of every promise."""
        wait_for_disk(self.server.client())
        self.server.kill()
        time.sleep(after_s)
        self.server.start()

    def freeze_redis(self, for_s: float) -> None:
        self.server.process.signal(signal.SIGSTOP)
        time.sleep(for_s)
        self.server.process.signal(signal.SIGCONT)

    def fill_redis_disk(self, for_s: float) -> None:
        self.server.fill_disk()

        def refuses() -> bool:
            with self.server.client() as client:
                try:
                    client.set("{pianofarm}:probe", "1", ex=60)
                except redis.ResponseError as error:
                    return "MISCONF" in str(error)
                return False

        wait_until(refuses, "a Redis with a full disk refuses to write")
        time.sleep(for_s)
        self.server.make_room()

    def fail_over(self) -> None:
        """A replica that is up to date takes over, and everybody is sent to it."""
        replica, line = self.start_replica()
        with self.server.client() as client:
            assert client.execute_command("WAIT", 1, 5000) == 1
        self.promote(replica, line)

    def start_replica(self) -> tuple[RedisServer, Proxy]:
        """A second Redis that follows the first one, and the line on which it hears of it."""
        line = Proxy(self.server.port)
        replica = RedisServer(self.folder / f"redis-{line.port}")
        replica.start("--replicaof", f"127.0.0.1 {line.port}")

        def follows() -> bool:
            with replica.client() as client:
                return client.info("replication")["master_link_status"] == "up"

        wait_until(follows, "the replica follows")
        return replica, line

    def promote(self, replica: RedisServer, line: Proxy) -> None:
        """The first Redis dies and the replica takes over; what it did not hear of is gone."""
        self.server.kill()
        with replica.client() as client:
            client.execute_command("REPLICAOF", "NO", "ONE")
        line.close()
        self.server = replica
        for proxy in [self.redis_proxy, *(worker.proxy for worker in self.workers)]:
            proxy.target = replica.port

    # -- scenarios ------------------------------------------------------------------------------------------------------

    @contextmanager
    def mutated(self, name: str) -> Iterator[None]:
        """Workers commit by this mutation meanwhile."""
        assert name in MUTATIONS, name
        mark = self.folder / name
        mark.touch()
        yield
        mark.unlink()

    @contextmanager
    def scenario(self) -> Iterator[Scenario]:
        """A history of its own on this farm; what is armed and not met ends with it."""
        faults = Faults(self.folder / "plan", History(self.folder / "history"))
        past = {entry["key"] for entry in read(self.folder / "history") if entry["kind"] == "submitted"}
        faults.pass_by(past)
        since_ns = time.monotonic_ns()
        with Farm(self.settings) as farm:
            scenario = Scenario(self, farm, faults, since_ns)
            try:
                yield scenario
            except AssertionError as error:
                error.add_note(self.where_everybody_is())
                self.stop_everybody()  # one failure must not become that of every scenario after it
                raise
            finally:
                faults.disarm()
                self.storage_proxy.heal()


class FarmOnHosts(FaultyFarm):
    """The same, each process on a host of its own; made and used where this thread is on the producer's host."""

    def __init__(self, folder: Path, network: Network, *, seed: int = 1) -> None:
        self.network = network
        super().__init__(folder, seed=seed)

    def host(self, name: str) -> Host:
        return self.network.host(name)

    def line(self, host: str, target: str, port: int) -> Cable:
        return Cable(self.host(host), self.host(target).address, port)

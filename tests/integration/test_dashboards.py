"""Every query of every dashboard, asked of a real Prometheus that scrapes a farm with something of everything in it."""

import json
import math
import shutil
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis
import yaml
from services import Process, accepts, free_port, wait_until

from pianofarm_common.errors import BadMidi, ServiceUnavailable
from pianofarm_common.ledger import Claim, JobRequest, Refusal, WorkerInfo, new_id
from pianofarm_common.renders import PriorityClass, RenderResult, RenderSpec
from pianofarm_common.settings import Settings
from pianofarm_worker import exporter
from pianofarm_worker.metering import MeteredLedger, MeteredMaker, serve_metrics
from pianofarm_worker.pulse import Hold
from pianofarm_worker.stopping import StopSign
from pianofarm_worker.workshop import Outcome

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"

pytestmark = [
    pytest.mark.slow,
    # Not one of the services that CI must have: `make alerts` installs it and runs this file.
    pytest.mark.skipif(
        shutil.which("prometheus") is None, reason="no prometheus on this machine: 'make alerts' installs it (Debian)"
    ),
]


class Maker:
    """Makes a result without audio, or what the test asks for."""

    def render(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, Outcome]]:
        for hold in holds:
            if hold.claim.spec.model_name == "unreachable":
                yield hold, ServiceUnavailable("the store is away")
            elif hold.claim.spec.model_name == "unreadable":
                yield hold, BadMidi("byte 7")
            else:
                yield hold, self.result(hold.claim)

    def store(self, hold: Hold, made: RenderResult) -> RenderResult:
        return made

    def result(self, claim: Claim) -> RenderResult:
        return RenderResult(
            key=claim.key,
            spec=claim.spec,
            audio_key="audio",
            audio_sha256="0" * 64,
            audio_bytes=1,
            audio_s=claim.spec.audio_s,
            sample_rate_hz=24_000,
            channels=1,
            loudness_lufs=None,
            peak_dbfs=-1.0,
            notes=1,
            dropped_notes=0,
            queue_s=claim.queue_s,
            render_s=0.3,
            upload_s=0.02,
            worker="w-gpu",
        )


class BusyFarm:
    """Submits and works, a little of everything in each round, on a real ledger with the metering of a real worker."""

    def __init__(self, settings: Settings) -> None:
        self.metrics = serve_metrics(settings, "cpu")
        self.ledger = MeteredLedger.watched_by(self.metrics, settings)
        self.maker = MeteredMaker(Maker(), self.metrics, "cpu")
        self.number = 0

    def request(self, priority: PriorityClass, model: str = "default") -> JobRequest:
        self.number += 1
        spec = RenderSpec(
            performance_sha256=f"{self.number:064x}", model_digest="a" * 64, model_name=model, audio_s=20.0
        )
        return JobRequest(spec=spec, batch=new_id(), priority=priority)

    def round(self) -> None:
        ledger = self.ledger
        ledger.register_worker(WorkerInfo("w-gpu", "host", 1, "gpu:0", "tensorflow", 0.0, key="b" * 64))
        ledger.register_worker(WorkerInfo("w-cpu", "host", 2, "cpu", "tensorflow", 0.0))
        for priority in PriorityClass:
            asked = self.request(priority)
            self.work(ledger.submit_many([asked])[0].key)
            ledger.submit_many([JobRequest(spec=asked.spec, batch=new_id(), priority=priority)])
        self.work(ledger.submit_many([self.request(PriorityClass.BULK, "unreachable")])[0].key)
        self.work(ledger.submit_many([self.request(PriorityClass.BULK, "unreadable")])[0].key)
        handed_back = ledger.submit_many([self.request(PriorityClass.BULK)])[0].key
        claim = ledger.claim(handed_back, "w-cpu")
        assert isinstance(claim, Claim)
        assert isinstance(ledger.claim(handed_back, "w-gpu"), Refusal)
        ledger.release(claim.key, claim.token)

    def work(self, key) -> None:
        claim = self.ledger.claim(key, "w-gpu")
        assert isinstance(claim, Claim)
        ((hold, outcome),) = self.maker.render([Hold(claim, StopSign())])
        if isinstance(outcome, Exception):
            self.ledger.fail(key, claim.token, outcome, permanent=isinstance(outcome, BadMidi))
        else:
            self.ledger.commit(key, claim.token, self.maker.store(hold, outcome))


@pytest.fixture
def prometheus(redis_settings: Settings, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes a busy farm every second, with the rules that are shipped."""
    settings = redis_settings.model_copy(
        update={"exporter_port": free_port(), "worker_metrics_port": free_port(), "worker_price_per_h": 3.6}
    )
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        client.config_set("maxmemory", "256mb")
    farm, ending = BusyFarm(settings), threading.Event()
    thread = threading.Thread(target=exporter.run, args=(settings, ending))
    thread.start()

    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    ports = {"pianofarm-exporter": settings.exporter_port, "pianofarm-worker": settings.worker_metrics_port}
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / "rules" / "*.yml")]
    del config["alerting"]
    config["scrape_configs"] = [
        {"job_name": job["job_name"], "static_configs": [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]}
        for job in config["scrape_configs"]
        if job["job_name"] in ports
    ]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    process = Process(
        [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        tmp_path / "prometheus.log",
    )
    try:
        wait_until(accepts(port), "prometheus", process=process)
        for _ in range(14):
            farm.round()
            time.sleep(1.0)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop()
        ending.set()
        thread.join(timeout=20)
        farm.ledger.close()
        with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
            client.config_set("maxmemory", "0")


def ask(address: str, query: str) -> list[dict]:
    """The series of a query over the last ten seconds."""
    now = time.time()
    arguments = urllib.parse.urlencode({"query": query, "start": now - 10, "end": now, "step": 1})
    with urllib.request.urlopen(f"{address}/api/v1/query_range?{arguments}", timeout=20) as answer:  # noqa: S310
        return json.load(answer)["data"]["result"]


def test_every_query_of_every_dashboard_has_an_answer(prometheus: str) -> None:
    empty, asked = [], 0
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                asked += 1
                query = target["expr"].replace("$__rate_interval", "8s")
                try:
                    series = ask(prometheus, query)
                except urllib.error.HTTPError as error:
                    empty.append(f"{path.name}: {panel['title']}: {query}: {error.read().decode()}")
                    continue
                values = [float(value) for line in series for _, value in line["values"]]
                if not any(math.isfinite(value) for value in values):
                    empty.append(f"{path.name}: {panel['title']}: {query}: no figure")
    assert asked > 40
    assert empty == []

    fired = {alert["metric"]["alertname"] for alert in ask(prometheus, 'ALERTS{alertname=~"Pianofarm.*"}')}
    assert "PianofarmLedgerDown" not in fired

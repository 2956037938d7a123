"""A whole farm with a user for each part, at work: no secret in its logs, its tracebacks, its doctor, its ledger or its Flower."""

import base64
import itertools
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis
from deployed import DEPLOY, Deployed
from farm import SineFarm, environment, make_model, midi
from pydantic import SecretStr
from services import Process, accepts, free_port, wait_until
from sine_farm import REFUSED, SILENT

from pianofarm import Farm
from pianofarm.cli.doctor import _findings
from pianofarm_common.errors import BadSettings
from pianofarm_common.ledger import new_id
from pianofarm_common.queue import make_app
from pianofarm_common.renders import State
from pianofarm_common.settings import Settings
from pianofarm_common.storage import S3BlobStore

MESSAGE_KEY = "the-key-that-signs-messages-0123456789"
WEBHOOK_KEY = "the-key-that-signs-webhooks-0123456789"
FLOWER_LOGIN = "operator:the-flower-password"


@dataclass
class Scene:
    """A farm at work, and how to look at it."""

    folder: Path
    settings: dict[str, Settings]
    secrets: list[str]
    flower: int = 0

    def shown(self, text: str) -> list[str]:
        """The secrets in a text, as they are or in base64."""
        return [
            secret
            for secret in self.secrets
            if secret in text or base64.b64encode(secret.encode()).decode().rstrip("=") in text
        ]

    def ask_flower(self, path: str) -> str:
        login = base64.b64encode(FLOWER_LOGIN.encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.flower}{path}", headers={"Authorization": f"Basic {login}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return str(answer.read().decode())


@pytest.fixture(scope="module")
def scene(s3_settings: Settings, s3_store: S3BlobStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PIANOFARM_REDIS_URL", raising=False)
        server = Deployed(folder)
        server.stop()
        subprocess.run([sys.executable, DEPLOY / "redis" / "make_users.py", server.secrets], check=True)
        server.start()
    urls = {
        user: next(
            line.partition("=")[2]
            for line in (server.secrets / f"{user}.env").read_text().splitlines()
            if line.startswith("PIANOFARM_REDIS_URL=")
        )
        for user in ("producer", "worker", "sweeper", "flower")
    }
    common = {
        "state_dir": folder / "state",
        "model": "sine",
        "message_keys": SecretStr(MESSAGE_KEY),
        "webhook_keys": SecretStr(WEBHOOK_KEY),
        "log_level": "DEBUG",
        "sweep_interval_s": 0.2,
    }
    settings = {
        user: s3_settings.model_copy(update={**common, "redis_url": SecretStr(url)}) for user, url in urls.items()
    }
    make_model(folder / "state")
    passwords = [unquote(urlsplit(url).password or "") for url in urls.values()]
    secrets = [
        *passwords,
        s3_settings.s3_secret_key.get_secret_value(),
        MESSAGE_KEY,
        WEBHOOK_KEY,
        FLOWER_LOGIN.partition(":")[2],
    ]
    assert all(len(secret) > 10 for secret in secrets)
    scene = Scene(folder, settings, secrets, free_port())
    farm = SineFarm(settings["worker"], folder)
    farm.worker(PIANOFARM_TASK_EVENTS="true")
    farm.env = environment(settings["sweeper"])
    farm.sweeper()
    argv = [sys.executable, "-m", "celery", "--app=farm_view", "--quiet", "flower", "--address=127.0.0.1"]
    argv += [f"--port={scene.flower}", f"--conf={DEPLOY / 'flower' / 'flowerconfig.py'}", "--inspect_timeout=20000"]
    env = environment(settings["flower"]) | {"PYTHONPATH": str(DEPLOY / "flower"), "FLOWER_BASIC_AUTH": FLOWER_LOGIN}
    flower = Process(argv, folder / "flower.log", env)
    try:
        wait_until(accepts(scene.flower), "flower", process=flower)
        yield scene
    finally:
        flower.stop()
        farm.stop_all()
        server.stop()


def test_a_farm_whose_parts_have_users_of_their_own_renders_and_shows_no_secret(scene: Scene) -> None:
    with Farm(scene.settings["producer"]) as farm:
        batch = farm.submit_many([midi(60), midi(64, SILENT), midi(64, REFUSED)])
        farm.call_back(batch, "http://127.0.0.1:9/hook")  # not public: the sweepers refuse it, and say so
        batch.wait(timeout_s=120)
        statuses = batch.statuses()
        assert [status.state for status in statuses] == [State.DONE, State.FAILED, State.FAILED]
        assert batch.jobs[0].result().bytes()[:4] == b"RIFF"
        told = "".join(f"{status!r}" for status in statuses) + "".join(str(e) for e in farm.watch(batch))
        objects = list(farm.services.store.list(""))
        url = batch.jobs[0].result().url()
    assert scene.shown(told + url) == []
    # Object keys say nothing of who asked, and nobody can tell one from a job.
    for status in statuses:
        assert not any(part and part in key for key in objects for part in (status.job_id, status.batch, status.name))

    def seen() -> bool:
        return len(json.loads(scene.ask_flower("/api/tasks"))) >= 3

    wait_until(seen, "Flower sees the tasks")
    wait_until(lambda: bool(json.loads(scene.ask_flower("/api/workers?refresh=1"))), "Flower asks the workers")
    workers = scene.ask_flower("/api/workers?refresh=1")
    assert "worker@" in workers
    assert "conf" in workers  # what workers say of their settings is in it
    pages = [
        scene.ask_flower(path)
        for path in ("/api/tasks", "/api/queues/length", "/workers", "/tasks", "/broker", "/metrics")
    ]
    worker_name = next(iter(json.loads(workers)))
    pages.append(scene.ask_flower(f"/worker/{worker_name}"))
    assert scene.shown(workers + "".join(pages)) == []
    with pytest.raises(urllib.error.HTTPError, match="401") as stranger:
        urllib.request.urlopen(f"http://127.0.0.1:{scene.flower}/api/workers", timeout=60)
    stranger.value.close()


def test_whoever_has_flowers_key_sees_workers_and_commands_none(scene: Scene) -> None:
    app = make_app(scene.settings["flower"])

    def alive() -> list[str]:
        return [name for answer in app.control.ping(timeout=5.0, limit=1) for name in answer]

    (name,) = alive()
    for command, arguments in (
        ("shutdown", {}),
        ("cancel_consumer", {"queue": "standard"}),
        ("pool_shrink", {"n": 1}),
        ("revoke", {"task_id": "any", "terminate": True}),
        ("hello", {"from_node": "somebody", "revoked": ["any"]}),
    ):
        (answer,) = app.control.broadcast(command, arguments, reply=True, timeout=5.0, limit=1)
        assert "KeyError" in answer[name]["error"]
    assert alive() == [name]
    # Celery's own tables are open to that key: without them Flower hears nothing, and work goes on.
    with redis.Redis.from_url(scene.settings["flower"].redis_url.get_secret_value()) as by_hand:
        tables = [f"_kombu.binding.{name}" for name in ("celery.pidbox", "celeryev", "reply.celery.pidbox", "standard")]
        assert by_hand.delete(*tables) > 0
    app.close()
    with Farm(scene.settings["producer"]) as farm:
        assert farm.submit(midi(72)).result(timeout_s=120).bytes()[:4] == b"RIFF"


def test_no_secret_is_in_any_log(scene: Scene) -> None:
    logs = {path.name: path.read_text(errors="replace") for path in scene.folder.rglob("*.log")}
    assert {"worker-0.log", "sweeper-1.log", "flower.log", "redis.log"} <= set(logs)
    assert "render done" in logs["worker-0.log"]
    wait_until(
        lambda: (scene.folder / "sweeper-1.log").read_text().count("webhook refused") >= 3, "webhooks are refused"
    )
    assert {name: scene.shown(text) for name, text in logs.items() if scene.shown(text)} == {}


def test_the_doctor_and_errors_show_no_secret_right_or_wrong(scene: Scene) -> None:
    good = scene.settings["producer"]
    url = good.redis_url.get_secret_value()
    wrong = [
        {"redis_url": SecretStr(url.replace(scene.secrets[0], "a-wrong-password"))},
        {"redis_url": SecretStr("redis://producer:a-wrong-password@127.0.0.1:1/0")},
        {"redis_url": SecretStr("redis://producer:a-wrong-password@127.0.0.1:notaport/0")},
        {"redis_url": SecretStr("producer:a-wrong-password@127.0.0.1")},
        {"s3_secret_key": SecretStr("a-wrong-password")},
    ]
    for changed in ({}, *wrong):
        settings = good.model_copy(update={**changed, "redis_timeout_s": 1.0})
        findings = list(itertools.islice(_findings(settings, render=False), 4))
        text = "".join(map(repr, findings)) + repr(settings) + str(settings)
        assert scene.shown(text) == []
        assert "a-wrong-password" not in text


def test_a_traceback_of_a_refused_connection_shows_no_secret(scene: Scene) -> None:
    url = scene.settings["producer"].redis_url.get_secret_value()
    code = (
        "from pianofarm import Farm; from pianofarm_common.settings import Settings\n"
        "Farm(Settings.load()).services.ledger.ping()"
    )
    for password, error in ((scene.secrets[0], ""), ("a-wrong-password", BadSettings.__name__)):
        env = {"PATH": "/usr/bin:/bin", "HOME": str(scene.folder)}
        env["PIANOFARM_REDIS_URL"] = url.replace(scene.secrets[0], password)
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert error in done.stderr
        assert (done.returncode == 0) == (not error)
        assert scene.shown(done.stdout + done.stderr) == []
        assert "a-wrong-password" not in done.stderr


def test_job_ids_are_random_and_lead_to_no_object() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(job_id) == 32 for job_id in ids)

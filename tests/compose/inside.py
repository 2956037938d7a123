"""What the compose test asks from inside the farm's network, in the producer's container: `python - STEP < inside.py`."""

import http.client
import io
import json
import sys
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path

import numpy as np
import redis

from pianofarm import Farm
from pianofarm_common.settings import Settings

MUSIC = Path("/music")
LIMIT_S = 300.0


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def renders() -> None:
    """A MIDI file becomes audio that is not silence, and the second request of it costs nothing."""
    with Farm.from_env() as farm:
        job = farm.submit(MUSIC / "pedal-study.mid", options={"duration_s": 4.0}, owner="compose-test")
        assert not job.cached, "a new farm cannot know this render"
        result = job.result(timeout_s=LIMIT_S)
        with wave.open(io.BytesIO(result.bytes())) as audio:
            samples = np.frombuffer(audio.readframes(audio.getnframes()), dtype="<i2") / 32768.0
            seconds = audio.getnframes() / audio.getframerate()
        level_db = 20 * np.log10(np.sqrt(np.mean(samples**2)) + 1e-12)
        print(f"{seconds:.1f} s of audio at {level_db:.0f} dBFS")
        assert seconds >= 4.0
        assert -60.0 < level_db < -3.0
        assert farm.submit(MUSIC / "pedal-study.mid", options={"duration_s": 4.0}).cached
        print("the same again: cached")


def closed() -> None:
    """Strangers are refused, and what we may not do with our own credentials is refused too."""
    settings = Settings.load()
    client = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
    info = client.info()
    assert info["aof_enabled"] == 1
    assert info["maxmemory_policy"] == "noeviction"
    for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("SHUTDOWN",), ("ACL", "LIST")):
        assert not allowed(client, *command), f"{command} must be closed"
    host = client.connection_pool.connection_kwargs["host"]
    assert not allowed(redis.Redis(host=host), "GET", "x"), "Redis answers strangers"
    status, _ = get(f"{settings.s3_endpoint}/{settings.s3_bucket}?list-type=2")
    assert status in (401, 403), f"the store shows its bucket to strangers: {status}"
    status, _ = get("http://flower:5555/api/workers")
    assert status == 401, f"Flower asks for no password: {status}"
    print("Redis, storage and Flower refuse strangers; FLUSHALL, CONFIG, KEYS, SHUTDOWN and ACL are closed to us")


def allowed(client: redis.Redis, *command: str) -> bool:
    try:
        client.execute_command(*command)
    except (redis.exceptions.NoPermissionError, redis.AuthenticationError):
        return False
    return True


def seen() -> None:
    """The exporter tells what the autoscaler asks, and Prometheus, if it is there, reads it."""
    status, text = get("http://exporter:9464/metrics")
    assert status == 200
    for name in (
        'pianofarm_queue_audio_seconds{class="bulk"}',
        'pianofarm_leased_audio_seconds{class="interactive"}',
        "pianofarm_worker_audio_seconds_per_second",
        "pianofarm_workers",
    ):
        assert name in text, f"{name} is missing"
    print("the exporter has what the autoscaler asks")
    if "prometheus" not in sys.argv:
        return
    query = "http://prometheus:9090/api/v1/query?query=pianofarm_worker_audio_seconds_per_second"
    deadline = time.monotonic() + 120
    while not (found := json.loads(get(query)[1])["data"]["result"]):
        assert time.monotonic() < deadline, "Prometheus does not read the exporter"
        time.sleep(2)
    print(f"Prometheus: a worker makes {float(found[0]['value'][1]):.2f} s of audio in a second")


def handover(stage: str) -> None:
    """Work that a stopped worker leaves is finished by its neighbour."""
    with Farm.from_env() as farm:
        for duration_s in (5.0, 6.0, 7.0, 8.0):
            job = farm.submit(MUSIC / "pedal-study.mid", priority="bulk", options={"duration_s": duration_s})
            if stage == "wait":
                state = job.wait(timeout_s=LIMIT_S).state
                assert state == "done", f"{duration_s} s: {state}"
                print(f"{duration_s} s: done")


if __name__ == "__main__":
    try:
        {"renders": renders, "closed": closed, "seen": seen}.get(sys.argv[1], lambda: handover(sys.argv[2]))()
    except (AssertionError, http.client.HTTPException) as error:
        sys.exit(f"compose test, {sys.argv[1]}: {error or type(error).__name__}")

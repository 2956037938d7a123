"""Requests and results for tests of the ledger, without MIDI or audio."""

import hashlib

from pianofarm_common.ledger import JobRequest
from pianofarm_common.renders import PriorityClass, RenderResult, RenderSpec


def spec(number: int = 1, audio_s: float = 10.0) -> RenderSpec:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return RenderSpec(performance_sha256=digest, model_digest="a" * 64, model_name="test", audio_s=audio_s)


def request(
    number: int = 1, batch: str = "batch", priority: PriorityClass = PriorityClass.STANDARD, **more: str
) -> JobRequest:
    return JobRequest(spec=spec(number), batch=batch, priority=priority, **more)


def result(of: RenderSpec) -> RenderResult:
    return RenderResult(
        key=of.key,
        spec=of,
        audio_key=f"renders/{of.key}/audio.wav",
        audio_sha256="b" * 64,
        audio_bytes=1000,
        audio_s=10.0,
        sample_rate_hz=16000,
        channels=1,
        loudness_lufs=-20.0,
        peak_dbfs=-3.0,
        notes=10,
        dropped_notes=0,
        render_s=1.0,
    )

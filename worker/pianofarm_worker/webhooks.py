"""Webhooks: tells whoever asked that a job ended. A thread of every sweeper; the ledger says which of them tells whom.

A call is a POST of JSON with the header `Pianofarm-Signature: t=SECONDS,v1=HEX`, where HEX is HMAC-SHA256 of `SECONDS.BODY`; one
`v1` for each key of `webhook_keys`, so that a receiver may change keys without missing a call. At least once, in any order.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import threading
import time
from typing import Any

from pianofarm_common.errors import NotFound, Permanent, PianofarmError, ServiceUnavailable
from pianofarm_common.ledger import JobStatus, Ledger
from pianofarm_common.ledger.callbacks import Call, Callbacks
from pianofarm_common.logs import get_logger
from pianofarm_common.settings import Settings
from pianofarm_worker.outside import post

#: Pause where there is nothing to tell.
IDLE_S = 1.0

#: Calls taken at a time; longest wait for one answer; and how long the taker keeps them from others.
CALLS, TIMEOUT_S = 8, 10.0
HOLD_S = 3 * CALLS * TIMEOUT_S

#: Calls that may fail, and the waits between them: 5 s, doubled each time up to an hour; about two hours in all.
TRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 12, 5.0, 3600.0

log = get_logger(__name__)


def signature(body: bytes, at_s: int, keys: list[bytes]) -> str:
    """The header's value for a body at a moment."""
    signed = [hmac.new(key, f"{at_s}.".encode() + body, hashlib.sha256).hexdigest() for key in keys]
    return ",".join([f"t={at_s}", *(f"v1={one}" for one in signed)])


def body_of(job: JobStatus) -> bytes:
    """What is told: how it ended. No link: whoever hears of it asks the farm for the audio with credentials of its own."""
    result = job.render.result if job.render is not None else None
    told: dict[str, Any] = {
        "version": 1,
        "event": "job.ended",
        "job": job.job_id,
        "batch": job.batch,
        "name": job.name,
        "render": job.key,
        "state": str(job.state),
        "finished_at": job.finished_at,
        "error_type": job.error_type,
        "error": job.error,
    }
    if result is not None:
        told |= {"audio_s": result.audio_s, "audio_bytes": result.audio_bytes, "audio_sha256": result.audio_sha256}
    return json.dumps(told).encode()


class Teller:
    """Tells."""

    def __init__(self, ledger: Ledger, callbacks: Callbacks, settings: Settings) -> None:
        self._ledger = ledger
        self._callbacks = callbacks
        keys = settings.webhook_keys.get_secret_value()
        self._keys = [key.strip().encode() for key in keys.split(",") if key.strip()]
        self._allow_private = settings.webhook_allow_private

    def run(self, ending: threading.Event) -> None:
        """Tell until `ending` is set; outlives outages of Redis."""
        pause_s = IDLE_S
        while not ending.wait(pause_s):
            try:
                pause_s = 0.0 if self.step() else IDLE_S
            except PianofarmError as error:
                pause_s = 5.0
                log.warning("webhooks wait", error=str(error), retry_in_s=pause_s)
            except Exception:
                # A fault of ours with one call must not end all others; the call is due again when its time is over.
                pause_s = 5.0
                log.exception("webhooks wait", retry_in_s=pause_s)

    def step(self) -> int:
        """Make the calls that are due, some at a time; returns how many. Raises ServiceUnavailable of Redis."""
        calls = self._callbacks.take(CALLS, HOLD_S)
        for call in calls:
            self._tell(call)
        return len(calls)

    def _tell(self, call: Call) -> None:
        try:
            job = self._ledger.job(call.job_id)
        except NotFound:
            self._callbacks.forget(call)
            return
        url = self._callbacks.url(job.batch)
        if url is None or not job.state.final:  # a retry made it wait again: it is told when it ends
            self._callbacks.forget(call)
            return
        body, now_s = body_of(job), int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "pianofarm",
            "Pianofarm-Signature": signature(body, now_s, self._keys),
        }
        try:
            status = post(url, body, headers, allow_private=self._allow_private, timeout_s=TIMEOUT_S)
        except Permanent as error:
            log.warning("webhook refused", job=call.job_id, error=str(error))
            self._callbacks.forget(call)
        except ServiceUnavailable as error:
            self._failed(call, str(error))
        else:
            if not 200 <= status < 300:
                self._failed(call, f"the webhook answered {status}")
                return
            log.info("webhook told", job=call.job_id, failures=call.failures)
            self._callbacks.forget(call)

    def _failed(self, call: Call, why: str) -> None:
        if call.failures + 1 >= TRIES:
            log.warning("webhook given up", job=call.job_id, error=why, failures=call.failures + 1)
            self._callbacks.forget(call)
            return
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**call.failures) * random.uniform(0.5, 1.0)
        log.info("webhook failed", job=call.job_id, error=why, retry_in_s=round(wait_s, 1))
        self._callbacks.later(call, wait_s)

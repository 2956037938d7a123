"""The one task: work through the render keys of a message. The only place that decides from an error whether to try again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Protocol

import structlog
from celery import Celery

from pianofarm_common.errors import (
    BadSettings,
    Cancelled,
    LeaseLost,
    Permanent,
    PianofarmError,
    ServiceUnavailable,
    Transient,
)
from pianofarm_common.ledger import Claim, Ledger, Refusal
from pianofarm_common.logs import get_logger
from pianofarm_common.queue import message_text, parse_message, publish_bundles, seal_of
from pianofarm_common.renders import RenderKey, RenderResult
from pianofarm_worker.brake import Brake
from pianofarm_worker.pulse import Hold, Pulse
from pianofarm_worker.stopping import Stopping, StopSign

#: Waits between tries to commit while Redis is away; the last one again and again.
COMMIT_PAUSES_S = (1.0, 2.0, 4.0, 8.0)

#: A worker that cannot do its work leaves it to others for this long.
MISCONFIGURED_PAUSE_S = 5.0

#: A worker of a host that is out of rotation asks this often whether it still is.
BARRED_PAUSE_S = 5.0

log = get_logger(__name__)


class Maker(Protocol):
    """What makes a claimed render and stores it: `pianofarm_worker.workshop.Workshop`."""

    def make(self, claim: Claim, hold: Hold) -> RenderResult:
        """Everything between claim and commit."""


@dataclass(frozen=True)
class Bench:
    """What the task needs, one per worker process."""

    app: Celery
    ledger: Ledger
    pulse: Pulse
    sign: StopSign
    maker: Maker
    brake: Brake = field(default_factory=Brake)


def work_through(bench: Bench, body: object) -> None:
    """Make the renders of a message, one after the other.

    Never raises what belongs to a render: a failure is recorded in the ledger, and the next key is taken. If Redis is
    away the rest of the message is dropped; the sweeper publishes it again.
    """
    try:
        keys = parse_message(body, seal_of(bench.app))
    except Permanent as error:
        log.warning("message parked", reason=str(error))
        bench.ledger.park(message_text(body), str(error))
        return
    for number, key in enumerate(keys):
        rest = keys[number + 1 :]
        if bench.sign.is_up:
            _pass_on(bench, keys[number:])
            return
        claim = bench.ledger.claim(key, bench.pulse.name, rest)
        if isinstance(claim, Refusal):
            log.info("claim refused", render=key, reason=str(claim))
            if claim is Refusal.BARRED:
                if rest:
                    _pass_on(bench, rest)
                _sit_out(bench)
                return
            continue
        with structlog.contextvars.bound_contextvars(render=key, attempt=claim.attempt):
            make_one(bench, claim)
        # Somebody more urgent waits: the rest of the bundle goes back to the queue.
        if rest and not bench.sign.is_up and bench.ledger.higher_waits(claim.priority) and _pass_on(bench, rest):
            log.info("bundle yields", renders=len(rest))
            return


def make_one(bench: Bench, claim: Claim) -> None:
    """Make one claimed render and tell the ledger how it went.

    | what happened                        | what the ledger is told                         |
    |--------------------------------------|-------------------------------------------------|
    | made and stored                      | commit                                          |
    | Cancelled, LeaseLost                 | nothing: it knows better                        |
    | Stopping, the process must end       | release: the attempt does not count             |
    | BadSettings, this worker is at fault | release, and take nothing for a while           |
    | ServiceUnavailable                   | defer: no attempt; take nothing for a while     |
    | Permanent                            | fail, for good                                  |
    | Transient, and what we do not know   | fail, with another try while attempts last      |
    """
    try:
        with bench.pulse.holding(claim) as hold:
            log.info(
                "render starts", model=claim.spec.model_name, audio_s=claim.spec.audio_s, priority=str(claim.priority)
            )
            result = bench.maker.make(claim, hold)
            _commit(bench, claim, result, hold)
    except (Cancelled, LeaseLost) as error:
        log.info("render dropped", reason=str(error))
    except Stopping:
        log.info("render handed back")
        _release(bench, claim)
    except BadSettings as error:
        # Wrong credentials of one worker must not fail everybody's renders.
        log.error("this worker is misconfigured", error=str(error), pause_s=MISCONFIGURED_PAUSE_S)  # noqa: TRY400
        _release(bench, claim)
        time.sleep(MISCONFIGURED_PAUSE_S)
    except ServiceUnavailable as error:
        _defer(bench, claim, error)
    except (Permanent, Transient) as error:
        permanent = isinstance(error, Permanent)
        log.warning("attempt failed", error_type=type(error).__name__, error=str(error), permanent=permanent)
        _fail(bench, claim, error, permanent=permanent)
    except Exception as error:
        # Out of memory, a fault of the device or of our own: the same may work elsewhere, and attempts are counted.
        log.exception("attempt failed")
        _fail(bench, claim, error, permanent=False)
    except BaseException:
        # The pool ends this child in the middle of the work.
        _release(bench, claim)
        raise
    else:
        bench.brake.let_go()
        speed = round(result.real_time_factor, 2)
        log.info("render done", audio_s=result.audio_s, render_s=result.render_s, real_time_factor=speed)


def _commit(bench: Bench, claim: Claim, result: RenderResult, hold: Hold) -> None:
    """Commit; a Redis that is away must not cost a finished render, for as long as this worker may live."""
    for pause_s in chain(COMMIT_PAUSES_S, repeat(COMMIT_PAUSES_S[-1])):
        hold.moved_at = time.monotonic()
        try:
            bench.ledger.commit(claim.key, claim.token, result)
        except ServiceUnavailable as error:
            if bench.sign.is_due:
                raise Stopping("this worker is being stopped") from None
            log.warning("commit waits", error=str(error), retry_in_s=pause_s)
            time.sleep(pause_s)
        else:
            return


def _fail(bench: Bench, claim: Claim, error: Exception, *, permanent: bool) -> None:
    """Record a failure; if the ledger cannot be told, the lease lapses and the sweeper takes over."""
    try:
        state = bench.ledger.fail(claim.key, claim.token, error, permanent=permanent)
        log.info("failure recorded", state=str(state))
    except PianofarmError as problem:
        log.warning("the ledger was not told", reason=str(problem))


def _defer(bench: Bench, claim: Claim, error: ServiceUnavailable) -> None:
    """Hand a render back that a service failed, and take nothing for a while: the next render would fare no better."""
    pause_s = bench.brake.press()
    log.warning("service away, render deferred", error=str(error), pause_s=round(pause_s, 2))
    try:
        bench.ledger.defer(claim.key, claim.token, error)
    except PianofarmError as problem:
        log.warning("the ledger was not told", reason=str(problem))
    with bench.pulse.resting(str(error)):
        bench.brake.wait(pause_s, bench.sign)


def _sit_out(bench: Bench) -> None:
    """Take nothing while this host is out of rotation; the message in hand is used up, and no other is taken."""
    while not bench.sign.is_up:
        try:
            why = bench.ledger.why_barred(bench.pulse.host)
        except ServiceUnavailable as error:
            why = str(error)
        if not why:
            return
        log.warning("host out of rotation", reason=why, retry_in_s=BARRED_PAUSE_S)
        with bench.pulse.resting(f"host out of rotation: {why}"):
            bench.brake.wait(BARRED_PAUSE_S, bench.sign)


def _release(bench: Bench, claim: Claim) -> None:
    """Hand a render back; if the ledger cannot be told, the lease lapses and the sweeper takes over."""
    try:
        bench.ledger.release(claim.key, claim.token)
    except PianofarmError as problem:
        log.warning("the ledger was not told", reason=str(problem))


def _pass_on(bench: Bench, keys: Sequence[RenderKey]) -> bool:
    """Publish keys for somebody else; False where the broker takes none (the sweeper will publish them)."""
    try:
        status = bench.ledger.render(keys[0])
        publish_bundles(bench.app, status.priority, [keys])
    except ServiceUnavailable as error:
        log.warning("not passed on", error=str(error))
        return False
    except PianofarmError:
        return False
    return True

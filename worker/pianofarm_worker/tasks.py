"""The one task: work through the render keys of a message. The only place that decides from an error whether to try again."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
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
from pianofarm_common.renders import RenderKey, RenderOptions, RenderResult, RenderSpec
from pianofarm_worker.brake import Brake
from pianofarm_worker.delivery import Delivery, Waiting
from pianofarm_worker.pulse import Hold, Pulse
from pianofarm_worker.stopping import Stopping, StopSign
from pianofarm_worker.workshop import Made, Outcome

#: Waits between tries to commit while Redis is away; the last one again and again.
COMMIT_PAUSES_S = (1.0, 2.0, 4.0, 8.0)

#: Between two renders of a bundle a worker looks whether somebody more urgent waits, but no more often than this.
LOOK_S = 0.01

#: What was stored within this time is committed in one go; where storing takes longer, each is committed before the next is stored.
COMMIT_S = 0.01

#: A worker that cannot do its work leaves it to others for this long.
MISCONFIGURED_PAUSE_S = 5.0

#: A worker of a host that is out of rotation asks this often whether it still is.
BARRED_PAUSE_S = 5.0

log = get_logger(__name__)


class Maker(Protocol):
    """What makes claimed renders and stores them: `pianofarm_worker.workshop.Workshop`."""

    def places(self, spec: RenderSpec | None = None) -> int:
        """How many renders like this one are made at once; None: the most of any."""

    def render(self, holds: Sequence[Hold]) -> Iterator[tuple[Hold, Outcome]]:
        """Render and check claimed renders, each with an outcome of its own."""

    def store(self, hold: Hold, made: Made | RenderResult) -> RenderResult:
        """Put into the store what was made."""


@dataclass(frozen=True)
class Bench:
    """What the task needs, one per worker process."""

    app: Celery
    ledger: Ledger
    pulse: Pulse
    sign: StopSign
    maker: Maker
    delivery: Delivery | None = None  #: stores and commits while the next render is under way; None: this thread does
    brake: Brake = field(default_factory=Brake)
    expect: Callable[[Sequence[RenderSpec], Sequence[RenderSpec]], None] | None = (
        None  #: told what is made now, what soon
    )


def work_through(bench: Bench, body: object) -> None:
    """Make the renders of a message, in turn; together where the device gains by it.

    Never raises what belongs to a render: a failure is recorded in the ledger, and the next key is taken. If Redis is
    away the rest of the message is dropped; the sweeper publishes it again. What was rendered may be stored and committed after
    the return: the ledger delivers, the message has done its work.
    """
    try:
        keys = parse_message(body, seal_of(bench.app))
    except Permanent as error:
        log.warning("message parked", reason=str(error))
        bench.ledger.park(message_text(body), str(error))
        return
    known: dict[RenderKey, tuple[RenderSpec, bool]] = {}
    looked = -math.inf
    while keys:
        if bench.sign.is_up:
            _pass_on(bench, keys)
            return
        chosen = hand_of(bench, keys, known)
        keys = [key for key in keys if key not in chosen]
        claims, barred = _claim(bench, chosen, keys)
        if claims:
            if keys and bench.expect is not None and not barred:
                _look_ahead(bench, bench.expect, claims, keys, known)
            make(bench, claims)
        if barred:
            if keys:
                _pass_on(bench, keys)
            _sit_out(bench)
            return
        # Somebody more urgent waits: the rest of the bundle goes back to the queue.
        if claims and keys and not bench.sign.is_up and time.monotonic() > looked + LOOK_S:
            if bench.ledger.higher_waits(claims[0].priority) and _pass_on(bench, keys):
                log.info("bundle yields", renders=len(keys))
                return
            looked = time.monotonic()


def hand_of(
    bench: Bench, keys: Sequence[RenderKey], known: dict[RenderKey, tuple[RenderSpec, bool]]
) -> list[RenderKey]:
    """What to claim next: the first key, and as many behind it as are made with it at once.

    Those want the same model with the same options. A render that is to be made alone is.

    Args:
        bench: of this worker.
        keys: what is left of a message.
        known: what the ledger said of the renders of this message, filled here, once: what has changed since, a claim finds out.
    """
    if len(keys) == 1 or bench.maker.places() == 1:
        return [keys[0]]
    if not known:
        known.update(bench.ledger.queued_specs(keys))
    if keys[0] not in known:
        return [keys[0]]
    first, is_alone = known[keys[0]]
    if is_alone:
        return [keys[0]]
    kind = _kind(first)
    alike = [key for key in keys if key in known and not known[key][1] and _kind(known[key][0]) == kind]
    return alike[: bench.maker.places(first)]


def _look_ahead(
    bench: Bench,
    expect: Callable[[Sequence[RenderSpec], Sequence[RenderSpec]], None],
    claims: Sequence[Claim],
    keys: Sequence[RenderKey],
    known: dict[RenderKey, tuple[RenderSpec, bool]],
) -> None:
    """Say what comes after these claims, as far as the ledger knows it; `known` as in `hand_of`."""
    # Without it the next render merely starts later; what is claimed must not suffer.
    with suppress(PianofarmError):
        if not known:
            known.update(bench.ledger.queued_specs(keys))
        soon = [known[key][0] for key in keys[: bench.maker.places()] if key in known]
        expect([claim.spec for claim in claims], soon)


def _kind(spec: RenderSpec) -> tuple[str, str, RenderOptions]:
    """Renders of one kind can be made together."""
    return spec.model_digest, spec.engine, spec.options


def _claim(bench: Bench, keys: Sequence[RenderKey], rest: Sequence[RenderKey]) -> tuple[list[Claim], bool]:
    """What could be claimed of these, and whether this host is to get no work."""
    in_hand = [hold.claim for hold in bench.delivery.in_hand] if bench.delivery else []
    claims: list[Claim] = []
    answers = bench.ledger.claim_many(keys, bench.pulse.name, rest, in_hand)
    for key, answer in zip(keys, answers, strict=True):
        if isinstance(answer, Refusal):
            log.info("claim refused", render=key, reason=str(answer))
        elif answer.alone and len(keys) > 1:
            # It came to be so since we asked. The sweeper publishes it alone.
            _release(bench, answer)
        else:
            claims.append(answer)
    return claims, Refusal.BARRED in answers


def make(bench: Bench, claims: Sequence[Claim]) -> None:
    """Make claimed renders and tell the ledger how each went; what was rendered is left to the delivery."""
    holds = {claim.key: bench.pulse.hold(claim) for claim in claims}
    if bench.delivery is not None:
        bench.delivery.make_room(len(claims))
        if claims[0].alone:
            bench.delivery.wait()
    for claim in claims:
        log.info(
            "render starts",
            render=claim.key,
            attempt=claim.attempt,
            model=claim.spec.model_name,
            audio_s=claim.spec.audio_s,
            priority=str(claim.priority),
        )
    try:
        # Lines of the synthesizer about several renders name none of them.
        with _about(claims[0]) if len(claims) == 1 else nullcontext():
            for hold, outcome in bench.maker.render(list(holds.values())):
                del holds[hold.claim.key]
                _hand_over(bench, hold, outcome)
    except Exception as error:
        for hold in holds.values():
            _hand_over(bench, hold, error)
    except BaseException:
        _give_up(bench, list(holds.values()))
        raise


def _about(claim: Claim) -> AbstractContextManager[None]:
    return structlog.contextvars.bound_contextvars(render=claim.key, attempt=claim.attempt)


def _hand_over(bench: Bench, hold: Hold, outcome: Outcome) -> None:
    if isinstance(outcome, Exception):
        with _about(hold.claim):
            _end(bench, hold, outcome)
    elif bench.delivery is None or hold.claim.alone:
        for _ in deliver(bench, deque([(hold, outcome)])):
            pass
    else:
        hold.uploading = True
        bench.delivery.take(hold, outcome, partial(deliver, bench))


def deliver(bench: Bench, waiting: Waiting) -> Iterator[Hold]:
    """Store and commit what was made, tell the ledger how each went, and yield what is over.

    What is stored soon after another is committed with it: a round trip for each costs Redis and us more than the commit.
    """
    stored: list[tuple[Hold, RenderResult]] = []
    began = 0.0
    while waiting:
        hold, made = waiting.popleft()
        began = began if stored else time.monotonic()
        with _about(hold.claim):
            try:
                result = bench.maker.store(hold, made)
            except Exception as error:
                # What is stored must not wait for the end of an outage.
                yield from _commit(bench, stored)
                stored = []
                _end(bench, hold, error)
                yield hold
            except BaseException:
                _give_up(bench, [hold, *(each for each, _ in stored)])
                raise
            else:
                stored.append((hold, result))
            del made
        if time.monotonic() > began + COMMIT_S:
            yield from _commit(bench, stored)
            stored = []
    yield from _commit(bench, stored)


def _commit(bench: Bench, stored: Sequence[tuple[Hold, RenderResult]]) -> Iterator[Hold]:
    """Commit what is stored, and yield it."""
    if not stored:
        return
    problems: Sequence[Exception | None]
    try:
        problems = _committed(bench, stored)
    except Exception as error:
        problems = [error] * len(stored)
    except BaseException:
        _give_up(bench, [hold for hold, _ in stored])
        raise
    for (hold, result), problem in zip(stored, problems, strict=True):
        if problem is not None:
            with _about(hold.claim):
                _end(bench, hold, problem)
        else:
            bench.pulse.drop(hold, done=True)
            bench.brake.let_go()
            log.info(
                "render done",
                render=hold.claim.key,
                attempt=hold.claim.attempt,
                audio_s=result.audio_s,
                render_s=result.render_s,
                real_time_factor=round(result.real_time_factor, 2),
            )
        yield hold


def _committed(bench: Bench, stored: Sequence[tuple[Hold, RenderResult]]) -> Sequence[Exception | None]:
    """Commit; a Redis that is away must not cost finished renders, for as long as this worker may live. Returns their problems."""
    commits = [(hold.claim.key, hold.claim.token, result) for hold, result in stored]
    for pause_s in chain(COMMIT_PAUSES_S, repeat(COMMIT_PAUSES_S[-1])):
        for hold, _ in stored:
            hold.moved_at = time.monotonic()
        try:
            return bench.ledger.commit_many(commits)
        except ServiceUnavailable as error:
            if bench.sign.is_due:
                raise Stopping("this worker is being stopped") from None
            log.warning("commit waits", error=str(error), retry_in_s=pause_s)
            time.sleep(pause_s)
    raise AssertionError("there is always another pause")


def _give_up(bench: Bench, holds: Sequence[Hold]) -> None:
    """The pool ends this child in the middle of the work."""
    for hold in holds:
        _release(bench, hold.claim)
        bench.pulse.drop(hold)


def _end(bench: Bench, hold: Hold, error: Exception) -> None:
    """Tell the ledger of a render that came to nothing.

    | what happened                        | what the ledger is told                         |
    |--------------------------------------|-------------------------------------------------|
    | Cancelled, LeaseLost                 | nothing: it knows better                        |
    | Stopping, the process must end       | release: the attempt does not count             |
    | BadSettings, this worker is at fault | release, and take nothing for a while           |
    | ServiceUnavailable                   | defer: no attempt; take nothing for a while     |
    | Permanent                            | fail, for good                                  |
    | Transient, and what we do not know   | fail, with another try while attempts last      |
    """
    claim = hold.claim
    bench.pulse.drop(hold)
    match error:
        case Cancelled() | LeaseLost():
            log.info("render dropped", reason=str(error))
        case Stopping():
            log.info("render handed back")
            _release(bench, claim)
        case BadSettings():
            # Wrong credentials of one worker must not fail everybody's renders.
            log.error("this worker is misconfigured", error=str(error), pause_s=MISCONFIGURED_PAUSE_S)
            _release(bench, claim)
            time.sleep(MISCONFIGURED_PAUSE_S)
        case ServiceUnavailable():
            _defer(bench, claim, error)
        case Permanent() | Transient():
            permanent = isinstance(error, Permanent)
            log.warning("attempt failed", error_type=type(error).__name__, error=str(error), permanent=permanent)
            _fail(bench, claim, error, permanent=permanent)
        case _:
            # Out of memory, a fault of the device or of our own: the same may work elsewhere, and attempts are counted.
            log.error("attempt failed", exc_info=error)
            _fail(bench, claim, error, permanent=False)


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

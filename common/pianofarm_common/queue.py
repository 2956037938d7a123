"""The queue: the Celery app with every queue name, task name and delivery option, and the one form of message that it carries.

A message holds render keys, never MIDI or audio, and says nothing that the ledger does not know better: losing one, or getting
one twice, does no harm.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from celery import Celery
from kombu import Queue
from kombu.exceptions import KombuError, OperationalError
from kombu.utils.uuid import uuid
from redis.exceptions import RedisError

from pianofarm_common import broker
from pianofarm_common.errors import Permanent, ServiceUnavailable
from pianofarm_common.ledger.connection import address
from pianofarm_common.ledger.values import JobTicket
from pianofarm_common.renders import PriorityClass, RenderKey
from pianofarm_common.settings import Settings
from pianofarm_common.signing import Seal

#: The one task of the farm.
RENDER_TASK = "pianofarm.render"

#: Version of the message body; a worker parks what it does not know.
MESSAGE_VERSION = 1

#: Most urgent first: the order in which a free worker looks for work.
CLASSES = (PriorityClass.INTERACTIVE, PriorityClass.STANDARD, PriorityClass.BULK)

#: A bundle is made only where there are this many times more renders than one bundle holds; below, they are spread over workers.
SPREAD = 16

_KEY = re.compile(r"[0-9a-f]{64}")

#: Accepts every message.
UNSEALED = Seal(())


def make_app(settings: Settings) -> Celery:
    """The Celery app of producers, workers and sweepers.

    The options answer known failures of Celery on Redis: docs/decisions/0006-the-ledger-delivers-the-broker-only-wakes.md.
    """
    broker.install()
    app = Celery("pianofarm", set_as_current=False)
    timeout_s = settings.redis_timeout_s
    app.conf.update(
        broker_url=settings.redis_url.get_secret_value(),
        # JSON only: a pickle in the broker would be code from whoever can reach it.
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        result_accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        # One Redis list per class. Numeric priorities would split each in sub-lists that no other reader understands.
        task_queues=[Queue(str(name), routing_key=str(name)) for name in CLASSES],
        task_default_queue=str(PriorityClass.STANDARD),
        task_create_missing_queues=False,
        broker_transport_options={
            "queue_order_strategy": "priority",
            "priority_steps": [0],
            # Delivery again after a lost worker is the ledger's business, by a lease of seconds. The broker's own would copy
            # messages that are being worked on, costs two transactions a message, and ends the worker where Redis, its disk
            # full, refuses an acknowledgement. A worker that stops in order gives back what it holds all the same.
            "ack_emulation": False,
            "socket_timeout": max(30.0, timeout_s),
            "socket_connect_timeout": timeout_s,
            "socket_keepalive": True,
            # No retry inside the Redis client: it would connect again under kombu's feet, without the subscriptions kombu made, and
            # a worker would wait for ever for a message on a connection that none can come on.
            "retry_on_timeout": False,
            "health_check_interval": 25,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=timeout_s,
        # Acknowledge when done and hold no message that is not being worked on: what waits stays visible in the queue.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        # A child opens its services before it says that it is ready; on a busy host that takes longer than the default of 4 s.
        worker_proc_alive_timeout=60.0,
        worker_soft_shutdown_timeout=settings.soft_shutdown_s,
        worker_enable_soft_shutdown_on_idle=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=settings.task_events,
        task_send_sent_event=False,
        event_queue_ttl=5.0,
        event_queue_expires=60.0,
        control_queue_ttl=60.0,
        control_queue_expires=300.0,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1.0},
        enable_utc=True,
        pianofarm_bundle_max_renders=settings.bundle_max_renders,
        pianofarm_broker=address(settings.redis_url.get_secret_value()),
    )
    # Not in the configuration, which Celery's remote control and Flower show.
    app.pianofarm_seal = Seal.from_settings(settings)
    return app


def seal_of(app: Celery) -> Seal:
    """What signs and checks the messages of an app that `make_app` made."""
    seal: Seal = app.pianofarm_seal
    return seal


def prepare(app: Celery) -> None:
    """Load what the first publication of a process needs: Celery does so at that moment, for 50 to 90 ms of processor time."""
    app.finalize()
    _ = app.backend, app.amqp.send_task_message


def publish(app: Celery, priority: PriorityClass, keys: Sequence[RenderKey], spread: int = SPREAD) -> int:
    """Put render keys in the queue of a class, in at least `spread` messages; returns the number of messages.

    Bulk renders travel in bundles when there are many; all others alone, so that they spread over the workers.

    Raises:
        ServiceUnavailable: the broker does not answer; some of the messages may be in the queue, which does no harm.
    """
    size = 1
    if priority is PriorityClass.BULK:
        size = max(1, min(app.conf.pianofarm_bundle_max_renders, len(keys) // max(1, spread)))
    return publish_bundles(app, priority, [keys[start : start + size] for start in range(0, len(keys), size)])


def publish_tickets(app: Celery, tickets: Iterable[JobTicket], audio_s: Mapping[RenderKey, float] | None = None) -> int:
    """Publish what `Ledger.submit_many` said needs a message; returns the number of messages. Raises as `publish` does.

    Bulk renders whose length `audio_s` tells go longest first: a bundle holds similar lengths, which an accelerator renders at
    once, and no long one is left for the end. All others keep their order.
    """
    keys: dict[PriorityClass, list[RenderKey]] = defaultdict(list)
    for ticket in tickets:
        if ticket.needs_message:
            keys[ticket.priority].append(ticket.key)
    if audio_s is not None:
        keys[PriorityClass.BULK].sort(key=lambda key: -audio_s.get(key, 0.0))
    return sum(publish(app, priority, keys[priority]) for priority in CLASSES if keys[priority])


def publish_bundles(app: Celery, priority: PriorityClass, bundles: Sequence[Sequence[RenderKey]]) -> int:
    """Put each bundle in one message. Raises as `publish` does."""
    if not bundles:
        return 0
    seal, retry_policy = seal_of(app), app.conf.task_publish_retry_policy
    try:
        with app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=500):
            for bundle in bundles:
                # What `send_task` does beside that, a route and a declaration for every message, takes twice as long as the rest.
                message = app.amqp.create_task_message(
                    uuid(),
                    RENDER_TASK,
                    [seal.sealed({"v": MESSAGE_VERSION, "renders": list(bundle)})],
                    {},
                    ignore_result=True,
                    argsrepr=shown(bundle),
                    kwargsrepr="{}",
                )
                producer.publish(
                    message.body,
                    exchange="",
                    routing_key=str(priority),
                    serializer="json",
                    headers=message.headers,
                    retry=True,
                    retry_policy=retry_policy,
                    **message.properties,
                )
    except (KombuError, OperationalError, RedisError, OSError) as error:
        raise ServiceUnavailable(
            f"the broker at {app.conf.pianofarm_broker} takes no messages ({type(error).__name__}): "
            "start it ('pianofarm up') or set PIANOFARM_REDIS_URL; what was submitted is kept and published later by the sweeper"
        ) from None
    return len(bundles)


def shown(bundle: Sequence[RenderKey]) -> str:
    """What Flower shows of a message: how many renders it holds, and the first of them."""
    return f"{len(bundle)} renders from {bundle[0]}" if len(bundle) > 1 else bundle[0]


def parse_message(body: object, seal: Seal = UNSEALED) -> list[RenderKey]:
    """The render keys of a message.

    Args:
        body: what came.
        seal: checks its signature.

    Raises:
        Permanent: not a message of a version that we know, or not signed as it must be; park it, guess nothing.
    """
    if not isinstance(body, dict):
        raise Permanent(f"a message must be an object, got {type(body).__name__}")
    version, renders = body.get("v"), body.get("renders")
    if version != MESSAGE_VERSION or isinstance(version, bool):
        raise Permanent(
            f"message version {version!r} is not known here (this worker knows {MESSAGE_VERSION}): update the worker"
        )
    seal.check(body)
    if not isinstance(renders, list) or not renders or len(renders) > 256:
        raise Permanent("a message holds 1 to 256 render keys")
    if any(not isinstance(key, str) or not _KEY.fullmatch(key) for key in renders):
        raise Permanent("a render key is 64 hex digits")
    return [RenderKey(key) for key in dict.fromkeys(renders)]


def backlog(app: Celery) -> dict[PriorityClass, int]:
    """Messages waiting in the broker, by class.

    Raises:
        ServiceUnavailable: the broker does not answer.
    """
    try:
        with app.connection_for_read() as connection, connection.channel() as channel:
            return {name: int(channel.client.llen(str(name))) for name in CLASSES}
    except (KombuError, OperationalError, RedisError, OSError) as error:
        raise ServiceUnavailable(
            f"the broker at {app.conf.pianofarm_broker} does not answer ({type(error).__name__}): start it ('pianofarm up') or set "
            "PIANOFARM_REDIS_URL"
        ) from None


def message_text(body: object, limit: int = 2000) -> str:
    """A message as text for the parking place, cut at `limit` characters."""
    try:
        return json.dumps(body, sort_keys=True)[:limit]
    except (TypeError, ValueError):
        return repr(body)[:limit]

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.events import EventDispatcher
from celery.events.event import event_exchange
from kombu import Queue
from kombu.asynchronous import Hub

from pianofarm_worker.task_events import SENT_AT_ONCE, SendTogether, send_together


class Parent:
    """The parts of a worker's parent that send events, on a broker in memory."""

    def __init__(self, app: Celery) -> None:
        self.connection = app.connection_for_write()
        self.hub = Hub()
        dispatcher: EventDispatcher = app.events.Dispatcher(self.connection, buffer_group=["task"])
        self.step = SendTogether(self)
        self.consumer = SimpleNamespace(event_dispatcher=dispatcher, hub=self.hub)
        self.listening = Queue("listening", event_exchange, routing_key="#")(self.connection.default_channel)
        self.listening.declare()
        self.step.start(self.consumer)

    def sends(self, n_events: int) -> None:
        for number in range(n_events):
            self.consumer.event_dispatcher.send("task-received", uuid=str(number))

    def heard(self) -> list[list[Any]]:
        """The events of each message that came since."""
        messages: list[list[Any]] = []
        while message := self.listening.get(no_ack=True):
            messages.append([event["uuid"] for event in message.payload])
        return messages

    def pass_time(self) -> None:
        """Have the timers of the loop fire, all of them."""
        for entry in list(self.hub.timer.queue):
            entry.entry()
        self.hub.timer.clear()


@pytest.fixture
def parent() -> Iterator[Parent]:
    app = Celery("events", broker="memory://", set_as_current=False)
    parent = Parent(app)
    yield parent
    parent.hub.close()
    parent.connection.close()
    app.close()


def test_task_events_wait_for_each_other_and_come_in_one_message(parent: Parent) -> None:
    parent.sends(3)
    assert parent.heard() == []
    parent.pass_time()
    assert parent.heard() == [["0", "1", "2"]]


def test_many_task_events_wait_for_no_time(parent: Parent) -> None:
    parent.sends(SENT_AT_ONCE + 1)
    assert [len(events) for events in parent.heard()] == [SENT_AT_ONCE]


def test_what_waits_is_sent_when_a_worker_ends(parent: Parent) -> None:
    parent.sends(2)
    parent.step.stop(parent.consumer)
    assert parent.heard() == [["0", "1"]]


def test_a_worker_without_a_loop_of_its_own_sends_as_celery_does(parent: Parent) -> None:
    parent.consumer.hub = None
    parent.consumer.event_dispatcher.on_send_buffered = parent.consumer.event_dispatcher.flush
    parent.step.start(parent.consumer)
    parent.sends(1)
    assert parent.heard() == [["0"]]


def test_the_step_is_one_of_the_consumers() -> None:
    app = Celery("events", broker="memory://", set_as_current=False)
    send_together(app)
    assert SendTogether in app.steps["consumer"]
    app.close()

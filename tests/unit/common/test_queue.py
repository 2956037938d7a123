"""Messages and options of the queue; what needs a broker is in tests/integration."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pianofarm_common.errors import Permanent, ServiceUnavailable
from pianofarm_common.ledger.values import JobTicket
from pianofarm_common.queue import CLASSES, backlog, make_app, message_text, parse_message, publish, publish_tickets
from pianofarm_common.renders import PriorityClass, RenderKey, State
from pianofarm_common.settings import Settings

KEY, OTHER = RenderKey("a" * 64), RenderKey("b" * 64)


def test_a_message_gives_its_keys_in_order_and_each_once() -> None:
    assert parse_message({"v": 1, "renders": [OTHER, KEY, OTHER]}) == [OTHER, KEY]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        {},
        {"v": 2, "renders": [KEY]},
        {"v": True, "renders": [KEY]},
        {"v": 1},
        {"v": 1, "renders": []},
        {"v": 1, "renders": KEY},
        {"v": 1, "renders": [KEY] * 257},
        {"v": 1, "renders": ["A" * 64]},
        {"v": 1, "renders": [KEY + "\n"]},
        {"v": 1, "renders": [7]},
    ],
)
def test_a_message_that_is_not_understood_is_refused(body: object) -> None:
    with pytest.raises(Permanent):
        parse_message(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_arrives_is_either_read_or_refused(body: object) -> None:
    try:
        keys = parse_message(body)
    except Permanent:
        assert len(message_text(body)) <= 2000
    else:
        assert keys


def test_only_json_is_accepted_and_one_queue_per_class_is_read_in_order_of_urgency() -> None:
    with make_app(Settings()) as app:
        assert app.conf.accept_content == ["json"]
        assert app.conf.task_serializer == "json"
        assert [queue.name for queue in app.conf.task_queues] == list(CLASSES) == ["interactive", "standard", "bulk"]
        assert app.conf.broker_transport_options["queue_order_strategy"] == "priority"


def test_a_broker_that_is_not_there_is_named_but_its_password_is_not() -> None:
    settings = Settings(redis_url="redis://:the-password@127.0.0.1:9/0", redis_timeout_s=1.0)
    with make_app(settings) as app:
        for ask in (lambda: publish(app, PriorityClass.BULK, [KEY]), lambda: backlog(app)):
            with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9 .*PIANOFARM_REDIS_URL") as caught:
                ask()
            assert "the-password" not in str(caught.value)


def test_a_producer_needs_no_array_library() -> None:
    program = (
        "import sys, pianofarm_common.queue, pianofarm_common.ledger, pianofarm_common.storage, pianofarm_common.logs;"
        "print([name for name in ('tensorflow', 'keras', 'jax', 'scipy', 'ddsp') if name in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )


@pytest.mark.parametrize("priority", CLASSES)
def test_a_bundle_holds_bulk_renders_of_similar_length_and_other_classes_keep_their_order(
    priority, monkeypatch
) -> None:
    sent = []
    app = make_app(Settings(redis_url="redis://127.0.0.1:1/0"))
    monkeypatch.setattr("pianofarm_common.queue.publish_bundles", lambda *given: sent.extend(given[2]) or len(sent))
    keys = [RenderKey(f"{number:064x}") for number in range(64)]
    lengths_s = {key: float(1 + 7 * number % 64) for number, key in enumerate(keys)}
    tickets = [JobTicket("job", "batch", key, State.QUEUED, priority, cached=False, needs_message=True) for key in keys]
    publish_tickets(app, tickets, lengths_s)
    if priority is PriorityClass.BULK:
        assert {len(bundle) for bundle in sent} == {4}
        assert [lengths_s[key] for bundle in sent for key in bundle] == [float(n) for n in range(64, 0, -1)]
    else:
        assert sent == [[key] for key in keys]

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.worker.control import Panel

from pianofarm_common.settings import Settings
from pianofarm_worker.composition import compose
from pianofarm_worker.panel import KEPT

#: What Flower asks of workers.
ASKED_BY_FLOWER = {
    "stats",
    "active_queues",
    "registered",
    "scheduled",
    "active",
    "reserved",
    "revoked",
    "conf",
    "enable_events",
}


@pytest.fixture
def commands() -> Iterator[dict[str, object]]:
    """Celery's commands, of which there is one list in a process; as they were, afterwards."""
    data, meta = dict(Panel.data), dict(Panel.meta)
    yield Panel.data
    Panel.data.update(data)
    Panel.meta.update(meta)


def test_a_worker_knows_no_command_that_changes_anything(commands: dict[str, object], tmp_path: Path) -> None:
    commands["of_a_later_celery"] = print
    compose(Settings(state_dir=tmp_path)).close()
    for changes in (
        *("shutdown", "pool_grow", "pool_shrink", "pool_restart", "autoscale", "add_consumer", "cancel_consumer"),
        *("revoke", "revoke_by_stamped_headers", "terminate", "rate_limit", "time_limit", "election"),
        *("disable_events", "heartbeat", "hello", "objgraph", "memdump", "of_a_later_celery"),
    ):
        assert changes not in commands, changes
    # None was dropped that Celery does not have, and what is kept is there.
    assert set(commands) == KEPT
    assert ASKED_BY_FLOWER <= KEPT

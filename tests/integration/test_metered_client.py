"""A producer that is watched counts what it submits."""

from collections.abc import Iterator

import pytest
from farm import make_model, midi
from prometheus_client import CollectorRegistry
from services import free_port

from pianofarm.metered import MeteredFarm
from pianofarm_common.errors import BadOption, ServiceUnavailable
from pianofarm_common.settings import Settings


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def farm(settings: Settings, registry: CollectorRegistry) -> Iterator[MeteredFarm]:
    make_model(settings.state_dir)
    with MeteredFarm(settings.model_copy(update={"model": "sine"}), registry) as farm:
        yield farm


def test_jobs_and_rejected_sources_are_counted(farm, registry):
    farm.submit(midi(60), priority="interactive")
    farm.submit_many([midi(61), midi(62), b"no MIDI"])

    read = registry.get_sample_value
    assert read("pianofarm_client_jobs_total", {"class": "interactive", "cached": "no"}) == 1
    assert read("pianofarm_client_jobs_total", {"class": "bulk", "cached": "no"}) == 2
    assert read("pianofarm_client_rejected_total", {"error": "BadMidi"}) == 1
    assert read("pianofarm_client_submit_seconds_count") == 2


def test_calls_that_fail_are_counted_and_still_fail(farm, registry, settings):
    with pytest.raises(BadOption):
        farm.submit(midi(60), options={"piano": 99})
    cut_off = CollectorRegistry()
    nowhere = Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    away = settings.model_copy(update={"model": "sine", "redis_url": nowhere.redis_url})
    with MeteredFarm(away, cut_off) as farm, pytest.raises(ServiceUnavailable):
        farm.submit(midi(60))

    assert registry.get_sample_value("pianofarm_client_submit_errors_total", {"error": "BadOption"}) == 1
    assert cut_off.get_sample_value("pianofarm_client_submit_errors_total", {"error": "ServiceUnavailable"}) == 1

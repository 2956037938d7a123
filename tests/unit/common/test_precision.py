"""A precision makes another render, except where it makes no other bytes."""

import pytest

from pianofarm_common.errors import BadModel
from pianofarm_common.precision import PRECISIONS, engine_for, precision_of
from pianofarm_common.renders import ENGINE_VERSION, RenderSpec


def key(architecture, precision):
    return RenderSpec(
        performance_sha256="0" * 64,
        model_digest="1" * 64,
        model_name="m",
        audio_s=1.0,
        engine=engine_for(architecture, precision),
    ).key


def test_every_precision_of_a_network_has_its_own_key_and_float32_the_one_it_always_had():
    assert len({key("dafx22", precision) for precision in PRECISIONS}) == len(PRECISIONS)
    assert engine_for("dafx22", "float32") == ENGINE_VERSION


def test_a_model_without_a_network_keeps_its_key():
    assert len({key("house", precision) for precision in PRECISIONS}) == 1


def test_an_engine_names_its_precision():
    assert [precision_of(engine_for("maestro-v2", precision)) for precision in PRECISIONS] == list(PRECISIONS)
    with pytest.raises(BadModel, match="unknown precision 'int8'"):
        precision_of("1+int8")

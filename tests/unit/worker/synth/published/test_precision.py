"""How far half precision moves controls and sound: the bounds that docs/precision.md promises."""

import functools

import numpy as np
import pytest

from pianofarm_common.renders import RenderOptions
from pianofarm_worker.synth.backend import jit, product, to_device, to_numpy

from .test_batches import performance

#: Largest mean and 99th percentile of the error of a control, 1.5 times what was measured on three pieces.
BOUNDS = {"bfloat16": (6e-3, 2.7e-2), "float16": (9e-4, 4e-3)}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_product_rounds_what_goes_in_and_nothing_else(chosen_backend, precision):
    random = np.random.default_rng(1)
    x = random.standard_normal((16, 192)).astype(np.float32)
    arrays = {"kernel": random.standard_normal((192, 64)).astype(np.float32), "bias": np.full(3, 1 / 3, np.float32)}
    tensors, given = to_device(arrays, precision), to_device({"kernel": x}, precision)
    exact, kernel = (to_numpy(t["kernel"]).astype(np.float64) for t in (given, tensors))
    result = to_numpy(jit(product)(to_device({"x": x})["x"], tensors["kernel"]))
    assert result.dtype == np.float32
    assert to_numpy(tensors["bias"]).tobytes() == arrays["bias"].tobytes()
    np.testing.assert_allclose(result, exact @ kernel, atol=2e-5)
    assert 1e-3 < np.abs(result - x.astype(np.float64) @ arrays["kernel"]).max() < 0.3


@pytest.fixture(scope="module")
def logits_of(shared, imported):
    with np.load(shared / "parity" / "liz_et3.npz") as expected:
        notes, pedal = expected["conditioning"][:500], expected["pedal"][:500]
        number = int(expected["piano_model"])

    @functools.cache
    def get(precision):
        from pianofarm_worker.synth.published.piano import PublishedPiano

        piano = PublishedPiano(imported("dafx22"), precision=precision, batch_size=1)
        return piano.logits(notes, pedal, piano=number)

    return get


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_moves_the_controls_of_a_piece_no_further_than_promised(logits_of, precision):
    exact, rounded = logits_of("float32"), logits_of(precision)
    error = np.abs(rounded.astype(np.float64) - exact)
    mean, most = BOUNDS[precision]
    assert 0 < error.mean() < mean
    assert np.percentile(error, 99) < most


def test_half_precision_makes_other_sound_that_is_hardly_other(small_model):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    exact, rounded = (
        PublishedPiano(small_model, precision=precision, batch_size=1).render(
            performance(3), RenderOptions(dry=True), seed=1
        )
        for precision in ("float32", "float16")
    )
    difference = rounded.dry.astype(np.float64) - exact.dry
    assert 0 < np.mean(difference**2) < 1e-4 * np.mean(exact.dry.astype(np.float64) ** 2)

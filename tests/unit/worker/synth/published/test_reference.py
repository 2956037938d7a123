"""The oracle against the original's renders, and the engine against the oracle where there is no render of the original."""

import numpy as np
import pytest

from .conftest import SMALL, random_weights
from .test_parity import fixture_of, piano_of, relative_rms_error


@pytest.fixture(scope="module", autouse=True)
def _only_tensorflow(chosen_backend):
    if chosen_backend != "tensorflow":
        pytest.skip("the oracle is built from ddsp, which is TensorFlow")


def reference_of(piano, number):
    from pianofarm_worker.synth.published.reference import Reference

    return Reference(piano.config, piano._weights, number)


@pytest.mark.parametrize("name", ["maestro-v2-random", "ENSTDkCl-8kHz-random", "ENSTDkCl-32kHz-random"])
def test_the_oracle_computes_the_controls_of_the_original(shared, imported, name):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    expected = fixture_of(shared, name)
    piano = PublishedPiano(imported(name))
    controls = reference_of(piano, piano_of(piano.config, expected)).controls(
        expected["conditioning"], expected["pedal"]
    )
    for key, theirs in expected.items():
        control, _, every = key.partition("_every")
        if hasattr(controls, control):
            ours = getattr(controls, control)
            thinned = ours[:: int(every or 1)] if control == "context" else ours[:, :: int(every or 1)]
            np.testing.assert_allclose(thinned, theirs.reshape(thinned.shape), atol=1e-3, rtol=1e-5, err_msg=control)


def test_the_oracle_makes_the_sound_of_the_original(shared, imported):
    from pianofarm_worker.synth.published.piano import PublishedPiano

    expected = fixture_of(shared, "ENSTDkCl-8kHz-random")
    n_frames = 400
    dry, wet = reference_of(PublishedPiano(imported("ENSTDkCl-8kHz-random")), 0).synthesize(
        expected["conditioning"], expected["pedal"], seed=1
    )
    n_samples = n_frames * 32
    assert relative_rms_error(dry[:n_samples], expected["dry1"][:n_samples]) < 1e-3
    assert relative_rms_error(wet[:n_samples], expected["wet1"][:n_samples]) < 1e-3


def test_the_engine_makes_the_sound_of_the_oracle(small_model):
    from pianofarm_worker.synth.published.piano import PublishedPiano
    from pianofarm_worker.synth.published.reference import Reference

    notes, pedal = np.zeros((500, 16, 2), np.float32), np.zeros((500, 4), np.float32)
    notes[50:200, 0, 0], notes[50, 0, 1] = 60, 0.7
    notes[80:300, 3, 0], notes[80, 3, 1] = 45, 0.5
    notes[220:400, 0, 0], notes[220, 0, 1] = 72, 0.9
    pedal[100, 0] = 1.0

    ours = PublishedPiano(small_model, rounded=True).synthesize(notes, pedal, piano=1, seed=3)
    oracle = Reference(SMALL, random_weights(SMALL), 1)
    theirs, again = oracle.synthesize(notes, pedal, seed=1), oracle.synthesize(notes, pedal, seed=2)

    for a, b, c in zip(ours, theirs, again, strict=True):
        assert relative_rms_error(a, b) < 1.1 * relative_rms_error(c, b)

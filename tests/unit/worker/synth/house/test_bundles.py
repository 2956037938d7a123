"""Bundles of partials sound as each partial alone would, added up; their narrow spaces leave nothing out that could be heard."""

import numpy as np
import pytest

from pianofarm_worker.synth.house.bundles import EDGES_HZ, Bundles, coordinates, spaces
from pianofarm_worker.synth.house.grains import make_basis, overlap

RATE_HZ, HOP, N_HOPS = 32_000, 256, 12


def key(f0_hz, n):
    frequency_hz = f0_hz * np.arange(1, n + 1) * 1.001 ** np.arange(n)
    basis = make_basis(frequency_hz, RATE_HZ, HOP)
    return basis, coordinates(frequency_hz, basis, RATE_HZ)


def amplitudes(n_partials, n_frames, seed):
    random = np.random.default_rng(seed)
    real, imaginary = random.standard_normal((2, 2, n_partials, n_frames))
    return (real + 1j * imaginary).astype(np.complex64)


def alone(basis, amplitude, first, n_frames):
    """[n_hops, hop] of the first channel, from a product of its own."""
    framed = np.zeros((N_HOPS + 1, len(basis.cosine)), np.complex64)
    framed[first : first + n_frames, : amplitude.shape[1]] = amplitude[0].T
    return overlap(np.ascontiguousarray(framed.real), np.ascontiguousarray(framed.imag), basis)


def test_partials_of_any_frequency_lie_in_their_bundles_space():
    frequency_hz = np.linspace(20, EDGES_HZ[-1] - 1, 500)
    basis = make_basis(frequency_hz, RATE_HZ, HOP)
    found = coordinates(frequency_hz, basis, RATE_HZ)[:-1]

    for i in range(2):
        again = np.concatenate([own[i] @ space[i] for own, space in zip(found, spaces(RATE_HZ, HOP), strict=True)])
        assert np.abs(again - basis[i]).max() < 1e-5
    assert all(len(space.cosine) < HOP / 4 for space in spaces(RATE_HZ, HOP))


@pytest.mark.parametrize("factor", ["none", "frames", "partials"])
def test_notes_added_to_bundles_sound_as_they_do_alone(factor):
    bundles = Bundles(2, N_HOPS, RATE_HZ, HOP)
    expected = np.zeros((N_HOPS, HOP), np.float32)
    for seed, (f0_hz, n, n_heard, first, n_frames) in enumerate(
        [(82.0, 60, 60, 0, 13), (440.0, 30, 20, 3, 4), (3000.0, 4, 4, 12, 1), (150.0, 40, 7, 5, 8)]
    ):
        basis, shapes = key(f0_hz, n)
        amplitude = amplitudes(n_heard, n_frames, seed)
        shape = {"none": (), "frames": (n_frames,), "partials": (n_heard, n_frames)}[factor]
        weight = np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)
        bundles.add(shapes, amplitude, None if factor == "none" else weight, first)
        expected += alone(basis, amplitude * (1 if factor == "none" else weight), first, n_frames)
    sound = bundles.play()

    assert sound.shape == (2, N_HOPS, HOP)
    assert np.abs(sound[0] - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(sound[1] - sound[0]).max() > 0.1 * np.abs(expected).max()


def test_what_was_played_is_not_played_again():
    bundles = Bundles(2, N_HOPS, RATE_HZ, HOP)
    basis, shapes = key(200.0, 40)
    bundles.add(shapes, amplitudes(40, 13, 0), None, 0)
    bundles.play()
    assert not bundles.play().any()

    quiet = amplitudes(1, 2, 1)
    bundles.add(shapes, quiet, None, 4)
    sound = bundles.play()
    assert np.abs(sound[0] - alone(basis, np.pad(quiet, ((0, 0), (0, 39), (0, 0))), 4, 2)).max() < 1e-5

"""Bundles of partials sound as each partial alone would, added up; their narrow spaces leave nothing out that could be heard."""

import numpy as np

from pianofarm_worker.synth.house.bundles import EDGES_HZ, Bundles, Weight, coordinates, spaces
from pianofarm_worker.synth.house.grains import make_basis, overlap
from pianofarm_worker.synth.house.key_table import STRIDE, in_strides, out_of_strides

RATE_HZ, HOP, N_HOPS = 32_000, 256, 12

#: Fundamental, partials, how many of them are heard, first frame, frames.
NOTES = [(82.0, 60, 60, 0, 13), (440.0, 30, 20, 3, 4), (3000.0, 4, 4, 12, 1), (150.0, 40, 7, 5, 8)]


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


def as_table(amplitude, own, n_own):
    """An amplitude for each frame from the note's frame `own` on, in strides of 8, and their units."""
    n_channels, n_partials, n_frames = amplitude.shape
    framed = np.zeros((n_channels, n_own, n_partials), np.complex64)
    framed[:, own : own + n_frames] = amplitude.swapaxes(1, 2)
    return in_strides(framed, 8)


#: What tables of 16 bits may change, of the largest sample.
ROUNDED = 1e-4

#: Levels that are all heard, in any stride.
LOUD = np.full((3, 64), 1e3, np.float32)


def turns(before, after, n):
    return np.repeat(np.array([[before], [after]], np.complex64), n, axis=1)


def add(bundles, shapes, amplitude, first, kept=None, openness=None, answer=None, own=5, levels_db=LOUD):
    """Add amplitudes [n_channels, n_heard, n_frames] at frames from `first` on."""
    n, n_frames = amplitude.shape[1:]
    even = np.ones(N_HOPS + 1, np.float32)
    weight = Weight(
        even if kept is None else kept,
        np.zeros_like(even) if openness is None else openness,
        np.zeros((4, n), np.float32) if answer is None else answer,
    )
    bundles.add(
        shapes,
        *as_table(amplitude, own, 25),
        turns(1, 0, n),
        levels_db,
        np.zeros(n, np.float32),
        weight,
        own,
        slice(first, first + n_frames),
    )


def test_notes_added_to_bundles_sound_as_they_do_alone():
    bundles = Bundles(2, N_HOPS, RATE_HZ, HOP)
    expected = np.zeros((N_HOPS, HOP), np.float32)
    for seed, (f0_hz, n, n_heard, first, n_frames) in enumerate(NOTES):
        basis, shapes = key(f0_hz, n)
        amplitude = amplitudes(n_heard, n_frames, seed)
        add(bundles, shapes, amplitude, first)
        expected += alone(basis, amplitude, first, n_frames)
    sound = bundles.play()

    assert sound.shape == (2, N_HOPS, HOP)
    assert np.abs(sound[0] - expected).max() < ROUNDED * np.abs(expected).max()
    assert np.abs(sound[1] - sound[0]).max() > 0.1 * np.abs(expected).max()


def test_frames_between_a_notes_own_take_of_the_one_before_and_of_the_one_after():
    basis, shapes = key(150.0, 40)
    amplitude = amplitudes(40, 14, 0)
    before, after = 0.6 - 0.3j, 0.2 + 0.5j
    bundles = Bundles(2, N_HOPS, RATE_HZ, HOP)
    even = np.ones(N_HOPS + 1, np.float32)
    weight = Weight(even, 0 * even, np.zeros((4, 40), np.float32))
    bundles.add(
        shapes,
        *as_table(amplitude, 5, 25),
        turns(before, after, 40),
        LOUD,
        np.zeros(40, np.float32),
        weight,
        5,
        slice(0, 13),
    )

    expected = alone(basis, before * amplitude[:, :, :-1] + after * amplitude[:, :, 1:], 0, 13)
    assert np.abs(bundles.play()[0] - expected).max() < ROUNDED * np.abs(expected).max()


def test_what_damping_leaves_and_the_other_strings_answer_weigh_the_frames():
    basis, shapes = key(150.0, 40)
    random = np.random.default_rng(3)
    amplitude, first, own = amplitudes(30, 10, 0), 2, 7
    kept, openness = random.uniform(0, 1, (2, N_HOPS + 1)).astype(np.float32)
    answer = random.uniform(-1, 1, (4, 30)).astype(np.float32)
    bundles = Bundles(2, N_HOPS, RATE_HZ, HOP)
    add(bundles, shapes, amplitude, first, kept, openness, answer, own)

    at = np.arange(own, own + 10) / 8  # strides
    answered = np.stack([np.interp(at, range(4), column) for column in answer.T])
    weight = kept[2:12] * (1 + answered * openness[2:12])
    expected = alone(basis, amplitude * weight, first, 10)
    assert np.abs(bundles.play()[0] - expected).max() < ROUNDED * np.abs(expected).max()


def test_a_partial_that_is_not_heard_is_left_out_between_others_that_are():
    basis, shapes = key(150.0, 40)
    amplitude = amplitudes(40, 10, 0)
    levels_db = LOUD.copy()
    levels_db[0, [3, 25]] = -1.0
    bundles = Bundles(2, N_HOPS, RATE_HZ, HOP)
    add(bundles, shapes, amplitude, 2, levels_db=levels_db)

    amplitude[:, [3, 25]] = 0
    expected = alone(basis, amplitude, 2, 10)
    assert np.abs(bundles.play()[0] - expected).max() < ROUNDED * np.abs(expected).max()


def test_what_was_played_is_not_played_again():
    bundles = Bundles(2, N_HOPS, RATE_HZ, HOP)
    basis, shapes = key(200.0, 40)
    add(bundles, shapes, amplitudes(40, 13, 0), 0)
    bundles.play()
    assert not bundles.play().any()

    quiet = amplitudes(1, 2, 1)
    add(bundles, shapes, quiet, 4)
    sound = bundles.play()
    assert np.abs(sound[0] - alone(basis, np.pad(quiet, ((0, 0), (0, 39), (0, 0))), 4, 2)).max() < ROUNDED


def test_tables_round_amplitudes_by_half_a_unit_of_their_stride():
    falling = amplitudes(40, 2 * STRIDE + 1, 0).swapaxes(1, 2) * np.exp(-np.arange(2 * STRIDE + 1) / 8)[None, :, None]
    falling[..., 7] = 0
    strides, step = in_strides(falling.astype(np.complex64))

    error = out_of_strides(strides, step) - np.moveaxis(falling, 1, 0)
    units = np.repeat(step, STRIDE, axis=0)
    assert (np.abs(error[:-1].real) <= 0.501 * units).all()
    assert (np.abs(error[:-1].imag) <= 0.501 * units).all()
    assert (np.abs(strides).max(axis=(3, 4)) == 32767).sum() == strides[
        ..., 0, 0
    ].size - 2 * 2  # but for the silent partial

import itertools

import numpy as np
import pytest

from pianofarm_worker.synth.reverb import Convolver, with_dry


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def convolve(dry, ir, *, block=256, chunks=None, tail=False):
    room = Convolver(ir, block=block)
    bounds = np.cumsum([0, *(chunks or [len(dry)])])
    wet = [room.push(dry[start:end]) for start, end in itertools.pairwise(bounds)]
    return np.concatenate([*wet, room.finish(tail=tail)])


def relative_rms(audio, expected):
    return float(np.sqrt(np.mean((audio - expected) ** 2) / np.mean(expected**2)))


@pytest.mark.parametrize("n_ir", [1, 100, 256, 257, 1500])
@pytest.mark.parametrize("n_dry", [1, 255, 256, 1000])
def test_it_equals_the_sum_over_all_echoes(n_ir, n_dry):
    dry, ir = noise(n_dry, 1), noise(n_ir, 1, seed=1)
    expected = np.convolve(dry[:, 0].astype(np.float64), ir[:, 0].astype(np.float64))
    whole = convolve(dry, ir, tail=True)
    assert whole.dtype == np.float32
    assert whole.shape == (n_dry + n_ir - 1, 1)
    assert np.abs(whole[:, 0] - expected).max() < 1e-5 * np.abs(expected).max()
    assert (convolve(dry, ir) == whole[:n_dry]).all()


@pytest.mark.parametrize("chunks", [[1] * 700, [300, 1, 399], [256, 444]])
def test_chunks_do_not_change_a_bit(chunks):
    dry, ir = noise(700, 2), noise(600, 2, seed=1)
    assert (convolve(dry, ir, chunks=chunks, tail=True) == convolve(dry, ir, tail=True)).all()


def test_channels_have_their_own_room_and_mono_is_heard_in_both():
    dry, ir = noise(500, 2), noise(300, 2, seed=1)
    both = convolve(dry, ir)
    for channel in range(2):
        assert np.allclose(both[:, channel], convolve(dry[:, [channel]], ir[:, [channel]])[:, 0], atol=1e-5)
    spread = convolve(dry[:, [0]], ir)
    assert np.allclose(spread[:, 1], convolve(dry[:, [0]], ir[:, [1]])[:, 0], atol=1e-5)


def test_nothing_in_gives_nothing_out():
    room = Convolver(noise(300, 2))
    assert room.push(np.zeros((0, 2), np.float32)).shape == (0, 2)
    assert room.finish(tail=True).shape == (0, 2)


def test_the_first_sample_of_a_learned_response_stands_for_the_dry_sound():
    dry, ir = noise(500), noise(300, seed=1)
    expected = dry + np.convolve(dry, np.concatenate(([0], ir[1:])))[:500]
    assert np.allclose(convolve(dry[:, None], with_dry(ir)[:, None])[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("piece", ["bach_846", "liz_et3"])
def test_it_makes_the_wet_sound_of_the_original_from_its_dry_one(shared, piece):
    with np.load(shared / "parity" / f"{piece}.npz") as original:
        ir, dry, wet = (original[name] for name in ("reverb_ir", "dry1", "wet1"))
    # The original's own single-precision transform is off by 4e-4 from the exact sum.
    assert relative_rms(convolve(dry[:, None], with_dry(ir)[:, None], block=16384)[:, 0], wet) < 5e-4

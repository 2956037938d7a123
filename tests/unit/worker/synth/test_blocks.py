import numpy as np
import pytest

from pianofarm_worker.synth.blocks import Reblock


@pytest.mark.parametrize("chunks", [[1] * 23, [23], [5, 5, 13], [10, 10, 3], [0, 4, 0, 19]])
def test_blocks_do_not_depend_on_the_chunks(chunks):
    voices, frames = np.arange(46).reshape(2, 23), np.arange(69).reshape(23, 3)
    reblock, blocks, start = Reblock(5, 1, 0), [], 0
    for length in chunks:
        blocks += reblock.push(voices[:, start : start + length], frames[start : start + length])
        start += length
    blocks += reblock.rest()
    assert [block[0].shape[1] for block in blocks] == [5, 5, 5, 5, 3]
    assert (np.concatenate([block[0] for block in blocks], axis=1) == voices).all()
    assert (np.concatenate([block[1] for block in blocks]) == frames).all()
    assert list(reblock.rest()) == []


def test_whole_blocks_are_passed_on_without_a_copy():
    chunk = np.arange(20)
    assert all(np.shares_memory(block, chunk) for (block,) in Reblock(10, 0).push(chunk))

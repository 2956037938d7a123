import errno

import numpy as np
import pytest

from pianofarm_common.errors import DiskFull
from pianofarm_worker.synth.published.frame_store import FrameStore


@pytest.mark.parametrize("memory_bytes", [1, 600, 10_000_000])
def test_frames_come_back_as_they_went_in_whatever_the_cuts(memory_bytes):
    frames = np.arange(100 * 6, dtype=np.int16).reshape(100, 2, 3)
    with FrameStore((2, 3), np.int16, memory_bytes=memory_bytes) as store:
        for start in range(0, 100, 30):
            store.append(frames[start : start + 30])
        store.rewind()
        read = [store.read(7) for _ in range(16)]
    assert [len(part) for part in read] == [7] * 14 + [2, 0]
    assert np.array_equal(np.concatenate(read), frames)


def test_a_full_disk_is_transient_and_says_where(monkeypatch):
    class FullFile:
        def write(self, _data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr("tempfile.TemporaryFile", FullFile)
    with FrameStore((2,), np.int16, memory_bytes=0) as store:
        with pytest.raises(DiskFull, match="make room or set TMPDIR"):
            store.append(np.zeros((3, 2), np.int16))

import errno
import gc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pianofarm_common.errors import DiskFull
from pianofarm_worker.synth import long_arrays


@pytest.fixture(params=[0, 1_000_000], ids=["in a file", "in memory"])
def array(request):
    made = long_arrays.zeros((1000, 3), np.float32, memory_bytes=request.param)
    assert long_arrays.is_in_file(made) == (request.param == 0)
    return made


def test_an_array_begins_with_zeros_and_keeps_what_is_written_when_it_is_let_go(array):
    assert array.shape == (1000, 3)
    assert array.dtype == np.float32
    assert not array.any()
    array[10:20] = 1
    long_arrays.let_go(array)
    array[15:25] += 1
    long_arrays.let_go(array[::2, 1])  # any part of it stands for the whole
    assert array[:, 2].tolist() == [0] * 10 + [1] * 5 + [2] * 5 + [1] * 5 + [0] * 975


def test_the_parts_are_the_whole_and_can_be_written(array, monkeypatch):
    monkeypatch.setattr(long_arrays, "_PART_BYTES", 12 * 300)
    lengths = []
    for number, part in enumerate(long_arrays.parts(array)):
        part[...] = number
        lengths.append(len(part))
    assert lengths == [300, 300, 300, 100]
    assert array[:, 0].tolist() == [0] * 300 + [1] * 300 + [2] * 300 + [3] * 100
    assert not list(long_arrays.parts(array[:0]))


def test_a_function_of_the_parts_is_that_of_the_whole(array, monkeypatch):
    monkeypatch.setattr(long_arrays, "_PART_BYTES", 12 * 300)
    array[:] = np.arange(3000).reshape(1000, 3)
    other = array[::-1]
    made = long_arrays.of_parts(lambda a, b: 2 * a - b, array, other)
    assert (made == 2 * array - other).all()
    assert long_arrays.is_in_file(made) == long_arrays.is_in_file(array)


def test_a_file_goes_with_the_last_view_of_its_array():
    def n_mapped():
        gc.collect()
        return Path("/proc/self/maps").read_text().count(" (deleted)")

    before = n_mapped()
    array = long_arrays.zeros(100_000, np.float64, memory_bytes=0)
    view = array[5:].reshape(-1, 1).data
    assert n_mapped() == before + 1
    del array
    assert view[0, 0] == 0
    assert n_mapped() == before + 1
    del view
    assert n_mapped() == before


MEMORY = """
import re, sys
import numpy as np
from pathlib import Path
from pianofarm_worker.synth import long_arrays

def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

before = resident_mb()
array = long_arrays.zeros(100 << 20, np.uint8)
for part in long_arrays.parts(array):
    part[:] = 1
print(resident_mb() - before)
assert array.sum() == 100 << 20
print(resident_mb() - before)
long_arrays.let_go(array)
print(resident_mb() - before)
"""


def test_what_is_let_go_is_not_in_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    in_parts_mb, looked_at_mb, let_go_mb = (float(line) for line in done.stdout.split())
    assert in_parts_mb < 20
    assert looked_at_mb > 90
    assert let_go_mb < 20


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_before_anything_is_written(monkeypatch, number):
    def full(*_arguments):
        raise OSError(number, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(DiskFull, match=re.escape("make room or set TMPDIR")):
        long_arrays.zeros(100, np.float32, memory_bytes=0)

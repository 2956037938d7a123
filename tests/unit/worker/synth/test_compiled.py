"""Compiled loops: kept where a folder can be written, compiled anew where none can."""

import subprocess
import sys

import pytest

MODULE = """
import sys
from pianofarm_worker.synth.compiled import compiled

@compiled
def twice(values):
    for i in range(len(values)):
        values[i] *= 2

def main():
    import numpy as np
    values = np.arange(3.0)
    twice(values)
    assert values.tolist() == [0, 2, 4]
    print(sum(twice.stats.cache_hits.values()), 'scipy.linalg' in sys.modules)
"""


@pytest.fixture
def run(tmp_path):
    """Runs the module in a process of its own; gives what it prints."""
    (tmp_path / "loops.py").write_text(MODULE)

    def run(code="", **environment):
        command = [sys.executable, "-c", f"{code}\nimport loops\nloops.main()"]
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1", **environment}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    return run


def test_machine_code_is_kept_for_the_next_process(run, tmp_path):
    assert run(NUMBA_CACHE_DIR=str(tmp_path / "kept")).split()[0] == "0"
    assert run(NUMBA_CACHE_DIR=str(tmp_path / "kept")).split()[0] == "1"


def test_where_no_folder_can_be_written_it_is_compiled_again(run):
    nowhere = "import numba.core.caching as c\nc.CacheImpl._locator_classes = []"

    assert run(nowhere).split()[0] == "0"
    assert run(nowhere).split()[0] == "0"


def test_no_linear_algebra_is_imported_for_it(run, tmp_path):
    assert run(NUMBA_CACHE_DIR=str(tmp_path / "kept")).split()[1] == "False"

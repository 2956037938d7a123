"""The tests that depend on the array library once more, in a process of their own with the other library."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = (
    "test_parity.py",
    "test_controls.py",
    "test_rendering.py",
    "test_batches.py",
    "test_precision.py",
    "test_stream.py",
)


@pytest.mark.timeout(900)
@pytest.mark.skipif("PIANOFARM_TEST_INNER" in os.environ, reason="this is the other backend")
def test_everything_holds_on_the_other_backend(chosen_backend, request):
    other = "jax" if chosen_backend == "tensorflow" else "tensorflow"
    environment = os.environ | {"PIANOFARM_BACKEND": other, "PIANOFARM_TEST_INNER": "1"}
    with contextlib.suppress(pytest.skip.Exception):  # no reference material: the other process will say so too
        environment["PIANOFARM_TEST_MODELS"] = str(request.getfixturevalue("imported").folder)
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *(str(HERE / t) for t in TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout

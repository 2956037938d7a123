"""The choice of the array library; each case in a process of its own, where nothing is imported yet."""

import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CHOOSE = "from pianofarm_worker.synth.backend import *\nfrom pianofarm_common.errors import BadSettings\n"


def test_a_process_computes_with_one_backend_and_says_so():
    code = f"""{CHOOSE}
choose("jax", n_threads=1)
choose("jax")
try:
    choose("tensorflow")
except BadSettings as error:
    print(error)
import sys, numpy as np
print("tensorflow" in sys.modules)
double = jit(lambda arrays: arrays["x"] * 2)
print(to_numpy(double(to_device({{"x": np.ones(2, np.float32)}}))).tolist())
"""
    refusal, loads_tensorflow, doubled = run(code).splitlines()
    assert refusal == "PIANOFARM_BACKEND='tensorflow': this process already computes with jax (start a new process)"
    assert loads_tensorflow == "False"
    assert doubled == "[2.0, 2.0]"


def test_an_unknown_backend_is_refused_before_anything_is_imported():
    code = f"""{CHOOSE}
try:
    choose("torch")
except BadSettings as error:
    print(error)
import sys
print("keras" in sys.modules)
"""
    assert run(code).splitlines() == [
        "PIANOFARM_BACKEND='torch': unknown backend (valid values: tensorflow, jax)",
        "False",
    ]


@pytest.mark.parametrize("name", ["jax"])
def test_keras_neither_reads_nor_writes_the_home_folder(tmp_path, name):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"floatx": "float16", "backend": "torch"}')
    code = f"""import os
os.environ["HOME"] = {str(tmp_path)!r}
{CHOOSE}
choose({name!r})
import keras
print(keras.config.floatx(), keras.backend.backend())
"""
    assert run(code) == "float32 jax"


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_a_bound_program_takes_arrays_however_they_lie_in_memory(name):
    code = f"""{CHOOSE}
choose({name!r}, n_threads=1)
import numpy as np
program = bind(lambda weights, x: x * weights["two"], to_device({{"two": np.full(1, 2, np.float32)}}))
plain = np.arange(24, dtype=np.float32).reshape(4, 6)
readonly = plain.copy()
readonly.flags.writeable = False
lying = {{
    "plain": plain,
    "read-only": readonly,
    "unaligned": np.arange(-1, 24, dtype=np.float32)[1:].reshape(4, 6),
    "columns first": np.asfortranarray(plain),
    "part": np.tile(plain, (1, 2))[:, :6],
}}
for how, array in lying.items():
    doubled = to_numpy(program(array))
    array = None
    print(how, (doubled == 2 * plain).all())
print("empty", to_numpy(program(plain[:, :0])).shape)
changing = plain.copy()
doubled = program(changing)
changing[:] = 0
print("changed after", (to_numpy(doubled) == 2 * plain).all())
"""
    *ways, empty, after = run(code).splitlines()
    assert ways == [f"{how} True" for how in ("plain", "read-only", "unaligned", "columns first", "part")]
    assert empty == "empty (4, 0)"
    assert after == "changed after True"

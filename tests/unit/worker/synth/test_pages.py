"""Pages of names: what is read and what is executed; the two libraries in processes of their own, where nothing is imported yet."""

import subprocess
import sys

import pytest

from pianofarm_worker.synth.pages import page_of


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_page_says_where_each_name_comes_from():
    source = '''"""Public names."""
import sys as _sys
from lib import inner as inner
from lib.core.maths import tanh
from lib.core.maths import (
    sigmoid as logistic,
)
'''
    assert page_of(source, "lib") == {
        "inner": ("lib.inner", None),
        "tanh": ("lib.core.maths", "tanh"),
        "logistic": ("lib.core.maths", "sigmoid"),
    }


@pytest.mark.parametrize(
    "also",
    [
        "register()",
        "from lib.core import *",
        "from . import core",
        "import lib.core",
        "__version__ = '1'",
        "if True:\n    pass",
    ],
)
def test_a_module_that_does_anything_else_is_no_page(also):
    assert page_of(f"from lib.core import tanh\n{also}\n", "lib") is None
    assert page_of("", "lib") is None


ASKED_FOR = """
import inspect, sys
from pianofarm_worker.synth.backend import choose
choose({backend!r}, n_threads=1)
import keras
from keras import ops
print(float(ops.sum(ops.leaky_relu(ops.scan(lambda c, x: (c + x, c), ops.zeros(2), ops.ones((3, 2)))[1] - 1.0, 0.5))))
print(sorted(name for name in ("keras.src.applications", "keras.src.models.model", "matplotlib") if name in sys.modules))
print({{"layers", "ops", "Model"}} <= set(dir(keras)), inspect.isclass(keras.layers.GRU), inspect.isclass(keras.Model))
print(hasattr(keras, "no_such_name"), hasattr(keras.layers, "Dense"))
"""


def test_with_jax_keras_gives_what_is_asked_for_and_imports_no_more():
    assert run(ASKED_FOR.format(backend="jax")) == ["1.0", "[]", "True True True", "False True"]


def test_with_tensorflow_so_does_tensorflow():
    code = f"""{ASKED_FOR.format(backend="tensorflow")}
import tensorflow as tf
print("tensorflow.lite.python.lite" in sys.modules, "jax" in sys.modules)
print(float(tf.nn.sigmoid(0.0)), tf.math.tanh is tf.tanh, tf.compat.v1.placeholder.__name__)
with tf.GradientTape() as tape:
    x = tf.Variable(3.0)
    y = x * x
print(float(tape.gradient(y, x)))
"""
    assert run(code) == [
        *["1.0", "[]", "True True True", "False True"],
        *["False False", "0.5 True placeholder", "6.0"],
    ]
